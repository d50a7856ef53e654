/* image_store.c - documents, layers and what is ready to run; see image_store.h. */
#include "engine/image_store.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "content/store.h"
#include "image/ref.h"
#include "image/shortname.h"
#include "state/db.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>

#define APPLY_THREADS 4 /* layers at once */
#define CHECK_CHUNK   (1u << 18)

/* ---- documents ---- */

void image_docs_fini(struct image_docs *d)
{
	manifest_fini(&d->manifest);
	json_decref(d->config);
	text_list_free(d->diff_ids);
	*d = (struct image_docs){ 0 };
}

static FALLIBLE load_docs(struct engine *e, struct image_docs *d)
{
	struct store *s = engine_store(e);
	auto_free char *body = NULL, *config = NULL;
	size_t n = 0;

	TRY(store_blob_read(s, d->digest, MANIFEST_MAX, &body, &n));
	TRY(manifest_parse(sv_from(body, n), NULL, &d->manifest));
	if (d->manifest.is_index)
		return FAIL(ERR_INVALID, "%s is an index, not a manifest", d->digest);
	TRY(store_blob_read(s, d->manifest.config.digest, MANIFEST_MAX, &config, &n));
	TRY(config_parse(sv_from(config, n), (long)d->manifest.n, &d->config));
	return config_diff_ids(d->config, &d->diff_ids);
}

FALLIBLE image_docs_load(struct engine *e, const char *digest, struct image_docs *out_docs)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };

	TRY(digest_check(sv_of(digest)));
	memcpy(d.digest, digest, DIGEST_MAX);
	TRY(load_docs(e, &d));
	*out_docs = d;
	d = (struct image_docs){ 0 };
	return NULL;
}

uint64_t image_size(struct engine *e, const struct image_docs *d)
{
	uint64_t sum = 0;

	for (size_t i = 0; d->diff_ids[i]; i++)
		sum += layer_size(engine_snapshotter(e), d->diff_ids[i]);
	return sum;
}

/* ---- finding ---- */

bool image_is_damage(const struct err *err)
{
	return err && (err->kind == ERR_CORRUPT || err->kind == ERR_NOT_FOUND || err->kind == ERR_INVALID);
}

/* Several names of one image are one find, two images are ambiguous; found: the config's digest of the first. */
static FALLIBLE match_id(struct engine *e, const struct image_name *n, const char *hex, char found[DIGEST_MAX],
			 char out[DIGEST_MAX])
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	bool hit = strncmp(n->manifest + 7, hex, strlen(hex)) == 0 || strncmp(n->digest + 7, hex, strlen(hex)) == 0;
	struct err *err = image_docs_load(e, n->manifest, &d);
	const char *id = err ? n->manifest : d.manifest.config.digest;

	if (err && !image_is_damage(err))
		return err;
	err_free(err); /* a damaged image can be named by its manifest */
	if (!hit && strncmp(id + 7, hex, strlen(hex)) != 0)
		return NULL;
	if (found[0] && strcmp(found, id) != 0)
		return FAIL(ERR_INVALID, "Multiple images found with provided prefix: %s", hex);
	if (!found[0])
		memcpy(out, n->manifest, DIGEST_MAX);
	memcpy(found, id, DIGEST_MAX);
	return NULL;
}

static FALLIBLE find_by_id(struct engine *e, const struct image_names *names, const char *text, char out[DIGEST_MAX])
{
	const char *hex = strncmp(text, "sha256:", 7) == 0 ? text + 7 : text;
	char found[DIGEST_MAX] = "";

	if (strlen(hex) < 2 || strlen(hex) > 64 || !text_is_hex(sv_of(hex)))
		return NULL;
	for (size_t i = 0; i < names->v.n; i++)
		TRY(match_id(e, &names->v.p[i], hex, found, out));
	return NULL;
}

