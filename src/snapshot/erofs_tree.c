/* erofs_tree.c - nodes, names and paths of the tree in memory; see erofs_tree.h. */
#include "snapshot/erofs_tree.h"
#include "base/own.h"
#include "sys/entropy.h"
#include <stdio.h>
#include <sys/stat.h>

enum { LINKS_MAX = 40, TEXT_MAX = 1 << 30, MAKE_DEPTH = 1 };

void etree_init(struct erofs_tree *t)
{
	char random[2 * sizeof t->seed + 1];

	*t = (struct erofs_tree){ .n_slots = 1024 };
	sys_random_hex(random, sizeof t->seed);
	memcpy(&t->seed, random, sizeof t->seed);
	t->slots = xcalloc(t->n_slots, sizeof *t->slots);
	*vec_push(&t->inodes) = (struct etree_inode){ .mode = S_IFDIR | 0755, .xattrs = ETREE_NONE };
}

void etree_fini(struct erofs_tree *t)
{
	vec_fini(&t->inodes);
	vec_fini(&t->names);
	vec_fini(&t->xattrs);
	vec_fini(&t->text);
	vec_fini(&t->chunks);
	vec_fini(&t->near);
	free(t->slots);
}

FALLIBLE etree_inode_add(struct erofs_tree *t, mode_t mode, int64_t mtime_ns, uint32_t *out_inode)
{
	struct etree_inode *i;

	if (t->inodes.n >= ETREE_NODES_MAX)
		return FAIL(ERR_LIMIT, "tar archive: more than %u entries", ETREE_NODES_MAX);
	*out_inode = (uint32_t)t->inodes.n;
	i = vec_push(&t->inodes);
	i->mode = mode;
	i->mtime_ns = mtime_ns;
	i->xattrs = ETREE_NONE;
	return NULL;
}

FALLIBLE etree_text(struct erofs_tree *t, const void *p, size_t n, uint32_t *out_at)
{
	if (t->text.n + n > TEXT_MAX)
		return FAIL(ERR_LIMIT, "tar archive: more than %d bytes of names and attributes", TEXT_MAX);
	while (t->text.cap < t->text.n + n) {
		t->text.cap = t->text.cap ? 2 * t->text.cap : 65536;
		t->text.p = xrealloc(t->text.p, t->text.cap);
	}
	*out_at = (uint32_t)t->text.n;
	if (n)
		memcpy(t->text.p + t->text.n, p, n);
	t->text.n += n;
	return NULL;
}

/* ---- names ---- */

/* SECURITY: seeded, so that no archive can be made whose names all meet in one chain. */
static uint32_t hash_of(const struct erofs_tree *t, uint32_t dir, const char *name, size_t n)
{
	uint64_t h = t->seed ^ dir * UINT64_C(0x9e3779b97f4a7c15), v;

	for (; n >= 8; n -= 8, name += 8) {
		memcpy(&v, name, 8);
		h = (h ^ v) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
	}
	v = n;
	while (n)
		v = v << 8 | (unsigned char)name[--n];
	h = (h ^ v) * UINT64_C(0xc4ceb9fe1a85ec53);
	h ^= h >> 29;
	return (uint32_t)((h * (t->seed | 1)) >> 32);
}

/* The name's slot, or the empty one where it belongs. */
static struct etree_slot *slot_of(const struct erofs_tree *t, uint32_t hash, uint32_t dir, const char *name, size_t n)
{
	for (size_t i = hash;; i++) {
		struct etree_slot *s = &t->slots[i & (t->n_slots - 1)];
		const struct etree_name *e = t->names.p + s->name; /* the one behind it */

		if (!s->name || (s->hash == hash && e[-1].dir == dir && e[-1].len == n &&
				 memcmp(t->text.p + e[-1].text, name, n) == 0))
			return s;
	}
}

uint32_t etree_find(const struct erofs_tree *t, uint32_t dir, const char *name, size_t n)
{
	return slot_of(t, hash_of(t, dir, name, n), dir, name, n)->name - 1; /* ETREE_NONE: empty */
}

/* A quarter of the slots stays empty, so that rows of full ones are short. */
static void grow(struct erofs_tree *t)
{
	struct etree_slot *old = t->slots;
	size_t n_old = t->n_slots;

	if (t->names.n < n_old / 4 * 3)
		return;
	t->n_slots *= 2;
	t->slots = xcalloc(t->n_slots, sizeof *t->slots);
	for (size_t i = 0; i < n_old; i++) {
		size_t to = old[i].hash;

		while (old[i].name && t->slots[to & (t->n_slots - 1)].name)
			to++;
		if (old[i].name)
			t->slots[to & (t->n_slots - 1)] = old[i];
	}
	free(old);
}

