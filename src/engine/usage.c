/* usage.c - see usage.h. */
#include "engine/usage.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

void usage_fini(struct usage *u)
{
	map_fini(&u->links);
}

static void add_inode(struct usage *u, const struct stat *st)
{
	uint64_t bytes = (uint64_t)st->st_blocks * 512;
	char key[48];
	uintptr_t seen;
	void **slot;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2) {
		u->all += bytes;
		u->freed += bytes;
		return;
	}
	(void)snprintf(key, sizeof key, "%llx:%llx", (unsigned long long)st->st_dev,
		       (unsigned long long)st->st_ino);
	slot = map_put(&u->links, key);
	seen = (uintptr_t)*slot + 1;
	*slot = (void *)seen; /* a count, no pointer */
	u->all += seen == 1 ? bytes : 0;
	u->freed += seen == st->st_nlink ? bytes : 0;
}

/* A directory is closed before those in it are entered, so that the depth costs no file descriptors. */
static FALLIBLE add_dir(struct usage *u, int root_fd, const char *path)
{
	auto_list char **names = NULL, **below = NULL;
	auto_fd int fd = sys_open_beneath(root_fd, path, O_RDONLY | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : fs_list(fd, &names);

	if (fd == -ENOENT) /* went meanwhile */
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "list %s", path);
	for (size_t i = 0; names[i]; i++) {
		struct stat st;

		if ((r = sys_fstatat(fd, names[i], &st, AT_SYMLINK_NOFOLLOW)) == -ENOENT)
			continue;
		if (r < 0)
			return FAIL_OS(-r, "look at %s/%s", path, names[i]);
		add_inode(u, &st);
		if (S_ISDIR(st.st_mode))
			text_list_add(&below, names[i]);
	}
	own_close(&fd);
	fd = -1;
	for (size_t i = 0; below && below[i]; i++) {
		auto_free char *next = xasprintf("%s/%s", path, below[i]);

		TRY(add_dir(u, root_fd, next));
	}
	return NULL;
}

FALLIBLE usage_add(struct usage *u, int dir_fd, const char *name)
{
	struct stat st;
	int r = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r == -ENOENT)
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "look at %s", name);
	add_inode(u, &st);
	return S_ISDIR(st.st_mode) ? add_dir(u, dir_fd, name) : NULL;
}
