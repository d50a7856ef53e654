/*
 * verify.c - see verify.h. One round reads everything and notes the damage; a repair is followed by another
 * round, which is what tells that it has worked.
 */
#include "engine/verify.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/ctr.h"
#include "engine/lost.h"
#include "engine/mounts.h"
#include "engine/verify_int.h"
#include "image/ref.h"
#include "state/record.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>

enum { ROUNDS_MAX = 4, LINES_MAX = 20, RECORD_MAX = 1 << 20 };

static char good, bad; /* values of verify.blobs */

void verify_tell(const struct verify *v, const char *owner, const char *fmt, ...)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *shown = NULL;
	auto_buf struct buf b = BUF(1u << 16);
	va_list ap;

	if (owner && !image_name_is_none(owner)) {
		struct err *err = ref_parse(owner, &r);

		if (!err)
			shown = ref_familiar(&r);
		err_free(err);
	}
	buf_fmt(&b, "%s%s", shown ? shown : "", shown ? ": " : "");
	va_start(ap, fmt);
	buf_vfmt(&b, fmt, ap);
	va_end(ap);
	v->o->tell(v->o->ctx, buf_text(&b));
}

static void note(struct verify *v, enum damage_kind kind, enum db_table table, const char *name,
		 const char *owner)
{
	for (size_t i = 0; i < v->damages.n; i++)
		if (v->damages.p[i].kind == kind && v->damages.p[i].table == table &&
		    strcmp(v->damages.p[i].name, name) == 0)
			return;
	*vec_push(&v->damages) = (struct damage){
		.kind = kind, .table = table, .name = xstrdup(name), .owner = owner ? xstrdup(owner) : NULL
	};
}

static void round_fini(struct verify *v)
{
	for (size_t i = 0; i < v->damages.n; i++) {
		free(v->damages.p[i].name);
		free(v->damages.p[i].owner);
		free(v->damages.p[i].source);
	}
	vec_fini(&v->damages);
	for (size_t i = 0; i < v->layers.n; i++) {
		free(v->layers.p[i].blob.media_type);
		free(v->layers.p[i].owner);
	}
	vec_fini(&v->layers);
	map_fini(&v->blobs);
	v->blobs = (struct map){ 0 };
}

/* ---- records ---- */

static const char *const table_names[DB_TABLES] = {
	[DB_CONTAINER] = "container", [DB_CONTAINER_NAME] = "container name",
	[DB_IMAGE] = "image",         [DB_VOLUME] = "volume",
	[DB_NETWORK] = "network",     [DB_NETWORK_NAME] = "network name",
	[DB_LEASE] = "address",       [DB_LAYER] = "layer",
	[DB_CACHE] = "build cache",   [DB_BLOB_INFO] = "blob",
	[DB_DOCUMENT] = "document",
};

struct record {
	char *key, *value;
};
struct records {
	VEC(struct record) v;
};

static void records_fini(struct records *r)
{
	for (size_t i = 0; i < r->v.n; i++) {
		free(r->v.p[i].key);
		free(r->v.p[i].value);
	}
	vec_fini(&r->v);
}

static struct err *add_record(void *ctx, struct sv key, struct sv value)
{
	struct records *r = ctx;

	*vec_push(&r->v) =
	    (struct record){ xstrndup(key.p, key.n), xstrndup(value.n ? value.p : "", value.n) };
	return NULL;
}

static FALLIBLE load_table(struct verify *v, enum db_table table, struct records *out)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(v->e), &txn));
	return db_scan(txn, table, "", add_record, out);
}

static bool is_document(enum db_table table)
{
	return table != DB_CONTAINER_NAME && table != DB_NETWORK_NAME && table != DB_LEASE;
}

static bool is_known(const struct records *r, const char *key)
{
	for (size_t i = 0; i < r->v.n; i++)
		if (strcmp(r->v.p[i].key, key) == 0)
			return true;
	return false;
}

static void bad_record(struct verify *v, enum db_table table, const char *key, const char *why)
{
	for (size_t i = 0; i < v->damages.n; i++) /* once is enough */
		if (v->damages.p[i].kind == DAMAGE_RECORD && v->damages.p[i].table == table &&
		    !strcmp(v->damages.p[i].name, key))
			return;
	verify_tell(v, NULL, "record of %s %s: %s", table_names[table], key, why);
	note(v, DAMAGE_RECORD, table, key, NULL);
}

