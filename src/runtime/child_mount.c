/*
 * child_mount.c - the plan's mounts: each is made or cloned detached, gets its attributes, and is then placed
 * on an fd of its target. No path of the container is resolved by string; what the parent opened for us
 * (sources.h) is placed the same way.
 */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/sched.h>

/* <sys/mount.h> and <linux/mount.h> collide in glibc 2.36 */
enum { M_REC = 1 << 14 };
enum { FSCONFIG_TEXT_MAX = 256 };

static bool has_ns(const struct child *c, int kind, bool only_new)
{
	for (size_t i = 0; i < c->p->ns.n; i++)
		if (c->p->ns.p[i].kind == kind)
			return !only_new || !c->p->ns.p[i].path;
	return false;
}

/* A mount on the container's root itself. */
static bool is_root(const struct plan_mount *m)
{
	return !m->target[strspn(m->target, "/.")] && !strstr(m->target, "..");
}

/* ---- attributes ---- */

static struct mount_attr attr_of(uint64_t set, uint64_t clear)
{
	struct mount_attr a = { .attr_set = set, .attr_clr = clear };

	if (a.attr_set & MOUNT_ATTR__ATIME)
		a.attr_clr |= MOUNT_ATTR__ATIME;
	a.attr_clr &= ~(a.attr_set & ~(uint64_t)MOUNT_ATTR__ATIME);
	return a;
}

static void set_attr(const struct child *c, int fd, const struct plan_mount *m)
{
	struct mount_attr top = attr_of(m->attr_set, m->attr_clear);

	if (top.attr_set | top.attr_clr)
		child_need(c, sys_mount_setattr(fd, "", 0, &top), "set options of mount", m->target);
}

static void set_tree_attr(const struct child *c, int fd, const struct plan_mount *m)
{
	struct mount_attr tree = attr_of(m->rec_set, m->rec_clear);

	if (tree.attr_set | tree.attr_clr)
		child_need(c, sys_mount_setattr(fd, "", AT_RECURSIVE, &tree), "set options of mount",
			   m->target);
}

static void propagate(const struct child *c, int fd, const struct plan_mount *m)
{
	struct mount_attr a = { .propagation = m->propagation & ~(uint64_t)M_REC };

	if (a.propagation)
		child_need(c, sys_mount_setattr(fd, "", m->propagation & M_REC ? AT_RECURSIVE : 0, &a),
			   "set propagation of mount", m->target);
}

/* ---- new file systems ---- */

/* fsconfig takes values of at most 255 bytes; a list of layers is often longer and has a key for one at a
 * time since 6.5. */
static int long_lowerdir(int fs, const char *list)
{
	char one[FSCONFIG_TEXT_MAX];

	while (*list) {
		size_t n = strcspn(list, ":");
		int r;

		if (n >= sizeof one)
			return -ENAMETOOLONG;
		memcpy(one, list, n);
		one[n] = 0;
		if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", one)) < 0)
			return r;
		list += n + (list[n] == ':');
	}
	return 0;
}

static int set_data(int fs, const char *option)
{
	char key[64];
	const char *value = strchr(option, '=');

	child_cat(key, sizeof key, option, NULL, NULL);
	if (value && (size_t)(value - option) < sizeof key)
		key[value - option] = 0;
	if (!value)
		return sys_fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL);
	if (strcmp(key, "lowerdir") == 0 && strlen(value + 1) >= FSCONFIG_TEXT_MAX)
		return long_lowerdir(fs, value + 1);
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, value + 1);
}

static void octal(mode_t mode, char out[8])
{
	char *at = out;

	for (int shift = 9; shift >= 0; shift -= 3)
		*at++ = (char)('0' + (mode >> shift & 7));
	*at = 0;
}

static bool takes_mode(const struct plan_mount *m)
{
	for (const char **o = m->data; o && *o; o++)
		if (strncmp(*o, "mode=", 5) == 0)
			return false;
	return m->type && strcmp(m->type, "tmpfs") == 0;
}

