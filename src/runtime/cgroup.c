/*
 * cgroup.c - making a container's control group: directories, limits, device rules, joining.
 *
 * Files are reached by their whole path: control groups have no symbolic links, and no component is "..".
 * Nothing is cached between operations: the hierarchies are read anew, so that a long-lived keeper never
 * writes to a mount that was replaced; only a short run removes the group where it made it. A limit that
 * cannot be set is an error naming it; controllers nobody asked for are not missed.
 */
#include "runtime/cgroup.h"
#include "base/own.h"
#include "runtime/plan.h"
#include "sys/cgroup.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOUNTINFO_MAX = 4 << 20, DEVICE_INSNS = 4096, UPDATE_MAX = 1 << 20 };

/* "rw,cpu,cpuacct" -> "cpu,cpuacct"; "rw,xattr,name=systemd" -> "systemd". false: no room. */
static bool controllers(struct sv options, char *out, size_t size)
{
	static const char *const generic[] = {
		"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"
	};
	size_t n = 0;

	while (options.n) {
		struct sv o = sv_cut(&options, ',');
		bool skip = sv_starts(o, SV("release_agent="));

		for (size_t i = 0; i < LEN(generic); i++)
			skip = skip || sv_is(o, generic[i]);
		if (skip)
			continue;
		if (sv_starts(o, SV("name=")))
			o = sv_skip(o, 5);
		if (n + o.n + 2 > size)
			return false;
		if (n)
			out[n++] = ',';
		memcpy(out + n, o.p, o.n);
		n += o.n;
	}
	out[n] = '\0';
	return n > 0;
}

/* One line of mountinfo; h is filled when it is a v1 hierarchy that is not there yet. */
static bool v1_line(const struct cgroup_set *s, struct sv line, struct cgroup_hier *h)
{
	struct sv dir = { 0 }, word = { 0 };

	for (int i = 0; i < 5; i++)
		dir = sv_cut(&line, ' ');
	do
		word = sv_cut(&line, ' ');
	while (line.n && !sv_is(word, "-"));
	if (!sv_is(sv_cut(&line, ' '), "cgroup") || dir.n >= sizeof h->dir || memchr(dir.p, '\\', dir.n))
		return false;
	(void)sv_cut(&line, ' ');
	if (!controllers(line, h->name, sizeof h->name))
		return false;
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->h[i].name, h->name) == 0)
			return false;
	memcpy(h->dir, dir.p, dir.n);
	h->dir[dir.n] = '\0';
	return true;
}

static struct err *v1_hierarchies(struct cgroup_set *s)
{
	auto_buf struct buf b = BUF(MOUNTINFO_MAX);
	auto_fd int fd = sys_open("/proc/self/mountinfo", O_RDONLY, 0);
	struct sv text;
	ssize_t n = fd;

	while (n >= 0 && !b.failed) {
		char *room = buf_room(&b, 16384);

		if (!room || (n = sys_read(fd, room, 16384)) <= 0)
			break;
		b.n += (size_t)n;
	}
	if (n < 0)
		return FAIL_OS((int)-n, "/proc/self/mountinfo: read");
	TRY(buf_check(&b, "/proc/self/mountinfo"));
	text = sv_from(b.data, b.n);
	while (text.n && s->n < CGROUP_HIERARCHIES)
		s->n += v1_line(s, sv_trim(sv_cut(&text, '\n')), &s->h[s->n]);
	return NULL;
}

/* One line "4:cpu,cpuacct:/path" of /proc/self/cgroup; false: that hierarchy is not where all systems mount
 * it. */
static bool usual_line(struct sv line, struct cgroup_hier *h)
{
	struct sv name;

	(void)sv_cut(&line, ':');
	name = sv_cut(&line, ':');
	if (sv_starts(name, SV("name=")))
		name = sv_skip(name, 5);
	if (!name.n || name.n >= sizeof h->name || name.n + sizeof CGROUP_ROOT "/" > sizeof h->dir)
		return false;
	(void)snprintf(h->name, sizeof h->name, SV_FMT, SV_ARG(name));
	(void)snprintf(h->dir, sizeof h->dir, CGROUP_ROOT "/" SV_FMT, SV_ARG(name));
	return sys_fs_magic(h->dir) == CGROUP_SUPER_MAGIC;
}

