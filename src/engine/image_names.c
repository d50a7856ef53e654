/*
 * image_names.c - names in the database, and index.json of the layout, which follows them.
 *
 * An image is listed while it has a record. One that lost its last name to another image keeps the record
 * "<none>@<manifest>" (docker: dangling) until somebody removes it; one that gets a name loses that record. The same image
 * in another compression is no other image: what the name meant before goes, and its id lives on under the name.
 */
#include "base/buf.h"
#include "base/log.h"
#include "base/own.h"
#include "base/time.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "image/ref.h"
#include "state/db.h"
#include "state/record.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

enum { NAME_MAX_BYTES = 65536 };

bool image_name_is_none(const char *ref)
{
	return strncmp(ref, "<none>", 6) == 0;
}

static FALLIBLE name_parse(struct sv key, struct sv value, struct image_name *out_name)
{
	auto_json json_t *v = NULL;
	const char *digest, *manifest;

	TRY(json_parse(value, "image name", NAME_MAX_BYTES, &v));
	digest = json_str_at(v, "digest", "");
	manifest = json_str_at(v, "manifest", "");
	if (!digest_is_valid(sv_of(digest)) || !digest_is_valid(sv_of(manifest)))
		return FAIL(ERR_CORRUPT, "the record of image " SV_FMT " is damaged", SV_ARG(key));
	memcpy(out_name->digest, digest, DIGEST_MAX);
	memcpy(out_name->manifest, manifest, DIGEST_MAX);
	(void)snprintf(out_name->media_type, sizeof out_name->media_type, "%.*s", (int)sizeof out_name->media_type - 1,
		       json_str_at(v, "media_type", MEDIA_MANIFEST));
	out_name->created_ns = json_int_at(v, "created_ns", 0);
	out_name->has_no_digest = json_bool_at(v, "no_digest", false);
	out_name->ref = xstrndup(key.p, key.n);
	return NULL;
}

static struct err *add_name(void *ctx, struct sv key, struct sv value)
{
	struct image_names *names = ctx;
	struct image_name n;

	TRY(name_parse(key, value, &n));
	*vec_push(&names->v) = n;
	return NULL;
}

void image_names_fini(struct image_names *n)
{
	for (size_t i = 0; i < n->v.n; i++)
		free(n->v.p[i].ref);
	vec_fini(&n->v);
}

static FALLIBLE names_in(struct db_txn *txn, struct image_names *out_names)
{
	*out_names = (struct image_names){ 0 };
	return db_scan(txn, DB_IMAGE, "", add_name, out_names);
}

FALLIBLE image_names_load(struct engine *e, struct image_names *out_names)
{
	auto_txn struct db_txn *txn = NULL;

	*out_names = (struct image_names){ 0 };
	TRY(db_begin_read(engine_db(e), &txn));
	return names_in(txn, out_names);
}

FALLIBLE image_name_get(struct engine *e, const char *ref, struct image_name *out_name, bool *out_found)
{
	auto_txn struct db_txn *txn = NULL;
	struct sv value;

	TRY(db_begin_read(engine_db(e), &txn));
	TRY(db_get(txn, DB_IMAGE, ref, &value, out_found));
	return *out_found ? name_parse(sv_of(ref), value, out_name) : NULL;
}

size_t image_names_of(const struct image_names *names, const char *manifest)
{
	size_t n = 0;

	for (size_t i = 0; i < names->v.n; i++)
		n += strcmp(names->v.p[i].manifest, manifest) == 0 && !image_name_is_none(names->v.p[i].ref);
	return n;
}

int64_t image_named_ns(const struct image_names *names, const char *manifest)
{
	int64_t last = 0;

	for (size_t i = 0; i < names->v.n; i++)
		if (strcmp(names->v.p[i].manifest, manifest) == 0 && names->v.p[i].created_ns > last)
			last = names->v.p[i].created_ns;
	return last;
}