/* repository@digest also finds the repository's tag that resolved to this digest. */
static FALLIBLE find_by_digest(const struct image_names *names, const struct ref *r, char out[DIGEST_MAX], char **out_ref)
{
	auto_free char *repo = r->digest ? xasprintf("%s/%s", r->domain, r->path) : NULL;
	size_t len = repo ? strlen(repo) : 0;

	for (size_t i = 0; repo && i < names->v.n; i++) {
		const struct image_name *n = &names->v.p[i];

		if (n->has_no_digest || strncmp(n->ref, repo, len) != 0 || !strchr(":@", n->ref[len]) ||
		    (strcmp(n->digest, r->digest) != 0 && strcmp(n->manifest, r->digest) != 0))
			continue;
		memcpy(out, n->manifest, DIGEST_MAX);
		*out_ref = xstrdup(n->ref);
		return NULL;
	}
	return NULL;
}

/* One look-up in the database for the usual case, a name. r stays empty when text can only be an id. */
static FALLIBLE find_by_name(struct engine *e, const char *text, struct ref *r, char out[DIGEST_MAX], char **out_ref)
{
	auto_free char *full = NULL;
	struct image_name n;
	struct err *err = ref_parse(text, r);
	bool found;

	if (err && (text_is_hex(sv_of(text)) || strncmp(text, "sha256:", 7) == 0)) {
		err_free(err);
		return NULL;
	}
	TRY(err);
	full = ref_full(r);
	TRY(image_name_get(e, full, &n, &found));
	if (found) {
		memcpy(out, n.manifest, DIGEST_MAX);
		*out_ref = n.ref;
	}
	return NULL;
}

/* What a short name stands for beside docker's meaning of it, of which there is nothing here. */
static FALLIBLE find_short(struct engine *e, const char *text, struct image_name *out_name, bool *out_found)
{
	auto_shortname struct shortname s = { 0 };

	*out_found = false;
	if (!ref_is_short(text))
		return NULL;
	TRY(shortname_resolve(text, &s));
	for (char **name = s.names; *name && !*out_found; name++)
		TRY(image_name_get(e, *name, out_name, out_found));
	return NULL;
}

static FALLIBLE find_name(struct engine *e, const char *text, struct image_name *out_name, bool *out_found)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *full = NULL;

	TRY(ref_parse(text, &r));
	full = ref_full(&r);
	TRY(image_name_get(e, full, out_name, out_found));
	return *out_found ? NULL : find_short(e, text, out_name, out_found);
}

FALLIBLE image_name_held(struct engine *e, const char *text, struct image_name *out_name, bool *out_found)
{
	struct image_name n = { 0 }, before;

	TRY(find_name(e, text, &n, out_found));
	do {
		auto_free char *ref = TAKE(n.ref);

		if (!*out_found)
			return NULL;
		before = n;
		TRY(image_hold(e, before.digest));
		TRY(image_hold(e, before.manifest));
		TRY(find_name(e, text, &n, out_found));
	} while (!*out_found || strcmp(n.digest, before.digest) != 0 || strcmp(n.manifest, before.manifest) != 0);
	*out_name = n;
	return NULL;
}

static FALLIBLE find_by_short(struct engine *e, const char *text, char out[DIGEST_MAX], char **out_ref)
{
	struct image_name n;
	bool found;

	TRY(find_short(e, text, &n, &found));
	if (found) {
		memcpy(out, n.manifest, DIGEST_MAX);
		*out_ref = n.ref;
	}
	return NULL;
}

