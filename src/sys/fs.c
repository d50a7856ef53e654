#include "sys/fs.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/vec.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

static int by_bytes(const void *a, const void *b)
{
	char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

int fs_list(int dir_fd, char ***out_names)
{
	VEC(char *) names = { 0 };
	int fd = sys_openat(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		return fd < 0 ? fd : (close(fd), -ENOMEM);
	for (struct dirent *d; (d = readdir(dir));)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			*vec_push(&names) = xstrdup(d->d_name);
	(void)closedir(dir);
	if (names.n)
		qsort(names.p, names.n, sizeof *names.p, by_bytes);
	*vec_push(&names) = NULL;
	*out_names = names.p;
	return (int)names.n - 1;
}

static int remove_content(int fd)
{
	auto_list char **names = NULL;
	int r = fs_list(fd, &names);

	for (size_t i = 0; r >= 0 && names[i]; i++)
		r = fs_remove_tree(fd, names[i]);
	return r < 0 ? r : 0;
}

int fs_remove_tree(int dir_fd, const char *name)
{
	auto_fd int fd = -1;
	int r = sys_unlink(dir_fd, name);

	if (r == 0 || r == -ENOENT)
		return 0;
	if (r != -EISDIR && r != -EPERM)
		return r;
	fd = sys_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd == -ENOTDIR ? r : fd;
	if ((r = remove_content(fd)) < 0)
		return r;
	r = sys_rmdir(dir_fd, name);
	return r == -ENOENT ? 0 : r;
}

/* The one way to reach a name's own attributes by directory fd on all kernels: through /proc, not followed at the end. */
static void proc_path(int dir_fd, const char *name, char out[320])
{
	(void)snprintf(out, 320, "/proc/self/fd/%d/%s", dir_fd, name);
}

int fs_xattr_set(int dir_fd, const char *name, const char *key, const void *value, size_t n)
{
	char path[320];

	SYS_FAULT("lsetxattr");
	proc_path(dir_fd, name, path);
	return sys_ret(lsetxattr(path, key, value, n, 0));
}

ssize_t fs_xattr_get(int dir_fd, const char *name, const char *key, void *out, size_t size)
{
	char path[320];

	SYS_FAULT("lgetxattr");
	proc_path(dir_fd, name, path);
	return sys_ret(lgetxattr(path, key, out, size));
}

ssize_t fs_xattr_list(int dir_fd, const char *name, char *out, size_t size)
{
	char path[320];

	SYS_FAULT("llistxattr");
	proc_path(dir_fd, name, path);
	return sys_ret(llistxattr(path, out, size));
}

/* fsconfig takes strings of at most 255 bytes: longer paths go by an fd, which must stay open until the mount is made. */
static int set_path(int fs, const char *key, const char *path, int *fd)
{
	char text[32], *at = text + sizeof text;
	int n;

	*fd = -1;
	if (strlen(path) < 250)
		return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, path);
	if ((*fd = sys_open(path, O_PATH | O_DIRECTORY, 0)) < 0)
		return *fd;
	n = *fd;
	*--at = 0;
	do
		*--at = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	at -= sizeof "/proc/self/fd/" - 1;
	memcpy(at, "/proc/self/fd/", sizeof "/proc/self/fd/" - 1);
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, at);
}

static int one_path(int fs, const char *key, const char *path)
{
	auto_fd int fd = -1;

	return set_path(fs, key, path, &fd); /* the kernel resolves it at once */
}

int fs_overlay_mount(const struct fs_overlay *o, unsigned attrs)
{
	static const char *const off[] = { "index", "metacopy", "redirect_dir" };
	auto_fd int fs = sys_fsopen("overlay");
	int r = fs < 0 ? fs : 0;

	for (size_t i = 0; r >= 0 && i < o->n_lower; i++) {
		r = one_path(fs, "lowerdir+", o->lower[i]);
		if (r == -EINVAL && i == 0)
			return -ENOSYS;
	}
	if (r >= 0 && o->upper) {
		if ((r = one_path(fs, "upperdir", o->upper)) >= 0)
			r = one_path(fs, "workdir", o->work);
		for (size_t i = 0; r >= 0 && i < sizeof off / sizeof *off; i++)
			(void)sys_fsconfig(fs, FSCONFIG_SET_STRING, off[i], "off"); /* a kernel without it has it off */
		if (r >= 0 && o->is_volatile)
			r = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL);
	}
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
	return r < 0 ? r : sys_fsmount(fs, attrs);
}
