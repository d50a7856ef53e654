/*
 * verify_repair.c - mending what verify.c has found. Order: records, blobs, layers, index.json; each needs
 * those before it.
 *
 * A damaged blob is set aside while a good one is looked for, and put back when there is none: of what is
 * damaged the rest can still be read. A layer is replaced only when no container runs on it.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/ctr.h"
#include "engine/mounts.h"
#include "engine/verify_int.h"
#include "state/record.h"
#include "sys/sys.h"
#include <stdio.h>

static void tell_failure(const struct verify *v, const struct damage *d, struct err *err)
{
	verify_tell(v, d->owner, "%s: not repaired: %s", d->name, err->msg);
	err_free(err);
}

/* ---- records ---- */

/* What the layout's index knows of an image whose record is damaged. */
static FALLIBLE name_from_index(struct verify *v, const char *ref)
{
	auto_free char *text = NULL;
	auto_json json_t *doc = NULL;
	size_t n = 0, i;
	json_t *m;

	TRY(record_read(engine_root_fd(v->e), "index.json", &text, &n));
	TRY(json_parse(sv_from(text, n), "index.json", RECORD_BODY_MAX, &doc));
	json_array_foreach(json_object_get(doc, "manifests"), i, m)
	{
		const json_t *a = json_object_get(m, "annotations");
		const char *digest = json_str_at(m, "digest", "");

		if (strcmp(json_string_value(json_object_get(a, "io.containerd.image.name")) ?: "", ref) == 0)
			return image_name_set(v->e, ref, digest, digest);
	}
	return FAIL(ERR_NOT_FOUND, "index.json does not name it");
}

static FALLIBLE forget(struct verify *v, enum db_table table, const char *key)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_write(engine_db(v->e), &txn));
	TRY(db_delete(txn, table, key));
	return db_commit(TAKE(txn));
}

/* From the log, else from what else says the same; containers, volumes and networks are nowhere else: their
 * records stay. */
static FALLIBLE mend_record(struct verify *v, const struct damage *d)
{
	struct err *err =
	    d->is_rotten ? db_restore(engine_db(v->e), d->table, d->name) : FAIL(ERR_NOT_FOUND, "not rotten");

	if (!err)
		return NULL;
	err_free(err);
	switch (d->table) {
	case DB_IMAGE:
		TRY(forget(v, d->table, d->name));
		err = image_name_is_none(d->name) ? NULL : name_from_index(v, d->name);
		return err ? err_ctx(err, "the name is gone: pull the image again") : image_index_write(v->e);
	case DB_BLOB_INFO:
	case DB_CACHE:
	case DB_CONTAINER_NAME:
	case DB_NETWORK_NAME:
	case DB_LAYER:
		return forget(v, d->table, d->name);
	case DB_CONTAINER:
	case DB_VOLUME:
	case DB_NETWORK:
	case DB_LEASE:
	case DB_TABLES:
		break;
	}
	return FAIL(ERR_UNSUPPORTED, "there is no second copy of it");
}

/* ---- blobs ---- */

static struct err *from_unzip(void *ctx, void *p, size_t n, size_t *out_n)
{
	return unzip_read(ctx, p, n, out_n);
}

/* A plain tar from the compressed blob that holds it. */
static FALLIBLE from_compressed(struct verify *v, const char *digest)
{
	auto_unzip struct unzip *u = NULL;
	auto_ingest struct ingest *in = NULL;
	auto_free char *chunk = xmalloc(1 << 18), *type = NULL;
	struct descriptor blob;
	auto_fd int fd = -1;
	size_t n = 1;

	TRY(image_layer_blob(v->e, digest, &blob));
	type = blob.media_type;
	TRY(store_blob_open(engine_store(v->e), blob.digest, blob.size, &fd));
	TRY(unzip_open(zip_source_fd(&fd), &u));
	unzip_is_proven(u);
	TRY(ingest_begin(engine_store(v->e), &in));
	while (n) {
		TRY(from_unzip(u, chunk, 1 << 18, &n));
		TRY(ingest_write(in, chunk, n));
	}
	return ingest_commit(in, digest, 0, NULL);
}

static struct err *to_ingest(void *ctx, const void *p, size_t n)
{
	return ingest_write(ctx, p, n);
}

/* A layer that was made here has its tar from its tree: that is made again, and is the same if the tree is
 * whole. */
static FALLIBLE from_layer(struct verify *v, const char *digest)
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

static bool is_there(const struct verify *v, const char *digest)
{
	return store_has(engine_store(v->e), digest, NULL);
}

static FALLIBLE from_here(struct verify *v, const char *digest)
{
	struct err *err = from_compressed(v, digest);

	err_free(err);
	err = is_there(v, digest) ? NULL : from_layer(v, digest);
	err_free(err);
	return is_there(v, digest) ? NULL : FAIL(ERR_NOT_FOUND, "nothing in the store holds it");
}

/* All that one image misses comes with one transfer. */
static FALLIBLE from_registry(struct verify *v, const struct damage *d)
{
	struct image_name n = { 0 };
	bool found = false;
	struct err *err;

	if (!d->owner || image_name_is_none(d->owner))
		return FAIL(ERR_NOT_FOUND, "no image's name tells where to fetch it");
	TRY(image_name_get(v->e, d->owner, &n, &found));
	err = found ? image_refetch(v->e, &n, &v->o->transfer) : FAIL(ERR_NOT_FOUND, "its image is gone");
	free(n.ref);
	if (!err && !is_there(v, d->name)) /* the registry has its layers compressed, ours are plain */
		err = from_here(v, d->name);
	return err;
}