FALLIBLE image_find(struct engine *e, const char *text, char out_manifest[DIGEST_MAX], char **out_ref)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	CLEANUP(ref_fini) struct ref r = { 0 };

	*out_ref = NULL;
	out_manifest[0] = 0;
	if (!*text)
		return FAIL(ERR_INVALID, "invalid reference format: the image name is empty");
	TRY(find_by_name(e, text, &r, out_manifest, out_ref));
	if (out_manifest[0])
		return NULL;
	TRY(image_names_load(e, &names));
	TRY(find_by_digest(&names, &r, out_manifest, out_ref));
	if (!out_manifest[0])
		TRY(find_by_id(e, &names, text, out_manifest));
	if (!out_manifest[0] && r.path) /* it can be a name */
		TRY(find_by_short(e, text, out_manifest, out_ref));
	return out_manifest[0] ? NULL : FAIL(ERR_NOT_FOUND, "No such image: %s", text);
}

/* ---- layers ---- */

FALLIBLE image_blob_remember(struct engine *e, const char *blob, const char *diff_id)
{
	auto_txn struct db_txn *txn = NULL;
	char text[128];
	int n = snprintf(text, sizeof text, "{\"diff_id\":\"%s\"}", diff_id);

	if (strcmp(blob, diff_id) == 0)
		return NULL;
	TRY(db_begin_write(engine_db(e), &txn));
	TRY(db_put(txn, DB_BLOB_INFO, blob, sv_from(text, (size_t)n)));
	return db_commit(TAKE(txn));
}

FALLIBLE image_blob_diff_id(struct engine *e, const char *blob, char out_diff_id[DIGEST_MAX])
{
	auto_txn struct db_txn *txn = NULL;
	auto_json json_t *v = NULL;
	const char *diff_id;
	struct sv value;
	bool found;

	out_diff_id[0] = 0;
	TRY(db_begin_read(engine_db(e), &txn));
	TRY(db_get(txn, DB_BLOB_INFO, blob, &value, &found));
	if (!found)
		return NULL;
	TRY(json_parse(value, "blob record", 65536, &v));
	diff_id = json_str_at(v, "diff_id", "");
	if (digest_is_valid(sv_of(diff_id)))
		memcpy(out_diff_id, diff_id, DIGEST_MAX);
	return NULL;
}

FALLIBLE image_blob_applied(struct engine *e, const char *blob, bool *out_applied)
{
	char diff_id[DIGEST_MAX];

	*out_applied = layer_exists(engine_snapshotter(e), blob);
	if (*out_applied)
		return NULL;
	TRY(image_blob_diff_id(e, blob, diff_id));
	*out_applied = diff_id[0] && layer_exists(engine_snapshotter(e), diff_id);
	return NULL;
}

/* Reads the whole blob for it. */
static FALLIBLE check_diff_id(struct engine *e, const struct descriptor *blob, const char *diff_id)
{
	auto_digest struct digest_state *digest = digest_new();
	auto_free char *chunk = xmalloc(CHECK_CHUNK);
	auto_unzip struct unzip *u = NULL;
	auto_fd int fd = -1;
	char got[DIGEST_MAX];
	size_t n = 1;

	TRY(store_blob_open(engine_store(e), blob->digest, blob->size, &fd));
	TRY(unzip_open(zip_source_fd(&fd), &u));
	unzip_is_proven(u);
	while (n) {
		TRY(unzip_read(u, chunk, CHECK_CHUNK, &n));
		digest_add(digest, chunk, n);
	}
	digest_end(digest, got);
	if (strcmp(got, diff_id) != 0)
		return FAIL(ERR_CORRUPT, "layer %s holds %s, but the image's configuration says %s", blob->digest, got, diff_id);
	return image_blob_remember(e, blob->digest, diff_id);
}

FALLIBLE image_check_layers(struct engine *e, const struct image_docs *d)
{
	for (size_t i = 0; i < d->manifest.n; i++) {
		const struct descriptor *blob = &d->manifest.parts[i];
		uint64_t size = 0;
		char known[DIGEST_MAX];

		if (!store_has(engine_store(e), blob->digest, &size) || size != blob->size)
			return FAIL(ERR_CORRUPT, "layer %s: it is not in the store with its size of %llu bytes", blob->digest,
				    (unsigned long long)blob->size);
		TRY(image_blob_diff_id(e, blob->digest, known));
		if (strcmp(blob->digest, d->diff_ids[i]) != 0 && strcmp(known, d->diff_ids[i]) != 0)
			TRY(check_diff_id(e, blob, d->diff_ids[i]));
	}
	return NULL;
}