/* A name leads to a record; a note about a layer or blob leads to one that is there. */
static void check_target(struct verify *v, enum db_table table, const struct record *r, const json_t *doc,
			 const struct records *ids)
{
	const char *diff_id = json_str_at(doc, "diff_id", "");

	if ((table == DB_CONTAINER_NAME || table == DB_NETWORK_NAME) && !is_known(ids, r->value))
		bad_record(v, table, r->key, "leads to nothing");
	if (table == DB_DOCUMENT && !image_document_is(r->key, sv_of(r->value))) /* its blob may be gone: then this is what is left of it */
		bad_record(v, table, r->key, "is not that document");
	if (table == DB_CACHE && *diff_id &&
	    (!layer_exists(engine_snapshotter(v->e), diff_id) ||
	     !store_has(engine_store(v->e), diff_id, NULL)))
		bad_record(v, table, r->key, "its layer is not in the store");
}

/* What nobody can mend, and a kill may leave: told, and no damage of the store. */
static void look_for_files(struct verify *v, enum db_table table, const char *key, const json_t *doc)
{
	auto_free char *path = xasprintf(table == DB_VOLUME ? "volumes/%s/_data" : "containers/%s", key);
	const json_t *options = json_object_get(doc, "Options");
	struct stat st;

	if (v->is_again || (table != DB_VOLUME && table != DB_CONTAINER) || json_object_size(options) ||
	    sys_fstatat(engine_root_fd(v->e), path, &st, AT_SYMLINK_NOFOLLOW) != -ENOENT)
		return;
	if (table == DB_VOLUME)
		verify_tell(v, NULL, "volume %s: its files are gone: whoever uses it begins with an empty one", key);
	else
		verify_tell(v, NULL, "container %.12s: its files are gone: 'hoy rm %.12s' removes the rest", key, key);
}

static FALLIBLE check_table(struct verify *v, enum db_table table)
{
	CLEANUP(records_fini) struct records all = { 0 }, ids = { 0 };

	if (table == DB_CONTAINER_NAME || table == DB_NETWORK_NAME)
		TRY(load_table(v, table == DB_CONTAINER_NAME ? DB_CONTAINER : DB_NETWORK, &ids));
	TRY(load_table(v, table, &all));
	for (size_t i = 0; i < all.v.n; i++) {
		const struct record *r = &all.v.p[i];
		auto_json json_t *doc = NULL;
		struct err *err =
		    is_document(table) ? json_parse(sv_of(r->value), "it", RECORD_MAX, &doc) : NULL;

		v->result->records += !v->is_again;
		if (err)
			bad_record(v, table, r->key, err->msg);
		else
			check_target(v, table, r, doc, &ids);
		if (!err)
			look_for_files(v, table, r->key, doc);
		err_free(err);
	}
	return NULL;
}

static void rotten(void *ctx, enum db_table table, const char *key)
{
	struct verify *v = ctx;
	size_t before = v->damages.n;

	bad_record(v, table, key, "is not what was written");
	if (v->damages.n > before)
		v->damages.p[before].is_rotten = true;
}

/* What is mended by the way waits on a read-only disk. Consumes err. */
static FALLIBLE where_it_can_be_written(struct err *err)
{
	if (!err || err->os != EROFS)
		return err;
	err_free(err);
	return NULL;
}

/* *out_readable: no record is rotten, so that they can be looked at one by one. */
static FALLIBLE check_records(struct verify *v, bool *out_readable)
{
	enum db_copy_state copy;

	TRY(db_check(engine_db(v->e), rotten, v, &copy));
	*out_readable = v->damages.n == 0;
	if (copy == DB_COPY_WINS)
		return FAIL(ERR_CORRUPT, "the database has lost records: 'hoy verify --repair' makes it again from its log");
	if (*out_readable && copy == DB_COPY_STALE) /* a kill at the wrong moment is no damage */
		TRY(where_it_can_be_written(db_copy(engine_db(v->e))));
	if (*out_readable && copy == DB_COPY_DAMAGED) {
		verify_tell(v, NULL, "meta/log: is damaged");
		note(v, DAMAGE_COPY, 0, "meta/log", NULL);
	}
	for (int t = 0; *out_readable && t < DB_TABLES; t++)
		TRY(check_table(v, (enum db_table)t));
	return NULL;
}

