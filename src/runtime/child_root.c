/*
 * child_root.c - the root file system as the plan wants it. No path of the container is resolved by string: targets are
 * found by openat2 below the new root and mounts placed by fd, so nothing inside can redirect them.
 */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/sysmacros.h>

/* <sys/mount.h> and <linux/mount.h> collide in glibc 2.36 */
enum { M_REC = 1 << 14, M_PRIVATE = 1 << 18, M_SLAVE = 1 << 19, M_SHARED = 1 << 20, M_DETACH = 2 };

/* One component after the other, links resolved as inside; returns an O_PATH fd of the last directory. */
static int walk_or_make(int root_fd, const char *path, mode_t mode)
{
	auto_fd int at = sys_open_in_root(root_fd, ".", O_PATH | O_DIRECTORY, 0);
	char prefix[4096];
	size_t n = 0;

	while (at >= 0) {
		char name[256];
		size_t len;
		int next;

		path += strspn(path, "/");
		if (!*path)
			break;
		len = strcspn(path, "/");
		if (len >= sizeof name || n + len + 2 > sizeof prefix)
			return -ENAMETOOLONG;
		memcpy(name, path, len);
		name[len] = 0;
		memcpy(prefix + n, path, len);
		n += len;
		prefix[n] = 0;
		prefix[n++] = '/';
		prefix[n] = 0;
		next = sys_open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, 0);
		if (next == -ENOENT) {
			int r = sys_mkdir(at, name, mode);

			if (r < 0 && r != -EEXIST)
				return r;
			next = sys_open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, 0);
		}
		own_close(&at);
		at = next;
		path += len;
	}
	return TAKE_FD(at);
}

int child_mkdirs(int root_fd, const char *path)
{
	auto_fd int fd = walk_or_make(root_fd, path, 0755);

	return fd < 0 ? fd : 0;
}

static int make_file(int root_fd, const char *path)
{
	char dir[4096];
	const char *slash = strrchr(path, '/');
	auto_fd int parent = -1, made = -1;

	child_cat(dir, sizeof dir, path, NULL, NULL);
	dir[slash ? (size_t)(slash - path) : 0] = 0;
	if ((parent = walk_or_make(root_fd, dir, 0755)) < 0)
		return parent;
	made = sys_openat(parent, slash ? slash + 1 : path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0755);
	return made == -EEXIST ? 0 : made < 0 ? made : 0;
}

int child_target(const struct child *c, const char *path, bool is_dir, bool no_links)
{
	int fd;

	path += strspn(path, "/");
	if (!*path)
		path = ".";
	/* SECURITY: /proc and /sys must be directories of the image, never links to elsewhere (CVE-2019-19921) */
	fd = no_links ? sys_open_beneath(c->root_fd, path, O_PATH, 0) : sys_open_in_root(c->root_fd, path, O_PATH, 0);
	if (fd == -ENOENT) {
		int r = is_dir ? child_mkdirs(c->root_fd, path) : make_file(c->root_fd, path);

		child_need(c, r, "make mount point", path);
		fd = no_links ? sys_open_beneath(c->root_fd, path, O_PATH, 0) :
				sys_open_in_root(c->root_fd, path, O_PATH, 0);
	}
	return child_need(c, fd, "open mount point", path);
}

/* ---- root ---- */

/* mount(2) with everything in one string of at most a page, for kernels before 6.5. */
static void overlay_old(const struct child *c)
{
	static char data[4096];
	const struct plan *p = c->p;
	size_t n = 0;

	for (size_t i = 0; i < p->n_lower; i++) {
		child_cat(data + n, sizeof data - n, i ? ":" : "lowerdir=", p->lower[i], NULL);
		n += strlen(data + n);
	}
	if (p->upper) {
		child_cat(data + n, sizeof data - n, ",upperdir=", p->upper, ",workdir=");
		n += strlen(data + n);
		child_cat(data + n, sizeof data - n, p->work, p->is_volatile ? ",volatile" : "", NULL);
		n += strlen(data + n);
	}
	if (n >= sizeof data - 1)
		child_fail(c, E2BIG, "this kernel can't stack so many layers (6.5 can)", NULL);
	child_need(c, sys_mount("overlay", p->root, "overlay", 0, data), "mount overlay on", p->root);
}

static void place_root(struct child *c)
{
	const struct plan *p = c->p;
	bool overlay = p->n_lower > 1 || p->upper;
	auto_fd int fd = -1, at = -1;

	if (overlay)
		fd = fs_overlay_mount(&(struct fs_overlay){ p->lower, p->n_lower, p->upper, p->work, p->is_volatile }, 0);
	if (overlay && fd == -ENOSYS) {
		overlay_old(c);
	} else {
		if (overlay)
			child_need(c, fd, "mount overlay on", p->root);
		else
			fd = child_need(c,
					sys_open_tree(AT_FDCWD, p->root, OPEN_TREE_CLONE | (p->n_lower ? 0 : AT_RECURSIVE)),
					"open root", p->root);
		at = child_need(c, sys_open(p->root, O_PATH | O_DIRECTORY, 0), "open root", p->root);
		child_need(c, sys_move_mount(fd, at, ""), "mount root", p->root);
	}
	c->root_fd = child_need(c, sys_open(p->root, O_PATH | O_DIRECTORY, 0), "open root", p->root);
}

