/*
 * child_root.c - the root file system as the plan wants it. No path of the container is resolved by string:
 * targets are found by openat2 below the new root and mounts placed by fd, so nothing inside can redirect
 * them.
 */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sys/sysmacros.h>

/* <sys/mount.h> and <linux/mount.h> collide in glibc 2.36 */
enum { M_REC = 1 << 14, M_PRIVATE = 1 << 18, M_DETACH = 2, M_MOVE = 1 << 13 };

/* ---- targets ---- */

/*
 * A way below the root, made component by component. The kernel resolves what there is, from the root, every
 * time; only what is missing is made, in a directory that is held open. So nothing is ever made outside,
 * however the tree changes meanwhile.
 */
struct way {
	char path[PATH_MAX];
	size_t start, end; /* of the component at hand */
	int at;            /* its directory; owned */
	int links;
};

static void way_fini(struct way *w)
{
	own_close(&w->at);
}

/* The component is a link to nothing: the way goes on where it points, from the root when absolute, and
 * begins again. */
static int way_follow(struct way *w, int root_fd, const char *name)
{
	char target[PATH_MAX], whole[PATH_MAX];
	const char *rest = w->path + w->end;
	int r = (int)sys_readlink(w->at, name, target, sizeof target);

	if (r < 0)
		return r == -EINVAL ? -ENOENT : r; /* no link after all: it came and went */
	if (++w->links > 40)
		return -ELOOP;
	w->path[target[0] == '/' ? 0 : w->start] = 0;
	if (strlen(w->path) + strlen(target) + strlen(rest) >= sizeof whole)
		return -ENAMETOOLONG;
	child_cat(whole, sizeof whole, w->path, target, rest);
	child_cat(w->path, sizeof w->path, whole, NULL, NULL);
	own_close(&w->at);
	w->start = w->end = 0;
	w->at = sys_open_in_root(root_fd, ".", O_PATH | O_DIRECTORY, 0);
	return w->at < 0 ? w->at : 0;
}

/* mode: of a directory */
static int way_make(struct way *w, const char *name, bool is_dir, mode_t mode)
{
	int fd;

	if (is_dir)
		return sys_mkdir(w->at, name, mode);
	fd = sys_openat(w->at, name, O_CREAT | O_EXCL | O_WRONLY, 0755);
	return fd < 0 ? fd : sys_close(fd);
}

/* One component further. */
static int way_step(struct way *w, int root_fd, bool is_dir, mode_t mode)
{
	char name[NAME_MAX + 1];
	bool last = !w->path[w->end + strspn(w->path + w->end, "/")];
	char after = w->path[w->end];
	int next, r;

	if (w->end - w->start > NAME_MAX)
		return -ENAMETOOLONG;
	w->path[w->end] = 0;
	child_cat(name, sizeof name, w->path + w->start, NULL, NULL);
	next = sys_open_in_root(root_fd, w->path, O_PATH, 0);
	if (next == -ENOENT) {
		r = way_make(w, name, is_dir || !last, last ? mode : 0755);
		next = sys_open_in_root(root_fd, w->path, O_PATH, 0);
		if (next == -ENOENT && r == -EEXIST) {
			w->path[w->end] = after;
			return way_follow(w, root_fd, name);
		}
		if (r < 0 && r != -EEXIST) {
			own_close(&next);
			return r;
		}
	}
	w->path[w->end] = after;
	if (next < 0)
		return next;
	own_close(&w->at);
	w->at = next;
	return 0;
}

/* Owned O_PATH fd, or -errno. mode: of the last directory, when it is made. */
static int make_way(int root_fd, const char *path, bool is_dir, mode_t mode)
{
	CLEANUP(way_fini) struct way w = { .at = sys_open_in_root(root_fd, ".", O_PATH | O_DIRECTORY, 0) };
	int r = w.at < 0 ? w.at : 0;

	if (strlen(path) >= sizeof w.path)
		return -ENAMETOOLONG;
	child_cat(w.path, sizeof w.path, path, NULL, NULL);
	while (r >= 0) {
		w.start = w.end + strspn(w.path + w.end, "/");
		if (!w.path[w.start])
			return TAKE_FD(w.at);
		w.end = w.start + strcspn(w.path + w.start, "/");
		r = way_step(&w, root_fd, is_dir, mode);
	}
	return r;
}

