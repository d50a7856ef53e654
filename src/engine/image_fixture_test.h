/* image_fixture_test.h - for the tests of images: an engine of one's own, tars in memory, what is in the store. */
#pragma once
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/tar.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "harness/t.h"
#include "state/db.h"
#include <stdio.h>

static inline struct engine *fixture_open(void)
{
	auto_free char *root = xasprintf("%s/root", t_tmppath()), *run = xasprintf("%s/run", t_tmppath());
	struct engine *e;

	CHECK_OK(engine_open(&(struct engine_opts){ root, run }, &e));
	(void)engine_store(e);
	(void)engine_snapshotter(e);
	return e;
}

struct fixture_reader {
	const char *p;
	size_t n;
};

static inline struct err *fixture_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct fixture_reader *r = ctx;

	*out_n = n < r->n ? n : r->n;
	memcpy(p, r->p, *out_n);
	r->p += *out_n;
	r->n -= *out_n;
	return NULL;
}

static inline struct err *fixture_write(void *ctx, const void *p, size_t n)
{
	buf_add(ctx, p, n);
	return NULL;
}

static inline void fixture_add(struct tar_writer *w, const char *name, const void *p, size_t n)
{
	struct tar_entry entry = { .name = name, .link = "", .type = '0', .mode = 0644, .size = n, .mtime_ns = 1000000000 };

	CHECK_OK(tar_add(w, &entry));
	CHECK_OK(tar_write(w, p, n));
}

/* A layer: one file with this text, older than a second one. */
static inline void fixture_layer(const char *text, struct buf *out)
{
	auto_tar_writer struct tar_writer *w = NULL;
	struct tar_entry entry = { .name = "newest", .link = "", .type = '5', .mode = 0755, .mtime_ns = INT64_C(1700000000000000000) };

	*out = BUF(1u << 20);
	CHECK_OK(tar_writer_new((struct zip_sink){ fixture_write, out }, &w));
	fixture_add(w, "file", text, strlen(text));
	CHECK_OK(tar_add(w, &entry));
	CHECK_OK(tar_finish(w));
}

static inline struct err *fixture_import(struct engine *e, const char *text, const char *ref, char *const *changes, char **out_id)
{
	auto_buf struct buf layer;
	struct fixture_reader r;

	fixture_layer(text, &layer);
	r = (struct fixture_reader){ layer.data, layer.n };
	return engine_image_import(e, (struct zip_source){ fixture_read, &r }, &(struct image_import){ .ref = ref, .changes = changes }, out_id);
}

/* Imports and gives the id. */
static inline char *fixture_image(struct engine *e, const char *text, const char *ref)
{
	char *id = NULL;

	CHECK_OK(fixture_import(e, text, ref, NULL, &id));
	return id;
}

static inline struct err *fixture_count(void *ctx, const char *digest, uint64_t size)
{
	(void)digest;
	(void)size;
	++*(size_t *)ctx;
	return NULL;
}

static inline size_t fixture_blobs(struct engine *e)
{
	size_t n = 0;

	CHECK_OK(store_blob_each(engine_store(e), fixture_count, &n));
	return n;
}

static inline size_t fixture_layers(struct engine *e)
{
	size_t n = 0;

	CHECK_OK(layer_each(engine_snapshotter(e), fixture_count, &n));
	return n;
}

static inline void fixture_put(struct engine *e, enum db_table table, const char *key, json_t *value)
{
	auto_json json_t *owned = value;
	auto_buf struct buf b = BUF(65536);
	struct db_txn *txn;

	json_print(owned, &b);
	CHECK_OK(db_begin_write(engine_db(e), &txn));
	CHECK_OK(db_put(txn, table, key, sv_from(b.data, b.n)));
	CHECK_OK(db_commit(txn));
}

static inline void fixture_delete(struct engine *e, enum db_table table, const char *key)
{
	struct db_txn *txn;

	CHECK_OK(db_begin_write(engine_db(e), &txn));
	CHECK_OK(db_delete(txn, table, key));
	CHECK_OK(db_commit(txn));
}

static inline struct err *fixture_count_record(void *ctx, struct sv key, struct sv value)
{
	(void)key;
	(void)value;
	++*(size_t *)ctx;
	return NULL;
}

static inline size_t fixture_records(struct engine *e, enum db_table table)
{
	auto_txn struct db_txn *txn = NULL;
	size_t n = 0;

	CHECK_OK(db_begin_read(engine_db(e), &txn));
	CHECK_OK(db_scan(txn, table, "", fixture_count_record, &n));
	return n;
}
