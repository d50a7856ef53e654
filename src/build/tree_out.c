/*
 * tree_out.c - the contents of a tree: hashed for the cache, written as a layer's tar. Both read the files in the same order with
 * the same function, so what is written is known to be what the key stands for.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "build/tree.h"
#include "codec/tar.h"
#include "codec/zip.h"
#include "sys/sys.h"
#include <fcntl.h>

enum { CHUNK = 1 << 18 };

struct out {
	const struct tree *t;
	struct digest_state *hash;
	struct tar_writer *tar; /* NULL: hash only */
	char *chunk;
	struct map seen; /* paths unpacked so far, so that parents are not written twice */
};

static void add_number(struct digest_state *d, uint64_t v)
{
	unsigned char b[8];

	for (size_t i = 0; i < sizeof b; i++)
		b[i] = (unsigned char)(v >> (8 * i));
	digest_add(d, b, sizeof b);
}

static void add_text(struct digest_state *d, const char *s)
{
	add_number(d, strlen(s));
	digest_add(d, s, strlen(s));
}

static void hash_entry(struct digest_state *d, const struct tree_entry *e)
{
	add_text(d, e->path);
	digest_add(d, &e->type, 1);
	add_number(d, e->mode);
	add_number(d, e->uid);
	add_number(d, e->gid);
	add_number(d, e->size);
	add_text(d, e->link ? e->link : "");
	add_number(d, (uint64_t)e->major << 32 | e->minor);
	add_number(d, e->n_capability);
	digest_add(d, e->capability, e->n_capability);
}

static FALLIBLE changed(const struct tree_entry *e)
{
	return FAIL(ERR_CONFLICT, "%s changed while it was copied", e->source);
}

static FALLIBLE open_source(const struct tree_entry *e, int *out_fd)
{
	auto_fd int fd = sys_open_in_root(e->source_fd, e->source, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return FAIL_OS(-fd, "open %s", e->source);
	if (sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (e->type == '0' && (uint64_t)st.st_size != e->size))
		return changed(e);
	*out_fd = TAKE_FD(fd);
	return NULL;
}

static FALLIBLE give(struct out *o, const void *p, size_t n)
{
	digest_add(o->hash, p, n);
	return o->tar ? tar_write(o->tar, p, n) : NULL;
}

static FALLIBLE content(struct out *o, const struct tree_entry *e)
{
	auto_fd int fd = -1;
	uint64_t left = e->size;

	if (e->text)
		return give(o, e->text, (size_t)e->size);
	if (!left)
		return NULL;
	TRY(open_source(e, &fd));
	while (left) {
		ssize_t n = sys_read(fd, o->chunk, left < CHUNK ? (size_t)left : CHUNK);

		if (n < 0)
			return FAIL_OS((int)-n, "read %s", e->source);
		if (n == 0)
			return changed(e);
		TRY(give(o, o->chunk, (size_t)n));
		left -= (uint64_t)n;
	}
	return NULL;
}

/* ---- archives ---- */

static struct err *read_unzip(void *ctx, void *p, size_t n, size_t *out_n)
{
	return unzip_read(ctx, p, n, out_n);
}

static bool has_dotdot(const char *path)
{
	struct sv rest = sv_of(path);

	while (rest.n)
		if (sv_is(sv_cut(&rest, '/'), ".."))
			return true;
	return false;
}

static FALLIBLE parents_of(struct out *o, const char *path)
{
	const struct tree *t = o->t;

	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		auto_free char *dir = xstrndup(path, (size_t)(slash - path)), *absolute = xasprintf("/%s", dir);
		struct tar_entry e = { .name = dir, .link = "", .type = '5', .mode = 0755, .mtime_ns = t->mtime_ns };
		auto_fd int fd = -1;
		struct stat st;

		if (map_get(&o->seen, dir) || map_get(&t->index, absolute))
			continue;
		*map_put(&o->seen, dir) = o;
		fd = t->base_fd < 0 ? -1 : sys_open_in_root(t->base_fd, absolute, O_PATH | O_NOFOLLOW, 0);
		if (fd >= 0 && sys_fstat(fd, &st) == 0) {
			if (!S_ISDIR(st.st_mode))
				return FAIL(ERR_UNSUPPORTED, "the archive goes through %s, a symbolic link of the image", absolute);
			e.mode = st.st_mode & 07777;
			e.uid = st.st_uid;
			e.gid = st.st_gid;
		}
		TRY(tar_add(o->tar, &e));
	}
	return NULL;
}

static bool is_link_to_dir(const struct tree *t, const char *name)
{
	auto_fd int fd = t->base_fd < 0 ? -1 : sys_open_in_root(t->base_fd, name, O_PATH | O_NOFOLLOW, 0);
	auto_free char *absolute = xasprintf("/%s", name);
	struct stat st;

	return fd >= 0 && sys_fstat(fd, &st) == 0 && S_ISLNK(st.st_mode) && tree_base_is_dir(t, absolute);
}

/* name with the image's links of its directory followed; owned. */
static FALLIBLE follow(const struct tree *t, const char *name, char **out_name)
{
	const char *slash = strrchr(name, '/');
	auto_free char *dir = NULL, *real = NULL;

	if (!slash) {
		*out_name = xstrdup(name);
		return NULL;
	}
	dir = xasprintf("/%.*s", (int)(slash - name), name);
	TRY(tree_real_dir(t, dir, &real));
	*out_name = xasprintf("%s%s", real + 1, strcmp(real, "/") == 0 ? slash + 1 : slash);
	return NULL;
}