/*
 * All hierarchies at their usual places; false: look into mountinfo, which costs 3 us for each mount of the
 * host, and there may be thousands.
 */
static bool usual_places(struct cgroup_set *s)
{
	auto_fd int fd = sys_open("/proc/self/cgroup", O_RDONLY, 0);
	char all[4096];
	ssize_t n = fd < 0 ? fd : sys_read_full(fd, all, sizeof all);
	struct sv text = sv_from(all, n > 0 ? (size_t)n : 0);

	if (n <= 0 || n == sizeof all)
		return false;
	while (text.n) {
		struct sv line = sv_cut(&text, '\n');

		if (sv_starts(line, SV("0::"))) /* v2 beside them */
			continue;
		if (s->n == CGROUP_HIERARCHIES || !usual_line(line, &s->h[s->n])) {
			s->n = 0;
			return false;
		}
		s->n++;
	}
	return s->n > 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct cgroup_hier *)a)->name, ((const struct cgroup_hier *)b)->name);
}

struct err *cgroup_set_find(struct cgroup_set *out_set)
{
	struct cgroup_set *s = out_set;
	int64_t magic = sys_fs_magic(CGROUP_ROOT);

	s->n = 0;
	if (magic < 0)
		return FAIL_OS((int)-magic, "control groups: " CGROUP_ROOT);
	s->v2 = magic == CGROUP2_SUPER_MAGIC;
	if (s->v2) {
		s->h[0] = (struct cgroup_hier){ .dir = CGROUP_ROOT };
		s->n = 1;
	} else if (!usual_places(s)) {
		TRY(v1_hierarchies(s));
	}
	if (!s->n)
		return FAIL(ERR_UNSUPPORTED, "control groups are not mounted below " CGROUP_ROOT);
	qsort(s->h, s->n, sizeof *s->h, by_name); /* one order, wherever it was read */
	return NULL;
}

const struct cgroup_hier *cgroup_find(const struct cgroup_set *s, const char *controller)
{
	if (s->v2)
		return &s->h[0];
	for (size_t i = 0; i < s->n; i++) {
		struct sv names = sv_of(s->h[i].name);

		while (names.n)
			if (sv_is(sv_cut(&names, ','), controller))
				return &s->h[i];
	}
	return NULL;
}

const struct cgroup_hier *cgroup_procs_hier(const struct cgroup_set *s)
{
	static const char *const order[] = { "freezer", "pids", "memory", "devices" };
	const struct cgroup_hier *h;

	for (size_t i = 0; i < LEN(order); i++)
		if ((h = cgroup_find(s, order[i])))
			return h;
	return &s->h[0];
}

struct err *cgroup_check_path(const char *path)
{
	struct sv rest = sv_of(path);

	if (!rest.n || rest.n > CGROUP_PATH - 256)
		return FAIL(ERR_INVALID, "control group path \"%s\": empty or too long", path);
	for (bool more = true; more;) {
		const char *end = rest.p + rest.n;
		struct sv part = sv_cut(&rest, '/');

		if (!part.n || sv_is(part, ".") || sv_is(part, ".."))
			return FAIL(ERR_INVALID,
				    "control group path \"%s\": empty, \".\" or \"..\" component", path);
		more = part.p + part.n != end;
	}
	return NULL;
}

int cgroup_name(const struct cgroup_hier *h, const char *path, const char *file, char out[CGROUP_PATH])
{
	const char *parts[] = { h->dir, path[0] ? "/" : "", path, file[0] ? "/" : "", file };
	size_t n = 0;

	for (size_t i = 0; i < LEN(parts); i++) {
		size_t len = strlen(parts[i]);

		if (n + len >= CGROUP_PATH)
			return -ENAMETOOLONG;
		memcpy(out + n, parts[i], len);
		n += len;
	}
	out[n] = '\0';
	return 0;
}

static int open_file(const struct cgroup_hier *h, const char *path, const char *file, int flags)
{
	char name[CGROUP_PATH];
	int r = cgroup_name(h, path, file, name);

	return r < 0 ? r : sys_open(name, flags, 0);
}

