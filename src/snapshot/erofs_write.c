/*
 * erofs_write.c - the tree as an image of 512-byte blocks:
 *
 *	block 0 … 7	superblock at byte 1024, device slot behind it
 *	data of sparse files
 *	inodes		each directory's children together, in order of names; small directories and links inline
 *	data		of directories and links that are not inline
 *
 * The tar is the device of the image: a file is "flat plain" at a block of the range that the device has in the image's address
 * space, so there is nothing to store per file but its inode. Every inode is of the extended kind: nanoseconds, and times that
 * kernels before 6.15 show.
 */
#include "base/own.h"
#include "snapshot/erofs.h"
#include "snapshot/erofs_tree.h"
#include "sys/sys.h"
#include <endian.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
	INODE = 64,
	SLOT = 32,
	DIRENT = 12,
	XATTR_HEAD = 12,
	HEAD = 4096,
	DEVICE_AT = 1152, /* slot 9 of 128 bytes */
	UUID_AT = EROFS_SB_AT + 48,
	NAME_AT = EROFS_SB_AT + 64,
	LAYOUT_PLAIN = 0,
	LAYOUT_INLINE = 2,
	LAYOUT_CHUNKS = 4,
	INCOMPAT_CHUNKED = 4,
	INCOMPAT_DEVICES = 8,
	CHUNK_INDEXES = 0x20,
};
#define SB_MAGIC     0xE0F5E1E2u
#define BLOCKS_MAX   (UINT64_C(1) << 32)
#define ROUND(n, to) (((n) + (to)-1) / (to) * (to))

struct image {
	struct erofs_tree *t;
	uint32_t *sorted; /* names, by directory and then by bytes */
	uint32_t *order;  /* reachable directories, as their inodes come */
	size_t n_dirs, n_inodes;
	uint64_t meta_at;    /* byte of the first inode */
	uint64_t inodes_end; /* bytes of inodes */
	uint64_t n_blocks;   /* of data behind them */
	uint64_t device;     /* the tar's first block in the address space */
	unsigned char *out;  /* inodes, then data */
	bool has_chunks;
};

static void image_fini(struct image *m)
{
	free(m->sorted);
	free(m->order);
	free(m->out);
}

static void put16(unsigned char *p, uint64_t v)
{
	uint16_t le = htole16((uint16_t)v);

	memcpy(p, &le, sizeof le);
}

static void put32(unsigned char *p, uint64_t v)
{
	uint32_t le = htole32((uint32_t)v);

	memcpy(p, &le, sizeof le);
}

static void put64(unsigned char *p, uint64_t v)
{
	uint64_t le = htole64(v);

	memcpy(p, &le, sizeof le);
}

/* ---- order ---- */

static int by_bytes(const void *a, const void *b, void *ctx)
{
	const struct erofs_tree *t = ctx;
	const struct etree_name *x = &t->names.p[*(const uint32_t *)a],
				*y = &t->names.p[*(const uint32_t *)b];
	int c = memcmp(t->text.p + x->text, t->text.p + y->text, x->len < y->len ? x->len : y->len);

	return c ? c : x->len - y->len;
}

/* A counting sort by directory, then each directory by name. */
static void sort_names(struct image *m)
{
	struct erofs_tree *t = m->t;
	uint32_t sum = 0;

	m->sorted = xcalloc(t->names.n + 1, sizeof *m->sorted);
	for (size_t i = 0; i < t->names.n; i++)
		t->inodes.p[t->names.p[i].dir].n_names++;
	for (size_t i = 0; i < t->inodes.n; i++) {
		t->inodes.p[i].first = sum;
		sum += t->inodes.p[i].n_names;
		t->inodes.p[i].n_names = 0;
	}
	for (uint32_t i = 0; i < t->names.n; i++) {
		struct etree_inode *dir = &t->inodes.p[t->names.p[i].dir];

		m->sorted[dir->first + dir->n_names++] = i;
	}
	for (size_t i = 0; i < t->inodes.n; i++)
		if (t->inodes.p[i].n_names > 1)
			qsort_r(m->sorted + t->inodes.p[i].first, t->inodes.p[i].n_names, sizeof *m->sorted,
				by_bytes, t);
}

