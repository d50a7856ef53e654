/*
 * shared.c - one superblock per layer, however many containers run on it.
 *
 * The kernel makes a new superblock for each mount of a file, with pages of its own. So who starts a
 * container copies the mount that another container's keeper holds (open_tree of /proc/PID/fd/N), and only
 * where there is none, mounts anew. Keepers are found by links: RUN/shared/<hex>/<pid> -> /proc/PID/fd/N. A
 * link whose process ended leads nowhere, or, when the number came again, to something else: so what is taken
 * is checked for being this layer, and links that are not go.
 *
 * A build mounts the layers of a stage once for each of its steps: 78 mounts for 12 steps, 200 us each. So it
 * keeps them.
 */
#include "base/own.h"
#include "base/text.h"
#include "snapshot/driver.h"
#include "snapshot/erofs.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

static int copy_of(int dir_fd, const char *name, const char *hex)
{
	char path[64];
	auto_fd int link = -1, copy = -1;
	ssize_t n = sys_readlink(dir_fd, name, path, sizeof path);

	if (n < 0)
		return (int)n;
	copy = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
	if (copy == -EINVAL)
		return -ESTALE;
	if (copy >= 0 && !erofs_is_mount_of(copy, hex))
		return -ESTALE;
	return TAKE_FD(copy);
}

int shared_take(int shared_fd, const char *hex)
{
	auto_fd int dir = shared_fd < 0 ? -ENOENT : sys_openat(shared_fd, hex, O_RDONLY | O_DIRECTORY, 0);
	auto_list char **names = NULL;

	if (dir < 0 || fs_list(dir, &names) < 0)
		return -ENOENT;
	for (size_t i = 0; names[i]; i++) {
		int fd = copy_of(dir, names[i], hex);

		if (fd >= 0)
			return fd;
		if (fd != -EINVAL) /* no link: not ours */
			(void)sys_unlink(dir, names[i]);
	}
	return -ENOENT;
}

void shared_give(int shared_fd, const char *hex, const char *name, const char *path)
{
	auto_fd int dir = -1;

	(void)sys_mkdir(shared_fd, hex, 0700);
	dir = sys_openat(shared_fd, hex, O_RDONLY | O_DIRECTORY, 0);
	if (dir >= 0) {
		(void)sys_unlink(dir, name); /* of a process that had the number before */
		(void)sys_symlink(path, dir, name);
	}
}

void kept_fini(struct kept *k)
{
	for (size_t i = 0; i < k->layers.n; i++)
		own_close(&k->layers.p[i].fd);
	vec_fini(&k->layers);
}

/* Locked. */
static const struct kept_layer *kept_find(const struct kept *k, const char *hex)
{
	for (size_t i = 0; i < k->layers.n; i++)
		if (strcmp(k->layers.p[i].hex, hex) == 0)
			return &k->layers.p[i];
	return NULL;
}

int kept_take(struct kept *k, const char *hex, bool *out_hides)
{
	const struct kept_layer *l;
	int fd = -ENOENT;

	(void)pthread_mutex_lock(&k->lock);
	if ((l = kept_find(k, hex))) {
		*out_hides = l->hides_all;
		fd = sys_dup(l->fd);
	}
	(void)pthread_mutex_unlock(&k->lock);
	return fd;
}

void kept_give(struct kept *k, const char *hex, int mount_fd, bool hides)
{
	struct kept_layer l = { .fd = -1, .hides_all = hides };

	(void)pthread_mutex_lock(&k->lock);
	(void)snprintf(l.hex, sizeof l.hex, "%s", hex);
	if (k->is_on && !kept_find(k, hex) && (l.fd = sys_dup(mount_fd)) >= 0)
		*vec_push(&k->layers) = l;
	(void)pthread_mutex_unlock(&k->lock);
}