static int make_one(const struct cgroup_hier *h, const char *path)
{
	char name[CGROUP_PATH];
	int r = cgroup_name(h, path, "", name);

	return r < 0 ? r : sys_mkdir(AT_FDCWD, name, 0755);
}

int cgroup_write(const struct cgroup_hier *h, const char *path, const char *file, const char *value)
{
	auto_fd int fd = open_file(h, path, file, O_WRONLY);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = sys_write(fd, value, strlen(value)); /* one write: the kernel parses each on its own */
	return n < 0 ? (int)n : 0;
}

ssize_t cgroup_read(const struct cgroup_hier *h, const char *path, const char *file, char *out, size_t size)
{
	auto_fd int fd = open_file(h, path, file, O_RDONLY);
	ssize_t n;

	out[0] = '\0';
	if (fd < 0)
		return fd;
	n = sys_read(fd, out, size - 1); /* one read has it all: these files are shown in one piece */
	out[n > 0 ? n : 0] = '\0';
	return n;
}

/* A new cpuset is empty and nobody can join it: it takes what its parent has. is_new: we made it this moment.
 */
static int fill_cpuset(const struct cgroup_hier *h, const char *path, bool is_new)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	const char *slash = strrchr(path, '/');
	char parent[CGROUP_PATH], value[4096];

	(void)snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) : 0, path);
	for (size_t i = 0; i < LEN(files); i++) {
		ssize_t n = is_new ? 0 : cgroup_read(h, path, files[i], value, sizeof value);

		if (n < 0)
			return n == -ENOENT ? 0 : (int)n;
		if (n > 0 && value[0] != '\n')
			continue;
		if (parent[0] && (n = fill_cpuset(h, parent, false)) < 0)
			return (int)n;
		n = cgroup_read(h, parent, files[i], value, sizeof value);
		if (n > 0 && value[0] != '\n')
			n = cgroup_write(h, path, files[i], value);
		if (n < 0)
			return (int)n;
	}
	return 0;
}

/* Makes path with its parents. Someone may remove an empty parent meanwhile: a bounded number of tries. */
static int make_dir(const struct cgroup_hier *h, const char *path, bool *out_existed)
{
	int r = -ENOENT;

	for (int tries = 0; tries < 16 && r == -ENOENT; tries++) {
		r = make_one(h, path);
		if (r != -ENOENT)
			break;
		for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
			char parent[CGROUP_PATH];

			(void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
			(void)make_one(h, parent); /* its failure shows in the next try */
		}
	}
	*out_existed = r == -EEXIST;
	return *out_existed ? 0 : r;
}

/* Writes "+a +b" to the group's subtree_control; when the whole is refused, one by one: what is possible. */
static void enable(const struct cgroup_hier *h, const char *path, struct sv list)
{
	char all[512] = "";

	for (struct sv rest = list; rest.n;) {
		struct sv one = sv_cut(&rest, ' ');
		size_t n = strlen(all);

		if (one.n && n + one.n + 3 < sizeof all)
			(void)snprintf(all + n, sizeof all - n, "%s+" SV_FMT, n ? " " : "", SV_ARG(one));
	}
	if (cgroup_write(h, path, "cgroup.subtree_control", all) == 0)
		return;
	for (struct sv rest = sv_of(all); rest.n;) {
		struct sv one = sv_cut(&rest, ' ');
		char text[64];

		(void)snprintf(text, sizeof text, SV_FMT, SV_ARG(one));
		(void)cgroup_write(h, path, "cgroup.subtree_control",
				   text); /* a limit that needs it will say so */
	}
}

/* v2: every controller the root has is handed down to path; no process is moved for that. */
static void enable_controllers(const struct cgroup_hier *h, const char *path)
{
	char have[512], want[512], parent[CGROUP_PATH] = "";
	struct sv list;

	if (cgroup_read(h, "", "cgroup.controllers", want, sizeof want) <= 0 ||
	    cgroup_read(h, path, "cgroup.controllers", have, sizeof have) < 0 || strcmp(have, want) == 0)
		return;
	list = sv_trim(sv_of(want));
	for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
		(void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
		enable(h, parent, list);
	}
}

