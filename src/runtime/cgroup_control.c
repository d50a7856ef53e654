/*
 * cgroup_control.c - living groups: what they use, freezing, killing, removing.
 *
 * Removing first just removes (the usual case: everything has ended); only what is busy is killed, and then
 * removed from the bottom up with a bounded wait, because a process leaves its group a moment after it died.
 */
#include "base/own.h"
#include "base/time.h"
#include "runtime/cgroup.h"
#include "runtime/plan.h"
#include "sys/cgroup.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { PIDS_TEXT_MAX = 64 << 20 };
static const int64_t freeze_wait_ns = INT64_C(5000000000), remove_wait_ns = INT64_C(10000000000);

struct names {
	char **p; /* owned */
	size_t n, cap;
};

static void names_add(struct names *v, char *name)
{
	*vec_push(v) = name;
}

int cgroup_walk(const struct cgroup_hier *h, const char *path, int (*each)(void *ctx, const char *sub),
		void *ctx)
{
	struct names todo = { 0 };
	int r = 0;

	names_add(&todo, xstrdup(path));
	for (size_t i = 0; i < todo.n && r >= 0; i++) {
		char name[CGROUP_PATH];
		int fd = cgroup_name(h, todo.p[i], "", name);
		struct dirent *d;
		DIR *dir;

		fd = fd < 0 ? fd : sys_open(name, O_RDONLY | O_DIRECTORY, 0);
		dir = fd < 0 ? NULL : fdopendir(fd);
		if (!dir && fd >= 0)
			own_close(&fd);
		if (i == 0 && fd < 0)
			r = fd;
		if (!dir)
			continue; /* a child that went away meanwhile */
		while ((d = readdir(dir)))
			if (d->d_type == DT_DIR && strcmp(d->d_name, ".") != 0 &&
			    strcmp(d->d_name, "..") != 0)
				names_add(&todo, xasprintf("%s/%s", todo.p[i], d->d_name));
		(void)closedir(dir);
		r = each(ctx, todo.p[i]);
	}
	for (size_t i = 0; i < todo.n; i++)
		free(todo.p[i]);
	vec_fini(&todo);
	return r;
}

/* --- processes --- */

struct pids {
	const struct cgroup_hier *h;
	VEC(pid_t) list;
};

static int pids_of(void *ctx, const char *sub)
{
	struct pids *all = ctx;
	auto_buf struct buf b = BUF(PIDS_TEXT_MAX);
	char name[CGROUP_PATH];
	auto_fd int fd = cgroup_name(all->h, sub, "cgroup.procs", name);
	ssize_t n = 1;

	fd = fd < 0 ? fd : sys_open(name, O_RDONLY, 0);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while (n > 0) {
		char *room = buf_room(&b, 4096);

		if (!room)
			return -E2BIG;
		if ((n = sys_read(fd, room, 4096)) > 0)
			b.n += (size_t)n;
	}
	for (struct sv rest = sv_from(b.data, b.n); rest.n;) {
		struct sv line = sv_cut(&rest, '\n');
		pid_t pid = 0;

		for (size_t i = 0; i < line.n && line.p[i] >= '0' && line.p[i] <= '9'; i++)
			pid = pid * 10 + (line.p[i] - '0');
		if (pid > 0)
			*vec_push(&all->list) = pid;
	}
	return n == -EOPNOTSUPP || n == -ENODEV ? 0
						: (int)n; /* a threaded v2 group; a group that just went */
}

static FALLIBLE not_found(const struct cgroup_hier *h, const char *path, int r)
{
	return FAIL_OS(-r, "control group %s/%s", h->dir, path);
}

static FALLIBLE find_set(const char *path, struct cgroup_set *s)
{
	TRY(cgroup_check_path(path));
	return cgroup_set_find(s);
}

struct err *runtime_pids(const char *cgroup_path, pid_t **out_pids, size_t *out_n)
{
	struct cgroup_set s;
	struct pids all = { 0 };
	int r;