/* ---- blobs ---- */

static FALLIBLE check_blob(struct verify *v, const char *digest, uint64_t want_size, const char *owner)
{
	void **slot = map_put(&v->blobs, digest);
	struct err *err = NULL;
	uint64_t size = 0;

	if (*slot)
		return NULL;
	v->result->blobs += !v->is_again;
	if (!store_has(engine_store(v->e), digest, &size))
		err = FAIL(ERR_CORRUPT, "is missing");
	else if (want_size && size != want_size)
		err = FAIL(ERR_CORRUPT, "is %llu bytes long, not %llu", (unsigned long long)size,
			   (unsigned long long)want_size);
	else
		err = store_blob_verify(engine_store(v->e), digest);
	if (err && !image_is_damage(err) && err->os != EIO)
		return err;
	v->result->bytes += v->is_again ? 0 : size;
	*slot = err ? &bad : &good;
	if (err) {
		verify_tell(v, owner, "blob %s: %s", digest, err->msg);
		note(v, DAMAGE_BLOB, 0, digest, owner);
	}
	err_free(err);
	return NULL;
}

static struct err *check_any_blob(void *ctx, const char *digest, uint64_t size)
{
	(void)size;
	return check_blob(ctx, digest, 0, NULL);
}

/* ---- layers ---- */

FALLIBLE verify_layer_blob(struct verify *v, const char *diff_id, struct descriptor *out_blob)
{
	for (size_t i = 0; i < v->layers.n; i++) {
		const struct verify_layer *l = &v->layers.p[i];
		void *const *state = map_get(&v->blobs, l->blob.digest);

		if (strcmp(l->diff_id, diff_id) != 0 || (state && *state == &bad))
			continue;
		*out_blob = l->blob;
		out_blob->media_type = xstrdup(l->blob.media_type);
		return NULL;
	}
	return image_layer_blob(v->e, diff_id, out_blob);
}

struct layer_report {
	const struct verify *v;
	const char *diff_id, *owner;
	unsigned n;
};

static void tell_layer(void *ctx, const char *path, const char *what)
{
	struct layer_report *r = ctx;

	if (r->n++ < LINES_MAX)
		verify_tell(r->v, r->owner, "layer %.19s: %s %s", r->diff_id, path, what);
}

static struct err *from_unzip(void *ctx, void *p, size_t n, size_t *out_n)
{
	return unzip_read(ctx, p, n, out_n);
}

static FALLIBLE compare_layer(struct verify *v, const char *diff_id, const struct descriptor *blob,
			      const struct layer_tell *tell)
{
	auto_unzip struct unzip *u = NULL;
	auto_fd int fd = -1;

	if (!blob->digest[0])
		return layer_verify(engine_snapshotter(v->e), diff_id, (struct zip_source){ 0 }, tell);
	TRY(store_blob_open(engine_store(v->e), blob->digest, blob->size, &fd));
	TRY(unzip_open(zip_source_fd(&fd), &u));
	unzip_is_proven(u);
	return layer_verify(engine_snapshotter(v->e), diff_id, (struct zip_source){ from_unzip, u }, tell);
}

/* A layer whose own blob is damaged or gone waits for that: what can be told of it without is told. */
static FALLIBLE check_layer(struct verify *v, const char *diff_id, const char *owner)
{
	struct layer_report report = { v, diff_id, owner, 0 };
	const struct layer_tell tell = { tell_layer, &report };
	struct descriptor blob = { 0 };
	void *const *state = NULL;
	struct err *err = verify_layer_blob(v, diff_id, &blob);

	if (!err)
		state = map_get(&v->blobs, blob.digest);
	if (err || (state && *state == &bad))
		blob.digest[0] = 0;
	err_free(err);
	v->result->layers += !v->is_again;
	err = compare_layer(v, diff_id, &blob, &tell);
	free(blob.media_type);
	if (err && err->kind == ERR_UNSUPPORTED) {
		v->result->unchecked += !v->is_again;
	} else if (err && (image_is_damage(err) || err->os == EIO)) {
		tell_layer(&report, "", err->msg);
	} else if (err) {
		return err;
	}
	err_free(err);
	if (report.n > LINES_MAX)
		verify_tell(v, owner, "layer %.19s: … and %u things more", diff_id, report.n - LINES_MAX);
	if (report.n)
		note(v, DAMAGE_LAYER, 0, diff_id, owner);
	return NULL;
}