void child_rootfs(struct child *c)
{
	const struct plan *p = c->p;
	bool linked = p->root_propagation & (M_SLAVE | M_SHARED);

	for (size_t i = 0; i < p->mounts.n; i++)
		linked |= (p->mounts.p[i].propagation & (M_SLAVE | M_SHARED)) != 0;
	/* nothing of ours reaches the host; what the host mounts later reaches us only when a mount asks for it */
	child_need(c, sys_mount(NULL, "/", NULL, M_REC | (linked ? M_SLAVE : M_PRIVATE), NULL), "make mounts private", NULL);
	place_root(c);
}

/* ---- mounts ---- */

static void set_attr(const struct child *c, int fd, const struct plan_mount *m)
{
	struct mount_attr top = { .attr_set = m->attr_set, .attr_clr = m->attr_clear };
	struct mount_attr rec = { .attr_set = m->rec_set, .attr_clr = m->rec_clear };

	if (top.attr_set & MOUNT_ATTR__ATIME)
		top.attr_clr |= MOUNT_ATTR__ATIME;
	top.attr_clr &= ~(top.attr_set & ~(uint64_t)MOUNT_ATTR__ATIME);
	if (top.attr_set | top.attr_clr)
		child_need(c, sys_mount_setattr(fd, "", 0, &top), "set options of mount", m->target);
	if (rec.attr_set | rec.attr_clr)
		child_need(c, sys_mount_setattr(fd, "", AT_RECURSIVE, &rec), "set options of mount", m->target);
}

static void propagate(const struct child *c, int fd, const struct plan_mount *m)
{
	struct mount_attr a = { .propagation = m->propagation & ~(uint64_t)M_REC };

	if (a.propagation)
		child_need(c, sys_mount_setattr(fd, "", m->propagation & M_REC ? AT_RECURSIVE : 0, &a),
			   "set propagation of mount", m->target);
}

static int new_fs(const struct child *c, const struct plan_mount *m)
{
	auto_fd int fs = child_need(c, sys_fsopen(m->type), "unknown file system", m->type);
	const uint64_t now = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
			     MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;

	if (m->source)
		(void)sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", m->source);
	for (const char **o = m->data; o && *o; o++) {
		char key[64];
		const char *value = strchr(*o, '=');

		child_cat(key, sizeof key, *o, NULL, NULL);
		if (value && (size_t)(value - *o) < sizeof key)
			key[value - *o] = 0;
		child_need(c,
			   sys_fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value ? value + 1 : NULL),
			   "mount option", *o);
	}
	child_need(c, sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL), "mount", m->target);
	return child_need(c, sys_fsmount(fs, (unsigned)(m->copy_up ? 0 : m->attr_set & now)), "mount", m->target);
}

static void one_mount(struct child *c, const struct plan_mount *m)
{
	auto_fd int fd = -1, at = -1;
	struct stat st;
	bool is_dir = true;

	if (!m->type) {
		fd = child_need(c,
				sys_open_tree(AT_FDCWD, m->source, OPEN_TREE_CLONE | (m->recursive ? AT_RECURSIVE : 0)),
				"bind mount source", m->source);
		child_need(c, sys_fstat(fd, &st), "look at", m->source);
		is_dir = S_ISDIR(st.st_mode);
	} else {
		fd = new_fs(c, m);
	}
	at = child_target(c, m->target, is_dir, m->type && (!strcmp(m->type, "proc") || !strcmp(m->type, "sysfs")));
	if (m->copy_up)
		child_need(c, child_copy_tree(at, fd), "copy into the tmpfs at", m->target);
	if (!m->type || m->copy_up)
		set_attr(c, fd, m);
	child_need(c, sys_move_mount(fd, at, ""), "mount on", m->target);
	propagate(c, fd, m);
}