int child_mkdirs(int root_fd, const char *path)
{
	child_fd int fd = make_way(root_fd, path, true, 0755);

	return fd < 0 ? fd : 0;
}

static int open_target(const struct child *c, const char *path, unsigned how)
{
	int flags = O_PATH | (how & TARGET_NOFOLLOW ? O_NOFOLLOW : 0);

	/* SECURITY: /proc and /sys must be directories of the image, never links to elsewhere
	 * (CVE-2019-19921) */
	return how & TARGET_NO_LINKS ? sys_open_beneath(c->root_fd, path, flags, 0)
				     : sys_open_in_root(c->root_fd, path, flags, 0);
}

static mode_t mode_of(unsigned how)
{
	return how & TARGET_OPEN ? 01777 : 0755;
}

/* The usual case of a missing target: its directory is there. Anything else is left to make_way. */
static void make_last(const struct child *c, const char *path, unsigned how)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char dir[PATH_MAX];
	child_fd int parent = -1;
	struct way w = { .at = c->root_fd };

	if (!name[0] || !strcmp(name, ".") || !strcmp(name, "..") || strlen(path) >= sizeof dir)
		return;
	child_cat(dir, sizeof dir, path, NULL, NULL);
	dir[slash ? (size_t)(slash - path) : 0] = 0;
	if (slash && (w.at = parent = open_target(c, dir, how & TARGET_NO_LINKS)) < 0)
		return;
	(void)way_make(&w, name, how & TARGET_DIR, mode_of(how));
}

/* A directory of the new /dev: it is not there yet. Owned fd, or -errno: the long way. */
static int dev_target(const struct child *c, const char *path)
{
	const char *name = path + sizeof "dev";
	int r;

	if (c->dev_fd < 0 || strncmp(path, "dev/", 4) != 0 || !*name || strchr(name, '/'))
		return -ENOENT;
	r = sys_mkdir(c->dev_fd, name, 0755);
	return r < 0 ? r : sys_open_beneath(c->dev_fd, name, O_PATH | O_DIRECTORY, 0);
}

int child_target(const struct child *c, const char *path, unsigned how)
{
	int fd;

	path += strspn(path, "/");
	if (!*path)
		path = ".";
	if (how == TARGET_DIR && (fd = dev_target(c, path)) >= 0)
		return fd;
	fd = open_target(c, path, how);
	if (fd == -ENOENT) {
		make_last(c, path, how);
		fd = open_target(c, path, how);
	}
	if (fd == -ENOENT) {
		child_fd int made = make_way(c->root_fd, path, how & TARGET_DIR, mode_of(how));

		child_need(c, made, "make mount point", path);
		fd = open_target(c, path, how);
	}
	return child_need(c, fd, "open mount point", path);
}

/* ---- root ---- */

/* Without a namespace for mounts they would be the host's: the tree then stays detached, and nobody else sees
 * it. */
static bool has_mount_ns(const struct plan *p)
{
	for (size_t i = 0; i < p->ns.n; i++)
		if (p->ns.p[i].kind == CLONE_NEWNS)
			return true;
	return false;
}

/* Owned fd of a detached mount, or -errno. */
static int make_root(const struct child *c)
{
	const struct plan *p = c->p;

	if (c->root_mount_fd >= 0)
		return sys_dup(c->root_mount_fd);
	if (p->n_lower > 1 || p->upper)
		return fs_overlay_mount(
		    &(struct fs_overlay){ p->lower, p->n_lower, p->upper, p->work, p->is_volatile, p->is_user, has_mount_ns(p) }, 0);
	if (p->n_lower)
		return fs_lower_mount(p->lower[0]);
	return sys_open_tree(AT_FDCWD, p->root, OPEN_TREE_CLONE | AT_RECURSIVE);
}

/*
 * Over our own "/", whose mount is private, so that nothing of it reaches the host whatever the directory's
 * own mount is; paths of the host still begin below it. The fd of the mount is its root from then on. For
 * createContainer hooks it stands where the configuration has it: they come by the host's path.
 */