/*
 * A tmpfs without a mode of its own takes that of the directory it covers, as for crun and runc. One that was made for it
 * has the kernel's default, which is also what the next start finds.
 */
static int inherit_mode(const struct child *c, int fs, const struct plan_mount *m)
{
	const char *path = m->target + strspn(m->target, "/");
	child_fd int at = -1;
	struct stat st;
	char mode[8];

	if (!takes_mode(m))
		return 0;
	at = sys_open_in_root(c->root_fd, *path ? path : ".", O_PATH | O_DIRECTORY, 0);
	if (at < 0 || sys_fstat(at, &st) < 0)
		return 0;
	octal(st.st_mode & 07777, mode);
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", mode);
}

/* SELinux knows files of proc and sysfs by their paths, those of mqueue by nothing that a mount can say. */
static bool takes_label(const struct child *c, const struct plan_mount *m)
{
	static const char *const without[] = { "proc", "sysfs", "mqueue", "cgroup", "cgroup2" };

	for (size_t i = 0; i < LEN(without); i++)
		if (strcmp(m->type, without[i]) == 0)
			return false;
	for (const char **o = m->data; o && *o; o++)
		if (strstr(*o, "context="))
			return false;
	return c->has_selinux && c->p->mount_label;
}

/* Owned mount fd, or the -errno of the kernel's refusal to make it. */
static int new_fs(const struct child *c, const struct plan_mount *m)
{
	child_fd int fs = sys_fsopen(m->type);
	const uint64_t tree = m->copy_up ? 0 : m->attr_set;
	int r;

	if (fs < 0 && fs != -EPERM)
		child_fail(c, -fs, "unknown file system", m->type);
	if (fs < 0)
		return fs;
	if (m->source)
		(void)sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", m->source);
	if (m->source && m->source[0] == '/' &&
	    m->attr_set & MOUNT_ATTR_RDONLY) /* a device that may be read-only itself */
		child_need(c, sys_fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL), "mount option", "ro");
	for (const char **o = m->super; o && *o; o++)
		child_need(c, sys_fsconfig(fs, FSCONFIG_SET_FLAG, *o, NULL), "mount option", *o);
	for (const char **o = m->data; o && *o; o++)
		child_need(c, set_data(fs, *o), "mount option", plan_option_name(*o));
	if (takes_label(c, m))
		child_need(c, sys_fsconfig(fs, FSCONFIG_SET_STRING, c->p->mount_context, c->p->mount_label),
			   "label mount (linux.mountLabel)", m->target);
	child_need(c, inherit_mode(c, fs, m), "mount", m->target);
	if ((r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL)) < 0)
		return r;
	return child_need(c, sys_fsmount(fs, (unsigned)tree), "mount", m->target);
}

/* sysfs belongs to a network namespace; with the host's one our user namespace may only show what is mounted
 * already. */
static int host_sysfs(const struct child *c, const struct plan_mount *m)
{
	struct mount_attr a =
	    attr_of(m->attr_set | MOUNT_ATTR_RDONLY, m->attr_clear & ~(uint64_t)MOUNT_ATTR_RDONLY);
	int fd =
	    child_need(c, sys_open_tree(AT_FDCWD, "/sys", OPEN_TREE_CLONE | AT_RECURSIVE), "bind", "/sys");

	child_need(c, sys_mount_setattr(fd, "", AT_RECURSIVE, &a), "set options of mount", m->target);
	return fd;
}

static int make_fs(const struct child *c, const struct plan_mount *m, int user_ns)
{
	struct mount_attr map = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)(unsigned)user_ns };
	int fd = new_fs(c, m);

	if (fd == -EPERM && strcmp(m->type, "sysfs") == 0 && has_ns(c, CLONE_NEWUSER, false) &&
	    !has_ns(c, CLONE_NEWNET, true) && c->net_fd < 0)
		return host_sysfs(c, m);
	child_need(c, fd, "mount", m->target);
	if (m->idmap)
		child_need(c, sys_mount_setattr(fd, "", 0, &map), "id-map mount", m->target);
	return fd;
}

