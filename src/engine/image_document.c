/*
 * image_document.c - a second copy of the documents of images, in the database: a manifest and a configuration are a few KiB, and
 * without one of them all layers of an image are worth nothing. What was made here is in no registry that could give them again.
 * The copy is written with the name of the image, in its transaction; it costs no sync.
 */
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "state/db.h"

enum { DOCUMENT_MAX = 64 << 10, RECORD_MAX = 1 << 20 };

void image_copies_fini(struct image_copies *c)
{
	for (size_t i = 0; i < c->v.n; i++)
		free(c->v.p[i].record);
	vec_fini(&c->v);
}

/* A document that cannot be read, is too long, or is no text has no copy. body is NUL-terminated. */
static void add(struct image_copies *c, const char *digest, const char *body, size_t n)
{
	auto_buf struct buf b = BUF(RECORD_MAX);
	auto_json json_t *doc = n > DOCUMENT_MAX ? NULL : json_pack("{s:s%}", "text", body, n);
	struct image_copy *copy;
	struct err *err;

	if (!doc)
		return;
	json_print(doc, &b);
	if ((err = buf_check(&b, "document"))) {
		err_free(err);
		return;
	}
	copy = vec_push(&c->v);
	memcpy(copy->digest, digest, DIGEST_MAX);
	copy->record = buf_take(&b);
}

void image_copies_load(struct engine *e, const char *manifest, struct image_copies *c)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_free char *body = NULL, *config = NULL;
	size_t n = 0;
	struct err *err = store_blob_read(engine_store(e), manifest, MANIFEST_MAX, &body, &n);

	if (!err)
		add(c, manifest, body, n);
	if (!err)
		err = manifest_parse(sv_from(body, n), NULL, &m);
	if (!err && !m.is_index)
		err = store_blob_read(engine_store(e), m.config.digest, DOCUMENT_MAX, &config, &n);
	if (!err && config)
		add(c, m.config.digest, config, n);
	err_free(err); /* who needs them tells */
}

FALLIBLE image_copies_keep(struct db_txn *txn, const struct image_copies *c)
{
	for (size_t i = 0; i < c->v.n; i++) {
		struct sv value;
		bool found;

		TRY(db_get(txn, DB_DOCUMENT, c->v.p[i].digest, &value, &found));
		if (!found)
			TRY(db_put(txn, DB_DOCUMENT, c->v.p[i].digest, sv_of(c->v.p[i].record)));
	}
	return NULL;
}

FALLIBLE image_copies_keep_all(struct engine *e)
{
	CLEANUP(image_copies_fini) struct image_copies c = { 0 };
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	auto_txn struct db_txn *txn = NULL;

	TRY(image_names_load(e, &names));
	for (size_t i = 0; i < names.v.n; i++) {
		image_copies_load(e, names.v.p[i].manifest, &c);
		image_copies_load(e, names.v.p[i].digest, &c);
	}
	TRY(db_begin_write(engine_db(e), &txn));
	TRY(image_copies_keep(txn, &c));
	return db_commit(TAKE(txn));
}

bool image_document_is(const char *digest, struct sv value)
{
	auto_json json_t *doc = NULL;
	struct err *err = json_parse(value, "document", RECORD_MAX, &doc);
	const json_t *text = json_object_get(doc, "text");
	char got[DIGEST_MAX] = "";

	err_free(err);
	if (json_is_string(text))
		digest_of(json_string_value(text), json_string_length(text), got);
	return strcmp(got, digest) == 0;
}

/* Owned. ERR_NOT_FOUND. */
static FALLIBLE copy_of(struct engine *e, const char *digest, char **out_body, size_t *out_n)
{
	auto_txn struct db_txn *txn = NULL;
	auto_json json_t *doc = NULL;
	const json_t *text;
	struct sv value;
	bool found;

	TRY(db_begin_read(engine_db(e), &txn));
	TRY(db_get(txn, DB_DOCUMENT, digest, &value, &found));
	if (!found || !image_document_is(digest, value))
		return FAIL(ERR_NOT_FOUND, "the database has no copy of %s", digest);
	TRY(json_parse(value, "document", RECORD_MAX, &doc));
	text = json_object_get(doc, "text");
	*out_n = json_string_length(text);
	*out_body = xmalloc(*out_n + 1);
	memcpy(*out_body, json_string_value(text), *out_n + 1);
	return NULL;
}

FALLIBLE image_document_read(struct engine *e, const char *digest, char **out_body, size_t *out_n)
{
	struct err *err = store_blob_read(engine_store(e), digest, MANIFEST_MAX, out_body, out_n), *other;

	if (!err || !image_is_damage(err))
		return err;
	other = copy_of(e, digest, out_body, out_n);
	err_free(other ? other : err);
	return other ? err : NULL;
}

FALLIBLE image_document_restore(struct engine *e, const char *digest)
{
	auto_ingest struct ingest *in = NULL;
	auto_free char *body = NULL;
	size_t n = 0;

	TRY(copy_of(e, digest, &body, &n));
	TRY(ingest_begin(engine_store(e), &in));
	TRY(ingest_write(in, body, n));
	return ingest_commit(in, digest, 0, NULL);
}
