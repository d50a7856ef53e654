/* cmd_volume.c - volume create, ls, inspect, rm, prune, export, import. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "codec/tmpl.h"
#include "codec/zip.h"
#include "engine/volume.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct volume_conf {
	const char *name, *driver, *format, *output;
	char **label, **opt, **filter;
	bool quiet, force, zstd, gzip;
};

/* KEY=VALUE …; a key alone has the value "". */
static FALLIBLE pairs(char *const *list, const char *flag, json_t *object)
{
	for (; list && *list; list++) {
		const char *eq = strchr(*list, '=');
		auto_free char *key = xstrndup(*list, eq ? (size_t)(eq - *list) : strlen(*list));

		if (!*key)
			return FAIL(ERR_INVALID, "invalid argument \"%s\" for \"%s\" flag: a key is wanted", *list, flag);
		(void)json_object_set_new(object, key, json_string(eq ? eq + 1 : ""));
	}
	return NULL;
}

static const struct opt create_opts[] = {
	{ OPT_STR, 'd', "driver", NULL, offsetof(struct volume_conf, driver), 0, "Volume driver: local" },
	{ OPT_LIST, 0, "label", "KEY[=VALUE]", offsetof(struct volume_conf, label), 0, "Set a label" },
	{ OPT_STR, 0, "name", NULL, offsetof(struct volume_conf, name), 0, "Name of the volume" },
	{ OPT_LIST, 'o', "opt", "KEY=VALUE", offsetof(struct volume_conf, opt), 0,
	  "Driver option: type, device, o (what mount takes; each container mounts it), size (a quota)" },
	{ 0 },
};

static FALLIBLE run_create(const void *conf, char *const args[], int *out_exit)
{
	const struct volume_conf *c = conf;
	auto_json json_t *body = NULL, *volume = NULL, *labels = json_object(), *options = json_object();
	const char *name = args[0] ? args[0] : c->name;
	struct engine *e;

	(void)out_exit;
	if (args[0] && c->name)
		return FAIL(ERR_INVALID, "conflicting options: cannot specify a volume-name through both --name and as a positional arg");
	TRY(pairs(c->label, "--label", labels));
	TRY(pairs(c->opt, "--opt", options));
	body = json_pack("{s:s, s:s, s:O, s:O}", "Name", name ? name : "", "Driver", c->driver ? c->driver : "local", "Labels", labels,
			 "DriverOpts", options);
	TRY(cmd_engine(&e));
	TRY(volume_create(e, body, &volume));
	(void)printf("%s\n", json_str_at(volume, "Name", ""));
	return NULL;
}
static const struct cmd volume_create_cmd = { "create",	   "[VOLUME]", "Create a volume", create_opts, sizeof(struct volume_conf),
					      0, 1, false, 0, false, run_create, NULL, NULL };

static const struct opt ls_opts[] = {
	{ OPT_LIST, 'f', "filter", "KEY=VALUE", offsetof(struct volume_conf, filter), 0,
	  "Only what fits (name, label, driver, dangling)" },
	{ OPT_STR, 0, "format", NULL, offsetof(struct volume_conf, format), 0, "Template, \"table …\" or json" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct volume_conf, quiet), 0, "Only print names" },
	{ 0 },
};

/* docker's row: all text; what only cluster volumes have is not there. */
static json_t *ls_row(const json_t *v)
{
	auto_buf struct buf labels = BUF(1u << 20);
	const char *key;
	json_t *value;

	json_object_foreach(json_object_get(v, "Labels"), key, value)
		buf_fmt(&labels, "%s%s=%s", labels.n ? "," : "", key, json_string_value(value));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O?}", "Availability", "N/A", "Driver",
			 json_str_at(v, "Driver", ""), "Group", "N/A", "Labels", labels.n ? buf_text(&labels) : "", "Links", "N/A",
			 "Mountpoint", json_str_at(v, "Mountpoint", ""), "Name", json_str_at(v, "Name", ""), "Scope",
			 json_str_at(v, "Scope", ""), "Size", "N/A", "Status", "N/A", TMPL_LABELS, json_object_get(v, "Labels"));
}

static FALLIBLE run_ls(const void *conf, char *const args[], int *out_exit)
{
	static const char *const headings[][2] = { { "Name", "VOLUME NAME" }, { NULL, NULL } };
	const struct volume_conf *c = conf;
	struct out_format f = { c->format, "table {{.Driver}}\t{{.Name}}", headings, c->quiet ? "Name" : NULL };
	auto_json json_t *filters = NULL, *list = NULL, *rows = json_array();
	struct engine *e;
	size_t i;
	json_t *v;

	(void)args;
	(void)out_exit;
	TRY(cmd_filters(c->filter, &filters));
	TRY(cmd_engine(&e));
	TRY(volume_list(e, filters, &list));
	json_array_foreach(list, i, v)
		(void)json_array_append_new(rows, ls_row(v));
	return out_rows(&f, rows);
}
static const struct cmd volume_ls_cmd = { "ls", "", "List volumes", ls_opts, sizeof(struct volume_conf), 0, 0, false, 0, false,
					  run_ls, NULL, NULL };

