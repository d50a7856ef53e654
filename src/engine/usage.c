/* usage.c - see usage.h. */
#include "engine/usage.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/vec.h"
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

/* A directory that is being counted. Those far from the top lend their fd away, so that no depth costs more fds. */
struct level {
	int fd; /* owned; -1: found again from below, by its identity */
	dev_t dev;
	ino_t ino;
	char **names;
	size_t next;
};
struct levels {
	struct level *p;
	size_t n, cap;
};
enum { KEPT_FDS = 128 };

static void level_pop(struct levels *v)
{
	struct level *l = &v->p[--v->n];

	own_close(&l->fd);
	text_list_free(l->names);
}

static void levels_fini(struct levels *v)
{
	while (v->n)
		level_pop(v);
	vec_fini(v);
}

static FALLIBLE level_push(struct levels *v, int dir_fd, const char *name)
{
	int fd = sys_openat(dir_fd, name, O_RDONLY | O_DIRECTORY, 0), r;
	struct level *l;
	struct stat st;

	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) /* went meanwhile */
		return NULL;
	if (fd < 0)
		return FAIL_OS(-fd, "open directory %s", name);
	if (v->n > KEPT_FDS) {
		own_close(&v->p[v->n - 1].fd);
		v->p[v->n - 1].fd = -1;
	}
	l = vec_push(v);
	l->fd = fd;
	if ((r = sys_fstat(fd, &st)) < 0 || (r = fs_list(fd, &l->names)) < 0) {
		level_pop(v);
		return r == -ENOENT ? NULL : FAIL_OS(-r, "list directory %s", name);
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return NULL;
}

/* Ends the last level. What was moved away meanwhile is not counted to its end. */
static void go_up(struct levels *v)
{
	auto_fd int up = -1;
	struct stat st;

	if (v->n > 1 && v->p[v->n - 2].fd < 0)
		up = sys_openat(v->p[v->n - 1].fd, "..", O_RDONLY | O_DIRECTORY, 0);
	level_pop(v);
	while (v->n && v->p[v->n - 1].fd < 0) {
		struct level *l = &v->p[v->n - 1];

		if (up >= 0 && sys_fstat(up, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
			l->fd = TAKE_FD(up);
		else
			level_pop(v);
	}
}

static FALLIBLE add_next(struct usage *u, struct levels *v)
{
	struct level *l = &v->p[v->n - 1];
	const char *name = l->names[l->next++];
	struct stat st;
	int r;

	if (!name) {
		go_up(v);
		return NULL;
	}
	r = sys_fstatat(l->fd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r == -ENOENT)
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "look at %s", name);
	add_inode(u, &st);
	return S_ISDIR(st.st_mode) ? level_push(v, l->fd, name) : NULL;
}

FALLIBLE usage_add(struct usage *u, int dir_fd, const char *name)
{
	CLEANUP(levels_fini) struct levels v = { 0 };
	struct stat st;
	int r = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r == -ENOENT)
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "look at %s", name);
	add_inode(u, &st);
	if (S_ISDIR(st.st_mode))
		TRY(level_push(&v, dir_fd, name));
	while (v.n)
		TRY(add_next(u, &v));
	return NULL;
}