/* v1: a tmpfs with one directory per hierarchy, each the container's own; v2: the hierarchy as the namespace shows it. */
static void cgroup_mount(struct child *c, const struct plan_mount *m)
{
	static const char *data[] = { "mode=755", NULL };
	struct plan_mount tmpfs = *m, bind = *m;
	char target[576], source[CGROUP_PATH];

	if (c->groups->v2) {
		bool own_ns = false;

		for (size_t i = 0; i < c->p->ns.n; i++)
			own_ns |= c->p->ns.p[i].kind == CLONE_NEWCGROUP;
		bind.type = own_ns ? "cgroup2" : NULL;
		bind.source = own_ns ? "cgroup" : "/sys/fs/cgroup";
		bind.data = NULL;
		one_mount(c, &bind);
		return;
	}
	tmpfs.type = "tmpfs";
	tmpfs.source = "tmpfs";
	tmpfs.data = data;
	tmpfs.attr_set &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	one_mount(c, &tmpfs);
	for (size_t i = 0; i < c->groups->n; i++) {
		child_cat(target, sizeof target, m->target, "/", c->groups->h[i].name);
		child_need(c, cgroup_name(&c->groups->h[i], c->p->cgroup, "", source), "find control group", c->p->cgroup);
		bind.type = NULL;
		bind.source = source;
		bind.target = target;
		one_mount(c, &bind);
	}
	if (m->attr_set & MOUNT_ATTR_RDONLY) {
		struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
		auto_fd int fd = child_target(c, m->target, true, false);

		child_need(c, sys_mount_setattr(fd, "", 0, &ro), "set options of mount", m->target);
	}
}

void child_mounts(struct child *c)
{
	for (size_t i = 0; i < c->p->mounts.n; i++) {
		const struct plan_mount *m = &c->p->mounts.p[i];

		if (m->is_cgroup)
			cgroup_mount(c, m);
		else
			one_mount(c, m);
	}
}

/* ---- masks ---- */

/* Files are covered by the host's null device, directories by one empty read-only tmpfs for all. */
static void mask(const struct child *c, const char *path, int null_fd, int *tmpfs)
{
	auto_fd int at = sys_open_in_root(c->root_fd, path + strspn(path, "/"), O_PATH, 0), fd = -1;
	struct stat st;

	if (at == -ENOENT || at == -ENOTDIR || at == -EACCES)
		return;
	child_need(c, at, "mask", path);
	child_need(c, sys_fstat(at, &st), "mask", path);
	if (S_ISDIR(st.st_mode) && *tmpfs < 0) {
		auto_fd int fs = child_need(c, sys_fsopen("tmpfs"), "open file system", "tmpfs");

		child_need(c, sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "755"), "mask", path);
		child_need(c, sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL), "mask", path);
		*tmpfs = child_need(c, sys_fsmount(fs, MOUNT_ATTR_RDONLY), "mask", path);
		child_need(c, sys_move_mount(*tmpfs, at, ""), "mask", path);
		return;
	}
	fd = child_need(c, sys_open_tree(S_ISDIR(st.st_mode) ? *tmpfs : null_fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH), "mask",
			path);
	child_need(c, sys_move_mount(fd, at, ""), "mask", path);
}

static void make_readonly(const struct child *c, const char *path)
{
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	auto_fd int at = sys_open_in_root(c->root_fd, path + strspn(path, "/"), O_PATH, 0), fd = -1;

	if (at == -ENOENT || at == -ENOTDIR)
		return;
	child_need(c, at, "make read-only", path);
	fd = child_need(c, sys_open_tree(at, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE), "make read-only", path);
	child_need(c, sys_mount_setattr(fd, "", AT_RECURSIVE, &ro), "make read-only", path);
	child_need(c, sys_move_mount(fd, at, ""), "make read-only", path);
}

void child_masks(struct child *c)
{
	auto_fd int null_fd = -1, tmpfs = -1;
	const struct plan *p = c->p;
	struct stat st;

	for (const char **s = p->readonly; s && *s; s++)
		make_readonly(c, *s);
	if (!p->masked || !p->masked[0])
		return;
	null_fd = child_need(c, sys_open("/dev/null", O_PATH, 0), "open", "/dev/null");
	child_need(c, sys_fstat(null_fd, &st), "look at", "/dev/null");
	/* SECURITY: a mask is the null device itself, not what some file of that name is (CVE-2025-31133) */
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		child_fail(c, ENODEV, "the host's null device is not one", "/dev/null");
	for (const char **s = p->masked; *s; s++)
		mask(c, *s, null_fd, &tmpfs);
}

/* ---- pivot ---- */

void child_pivot(struct child *c)
{
	const struct plan *p = c->p;
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };

	if (p->root_readonly)
		child_need(c, sys_mount_setattr(c->root_fd, "", 0, &ro), "make the root read-only", NULL);
	child_need(c, sys_fchdir(c->root_fd), "enter root", p->root);
	if (p->no_pivot) {
		child_need(c, sys_mount(".", "/", NULL, 1 << 13, NULL), "move the root", p->root);
		child_need(c, sys_chroot("."), "change root to", p->root);
	} else {
		child_need(c, sys_pivot_root(".", "."), "pivot root to", p->root);
		child_need(c, sys_umount(".", M_DETACH), "leave the host's root", NULL);
	}
	child_need(c, sys_chdir("/"), "enter root", p->root);
	if (p->root_propagation)
		child_need(c, sys_mount(NULL, "/", NULL, p->root_propagation, NULL), "set propagation of the root", NULL);
}