	TRY(find_set(cgroup_path, &s));
	all.h = cgroup_procs_hier(&s);
	r = cgroup_walk(all.h, cgroup_path, pids_of, &all);
	if (r < 0) {
		vec_fini(&all.list);
		return not_found(all.h, cgroup_path, r);
	}
	*out_pids = all.list.p;
	*out_n = all.list.n;
	return NULL;
}

static int signal_all(const struct cgroup_hier *h, const char *path, int signo)
{
	struct pids all = { .h = h };
	int r = cgroup_walk(h, path, pids_of, &all);

	for (size_t i = 0; i < all.list.n; i++)
		(void)sys_kill(all.list.p[i], signo); /* it may have ended */
	vec_fini(&all.list);
	return r;
}

static int set_frozen(const struct cgroup_set *s, const char *path, bool frozen)
{
	const struct cgroup_hier *h = cgroup_find(s, "freezer");

	if (!h)
		return -ENODEV;
	return s->v2 ? cgroup_write(h, path, "cgroup.freeze", frozen ? "1" : "0")
		     : cgroup_write(h, path, "freezer.state", frozen ? "FROZEN" : "THAWED");
}

static int kill_all(const struct cgroup_set *s, const char *path, int signo)
{
	const struct cgroup_hier *h = cgroup_procs_hier(s);
	bool frozen;
	int r;

	if (signo == SIGKILL && s->v2 && cgroup_write(h, path, "cgroup.kill", "1") == 0)
		return 0;
	/* frozen, so that no process can fork away between the list and the signal */
	frozen = signo == SIGKILL && set_frozen(s, path, true) == 0;
	r = signal_all(h, path, signo);
	if (signo == SIGKILL && r >= 0) /* thawed also when a user had frozen it: dying needs it */
		(void)set_frozen(s, path, false);
	if (r >= 0 && frozen)
		r = signal_all(h, path, signo); /* those that were born while it froze */
	return r;
}

struct err *runtime_kill_all(const char *cgroup_path, int signo)
{
	struct cgroup_set s;
	int r;

	TRY(find_set(cgroup_path, &s));
	r = kill_all(&s, cgroup_path, signo);
	return r < 0 ? not_found(cgroup_procs_hier(&s), cgroup_path, r) : NULL;
}

static bool is_frozen(const struct cgroup_set *s, const struct cgroup_hier *h, const char *path, bool frozen)
{
	char text[256];

	if (cgroup_read(h, path, s->v2 ? "cgroup.events" : "freezer.state", text, sizeof text) < 0)
		return true; /* gone: the next call tells */
	return s->v2 ? strstr(text, frozen ? "frozen 1" : "frozen 0") != NULL
		     : strcmp(text, frozen ? "FROZEN\n" : "THAWED\n") == 0;
}

struct err *runtime_freeze(const char *cgroup_path, bool frozen)
{
	struct cgroup_set s;
	const struct cgroup_hier *h;
	int64_t end = time_monotonic_ns() + freeze_wait_ns;
	int r;

	TRY(find_set(cgroup_path, &s));
	if (!(h = cgroup_find(&s, "freezer")))
		return FAIL(ERR_UNSUPPORTED, "the freezer controller is not mounted");
	do {
		if ((r = set_frozen(&s, cgroup_path, frozen)) < 0)
			return not_found(h, cgroup_path, r);
		if (is_frozen(&s, h, cgroup_path, frozen))
			return NULL;
		sys_pause_ns(1000000);
	} while (time_monotonic_ns() < end);
	(void)set_frozen(&s, cgroup_path, false);
	return FAIL(ERR_TIMEOUT, "control group %s/%s: not %s within 5 s", h->dir, cgroup_path,
		    frozen ? "frozen" : "thawed");
}

struct err *runtime_frozen(const char *cgroup_path, bool *out_frozen)
{
	struct cgroup_set s;
	const struct cgroup_hier *h;
	char text[256];