FALLIBLE etree_name_set(struct erofs_tree *t, uint32_t dir, const char *name, size_t n, uint32_t inode)
{
	mode_t mode = t->inodes.p[inode].mode;
	struct etree_name e = { .dir = dir, .inode = inode, .len = (uint8_t)n, .is_dir = S_ISDIR(mode), .is_link = S_ISLNK(mode) };
	uint32_t hash = hash_of(t, dir, name, n);
	struct etree_slot *slot = slot_of(t, hash, dir, name, n);

	if (n > ETREE_NAME_MAX)
		return FAIL_OS(ENAMETOOLONG, "create %.*s", (int)n, name);
	if (e.is_dir)
		t->inodes.p[inode].parent = dir;
	if (slot->name) {
		e.text = t->names.p[slot->name - 1].text;
		t->names.p[slot->name - 1] = e;
		t->near.n = 0;
		return NULL;
	}
	if (t->names.n >= ETREE_NODES_MAX)
		return FAIL(ERR_LIMIT, "tar archive: more than %u names", ETREE_NODES_MAX);
	TRY(etree_text(t, name, n, &e.text));
	*vec_push(&t->names) = e;
	*slot = (struct etree_slot){ hash, (uint32_t)t->names.n };
	grow(t);
	return NULL;
}

/* ---- attributes ---- */

static bool split_key(const char *key, uint8_t *out_index, const char **out_name)
{
	static const struct {
		const char *prefix;
		uint8_t index;
	} known[] = { { "user.", XATTR_USER },
		      { "trusted.", XATTR_TRUSTED },
		      { "security.", XATTR_SECURITY },
		      { "system.posix_acl_access", XATTR_ACL_ACCESS },
		      { "system.posix_acl_default", XATTR_ACL_DEFAULT } };

	for (size_t i = 0; i < LEN(known); i++) {
		size_t n = strlen(known[i].prefix);
		bool is_acl = known[i].prefix[n - 1] != '.';

		if (strncmp(key, known[i].prefix, n) != 0 || (key[n] == 0) != is_acl)
			continue;
		*out_index = known[i].index;
		*out_name = key + n;
		return true;
	}
	return false;
}

FALLIBLE etree_xattr_set(struct erofs_tree *t, uint32_t inode, const char *key, const void *value, size_t n)
{
	struct etree_xattr x = { .next = ETREE_NONE };
	const char *name = NULL;
	uint32_t *at = &t->inodes.p[inode].xattrs, ignored;
	size_t len;

	if (!split_key(key, &x.index, &name))
		return NULL;
	len = strlen(name);
	if (len > ETREE_NAME_MAX || n > UINT16_MAX)
		return FAIL(ERR_LIMIT, "attribute %.64s of %zu bytes, at most %u (and %d of its name)", key,
			    n, UINT16_MAX, ETREE_NAME_MAX);
	x.len = (uint8_t)len;
	x.n = (uint16_t)n;
	TRY(etree_text(t, name, len, &x.text));
	TRY(etree_text(t, value, n, &ignored));
	while (*at != ETREE_NONE) { /* one of that name is replaced in its place */
		struct etree_xattr *old = &t->xattrs.p[*at];

		if (old->index == x.index && old->len == len &&
		    memcmp(t->text.p + old->text, name, len) == 0) {
			x.next = old->next;
			*old = x;
			return NULL;
		}
		at = &old->next;
	}
	if (t->xattrs.n >= ETREE_NODES_MAX)
		return FAIL(ERR_LIMIT, "tar archive: more than %u attributes", ETREE_NODES_MAX);
	*at = (uint32_t)t->xattrs.n; /* before the push, which may move what at points into */
	*vec_push(&t->xattrs) = x;
	return NULL;
}

FALLIBLE etree_set_opaque(struct erofs_tree *t, uint32_t dir)
{
	return etree_xattr_set(t, dir, "trusted.overlay.opaque", "y", 1);
}

/* ---- paths ---- */

struct walk {
	struct erofs_tree *t;
	const char *path; /* for messages */
	size_t n;
	enum etree_how how;
	int64_t mtime_ns;
	int links, depth;
};

static FALLIBLE walk(struct walk *w, uint32_t *dir, const char *path, size_t n);

