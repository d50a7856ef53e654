/* table.c - all commands. A new one: its struct cmd in a cmd_*.c, its declaration in cmds.h, its place here. */
#include "cli/cmds.h"

static const struct cmd *const container_subs[] = {
	&cmd_attach, &cmd_commit, &cmd_cp,	 &cmd_create, &cmd_diff, &cmd_exec, &cmd_export, &cmd_container_inspect, &cmd_kill, &cmd_logs,	 &cmd_container_ls,
	&cmd_pause,  &cmd_port,	 &cmd_container_prune, &cmd_rename, &cmd_restart, &cmd_rm, &cmd_run, &cmd_start,
	&cmd_stats,  &cmd_stop,	 &cmd_top,    &cmd_unpause, &cmd_wait,	NULL
};
static const struct cmd cmd_container = { .name = "container", .summary = "Manage containers", .subs = container_subs };

static const struct cmd *const image_subs[] = { &cmd_build, &cmd_image_copy, &cmd_history, &cmd_import, &cmd_image_inspect, &cmd_load,
						&cmd_image_ls, &cmd_image_prune, &cmd_pull, &cmd_push, &cmd_image_rm, &cmd_save, &cmd_tag, &cmd_image_tags, NULL };
static const struct cmd cmd_image = { .name = "image", .summary = "Manage images", .subs = image_subs };

const struct cmd *const cmd_all[] = {
	&cmd_attach,  &cmd_build, &cmd_builder, &cmd_commit, &cmd_container, &cmd_cp,	&cmd_create, &cmd_diff, &cmd_exec, &cmd_export, &cmd_history, &cmd_image,  &cmd_images,
	&cmd_import,  &cmd_info,  &cmd_inspect,	  &cmd_kill,	&cmd_load,   &cmd_login,  &cmd_logout,	&cmd_logs,   &cmd_network,
	&cmd_pause,   &cmd_port,  &cmd_ps,	  &cmd_pull,	&cmd_push,   &cmd_rename, &cmd_restart, &cmd_rm,     &cmd_rmi,
	&cmd_run,     &cmd_save,  &cmd_start,	  &cmd_stats,	&cmd_stop,   &cmd_system, &cmd_tag,	&cmd_top,    &cmd_unpause,
	&cmd_verify, &cmd_version, &cmd_volume, &cmd_wait,	  &cmd_keeper_exec, &cmd_keeper_exit, &cmd_keeper_health, &cmd_network_collect, &cmd_man, NULL
};
