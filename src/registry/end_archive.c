/*
 * end_archive.c - archives as sources. An oci-archive is a layout in a tar. A docker-archive (docker save) has a
 * configuration and layers, but no manifest: one is made of them, the same for the same archive. Layers stay the
 * bytes that they are there.
 */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "image/manifest.h"
#include "image/ref.h"
#include "registry/archive.h"
#include "registry/end.h"
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES (1u << 18)

struct archive_end {
	struct end base;
	bool is_docker;
	char *path, *tag; /* tag: also a name, or "@2"; or NULL */
	struct archive *archive;
	/* of a docker-archive: */
	char *body; /* the manifest that was made */
	size_t n;
	struct manifest m; /* of body */
	char **files;      /* where its layers stand, m.n; borrowed from list */
	char *config;      /* where the configuration stands; borrowed from list */
	json_t *list;      /* manifest.json */
};

static struct archive_end *archive_of(struct end *end)
{
	return (struct archive_end *)end;
}

/* ---- docker's ---- */

/* The name of the file that the digest is of, or NULL. */
static const char *docker_file(const struct archive_end *a, const char *digest)
{
	if (strcmp(a->m.config.digest, digest) == 0)
		return a->config;
	for (size_t i = 0; i < a->m.n; i++)
		if (strcmp(a->m.parts[i].digest, digest) == 0)
			return a->files[i];
	return NULL;
}

static bool is_called(const json_t *entry, const char *full)
{
	size_t i;
	json_t *tag;

	json_array_foreach(json_object_get(entry, "RepoTags"), i, tag)
	{
		CLEANUP(ref_fini) struct ref r = { 0 };
		struct err *e = ref_parse(json_is_string(tag) ? json_string_value(tag) : "", &r);
		auto_free char *own = e ? NULL : ref_full(&r);

		err_free(e);
		if (own && strcmp(own, full) == 0)
			return true;
	}
	return false;
}

/* The image that is meant, an object of manifest.json; borrowed. */
static struct err *docker_choose(const struct archive_end *a, const json_t **out_entry)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *full = NULL;
	uint64_t index = 0;

	if (!json_is_array(a->list) || !json_array_size(a->list))
		return FAIL(ERR_INVALID, "archive %s: manifest.json lists no image", a->path);
	if (!a->tag && json_array_size(a->list) > 1)
		return FAIL(ERR_INVALID,
			    "archive %s holds %zu images: say which (PATH:NAME:TAG or PATH:@INDEX)", a->path,
			    json_array_size(a->list));
	if (a->tag && *a->tag == '@') {
		TRY(num_parse(sv_of(a->tag + 1), 10, 0, json_array_size(a->list) - 1, &index));
	} else if (a->tag) {
		TRY(ref_parse(a->tag, &r));
		full = ref_full(&r);
		while (index < json_array_size(a->list) && !is_called(json_array_get(a->list, index), full))
			index++;
	}
	*out_entry = json_array_get(a->list, index);
	return *out_entry ? NULL
			  : FAIL(ERR_NOT_FOUND, "archive %s has nothing that is called %s", a->path, a->tag);
}

/* A source that hashes what passes. */
struct hashed {
	struct archive_file file;
	struct digest_state *sum;
};

static struct err *read_hashed(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct hashed *h = ctx;
	struct zip_source source = archive_source(&h->file);

	TRY(source.read(source.ctx, p, n, out_n));
	digest_add(h->sum, p, *out_n);
	return NULL;
}

