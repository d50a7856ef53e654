/*
 * erofs_tar.c - tar entries become nodes of the tree, by the same rules as extract.c makes files of them;
 * their content stays in the tar. Only that of sparse files, which is not in one piece there, is copied into
 * the image, by chunks.
 */
#include "base/own.h"
#include "snapshot/driver.h"
#include "snapshot/erofs_tree.h"
#include "snapshot/place.h"
#include "sys/sys.h"
#include <endian.h>
#include <stdio.h>
#include <sys/stat.h>

enum { COPY = 1 << 16, CHUNK_BITS = 12, CHUNK_BITS_MAX = 36, CHUNKS_MAX = 1 << 16 };
#define IMAGE_BYTES_MAX (UINT64_C(1) << 40) /* half of what 32-bit numbers of 512-byte blocks reach */

struct reading {
	struct erofs_tree *t;
	struct tar_reader *tar;
	int image_fd;
	uint64_t *data_end;
	char *copy;
};

static void reading_fini(struct reading *r)
{
	tar_reader_free(r->tar);
	free(r->copy);
}

/* ---- sparse files ---- */

/* The block of the image that holds byte at of the file; its chunk gets a place when it has none. */
static FALLIBLE chunk_of(struct reading *r, const struct etree_inode *i, uint64_t at, uint64_t *out_byte)
{
	uint32_t *chunk = &r->t->chunks.p[i->data + (at >> i->chunk_bits)];
	uint64_t size = UINT64_C(1) << i->chunk_bits;

	if (*chunk == ETREE_HOLE) {
		if (*r->data_end + size > IMAGE_BYTES_MAX)
			return FAIL(ERR_LIMIT, "tar archive: sparse files of more than %llu bytes",
				    (unsigned long long)IMAGE_BYTES_MAX);
		*chunk = (uint32_t)(*r->data_end / 512);
		*r->data_end += size;
	}
	*out_byte = (uint64_t)*chunk * 512 + (at & (size - 1));
	return NULL;
}

static FALLIBLE copy_part(struct reading *r, const struct etree_inode *i, uint64_t at, const char *p,
			  size_t n)
{
	while (n) {
		uint64_t size = UINT64_C(1) << i->chunk_bits, left = size - (at & (size - 1)), byte;
		size_t step = n < left ? n : (size_t)left;
		int w;

		TRY(chunk_of(r, i, at, &byte));
		if ((w = sys_pwrite_all(r->image_fd, p, step, (off_t)byte)) < 0)
			return FAIL_OS(-w, "write the layer's index");
		at += step;
		p += step;
		n -= step;
	}
	return NULL;
}

static FALLIBLE copy_sparse(struct reading *r, const struct tar_entry *e, struct etree_inode *i)
{
	uint64_t at = 0;
	size_t n = 0;

	i->chunk_bits = CHUNK_BITS;
	while ((e->size >> i->chunk_bits) >= CHUNKS_MAX)
		if (++i->chunk_bits > CHUNK_BITS_MAX)
			return FAIL_OS(EFBIG, "write %s", e->name);
	i->data = r->t->chunks.n;
	for (uint64_t k = 0; k < e->size; k += UINT64_C(1) << i->chunk_bits)
		*vec_push(&r->t->chunks) = ETREE_HOLE;
	if (r->t->chunks.n > ETREE_NODES_MAX)
		return FAIL(ERR_LIMIT, "tar archive: too many sparse files");
	do {
		at += tar_pass_hole(r->tar);
		TRY(tar_read(r->tar, r->copy, COPY, &n));
		TRY(copy_part(r, i, at, r->copy, n));
		at += n;
	} while (n);
	return NULL;
}

/* ---- attributes ---- */

/* Whether the kernel takes it for what a program may do (linux/capability.h, revisions 2 and 3): what it does not take cannot be copied up. */
static bool is_capability(const struct tar_xattr *a)
{
	uint32_t revision = 0;

	if (a->n >= sizeof revision)
		memcpy(&revision, a->value, sizeof revision);
	revision = le32toh(revision) & 0xff000000;
	return (a->n == 20 && revision == 0x02000000) || (a->n == 24 && revision == 0x03000000);
}

