/*
 * image_commit.c - a container's changes as a further layer on its image.
 *
 * The layer is the difference that overlayfs left in the upper directory, read while the container stands still; the
 * configuration is the image's with what the container was created with.
 */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "content/store.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/image_store.h"
#include "engine/stubs.h"
#include "image/ref.h"
#include <stdio.h>

static struct err *to_ingest(void *ctx, const void *p, size_t n)
{
	return ingest_write(ctx, p, n);
}

static FALLIBLE store_changes(struct engine *e, const char *id, const json_t *doc, char out_digest[DIGEST_MAX])
{
	CLEANUP(rootfs_fini) struct rootfs rootfs = { 0 };
	auto_ingest struct ingest *in = NULL;
	auto_list char **stubs = NULL;
	auto_fd int view = -1;

	TRY(ctr_rootfs(e, id, doc, &rootfs));
	TRY(stubs_of(&rootfs, &stubs, &view));
	TRY(ingest_begin(engine_store(e), &in));
	TRY(rootfs_diff(rootfs.upper, stubs, -1, (struct zip_sink){ to_ingest, in }));
	return ingest_commit(in, NULL, 0, out_digest);
}

/* pause: docker's default, so that no file is read half written. */
static FALLIBLE make_layer(struct engine *e, const char *id, const json_t *doc, bool pause, char out_digest[DIGEST_MAX])
{
	bool frozen = pause && ctr_runs(e, id) && !ctr_is_paused(id);
	auto_fd int fd = -1;
	struct err *err, *thaw;

	if (frozen) {
		err = container_pause(e, id, true);
		frozen = !err;
		if (err && err->kind != ERR_CONFLICT) /* that: it has ended, or somebody else paused it */
			return err;
		err_free(err);
	}
	err = store_changes(e, id, doc, out_digest);
	thaw = frozen ? container_pause(e, id, false) : NULL;
	if (err) {
		err_free(thaw);
		return err;
	}
	if (thaw && thaw->kind == ERR_CONFLICT) /* it was killed meanwhile, or somebody else was faster */
		err_free(TAKE(thaw));
	TRY(thaw);
	TRY(store_blob_open(engine_store(e), out_digest, 0, &fd));
	return layer_adopt(engine_snapshotter(e), fd, NULL, -1, out_digest);
}

/* What of a container's configuration belongs to an image: not its host name nor how it is attached. */
static json_t *image_part(const json_t *config)
{
	static const char *const keys[] = { "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir",
					    "Labels", "StopSignal", "Healthcheck", "Shell", "OnBuild" };
	json_t *out = json_object();

	for (size_t i = 0; i < LEN(keys); i++) {
		json_t *v = json_object_get(config, keys[i]);

		if (v && !json_is_null(v))
			(void)json_object_set_new(out, keys[i], json_deep_copy(v));
	}
	return out;
}

/* The container's command as one text, for the history. */
static char *created_by(const json_t *config)
{
	auto_buf struct buf b = BUF(65536);
	size_t i;
	json_t *v;

	json_array_foreach (json_object_get(config, "Cmd"), i, v)
		buf_fmt(&b, "%s%s", i ? " " : "", json_is_string(v) ? json_string_value(v) : "");
	return buf_take(&b);
}

static FALLIBLE commit_time(char out[TIME_TEXT_MAX])
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	uint64_t seconds = 0;

	if (epoch && *epoch)
		TRY(num_parse(sv_of(epoch), 10, 0, UINT64_C(1) << 32, &seconds));
	(void)time_format(epoch && *epoch ? (int64_t)seconds * 1000000000 : time_now_ns(), out);
	return NULL;
}

static FALLIBLE base_config(struct engine *e, const json_t *doc, json_t **out_config)
{
	auto_free char *body = NULL;
	size_t n = 0;

	TRY(store_blob_read(engine_store(e), json_str_at(doc, "Image", ""), MANIFEST_MAX, &body, &n));
	return config_parse(sv_from(body, n), -1, out_config);
}

/* document: the image's, changed in place. */
static FALLIBLE extend(json_t *document, const json_t *doc, const struct image_commit *how, const char *diff_id)
{
	const json_t *config = json_object_get(doc, "Config");
	auto_free char *by = created_by(config);
	json_t *ids = json_at(document, "rootfs.diff_ids"), *history = json_object_get(document, "history"), *entry;
	auto_json json_t *part = image_part(config);
	char when[TIME_TEXT_MAX];

	TRY(image_config_change(part, how->changes));
	TRY(commit_time(when));
	if (!json_is_array(history)) {
		history = json_array();
		(void)json_object_set_new(document, "history", history);
	}
	entry = json_pack("{s:s, s:s}", "created", when, "created_by", by);
	if (!entry)
		return FAIL(ERR_INVALID, "commit: the container's command is not UTF-8");
	if (how->message && *how->message)
		(void)json_object_set_new(entry, "comment", json_string(how->message));
	if (how->author && *how->author) {
		(void)json_object_set_new(entry, "author", json_string(how->author));
		(void)json_object_set_new(document, "author", json_string(how->author));
	}
	(void)json_array_append_new(history, entry);
	if (!json_is_array(ids) || json_array_append_new(ids, json_string(diff_id)) < 0)
		return FAIL(ERR_CORRUPT, "commit: the image's configuration lists no layers");
	(void)json_object_set_new(document, "created", json_string(when));
	(void)json_object_set(document, "config", part);
	return NULL;
}

static FALLIBLE commit(struct engine *e, const char *id, const json_t *doc, const struct image_commit *how, char **out_id)
{
	auto_json json_t *document = NULL;
	char digest[DIGEST_MAX];

	TRY(base_config(e, doc, &document));
	TRY(make_layer(e, id, doc, how->pause, digest));
	TRY(extend(document, doc, how, digest));
	return engine_image_create(e, document, how->ref, out_id);
}

FALLIBLE engine_image_commit(struct engine *e, const char *container, const struct image_commit *how, char **out_id)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_json json_t *doc = NULL, *probe = json_object();
	auto_leased struct engine *leased = NULL;
	char id[CTR_ID_MAX];
	struct err *err;

	if (how->ref)
		TRY(ref_parse(how->ref, &r));
	TRY(image_config_change(probe, how->changes)); /* what is wrong is said before anything is read */
	TRY(ctr_find(e, container, id, &doc));
	TRY(engine_lease_begin(e, &leased));
	err = commit(e, id, doc, how, out_id);
	engine_lease_end(TAKE(leased));
	if (err)
		err_free(image_sweep(e));
	return err;
}
