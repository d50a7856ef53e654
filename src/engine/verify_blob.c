/*
 * verify_blob.c - a good blob in the place of a damaged one. Every way that may give it is tried, the cheapest first; what comes is
 * taken by its digest alone, so a wrong guess costs time and nothing else.
 *
 * A damaged blob is set aside meanwhile, and put back when there is no other: of what is damaged the rest can still be read.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/verify_int.h"
#include "image/ref.h"
#include "sys/sys.h"
#include <stdio.h>
#include <sys/stat.h>

enum { CHUNK = 1 << 18, GUESS_BYTES = 1 << 16, GZIP_LEVELS = 9, ZSTD_LEVELS = 19, GZIP_USUAL = 4, ZSTD_USUAL = 3 };

struct mending {
	struct verify *v;
	struct image_names names;
	struct map dead; /* registries that did not answer */
	struct map used; /* what containers need */
	bool keeps_all;  /* what they need cannot be told, or what an image needs */
};

static bool is_there(const struct verify *v, const char *digest)
{
	return store_has(engine_store(v->e), digest, NULL);
}

static struct err *to_ingest(void *ctx, const void *p, size_t n)
{
	return ingest_write(ctx, p, n);
}

/* ---- a plain tar ---- */

static FALLIBLE from_database(struct verify *v, const char *digest)
{
	return image_document_restore(v->e, digest);
}

/* It may be the damaged file itself, under its other name. */
static FALLIBLE from_layer_tar(struct verify *v, const char *digest)
{
	auto_fd int fd = -1;

	TRY(layer_tar_open(engine_snapshotter(v->e), digest, &fd));
	return store_put_file(engine_store(v->e), fd, digest);
}

static FALLIBLE unpack(struct verify *v, const char *blob, const char *digest)
{
	auto_free char *chunk = xmalloc(CHUNK);
	auto_ingest struct ingest *in = NULL;
	auto_unzip struct unzip *u = NULL;
	auto_fd int fd = -1;
	size_t n = 1;

	TRY(store_blob_open(engine_store(v->e), blob, 0, &fd));
	TRY(unzip_open(zip_source_fd(&fd), &u));
	unzip_is_proven(u);
	TRY(ingest_begin(engine_store(v->e), &in));
	while (n) {
		TRY(unzip_read(u, chunk, CHUNK, &n));
		TRY(ingest_write(in, chunk, n));
	}
	return ingest_commit(in, digest, 0, NULL);
}

static FALLIBLE from_compressed(struct verify *v, const char *digest)
{
	struct descriptor blob;

	TRY(image_layer_blob(v->e, digest, &blob));
	free(blob.media_type);
	return unpack(v, blob.digest, digest);
}

/* A layer that was made here has its tar from its tree: that is made again, and is the same if the tree is whole. */
static FALLIBLE from_tree(struct verify *v, const char *digest)
{
	CLEANUP(rootfs_fini) struct rootfs root = { 0 };
	auto_ingest struct ingest *in = NULL;
	char copy[DIGEST_MAX], *ids[] = { copy, NULL };

	(void)snprintf(copy, sizeof copy, "%s", digest);
	if (!layer_exists(engine_snapshotter(v->e), digest))
		return FAIL(ERR_NOT_FOUND, "no layer");
	TRY(rootfs_prepare(engine_snapshotter(v->e), ids, NULL, &root));
	TRY(ingest_begin(engine_store(v->e), &in));
	TRY(rootfs_diff(root.lower[0], NULL, -1, (struct zip_sink){ to_ingest, in }));
	return ingest_commit(in, digest, 0, NULL);
}

/* How long the plain tar of a layer is, if a manifest tells; else 0. */
static uint64_t size_of(const struct verify *v, const char *digest)
{
	for (size_t i = 0; i < v->layers.n; i++)
		if (strcmp(v->layers.p[i].blob.digest, digest) == 0)
			return v->layers.p[i].blob.size;
	return 0;
}

/* Whoever wrote the tar: its headers from the damaged blob, the content of its files from the tree. */
static FALLIBLE from_damaged(struct verify *v, const char *digest)
{
	auto_ingest struct ingest *in = NULL;
	auto_fd int fd = -1;

	TRY(store_aside_open(engine_store(v->e), digest, &fd));
	TRY(ingest_begin(engine_store(v->e), &in));
	TRY(layer_tar_patch(engine_snapshotter(v->e), digest, fd, size_of(v, digest), (struct zip_sink){ to_ingest, in }));
	return ingest_commit(in, digest, 0, NULL);
}