static FALLIBLE follow(struct walk *w, uint32_t *dir, uint32_t link)
{
	const struct etree_inode *i = &w->t->inodes.p[link];
	auto_free char *target = xstrndup(w->t->text.p + i->data, (size_t)i->size);
	struct err *e;

	if (++w->links > LINKS_MAX)
		return place_escapes(w->path);
	if (target[0] == '/')
		*dir = 0;
	w->depth++;
	e = walk(w, dir, target, strlen(target));
	w->depth--;
	return e;
}

static FALLIBLE make_dir(struct walk *w, uint32_t *dir, const char *name, size_t n)
{
	uint32_t made;

	if (w->how == ETREE_FIND)
		return FAIL_OS(ENOENT, "open directory %.*s", (int)w->n, w->path);
	if (w->depth > MAKE_DEPTH)
		return FAIL(ERR_INVALID, "%.*s: a link to a link to nothing", (int)w->n, w->path);
	TRY(etree_inode_add(w->t, S_IFDIR | 0755, w->mtime_ns, &made));
	TRY(etree_name_set(w->t, *dir, name, n, made));
	*dir = made;
	return NULL;
}

static FALLIBLE not_a_directory(const struct walk *w)
{
	return w->how == ETREE_FIND ? FAIL_OS(ENOTDIR, "open directory %.*s", (int)w->n, w->path)
				    : FAIL(ERR_INVALID, "%.*s is not a directory, but has entries below it", (int)w->n, w->path);
}

/* A whiteout with entries below it is a new directory, which hides the lower one's content. */
static FALLIBLE open_whiteout(struct walk *w, uint32_t *dir, const char *name, size_t n)
{
	if (w->how == ETREE_FIND || w->depth > MAKE_DEPTH)
		return not_a_directory(w);
	if (w->how == ETREE_HIDE)
		return FAIL(ERR_CANCELLED, "%.*s is below a whiteout", (int)w->n, w->path);
	TRY(make_dir(w, dir, name, n));
	return etree_set_opaque(w->t, *dir);
}

/* From *dir on. */
static FALLIBLE walk(struct walk *w, uint32_t *dir, const char *path, size_t n)
{
	for (const char *end = path + n; path < end;) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		size_t len = (size_t)((slash ? slash : end) - path);
		uint32_t name, inode;
		const char *part = path;

		path += len + (slash != NULL);
		if (len == 0 || (len == 1 && part[0] == '.'))
			continue;
		if (len == 2 && part[0] == '.' && part[1] == '.') {
			*dir = w->t->inodes.p[*dir].parent;
			continue;
		}
		name = len > ETREE_NAME_MAX ? ETREE_NONE : etree_find(w->t, *dir, part, len);
		if (name == ETREE_NONE) {
			TRY(make_dir(w, dir, part, len));
			continue;
		}
		inode = w->t->names.p[name].inode;
		if (w->t->names.p[name].is_link)
			TRY(follow(w, dir, inode));
		else if (w->t->names.p[name].is_dir)
			*dir = inode;
		else if (etree_is_whiteout(&w->t->inodes.p[inode]))
			TRY(open_whiteout(w, dir, part, len));
		else
			return not_a_directory(w);
	}
	return NULL;
}

/* Entries come directory by directory: paths mostly begin like the one before. Keeps of near what leads to the same places. */
static void keep_common(struct erofs_tree *t, const char *path, size_t n)
{
	size_t same = 0, both = n < t->path_len ? n : t->path_len;

	while (same < both && path[same] == t->path[same])
		same++;
	for (; t->near.n; t->near.n--) {
		size_t len = t->near.p[t->near.n - 1].len;

		if (len < same || (len == same && (len == n || path[len] == '/')))
			break;
	}
	memcpy(t->path + same, path + same, n - same);
	t->path_len = n;
}

FALLIBLE etree_enter(struct erofs_tree *t, const char *path, size_t n, enum etree_how how, int64_t mtime_ns,
		     uint32_t *out_dir)
{
	struct walk w = { .t = t, .path = path, .n = n, .how = how, .mtime_ns = mtime_ns };
	struct etree_near at = { 0 };

	keep_common(t, path, n);
	if (t->near.n)
		at = t->near.p[t->near.n - 1];
	while (at.len < n) {
		size_t begin = at.len + (at.len > 0);
		const char *slash = memchr(path + begin, '/', n - begin);

		at.len = slash ? (size_t)(slash - path) : n;
		TRY(walk(&w, &at.dir, path + begin, at.len - begin));
		*vec_push(&t->near) = at;
	}
	*out_dir = at.dir;
	return NULL;
}