/* *out_foreign: somebody lives there. */
static struct err *make_dirs(const struct cgroup_set *s, const char *path, bool adopt, bool *out_foreign)
{
	*out_foreign = false;
	for (size_t i = 0; i < s->n; i++) {
		const struct cgroup_hier *h = &s->h[i];
		bool existed;
		char some[32];
		int r = make_dir(h, path, &existed);

		if (r < 0)
			return FAIL_OS(-r, "control group %s/%s: create", h->dir, path);
		*out_foreign =
		    existed && !adopt && cgroup_read(h, path, "cgroup.procs", some, sizeof some) > 0;
		if (*out_foreign)
			return FAIL(ERR_CONFLICT, "control group %s/%s has processes in it already", h->dir,
				    path);
		if (h == cgroup_find(s, "cpuset") && !s->v2 && (r = fill_cpuset(h, path, !existed)) < 0)
			return FAIL_OS(-r, "control group %s/%s: copy the parent's cpus and mems", h->dir,
				       path);
	}
	if (s->v2)
		enable_controllers(&s->h[0], path);
	return NULL;
}

/*
 * One "a|b" -> "1|2" pair: the first file that exists takes its value; an empty last alternative: may be
 * absent. v1 keys carry their controller: "memory/memory.limit_in_bytes". Returns >= 0 or -errno; *out_file
 * for messages.
 */
static int write_pair(const struct cgroup_set *s, const char *path, const struct plan_pair *pair,
		      char out_file[128])
{
	struct sv keys = sv_of(pair->key), values = sv_of(pair->value);
	bool last_empty = keys.n && keys.p[keys.n - 1] == '|';
	int r = -ENOENT;

	while (keys.n && r == -ENOENT) {
		struct sv key = sv_cut(&keys, '|'), value = sv_cut(&values, '|'), file = key;
		const struct cgroup_hier *h = &s->h[0];
		char name[64], text[256];

		if (!s->v2) {
			struct sv controller = sv_cut(&file, '/');

			(void)snprintf(name, sizeof name, SV_FMT, SV_ARG(controller));
			if (!(h = cgroup_find(s, name)))
				r = -ENODEV;
		}
		(void)snprintf(out_file, 128, SV_FMT, SV_ARG(file));
		(void)snprintf(text, sizeof text, SV_FMT, SV_ARG(value));
		if (h)
			r = cgroup_write(h, path, out_file, text);
	}
	return r == -ENOENT && last_empty ? 0 : r;
}

#define MEMORY_LIMIT "memory/memory.limit_in_bytes"

static struct err *check_usage(const struct cgroup_set *s, const char *path, int64_t limit)
{
	const struct cgroup_hier *h = cgroup_find(s, "memory");
	char text[32];
	ssize_t n =
	    h ? cgroup_read(h, path, s->v2 ? "memory.current" : "memory.usage_in_bytes", text, sizeof text)
	      : -ENODEV;

	if (n < 0)
		return FAIL_OS((int)-n, "control group %s: read its memory use", path);
	if (limit >= 0 && strtoll(text, NULL, 10) > limit)
		return FAIL(ERR_CONFLICT,
			    "linux.resources.memory.limit: %lld is less than the %lld bytes in use",
			    (long long)limit, strtoll(text, NULL, 10));
	return NULL;
}

/* Why a limit has no file: a controller that is not there, or one that does not know it. */
static struct err *no_control(const struct cgroup_set *s, const char *path, const char *file)
{
	char have[512];
	struct sv rest = sv_of(have), name = sv_of(file);
	struct err *e;

	name = sv_cut(&name, '.');
	if (s->v2 && cgroup_read(&s->h[0], path, "cgroup.controllers", have, sizeof have) >= 0) {
		bool found = sv_is(name, "cgroup");

		for (rest = sv_trim(sv_of(have)); rest.n;)
			found |= sv_eq(sv_cut(&rest, ' '), name);
		if (!found)
			return FAIL(ERR_UNSUPPORTED,
				    "limit %s: the requested cgroup controller `" SV_FMT "` is not available",
				    file, SV_ARG(name));
	}
	e = FAIL_OS(ENOENT, "limit %s: this kernel or control group has no such control", file);
	e->kind = ERR_UNSUPPORTED;
	return e;
}