/* A directory's entries in order, with the two that are in no tree. */
struct listing {
	const struct image *m;
	uint32_t dir, next, end;
	int dots; /* how many of "." and ".." were given */
};
struct listed {
	const char *name;
	size_t n;
	uint32_t inode;
};

static struct listing list(const struct image *m, uint32_t dir)
{
	const struct etree_inode *d = &m->t->inodes.p[dir];

	return (struct listing){ .m = m, .dir = dir, .next = d->first, .end = d->first + d->n_names };
}

/* Names that begin with less than a dot come before ".", as "..a" comes behind "..". */
static bool next_entry(struct listing *l, struct listed *out)
{
	const struct erofs_tree *t = l->m->t;
	const struct etree_name *e = l->next < l->end ? &t->names.p[l->m->sorted[l->next]] : NULL;

	if (l->dots < 2) {
		size_t n = (size_t)l->dots + 1;
		int c = e ? memcmp("..", t->text.p + e->text, n < e->len ? n : e->len) : -1;

		if (c < 0 || (c == 0 && n <= e->len)) {
			*out = (struct listed){ "..", n, l->dots ? t->inodes.p[l->dir].parent : l->dir };
			l->dots++;
			return true;
		}
	}
	if (!e)
		return false;
	*out = (struct listed){ t->text.p + e->text, e->len, e->inode };
	l->next++;
	return true;
}

/* ---- places ---- */

static size_t xattrs_size(const struct erofs_tree *t, const struct etree_inode *i)
{
	size_t n = XATTR_HEAD;

	for (uint32_t x = i->xattrs; x != ETREE_NONE; x = t->xattrs.p[x].next)
		n += ROUND((size_t)4 + t->xattrs.p[x].len + t->xattrs.p[x].n, 4);
	return i->xattrs == ETREE_NONE ? 0 : n;
}

static uint64_t dir_size(const struct image *m, uint32_t dir)
{
	struct listing l = list(m, dir);
	struct listed e;
	uint64_t full = 0;
	size_t used = 0;

	while (next_entry(&l, &e)) {
		if (used + DIRENT + e.n > EROFS_BLOCK) {
			full += EROFS_BLOCK;
			used = 0;
		}
		used += DIRENT + e.n;
	}
	return full + used;
}

/*
 * Where an inode with `tail` inline bytes may stand from byte at on, so that these do not cross a block; a
 * link may not at all. UINT64_MAX: nowhere.
 */
static uint64_t inline_place(uint64_t at, size_t head, size_t tail, bool is_link)
{
	for (int tries = 0; tries < EROFS_BLOCK / SLOT; tries++, at += SLOT) {
		size_t begin = is_link ? at % EROFS_BLOCK + head : (at + head) % EROFS_BLOCK;

		if (begin + tail <= EROFS_BLOCK)
			return at;
	}
	return UINT64_MAX;
}

static FALLIBLE place_inode(struct image *m, uint32_t n)
{
	struct etree_inode *i = &m->t->inodes.p[n];
	size_t head = INODE + xattrs_size(m->t, i), tail = 0;
	bool is_link = S_ISLNK(i->mode), is_dir = S_ISDIR(i->mode);
	uint64_t at = m->inodes_end, place;

	i->is_placed = true;
	m->n_inodes++;
	if (head > INODE && (head - INODE - XATTR_HEAD) / 4 + 1 > UINT16_MAX)
		return FAIL_OS(ENOSPC, "attributes of one file");
	if (is_dir)
		i->size = dir_size(m, n);
	if (is_dir || (is_link && i->size < EROFS_BLOCK))
		tail = i->size % EROFS_BLOCK;
	place = tail ? inline_place(at, head, tail, is_link) : UINT64_MAX;
	i->is_inline = place != UINT64_MAX;
	i->at = i->is_inline ? place : at;
	i->block = (uint32_t)m->n_blocks;
	if (is_dir || is_link)
		m->n_blocks +=
		    i->is_inline ? i->size / EROFS_BLOCK : ROUND(i->size, EROFS_BLOCK) / EROFS_BLOCK;
	if (i->chunk_bits) {
		size_t size = (size_t)(ROUND(i->size, UINT64_C(1) << i->chunk_bits) >> i->chunk_bits) * 8;

		head = ROUND(head, 8) + size;
		m->has_chunks = true;
	}
	m->inodes_end = ROUND(i->at + head + (i->is_inline ? tail : 0), SLOT);
	return NULL;
}