/* ---- the short way: mount(2) ---- */

static const struct {
	uint64_t attr;
	unsigned long flag;
} classic_flags[] = { { MOUNT_ATTR_NOSUID, 1 << 1 },      { MOUNT_ATTR_NODEV, 1 << 2 },
		      { MOUNT_ATTR_NOEXEC, 1 << 3 },      { 0x00200000 /* nosymfollow */, 1 << 8 },
		      { MOUNT_ATTR_NOATIME, 1 << 10 },    { MOUNT_ATTR_NODIRATIME, 1 << 11 },
		      { MOUNT_ATTR_STRICTATIME, 1 << 24 } };

/* "a,b=c" of a mount's data; false when it cannot be said so. */
static bool classic_data(const struct plan_mount *m, char out[4096])
{
	bool has_mode = strcmp(m->type, "tmpfs") != 0;
	size_t n = 0;

	out[0] = 0;
	for (const char **o = m->data; o && *o; o++) {
		has_mode = has_mode || strncmp(*o, "mode=", 5) == 0;
		if (strchr(*o, ',') || n + strlen(*o) + 2 > 4096)
			return false;
		child_cat(out + n, 4096 - n, n ? "," : "", *o, NULL);
		n += strlen(out + n);
	}
	return has_mode; /* see inherit_mode */
}

/*
 * One call instead of the six to ten of fsopen … move_mount, for what it can say. Not "ro", which would be the file system's and
 * not the mount's: a sysfs is shared by all containers of a network namespace. false: not done, the long way does it or tells
 * exactly what the kernel did not like.
 */
static bool classic_mount(const struct plan_mount *m, int at)
{
	char data[4096], path[40];
	unsigned long flags = 0;
	uint64_t rest = m->attr_set;

	if (m->copy_up || m->idmap || m->target_nofollow || m->propagation || m->rec_set || m->rec_clear ||
	    (m->super && m->super[0]) || !m->source || m->source[0] == '/' || !classic_data(m, data))
		return false;
	for (size_t i = 0; i < LEN(classic_flags); i++)
		if (rest & classic_flags[i].attr) {
			flags |= classic_flags[i].flag;
			rest &= ~classic_flags[i].attr;
		}
	if (rest)
		return false;
	child_fd_path(at, path);
	return sys_mount(m->source, path, m->type, flags, data[0] ? data : NULL) == 0;
}

/* ---- one mount ---- */

/* copy-symlink: a source that is a link is made again instead of being followed. */
static bool copy_link(const struct child *c, const struct plan_mount *m)
{
	char text[PATH_MAX], there[PATH_MAX], dir[PATH_MAX];
	const char *name = strrchr(m->target, '/');
	child_fd int parent = -1;
	int r = (int)sys_readlink(AT_FDCWD, m->source, text, sizeof text);

	if (r == -EINVAL)
		return false;
	child_need(c, r, "read link", m->source);
	child_cat(dir, sizeof dir, m->target, NULL, NULL);
	dir[name ? (size_t)(name - m->target) : 0] = 0;
	parent = child_target(c, dir, TARGET_DIR);
	name = name ? name + 1 : m->target;
	r = sys_symlink(text, parent, name);
	if (r == -EEXIST && sys_readlink(parent, name, there, sizeof there) >= 0 && strcmp(there, text) == 0)
		return true;
	child_need(c, r, "make link", m->target);
	return true;
}

static void remount(const struct child *c, const struct plan_mount *m)
{
	child_fd int at = child_target(c, m->target, TARGET_DIR), fs = -1;

	set_attr(c, at, m);
	set_tree_attr(c, at, m);
	propagate(c, at, m);
	if (!m->type || !((m->super && m->super[0]) || (m->data && m->data[0])))
		return;
	fs = child_need(c, sys_fspick(at), "remount", m->target);
	for (const char **o = m->super; *o; o++)
		child_need(c, sys_fsconfig(fs, FSCONFIG_SET_FLAG, *o, NULL), "mount option", *o);
	for (const char **o = m->data; *o; o++)
		child_need(c, set_data(fs, *o), "mount option", *o);
	child_need(c, sys_fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL), "remount", m->target);
}