typedef struct err *way(struct verify *v, const char *digest);

/* The first way that succeeds; no room is told, all else only means that this way does not give it. */
static FALLIBLE try_ways(struct verify *v, const char *digest, way *const *ways, size_t n)
{
	for (size_t i = 0; i < n && !is_there(v, digest); i++) {
		struct err *err = ways[i](v, digest);

		if (err && err->kind == ERR_LIMIT && err->os)
			return err;
		err_free(err);
	}
	return is_there(v, digest) ? NULL : FAIL(ERR_NOT_FOUND, "nothing in the store holds it");
}

static way *const plain_ways[] = { from_layer_tar, from_compressed, from_tree };

/* ---- a compressed tar, from the plain one ---- */

/* One guess how it was compressed: ended as soon as it can be seen not to become what it should. */
struct guess {
	struct ingest *ingest;
	int damaged_fd; /* what is left of the blob; -1: nothing */
	uint64_t wrong; /* bytes that are other than there */
};

static struct err *guess_write(void *ctx, const void *p, size_t n)
{
	struct guess *g = ctx;
	const unsigned char *want = p;
	uint64_t at = ingest_size(g->ingest);
	unsigned char have[4096];

	for (size_t i = 0; g->damaged_fd >= 0 && at < GUESS_BYTES && i < n; i += sizeof have) {
		size_t step = n - i < sizeof have ? n - i : sizeof have;
		ssize_t got = sys_pread(g->damaged_fd, have, step, (off_t)(at + i));

		for (size_t k = 0; k < step; k++)
			g->wrong += got < 0 || k >= (size_t)got || have[k] != want[i + k];
	}
	TRY(ingest_write(g->ingest, p, n));
	return ingest_size(g->ingest) >= GUESS_BYTES && g->wrong > GUESS_BYTES / 2 ? FAIL(ERR_CONFLICT, "another compressor") : NULL;
}

/* In the same pieces as when it is pushed: zstd's output may depend on them. */
static FALLIBLE squeeze(struct verify *v, const char *plain, enum zip_kind kind, int level, struct guess *g)
{
	auto_free char *chunk = xmalloc(CHUNK);
	auto_zip struct zip *z = NULL;
	auto_fd int fd = -1;
	ssize_t n;

	TRY(store_blob_open(engine_store(v->e), plain, 0, &fd));
	TRY(zip_open(kind, level, (struct zip_sink){ guess_write, g }, &z));
	while ((n = sys_read_full(fd, chunk, CHUNK)) > 0)
		TRY(zip_write(z, chunk, (size_t)n));
	return n < 0 ? FAIL_OS((int)-n, "read blob %s", plain) : zip_finish(z);
}

static FALLIBLE guess(struct verify *v, const char *plain, const char *digest, enum zip_kind kind, int level)
{
	auto_ingest struct ingest *in = NULL;
	struct guess g = { .damaged_fd = -1 };
	auto_fd int fd = -1;

	/* of one that is gone, or whose beginning is, the levels that hoy itself uses are tried to their end */
	if (level != (kind == ZIP_ZSTD ? ZSTD_USUAL : GZIP_USUAL)) {
		TRY(store_aside_open(engine_store(v->e), digest, &fd));
		g.damaged_fd = fd;
	}
	TRY(ingest_begin(engine_store(v->e), &in));
	g.ingest = in;
	TRY(squeeze(v, plain, kind, level, &g));
	return ingest_commit(in, digest, 0, NULL);
}

static FALLIBLE guess_all(struct verify *v, const char *plain, const char *digest)
{
	static const struct {
		enum zip_kind kind;
		int usual, levels;
	} kinds[] = { { ZIP_GZIP, GZIP_USUAL, GZIP_LEVELS }, { ZIP_ZSTD, ZSTD_USUAL, ZSTD_LEVELS } };

	for (size_t i = 0; i < LEN(kinds); i++)
		for (int level = 0; level <= kinds[i].levels; level++) {
			struct err *err;

			if (level == kinds[i].usual) /* was the first */
				continue;
			err = guess(v, plain, digest, kinds[i].kind, level ? level : kinds[i].usual);
			if (!err || (err->kind == ERR_LIMIT && err->os))
				return err;
			err_free(err);
		}
	return FAIL(ERR_NOT_FOUND, "another compressor made it");
}