static FALLIBLE unpack_entry(struct out *o, const struct tree_entry *a, const struct tar_entry *in, struct tar_reader *tar)
{
	auto_free char *named = NULL, *name = NULL, *link = NULL;
	struct tar_entry e = *in;

	if (has_dotdot(in->name) || (in->type == '1' && has_dotdot(in->link)))
		return FAIL(ERR_INVALID, "%s: %s escapes the destination", a->source, in->name);
	if (!*in->name || strcmp(in->name, ".") == 0)
		return NULL;
	named = xasprintf("%s%s%s", a->path, *a->path ? "/" : "", in->name + strspn(in->name, "/"));
	if (in->type == '5' && is_link_to_dir(o->t, named))
		return NULL; /* what it holds goes where the image's link leads: /bin of an archive on a merged /usr */
	TRY(follow(o->t, named, &name));
	e.name = name;
	e.mtime_ns = o->t->mtime_ns;
	if (in->type == '1') {
		auto_free char *target = xasprintf("%s%s%s", a->path, *a->path ? "/" : "", in->link + strspn(in->link, "/"));

		TRY(follow(o->t, target, &link));
		e.link = link;
	}
	if (o->t->attrs.has_owner) {
		e.uid = o->t->attrs.uid;
		e.gid = o->t->attrs.gid;
	}
	TRY(parents_of(o, name));
	*map_put(&o->seen, name) = o;
	TRY(tar_add(o->tar, &e));
	for (uint64_t left = in->type == '0' ? in->size : 0; left;) {
		size_t n = 0;

		TRY(tar_read(tar, o->chunk, CHUNK, &n));
		if (!n)
			return FAIL(ERR_CORRUPT, "%s: %s is cut off", a->source, in->name);
		TRY(tar_write(o->tar, o->chunk, n));
		left -= n;
	}
	return NULL;
}

static FALLIBLE archive(struct out *o, const struct tree_entry *a)
{
	auto_unzip struct unzip *u = NULL;
	auto_tar_reader struct tar_reader *tar = NULL;
	const struct tar_entry *e;
	auto_fd int fd = -1;
	ssize_t n;

	TRY(open_source(a, &fd));
	if (!o->tar) {
		while ((n = sys_read(fd, o->chunk, CHUNK)) > 0)
			digest_add(o->hash, o->chunk, (size_t)n);
		return n < 0 ? FAIL_OS((int)-n, "read %s", a->source) : NULL;
	}
	TRY(unzip_open_any(zip_source_fd(&fd), &u));
	TRY(tar_reader_new((struct zip_source){ read_unzip, u }, &tar));
	for (;;) {
		TRY(tar_next(tar, &e));
		if (!e)
			return NULL;
		TRY(unpack_entry(o, a, e, tar));
	}
}

/* ---- both ---- */

static FALLIBLE one(struct out *o, const struct tree_entry *e)
{
	struct tar_xattr capability = { "security.capability", e->capability, e->n_capability };
	struct tar_entry t = { .name = e->path, .link = e->link ? e->link : "", .type = e->type, .mode = e->mode, .uid = e->uid,
			       .gid = e->gid, .size = e->size, .mtime_ns = o->t->mtime_ns, .dev_major = e->major,
			       .dev_minor = e->minor, .xattrs = &capability, .n_xattrs = e->n_capability ? 1 : 0 };

	hash_entry(o->hash, e);
	if (e->type == 'A')
		return archive(o, e);
	if (o->tar)
		TRY(tar_add(o->tar, &t));
	return e->type == '0' ? content(o, e) : NULL;
}

static FALLIBLE all(struct out *o)
{
	add_number(o->hash, (uint64_t)o->t->mtime_ns);
	for (size_t i = 0; i < o->t->v.n; i++)
		TRY(one(o, &o->t->v.p[i]));
	return NULL;
}

FALLIBLE tree_hash(const struct tree *t, char out[DIGEST_MAX])
{
	auto_digest struct digest_state *d = digest_new();
	auto_free char *chunk = xmalloc(CHUNK);
	struct out o = { .t = t, .hash = d, .chunk = chunk };

	TRY(all(&o));
	digest_end(d, out);
	return NULL;
}

static struct err *to_ingest(void *ctx, const void *p, size_t n)
{
	return ingest_write(ctx, p, n);
}

FALLIBLE tree_write(const struct tree *t, const char *want, struct ingest *in)
{
	auto_digest struct digest_state *d = digest_new();
	auto_free char *chunk = xmalloc(CHUNK);
	auto_tar_writer struct tar_writer *tar = NULL;
	struct out o = { .t = t, .hash = d, .chunk = chunk };
	char got[DIGEST_MAX];
	struct err *e;

	TRY(tar_writer_new((struct zip_sink){ to_ingest, in }, &tar));
	o.tar = tar;
	e = all(&o);
	map_fini(&o.seen);
	TRY(e);
	TRY(tar_finish(tar));
	digest_end(d, got);
	if (!tree_has_archive(t) && strcmp(got, want) != 0)
		return FAIL(ERR_CONFLICT, "a source changed while it was copied");
	return NULL;
}