void image_config_of(struct engine *e, const char *manifest, char out_id[DIGEST_MAX])
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_free char *body = NULL;
	size_t n = 0;
	struct err *err = image_document_read(e, manifest, &body, &n);

	if (!err)
		err = manifest_parse(sv_from(body, n), NULL, &m);
	memcpy(out_id, err || m.is_index ? manifest : m.config.digest, DIGEST_MAX);
	err_free(err);
}

/* index.json names what the database names, for other tools that read the layout. */
static FALLIBLE index_of(struct engine *e, struct db_txn *txn, struct buf *out)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	auto_json json_t *list = json_array(), *doc = NULL;

	TRY(names_in(txn, &names));
	for (size_t i = 0; i < names.v.n; i++) {
		const struct image_name *n = &names.v.p[i];
		uint64_t size = 0;
		json_t *entry;

		if (!store_size(engine_store(e), n->manifest, &size)) /* within a transaction nothing may be held */
			continue;
		entry = json_pack("{s:s, s:s, s:I}", "mediaType", n->media_type, "digest", n->manifest, "size", (json_int_t)size);
		if (!image_name_is_none(n->ref))
			(void)json_object_set_new(entry, "annotations",
						  json_pack("{s:s, s:s}", "io.containerd.image.name", n->ref,
							    "org.opencontainers.image.ref.name", n->ref));
		(void)json_array_append_new(list, entry);
	}
	doc = json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", MEDIA_INDEX, "manifests", list);
	json_print(doc, out);
	return buf_check(out, "index.json");
}

FALLIBLE image_index_text(struct engine *e, char **out_text)
{
	auto_buf struct buf b = BUF(RECORD_BODY_MAX);
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	TRY(index_of(e, txn, &b));
	*out_text = buf_take(&b);
	return NULL;
}

/*
 * Under the database's write lock, so that of two writers the later one writes what is true. Not synced: the database is, and
 * after a power cut the first command looks whether the index follows it.
 */
FALLIBLE image_index_write(struct engine *e)
{
	auto_buf struct buf b = BUF(RECORD_BODY_MAX);
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_write(engine_db(e), &txn));
	TRY(index_of(e, txn, &b));
	return record_write_volatile(engine_root_fd(e), "index.json", b.data, b.n);
}

FALLIBLE image_index_mend(struct engine *e)
{
	auto_free char *want = NULL, *have = NULL;
	struct err *err;

	err = image_index_text(e, &want);
	if (err && image_is_damage(err)) { /* of a record: that is for verify */
		err_free(err);
		return NULL;
	}
	TRY(err);
	err = record_read(engine_root_fd(e), "index.json", &have, NULL);
	if (err && err->kind != ERR_NOT_FOUND)
		return err;
	if (err ? strstr(want, "\"digest\"") == NULL : strcmp(want, have) == 0) { /* none while nothing was ever named */
		err_free(err);
		return NULL;
	}
	err_free(err);
	return image_index_write(e);
}

/* RUN/index-dirty, locked while names change: one that nobody holds tells the next command that the index was not written. */
struct dirty {
	struct engine *e;
	int fd;
};

static FALLIBLE dirty_begin(struct engine *e, struct dirty *d)
{
	struct stat st = { 0 };
	int r;

	*d = (struct dirty){ e, -1 };
	do { /* again when another one removed it before the lock */
		own_close(&d->fd);
		d->fd = sys_openat(engine_run_fd(e), IMAGE_INDEX_DIRTY, O_WRONLY | O_CREAT, 0600);
		r = d->fd < 0 ? d->fd : sys_flock(d->fd, LOCK_SH);
		if (r >= 0)
			r = sys_fstat(d->fd, &st);
	} while (r >= 0 && st.st_nlink == 0);
	return r < 0 ? FAIL_OS(-r, "write %s/%s", engine_run(e), IMAGE_INDEX_DIRTY) : NULL;
}

static void dirty_end(struct dirty *d)
{
	own_close(&d->fd);
}