/*
 * v1: memory cannot be above the sum of memory and swap, which goes first where a limit is raised: the plan's, or none at all
 * when there is to be none for memory.
 */
static int raise_memory(const struct cgroup_set *s, const struct plan *p, const struct plan_pair *pair, const struct plan_pair *next,
			char file[128])
{
	struct plan_pair sum = { "memory/memory.memsw.limit_in_bytes", "-1" };
	int r;

	if (next && strcmp(next->key, sum.key) == 0)
		sum = *next;
	else if (strcmp(pair->value, "-1") != 0)
		return -EINVAL;
	r = write_pair(s, p->cgroup, &sum, file);
	return r < 0 ? r : write_pair(s, p->cgroup, pair, file);
}

static struct err *write_limits(const struct cgroup_set *s, const struct plan *p)
{
	const struct plan_pair *pairs = s->v2 ? p->cgroup_v2.p : p->cgroup_v1.p;
	size_t n = s->v2 ? p->cgroup_v2.n : p->cgroup_v1.n;

	for (size_t i = 0; i < n; i++) {
		char file[128] = "";
		int r;

		if (!pairs[i].value)
			return FAIL(ERR_UNSUPPORTED, "%s: control groups v%d have no such limit",
				    pairs[i].key, s->v2 ? 2 : 1);
		r = write_pair(s, p->cgroup, &pairs[i], file);
		if (r == -EINVAL && strcmp(pairs[i].key, MEMORY_LIMIT) == 0)
			r = raise_memory(s, p, &pairs[i], i + 1 < n ? &pairs[i + 1] : NULL, file);
		if (r == -EINVAL && strcmp(pairs[i].key, MEMORY_LIMIT) == 0)
			return FAIL(ERR_INVALID, "limit memory: %s is above the limit of memory and swap together, or no number",
				    pairs[i].value);
		if (r == -ENOENT || r == -ENODEV || r == -EOPNOTSUPP)
			return no_control(s, p->cgroup, file);
		if (r < 0)
			return FAIL_OS(-r, "limit %s: write \"%s\"", file, pairs[i].value);
	}
	return NULL;
}

/* Files of a v2 group whose owner may manage processes and groups below, one a line: what the kernel says
 * (since 4.15). */