/* The plain tar is brought into the store for it; what needs it not sweeps it. */
static FALLIBLE from_plain(struct verify *v, const char *digest)
{
	char diff_id[DIGEST_MAX] = "";

	for (size_t i = 0; i < v->layers.n; i++)
		if (strcmp(v->layers.p[i].blob.digest, digest) == 0)
			memcpy(diff_id, v->layers.p[i].diff_id, DIGEST_MAX);
	if (!diff_id[0])
		TRY(image_blob_diff_id(v->e, digest, diff_id));
	if (!diff_id[0] || strcmp(diff_id, digest) == 0)
		return FAIL(ERR_NOT_FOUND, "no compressed layer");
	TRY(try_ways(v, diff_id, plain_ways, LEN(plain_ways)));
	TRY(guess_all(v, diff_id, digest));
	return image_blob_remember(v->e, digest, diff_id); /* of one that was gone it was forgotten */
}

static FALLIBLE from_here(struct verify *v, const char *digest)
{
	static way *const ways[] = { from_database, from_layer_tar, from_compressed, from_tree, from_damaged, from_plain };

	return try_ways(v, digest, ways, LEN(ways));
}

/* ---- registries ---- */

/* It is what a name stands for, or what that is made of. */
static bool needs(struct verify *v, const struct image_name *n, const char *digest)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_free char *body = NULL;
	bool is_part = strcmp(n->manifest, digest) == 0 || strcmp(n->digest, digest) == 0;
	size_t len = 0;
	struct err *err = image_document_read(v->e, n->manifest, &body, &len);

	if (!err)
		err = manifest_parse(sv_from(body, len), NULL, &m);
	is_part = is_part || (!err && strcmp(m.config.digest, digest) == 0);
	for (size_t i = 0; !err && i < m.n; i++)
		is_part = is_part || strcmp(m.parts[i].digest, digest) == 0;
	err_free(err);
	return is_part;
}

/* A registry has our plain layers compressed, under a manifest of its own. */
static FALLIBLE from_fetched(struct verify *v, const char *manifest, const char *digest)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };

	TRY(image_docs_load(v->e, manifest, &d));
	for (size_t i = 0; i < d.manifest.n && !is_there(v, digest); i++)
		if (strcmp(d.diff_ids[i], digest) == 0)
			TRY(unpack(v, d.manifest.parts[i].digest, digest));
	return is_there(v, digest) ? NULL : FAIL(ERR_NOT_FOUND, "%s has it not", manifest);
}

/* full: repository@digest. A registry that does not answer is asked once. All that an image misses comes with one transfer. */
static FALLIBLE fetch(struct mending *m, const char *full, const char *digest)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	char manifest[DIGEST_MAX];
	struct err *err;

	TRY(ref_parse(full, &r));
	if (map_get(&m->dead, r.domain))
		return FAIL(ERR_UNAVAILABLE, "%s does not answer", r.domain);
	err = image_refetch(m->v->e, full, &m->v->o->transfer, manifest);
	if (err && (err->kind == ERR_UNAVAILABLE || err->kind == ERR_TIMEOUT))
		*map_put(&m->dead, r.domain) = m;
	if (err || is_there(m->v, digest))
		return err;
	return from_fetched(m->v, manifest, digest);
}

/* By the manifest's own digest; a registry that has the image in another form knows the one that its name resolved to. */
static FALLIBLE fetch_by_name(struct mending *m, const struct image_name *n, const char *digest)
{
	bool is_top = strcmp(digest, n->digest) == 0;
	const char *digests[] = { is_top ? n->digest : n->manifest, is_top ? n->manifest : n->digest };
	CLEANUP(ref_fini) struct ref r = { 0 };
	struct err *err = NULL;

	TRY(ref_parse(n->ref, &r));
	for (size_t i = 0; i < LEN(digests); i++) {
		auto_free char *full = xasprintf("%s/%s@%s", r.domain, r.path, digests[i]);

		if (i > 0 && strcmp(digests[0], digests[1]) == 0)
			break;
		err_free(err);
		err = fetch(m, full, digest);
		if (!err || err->kind == ERR_CANCELLED)
			break;
	}
	return err;
}