/* The index only repeats the database for others: that it cannot be written (a full disk) ends nothing, the mark stays. */
static void dirty_settle(struct dirty *d, struct err *err)
{
	if (err)
		log_debug("%s: the next command tries again", err->msg);
	else if (sys_flock(d->fd, LOCK_EX | LOCK_NB) == 0) /* nobody else is at it */
		(void)sys_unlink(engine_run_fd(d->e), IMAGE_INDEX_DIRTY);
	err_free(err);
}

/* The transaction, then the index; consumes txn. */
static FALLIBLE commit(struct engine *e, struct db_txn *txn)
{
	CLEANUP(dirty_end) struct dirty d = { e, -1 };
	struct err *err = dirty_begin(e, &d);

	if (err) {
		db_abort(txn);
		return err;
	}
	TRY(db_commit(txn));
	dirty_settle(&d, image_index_write(e));
	return NULL;
}

FALLIBLE image_index_reconcile(struct engine *e, bool after_boot)
{
	CLEANUP(dirty_end)
	struct dirty d = { e, sys_openat(engine_run_fd(e), IMAGE_INDEX_DIRTY, O_WRONLY | (after_boot ? O_CREAT : 0), 0600) };

	if (d.fd < 0 || sys_flock(d.fd, LOCK_EX | LOCK_NB) < 0) /* written meanwhile, or being written */
		return NULL;
	dirty_settle(&d, image_index_mend(e));
	return NULL;
}

/* created_ns 0: now. */
static FALLIBLE put(struct db_txn *txn, const struct image_name *n)
{
	auto_json json_t *v = json_pack("{s:s, s:s, s:s, s:I}", "digest", n->digest, "manifest", n->manifest, "media_type",
					n->media_type, "created_ns", (json_int_t)(n->created_ns ? n->created_ns : time_now_ns()));
	auto_buf struct buf b = BUF(NAME_MAX_BYTES);

	if (n->has_no_digest)
		(void)json_object_set_new(v, "no_digest", json_true());
	json_print(v, &b);
	TRY(buf_check(&b, "image name"));
	return db_put(txn, DB_IMAGE, n->ref, sv_from(b.data, b.n));
}

static void none_key(const char *manifest, char out[IMAGE_NONE_MAX])
{
	(void)snprintf(out, IMAGE_NONE_MAX, "<none>@%s", manifest);
}

/* names: as they were before ref was taken from its image. */
static FALLIBLE keep_dangling(struct db_txn *txn, const struct image_names *names, const struct image_name *taken)
{
	char key[IMAGE_NONE_MAX];
	struct image_name n = *taken;

	if (image_name_is_none(taken->ref) || image_names_of(names, taken->manifest) > 1)
		return NULL;
	none_key(taken->manifest, key);
	n.ref = key;
	n.created_ns = 0;
	return put(txn, &n);
}

static FALLIBLE media_type_of(struct engine *e, const char *manifest, char *out, size_t size)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_free char *body = NULL;
	size_t n = 0;

	TRY(store_blob_read(engine_store(e), manifest, MANIFEST_MAX, &body, &n));
	TRY(manifest_parse(sv_from(body, n), NULL, &m));
	(void)snprintf(out, size, "%.*s", (int)size - 1, m.media_type);
	return NULL;
}

/* What is named for the first time: the names of its blobs and layers reach the disk before its own does. */
static FALLIBLE sync_content(struct engine *e, const struct image_names *names, const char *manifest)
{
	auto_fd int layers = -1;
	int r;

	for (size_t i = 0; i < names->v.n; i++)
		if (strcmp(names->v.p[i].manifest, manifest) == 0)
			return NULL;
	TRY(store_sync(engine_store(e)));
	layers = sys_open_beneath(engine_root_fd(e), "layers", O_RDONLY | O_DIRECTORY, 0);
	r = layers < 0 ? layers : sys_fsync(layers);
	return r < 0 ? FAIL_OS(-r, "sync %s/layers", engine_root(e)) : NULL;
}