static bool is_of_an_image(const struct verify *v, const char *diff_id)
{
	for (size_t i = 0; i < v->layers.n; i++)
		if (strcmp(v->layers.p[i].diff_id, diff_id) == 0)
			return true;
	return false;
}

static struct err *check_other_layer(void *ctx, const char *diff_id, uint64_t size)
{
	struct verify *v = ctx;

	(void)size;
	return is_of_an_image(v, diff_id) ? NULL : check_layer(v, diff_id, NULL);
}

static struct err *check_container(void *ctx, struct sv key, struct sv value)
{
	struct verify *v = ctx;
	auto_json json_t *doc = NULL;
	auto_list char **layers = NULL;
	struct err *err = json_parse(value, "it", RECORD_MAX, &doc);

	if (err) { /* told with the records */
		err_free(err);
		return NULL;
	}
	TRY(json_list_at(doc, "Hoy.Layers", &layers));
	mounts_images(doc, &layers, NULL);
	if (digest_is_valid(sv_of(json_str_at(doc, "Image", "")))) /* the image may have lost its names since */
		TRY(check_blob(v, json_str_at(doc, "Image", ""), 0, NULL));
	for (size_t i = 0; layers && layers[i]; i++) {
		if (layer_exists(engine_snapshotter(v->e), layers[i]) || is_of_an_image(v, layers[i]))
			continue;
		verify_tell(v, NULL, "layer %.19s: is missing (of container %.12s)", layers[i], key.p);
		note(v, DAMAGE_LAYER, 0, layers[i], NULL);
	}
	return NULL;
}

/* ---- images ---- */

static bool is_listed(const struct verify *v, const char *diff_id, const char *blob)
{
	for (size_t i = 0; i < v->layers.n; i++)
		if (strcmp(v->layers.p[i].diff_id, diff_id) == 0 && strcmp(v->layers.p[i].blob.digest, blob) == 0)
			return true;
	return false;
}

static void add_layers(struct verify *v, const struct image_docs *d, const char *owner)
{
	for (size_t i = 0; i < d->manifest.n; i++) {
		const struct descriptor *blob = &d->manifest.parts[i];
		struct verify_layer *l;

		if (!manifest_is_layer(blob->media_type) || is_listed(v, d->diff_ids[i], blob->digest))
			continue;
		l = vec_push(&v->layers);
		memcpy(l->diff_id, d->diff_ids[i], DIGEST_MAX);
		l->blob = *blob;
		l->blob.media_type = xstrdup(blob->media_type);
		l->owner = xstrdup(owner);
	}
}

/* What a manifest names is checked as far as it can be read. */
static FALLIBLE check_image(struct verify *v, const struct image_name *n)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_free char *body = NULL;
	size_t len = 0;
	struct err *err;

	TRY(check_blob(v, n->manifest, 0, n->ref));
	if (strcmp(n->digest, n->manifest) != 0 && store_has(engine_store(v->e), n->digest, NULL)) /* an index */
		TRY(check_blob(v, n->digest, 0, n->ref));
	err = image_document_read(v->e, n->manifest, &body, &len);
	if (!err)
		err = manifest_parse(sv_from(body, len), NULL, &m);
	if (err) {
		bool is_known_bad = image_is_damage(err);

		if (is_known_bad)
			err_free(err);
		return is_known_bad ? NULL : err;
	}
	TRY(check_blob(v, m.config.digest, m.config.size, n->ref));
	for (size_t i = 0; i < m.n; i++)
		TRY(check_blob(v, m.parts[i].digest, m.parts[i].size, n->ref));
	err = image_docs_load(v->e, n->manifest, &d);
	if (!err)
		add_layers(v, &d, n->ref);
	if (err && !image_is_damage(err))
		return err;
	err_free(err);
	return NULL;
}

