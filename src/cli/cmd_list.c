/* cmd_list.c - ps, logs, top, stats, port, inspect: what tells about containers. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "codec/tmpl.h"
#include "engine/container.h"
#include "engine/image.h"
#include "engine/prune.h"
#include "engine/volume.h"
#include "network/network.h"
#include "sys/sys.h"
#include <stdio.h>
#include <time.h>

/* ---- ps ---- */

struct ps_conf {
	bool all, quiet, no_trunc, latest, size;
	int last;
	char **filter;
	const char *format;
};
static const struct opt ps_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, offsetof(struct ps_conf, all), 0, "Show all containers, not only running ones" },
	{ OPT_LIST, 'f', "filter", "KEY=VALUE", offsetof(struct ps_conf, filter), 0, "Only what fits (id, name, label, status, exited, health, ancestor, before, since, volume, network, publish, expose)" },
	{ OPT_STR, 0, "format", NULL, offsetof(struct ps_conf, format), 0, "Template, \"table …\" or json" },
	{ OPT_INT, 'n', "last", NULL, offsetof(struct ps_conf, last), 0, "Show the n containers created last" },
	{ OPT_FLAG, 'l', "latest", NULL, offsetof(struct ps_conf, latest), 0, "Show the container created last" },
	{ OPT_FLAG, 0, "no-trunc", NULL, offsetof(struct ps_conf, no_trunc), 0, "Do not truncate" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct ps_conf, quiet), 0, "Only print IDs" },
	{ OPT_FLAG, 's', "size", NULL, offsetof(struct ps_conf, size), 0, "Show what they take on disk" },
	{ 0 },
};

static char *ports_text(const json_t *ports)
{
	auto_buf struct buf b = BUF(65536);
	size_t i;
	json_t *p;

	json_array_foreach (ports, i, p) {
		const char *ip = json_str_at(p, "IP", ""), *type = json_str_at(p, "Type", "tcp");
		int64_t outside = json_int_at(p, "PublicPort", 0), inside = json_int_at(p, "PrivatePort", 0);

		if (outside)
			buf_fmt(&b, "%s%s:%lld->%lld/%s", b.n ? ", " : "", ip, (long long)outside, (long long)inside, type);
		else
			buf_fmt(&b, "%s%lld/%s", b.n ? ", " : "", (long long)inside, type);
	}
	return buf_take(&b);
}

static char *labels_text(const json_t *labels)
{
	auto_buf struct buf b = BUF(1u << 20);
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)labels, key, v)
		buf_fmt(&b, "%s%s=%s", b.n ? "," : "", key, json_string_value(v));
	return buf_take(&b);
}

static char *mounts_text(const json_t *mounts)
{
	auto_buf struct buf b = BUF(1u << 20);
	size_t i;
	json_t *m;

	json_array_foreach (mounts, i, m)
		buf_fmt(&b, "%s%s", b.n ? "," : "", *json_str_at(m, "Name", "") ? json_str_at(m, "Name", "") :
										  json_str_at(m, "Source", ""));
	return buf_take(&b);
}

static char *volumes_text(const json_t *mounts)
{
	size_t i, n = 0;
	json_t *m;

	json_array_foreach (mounts, i, m)
		n += strcmp(json_str_at(m, "Type", ""), "volume") == 0;
	return xasprintf("%zu", n);
}

/* "2B (virtual 1.24MB)"; "0B": nobody asked */
static char *size_text(const json_t *c)
{
	char own[16], all[16];

	(void)num_human((uint64_t)json_int_at(c, "SizeRw", 0), own);
	if (!json_object_get(c, "SizeRootFs"))
		return xstrdup(own);
	return xasprintf("%s (virtual %s)", own, num_human((uint64_t)json_int_at(c, "SizeRootFs", 0), all));
}