/* SECURITY: what steers overlayfs is ours alone; what security modules of the host decide on is theirs. */
static FALLIBLE set_xattrs(struct reading *r, const struct tar_entry *e, uint32_t inode)
{
	mode_t mode = r->t->inodes.p[inode].mode;

	for (size_t k = 0; k < e->n_xattrs; k++) {
		const struct tar_xattr *a = &e->xattrs[k];
		struct err *err;

		if (!extract_wants_xattr(a->name))
			continue;
		if (strncmp(a->name, "user.", 5) == 0 && !S_ISREG(mode) && !S_ISDIR(mode))
			continue; /* the kernel knows them of files and directories only */
		if (strcmp(a->name, "system.posix_acl_default") == 0 && !S_ISDIR(mode))
			continue;
		if (strcmp(a->name, "security.capability") == 0 && !is_capability(a))
			return FAIL_OS(EINVAL, "set attribute %s of %s", a->name, e->name);
		err = etree_xattr_set(r->t, inode, a->name, a->value, a->n);
		if (err)
			return err_ctx(err, "%s", e->name);
	}
	return NULL;
}

/* ---- entries ---- */

static FALLIBLE whiteout(struct reading *r, const struct tar_entry *e, uint32_t dir, const char *base)
{
	uint32_t name, inode;

	if (strcmp(base, ".wh..wh..opq") == 0)
		return etree_set_opaque(r->t, dir);
	if (strncmp(base, ".wh..wh.", 8) == 0)
		return NULL; /* aufs's own bookkeeping */
	base += 4;
	if (!base[0] || !strcmp(base, ".") || !strcmp(base, ".."))
		return place_escapes(e->name);
	name = etree_find(r->t, dir, base, strlen(base));
	if (name != ETREE_NONE) { /* this layer has the name itself, which hides that of the lower ones */
		inode = r->t->names.p[name].inode;
		return S_ISDIR(r->t->inodes.p[inode].mode) ? etree_set_opaque(r->t, inode) : NULL;
	}
	TRY(etree_inode_add(r->t, S_IFCHR, e->mtime_ns, &inode));
	TRY(etree_name_set(r->t, dir, base, strlen(base), inode));
	/* overlayfs shows a whiteout as a broken device where no other layer has its directory, unless that
	 * has an origin */
	return etree_xattr_set(r->t, dir, "trusted.overlay.origin", "", 0);
}

static void set_owner(struct etree_inode *i, const struct tar_entry *e)
{
	i->mode = (i->mode & S_IFMT) | (e->mode & 07777);
	i->uid = e->uid;
	i->gid = e->gid;
	i->mtime_ns = e->mtime_ns;
}

static FALLIBLE root_entry(struct reading *r, const struct tar_entry *e)
{
	if (e->type != '5')
		return FAIL(ERR_INVALID, "the root of the layer is not a directory");
	set_owner(&r->t->inodes.p[0], e);
	return set_xattrs(r, e, 0);
}

/* A directory that is there stays and takes the entry's attributes; anything else goes. */
static FALLIBLE directory(struct reading *r, const struct tar_entry *e, uint32_t dir, const char *base)
{
	uint32_t name = etree_find(r->t, dir, base, strlen(base)), inode = ETREE_NONE;
	bool was_whiteout = false;

	if (name != ETREE_NONE) {
		inode = r->t->names.p[name].inode;
		was_whiteout = etree_is_whiteout(&r->t->inodes.p[inode]);
	}
	if (inode == ETREE_NONE || !S_ISDIR(r->t->inodes.p[inode].mode)) {
		TRY(etree_inode_add(r->t, S_IFDIR, e->mtime_ns, &inode));
		TRY(etree_name_set(r->t, dir, base, strlen(base), inode));
	}
	set_owner(&r->t->inodes.p[inode], e);
	if (was_whiteout)
		TRY(etree_set_opaque(r->t, inode));
	return set_xattrs(r, e, inode);
}

/* Whether dir is at or below above. */
static bool is_below(const struct erofs_tree *t, uint32_t dir, uint32_t above)
{
	while (dir != above && dir != 0)
		dir = t->inodes.p[dir].parent;
	return dir == above;
}