/* Each name by itself, so that one damaged record does not hide the others. */
static FALLIBLE check_names(struct verify *v)
{
	CLEANUP(records_fini) struct records keys = { 0 };

	TRY(load_table(v, DB_IMAGE, &keys));
	for (size_t i = 0; i < keys.v.n; i++) {
		struct image_name n = { 0 };
		bool found = false;
		struct err *err = image_name_get(v->e, keys.v.p[i].key, &n, &found);

		if (!err && found)
			err = check_image(v, &n);
		else if (err && image_is_damage(err)) {
			bad_record(v, DB_IMAGE, keys.v.p[i].key, "is damaged");
			err_free(err);
			err = NULL;
		}
		free(n.ref);
		TRY(err);
	}
	return NULL;
}

static FALLIBLE check_named(struct verify *v, const char *text)
{
	auto_free char *ref = NULL;
	struct image_name n = { 0 };
	bool found = false;
	char manifest[DIGEST_MAX];
	struct err *err;

	TRY(image_find(v->e, text, manifest, &ref));
	if (ref)
		TRY(image_name_get(v->e, ref, &n, &found));
	if (!found) {
		n.ref = xasprintf("<none>@%s", manifest);
		memcpy(n.manifest, manifest, DIGEST_MAX);
	}
	err = check_image(v, &n);
	free(n.ref);
	return err;
}

/* Each once, from whichever of its blobs. */
static FALLIBLE check_layers(struct verify *v)
{
	for (size_t i = 0; i < v->layers.n; i++) {
		const struct verify_layer *l = &v->layers.p[i];
		size_t first = 0;

		while (strcmp(v->layers.p[first].diff_id, l->diff_id) != 0)
			first++;
		if (first == i)
			TRY(check_layer(v, l->diff_id, l->owner));
	}
	return NULL;
}

/* ---- the whole ---- */

static FALLIBLE check_layout(struct verify *v)
{
	auto_free char *want = NULL, *have = NULL, *layout = NULL;
	struct err *err;

	err = image_index_text(v->e, &want);
	if (err && image_is_damage(err)) { /* a damaged record: that comes first */
		err_free(err);
		return NULL;
	}
	TRY(err);
	err = record_read(engine_root_fd(v->e), "index.json", &have, NULL);
	if (err && err->kind != ERR_NOT_FOUND)
		return err;
	if (err ? strstr(want, "\"digest\"") != NULL
		: strcmp(want, have) != 0) { /* not there while nothing was ever named */
		verify_tell(v, NULL, "index.json: does not say what the database says");
		note(v, DAMAGE_INDEX, 0, "index.json", NULL);
	}
	err_free(err);
	err = record_read(engine_root_fd(v->e), "oci-layout", &layout, NULL);
	if (err && err->kind != ERR_NOT_FOUND)
		return err;
	if (err || strcmp(layout, STORE_LAYOUT) != 0) {
		verify_tell(v, NULL, "oci-layout: is not what it should be");
		note(v, DAMAGE_LAYOUT, 0, "oci-layout", NULL);
	}
	err_free(err);
	return NULL;
}

static FALLIBLE check_all(struct verify *v)
{
	auto_txn struct db_txn *txn = NULL;
	bool is_readable;

	TRY(check_records(v, &is_readable));
	if (!is_readable) /* nothing stands on them; after their repair the rest is read */
		return store_blob_each(engine_store(v->e), check_any_blob, v);
	TRY(check_names(v));
	TRY(store_blob_each(engine_store(v->e), check_any_blob, v));
	TRY(check_layers(v));
	TRY(layer_each(engine_snapshotter(v->e), check_other_layer, v));
	TRY(db_begin_read(engine_db(v->e), &txn));
	TRY(db_scan(txn, DB_CONTAINER, "", check_container, v));
	return check_layout(v);
}

static FALLIBLE check(struct verify *v)
{
	char *const *images = v->o->images;

	if (!images || !*images)
		return check_all(v);
	for (; *images; images++)
		TRY(check_named(v, *images));
	TRY(check_layers(v));
	return NULL;
}

static struct err *hold(void *ctx, const char *digest, uint64_t size)
{
	(void)size;
	lease_hold(ctx, digest);
	return NULL;
}