static json_t *ps_row(const json_t *c, bool no_trunc)
{
	auto_free char *size = size_text(c), *volumes = volumes_text(json_object_get(c, "Mounts"));
	auto_free char *id = xstrndup(json_str_at(c, "Id", ""), no_trunc ? 64 : 12);
	auto_free char *quoted = xasprintf("\"%s\"", json_str_at(c, "Command", ""));
	auto_free char *command = out_cut(quoted, no_trunc ? 1 << 20 : 20);
	auto_free char *ports = ports_text(json_object_get(c, "Ports")), *ago = out_ago(json_int_at(c, "Created", 0));
	auto_free char *created = out_moment(json_int_at(c, "Created", 0));
	auto_free char *labels = labels_text(json_object_get(c, "Labels")), *mounts = mounts_text(json_object_get(c, "Mounts"));
	const char *name = json_string_value(json_array_get(json_object_get(c, "Names"), 0)), *closing = strrchr(command, '"');
	auto_free char *shown = !no_trunc && !(closing && closing[1] == 0 && closing != command) ? xasprintf("%s\"", command) : NULL;

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O?}", "ID", id, "Image",
			 json_str_at(c, "Image", ""), "Command", shown ? shown : command, "CreatedAt", created, "RunningFor", ago,
			 "Ports", ports, "State", json_str_at(c, "State", ""), "Status", json_str_at(c, "Status", ""), "Names",
			 name ? name + 1 : "", "Labels", labels, "Mounts", mounts, "Networks",
			 json_str_at(c, "HostConfig.NetworkMode", ""), "LocalVolumes", volumes, "Size", size,
			 TMPL_LABELS, json_object_get(c, "Labels"));
}

/* Sizes cost a walk over the files, so only who asks gets them. */
static FALLIBLE wants_size(const struct ps_conf *c, bool *out_wants)
{
	auto_tmpl struct tmpl *t = NULL;

	*out_wants = c->size;
	if (c->size || !c->format || c->quiet)
		return NULL;
	TRY(tmpl_parse(c->format, &t));
	*out_wants = tmpl_uses(t, "Size");
	return NULL;
}

static FALLIBLE add_ps_row(struct engine *e, const struct ps_conf *c, json_t *container, bool with_size, json_t *rows)
{
	struct err *err = with_size ? engine_container_size(e, container) : NULL;

	if (err && err->kind != ERR_NOT_FOUND)
		return err;
	if (!err) /* else it went meanwhile */
		(void)json_array_append_new(rows, ps_row(container, c->no_trunc));
	err_free(err);
	return NULL;
}

#define PS_TABLE "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"

static FALLIBLE run_ps(const void *conf, char *const args[], int *out_exit)
{
	static const char *const headings[][2] = { { "ID", "CONTAINER ID" }, { "RunningFor", "CREATED" }, { NULL, NULL } };
	const struct ps_conf *c = conf;
	struct out_format f = { c->format, c->size ? PS_TABLE "\t{{.Size}}" : PS_TABLE, headings, c->quiet ? "ID" : NULL };
	auto_json json_t *filters = NULL, *list = NULL, *rows = json_array();
	struct engine *e;
	size_t i, last = c->latest ? 1 : c->last > 0 ? (size_t)c->last : SIZE_MAX;
	json_t *item;
	bool with_size;

	(void)args;
	(void)out_exit;
	TRY(wants_size(c, &with_size));
	TRY(cmd_filters(c->filter, &filters));
	TRY(cmd_engine(&e));
	TRY(container_list(e, c->all || last != SIZE_MAX, filters, &list));
	json_array_foreach (list, i, item)
		if (i < last)
			TRY(add_ps_row(e, c, item, with_size, rows));
	if (!json_array_size(rows) && c->format) { /* so that a wrong field is told also when there is no row */
		auto_json json_t *none = json_pack("{s:s}", "Id", ""), *probe = json_pack("[o]", ps_row(none, true));

		if (strncmp(c->format, "table", 5) != 0 && strcmp(c->format, "json") != 0)
			return out_check(c->format, json_array_get(probe, 0));
	}
	return out_rows(&f, rows);
}
const struct cmd cmd_ps = { "ps",    "", "List containers", ps_opts, sizeof(struct ps_conf), 0, 0, false, 0, false, run_ps,
			    NULL,    NULL };
const struct cmd cmd_container_ls = { "ls",  "", "List containers", ps_opts, sizeof(struct ps_conf), 0, 0, false, 0, false, run_ps,
				      NULL,  "ps" };

/* ---- logs ---- */

