/*
 * tree.h - a layer that COPY, ADD or WORKDIR makes, as data: which entries, from which files, with which owners and modes.
 *
 * The list is made without reading contents, so it can be printed and hashed; the hash over it and the contents is the cache key.
 * Directories above an entry are in the list before it, with the attributes that the stage gives them, as a layer has to say.
 * Times are those of the clamp, for every entry: a checkout's times are no input (docs/why/same-digest.md).
 * Layer: build, private.  Paths are resolved by openat2 inside the source's and the stage's root only.
 */
#pragma once
#include "base/err.h"
#include "base/map.h"
#include "base/vec.h"
#include "build/pattern.h"
#include "codec/digest.h"
#include "content/store.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct tree_entry {
	char *path;	 /* in the layer, without leading slash */
	char type;	 /* as in tar.h; 'A': an archive to be unpacked at path */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size;
	char *link;	 /* of a symbolic link */
	char *source;	 /* of a file or archive: path in the source's root */
	int source_fd;	 /* root that source is in; borrowed */
	const char *text; /* of a file from a heredoc: the content; borrowed */
	char *capability; /* security.capability, n_capability bytes */
	size_t n_capability;
	unsigned major, minor;
};
struct tree_attrs { /* what is forced on copied entries */
	bool has_owner;
	uid_t uid;
	gid_t gid;
	const char *chmod; /* octal or symbolic; NULL: as it is */
};
struct tree {
	VEC(struct tree_entry) v;
	struct map index;   /* path -> entry index + 1 */
	struct map real;    /* directory as named -> owned string, symbolic links resolved */
	int base_fd;	    /* root of the stage so far; borrowed; -1: empty */
	struct tree_attrs attrs;
	int64_t mtime_ns;
};
void tree_init(struct tree *t, int base_fd, int64_t mtime_ns);
void tree_fini(struct tree *t);

/* Is path (absolute) a directory in the stage? */
bool tree_base_is_dir(const struct tree *t, const char *path);
/* A directory at path (absolute) and those above it; those that the stage does not have are made with mode 0755 and the forced owner. */
FALLIBLE tree_add_dir(struct tree *t, const char *path);
/* Directory path (absolute, clean) with the stage's links followed; owned. ERR_INVALID too many links. */
FALLIBLE tree_real_dir(const struct tree *t, const char *path, char **out_real);
/* A file with this text. */
FALLIBLE tree_add_text(struct tree *t, const char *path, const char *text, mode_t mode);

struct tree_source {
	int root_fd;		     /* borrowed */
	const struct ignore *ignore; /* NULL: nothing is left out */
	const struct ignore *exclude; /* the same, of paths below what is named; NULL or without rules: nothing */
	bool is_context;	     /* owners are 0:0 */
	const char *unpack_to;	     /* ADD: local archives are unpacked into this directory; NULL: they are files */
};
/* What `path` (clean, absolute inside the source) is goes to `dest` (absolute): a file as dest, what a directory holds into dest.
 * ERR_NOT_FOUND. */
FALLIBLE tree_add_source(struct tree *t, const struct tree_source *src, const char *path, const char *dest);
/* Clean paths in the source that a pattern (clean, absolute) matches, sorted; owned list. */
FALLIBLE tree_glob(const struct tree_source *src, const char *pattern, char ***out_paths);

/* The digest over entries and contents. */
FALLIBLE tree_hash(const struct tree *t, char out[DIGEST_MAX]);
/* The layer's tar into an ingest. ERR_CONFLICT when a source changed since tree_hash gave `want`. */
FALLIBLE tree_write(const struct tree *t, const char *want, struct ingest *in);
/* ERR_INVALID unless chmod is a mode; applies it. */
FALLIBLE mode_apply(const char *chmod, mode_t mode, bool is_dir, mode_t *out_mode);
bool tree_has_archive(const struct tree *t);