static void place_root(struct child *c)
{
	const struct plan *p = c->p;
	child_fd int fd = make_root(c);

	if (fd == -ENOSYS)
		child_fail(c, ENOSYS,
			   "the mount calls of Linux 5.12 are missing (an older kernel, or a filter around "
			   "us): root",
			   p->root);
	child_need(c, fd, p->n_lower ? "mount overlay on" : "open root", p->root);
	if (p->hooks[HOOK_CREATE_CONTAINER].n && has_mount_ns(p)) {
		auto_fd int at =
		    child_need(c, sys_open(p->root, O_PATH | O_DIRECTORY, 0), "open root", p->root);

		child_need(c, sys_move_mount(fd, at, ""), "mount root", p->root);
	} else if (has_mount_ns(p)) {
		child_need(c, sys_move_mount(fd, AT_FDCWD, "/"), "mount root", p->root);
	}
	c->root_fd = TAKE_FD(fd);
}

void child_rootfs(struct child *c)
{
	/* nothing of ours reaches the host, nor the other way: mounts that shall were opened by the parent */
	if (has_mount_ns(c->p))
		child_need(c, sys_mount(NULL, "/", NULL, M_REC | M_PRIVATE, NULL), "make mounts private",
			   NULL);
	place_root(c);
}

/* ---- masks ---- */

/* Files are covered by the host's null device, directories by one empty read-only tmpfs for all. */
static void mask(const struct child *c, const char *path, int null_fd, int *tmpfs)
{
	child_fd int at = sys_open_in_root(c->root_fd, path + strspn(path, "/"), O_PATH, 0), fd = -1;
	struct stat st;

	if (at == -ENOENT || at == -ENOTDIR || at == -EACCES)
		return;
	child_need(c, at, "mask", path);
	child_need(c, sys_fstat(at, &st), "mask", path);
	if (S_ISDIR(st.st_mode) && *tmpfs < 0) {
		child_fd int fs = child_need(c, sys_fsopen("tmpfs"), "open file system", "tmpfs");

		child_need(c, sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "755"), "mask", path);
		child_need(c, sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL), "mask", path);
		*tmpfs = child_need(c, sys_fsmount(fs, MOUNT_ATTR_RDONLY), "mask", path);
		child_need(c, sys_move_mount(*tmpfs, at, ""), "mask", path);
		return;
	}
	fd = child_need(
	    c, sys_open_tree(S_ISDIR(st.st_mode) ? *tmpfs : null_fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH),
	    "mask", path);
	child_need(c, sys_move_mount(fd, at, ""), "mask", path);
}

static void make_readonly(const struct child *c, const char *path)
{
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	child_fd int at = sys_open_in_root(c->root_fd, path + strspn(path, "/"), O_PATH, 0), fd = -1;

	if (at == -ENOENT || at == -ENOTDIR)
		return;
	child_need(c, at, "make read-only", path);
	fd = child_need(c, sys_open_tree(at, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE),
			"make read-only", path);
	child_need(c, sys_mount_setattr(fd, "", AT_RECURSIVE, &ro), "make read-only", path);
	child_need(c, sys_move_mount(fd, at, ""), "make read-only", path);
}

void child_masks(struct child *c)
{
	child_fd int null_fd = -1, tmpfs = -1;
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
	if (p->no_pivot && has_mount_ns(p) && p->hooks[HOOK_CREATE_CONTAINER].n)
		child_need(c, sys_mount(".", "/", NULL, M_MOVE, NULL), "move the root", p->root);
	if (p->no_pivot || !has_mount_ns(p)) { /* it stands over "/" already, or nowhere */
		child_need(c, sys_chroot("."), "change root to", p->root);
	} else {
		child_need(c, sys_pivot_root(".", "."), "pivot root to", p->root);
		child_need(c, sys_umount(".", M_DETACH), "leave the host's root", NULL);
	}
	child_need(c, sys_chdir("/"), "enter root", p->root);
	if (p->root_propagation & ~(unsigned long)(M_REC | M_PRIVATE))
		child_need(c, sys_mount(NULL, "/", NULL, p->root_propagation & ~(unsigned long)M_REC, NULL),
			   "set propagation of the root", NULL);
}