struct logs_conf {
	bool follow, timestamps;
	const char *tail, *since, *until;
};
static const struct opt logs_opts[] = {
	{ OPT_FLAG, 'f', "follow", NULL, offsetof(struct logs_conf, follow), 0, "Follow the output" },
	{ OPT_STR, 0, "since", "TIME", offsetof(struct logs_conf, since), 0, "Since a time (2026-01-02T13:23:37Z) or for (42m)" },
	{ OPT_STR, 'n', "tail", "N", offsetof(struct logs_conf, tail), 0, "Lines from the end, or all" },
	{ OPT_FLAG, 't', "timestamps", NULL, offsetof(struct logs_conf, timestamps), 0, "Show times" },
	{ OPT_STR, 0, "until", "TIME", offsetof(struct logs_conf, until), 0, "Until a time or a while ago" },
	{ 0 },
};

static FALLIBLE write_chunk(void *ctx, int stream, const char *p, size_t n)
{
	int r = sys_write_all(stream == 2 ? STDERR_FILENO : STDOUT_FILENO, p, n);

	(void)ctx;
	return r < 0 ? FAIL_OS(-r, "write the log") : NULL;
}

/* RFC 3339, seconds since 1970, or a duration before now. */
static FALLIBLE moment(const char *text, int64_t *out_ns)
{
	*out_ns = 0;
	return text ? time_parse_moment(sv_of(text), out_ns) : NULL;
}

static FALLIBLE run_logs(const void *conf, char *const args[], int *out_exit)
{
	const struct logs_conf *c = conf;
	struct container_logs o = { .follow = c->follow, .timestamps = c->timestamps, .want_stdout = true, .want_stderr = true,
				    .tail = -1, .chunk = write_chunk };
	struct engine *e;
	uint64_t tail;

	(void)out_exit;
	if (c->tail && strcmp(c->tail, "all") != 0) {
		struct err *err = num_parse(sv_of(c->tail), 10, 0, INT32_MAX, &tail);

		if (err && c->tail[0] != '-')
			return err_ctx(err, "invalid argument for \"-n, --tail\" flag");
		o.tail = err ? -1 : (long)tail;
		err_free(err);
	}
	TRY(moment(c->since, &o.since_ns));
	TRY(moment(c->until, &o.until_ns));
	TRY(cmd_engine(&e));
	return container_logs(e, args[0], &o);
}
const struct cmd cmd_logs = { "logs",	 "CONTAINER",		      "Show the logs of a container",
			      logs_opts, sizeof(struct logs_conf), 1, 1, false, 0, false, run_logs, NULL, NULL };

/* ---- top ---- */

static FALLIBLE run_top(const void *conf, char *const args[], int *out_exit)
{
	auto_json json_t *table = NULL;
	struct engine *e;
	size_t i, k;
	json_t *row, *cell;
	auto_json json_t *rows = json_array();
	auto_buf struct buf b = BUF(4u << 20);

	(void)conf;
	(void)out_exit;
	TRY(cmd_engine(&e));
	TRY(container_top(e, args[0], args[1] ? args + 1 : NULL, &table));
	(void)json_array_append(rows, json_object_get(table, "Titles"));
	(void)json_array_extend(rows, json_object_get(table, "Processes"));
	json_array_foreach (rows, i, row) {
		json_array_foreach (row, k, cell)
			buf_fmt(&b, "%s%s", k ? "\t" : "", json_string_value(cell));
		buf_ch(&b, '\n');
	}
	return out_columns(sv_from(b.data, b.n));
}
const struct cmd cmd_top = { "top", "CONTAINER [ps OPTIONS]", "Show the running processes of a container",
			     NULL,  0,			      1, -1, true, 0, false, run_top, NULL, NULL };

/* ---- stats ---- */

struct stats_conf {
	bool no_stream, all, no_trunc;
	const char *format;
};
static const struct opt stats_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, offsetof(struct stats_conf, all), 0, "Show all containers, not only running ones" },
	{ OPT_STR, 0, "format", NULL, offsetof(struct stats_conf, format), 0, "Template, \"table …\" or json" },
	{ OPT_FLAG, 0, "no-stream", NULL, offsetof(struct stats_conf, no_stream), 0, "Print once" },
	{ OPT_FLAG, 0, "no-trunc", NULL, offsetof(struct stats_conf, no_trunc), 0, "Do not truncate" },
	{ 0 },
};