/* Breadth first: the children of one directory stand together, for who lists it and looks at each. */
static FALLIBLE place_all(struct image *m)
{
	struct erofs_tree *t = m->t;

	m->order = xcalloc(t->inodes.n, sizeof *m->order);
	m->inodes_end = INODE; /* inode number 0 would mean "none" to programs */
	m->order[m->n_dirs++] = 0;
	TRY(place_inode(m, 0));
	t->inodes.p[0].nlink = 2;
	for (size_t d = 0; d < m->n_dirs; d++) {
		const struct etree_inode *dir = &t->inodes.p[m->order[d]];

		for (uint32_t k = dir->first; k < dir->first + dir->n_names; k++) {
			uint32_t n = t->names.p[m->sorted[k]].inode;
			struct etree_inode *i = &t->inodes.p[n];

			if (!i->is_placed)
				TRY(place_inode(m, n));
			i->nlink++;
			if (S_ISDIR(i->mode)) {
				i->nlink++;
				t->inodes.p[m->order[d]].nlink++;
				m->order[m->n_dirs++] = n;
			}
		}
	}
	return NULL;
}

/* ---- bytes ---- */

static unsigned char file_type(mode_t mode)
{
	static const struct {
		mode_t mode;
		unsigned char type;
	} types[] = { { S_IFREG, 1 }, { S_IFDIR, 2 }, { S_IFCHR, 3 },
		      { S_IFBLK, 4 }, { S_IFIFO, 5 }, { S_IFLNK, 7 } };

	for (size_t k = 0; k < LEN(types); k++)
		if ((mode & S_IFMT) == types[k].mode)
			return types[k].type;
	return 0;
}

/* One block of a directory: the table of entries, then the names. */
static void put_block(const struct image *m, struct listing *l, unsigned char *p)
{
	struct listing first = *l;
	struct listed e;
	size_t count = 0, used = 0, name_at, dirent = 0;

	for (struct listing at = *l; next_entry(&at, &e) && used + DIRENT + e.n <= EROFS_BLOCK; *l = at) {
		used += DIRENT + e.n;
		count++;
	}
	name_at = count * DIRENT;
	while (count-- && next_entry(&first, &e)) {
		put64(p + dirent, m->t->inodes.p[e.inode].at / SLOT);
		put16(p + dirent + 8, name_at);
		p[dirent + 10] = file_type(m->t->inodes.p[e.inode].mode);
		memcpy(p + name_at, e.name, e.n);
		dirent += DIRENT;
		name_at += e.n;
	}
}

static unsigned char *data_block(const struct image *m, uint64_t block)
{
	return m->out + ROUND(m->inodes_end, EROFS_BLOCK) + block * EROFS_BLOCK;
}

static void put_directory(const struct image *m, uint32_t n, unsigned char *tail)
{
	const struct etree_inode *i = &m->t->inodes.p[n];
	struct listing l = list(m, n);

	for (uint64_t done = 0, block = i->block; done < i->size; done += EROFS_BLOCK, block++)
		put_block(m, &l, i->is_inline && i->size - done < EROFS_BLOCK ? tail : data_block(m, block));
}

