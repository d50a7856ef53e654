/* cmds.h - the commands, and what their files share. Layer: cli. */
#pragma once
#include "cli/cmd.h"
#include "codec/json.h"
#include "engine/image.h"

extern const struct cmd cmd_run, cmd_create, cmd_start, cmd_attach, cmd_exec;
extern const struct cmd cmd_stop, cmd_restart, cmd_kill, cmd_rm, cmd_pause, cmd_unpause, cmd_rename, cmd_wait;
extern const struct cmd cmd_ps, cmd_container_ls, cmd_logs, cmd_top, cmd_stats, cmd_port, cmd_inspect, cmd_container_inspect;
extern const struct cmd cmd_cp, cmd_diff, cmd_export, cmd_container_prune, cmd_keeper_exec, cmd_keeper_exit, cmd_keeper_health, cmd_network_collect, cmd_man;
extern const struct cmd cmd_images, cmd_image_ls, cmd_tag, cmd_rmi, cmd_image_rm, cmd_image_inspect, cmd_history, cmd_save,
	cmd_image_copy, cmd_image_tags, cmd_load, cmd_import, cmd_pull, cmd_push, cmd_login, cmd_logout;
extern const struct cmd cmd_build, cmd_builder, cmd_commit, cmd_image_prune, cmd_network_prune, cmd_volume_prune, cmd_system_prune,
	cmd_df;
extern const struct cmd cmd_volume, cmd_network, cmd_system, cmd_version, cmd_info, cmd_verify;

/* Does one thing to each argument, printing it when done; goes on after errors, which it prints. *out_exit 1 then. */
FALLIBLE cmd_each(struct engine *e, char *const args[], struct err *(*one)(struct engine *e, const char *text), int *out_exit);
/* Asks at the terminal which of several registries a short name means; NULL when standard input or error is none. */
typedef struct err *cmd_choice(void *ctx, const char *text, char *const *names, size_t *out_index);
cmd_choice *cmd_chooser(void);
/* The name without skopeo's "docker://"; ERR_INVALID: a form that is no registry's. Borrowed from text. */
FALLIBLE cmd_registry_name(const char *text, const char **out_name);
/* The tags a registry has of a repository; owned list, NULL when none. */
FALLIBLE cmd_remote_tags(const char *name, const struct engine_access *access, char ***out_tags);
/* Prints an error that is not the end: "hoy: …". Consumes it. */
void cmd_tell(struct err *e);
/* --filter key=value … as the API's object; owned, or NULL when none. */
FALLIBLE cmd_filters(char *const *list, json_t **out_filters);