static int64_t host_memory(void)
{
	return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

static json_t *stats_row(const json_t *s, bool no_trunc)
{
	char a[16], b[16], cpu[32], percent[32], pids[16];
	uint64_t used = (uint64_t)json_int_at(s, "mem_usage", 0), limit = (uint64_t)json_int_at(s, "mem_limit", 0);
	auto_free char *id = xstrndup(json_str_at(s, "id", ""), no_trunc ? 64 : 12), *mem = NULL, *net = NULL, *blk = NULL;

	if (limit == 0 || limit > (uint64_t)host_memory())
		limit = (uint64_t)host_memory();
	mem = xasprintf("%s / %s", num_human_iec(used, a), num_human_iec(limit, b));
	net = xasprintf("%s / %s", num_human((uint64_t)json_int_at(s, "net_rx", 0), a),
			num_human((uint64_t)json_int_at(s, "net_tx", 0), b));
	blk = xasprintf("%s / %s", num_human((uint64_t)json_int_at(s, "blk_read", 0), a),
			num_human((uint64_t)json_int_at(s, "blk_write", 0), b));
	(void)snprintf(cpu, sizeof cpu, "%.2f%%", json_number_value(json_object_get(s, "cpu_percent")));
	(void)snprintf(percent, sizeof percent, "%.2f%%", (double)used * 100.0 / (double)limit);
	(void)snprintf(pids, sizeof pids, "%lld", (long long)json_int_at(s, "pids", 0));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Container", id, "ID", id, "Name",
			 json_str_at(s, "name", ""), "CPUPerc", cpu, "MemUsage", mem, "MemPerc", percent, "NetIO", net, "BlockIO",
			 blk, "PIDs", pids);
}

static FALLIBLE stats_once(struct engine *e, const struct stats_conf *c, char *const args[])
{
	static const char *const headings[][2] = { { "ID", "CONTAINER ID" }, { "CPUPerc", "CPU %" }, { "PIDs", "PIDS" },
						   { "MemUsage", "MEM USAGE / LIMIT" }, { "MemPerc", "MEM %" },
						   { "NetIO", "NET I/O" }, { "BlockIO", "BLOCK I/O" }, { NULL, NULL } };
	struct out_format f = { c->format,
				"table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t"
				"{{.PIDs}}",
				headings, NULL };
	auto_json json_t *list = NULL, *rows = json_array();
	auto_list char **names = NULL;
	size_t i;
	json_t *item;

	for (i = 0; args[i]; i++)
		text_list_add(&names, args[i]);
	if (!args[0]) {
		TRY(container_list(e, c->all, NULL, &list));
		json_array_foreach (list, i, item)
			text_list_add(&names, json_str_at(item, "Id", ""));
	}
	for (i = 0; names && names[i]; i++) {
		auto_json json_t *s = NULL;

		TRY(container_stats(e, names[i], &s));
		(void)json_array_append_new(rows, stats_row(s, c->no_trunc));
	}
	return out_rows(&f, rows);
}

static FALLIBLE run_stats(const void *conf, char *const args[], int *out_exit)
{
	const struct stats_conf *c = conf;
	struct engine *e;

	(void)out_exit;
	TRY(cmd_engine(&e));
	for (;;) {
		if (!c->no_stream && isatty(STDOUT_FILENO))
			(void)printf("\033[2J\033[H");
		TRY(stats_once(e, c, args));
		if (c->no_stream)
			return NULL;
		(void)nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
	}
}
const struct cmd cmd_stats = { "stats",	   "[CONTAINER...]",	      "Show how much containers use",
			       stats_opts, sizeof(struct stats_conf), 0, -1, false, 0, false, run_stats, NULL, NULL };

/* ---- port ---- */