static const struct opt inspect_opts[] = {
	{ OPT_STR, 'f', "format", NULL, offsetof(struct volume_conf, format), 0, "Template or json" },
	{ 0 },
};

static FALLIBLE run_inspect(const void *conf, char *const args[], int *out_exit)
{
	const struct volume_conf *c = conf;
	auto_json json_t *found = json_array();
	struct engine *e;
	size_t i;
	json_t *v;

	TRY(cmd_engine(&e));
	for (; *args; args++) {
		json_t *one = NULL;
		struct err *err = volume_inspect(e, *args, &one);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)json_array_append_new(found, one);
		}
	}
	if (!c->format)
		return out_value(NULL, found); /* "[]" for a script that reads on */
	json_array_foreach (found, i, v)
		TRY(out_value(c->format, v));
	return NULL;
}
static const struct cmd volume_inspect_cmd = { "inspect",    "VOLUME [VOLUME...]", "Show everything about volumes",
					       inspect_opts, sizeof(struct volume_conf), 1, -1, false, 0, false, run_inspect, NULL,
					       NULL };

static const struct opt rm_opts[] = {
	{ OPT_FLAG, 'f', "force", NULL, offsetof(struct volume_conf, force), 0, "A volume that is not there is no error" },
	{ 0 },
};

static FALLIBLE run_rm(const void *conf, char *const args[], int *out_exit)
{
	const struct volume_conf *c = conf;
	struct engine *e;

	TRY(cmd_engine(&e));
	for (; *args; args++) {
		struct err *err = volume_remove(e, *args, c->force);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)printf("%s\n", *args);
		}
	}
	return NULL;
}
static const struct cmd volume_rm_cmd = { "rm",	   "VOLUME [VOLUME...]", "Remove volumes", rm_opts, sizeof(struct volume_conf), 1, -1,
					  false, 0, false, run_rm, NULL, NULL };

/* ---- export and import ---- */

static const struct opt export_opts[] = {
	{ OPT_FLAG, 0, "gzip", NULL, offsetof(struct volume_conf, gzip), 0, "Compress with gzip" },
	{ OPT_STR, 'o', "output", "FILE", offsetof(struct volume_conf, output), 0, "Write to a file instead of standard output" },
	{ OPT_FLAG, 0, "zstd", NULL, offsetof(struct volume_conf, zstd), 0, "Compress with zstd" },
	{ 0 },
};

static struct err *to_zip(void *ctx, const void *p, size_t n)
{
	return zip_write(ctx, p, n);
}

struct exporting {
	struct engine *e;
	const char *name;
	const struct volume_conf *c;
};

static struct err *export(void *ctx, struct zip_sink sink)
{
	const struct exporting *x = ctx;
	auto_zip struct zip *z = NULL;

	if (!x->c->zstd && !x->c->gzip)
		return volume_export(x->e, x->name, sink);
	TRY(zip_open(x->c->zstd ? ZIP_ZSTD : ZIP_GZIP, 0, sink, &z));
	TRY(volume_export(x->e, x->name, (struct zip_sink){ to_zip, z }));
	return zip_finish(z);
}

static FALLIBLE run_export(const void *conf, char *const args[], int *out_exit)
{
	struct exporting x = { .name = args[0], .c = conf };

	(void)out_exit;
	if (x.c->zstd && x.c->gzip)
		return FAIL(ERR_INVALID, "conflicting options: --gzip and --zstd");
	TRY(cmd_engine(&x.e));
	return out_archive(x.c->output, export, &x);
}
static const struct cmd volume_export_cmd = { "export", "VOLUME", "Write a volume's content as a tar archive", export_opts,
					      sizeof(struct volume_conf), 1, 1, false, 0, false, run_export, NULL, NULL };

static FALLIBLE run_import(const void *conf, char *const args[], int *out_exit)
{
	bool from_input = !args[1] || strcmp(args[1], "-") == 0;
	auto_fd int fd = from_input ? sys_dup(0) : sys_open(args[1], O_RDONLY, 0);
	struct engine *e;

	(void)conf;
	(void)out_exit;
	if (fd < 0)
		return FAIL_OS(-fd, "open %s", from_input ? "standard input" : args[1]);
	if (from_input && isatty(0))
		return FAIL(ERR_INVALID, "an archive is wanted on standard input, which is a terminal");
	TRY(cmd_engine(&e));
	return volume_import(e, args[0], zip_source_fd(&fd));
}
static const struct opt import_opts[] = { { 0 } };
static const struct cmd volume_import_cmd = { "import", "VOLUME [FILE|-]", "Extract a tar archive (also compressed) into a volume",
					      import_opts, sizeof(struct volume_conf), 1, 2, false, 0, false, run_import, NULL, NULL };

static const struct cmd *const subs[] = { &volume_create_cmd, &volume_export_cmd, &volume_import_cmd, &volume_inspect_cmd,
					  &volume_ls_cmd,     &cmd_volume_prune,  &volume_rm_cmd,     NULL };
const struct cmd cmd_volume = { .name = "volume", .summary = "Manage volumes", .subs = subs };