static int open_target(const struct child *c, const struct plan_mount *m, bool is_dir)
{
	bool is_ours = m->type && (strcmp(m->type, "proc") == 0 || strcmp(m->type, "sysfs") == 0);
	int at = child_target(c, m->target,
			      (is_dir ? TARGET_DIR : 0) | (is_ours ? TARGET_NO_LINKS : 0) | (takes_mode(m) ? TARGET_OPEN : 0) |
				  (m->target_nofollow ? TARGET_NOFOLLOW : 0));
	struct stat st;

	if (!m->target_nofollow)
		return at;
	/* SECURITY: /proc/self and its like decide whose files others see */
	child_need(c, sys_fstat(at, &st), "look at mount point", m->target);
	if (S_ISLNK(st.st_mode) && sys_fd_magic(at) == PROC_SUPER_MAGIC)
		child_fail(c, EPERM, "mount over a link of procfs:", m->target);
	return at;
}

/* The next mounts and the devices are made in there. A failure to open it shows there. */
static void note_dev(struct child *c, const struct plan_mount *m)
{
	if (strcmp(m->type, "tmpfs") == 0 && strcmp(m->target, "/dev") == 0)
		c->dev_fd = sys_open_beneath(c->root_fd, "dev", O_PATH | O_DIRECTORY, 0);
}

static void place(const struct child *c, const struct plan_mount *m, int fd, int at, bool is_dir)
{
	int r = sys_move_mount(fd, at, "");
	struct stat st;

	if (r == -EINVAL && sys_fstat(at, &st) == 0 && S_ISDIR(st.st_mode) != is_dir)
		child_fail(c, is_dir ? ENOTDIR : EISDIR, is_dir ? "mount a directory on the file" : "mount a file on the directory",
			   m->target);
	child_need(c, r, "mount on", m->target);
}

/* given: what the parent opened (borrowed), or -1. */
static void one_mount(struct child *c, const struct plan_mount *m, int given)
{
	unsigned flags = OPEN_TREE_CLONE | (m->recursive ? AT_RECURSIVE : 0) |
			 (m->source_nofollow ? AT_SYMLINK_NOFOLLOW : 0);
	child_fd int fd = -1, at = -1;
	struct stat st = { .st_mode = S_IFDIR };

	if (m->type && !m->by_parent && given < 0 && !c->is_late && !is_root(m)) {
		at = open_target(c, m, true);
		if (!takes_label(c, m) && classic_mount(m, at)) {
			note_dev(c, m);
			return;
		}
	}
	if (m->type && !m->by_parent) {
		fd = make_fs(c, m, given);
	} else {
		fd = child_need(c, given >= 0 ? sys_dup(given) : sys_open_tree(AT_FDCWD, m->source, flags),
				"bind mount source", m->source);
		child_need(c, sys_fstat(fd, &st), "look at", m->source);
	}
	if (at < 0)
		at = open_target(c, m, S_ISDIR(st.st_mode));
	if (m->copy_up)
		child_need(c, child_copy_tree(at, fd), "copy into the tmpfs at", m->target);
	if (!m->type || m->by_parent || m->copy_up)
		set_attr(c, fd, m);
	set_tree_attr(c, fd, m);
	place(c, m, fd, at, S_ISDIR(st.st_mode));
	propagate(c, fd, m);
	if (strcmp(m->target, "/dev") == 0)
		c->dev_fd = -1; /* it is below this one */
	if (is_root(m)) { /* what follows is in it */
		c->dev_fd = -1;
		own_close(&c->root_fd);
		c->root_fd = TAKE_FD(fd);
	}
}