static FALLIBLE run_port(const void *conf, char *const args[], int *out_exit)
{
	auto_json json_t *doc = NULL;
	auto_free char *want = args[1] ? xasprintf("%s%s", args[1], strchr(args[1], '/') ? "" : "/tcp") : NULL;
	struct engine *e;
	const char *key;
	json_t *list, *b;
	size_t i, n = 0;

	(void)conf;
	(void)out_exit;
	TRY(cmd_engine(&e));
	TRY(container_inspect(e, args[0], &doc));
	json_object_foreach (json_at(doc, "NetworkSettings.Ports"), key, list) {
		if (want && strcmp(want, key) != 0)
			continue;
		json_array_foreach (list, i, b) {
			n++;
			if (want)
				(void)printf("%s:%s\n", json_str_at(b, "HostIp", ""), json_str_at(b, "HostPort", ""));
			else
				(void)printf("%s -> %s:%s\n", key, json_str_at(b, "HostIp", ""), json_str_at(b, "HostPort", ""));
		}
	}
	return want && !n ? FAIL(ERR_NOT_FOUND, "no public port '%s' published for %s", args[1], args[0]) : NULL;
}
const struct cmd cmd_port = { "port", "CONTAINER [PORT[/PROTO]]", "List the published ports of a container",
			      NULL,   0,			  1, 2, false, 0, false, run_port, NULL, NULL };

/* ---- inspect ---- */

struct inspect_conf {
	const char *format, *type;
	bool size;
};
static const struct opt inspect_opts[] = {
	{ OPT_STR, 'f', "format", NULL, offsetof(struct inspect_conf, format), 0, "Template or json" },
	{ OPT_FLAG, 's', "size", NULL, offsetof(struct inspect_conf, size), 0, "Show what a container takes on disk, too" },
	{ OPT_STR, 0, "type", NULL, offsetof(struct inspect_conf, type), 0, "container, image, volume or network" },
	{ 0 },
};

static struct err *inspect_network(struct engine *e, const char *text, json_t **out)
{
	struct network *n;

	TRY(engine_network(e, &n));
	return network_inspect(n, text, out);
}

typedef struct err *inspector(struct engine *e, const char *text, json_t **out);
static const struct {
	const char *type;
	inspector *get;
} inspectors[] = { { "container", container_inspect }, { "image", engine_image_inspect }, { "volume", volume_inspect },
		   { "network", inspect_network } };

/* The first kind that has one of this name. */
static FALLIBLE inspect_any(struct engine *e, const char *type, const char *text, json_t **out)
{
	for (size_t i = 0; i < LEN(inspectors); i++) {
		struct err *err;

		if (type && strcmp(type, inspectors[i].type) != 0)
			continue;
		err = inspectors[i].get(e, text, out);
		if (!err || type || (err->kind != ERR_NOT_FOUND && err->kind != ERR_INVALID))
			return err;
		err_free(err);
	}
	return type ? FAIL(ERR_INVALID, "\"%s\" is not a valid value for --type", type) :
		      FAIL(ERR_NOT_FOUND, "No such object: %s", text);
}

static FALLIBLE inspect_all(const struct inspect_conf *c, const char *type, char *const args[], int *out_exit)
{
	auto_json json_t *found = json_array();
	struct engine *e;
	size_t i;
	json_t *v;

	TRY(cmd_engine(&e));
	for (; *args; args++) {
		json_t *one = NULL;
		struct err *err = inspect_any(e, type ? type : c->type, *args, &one);

		if (!err && c->size && json_object_get(one, "HostConfig"))
			err = engine_container_size(e, one);

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

static FALLIBLE run_inspect(const void *conf, char *const args[], int *out_exit)
{
	return inspect_all(conf, NULL, args, out_exit);
}

static FALLIBLE run_container_inspect(const void *conf, char *const args[], int *out_exit)
{
	return inspect_all(conf, "container", args, out_exit);
}
const struct cmd cmd_inspect = { "inspect",    "NAME|ID [NAME|ID...]",	    "Show everything about containers, images, volumes, networks",
				 inspect_opts, sizeof(struct inspect_conf), 1, -1, false, 0, false, run_inspect, NULL, NULL };
const struct cmd cmd_container_inspect = { "inspect",  "CONTAINER [CONTAINER...]", "Show everything about containers", inspect_opts,
					   sizeof(struct inspect_conf), 1, -1, false, 0, false, run_container_inspect, NULL, NULL };