static FALLIBLE mend_blob(struct verify *v, const struct damage *d)
{
	struct err *err;

	if (is_there(v, d->name))
		return NULL; /* came with another one's transfer */
	err = from_here(v, d->name);
	if (!err)
		return NULL;
	err_free(err);
	err = from_registry(v, d);
	return err ? err_ctx(err, "nothing in the store has it, and no registry gives it: if it was made here, import, load or build the "
				  "image again")
		   : NULL;
}

static FALLIBLE mend_blobs(struct verify *v)
{
	for (size_t i = 0; i < v->damages.n; i++)
		if (v->damages.p[i].kind == DAMAGE_BLOB)
			TRY(store_blob_set_aside(engine_store(v->e), v->damages.p[i].name));
	for (size_t i = 0; i < v->damages.n; i++) {
		struct err *err = v->damages.p[i].kind == DAMAGE_BLOB && v->damages.p[i].owner
				      ? mend_blob(v, &v->damages.p[i])
				      : NULL;

		if (err)
			tell_failure(v, &v->damages.p[i], err);
	}
	for (size_t i = 0; i < v->damages.n; i++) /* one that no image needs just goes */
		if (v->damages.p[i].kind == DAMAGE_BLOB)
			TRY(store_blob_put_back(engine_store(v->e), v->damages.p[i].name,
						v->damages.p[i].owner != NULL));
	return NULL;
}

/* ---- layers ---- */

struct runner {
	struct engine *e;
	const char *diff_id;
	char id[CTR_ID_MAX]; /* of a container that runs on the layer, or "" */
};

static struct err *look_for_runner(void *ctx, struct sv key, struct sv value)
{
	struct runner *r = ctx;
	auto_json json_t *doc = NULL;
	auto_list char **layers = NULL;
	char id[CTR_ID_MAX];

	TRY(json_parse(value, "container record", 1u << 20, &doc));
	TRY(json_list_at(doc, "Hoy.Layers", &layers));
	mounts_images(doc, &layers, NULL);
	(void)snprintf(id, sizeof id, "%.*s", SV_ARG(key));
	for (size_t i = 0; layers && layers[i]; i++)
		if (strcmp(layers[i], r->diff_id) == 0 && ctr_live(r->e, id, NULL))
			memcpy(r->id, id, sizeof id);
	return NULL;
}

static FALLIBLE check_unused(struct verify *v, const char *diff_id)
{
	struct runner r = { .e = v->e, .diff_id = diff_id };
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(v->e), &txn));
	TRY(db_scan(txn, DB_CONTAINER, "", look_for_runner, &r));
	return r.id[0] ? FAIL(ERR_CONFLICT, "container %.12s runs on it: stop it and repair again", r.id)
		       : NULL;
}

static FALLIBLE check_leases(struct verify *v, const char *diff_id)
{
	auto_map struct map leased = { 0 };

	TRY(image_reach_leased(v->e, &leased));
	return map_get(&leased, diff_id) ? FAIL(ERR_CONFLICT, "a command that runs now uses it: repair again when it has ended") : NULL;
}

static FALLIBLE mend_layer(struct verify *v, const struct damage *d)
{
	struct descriptor blob = { 0 };
	struct err *err;

	TRY(check_unused(v, d->name));
	TRY(check_leases(v, d->name));
	err = verify_layer_blob(v, d->name, &blob);
	if (!err)
		err = store_blob_verify(engine_store(v->e), blob.digest);
	if (!err)
		err = layer_delete(engine_snapshotter(v->e), d->name);
	if (!err)
		err = image_apply_layer(v->e, &blob, d->name, false);
	free(blob.media_type);
	return err;
}

/* Alone: a build or a start in progress may stand on a layer that no record names. */
static FALLIBLE mend_layers(struct verify *v)
{
	auto_leases struct leases_stop stop = LEASES_GOING;
	bool any = false;

	for (size_t i = 0; i < v->damages.n; i++)
		any |= v->damages.p[i].kind == DAMAGE_LAYER;
	if (!any)
		return NULL;
	TRY(leases_stop(engine_root_fd(v->e), NULL, &stop));
	for (size_t i = 0; i < v->damages.n; i++) {
		struct err *err =
		    v->damages.p[i].kind == DAMAGE_LAYER ? mend_layer(v, &v->damages.p[i]) : NULL;

		if (err)
			tell_failure(v, &v->damages.p[i], err);
	}
	return NULL;
}

/* ---- the whole ---- */

static FALLIBLE mend_other(struct verify *v, const struct damage *d)
{
	switch (d->kind) {
	case DAMAGE_RECORD:
		return mend_record(v, d);
	case DAMAGE_INDEX:
		return image_index_write(v->e);
	case DAMAGE_COPY:
		return db_copy(engine_db(v->e));
	case DAMAGE_LAYOUT:
		return record_write(engine_root_fd(v->e), "oci-layout", STORE_LAYOUT, strlen(STORE_LAYOUT));
	case DAMAGE_BLOB:
	case DAMAGE_LAYER:
		break;
	}
	return NULL;
}

FALLIBLE verify_repair(struct verify *v)
{
	auto_leased struct engine *leased = NULL;

	for (size_t i = 0; i < v->damages.n; i++) {
		struct err *err = mend_other(v, &v->damages.p[i]);

		if (err)
			tell_failure(v, &v->damages.p[i], err);
	}
	TRY(engine_lease_begin(v->e, &leased)); /* what is fetched stays until it is in its place */
	TRY(mend_blobs(v));
	engine_lease_end(TAKE(leased));
	return mend_layers(v);
}