static unsigned char *put_xattrs(const struct image *m, const struct etree_inode *i, unsigned char *p)
{
	const struct erofs_tree *t = m->t;

	if (i->xattrs == ETREE_NONE)
		return p;
	p += XATTR_HEAD;
	for (uint32_t k = i->xattrs; k != ETREE_NONE; k = t->xattrs.p[k].next) {
		const struct etree_xattr *x = &t->xattrs.p[k];

		p[0] = x->len;
		p[1] = x->index;
		put16(p + 2, x->n);
		memcpy(p + 4, t->text.p + x->text, (size_t)x->len + x->n);
		p += ROUND((size_t)4 + x->len + x->n, 4);
	}
	return p;
}

static void put_chunks(const struct image *m, const struct etree_inode *i, unsigned char *p)
{
	for (uint64_t k = 0; k << i->chunk_bits < i->size; k++, p += 8)
		put32(p + 4, m->t->chunks.p[i->data + k]); /* of the image itself: device 0 */
}

/* Byte 16: first block, device number or chunk format. */
static uint32_t place_word(const struct image *m, const struct etree_inode *i)
{
	if (S_ISCHR(i->mode) || S_ISBLK(i->mode))
		return (uint32_t)i->data;
	if (i->chunk_bits)
		return CHUNK_INDEXES | (i->chunk_bits - 9u);
	if (S_ISDIR(i->mode) || S_ISLNK(i->mode))
		return (uint32_t)((m->meta_at + ROUND(m->inodes_end, EROFS_BLOCK)) / EROFS_BLOCK + i->block);
	return S_ISREG(i->mode) && i->size ? (uint32_t)(m->device + i->data / EROFS_BLOCK) : 0;
}

static void put_inode(const struct image *m, uint32_t n, uint32_t number)
{
	const struct etree_inode *i = &m->t->inodes.p[n];
	unsigned layout = i->chunk_bits ? LAYOUT_CHUNKS : i->is_inline ? LAYOUT_INLINE : LAYOUT_PLAIN;
	size_t xattrs = xattrs_size(m->t, i);
	unsigned char *p = m->out + i->at, *tail;
	int64_t ns = i->mtime_ns % 1000000000, s = i->mtime_ns / 1000000000;

	put16(p, 1 | layout << 1);
	put16(p + 2, xattrs ? (xattrs - XATTR_HEAD) / 4 + 1 : 0);
	put16(p + 4, i->mode);
	put64(p + 8, i->size);
	put32(p + 16, place_word(m, i));
	put32(p + 20, number);
	put32(p + 24, i->uid);
	put32(p + 28, i->gid);
	put64(p + 32, (uint64_t)(ns < 0 ? s - 1 : s));
	put32(p + 40, (uint64_t)(ns < 0 ? ns + 1000000000 : ns));
	put32(p + 44, i->nlink);
	tail = put_xattrs(m, i, p + INODE);
	if (i->chunk_bits)
		put_chunks(m, i, m->out + ROUND((uint64_t)(tail - m->out), 8));
	else if (S_ISLNK(i->mode))
		memcpy(i->is_inline ? tail : data_block(m, i->block), m->t->text.p + i->data,
		       (size_t)i->size);
	else if (S_ISDIR(i->mode))
		put_directory(m, n, tail);
}

static void put_all(const struct image *m)
{
	struct erofs_tree *t = m->t;
	uint32_t number = 1;

	for (uint32_t n = 0; n < t->inodes.n; n++)
		if (t->inodes.p[n].is_placed)
			put_inode(m, n, number++);
}

static void put_head(const struct image *m, uint64_t blocks, unsigned char head[HEAD])
{
	unsigned char *sb = head + EROFS_SB_AT, *device = head + DEVICE_AT;
	char size[17];

	put32(sb, SB_MAGIC);
	put32(sb + 8, 2); /* times are mtimes */
	sb[12] = 9;       /* bits of a block's size */
	put16(sb + 14, m->t->inodes.p[0].at / SLOT);
	put64(sb + 16, m->n_inodes);
	put32(sb + 36, blocks);
	put32(sb + 40, m->meta_at / EROFS_BLOCK);
	/* with its NUL: 6.1 for one refuses a name without */
	(void)snprintf(size, sizeof size, "%015llx", (unsigned long long)m->t->content & (UINT64_MAX >> 4));
	memcpy(sb + 64, size, 16);
	put32(sb + 80, INCOMPAT_DEVICES | (m->has_chunks ? INCOMPAT_CHUNKED : 0u));
	put16(sb + 86, 1); /* devices */
	put16(sb + 88, DEVICE_AT / 128);
	put32(device + 64, ROUND(m->t->tar_end, EROFS_BLOCK) / EROFS_BLOCK);
	put32(device + 68, m->device);
}

