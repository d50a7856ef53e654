/* oci_update.c - new limits for a running container; numbers and sizes as runc reads them. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "runtime/oci.h"
#include "runtime/rdt.h"
#include <string.h>

struct update {
	const char *resources;
	const char *text[20]; /* of the rows below, in their order */
};
enum value_kind { SIZE, SIGNED, UNSIGNED, WORD };
#define ROW(i, name_, arg_, help_)                                                                           \
	{                                                                                                    \
		OCI_STR, 0, name_, arg_, offsetof(struct update, text) + (i) * sizeof(char *), help_         \
	}
static const struct oci_opt update_opts[] = {
	ROW(0, "memory", "BYTES", "memory limit (512m; -1: none)"),
	ROW(1, "memory-reservation", "BYTES", "memory it should keep under pressure"),
	ROW(2, "memory-swap", "BYTES", "memory and swap together (-1: none)"),
	ROW(3, "kernel-memory", "BYTES", "kernel memory (old kernels)"),
	ROW(4, "kernel-memory-tcp", "BYTES", "TCP buffers"),
	ROW(5, "cpu-share", "N", "CPU shares, relative to other containers"),
	ROW(6, "cpu-quota", "US", "CPU time in a period (-1: no limit)"),
	ROW(7, "cpu-period", "US", "that period"),
	ROW(8, "cpu-burst", "US", "CPU time that may be saved up"),
	ROW(9, "cpu-rt-runtime", "US", "real-time CPU time in a period"),
	ROW(10, "cpu-rt-period", "US", "that period"),
	ROW(11, "cpu-idle", "0|1", "run only when the CPU is idle"),
	ROW(12, "cpuset-cpus", "LIST", "CPUs to use"),
	ROW(13, "cpuset-mems", "LIST", "memory nodes to use"),
	ROW(14, "pids-limit", "N", "processes and threads (-1: no limit)"),
	ROW(15, "blkio-weight", "N", "block I/O weight, 10 to 1000"),
	ROW(16, "l3-cache-schema", "TEXT", "Intel RDT: L3 cache"),
	ROW(17, "mem-bw-schema", "TEXT", "Intel RDT: memory bandwidth"),
	{ OCI_STR, 'r', "resources", "FILE", offsetof(struct update, resources),
	  "linux.resources as JSON (-: standard input); beside it only those of Intel RDT are taken" },
	{ .kind = OCI_END },
};
/* Where each goes in linux.resources; part NULL: linux.intelRdt. */
static const struct {
	const char *part, *name;
	enum value_kind kind;
} rows[] = {
	{ "memory", "limit", SIZE },
	{ "memory", "reservation", SIZE },
	{ "memory", "swap", SIZE },
	{ "memory", "kernel", SIZE },
	{ "memory", "kernelTCP", SIZE },
	{ "cpu", "shares", UNSIGNED },
	{ "cpu", "quota", SIGNED },
	{ "cpu", "period", UNSIGNED },
	{ "cpu", "burst", UNSIGNED },
	{ "cpu", "realtimeRuntime", SIGNED },
	{ "cpu", "realtimePeriod", UNSIGNED },
	{ "cpu", "idle", UNSIGNED },
	{ "cpu", "cpus", WORD },
	{ "cpu", "mems", WORD },
	{ "pids", "limit", SIGNED },
	{ "blockIO", "weight", UNSIGNED },
	{ NULL, "l3CacheSchema", WORD },
	{ NULL, "memBwSchema", WORD },
};

static FALLIBLE value_of(enum value_kind kind, const char *option, const char *text, json_t **out)
{
	struct err *e = NULL;
	uint64_t u = 0;
	int64_t i = 0;

	if (kind == WORD) {
		*out = json_string(text);
		return NULL;
	}
	if (kind == UNSIGNED) {
		e = num_parse(sv_of(text), 10, 0, INT64_MAX, &u);
		i = (int64_t)u;
	} else if (kind == SIGNED || text[0] == '-') {
		e = num_parse_signed(sv_of(text), kind == SIZE ? -1 : INT64_MIN, INT64_MAX, &i);
	} else {
		e = num_parse_bytes(sv_of(text), &u);
		if (!e && u > INT64_MAX)
			e = FAIL(ERR_INVALID, "too large");
		i = (int64_t)u;
	}
	if (e)
		return err_ctx(e, "--%s %s", option, text);
	*out = json_integer(i);
	return NULL;
}

