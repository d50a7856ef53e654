/* sources.c - see sources.h. A user namespace for a mapping is born with a process that ends as soon as we
 * hold an fd of it. */
#include "runtime/sources.h"
#include "base/buf.h"
#include "base/own.h"
#include "sys/event.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>

/* <sys/mount.h> collides with <linux/mount.h> in glibc 2.36 */
enum { M_PRIVATE = 1 << 18, M_SLAVE = 1 << 19, M_SHARED = 1 << 20 };

void sources_fini(struct sources *s)
{
	for (size_t i = 0; s->fds && i < s->n; i++)
		own_close(&s->fds[i]);
	own_close(&s->devices);
	own_close(&s->root);
	free(s->fds);
	*s = SOURCES;
}

/* No mapping asked for: every id that we have stands for itself, as crun has it. */
static FALLIBLE own_ids(const char *file, struct buf *b)
{
	char path[64], text[8192];
	auto_fd int fd = -1;
	unsigned inside, outside, count;
	ssize_t n;

	(void)snprintf(path, sizeof path, "/proc/self/%s", file);
	fd = sys_open(path, O_RDONLY, 0);
	n = fd < 0 ? fd : sys_read_full(fd, text, sizeof text - 1);
	if (n < 0)
		return FAIL_OS((int)-n, "read %s", path);
	text[n] = 0;
	for (const char *at = text; sscanf(at, "%u %u %u", &inside, &outside, &count) == 3; at++) {
		buf_fmt(b, "%u %u %u\n", inside, inside, count);
		if (!(at = strchr(at, '\n')))
			break;
	}
	return NULL;
}

static FALLIBLE write_map(pid_t pid, const char *file, struct plan_idset maps)
{
	auto_buf struct buf b = BUF(65536);
	auto_fd int fd = -1;
	char path[64];
	int r;

	for (size_t i = 0; i < maps.n; i++)
		buf_fmt(&b, "%u %u %u\n", maps.p[i].inside, maps.p[i].outside, maps.p[i].count);
	if (!maps.n)
		TRY(own_ids(file, &b));
	TRY(buf_check(&b, file));
	(void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	fd = sys_open(path, O_WRONLY, 0);
	r = fd < 0 ? fd : sys_write_all(fd, b.data, b.n);
	return r < 0 ? FAIL_OS(-r, "write %s of a user namespace", file) : NULL;
}

static FALLIBLE deny_setgroups(pid_t pid)
{
	char path[64];
	auto_fd int fd = -1;
	int r;

	(void)snprintf(path, sizeof path, "/proc/%d/setgroups", (int)pid);
	r = fd = sys_open(path, O_WRONLY, 0);
	if (r >= 0)
		r = sys_write_all(fd, "deny", 4);
	return r < 0 ? FAIL_OS(-r, "write setgroups of a user namespace") : NULL;
}

FALLIBLE sources_write_maps(pid_t pid, struct plan_idset uids, struct plan_idset gids)
{
	struct err *e;

	TRY(write_map(pid, "uid_map", uids));
	e = write_map(pid, "gid_map", gids);
	if (!e || e->os != EPERM)
		return e;
	err_free(
	    e); /* user_namespaces(7): who has no right over groups must give up setgroups(2) for it first */
	TRY(deny_setgroups(pid));
	return write_map(pid, "gid_map", gids);
}

static FALLIBLE map_and_open(pid_t pid, const struct plan_mount *m, int *out_fd)
{
	char path[64];

	TRY(sources_write_maps(pid, m->uids, m->gids));
	(void)snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
	*out_fd = sys_open(path, O_RDONLY, 0);
	return *out_fd < 0 ? FAIL_OS(-*out_fd, "open a user namespace") : NULL;
}

static FALLIBLE user_ns(const struct plan_mount *m, int *out_fd)
{
	auto_fd int pid_fd = -1;
	pid_t pid = sys_clone(CLONE_NEWUSER, -1, &pid_fd);
	struct err *e;
	int status;

	if (pid == 0) {
		(void)sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0);
		for (;;)
			(void)sys_poll(NULL, 0, -1);
	}
	if (pid < 0)
		return FAIL_OS(-pid, "make a user namespace for the mapping of mount %s", m->target);
	e = map_and_open(pid, m, out_fd);
	(void)sys_pidfd_kill(pid_fd, SIGKILL);
	(void)sys_wait(pid, &status, 0);
	return e ? err_ctx(e, "mount %s", m->target) : NULL;
}

static bool same(struct plan_idset a, struct plan_idset b)
{
	return a.n == b.n && memcmp(a.p, b.p, a.n * sizeof *a.p) == 0;
}

/* Nothing may reach the host by this mount unless that was asked for; a slave hears the host, never the
 * reverse. */
