/*
 * erofs_tree.h - a file tree in memory: what a layer's tar says, for the image writer (erofs_write.c).
 *
 * Nodes are numbers into arrays; a name is found by hash of (directory, name), so a directory of any size
 * costs the same. What later entries replaced stays in the arrays and is reached by nobody. Layer: snapshot,
 * private.  Threads: one. Limits: ETREE_NODES_MAX entries and names, 1 GiB of names, link targets and
 * attributes: ERR_LIMIT.
 */
#pragma once
#include "base/err.h"
#include "base/vec.h"
#include "codec/tar.h"
#include "snapshot/place.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define ETREE_NONE      UINT32_MAX
#define ETREE_NODES_MAX 10000000u
#define ETREE_NAME_MAX  255
#define ETREE_HOLE      UINT32_MAX

struct etree_inode {
	uint64_t size; /* bytes; of a link: of its target */
	uint64_t data; /* file: where in the tar; sparse: first of its chunks; link: target in text; device:
			  makedev as on disk */
	int64_t mtime_ns;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint32_t xattrs;    /* the first, or ETREE_NONE */
	uint32_t parent;    /* of a directory */
	uint8_t chunk_bits; /* > 0: sparse, chunks of this size */
	/* the writer's */
	bool is_placed, is_inline;
	uint32_t nlink, first, n_names; /* names of a directory in sorted order: sorted[first…] */
	uint32_t block;                 /* of what is not inline, counted from the data area */
	uint64_t at;                    /* in the inode area */
};
struct etree_name {
	uint32_t dir, inode; /* inodes */
	uint32_t text;
	uint8_t len;
	bool is_dir, is_link; /* the inode */
};
struct etree_slot { /* of the hash table: a name that is not there is seldom compared with another one */
	uint32_t hash, name; /* name + 1; 0: empty */
};
struct etree_near {
	size_t len; /* bytes of a path … */
	uint32_t dir; /* … and the directory that they lead to */
};
struct etree_xattr {
	uint32_t next, text; /* the name, then the value */
	uint16_t n;          /* of the value */
	uint8_t index, len;  /* of EROFS's name prefixes; of the name behind it */
};
enum { XATTR_USER = 1, XATTR_ACL_ACCESS = 2, XATTR_ACL_DEFAULT = 3, XATTR_TRUSTED = 4, XATTR_SECURITY = 6 };

struct erofs_tree {
	VEC(struct etree_inode) inodes; /* [0]: the root */
	VEC(struct etree_name) names;
	VEC(struct etree_xattr) xattrs;
	VEC(char) text;
	VEC(uint32_t) chunks; /* blocks of the image, or ETREE_HOLE */
	struct etree_slot *slots;
	size_t n_slots;
	uint64_t seed;
	char path[PLACE_NAME_MAX];   /* of the directory of the last entry … */
	size_t path_len;
	VEC(struct etree_near) near; /* … and the directories on its way, until a name is replaced */
	uint64_t content;  /* bytes of all files, as docker counts */
	uint64_t tar_end;  /* of the last file's content in the tar */
	bool has_root;     /* an entry named it */
};
void etree_init(struct erofs_tree *t);
void etree_fini(struct erofs_tree *t);

FALLIBLE etree_inode_add(struct erofs_tree *t, mode_t mode, int64_t mtime_ns, uint32_t *out_inode);
/* The name's number in directory dir, or ETREE_NONE. */
uint32_t etree_find(const struct erofs_tree *t, uint32_t dir, const char *name, size_t n);
/* Gives the inode this name, instead of the one that had it. ERR_INVALID: longer than ETREE_NAME_MAX. */
FALLIBLE etree_name_set(struct erofs_tree *t, uint32_t dir, const char *name, size_t n, uint32_t inode);
/* Bytes into text. */
FALLIBLE etree_text(struct erofs_tree *t, const void *p, size_t n, uint32_t *out_at);
/* Sets or replaces. key: "user.x" …; what EROFS cannot hold is left out. */
FALLIBLE etree_xattr_set(struct erofs_tree *t, uint32_t inode, const char *key, const void *value, size_t n);
/*
 * The directory of path (n bytes, clean: place_clean), links followed as in a chroot. Missing ones are ERR_NOT_FOUND (ETREE_FIND), or
 * made, with this time. A whiteout on the way becomes an opaque directory (ETREE_MAKE), or is ERR_CANCELLED (ETREE_HIDE).
 * ERR_INVALID: a file on the way; "PATH escapes the layer": links without end.
 */
enum etree_how { ETREE_FIND, ETREE_MAKE, ETREE_HIDE };
FALLIBLE etree_enter(struct erofs_tree *t, const char *path, size_t n, enum etree_how how, int64_t mtime_ns,
		     uint32_t *out_dir);
FALLIBLE etree_set_opaque(struct erofs_tree *t, uint32_t dir);
static inline bool etree_is_whiteout(const struct etree_inode *i)
{
	return S_ISCHR(i->mode) && i->data == 0;
}

/*
 * A plain tar to its end marker, as a layer: whiteouts become overlayfs's. Content of sparse files goes to
 * image_fd from byte *data_end on, which moves; other content stays where it is in the tar. Errors as of
 * extract_tar.
 */
FALLIBLE etree_read_tar(struct erofs_tree *t, struct zip_source tar, int image_fd, uint64_t *data_end);
/* The image's metadata behind *data_end. */
FALLIBLE etree_write(struct erofs_tree *t, int image_fd, uint64_t data_end);
