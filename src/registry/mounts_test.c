#include "base/own.h"
#include "harness/t.h"
#include "image/manifest.h"
#include "registry/mounts.h"
#include "state/db.h"
#include <stdio.h>
#include <string.h>

#define LAYER "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void name_image(struct db *db, struct store *store, const char *name, const char *layer_digest)
{
	char type[] = MEDIA_LAYER, config_type[] = MEDIA_CONFIG, digest[DIGEST_MAX], record[256];
	struct descriptor layer = { .media_type = type, .size = 5 },
			  config = { .media_type = config_type, .size = 2 };
	auto_buf struct buf text = BUF(1 << 16);
	struct db_txn *txn = NULL;

	(void)snprintf(layer.digest, sizeof layer.digest, "%s", layer_digest);
	(void)snprintf(config.digest, sizeof config.digest, "%s", OTHER);
	manifest_write(&config, &layer, 1, &text);
	CHECK_OK(store_put(store, text.data, text.n, digest));
	(void)snprintf(record, sizeof record, "{\"digest\":\"%s\",\"manifest\":\"%s\"}", digest, digest);
	CHECK_OK(db_begin_write(db, &txn));
	CHECK_OK(db_put(txn, DB_IMAGE, name, sv_of(record)));
	CHECK_OK(db_commit(txn));
}

TEST(neighbours_in_the_same_registry_are_found)
{
	auto_free char *path = NULL;
	struct mounts *m = NULL;
	struct store *store = NULL;
	struct db *db = NULL;

	CHECK_OK(store_open(t_tmpdir(), &store));
	CHECK(asprintf(&path, "%s/meta", t_tmppath()) > 0);
	CHECK_OK(db_open(path, &db));
	name_image(db, store, "localhost:5000/base/os:1", LAYER);
	name_image(db, store, "elsewhere:5000/base/os:1", OTHER);
	name_image(db, store, "<none>@sha256:0000", OTHER);
	db_close(db);
	CHECK_OK(mounts_load(t_tmppath(), store, "localhost:5000", "app", &m));
	CHECK_STR(mounts_find(m, LAYER), "base/os");
	CHECK(!mounts_find(m, OTHER));
	mounts_free(m);
	CHECK_OK(mounts_load(t_tmppath(), store, "localhost:5000", "base/os", &m));
	CHECK(!mounts_find(m, LAYER));
	mounts_free(m);
	store_close(store);
}

TEST(without_a_database_there_are_none_and_none_is_made)
{
	struct mounts *m = NULL;
	struct store *store = NULL;
	size_t before;

	CHECK_OK(store_open(t_tmpdir(), &store));
	before = t_entries(t_tmpdir());
	CHECK_OK(mounts_load(t_tmppath(), store, "localhost:5000", "app", &m));
	CHECK(!mounts_find(m, LAYER));
	CHECK_INT(t_entries(t_tmpdir()), before);
	mounts_free(m);
	store_close(store);
}
