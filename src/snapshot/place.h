/*
 * place.h - where a tar entry goes: its parent directory as an fd, found or made inside a private tree, never outside.
 *
 * Layer: snapshot, private.  Threads: one.  Names are cleaned by place_clean first.
 */
#pragma once
#include "base/err.h"
#include "base/vec.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { PLACE_DEPTH = 64, PLACE_NAME_MAX = 4096 };

struct place_dir {
	int fd;	       /* O_PATH */
	size_t len;    /* of its path, a prefix of place.path */
	gid_t gid;     /* what new files may inherit on a file system mounted with grpid */
	bool is_noted; /* for the caller: cleared when the directory is opened */
};
struct place_made {
	char *path;
	int64_t mtime_ns;
};
struct place {
	int root_fd; /* borrowed */
	size_t n;    /* the chain of open directories from the root (chain[0]) down to the current one */
	struct place_dir chain[PLACE_DEPTH];
	char path[PLACE_NAME_MAX]; /* of the last of the chain */
	/*
	 * NULL, or asked about what is no directory and stands in the way of one: > 0 it has become one, 0 it stays, -ECANCELED whatever
	 * is below it is of no interest (place_enter: ERR_CANCELLED), or -errno.
	 */
	int (*give_way)(int dir_fd, const char *name);
	bool is_stale; /* the chain may lead elsewhere than its path does */
	VEC(struct place_made) made; /* directories no entry asked for, to get the time of the first entry below */
};
FALLIBLE place_init(struct place *p, int root_fd);
void place_fini(struct place *p);

/*
 * The name as a clean relative path into out: no empty, "." or ".." component; "" is the root.
 * False: it leads out of the root, or is too long.
 */
bool place_clean(const char *name, char out[PLACE_NAME_MAX]);
/*
 * Makes the parent of path current and makes what is missing (mtime_ns PLACE_FIND: makes nothing; ERR_NOT_FOUND), or in the way (give_way).
 * Symbolic links on the way are followed as in a chroot. out_base points into path.
 */
FALLIBLE place_enter(struct place *p, const char *path, int64_t mtime_ns, const char **out_base);
#define PLACE_FIND INT64_MIN
/* The current directory. */
static inline struct place_dir *place_at(struct place *p)
{
	return &p->chain[p->n - 1];
}
/*
 * After something was removed or replaced: a directory of the chain, the current one too, may be it, or have been reached
 * through it. The current one stays for this entry; the next begins at the root.
 */
void place_forget(struct place *p);
FALLIBLE place_escapes(const char *name); /* ERR_INVALID "NAME escapes the layer" */