static bool is_image(struct engine *e, const struct image_name *n, const char *id)
{
	char own[DIGEST_MAX];

	image_config_of(e, n->manifest, own);
	return strcmp(own, id) == 0;
}

static FALLIBLE set_in(struct engine *e, struct db_txn *txn, const struct image_name *n)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	bool is_nameless = image_name_is_none(n->ref);
	char id[DIGEST_MAX];

	TRY(names_in(txn, &names));
	TRY(sync_content(e, &names, n->manifest));
	image_config_of(e, n->manifest, id);
	for (size_t i = 0; i < names.v.n; i++) {
		const struct image_name *other = &names.v.p[i];
		bool is_record = image_name_is_none(other->ref), is_taken = strcmp(other->ref, n->ref) == 0;

		if (!is_nameless && !is_record && !is_taken)
			continue;
		if (is_nameless && !is_record && is_image(e, other, id))
			return NULL; /* it has better names */
		if (!is_nameless && is_record && is_image(e, other, id))
			TRY(db_delete(txn, DB_IMAGE, other->ref));
		if (is_taken && !is_image(e, other, id))
			TRY(keep_dangling(txn, &names, other));
	}
	return put(txn, n);
}

FALLIBLE image_name_set(struct engine *e, const char *ref, const char *digest, const char *manifest)
{
	CLEANUP(image_copies_fini) struct image_copies copies = { 0 };
	auto_txn struct db_txn *txn = NULL;
	char key[IMAGE_NONE_MAX];
	auto_free char *text = NULL;
	struct image_name n = { 0 };

	TRY(digest_check(sv_of(digest)));
	TRY(digest_check(sv_of(manifest)));
	none_key(manifest, key);
	n.ref = text = xstrdup(ref ? ref : key);
	memcpy(n.digest, digest, DIGEST_MAX);
	memcpy(n.manifest, manifest, DIGEST_MAX);
	TRY(media_type_of(e, manifest, n.media_type, sizeof n.media_type));
	image_copies_load(e, manifest, &copies);
	if (strcmp(digest, manifest) != 0)
		image_copies_load(e, digest, &copies);
	TRY(db_begin_write(engine_db(e), &txn));
	TRY(set_in(e, txn, &n));
	TRY(image_copies_keep(txn, &copies));
	return commit(e, TAKE(txn));
}

FALLIBLE image_name_put(struct db_txn *txn, const char *ref, const char *manifest, const char *media_type)
{
	char key[IMAGE_NONE_MAX];
	auto_free char *text = NULL;
	struct image_name n = { 0 };

	TRY(digest_check(sv_of(manifest)));
	none_key(manifest, key);
	n.ref = text = xstrdup(ref ? ref : key);
	memcpy(n.digest, manifest, DIGEST_MAX);
	memcpy(n.manifest, manifest, DIGEST_MAX);
	(void)snprintf(n.media_type, sizeof n.media_type, "%s", media_type);
	return put(txn, &n);
}

FALLIBLE image_name_hide_digest(struct engine *e, const char *ref)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_write(engine_db(e), &txn));
	TRY(names_in(txn, &names));
	for (size_t i = 0; i < names.v.n; i++) {
		struct image_name *n = &names.v.p[i];

		if (strcmp(n->ref, ref) != 0)
			continue;
		n->has_no_digest = true;
		TRY(put(txn, n));
	}
	return db_commit(TAKE(txn));
}

static FALLIBLE delete_in(struct db_txn *txn, const char *ref, bool keep)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };

	TRY(names_in(txn, &names));
	for (size_t i = 0; keep && i < names.v.n; i++)
		if (strcmp(names.v.p[i].ref, ref) == 0)
			TRY(keep_dangling(txn, &names, &names.v.p[i]));
	return db_delete(txn, DB_IMAGE, ref);
}

FALLIBLE image_name_delete(struct engine *e, const char *ref, bool keep)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_write(engine_db(e), &txn));
	TRY(delete_in(txn, ref, keep));
	return commit(e, TAKE(txn));
}