static struct err *from_unzip(void *ctx, void *p, size_t n, size_t *out_n)
{
	return unzip_read(ctx, p, n, out_n);
}

static struct err *from_file(void *ctx, void *p, size_t n, size_t *out_n)
{
	ssize_t got = fs_pass_read(ctx, p, n);

	*out_n = got < 0 ? 0 : (size_t)got;
	return got < 0 ? FAIL_OS((int)-got, "read the blob") : NULL;
}

struct blob_layer {
	struct engine *e;
	const char *blob, *diff_id;
};

/* Before others see the layer: they need not find out what the blob holds. */
static struct err *remember(void *ctx)
{
	const struct blob_layer *b = ctx;

	return image_blob_remember(b->e, b->blob, b->diff_id);
}

FALLIBLE image_apply_layer(struct engine *e, const struct descriptor *blob, const char *diff_id, bool is_ahead)
{
	struct blob_layer b = { e, blob->digest, diff_id };
	const struct layer_want want = { .diff_id = diff_id, .is_ahead = is_ahead, .proven = remember, .ctx = &b };
	auto_unzip struct unzip *u = NULL;
	auto_fd int fd = -1;
	struct fs_pass file;
	struct err *err;

	if (!manifest_is_layer(blob->media_type))
		return FAIL(ERR_UNSUPPORTED, "layer %s has media type %s, which is not a file system layer", blob->digest,
			    blob->media_type);
	TRY(store_blob_open(engine_store(e), blob->digest, blob->size, &fd));
	if (strcmp(blob->digest, diff_id) == 0)
		return layer_adopt(engine_snapshotter(e), fd, NULL, -1, diff_id);
	file = (struct fs_pass){ .fd = fd };
	TRY(unzip_open((struct zip_source){ from_file, &file }, &u));
	unzip_is_proven(u);
	err = layer_apply(engine_snapshotter(e), (struct zip_source){ from_unzip, u }, &want, NULL);
	fs_pass_end(&file);
	return err;
}

/* Layers do not depend on each other: several at once, each layer by one thread. */
struct apply {
	struct engine *e;
	const struct image_docs *d;
	atomic_size_t next;
	pthread_mutex_t lock; /* guards err */
	struct err *err;      /* the first */
};

static FALLIBLE apply_nth(struct apply *a, size_t i)
{
	const struct descriptor *blob = &a->d->manifest.parts[i];
	struct err *err;

	for (size_t k = 0; k < i; k++) /* twice in an image: the first does it */
		if (strcmp(a->d->diff_ids[k], a->d->diff_ids[i]) == 0)
			return NULL;
	if (layer_exists(engine_snapshotter(a->e), a->d->diff_ids[i]))
		return NULL;
	err = image_apply_layer(a->e, blob, a->d->diff_ids[i], false);
	return err ? err_ctx(err, "layer %.19s", blob->digest) : NULL;
}

static void *apply_worker(void *arg)
{
	struct apply *a = arg;
	size_t i;

	while ((i = atomic_fetch_add(&a->next, 1)) < a->d->manifest.n) {
		struct err *err = apply_nth(a, i);

		if (!err)
			continue;
		(void)pthread_mutex_lock(&a->lock);
		if (a->err)
			err_free(err);
		else
			a->err = err;
		(void)pthread_mutex_unlock(&a->lock);
		atomic_store(&a->next, a->d->manifest.n);
	}
	return NULL;
}

