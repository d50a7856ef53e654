/* stats.c - what a container uses, which processes it has, and a way into its files. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "runtime/runtime.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

enum { SAMPLE_MS = 200, TEXT_MAX = 4 << 20 };

static FALLIBLE read_text(int fd, struct buf *out)
{
	ssize_t n;

	do {
		char *p = buf_room(out, 4096);

		n = p ? sys_read(fd, p, 4096) : -EFBIG;
		if (n > 0)
			out->n += (size_t)n;
	} while (n > 0);
	return n < 0 ? FAIL_OS((int)-n, "read") : NULL;
}

/* Bytes of all interfaces but lo, as the container sees them. */
static void network_bytes(pid_t pid, uint64_t *out_rx, uint64_t *out_tx)
{
	auto_buf struct buf b = BUF(65536);
	char path[64];
	auto_fd int fd = -1;
	struct sv rest;

	*out_rx = *out_tx = 0;
	(void)snprintf(path, sizeof path, "/proc/%d/net/dev", (int)pid);
	if ((fd = sys_open(path, O_RDONLY, 0)) < 0)
		return;
	err_free(read_text(fd, &b));
	rest = sv_from(b.data, b.n);
	while (rest.n) {
		struct sv line = sv_cut(&rest, '\n'), name = sv_trim(sv_cut(&line, ':'));
		unsigned long long rx = 0, tx = 0;
		auto_free char *numbers = xstrndup(line.p ? line.p : "", line.n);

		if (line.n && !sv_is(name, "lo") &&
		    sscanf(numbers, "%llu %*u %*u %*u %*u %*u %*u %*u %llu", &rx, &tx) == 2) {
			*out_rx += rx;
			*out_tx += tx;
		}
	}
}

FALLIBLE container_stats(struct engine *e, const char *text, json_t **out_stats)
{
	auto_json json_t *doc = NULL, *status = NULL;
	struct runtime_stats a = { 0 }, b = { 0 };
	uint64_t rx = 0, tx = 0;
	int64_t t0, t1;
	char id[CTR_ID_MAX], cgroup[80];

	TRY(ctr_find(e, text, id, &doc));
	ctr_cgroup(id, cgroup);
	if (ctr_live(e, id, &status)) {
		TRY(runtime_stats(cgroup, &a));
		t0 = time_monotonic_ns();
		(void)nanosleep(&(struct timespec){ .tv_nsec = SAMPLE_MS * 1000000L }, NULL);
		TRY(runtime_stats(cgroup, &b));
		t1 = time_monotonic_ns();
		network_bytes((pid_t)json_int_at(status, "Pid", 0), &rx, &tx);
	} else {
		t0 = 0;
		t1 = 1;
	}
	*out_stats = json_pack("{s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "id", id, "name",
			       json_str_at(doc, "Name", "/") + 1, "cpu_percent",
			       (double)(b.cpu_ns - a.cpu_ns) * 100.0 / (double)(t1 - t0), "mem_usage",
			       (json_int_t)(b.mem_bytes > b.mem_cache_bytes ? b.mem_bytes - b.mem_cache_bytes : b.mem_bytes),
			       "mem_limit", (json_int_t)b.mem_limit_bytes, "net_rx", (json_int_t)rx, "net_tx", (json_int_t)tx,
			       "blk_read", (json_int_t)b.io_read_bytes, "blk_write", (json_int_t)b.io_write_bytes, "pids",
			       (json_int_t)b.pids);
	return NULL;
}

/* ---- top ---- */

static FALLIBLE run_ps(char *const *args, struct buf *out)
{
	char program[] = "ps", all[] = "-ef";
	auto_list char **argv = NULL;
	auto_fd int pid_fd = -1, read_end = -1;
	int p[2], r, code;

	text_list_add(&argv, program);
	for (size_t i = 0; args && args[i]; i++)
		text_list_add(&argv, args[i]);
	if (!argv[1])
		text_list_add(&argv, all);
	if ((r = sys_pipe(p)) < 0)
		return FAIL_OS(-r, "make a pipe");
	read_end = p[0];
	{
		const int fds[3] = { -1, p[1], -1 };

		r = sys_spawn_run(&(struct sys_spawn){ argv[0], argv, NULL, fds, 3, false }, &pid_fd);
	}
	(void)sys_close(p[1]);
	if (r < 0)
		return FAIL_OS(-r, "run ps");
	TRY(read_text(read_end, out));
	code = sys_pid_fd_wait(pid_fd, false, NULL);
	return code != 0 ? FAIL(ERR_INVALID, "ps failed with exit code %d: bad arguments?", code) : buf_check(out, "output of ps");
}

/* Words of a line; the last column takes the rest. */
static json_t *split(struct sv line, size_t columns)
{
	json_t *row = json_array();

	while (line.n && json_array_size(row) + 1 < columns) {
		struct sv word;

		line = sv_trim(line);
		word = sv_cut(&line, ' ');
		(void)json_array_append_new(row, json_stringn(word.p, word.n));
	}
	line = sv_trim(line);
	if (line.n)
		(void)json_array_append_new(row, json_stringn(line.p, line.n));
	return row;
}

static bool has_pid(const pid_t *pids, size_t n, const char *text)
{
	uint64_t v = 0;

	err_free(num_parse(sv_of(text), 10, 0, INT32_MAX, &v));
	for (size_t i = 0; i < n; i++)
		if ((uint64_t)pids[i] == v)
			return true;
	return false;
}

FALLIBLE container_top(struct engine *e, const char *text, char *const *ps_args, json_t **out_table)
{
	auto_json json_t *titles = NULL, *rows = json_array();
	auto_buf struct buf b = BUF(TEXT_MAX);
	auto_free pid_t *pids = NULL;
	char id[CTR_ID_MAX], cgroup[80];
	size_t n = 0, pid_at = 0;
	struct sv rest;

	TRY(ctr_resolve(e, text, id));
	if (!ctr_live(e, id, NULL))
		return FAIL(ERR_CONFLICT, "Container %s is not running", id);
	ctr_cgroup(id, cgroup);
	TRY(runtime_pids(cgroup, &pids, &n));
	TRY(run_ps(ps_args, &b));
	rest = sv_from(b.data, b.n);
	titles = split(sv_cut(&rest, '\n'), 64);
	while (pid_at < json_array_size(titles) && strcmp(json_string_value(json_array_get(titles, pid_at)), "PID") != 0)
		pid_at++;
	if (pid_at == json_array_size(titles))
		return FAIL(ERR_INVALID, "Couldn't find PID field in ps output");
	while (rest.n) {
		json_t *row = split(sv_cut(&rest, '\n'), json_array_size(titles));
		const char *pid = json_string_value(json_array_get(row, pid_at));

		if (pid && has_pid(pids, n, pid))
			(void)json_array_append_new(rows, row);
		else
			json_decref(row);
	}
	*out_table = json_pack("{s:O, s:O}", "Titles", titles, "Processes", rows);
	return NULL;
}