static uint64_t cut_off(const struct plan_mount *m)
{
	return m->propagation & M_SHARED ? 0 : m->propagation & M_SLAVE ? M_SLAVE : M_PRIVATE;
}

static FALLIBLE one_option(int fs, const char *option)
{
	const char *value = strchr(option, '=');
	char key[64];
	int r;

	(void)snprintf(key, sizeof key, "%.*s", value ? (int)(value - option) : 63, option);
	r = sys_fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value ? value + 1 : NULL);
	return r < 0 ? FAIL_OS(-r, "mount option %s", plan_option_name(option)) : NULL;
}

static FALLIBLE make_fs(const struct plan_mount *m, int *out_fd)
{
	auto_fd int fs = sys_fsopen(m->type);
	int r;

	if (fs < 0)
		return FAIL_OS(-fs, "unknown file system %s", m->type);
	if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", m->source)) < 0)
		return FAIL_OS(-r, "mount %s", m->source);
	if (m->attr_set & MOUNT_ATTR_RDONLY) /* the device may be read-only itself */
		TRY(one_option(fs, "ro"));
	for (const char **o = m->super; o && *o; o++)
		TRY(one_option(fs, *o));
	for (const char **o = m->data; o && *o; o++)
		TRY(one_option(fs, *o));
	if ((r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL)) < 0 || (r = sys_fsmount(fs, 0)) < 0)
		return FAIL_OS(-r, "mount %s on %s", m->source, m->target);
	*out_fd = r;
	return NULL;
}

static FALLIBLE make_overlay(const struct plan_mount *m, int *out_fd)
{
	int fd = fs_marks_ask();

	if (fd == 0)
		fd = fs_overlay_mount(&(struct fs_overlay){ m->lower, m->n_lower, m->upper, m->work, false, fs_marks_are_user() }, 0);

	if (fd < 0)
		return FAIL_OS(-fd, "mount overlay on %s", m->target);
	*out_fd = fd;
	return NULL;
}

/* SECURITY: found by fd, links resolved as if dir_fd were the root: nothing leads out (CVE-2021-30465). */
static FALLIBLE part_of(int dir_fd, const struct plan_mount *m, int *out_fd)
{
	auto_fd int part = sys_open_in_root(dir_fd, m->subpath, O_PATH, 0);
	int fd = part < 0
		     ? part
		     : sys_open_tree(part, "",
				     OPEN_TREE_CLONE | AT_EMPTY_PATH | (m->recursive ? AT_RECURSIVE : 0));

	if (fd < 0)
		return FAIL_OS(-fd, "mount subpath %s of %s", m->subpath, m->source);
	*out_fd = fd;
	return NULL;
}

static FALLIBLE bind_source(const struct plan_mount *m, int *out_fd)
{
	unsigned flags = OPEN_TREE_CLONE | (m->recursive ? AT_RECURSIVE : 0) |
			 (m->source_nofollow ? AT_SYMLINK_NOFOLLOW : 0);
	int fd = m->subpath ? sys_open(m->source, O_PATH | O_DIRECTORY, 0)
			    : sys_open_tree(AT_FDCWD, m->source, flags);

	if (fd < 0)
		return FAIL_OS(-fd, "bind mount source %s", m->source);
	*out_fd = fd;
	return NULL;
}

/* The whole mount, detached. */
static FALLIBLE make_mount(const struct plan_mount *m, int *out_fd)
{
	auto_fd int whole = -1;

	if (m->n_lower)
		TRY(make_overlay(m, &whole));
	else if (m->type)
		TRY(make_fs(m, &whole));
	else
		TRY(bind_source(m, &whole));
	if (m->subpath)
		return part_of(whole, m, out_fd);
	*out_fd = TAKE_FD(whole);
	return NULL;
}

static FALLIBLE clone_source(const struct plan_mount *m, int ns_fd, int *out_fd)
{
	struct mount_attr lone = { .propagation = cut_off(m) };
	struct mount_attr map = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)(unsigned)ns_fd };
	int r = 0;

	TRY(make_mount(m, out_fd));
	if (lone.propagation && (r = sys_mount_setattr(*out_fd, "", AT_RECURSIVE, &lone)) < 0)
		return FAIL_OS(-r, "cut off mount %s", m->target);
	if (m->idmap && (r = sys_mount_setattr(*out_fd, "", m->idmap_tree ? AT_RECURSIVE : 0, &map)) < 0)
		return r == -EINVAL
			   ? FAIL(ERR_UNSUPPORTED, "mount %s: the file system of %s can't be id-mapped",
				  m->target, m->source)
			   : FAIL_OS(-r, "id-map mount %s", m->target);
	return NULL;
}

static bool has_user_ns(const struct plan *p)
{
	for (size_t i = 0; i < p->ns.n; i++)
		if (p->ns.p[i].kind == CLONE_NEWUSER)
			return true;
	return false;
}