FALLIBLE image_apply(struct engine *e, const struct image_docs *d)
{
	struct apply a = { .e = e, .d = d };
	pthread_t threads[APPLY_THREADS - 1];
	size_t n = 0, missing = 0;

	for (size_t i = 0; i < d->manifest.n; i++) /* opens the snapshotter, too: threads must find it open */
		missing += !layer_exists(engine_snapshotter(e), d->diff_ids[i]);
	if (!missing)
		return NULL;
	(void)engine_store(e);
	(void)pthread_mutex_init(&a.lock, NULL);
	while (n < LEN(threads) && n + 1 < missing && pthread_create(&threads[n], NULL, apply_worker, &a) == 0)
		n++;
	(void)apply_worker(&a);
	for (size_t i = 0; i < n; i++)
		(void)pthread_join(threads[i], NULL);
	(void)pthread_mutex_destroy(&a.lock);
	return a.err;
}

/* A source that leaves a copy of the plain tar in an ingest. */
struct tee {
	struct unzip *unzip;
	struct ingest *ingest;
};

static struct err *tee_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct tee *t = ctx;

	TRY(unzip_read(t->unzip, p, n, out_n));
	return *out_n ? ingest_write(t->ingest, p, *out_n) : NULL;
}

/* The blob first; it is the layer, too. */
static FALLIBLE import_blob(struct engine *e, struct unzip *u, struct descriptor *out_layer)
{
	auto_ingest struct ingest *in = NULL;
	auto_free char *chunk = xmalloc(CHECK_CHUNK);
	auto_fd int fd = -1;
	size_t n = 1;

	TRY(ingest_begin(engine_store(e), &in));
	while (n) {
		TRY(unzip_read(u, chunk, CHECK_CHUNK, &n));
		TRY(ingest_write(in, chunk, n));
	}
	out_layer->size = ingest_size(in);
	TRY(ingest_commit(in, NULL, 0, out_layer->digest));
	if (!layer_exists(engine_snapshotter(e), out_layer->digest)) {
		TRY(store_blob_open(engine_store(e), out_layer->digest, out_layer->size, &fd));
		TRY(layer_adopt(engine_snapshotter(e), fd, NULL, -1, out_layer->digest));
	}
	out_layer->media_type = xstrdup(MEDIA_LAYER);
	return NULL;
}

FALLIBLE image_layer_import(struct engine *e, struct zip_source source, struct descriptor *out_layer)
{
	auto_unzip struct unzip *u = NULL;
	auto_ingest struct ingest *in = NULL;
	struct tee tee;
	char diff_id[DIGEST_MAX];

	TRY(unzip_open_any(source, &u));
	unzip_is_proven(u); /* the user's own file */
	if (snapshotter_keeps_tars(engine_snapshotter(e)))
		return import_blob(e, u, out_layer);
	TRY(ingest_begin(engine_store(e), &in));
	tee = (struct tee){ u, in };
	TRY(layer_apply(engine_snapshotter(e), (struct zip_source){ tee_read, &tee }, NULL, diff_id));
	out_layer->size = ingest_size(in);
	TRY(ingest_commit(in, diff_id, 0, out_layer->digest));
	out_layer->media_type = xstrdup(MEDIA_LAYER);
	return NULL;
}

FALLIBLE image_blob_media(struct engine *e, const char *digest, char **out_type)
{
	auto_fd int fd = -1;
	char head[16];
	ssize_t n;
	enum zip_kind kind;

	TRY(store_blob_open(engine_store(e), digest, 0, &fd));
	if ((n = sys_read_full(fd, head, sizeof head)) < 0)
		return FAIL_OS((int)-n, "read blob %s", digest);
	kind = zip_sniff(head, (size_t)n);
	*out_type = xasprintf("%s%s", MEDIA_LAYER, kind == ZIP_GZIP ? "+gzip" : kind == ZIP_ZSTD ? "+zstd" : "");
	return NULL;
}

struct blob_search {
	struct engine *e;
	const char *diff_id;
	char digest[DIGEST_MAX];
};

