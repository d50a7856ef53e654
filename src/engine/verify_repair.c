/*
 * verify_repair.c - mending what verify.c has found. Order: records, blobs, layers, index.json; each needs
 * those before it. Blobs: verify_blob.c. A layer is replaced only when no container runs on it.
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

void verify_tell_failure(const struct verify *v, const struct damage *d, struct err *err)
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
	case DB_DOCUMENT:
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

/* By an image, a container or the build cache. While a manifest or a record is damaged nobody can tell. */
static bool is_needed(const struct verify *v, const struct damage *d)
{
	auto_map struct map reached = { 0 };
	struct err *err = d->owner ? NULL : image_reach_names(v->e, &reached);
	bool needed = d->owner != NULL;

	if (!err && !needed)
		err = image_reach_containers(v->e, &reached);
	if (!err && !needed)
		err = image_reach_cache(v->e, &reached);
	needed |= err || map_get(&reached, d->name);
	for (size_t i = 0; i < v->damages.n; i++)
		needed |= v->damages.p[i].kind == DAMAGE_BLOB || v->damages.p[i].kind == DAMAGE_RECORD;
	err_free(err);
	return needed;
}

static FALLIBLE mend_layer(struct verify *v, const struct damage *d)
{
	struct descriptor blob = { 0 };
	struct err *err;

	TRY(check_unused(v, d->name));
	TRY(check_leases(v, d->name));
	if (!is_needed(v, d))
		return layer_delete(engine_snapshotter(v->e), d->name);
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
			verify_tell_failure(v, &v->damages.p[i], err);
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
			verify_tell_failure(v, &v->damages.p[i], err);
	}
	TRY(engine_lease_begin(v->e, &leased)); /* what is fetched stays until it is in its place */
	TRY(verify_mend_blobs(v));
	engine_lease_end(TAKE(leased));
	return mend_layers(v);
}
