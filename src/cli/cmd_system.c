/* cmd_system.c - version, info, system footprint, system reset. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include <stdio.h>
#include <sys/utsname.h>

struct system_conf {
	const char *format;
	bool force;
};
static const struct opt format_opts[] = {
	{ OPT_STR, 'f', "format", NULL, offsetof(struct system_conf, format), 0, "Template or json" },
	{ 0 },
};

static FALLIBLE run_version(const void *conf, char *const args[], int *out_exit)
{
	const struct system_conf *c = conf;
	struct utsname u;
	auto_json json_t *v = NULL;

	(void)args;
	(void)out_exit;
	(void)uname(&u);
	v = json_pack("{s:{s:s, s:s, s:s}, s:{s:s, s:s, s:s, s:s}}", "Client", "Version", HOY_VERSION, "Os", "linux", "Arch",
		      u.machine, "Server", "Version", HOY_VERSION, "ApiVersion", "1.43", "Os", "linux", "KernelVersion", u.release);
	if (c->format)
		return out_value(c->format, v);
	(void)printf("hoy:\n Version:    %s\n OS/Arch:    linux/%s\n Kernel:     %s\n", HOY_VERSION, u.machine, u.release);
	return NULL;
}
const struct cmd cmd_version = { "version",   "", "Show the version", format_opts, sizeof(struct system_conf), 0, 0, false, 0, false,
				 run_version, NULL, NULL };

/* Why a driver that would come before is not used; NULL: none would. */
static const char *driver_status(const json_t *info)
{
	return json_string_value(json_array_get(json_array_get(json_object_get(info, "DriverStatus"), 0), 1));
}

static FALLIBLE run_info(const void *conf, char *const args[], int *out_exit)
{
	static const char *const shown[][2] = { { "Containers", "Containers" }, { "ContainersRunning", " Running" },
						{ "ContainersPaused", " Paused" }, { "ContainersStopped", " Stopped" },
						{ "Images", "Images" }, { "ServerVersion", "Version" },
						{ "Driver", "Storage Driver" }, { "LoggingDriver", "Logging Driver" },
						{ "CgroupVersion", "Cgroup Version" }, { "KernelVersion", "Kernel Version" },
						{ "OSType", "OSType" }, { "Architecture", "Architecture" }, { "NCPU", "CPUs" },
						{ "Name", "Name" }, { "DockerRootDir", "Root Dir" } };
	const struct system_conf *c = conf;
	auto_json json_t *info = NULL;
	struct engine *e;
	char memory[16];

	(void)args;
	(void)out_exit;
	TRY(cmd_engine(&e));
	TRY(engine_info(e, &info));
	if (c->format)
		return out_value(c->format, info);
	for (size_t i = 0; i < LEN(shown); i++) {
		const json_t *v = json_object_get(info, shown[i][0]);

		if (json_is_integer(v))
			(void)printf("%s: %lld\n", shown[i][1], (long long)json_integer_value(v));
		else
			(void)printf("%s: %s\n", shown[i][1], json_is_string(v) ? json_string_value(v) : "");
		if (strcmp(shown[i][0], "Driver") == 0 && driver_status(info))
			(void)printf(" Not Used: %s\n", driver_status(info));
	}
	(void)printf("Total Memory: %s\n", num_human_iec((uint64_t)json_int_at(info, "MemTotal", 0), memory));
	return NULL;
}
const struct cmd cmd_info = { "info",	"", "Show the state of the system", format_opts, sizeof(struct system_conf), 0, 0, false, 0,
			      false, run_info, NULL, NULL };

static FALLIBLE run_footprint(const void *conf, char *const args[], int *out_exit)
{
	auto_list char **lines = NULL;
	struct engine *e;

	(void)conf;
	(void)args;
	(void)out_exit;
	if (!engine_exists(cmd_engine_opts())) /* opening would make what is then listed */
		return NULL;
	TRY(cmd_engine(&e));
	TRY(engine_footprint(e, &lines));
	for (size_t i = 0; lines && lines[i]; i++)
		(void)printf("%s\n", lines[i]);
	return NULL;
}
static const struct cmd footprint = { "footprint", "", "List everything that hoy has on this host now", NULL, 0, 0, 0, false, 0, false,
				      run_footprint, NULL, NULL };

static const struct opt reset_opts[] = {
	{ OPT_FLAG, 'f', "force", NULL, offsetof(struct system_conf, force), 0, "Do not ask" },
	{ 0 },
};

static FALLIBLE run_reset(const void *conf, char *const args[], int *out_exit)
{
	const struct system_conf *c = conf;
	struct engine *e;

	(void)args;
	(void)out_exit;
	if (!engine_exists(cmd_engine_opts()))
		return NULL;
	if (!c->force && !out_ask("WARNING! This will remove all containers, images, volumes and networks.\n"
				  "Are you sure you want to continue?"))
		return NULL;
	TRY(cmd_engine(&e));
	return engine_reset(e);
}
static const struct cmd reset = { "reset", "", "Remove everything that hoy has on this host", reset_opts, sizeof(struct system_conf), 0,
				  0, false, 0, false, run_reset, NULL, NULL };

static const struct cmd *const subs[] = { &cmd_df, &footprint, &cmd_info, &cmd_system_prune, &reset, NULL };
const struct cmd cmd_system = { .name = "system", .summary = "Manage hoy", .subs = subs };