	*out_frozen = false;
	TRY(find_set(cgroup_path, &s));
	h = cgroup_find(&s, "freezer");
	if (h &&
	    cgroup_read(h, cgroup_path, s.v2 ? "cgroup.events" : "freezer.state", text, sizeof text) >= 0)
		*out_frozen = strstr(text, s.v2 ? "frozen 1" : "FR") != NULL; /* FREEZING and FROZEN */
	return NULL;
}

/* --- removing --- */

static int remember(void *ctx, const char *sub)
{
	names_add(ctx, xstrdup(sub));
	return 0;
}

static int remove_one(const struct cgroup_hier *h, const char *path)
{
	char name[CGROUP_PATH];
	int r = cgroup_name(h, path, "", name);

	return r < 0 ? r : sys_rmdir(AT_FDCWD, name);
}

/* Children before parents. The result of the last one, path itself, counts. */
static int remove_tree(const struct cgroup_hier *h, const char *path)
{
	struct names d = { 0 };
	int r = remove_one(h, path);

	if (r != -EBUSY && r != -ENOTEMPTY)
		return r;
	(void)cgroup_walk(h, path, remember, &d);
	for (size_t i = d.n; i-- > 0;) {
		r = remove_one(h, d.p[i]);
		free(d.p[i]);
	}
	vec_fini(&d);
	return r;
}

/* "hoy" and what lies between it and the group, as far as they are empty now. Others' parents stay. */
static void remove_parents(const struct cgroup_hier *h, const char *path)
{
	char parent[CGROUP_PATH], *slash;

	if (strncmp(path, CGROUP_OURS "/", sizeof CGROUP_OURS) != 0)
		return;
	(void)snprintf(parent, sizeof parent, "%s", path);
	while ((slash = strrchr(parent, '/'))) {
		*slash = '\0';
		if (remove_one(h, parent) < 0)
			return;
	}
}

struct err *runtime_cgroup_remove(const char *cgroup_path)
{
	struct cgroup_set s;

	TRY(find_set(cgroup_path, &s));
	return cgroup_remove(&s, cgroup_path);
}

struct err *cgroup_remove(const struct cgroup_set *s, const char *cgroup_path)
{
	int64_t pause = 500000, end = time_monotonic_ns() + remove_wait_ns;
	bool gone[CGROUP_HIERARCHIES] = { false }, all, any = false;

	TRY(cgroup_check_path(cgroup_path));
	for (;;) {
		size_t busy = 0;

		all = true;
		for (size_t i = 0; i < s->n; i++) {
			int r = gone[i] ? 0 : remove_tree(&s->h[i], cgroup_path);

			any = any || r != -ENOENT;
			gone[i] = r == 0 || r == -ENOENT;
			if (!gone[i] && r != -EBUSY && r != -ENOTEMPTY)
				return FAIL_OS(-r, "control group %s/%s: remove", s->h[i].dir, cgroup_path);
			if (!gone[i])
				busy = i;
			all = all && gone[i];
		}
		if (all)
			break;
		if (time_monotonic_ns() > end)
			return FAIL(ERR_TIMEOUT,
				    "control group %s/%s: still busy after killing its processes",
				    s->h[busy].dir, cgroup_path);
		if (kill_all(s, cgroup_path, SIGKILL) <
		    0) /* gone in that hierarchy: the busy one tells who is left */
			(void)signal_all(&s->h[busy], cgroup_path, SIGKILL);
		sys_pause_ns(pause);
		pause = pause < 20000000 ? pause * 2 : pause;
	}
	for (size_t i = 0; any && i < s->n; i++) /* else who removed the group has seen to them */
		remove_parents(&s->h[i], cgroup_path);
	return NULL;
}

/* --- statistics --- */

/* The number after "key " at the start of a line; 0 when there is none. */
static uint64_t field(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
		if (strncmp(line, key, n) == 0 && line[n] == ' ')
			return strtoull(line + n + 1, NULL, 10);
	return 0;
}

struct reader {
	const struct cgroup_set *s;
	const char *path;
	char text[16384];
};