FALLIBLE etree_write(struct erofs_tree *t, int image_fd, uint64_t data_end)
{
	CLEANUP(image_fini) struct image m = { .t = t, .meta_at = ROUND(data_end, HEAD) };
	unsigned char head[HEAD] = { 0 };
	uint64_t n;
	int r;

	sort_names(&m);
	TRY(place_all(&m));
	n = ROUND(m.inodes_end, EROFS_BLOCK) + m.n_blocks * EROFS_BLOCK;
	m.device = ROUND(m.meta_at + n, HEAD) / EROFS_BLOCK;
	if (m.device + t->tar_end / EROFS_BLOCK + 1 >= BLOCKS_MAX)
		return FAIL(ERR_LIMIT, "tar archive: a layer of more than %llu bytes",
			    (unsigned long long)BLOCKS_MAX * EROFS_BLOCK);
	m.out = xcalloc(1, n);
	put_all(&m);
	put_head(&m, (m.meta_at + n) / EROFS_BLOCK, head);
	if ((r = sys_pwrite_all(image_fd, head, HEAD, 0)) < 0 ||
	    (r = sys_pwrite_all(image_fd, m.out, n, (off_t)m.meta_at)) < 0)
		return FAIL_OS(-r, "write the layer's index");
	return NULL;
}

FALLIBLE erofs_index(struct zip_source tar, int image_fd, uint64_t *out_size)
{
	CLEANUP(etree_fini) struct erofs_tree t;
	uint64_t data_end = HEAD;

	etree_init(&t);
	TRY(etree_read_tar(&t, tar, image_fd, &data_end));
	TRY(etree_write(&t, image_fd, data_end));
	*out_size = t.content;
	return NULL;
}

/* ---- what it says of itself ---- */

static unsigned hex_value(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

FALLIBLE erofs_stamp(int image_fd, const char *diff_id)
{
	const char *hex = digest_hex(diff_id);
	unsigned char uuid[16];
	int r;

	for (size_t i = 0; i < sizeof uuid; i++)
		uuid[i] = (unsigned char)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
	if ((r = sys_pwrite_all(image_fd, uuid, sizeof uuid, UUID_AT)) < 0 ||
	    (r = sys_pwrite_all(image_fd, hex, 64, DEVICE_AT)) < 0)
		return FAIL_OS(-r, "write the layer's index");
	return NULL;
}

FALLIBLE erofs_look(int image_fd, char out_diff_id[DIGEST_MAX], uint64_t *out_size)
{
	unsigned char head[DEVICE_AT + 64];
	ssize_t n = sys_pread(image_fd, head, sizeof head, 0);
	uint32_t magic = 0;
	char text[17] = "", diff_id[DIGEST_MAX];

	if (n < 0)
		return FAIL_OS((int)-n, "read the layer's index");
	if (n == (ssize_t)sizeof head)
		memcpy(&magic, head + EROFS_SB_AT, sizeof magic);
	(void)snprintf(diff_id, sizeof diff_id, "sha256:%.64s", magic ? (const char *)head + DEVICE_AT : "");
	if (le32toh(magic) != SB_MAGIC || !digest_is_valid(sv_of(diff_id)))
		return FAIL(ERR_CORRUPT, "the layer's index is damaged");
	memcpy(text, head + NAME_AT, 16);
	*out_size = strtoull(text, NULL, 16);
	memcpy(out_diff_id, diff_id, DIGEST_MAX);
	return NULL;
}