/* While it reads, nothing is swept. */
static FALLIBLE check_round(struct verify *v)
{
	auto_leased struct engine *leased = NULL;

	round_fini(v);
	TRY(engine_lease_begin(v->e, &leased));
	TRY(store_blob_each(engine_store(v->e), hold, engine_lease(v->e)));
	TRY(layer_each(engine_snapshotter(v->e), hold, engine_lease(v->e)));
	return check(v);
}

static FALLIBLE rounds(struct verify *v)
{
	size_t before;

	TRY(check_round(v));
	v->result->damaged = (unsigned)v->damages.n;
	for (int i = 1; i < ROUNDS_MAX && v->o->repair && v->damages.n; i++) {
		before = v->damages.n;
		TRY(verify_repair(v));
		v->is_again = true;
		TRY(check_round(v));
		if (v->damages.n >= before && i > 1) /* a mended manifest can bring more to light, once */
			break;
	}
	v->result->left = (unsigned)v->damages.n;
	if (!v->o->repair || v->result->left)
		return NULL;
	TRY(image_copies_keep_all(v->e));
	return image_sweep(v->e);
}

/* *out_lost: it was not there at all. */
static FALLIBLE look_for_database(const char *meta, const struct verify_opts *v, bool *out_lost)
{
	auto_free char *root = xstrndup(meta, strlen(meta) - strlen("/meta"));
	auto_fd int fd = sys_open_dir(root);

	*out_lost = fd >= 0 && lost_database(fd);
	if (!*out_lost)
		return NULL;
	v->tell(v->ctx, "meta/data.mdb: the database is gone");
	return v->repair ? lost_make_again(fd, root, v->tell, v->ctx) : FAIL(ERR_CORRUPT, LOST_DATABASE);
}

FALLIBLE engine_verify_database(const struct engine_opts *o, const struct verify_opts *v)
{
	auto_free char *path = engine_meta_path(o);
	bool is_sound, is_whole = false, is_lost = false;
	struct stat st;

	TRY(look_for_database(path, v, &is_lost));
	if (is_lost || sys_fstatat(AT_FDCWD, path, &st, 0) < 0)
		return NULL;
	TRY(db_probe(path, &is_sound));
	if (is_sound)
		return NULL;
	v->tell(v->ctx, "meta/data.mdb: the database is damaged");
	if (!v->repair)
		return FAIL(ERR_CORRUPT, "the database is damaged: 'hoy verify --repair' makes it again from its log");
	TRY(db_rebuild(path, &is_whole));
	v->tell(v->ctx, is_whole ? "meta/data.mdb: made again from meta/log"
				 : "meta/data.mdb: made again from what can be read of meta/log, which is damaged, too: some records may "
				   "be lost or old; the old database is meta/data.mdb.damaged");
	return NULL;
}

static FALLIBLE check_writable(struct engine *e)
{
	auto_txn struct db_txn *txn = NULL;
	struct err *err = db_begin_write(engine_db(e), &txn);

	return err ? err_ctx(err, "nothing can be repaired") : NULL;
}

/* One repair at a time: each would take the other for a command that uses the layers. What a killed one had set aside is put back. */
static FALLIBLE begin(struct engine *e, bool repair, int *out_lock)
{
	struct store *store = engine_store(e);
	auto_fd int lock = sys_open_beneath(engine_root_fd(e), "blobs", O_RDONLY | O_DIRECTORY, 0);
	int r = lock < 0 ? lock : sys_flock(lock, repair ? LOCK_EX : LOCK_EX | LOCK_NB);

	if (r < 0 && r != -EWOULDBLOCK)
		return FAIL_OS(-r, "lock the blobs");
	if (r < 0) /* a repair is at it */
		return NULL;
	TRY(where_it_can_be_written(store_blobs_put_back(store)));
	if (repair)
		*out_lock = TAKE_FD(lock);
	return NULL;
}

FALLIBLE engine_verify(struct engine *e, const struct verify_opts *o, struct verify_result *out_result)
{
	CLEANUP(round_fini) struct verify v = { .e = e, .o = o, .result = out_result };
	auto_fd int lock = -1;

	*out_result = (struct verify_result){ 0 };
	if (o->repair)
		TRY(check_writable(e));
	TRY(begin(e, o->repair, &lock));
	return rounds(&v);
}