static bool is_link(const char *path)
{
	struct stat st;

	return sys_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

static bool wanted(const struct plan *p, const struct plan_mount *m)
{
	if (m->remount || m->is_cgroup)
		return false;
	if (m->type || m->idmap || m->by_parent)
		return m->idmap || m->by_parent;
	if (m->copy_link && is_link(m->source))
		return false;
	return has_user_ns(p) || m->propagation & (M_SLAVE | M_SHARED);
}

static FALLIBLE open_root(const struct plan *p, struct sources *s)
{
	bool slave = p->root_propagation & M_SLAVE;
	struct mount_attr a = { .propagation = slave ? M_SLAVE : M_PRIVATE };
	int r;

	if (p->n_lower || !(slave || has_user_ns(p)))
		return NULL;
	s->root = sys_open_tree(AT_FDCWD, p->root, OPEN_TREE_CLONE | AT_RECURSIVE);
	if (s->root == -EPERM &&
	    has_user_ns(p)) /* without rights here: the child has them in its namespace */
		return NULL;
	r = s->root < 0 ? s->root : sys_mount_setattr(s->root, "", AT_RECURSIVE, &a);
	return r < 0 ? FAIL_OS(-r, "open root %s", p->root) : NULL;
}

/* What an id of the container is to us; no maps: itself. */
static uint32_t outside(const struct plan_idmap *maps, size_t n, uint32_t id)
{
	for (size_t i = 0; i < n; i++)
		if (id >= maps[i].inside && id - maps[i].inside < maps[i].count)
			return maps[i].outside + (id - maps[i].inside);
	return n ? UINT32_MAX : id;
}

static int make_node(const struct plan *p, int dir, const struct plan_device *d, size_t i)
{
	char name[24];
	int r;

	(void)snprintf(name, sizeof name, "%zu", i);
	if ((r = sys_mknod(dir, name, d->mode, makedev(d->major, d->minor))) < 0)
		return r;
	r = sys_chmodat(dir, name, d->mode & 07777); /* mknod took the umask off */
	if (r < 0)
		return r;
	return sys_fchownat(dir, name, outside(p->uid_map.p, p->uid_map.n, d->uid),
			    outside(p->gid_map.p, p->gid_map.n, d->gid), AT_SYMLINK_NOFOLLOW);
}

/* In a file system of our own that nobody else sees. Where we may not either, the child binds what the host
 * has. */
static FALLIBLE make_devices(const struct plan *p, struct sources *s)
{
	auto_fd int fs = -1;
	int r;

	if (!p->devices.n || !has_user_ns(p))
		return NULL;
	fs = sys_fsopen("tmpfs");
	r = fs < 0 ? fs : sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
	if (r >= 0)
		r = s->devices = sys_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	if (r < 0)
		return r == -EPERM ? NULL : FAIL_OS(-r, "make a file system for devices");
	for (size_t i = 0; i < p->devices.n; i++) {
		r = make_node(p, s->devices, &p->devices.p[i], i);
		if (r < 0 && r != -EPERM)
			return FAIL_OS(-r, "make device %s", p->devices.p[i].path);
	}
	return NULL;
}

/* The same for a plain bind mount. */
static FALLIBLE left_to_child(const struct plan *p, const struct plan_mount *m, struct err *e)
{
	if (!e || e->os != EPERM || m->type || m->idmap || !has_user_ns(p))
		return e;
	err_free(e);
	return NULL;
}

FALLIBLE sources_open(const struct plan *p, struct sources *s)
{
	auto_fd int ns_fd = -1; /* of the mapping that came last: mostly all mounts have the same */
	const struct plan_mount *mapped = NULL;

	TRY(open_root(p, s));
	TRY(make_devices(p, s));
	for (size_t i = 0; i < p->mounts.n; i++) {
		const struct plan_mount *m = &p->mounts.p[i];

		if (!wanted(p, m))
			continue;
		if (!s->fds) {
			s->fds = xmalloc(p->mounts.n * sizeof *s->fds);
			s->n = p->mounts.n;
			memset(s->fds, 0xff, s->n * sizeof *s->fds);
		}
		if (m->idmap && !(mapped && same(mapped->uids, m->uids) && same(mapped->gids, m->gids))) {
			own_close(&ns_fd);
			ns_fd = -1;
			TRY(user_ns(m, &ns_fd));
			mapped = m;
		}
		if (!m->type || m->by_parent)
			TRY(left_to_child(p, m, clone_source(m, ns_fd, &s->fds[i])));
		else if ((s->fds[i] = sys_dup(ns_fd)) < 0)
			return FAIL_OS(-s->fds[i], "mount %s", m->target);
	}
	return NULL;
}