/* A further name of what this layer made before. */
static FALLIBLE hard_link(struct reading *r, const struct tar_entry *e, uint32_t dir, const char *base)
{
	char target[PLACE_NAME_MAX], *slash;
	uint32_t from, name, old = etree_find(r->t, dir, base, strlen(base));
	struct err *err;

	/* SECURITY: a target above the root is refused, not clamped: nobody writes one in good faith */
	if (!place_clean(e->link, target) || !target[0])
		return place_escapes(e->name);
	slash = strrchr(target, '/');
	err = etree_enter(r->t, target, slash ? (size_t)(slash - target) : 0, ETREE_FIND, 0, &from);
	if (err)
		return err_ctx(err, "find the directory of the hard link target of %s", e->name);
	slash = slash ? slash + 1 : target;
	name = etree_find(r->t, from, slash, strlen(slash));
	if (name != ETREE_NONE && name == old && !S_ISDIR(r->t->inodes.p[r->t->names.p[old].inode].mode))
		return NULL; /* tar writes a link to itself where it is given a file with several names twice */
	/* what the new name replaces is gone before the link is made */
	if (name == ETREE_NONE || name == old ||
	    (old != ETREE_NONE && r->t->names.p[old].inode != 0 &&
	     S_ISDIR(r->t->inodes.p[r->t->names.p[old].inode].mode) &&
	     is_below(r->t, from, r->t->names.p[old].inode)))
		return FAIL_OS(ENOENT, "hard link %s to %s", e->name, e->link);
	if (S_ISDIR(r->t->inodes.p[r->t->names.p[name].inode].mode))
		return FAIL_OS(EPERM, "hard link %s to %s", e->name, e->link);
	return etree_name_set(r->t, dir, base, strlen(base), r->t->names.p[name].inode);
}

static FALLIBLE content(struct reading *r, const struct tar_entry *e, struct etree_inode *i)
{
	i->size = e->size;
	i->data = e->data_at;
	r->t->content += e->size;
	if (e->is_sparse && e->size)
		return copy_sparse(r, e, i);
	if (e->size && e->data_at + e->size > r->t->tar_end)
		r->t->tar_end = e->data_at + e->size;
	return NULL;
}

static FALLIBLE device(const struct tar_entry *e, struct etree_inode *i)
{
	if (e->dev_major > 0xfff || e->dev_minor > 0xfffff)
		return FAIL_OS(EINVAL, "create %s", e->name);
	i->data = (e->dev_minor & 0xff) | e->dev_major << 8 | (e->dev_minor & ~0xffu) << 12;
	return NULL;
}

static FALLIBLE node(struct reading *r, const struct tar_entry *e, uint32_t dir, const char *base)
{
	static const mode_t kinds[] = { S_IFREG, 0, S_IFLNK, S_IFCHR, S_IFBLK, 0, S_IFIFO };
	struct etree_inode *i;
	uint32_t inode, text;

	TRY(etree_inode_add(r->t, kinds[e->type - '0'], e->mtime_ns, &inode));
	i = &r->t->inodes.p[inode];
	set_owner(i, e);
	if (e->type == '0') {
		TRY(content(r, e, i));
	} else if (e->type == '2') {
		if (!e->link[0])
			return FAIL_OS(ENOENT, "create %s", e->name);
		TRY(etree_text(r->t, e->link, strlen(e->link), &text));
		i->mode = S_IFLNK | 0777;
		i->data = text;
		i->size = strlen(e->link);
	} else if (e->type != '6') {
		TRY(device(e, i));
	}
	TRY(etree_name_set(r->t, dir, base, strlen(base), inode));
	return set_xattrs(r, e, inode);
}

static FALLIBLE one_entry(struct reading *r, const struct tar_entry *e)
{
	char path[PLACE_NAME_MAX];
	const char *base;
	struct err *err;
	uint32_t dir;
	bool hides;

	if (!place_clean(e->name, path))
		return place_escapes(e->name);
	if (!r->t->has_root) { /* what no entry names has the time of the first one below */
		r->t->inodes.p[0].mtime_ns = e->mtime_ns;
		r->t->has_root = true;
	}
	if (!path[0])
		return root_entry(r, e);
	base = strrchr(path, '/');
	hides = strncmp(base ? base + 1 : path, ".wh.", 4) == 0;
	err = etree_enter(r->t, path, base ? (size_t)(base - path) : 0, hides ? ETREE_HIDE : ETREE_MAKE, e->mtime_ns, &dir);
	if (err && err->kind == ERR_CANCELLED) { /* a whiteout below a whiteout */
		err_free(err);
		return NULL;
	}
	TRY(err);
	base = base ? base + 1 : path;
	if (hides)
		return whiteout(r, e, dir, base);
	if (e->type == '1')
		return hard_link(r, e, dir, base);
	if (e->type == '5')
		return directory(r, e, dir, base);
	return node(r, e, dir, base);
}

FALLIBLE etree_read_tar(struct erofs_tree *t, struct zip_source tar, int image_fd, uint64_t *data_end)
{
	CLEANUP(reading_fini)
	struct reading r = { .t = t, .image_fd = image_fd, .data_end = data_end, .copy = xmalloc(COPY) };
	const struct tar_entry *e;

	TRY(tar_reader_new(tar, &r.tar));
	tar_may_be_empty(r.tar);
	for (;;) {
		TRY(tar_next(r.tar, &e));
		if (!e)
			return NULL;
		TRY(one_entry(&r, e));
	}
}
