/*
 * oci_events.c - events: statistics at an interval and out-of-memory kills, in the JSON shape of runc
 * (types/events.go).
 *
 * One line per event. An OOM kill is told with the next look at the counter, once a second at the latest.
 */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/time.h"
#include "runtime/cgroup.h"
#include "runtime/oci.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <stdio.h>
#include <stdlib.h>

enum { FILE_MAX = 65536 };

struct events {
	const char *interval;
	bool stats;
};
static const struct oci_opt events_opts[] = {
	{ OCI_STR, 0, "interval", "DURATION", offsetof(struct events, interval),
	  "between two statistics (5s)" },
	{ OCI_FLAG, 0, "stats", NULL, offsetof(struct events, stats), "print the statistics once and end" },
	{ .kind = OCI_END },
};

/* ---- reading ---- */

struct look {
	const struct cgroup_set *s;
	const char *path;
	char text[FILE_MAX];
};

static const char *slurp(struct look *l, const char *controller, const char *file)
{
	const struct cgroup_hier *h = cgroup_find(l->s, controller);

	l->text[0] = 0;
	if (h)
		(void)cgroup_read(h, l->path, file, l->text, sizeof l->text);
	return l->text;
}

/* Sizes beyond int64 ("no limit") stay what they are for a reader of 64 bits: the largest. */
static json_t *u64(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

static json_t *number(struct look *l, const char *controller, const char *file)
{
	const char *t = slurp(l, controller, file);

	return strncmp(t, "max", 3) == 0 ? u64(INT64_MAX) : u64(strtoull(t, NULL, 10));
}

/* The number behind "key " at the start of a line. */
static uint64_t field(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
		if (strncmp(line, key, n) == 0 && line[n] == ' ')
			return strtoull(line + n + 1, NULL, 10);
	return 0;
}

static json_t *pairs(const char *text)
{
	json_t *all = json_object();

	for (struct sv rest = sv_of(text); rest.n;) {
		struct sv line = sv_cut(&rest, '\n'), key = sv_cut(&line, ' ');
		auto_free char *name = xstrndup(key.p, key.n);

		if (key.n && line.n)
			(void)json_object_set_new(all, name, u64(strtoull(line.p, NULL, 10)));
	}
	return all;
}

static json_t *numbers(const char *text)
{
	json_t *all = json_array();

	for (struct sv rest = sv_of(text); rest.n;) {
		struct sv word = sv_trim(sv_cut(&rest, ' '));

		if (word.n)
			(void)json_array_append_new(all, u64(strtoull(word.p, NULL, 10)));
	}
	return all;
}

/* ---- parts ---- */

static json_t *cpu(struct look *l)
{
	uint64_t scale = l->s->v2 ? 1000 : 1; /* v2 counts microseconds */
	json_t *usage, *throttling;
	const char *t;

	if (l->s->v2) {
		t = slurp(l, "", "cpu.stat");
		usage = json_pack("{s:o, s:o, s:o}", "total", u64(field(t, "usage_usec") * scale), "kernel",
				  u64(field(t, "system_usec") * scale), "user",
				  u64(field(t, "user_usec") * scale));
		throttling = json_pack("{s:o, s:o, s:o}", "periods", u64(field(t, "nr_periods")),
				       "throttledPeriods", u64(field(t, "nr_throttled")), "throttledTime",
				       u64(field(t, "throttled_usec") * scale));
	} else {
		usage = json_pack("{s:o, s:o, s:o}", "total", number(l, "cpuacct", "cpuacct.usage"), "kernel",
				  number(l, "cpuacct", "cpuacct.usage_sys"), "user",
				  number(l, "cpuacct", "cpuacct.usage_user"));
		(void)json_object_set_new(usage, "percpu",
					  numbers(slurp(l, "cpuacct", "cpuacct.usage_percpu")));
		t = slurp(l, "cpu", "cpu.stat");
		throttling = json_pack("{s:o, s:o, s:o}", "periods", u64(field(t, "nr_periods")),
				       "throttledPeriods", u64(field(t, "nr_throttled")), "throttledTime",
				       u64(field(t, "throttled_time")));
	}
	return json_pack("{s:o, s:o}", "usage", usage, "throttling", throttling);
}

static json_t *entry(struct look *l, const char *prefix)
{
	static const char *const names[][2] = { { "limit", "limit_in_bytes" },
						{ "usage", "usage_in_bytes" },
						{ "max", "max_usage_in_bytes" },
						{ "failcnt", "failcnt" } };
	json_t *e = json_object();

	for (size_t i = 0; i < LEN(names); i++) {
		char file[64];

		(void)snprintf(file, sizeof file, "memory.%s%s", prefix, names[i][1]);
		(void)json_object_set_new(e, names[i][0], number(l, "memory", file));
	}
	return e;
}

static json_t *memory(struct look *l)
{
	json_t *all = json_object(), *raw = pairs(slurp(l, "memory", "memory.stat"));

	if (l->s->v2) {
		(void)json_object_set_new(all, "cache", json_integer(json_int_at(raw, "file", 0)));
		(void)json_object_set_new(
		    all, "usage",
		    json_pack("{s:o, s:o, s:o, s:o}", "limit", number(l, "", "memory.max"), "usage",
			      number(l, "", "memory.current"), "max", number(l, "", "memory.peak"), "failcnt",
			      u64(field(slurp(l, "", "memory.events"), "max"))));
		(void)json_object_set_new(all, "swap",
					  json_pack("{s:o, s:o, s:i}", "limit",
						    number(l, "", "memory.swap.max"), "usage",
						    number(l, "", "memory.swap.current"), "failcnt", 0));
	} else {
		(void)json_object_set_new(all, "cache", json_integer(json_int_at(raw, "cache", 0)));
		(void)json_object_set_new(all, "usage", entry(l, ""));
		(void)json_object_set_new(all, "swap", entry(l, "memsw."));
		(void)json_object_set_new(all, "kernel", entry(l, "kmem."));
		(void)json_object_set_new(all, "kernelTCP", entry(l, "kmem.tcp."));
	}
	(void)json_object_set_new(all, "raw", raw);
	return all;
}

static void block_entry(json_t *into, struct sv dev, struct sv op, struct sv value)
{
	struct sv major = sv_cut(&dev, ':');
	auto_free char *name = xstrndup(op.p, op.n);

	(void)json_array_append_new(into, json_pack("{s:o, s:o, s:s, s:o}", "major",
						    u64(strtoull(major.p, NULL, 10)), "minor",
						    u64(strtoull(dev.p, NULL, 10)), "op", name, "value",
						    u64(strtoull(value.p, NULL, 10))));
}

/* v1: "8:0 Read 4096"; v2: "8:0 rbytes=4096 wbytes=0 rios=1 …" */
static json_t *block(struct look *l, const char *v1_file, const char *const v2_keys[2])
{
	static const char *const ops[2] = { "Read", "Write" };
	json_t *all = json_array();

	for (struct sv rest = sv_of(slurp(l, "blkio", l->s->v2 ? "io.stat" : v1_file)); rest.n;) {
		struct sv line = sv_cut(&rest, '\n'), dev = sv_cut(&line, ' ');

		if (!memchr(dev.p, ':', dev.n)) /* "Total 0" */
			continue;
		if (!l->s->v2) {
			struct sv op = sv_cut(&line, ' ');

			block_entry(all, dev, op, line);
			continue;
		}
		while (line.n) {
			struct sv value = sv_cut(&line, ' '), key = sv_cut(&value, '=');

			for (int i = 0; i < 2; i++)
				if (sv_is(key, v2_keys[i]))
					block_entry(all, dev, sv_of(ops[i]), value);
		}
	}
	return all;
}

static json_t *stats_of(struct look *l)
{
	static const char *const bytes[2] = { "rbytes", "wbytes" }, *const ios[2] = { "rios", "wios" };
	json_t *all = json_pack("{s:o, s:o}", "cpu", cpu(l), "memory", memory(l));

	(void)json_object_set_new(all, "pids",
				  json_pack("{s:o, s:o}", "current", number(l, "pids", "pids.current"),
					    "limit", number(l, "pids", "pids.max")));
	(void)json_object_set_new(all, "blkio",
				  json_pack("{s:o, s:o}", "ioServiceBytesRecursive",
					    block(l, "blkio.throttle.io_service_bytes_recursive", bytes),
					    "ioServicedRecursive",
					    block(l, "blkio.throttle.io_serviced_recursive", ios)));
	return all;
}

/* ---- the command ---- */

static FALLIBLE emit(const char *type, const char *id, json_t *data)
{
	auto_json json_t *e = json_pack("{s:s, s:s}", "type", type, "id", id);
	auto_buf struct buf b = BUF(4 << 20);

	if (data)
		(void)json_object_set_new(e, "data", data);
	json_print(e, &b);
	TRY(buf_check(&b, "event"));
	(void)printf("%s\n", buf_text(&b));
	return fflush(stdout) == 0 ? NULL : FAIL_OS(errno, "write to standard output");
}

static FALLIBLE print_stats(const struct oci_box *b, uint64_t *out_oom)
{
	struct cgroup_set s = { 0 };
	auto_free struct look *l = xcalloc(1, sizeof *l);

	TRY(cgroup_set_find(&s));
	l->s = &s;
	l->path = oci_box_cgroup(b);
	if (out_oom) {
		*out_oom =
		    field(slurp(l, "memory", s.v2 ? "memory.events" : "memory.oom_control"), "oom_kill");
		return NULL;
	}
	return emit("stats", b->id, stats_of(l));
}

/* Until the container ends. */
static FALLIBLE follow(const struct oci_box *b, int64_t interval_ns)
{
	auto_fd int pid_fd = sys_pid_fd(b->pid);
	uint64_t oom = 0, now;
	int64_t next = time_monotonic_ns() + interval_ns;

	TRY(print_stats(b, &oom));
	while (pid_fd >= 0 && oci_box_status(b) != OCI_STOPPED) {
		struct pollfd f = { pid_fd, POLLIN, 0 };
		int64_t left = next - time_monotonic_ns();
		int r = sys_poll(&f, 1, left > 1000000000 ? 1000 : left > 0 ? (int)(left / 1000000) + 1 : 0);

		if (r < 0)
			return FAIL_OS(-r, "wait for the container");
		TRY(print_stats(b, &now));
		for (; oom < now; oom++)
			TRY(emit("oom", b->id, NULL));
		if (f.revents)
			return NULL;
		if (time_monotonic_ns() >= next) {
			TRY(print_stats(b, NULL));
			next += interval_ns;
		}
	}
	return NULL;
}

static struct err *run_events(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	const struct events *c = conf;
	int64_t interval_ns = INT64_C(5000000000);

	(void)out_exit;
	if (c->interval)
		TRY(num_parse_duration(sv_of(c->interval), &interval_ns));
	if (interval_ns < 1000000)
		return FAIL(ERR_INVALID, "--interval %s: must be greater than zero", c->interval);
	TRY(oci_box_open(o, args[0], false, &b));
	if (oci_box_status(&b) == OCI_STOPPED)
		return FAIL(ERR_CONFLICT, "container not running: container with id %s is not running", b.id);
	TRY(oci_box_need_cgroup(&b));
	return c->stats ? print_stats(&b, NULL) : follow(&b, interval_ns);
}

const struct oci_cmd oci_cmd_events = {
	.name = "events",
	.args = "CONTAINER",
	.summary = "Print statistics and out-of-memory kills as JSON lines",
	.opts = events_opts,
	.conf_size = sizeof(struct events),
	.min_args = 1,
	.max_args = 1,
	.run = run_events,
};