/* Of one file: its digest, size and media type, and the digest of what is packed in it. */
static struct err *look_at_layer(const struct archive_end *a, const char *name, struct descriptor *out,
				 char out_diff_id[DIGEST_MAX])
{
	auto_free char *chunk = xmalloc(CHUNK_BYTES);
	auto_digest struct digest_state *sum = digest_new(), *inner = digest_new();
	struct hashed h = { .sum = sum };
	auto_unzip struct unzip *u = NULL;
	size_t n;

	TRY(archive_find(a->archive, name, &h.file));
	out->size = h.file.size;
	TRY(unzip_open((struct zip_source){ .read = read_hashed, .ctx = &h }, &u));
	do {
		if (report_is_cancelled(a->base.conf->t.report))
			return FAIL(ERR_CANCELLED, "cancelled");
		TRY(unzip_read(u, chunk, CHUNK_BYTES, &n));
		digest_add(inner, chunk, n);
	} while (n);
	do /* what stands behind the compressed stream is of the blob, too */
		TRY(read_hashed(&h, chunk, CHUNK_BYTES, &n));
	while (n);
	digest_end(sum, out->digest);
	digest_end(inner, out_diff_id);
	out->media_type =
	    xasprintf("application/vnd.docker.image.rootfs.diff.tar%s", unzip_kind(u) == ZIP_GZIP   ? ".gzip"
									: unzip_kind(u) == ZIP_ZSTD ? ".zstd"
												    : "");
	return NULL;
}

static json_t *describe(const struct descriptor *d)
{
	return json_pack("{s:s, s:I, s:s}", "mediaType", d->media_type, "size", (json_int_t)d->size, "digest",
			 d->digest);
}

static struct err *add_layer(struct archive_end *a, const json_t *layers, size_t index, const char *diff_id,
			     json_t *list)
{
	struct descriptor d = { 0 };
	auto_free char *type = NULL;
	char got[DIGEST_MAX];
	const char *name = json_string_value(json_array_get(layers, index));
	struct err *e;

	if (!name)
		return FAIL(ERR_INVALID, "archive %s: manifest.json: layer %zu has no name", a->path, index);
	e = look_at_layer(a, name, &d, got);
	type = d.media_type;
	if (!e && strcmp(got, diff_id) != 0)
		e = FAIL(ERR_CORRUPT, "digest mismatch: the configuration wants %.100s, got %s", diff_id,
			 got);
	if (e)
		return err_ctx(e, "archive %s: layer \"%.300s\"", a->path, name);
	a->files[index] = (char *)(uintptr_t)name;
	(void)json_array_append_new(list, describe(&d));
	return NULL;
}

static struct err *make_manifest(struct archive_end *a, const json_t *entry)
{
	const json_t *layers = json_object_get(entry, "Layers"), *diff_ids;
	auto_json json_t *config = NULL, *list = json_array(), *doc = NULL;
	auto_buf struct buf text = BUF(MANIFEST_MAX);
	struct descriptor d = { .media_type = (char[]){ MEDIA_DOCKER_CONFIG } };
	auto_free char *body = NULL, *what = xasprintf("archive %s: configuration", a->path);
	size_t n = 0;

	a->config = (char *)(uintptr_t)json_str_at(entry, "Config", "");
	TRY(archive_text(a->archive, a->config, MANIFEST_MAX, &body, &n));
	TRY(json_parse(sv_from(body, n), what, MANIFEST_MAX, &config));
	digest_of(body, n, d.digest);
	d.size = n;
	diff_ids = json_at(config, "rootfs.diff_ids");
	if (json_array_size(layers) != json_array_size(diff_ids) || json_array_size(layers) > 1024)
		return FAIL(
		    ERR_INVALID,
		    "archive %s: manifest.json names %zu layers, the configuration %zu (at most 1024)",
		    a->path, json_array_size(layers), json_array_size(diff_ids));
	a->files = xcalloc(json_array_size(layers) + 1, sizeof *a->files);
	for (size_t i = 0; i < json_array_size(layers); i++) {
		const char *diff_id = json_string_value(json_array_get(diff_ids, i));

		TRY(add_layer(a, layers, i, diff_id ? diff_id : "", list));
	}
	doc = json_pack("{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", MEDIA_DOCKER, "config",
			describe(&d), "layers", list);
	json_print(doc, &text);
	TRY(buf_check(&text, "manifest"));
	a->n = text.n;
	a->body = buf_take(&text);
	return manifest_parse(sv_from(a->body, a->n), NULL, &a->m);
}

static struct err *open_docker(struct archive_end *a)
{
	auto_free char *body = NULL, *what = xasprintf("archive %s: manifest.json", a->path);
	const json_t *entry = NULL;
	size_t n = 0;

