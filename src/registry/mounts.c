#include "registry/mounts.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/json.h"
#include "image/manifest.h"
#include "image/ref.h"
#include "state/db.h"
#include "sys/sys.h"

struct mounts {
	const struct store *store; /* borrowed, while loading */
	const char *domain, *own;  /* the same */
	struct map by_digest;      /* -> path, owned */
};

static void add_image(struct mounts *m, const char *path, const char *digest)
{
	CLEANUP(manifest_fini) struct manifest doc = { 0 };
	auto_free char *body = NULL;
	size_t n = 0;
	struct err *e = store_blob_read(m->store, digest, MANIFEST_MAX, &body, &n);

	if (!e)
		e = manifest_parse(sv_from(body, n), NULL, &doc);
	if (e) { /* only a hint less */
		err_free(e);
		return;
	}
	for (size_t i = 0; !doc.is_index && i < doc.n; i++) {
		void **slot = map_put(&m->by_digest, doc.parts[i].digest);

		if (!*slot)
			*slot = xstrdup(path);
	}
}

static struct err *each_name(void *ctx, struct sv key, struct sv value)
{
	CLEANUP(ref_fini) struct ref ref = { 0 };
	auto_free char *name = xstrndup(key.p, key.n);
	auto_json json_t *doc = NULL;
	struct mounts *m = ctx;
	struct err *e = ref_parse(name, &ref);

	if (!e && strcmp(ref.domain, m->domain) == 0 && strcmp(ref.path, m->own) != 0)
		e = json_parse(value, "image record", 1 << 20, &doc);
	if (!e && doc)
		add_image(m, ref.path, json_str_at(doc, "manifest", ""));
	err_free(e); /* names that are no references: images without one */
	return NULL;
}

struct err *mounts_load(const char *root, const struct store *store, const char *domain, const char *own,
			struct mounts **out_mounts)
{
	struct mounts *m = xnew(struct mounts);
	auto_free char *path = xasprintf("%s/meta", root);
	auto_fd int fd = sys_open_dir(path);
	struct db_txn *txn = NULL;
	struct db *db = NULL;
	struct err *e = NULL;

	*m = (struct mounts){ .store = store, .domain = domain, .own = own };
	if (fd >= 0)
		e = db_open(path, &db);
	if (db && !e)
		e = db_begin_read(db, &txn);
	if (txn && !e)
		e = db_scan(txn, DB_IMAGE, "", each_name, m);
	db_abort(txn);
	db_close(db);
	if (e) {
		mounts_free(m);
		return e;
	}
	*out_mounts = m;
	return NULL;
}

const char *mounts_find(const struct mounts *m, const char *digest)
{
	void **slot = map_get(&m->by_digest, digest);

	return slot ? *slot : NULL;
}

void mounts_free(struct mounts *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->by_digest.n; i++)
		free(m->by_digest.entries[i].value);
	map_fini(&m->by_digest);
	free(m);
}