static FALLIBLE resources_of(const struct update *u, json_t **out, json_t **out_rdt)
{
	auto_json json_t *all = json_object(), *rdt = json_object();
	size_t n = 0;

	for (size_t i = 0; i < LEN(rows); i++) {
		json_t *part = rows[i].part ? json_object_get(all, rows[i].part) : rdt, *v;

		if (!u->text[i])
			continue;
		n++;
		TRY(value_of(rows[i].kind, update_opts[i].name, u->text[i], &v));
		if (!part)
			(void)json_object_set_new(all, rows[i].part, part = json_object());
		(void)json_object_set_new(part, rows[i].name, v);
	}
	if (u->resources && n > json_object_size(rdt))
		return FAIL(ERR_INVALID, "--resources and other limits exclude each other");
	if (!u->resources && !n)
		return FAIL(ERR_INVALID, "nothing to update");
	if (u->resources) {
		json_t *v = NULL;

		TRY(oci_read_json(u->resources, "resources", &v));
		json_decref(all);
		all = v;
		if (!json_is_object(all))
			return FAIL(ERR_INVALID, "resources: not an object");
	}
	*out = TAKE(all);
	*out_rdt = TAKE(rdt);
	return NULL;
}

static void merge(json_t *into, const json_t *from)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)from, key, v)
	{
		json_t *have = json_object_get(into, key);

		if (json_is_object(v) && json_is_object(have))
			merge(have, v);
		else
			(void)json_object_set(into, key, v);
	}
}

/* Only what is new is written to the class. ERR_UNSUPPORTED, as runc has it: a container that was made without one. */
static FALLIBLE update_rdt(struct oci_box *b, json_t *rdt)
{
	json_t *have = json_object_get(json_object_get(b->config, "linux"), "intelRdt");
	auto_json json_t *config = NULL, *whole = NULL;
	struct plan *p = NULL;
	struct err *e;

	if (!json_is_object(have))
		return FAIL(ERR_UNSUPPORTED, "Intel RDT: container \"%s\" was made without linux.intelRdt", b->id);
	if (json_object_get(have, "closID"))
		(void)json_object_set(rdt, "closID", json_object_get(have, "closID"));
	config = json_deep_copy(b->config);
	(void)json_object_set(json_object_get(config, "linux"), "intelRdt", rdt);
	whole = b->config;
	b->config = config;
	e = oci_box_plan(b, &p);
	b->config = TAKE(whole);
	if (!e)
		e = rdt_update(p);
	plan_free(p);
	TRY(e);
	merge(have, rdt);
	return oci_box_save_config(b);
}

/* The copy of the configuration keeps step, so that what is made from it later (restore) has the limits of
 * now. */
static FALLIBLE remember(struct oci_box *b, const json_t *resources)
{
	json_t *linux_part = json_object_get(b->config, "linux"), *have;

	if (!linux_part)
		(void)json_object_set_new(b->config, "linux", linux_part = json_object());
	if (!(have = json_object_get(linux_part, "resources")))
		(void)json_object_set_new(linux_part, "resources", have = json_object());
	merge(have, resources);
	return oci_box_save_config(b);
}

static struct err *run_update(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	auto_json json_t *resources = NULL, *rdt = NULL;

	(void)out_exit;
	TRY(resources_of(conf, &resources, &rdt));
	TRY(oci_box_open(o, args[0], true, &b));
	if (oci_box_status(&b) == OCI_STOPPED)
		return FAIL(ERR_CONFLICT, "container not running: \"%s\"", b.id);
	if (json_object_size(rdt))
		TRY(update_rdt(&b, rdt));
	if (!json_object_size(resources))
		return NULL;
	TRY(oci_box_need_cgroup(&b));
	TRY(runtime_update(oci_box_cgroup(&b), resources));
	TRY(oci_cgroup_updated(&b, resources));
	return remember(&b, resources);
}

const struct oci_cmd oci_cmd_update = {
	.name = "update",
	.args = "CONTAINER",
	.summary = "Change the limits of a container",
	.opts = update_opts,
	.conf_size = sizeof(struct update),
	.min_args = 1,
	.max_args = 1,
	.run = run_update,
};