/* Of all that failed the last is told: where the blob came from, if that is known, else one of its names. */
static FALLIBLE from_registries(struct mending *m, const struct damage *d)
{
	struct err *err = NULL;

	for (size_t i = 0; i < m->names.v.n; i++) {
		const struct image_name *n = &m->names.v.p[i];

		if (image_name_is_none(n->ref) || !needs(m->v, n, d->name))
			continue;
		err_free(err);
		err = fetch_by_name(m, n, d->name);
		if (!err || err->kind == ERR_CANCELLED)
			return err;
	}
	if (!d->source)
		return err ? err : FAIL(ERR_NOT_FOUND, "no image's name tells where to fetch it");
	err_free(err);
	return fetch(m, d->source, d->name);
}

/* ---- one after the other ---- */

static FALLIBLE mend(struct mending *m, const struct damage *d)
{
	struct err *err;

	if (is_there(m->v, d->name))
		return NULL; /* came with another one's transfer */
	err = from_here(m->v, d->name);
	if (!err || err->kind != ERR_NOT_FOUND)
		return err;
	err_free(err);
	err = from_registries(m, d);
	if (err && !is_there(m->v, d->name) && err->kind != ERR_CANCELLED)
		return err_ctx(err, "nothing in the store has it, and no registry gives it (import, load or pull the image again, or "
				    "build it with --no-cache, and repair once more)");
	if (err && is_there(m->v, d->name)) {
		err_free(err);
		err = NULL;
	}
	return err;
}

/* Where it was once fetched from, or pushed to, is noted at the blob itself. */
static void read_source(const struct verify *v, struct damage *d)
{
	char source[NOTE_MAX];

	if (!d->source && store_note_get(engine_store(v->e), d->name, STORE_NOTE_FROM, source) && source[0])
		d->source = xstrdup(source);
}

static bool is_manifest(const struct mending *m, const char *digest)
{
	for (size_t i = 0; i < m->names.v.n; i++)
		if (strcmp(m->names.v.p[i].manifest, digest) == 0)
			return true;
	return false;
}

/* What no image and no container needs just goes. */
static bool is_needed(const struct mending *m, const struct damage *d)
{
	return m->keeps_all || d->owner || map_get(&m->used, d->name);
}

static FALLIBLE mend_all(struct mending *m)
{
	struct verify *v = m->v;
	struct err *err;

	for (size_t i = 0; i < v->damages.n; i++) {
		if (v->damages.p[i].kind != DAMAGE_BLOB)
			continue;
		read_source(v, &v->damages.p[i]);
		err = store_blob_set_aside(engine_store(v->e), v->damages.p[i].name);
		if (err) /* immutable, perhaps: the others can be mended */
			verify_tell_failure(v, &v->damages.p[i], err);
	}
	for (size_t i = 0; i < v->damages.n; i++) {
		const struct damage *d = &v->damages.p[i];

		if (d->kind != DAMAGE_BLOB || !is_needed(m, d))
			continue;
		err = mend(m, d);
		if (err)
			verify_tell_failure(v, d, err);
	}
	for (size_t i = 0; i < v->damages.n; i++)
		if (v->damages.p[i].kind == DAMAGE_BLOB)
			TRY(store_blob_put_back(engine_store(v->e), v->damages.p[i].name, is_needed(m, &v->damages.p[i])));
	return NULL;
}

static FALLIBLE look_who_needs(struct mending *m)
{
	const struct verify *v = m->v;
	struct err *err;

	TRY(image_names_load(v->e, &m->names));
	err = image_reach_containers(v->e, &m->used);
	m->keeps_all = err != NULL;
	if (err && !image_is_damage(err))
		return err;
	err_free(err);
	for (size_t i = 0; i < v->damages.n; i++)
		m->keeps_all |= v->damages.p[i].kind == DAMAGE_BLOB && is_manifest(m, v->damages.p[i].name);
	return NULL;
}

FALLIBLE verify_mend_blobs(struct verify *v)
{
	struct mending m = { .v = v };
	struct err *err = look_who_needs(&m);

	if (!err)
		err = mend_all(&m);
	image_names_fini(&m.names);
	map_fini(&m.dead);
	map_fini(&m.used);
	return err;
}