/* The file's text, "" when the controller or file is missing. */
static const char *slurp(struct reader *r, const char *controller, const char *file)
{
	const struct cgroup_hier *h = cgroup_find(r->s, controller);

	r->text[0] = '\0';
	if (h)
		(void)cgroup_read(h, r->path, file, r->text, sizeof r->text);
	return r->text;
}

static uint64_t number(struct reader *r, const char *controller, const char *file)
{
	return strtoull(slurp(r, controller, file), NULL, 10); /* "max" is 0 */
}

/* Sums, over the lines "8:0 rbytes=1 wbytes=2 …" (v2) or "8:0 Read 1" (v1), the numbers after word. */
static uint64_t sum_after(const char *text, const char *word)
{
	uint64_t sum = 0;

	for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
		sum += strtoull(at + strlen(word), NULL, 10);
	return sum;
}

static void stats_v1(struct reader *r, struct runtime_stats *out)
{
	const char *t;

	out->cpu_ns = number(r, "cpuacct", "cpuacct.usage");
	out->cpu_user_ns = number(r, "cpuacct", "cpuacct.usage_user");
	out->cpu_system_ns = number(r, "cpuacct", "cpuacct.usage_sys");
	t = slurp(r, "cpu", "cpu.stat");
	out->periods = field(t, "nr_periods");
	out->throttled_periods = field(t, "nr_throttled");
	out->throttled_ns = field(t, "throttled_time");
	out->mem_bytes = number(r, "memory", "memory.usage_in_bytes");
	out->mem_limit_bytes = number(r, "memory", "memory.limit_in_bytes");
	if (out->mem_limit_bytes >= UINT64_C(0x7fffffffffff0000)) /* the page counter's maximum: no limit */
		out->mem_limit_bytes = 0;
	out->mem_cache_bytes = field(slurp(r, "memory", "memory.stat"), "total_inactive_file");
	out->oom_killed = field(slurp(r, "memory", "memory.oom_control"), "oom_kill") > 0;
	t = slurp(r, "blkio", "blkio.throttle.io_service_bytes_recursive");
	out->io_read_bytes = sum_after(t, " Read ");
	out->io_write_bytes = sum_after(t, " Write ");
}

static void stats_v2(struct reader *r, struct runtime_stats *out)
{
	const char *t = slurp(r, "", "cpu.stat");

	out->cpu_ns = field(t, "usage_usec") * 1000;
	out->cpu_user_ns = field(t, "user_usec") * 1000;
	out->cpu_system_ns = field(t, "system_usec") * 1000;
	out->periods = field(t, "nr_periods");
	out->throttled_periods = field(t, "nr_throttled");
	out->throttled_ns = field(t, "throttled_usec") * 1000;
	out->mem_bytes = number(r, "", "memory.current");
	out->mem_limit_bytes = number(r, "", "memory.max");
	out->mem_cache_bytes = field(slurp(r, "", "memory.stat"), "inactive_file");
	out->oom_killed = field(slurp(r, "", "memory.events"), "oom_kill") > 0;
	t = slurp(r, "", "io.stat");
	out->io_read_bytes = sum_after(t, " rbytes=");
	out->io_write_bytes = sum_after(t, " wbytes=");
}

struct err *runtime_stats(const char *cgroup_path, struct runtime_stats *out_stats)
{
	struct cgroup_set s;
	struct reader r = { .s = &s, .path = cgroup_path };
	const struct cgroup_hier *h;
	char some[16];
	ssize_t n;

	TRY(find_set(cgroup_path, &s));
	h = cgroup_procs_hier(&s);
	if ((n = cgroup_read(h, cgroup_path, "cgroup.procs", some, sizeof some)) < 0 && n != -EOPNOTSUPP)
		return not_found(h, cgroup_path, (int)n);
	*out_stats = (struct runtime_stats){ 0 };
	(s.v2 ? stats_v2 : stats_v1)(&r, out_stats);
	out_stats->pids = number(&r, "pids", "pids.current");
	out_stats->pids_limit = number(&r, "pids", "pids.max");
	return NULL;
}