/* ---- control groups ---- */

/* cpu -> cpu,cpuacct, as everywhere. */
static void controller_links(const struct child *c, int dir_fd, const char *name)
{
	char one[64];

	if (!strchr(name, ','))
		return;
	for (const char *s = name; *s;) {
		size_t n = strcspn(s, ",");

		child_cat(one, sizeof one, s, NULL, NULL);
		if (n < sizeof one)
			one[n] = 0;
		child_need(c, sys_symlink(name, dir_fd, one), "make link to control groups", one);
		s += n + (s[n] == ',');
	}
}

/* The container's own group of one hierarchy, on a new directory of the tmpfs, which nobody else has reached yet. */
static void cgroup_bind(const struct child *c, const struct plan_mount *m, const struct cgroup_hier *h, int dir_fd)
{
	char source[CGROUP_PATH];
	child_fd int fd = -1;

	child_need(c, cgroup_name(h, c->p->cgroup, "", source), "find control group", c->p->cgroup);
	fd = child_need(c, sys_open_tree(AT_FDCWD, source, OPEN_TREE_CLONE), "bind mount source", source);
	child_need(c, sys_mkdir(dir_fd, h->name, 0755), "make mount point", h->name);
	child_need(c, sys_move_mount(fd, dir_fd, h->name), "mount on", h->name);
	propagate(c, fd, m);
	controller_links(c, dir_fd, h->name);
}

/* v1: a tmpfs with one directory per hierarchy. What the mount wants is set on all of them at once, at the end. */
static void cgroup_v1(struct child *c, const struct plan_mount *m)
{
	static const char *data[] = { "mode=755", NULL };
	struct plan_mount tmpfs = *m;
	struct mount_attr attr = attr_of(m->attr_set, m->attr_clear);
	child_fd int top = -1;

	tmpfs.type = "tmpfs";
	tmpfs.source = "tmpfs";
	tmpfs.data = data;
	tmpfs.attr_set = tmpfs.rec_set = 0;
	one_mount(c, &tmpfs, -1);
	top = child_target(c, m->target, TARGET_DIR);
	for (size_t i = 0; i < c->groups->n; i++)
		cgroup_bind(c, m, &c->groups->h[i], top);
	if (attr.attr_set | attr.attr_clr)
		child_need(c, sys_mount_setattr(top, "", AT_RECURSIVE, &attr), "set options of mount", m->target);
	set_tree_attr(c, top, m);
}

/* v2: the hierarchy as the namespace shows it; the host's one needs no rights of a new mount. */
static void cgroup_v2(struct child *c, const struct plan_mount *m)
{
	bool own_ns = has_ns(c, CLONE_NEWCGROUP, false);
	struct plan_mount one = *m;

	one.type = own_ns ? "cgroup2" : NULL;
	one.source = own_ns ? "cgroup" : "/sys/fs/cgroup";
	one.data = own_ns ? m->data : NULL; /* a bind has none */
	one_mount(c, &one, -1);
}

/* Without a control group of its own the container sees those that it is in. */
static void cgroup_host(struct child *c, const struct plan_mount *m)
{
	struct plan_mount one = *m;

	one.type = NULL;
	one.source = CGROUP_ROOT;
	one.data = NULL;
	one.recursive = true;
	one.rec_set |= m->attr_set;
	one_mount(c, &one, -1);
}

void child_mounts(struct child *c)
{
	for (size_t i = 0; i < c->p->mounts.n; i++) {
		const struct plan_mount *m = &c->p->mounts.p[i];

		if (m->remount)
			remount(c, m);
		else if (m->is_cgroup && !c->p->cgroup)
			cgroup_host(c, m);
		else if (m->is_cgroup && c->groups->v2)
			cgroup_v2(c, m);
		else if (m->is_cgroup)
			cgroup_v1(c, m);
		else if (!m->copy_link || !copy_link(c, m))
			one_mount(c, m, c->mount_fds ? c->mount_fds[i] : -1);
	}
}