static void delegated_files(char out[4096])
{
	auto_fd int fd = sys_open("/sys/kernel/cgroup/delegate", O_RDONLY, 0);
	ssize_t n = fd < 0 ? fd : sys_read(fd, out, 4095);

	out[n > 0 ? n : 0] = 0;
	if (n <= 0)
		(void)snprintf(out, 4096, "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
}

/* Who is root inside, when it has a writable view of its own group and nothing above it. */
static bool inner_root(const struct plan *p, uid_t *out_uid, gid_t *out_gid)
{
	bool own_ns = false, writable = false, uid = false, gid = false;

	for (size_t i = 0; i < p->ns.n; i++)
		own_ns |= p->ns.p[i].kind == CLONE_NEWCGROUP && !p->ns.p[i].path;
	for (size_t i = 0; i < p->mounts.n; i++)
		writable |= p->mounts.p[i].is_cgroup && !(p->mounts.p[i].attr_set & MOUNT_ATTR_RDONLY);
	for (size_t i = 0; i < p->uid_map.n && !uid; i++)
		if ((uid = p->uid_map.p[i].inside == 0))
			*out_uid = p->uid_map.p[i].outside;
	for (size_t i = 0; i < p->gid_map.n && !gid; i++)
		if ((gid = p->gid_map.p[i].inside == 0))
			*out_gid = p->gid_map.p[i].outside;
	return own_ns && writable && uid && gid;
}

/* config-linux.md#cgroup-ownership: v2 only; on v1 delegating would let it lift its limits. */
static struct err *delegate(const struct cgroup_set *s, const struct plan *p)
{
	const struct cgroup_hier *h = &s->h[0];
	char name[CGROUP_PATH], files[4096];
	uid_t uid = 0;
	gid_t gid = 0;
	int r;

	if (!s->v2 || !inner_root(p, &uid, &gid))
		return NULL;
	r = cgroup_name(h, p->cgroup, "", name);
	if (r >= 0)
		r = sys_fchownat(AT_FDCWD, name, uid, gid, AT_SYMLINK_NOFOLLOW);
	delegated_files(files);
	for (char *file = files, *end; *file && r >= 0; file = end) {
		end = file + strcspn(file, "\n");
		if (*end)
			*end++ = 0;
		if (!*file || strchr(file, '/'))
			continue;
		if ((r = cgroup_name(h, p->cgroup, file, name)) >= 0)
			r = sys_fchownat(AT_FDCWD, name, uid, gid, AT_SYMLINK_NOFOLLOW);
		r = r == -ENOENT ? 0 : r; /* younger than this kernel */
	}
	return r < 0 ? FAIL_OS(-r, "control group %s: give it to user %u", p->cgroup, (unsigned)uid) : NULL;
}

struct joining {
	const struct cgroup_hier *h;
	const char *pid;
};

static int join_below(void *ctx, const char *sub)
{
	const struct joining *j = ctx;

	/* stops at the first success, which the walk takes for an error */
	return cgroup_write(j->h, sub, "cgroup.procs", j->pid) == 0 ? -EALREADY : 0;
}

/* One hierarchy; *out_fd is open afterwards, whatever the result. */
static int join_one(const struct cgroup_set *s, const struct cgroup_hier *h, const char *path,
		    const char *pid, int *out_fd)
{
	ssize_t r;

	*out_fd = open_file(h, path, "cgroup.procs", O_WRONLY);
	r = *out_fd < 0 ? *out_fd : sys_write(*out_fd, pid, strlen(pid));
	/* v2: an init inside made groups of its own, so that only the leaves hold processes */
	if (r == -EBUSY && s->v2 &&
	    cgroup_walk(h, path, join_below, &(struct joining){ h, pid }) == -EALREADY)
		r = 0;
	return r < 0 ? (int)r : 0;
}

struct err *cgroup_enter(const struct cgroup_set *s, const char *path, pid_t pid)
{
	int fds[CGROUP_HIERARCHIES], r = 0;
	char text[24];
	size_t n = 0;

	(void)snprintf(text, sizeof text, "%d", (int)pid);
	while (n < s->n && r >= 0) {
		r = join_one(s, &s->h[n], path, text, &fds[n]);
		n++;
	}
	sys_close_all(fds, n);
	return r < 0 ? FAIL_OS(-r, "control group %s/%s: join", s->h[n - 1].dir, path) : NULL;
}

struct err *cgroup_join(const char *path, pid_t pid)
{
	struct cgroup_set s;

	TRY(cgroup_check_path(path));
	TRY(cgroup_set_find(&s));
	return cgroup_enter(&s, path, pid);
}

int cgroup_fd(const struct cgroup_set *s, const char *path)
{
	char name[CGROUP_PATH];
	int r = s->v2 ? cgroup_name(&s->h[0], path, "", name) : -EOPNOTSUPP;

	return r < 0 ? r : sys_open(name, O_RDONLY | O_DIRECTORY, 0);
}

/* "c 1:3 rwm". With type a v1 ignores the numbers: such a rule is written once for c and once for b. */
static void rule_text(const struct plan_cgroup_rule *r, char type, char out[80])
{
	char major[24] = "*", minor[24] = "*";

	if (r->major >= 0)
		(void)snprintf(major, sizeof major, "%lld", (long long)r->major);
	if (r->minor >= 0)
		(void)snprintf(minor, sizeof minor, "%lld", (long long)r->minor);
	(void)snprintf(out, 80, "%c %s:%s %.3s", type, major, minor, r->access);
}

/* Whether rule i, which allows, stands there before with nothing denied in between (callers add the defaults,
 * and so do we). */
static bool is_repeated(const struct plan *p, size_t i)
{
	const struct plan_cgroup_rule *r = &p->device_rules.p[i];

	for (size_t k = i; r->allow && k-- > 0 && p->device_rules.p[k].allow;) {
		const struct plan_cgroup_rule *q = &p->device_rules.p[k];

		if (q->type == r->type && q->major == r->major && q->minor == r->minor &&
		    strcmp(q->access, r->access) == 0)
			return true;
	}
	return false;
}

static struct err *devices_v1(const struct cgroup_set *s, const struct plan *p)
{
	const struct cgroup_hier *h = cgroup_find(s, "devices");
	auto_fd int allow = -1, deny = -1;

	if (!h)
		return FAIL(ERR_UNSUPPORTED,
			    "linux.resources.devices: the devices controller is not mounted");
	allow = open_file(h, p->cgroup, "devices.allow", O_WRONLY);
	deny = open_file(h, p->cgroup, "devices.deny", O_WRONLY);
	if (allow < 0 || deny < 0)
		return FAIL_OS(allow < 0 ? -allow : -deny, "control group %s/%s: device rules", h->dir,
			       p->cgroup);
	for (size_t i = 0; i < p->device_rules.n; i++) {
		const struct plan_cgroup_rule *r = &p->device_rules.p[i];
		const char *types = device_rule_is_all(r) ? "a"
				    : r->type == 'a'      ? "cb"
				    : r->type == 'c'      ? "c"
							  : "b";

		for (; *types && !is_repeated(p, i); types++) {
			char text[80];
			ssize_t n;

			rule_text(r, *types, text);
			n = sys_write(r->allow ? allow : deny, text, strlen(text));
			if (n < 0)
				return FAIL_OS((int)-n, "linux.resources.devices[%zu]: %s \"%s\"", i,
					       r->allow ? "allow" : "deny", text);
		}
	}
	return NULL;
}

static struct err *devices_v2(const struct cgroup_set *s, const struct plan *p)
{
	auto_free struct device_insn *insns = xcalloc(DEVICE_INSNS, sizeof *insns);
	auto_fd int group = cgroup_fd(s, p->cgroup), program = -1;
	size_t n = device_program(p, insns, DEVICE_INSNS);
	int r;

	if (group < 0)
		return FAIL_OS(-group, "control group %s: open", p->cgroup);
	if (!n)
		return FAIL(ERR_LIMIT, "linux.resources.devices: too many rules");
	program = sys_bpf_prog_load(insns, n, "Apache-2.0");
	if (program < 0)
		return FAIL_OS(-program, "linux.resources.devices: load the device program");
	if ((r = sys_bpf_attach_device(group, program)) < 0)
		return FAIL_OS(-r, "linux.resources.devices: attach the device program");
	return NULL;
}

static struct err *create(const struct cgroup_set *s, const struct plan *p, bool adopt)
{
	struct err *e;
	bool foreign;

	TRY(cgroup_check_path(p->cgroup));
	e = make_dirs(s, p->cgroup, adopt, &foreign);
	if (foreign)
		return e; /* not ours: it stays as it is */
	if (!e)
		e = write_limits(s, p);
	if (!e)
		e = delegate(s, p);
	if (!e && p->device_rules.n)
		e = s->v2 ? devices_v2(s, p) : devices_v1(s, p);
	if (e)
		err_free(runtime_cgroup_remove(p->cgroup));
	return e;
}

struct err *cgroup_create(const struct cgroup_set *s, const struct plan *p)
{
	return create(s, p, false);
}

struct err *cgroup_adopt(const struct cgroup_set *s, const struct plan *p)
{
	return create(s, p, true);
}

struct err *runtime_update(const char *cgroup_path, const json_t *resources)
{
	struct cgroup_set s;
	struct plan p = { .cgroup = cgroup_path };
	struct err *e;

	TRY(cgroup_check_path(cgroup_path));
	TRY(cgroup_set_find(&s));
	arena_init(&p.arena, UPDATE_MAX);
	e = plan_resources(&p, resources);
	if (!e && json_bool_at(resources, "memory.checkBeforeUpdate", false))
		e = check_usage(&s, cgroup_path, json_int_at(resources, "memory.limit", -1));
	if (!e)
		e = write_limits(&s, &p);
	vec_fini(&p.cgroup_v1);
	vec_fini(&p.cgroup_v2);
	vec_fini(&p.device_rules);
	arena_fini(&p.arena);
	return e;
}