	TRY(archive_text(a->archive, "manifest.json", MANIFEST_MAX, &body, &n));
	TRY(json_parse(sv_from(body, n), what, MANIFEST_MAX, &a->list));
	TRY(docker_choose(a, &entry));
	return make_manifest(a, entry);
}

/* ---- both ---- */

static struct err *oci_document(struct archive_end *a, const char *digest, struct remote_doc *doc)
{
	char found[DIGEST_MAX];
	auto_free char *index = NULL, *name = NULL;
	size_t n = 0;

	if (!digest) {
		TRY(archive_text(a->archive, "index.json", MANIFEST_MAX, &index, &n));
		TRY(end_layout_find(a->path, sv_from(index, n), a->tag, found));
		digest = found;
	}
	TRY(digest_check(sv_of(digest)));
	name = xasprintf("blobs/sha256/%s", digest_hex(digest));
	TRY(archive_text(a->archive, name, MANIFEST_MAX, &doc->body, &doc->n));
	digest_of(doc->body, doc->n, doc->digest);
	if (strcmp(doc->digest, digest) != 0)
		return FAIL(ERR_CORRUPT, "%s: digest mismatch: wanted %s, got %s", a->path, digest,
			    doc->digest);
	return NULL;
}

static struct err *archive_document(struct end *end, const char *digest, struct remote_doc *out_doc)
{
	struct archive_end *a = archive_of(end);
	auto_remote_doc struct remote_doc doc = { .media_type = xstrdup("") };

	if (!a->is_docker) {
		TRY(oci_document(a, digest, &doc));
	} else {
		doc.body = xstrndup(a->body, a->n);
		doc.n = a->n;
		digest_of(doc.body, doc.n, doc.digest);
	}
	*out_doc = doc;
	doc = (struct remote_doc){ 0 };
	return NULL;
}

static struct err *archive_stream(struct end *end, const struct descriptor *d, struct archive_file *out_file)
{
	struct archive_end *a = archive_of(end);
	auto_free char *blob = NULL;

	TRY(digest_check(sv_of(d->digest)));
	blob = xasprintf("blobs/sha256/%s", digest_hex(d->digest));
	return archive_find(a->archive, a->is_docker ? docker_file(a, d->digest) : blob, out_file);
}

static struct err *archive_fetch(struct end *end, struct http_client *http, const struct descriptor *d)
{
	struct archive_end *a = archive_of(end);
	struct archive_file file;

	(void)http;
	if (store_has(end->conf->t.store, d->digest, NULL))
		return NULL;
	TRY(archive_stream(end, d, &file));
	return end_store_blob(end, a->path, archive_source(&file), d);
}

static void archive_end_close(struct end *end)
{
	struct archive_end *a = archive_of(end);

	archive_close(a->archive);
	manifest_fini(&a->m);
	json_decref(a->list);
	free(a->files);
	free(a->body);
	free(a->path);
	free(a->tag);
	free(a);
}

static const struct end_ops source_ops = {
	.document = archive_document,
	.fetch = archive_fetch,
	.stream = archive_stream,
	.close = archive_end_close,
};

struct err *end_open_archive(const struct copy_conf *conf, const char *text, bool is_docker,
			     struct end **out_end)
{
	const char *colon = strchr(text, ':');
	struct archive_end *a = xnew(struct archive_end);
	auto_end struct end *owned = &a->base;

	*a = (struct archive_end){
		.base = { .ops = &source_ops, .conf = conf, .text = text, .is_plain = is_docker },
		.is_docker = is_docker
	};
	a->path = colon ? xstrndup(text, (size_t)(colon - text)) : xstrdup(text);
	a->tag = colon ? xstrdup(colon + 1) : NULL;
	if (!*a->path || (a->tag && !*a->tag))
		return FAIL(ERR_INVALID, "%s-archive:%s: wanted %s", is_docker ? "docker" : "oci", text,
			    is_docker ? "docker-archive:PATH[:NAME[:TAG]|:@INDEX]"
				      : "oci-archive:PATH[:TAG]");
	TRY(archive_open(store_root_fd(conf->t.store), a->path, &a->archive));
	if (is_docker)
		TRY(open_docker(a));
	*out_end = TAKE(owned);
	return NULL;
}