static struct err *match_diff_id(void *ctx, struct sv key, struct sv value)
{
	struct blob_search *b = ctx;
	auto_json json_t *v = NULL;
	char digest[DIGEST_MAX];

	if (key.n != DIGEST_TEXT || b->digest[0])
		return NULL;
	TRY(json_parse(value, "blob record", 65536, &v));
	(void)snprintf(digest, sizeof digest, "%.*s", SV_ARG(key));
	if (strcmp(json_str_at(v, "diff_id", ""), b->diff_id) == 0 && store_has(engine_store(b->e), digest, NULL))
		memcpy(b->digest, digest, DIGEST_MAX);
	return NULL;
}

FALLIBLE image_layer_blob(struct engine *e, const char *diff_id, struct descriptor *out_layer)
{
	struct blob_search b = { .e = e, .diff_id = diff_id };
	auto_txn struct db_txn *txn = NULL;

	if (store_has(engine_store(e), diff_id, NULL)) {
		memcpy(b.digest, diff_id, DIGEST_MAX);
	} else {
		TRY(db_begin_read(engine_db(e), &txn));
		TRY(db_scan(txn, DB_BLOB_INFO, "", match_diff_id, &b));
	}
	if (!b.digest[0] || !store_has(engine_store(e), b.digest, &out_layer->size))
		return FAIL(ERR_NOT_FOUND, "the content of layer %s is not in the store", diff_id);
	memcpy(out_layer->digest, b.digest, DIGEST_MAX);
	return image_blob_media(e, b.digest, &out_layer->media_type);
}

/* ---- what is ready to run ---- */

void engine_image_fini(struct engine_image *i)
{
	free(i->id);
	free(i->manifest);
	free(i->ref);
	text_list_free(i->diff_ids);
	json_decref(i->config);
	if (i->lease)
		own_close(&(int){ i->lease - 1 });
	*i = (struct engine_image){ 0 };
}

FALLIBLE image_lease(struct engine *e, const char *manifest, bool exclusive, int *out_fd)
{
	auto_fd int fd = -1;
	struct err *err = store_blob_open(engine_store(e), manifest, 0, &fd);
	int r;

	*out_fd = -1;
	if (err && err->kind == ERR_NOT_FOUND) {
		err_free(err);
		return NULL;
	}
	TRY(err);
	r = sys_flock(fd, exclusive ? LOCK_EX | LOCK_NB : LOCK_SH);
	if (r == -EWOULDBLOCK)
		return FAIL(ERR_CONFLICT, "image %s is about to be used", manifest);
	if (r < 0)
		return FAIL_OS(-r, "lock image %s", manifest);
	*out_fd = TAKE_FD(fd);
	return NULL;
}

FALLIBLE image_find_leased(struct engine *e, const char *text, char out_manifest[DIGEST_MAX], char **out_ref, int *out_lease)
{
	auto_free char *before = NULL;

	TRY(image_find(e, text, out_manifest, &before));
	TRY(image_lease(e, out_manifest, false, out_lease));
	return image_find(e, text, out_manifest, out_ref);
}

FALLIBLE engine_image_get(struct engine *e, const char *text, struct engine_image *out_image)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_free char *ref = NULL;
	auto_fd int lease = -1;
	char manifest[DIGEST_MAX];

	TRY(image_find_leased(e, text, manifest, &ref, &lease));
	TRY(image_hold(e, manifest));
	TRY(image_docs_load(e, manifest, &d));
	TRY(image_apply(e, &d));
	*out_image = (struct engine_image){ .id = xstrdup(d.manifest.config.digest), .manifest = xstrdup(manifest),
					    .ref = ref ? TAKE(ref) : xstrdup(d.manifest.config.digest),
					    .diff_ids = TAKE(d.diff_ids), .config = json_incref(d.config), .lease = TAKE_FD(lease) + 1 };
	return NULL;
}
