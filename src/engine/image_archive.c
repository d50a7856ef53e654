/*
 * image_archive.c - save and load.
 *
 * What is written is an OCI layout with docker's manifest.json beside, in one tar: docker, podman and skopeo read it. What is
 * read: that, docker's older archives (paths of any name, links between layers), OCI archives; compressed or not.
 */
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/tar.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "image/ref.h"
#include "sys/sys.h"
#include <stdio.h>

enum { CHUNK = 1 << 18, DOC_MAX = 16 << 20 };

/* ---- save ---- */

struct saving {
	struct engine *e;
	struct tar_writer *tar;
	struct map done; /* digests written */
	json_t *index, *manifests; /* index.json's list; manifest.json's list */
	char *chunk;
};

static void saving_fini(struct saving *s)
{
	tar_writer_free(s->tar);
	map_fini(&s->done);
	json_decref(s->index);
	json_decref(s->manifests);
	free(s->chunk);
}

static FALLIBLE save_directory(struct saving *s, const char *name)
{
	struct tar_entry e = { .name = name, .link = "", .type = '5', .mode = 0755 };

	return tar_add(s->tar, &e);
}

static FALLIBLE save_text(struct saving *s, const char *name, const char *p, size_t n)
{
	struct tar_entry e = { .name = name, .link = "", .type = '0', .mode = 0644, .size = n };

	TRY(tar_add(s->tar, &e));
	return tar_write(s->tar, p, n);
}

static FALLIBLE save_blob(struct saving *s, const char *digest)
{
	auto_free char *name = xasprintf("blobs/sha256/%s", digest_hex(digest));
	struct tar_entry e = { .name = name, .link = "", .type = '0', .mode = 0644 };
	auto_digest struct digest_state *sum = digest_new();
	auto_fd int fd = -1;
	char got[DIGEST_MAX];
	uint64_t left;

	if (map_get(&s->done, digest))
		return NULL;
	*map_put(&s->done, digest) = s;
	if (!store_has(engine_store(s->e), digest, &e.size))
		return FAIL(ERR_NOT_FOUND, "blob %s is not in the store", digest);
	TRY(store_blob_open(engine_store(s->e), digest, e.size, &fd));
	TRY(tar_add(s->tar, &e));
	for (left = e.size; left;) {
		ssize_t n = sys_read(fd, s->chunk, left < CHUNK ? (size_t)left : CHUNK);

		if (n <= 0)
			return n < 0 ? FAIL_OS((int)-n, "read blob %s", digest) : FAIL(ERR_CORRUPT, "blob %s is truncated", digest);
		digest_add(sum, s->chunk, (size_t)n);
		TRY(tar_write(s->tar, s->chunk, (size_t)n));
		left -= (uint64_t)n;
	}
	digest_end(sum, got);
	return strcmp(got, digest) == 0 ? NULL : err_ctx(store_blob_is(digest, got), "blob %s", digest);
}

/* The entry of manifest.json for a manifest, made when it is not there. */
static json_t *docker_entry(struct saving *s, const struct image_docs *d)
{
	auto_free char *config = xasprintf("blobs/sha256/%s", digest_hex(d->manifest.config.digest));
	json_t *entry, *layers = json_array();
	size_t i;

	json_array_foreach (s->manifests, i, entry)
		if (strcmp(json_str_at(entry, "Config", ""), config) == 0) {
			json_decref(layers);
			return entry;
		}
	for (size_t k = 0; k < d->manifest.n; k++) {
		auto_free char *path = xasprintf("blobs/sha256/%s", digest_hex(d->manifest.parts[k].digest));

		(void)json_array_append_new(layers, json_string(path));
	}
	entry = json_pack("{s:s, s:[], s:o}", "Config", config, "RepoTags", "Layers", layers);
	(void)json_array_append_new(s->manifests, entry);
	return entry;
}

/* Each name once, and an entry without one only where no name tells of the image. Consumes entry. */
static void add_entry(json_t *index, json_t *entry)
{
	const json_t *name = json_object_get(entry, "annotations");
	json_t *other;
	size_t i;

	json_array_foreach (index, i, other) {
		const json_t *taken = json_object_get(other, "annotations");

		if (strcmp(json_str_at(other, "digest", ""), json_str_at(entry, "digest", "")) != 0)
			continue;
		if (!name || (taken && json_equal(taken, name))) {
			json_decref(entry);
			return;
		}
		if (!taken) {
			(void)json_array_set_new(index, i, entry);
			return;
		}
	}
	(void)json_array_append_new(index, entry);
}

static FALLIBLE index_entry(struct saving *s, const struct image_docs *d, const char *full)
{
	uint64_t size = 0;
	json_t *entry;

	(void)store_has(engine_store(s->e), d->digest, &size);
	entry = json_pack("{s:s, s:s, s:I}", "mediaType", d->manifest.media_type, "digest", d->digest, "size", (json_int_t)size);
	if (full) {
		CLEANUP(ref_fini) struct ref r = { 0 };

		TRY(ref_parse(full, &r));
		(void)json_object_set_new(entry, "annotations",
					  json_pack("{s:s, s:s}", "io.containerd.image.name", full,
						    "org.opencontainers.image.ref.name", r.tag ? r.tag : "latest"));
	}
	add_entry(s->index, entry);
	return NULL;
}

static FALLIBLE save_one(struct saving *s, const char *text)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_free char *full = NULL;
	char manifest[DIGEST_MAX];
	json_t *entry;

	TRY(image_find(s->e, text, manifest, &full));
	TRY(image_docs_load(s->e, manifest, &d));
	entry = docker_entry(s, &d);
	if (full) {
		CLEANUP(ref_fini) struct ref r = { 0 };
		auto_free char *familiar = NULL;

		TRY(ref_parse(full, &r));
		familiar = ref_familiar(&r);
		if (!r.digest) /* which is no tag, and docker would load nothing of it */
			json_add_once(json_object_get(entry, "RepoTags"), familiar);
	}
	TRY(index_entry(s, &d, full));
	TRY(save_blob(s, d.digest));
	TRY(save_blob(s, d.manifest.config.digest));
	for (size_t i = 0; i < d.manifest.n; i++)
		TRY(save_blob(s, d.manifest.parts[i].digest));
	return NULL;
}

static FALLIBLE save_document(struct saving *s, const char *name, const json_t *doc)
{
	auto_buf struct buf b = BUF(DOC_MAX);

	json_print(doc, &b);
	TRY(buf_check(&b, name));
	return save_text(s, name, b.data, b.n);
}

FALLIBLE engine_image_save(struct engine *e, char *const *refs, struct zip_sink sink)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	CLEANUP(saving_fini) struct saving s = { .e = e, .index = json_array(), .manifests = json_array(),
						 .chunk = xmalloc(CHUNK) };
	auto_leased struct engine *leased = NULL;
	auto_json json_t *index = NULL;

	TRY(engine_lease_begin(e, &leased));
	for (size_t i = 0; refs[i]; i++) { /* before the first byte */
		auto_free char *full = NULL;
		char manifest[DIGEST_MAX];
		auto_fd int lease = -1;

		TRY(image_find_leased(e, refs[i], manifest, &full, &lease));
		TRY(image_hold(e, manifest));
	}
	TRY(tar_writer_new(sink, &s.tar));
	TRY(save_directory(&s, "blobs"));
	TRY(save_directory(&s, "blobs/sha256"));
	for (size_t i = 0; refs[i]; i++)
		TRY(save_one(&s, refs[i]));
	index = json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", MEDIA_INDEX, "manifests", s.index);
	TRY(save_document(&s, "index.json", index));
	TRY(save_document(&s, "manifest.json", s.manifests));
	TRY(save_text(&s, "oci-layout", layout, sizeof layout - 1));
	return tar_finish(s.tar);
}

/* ---- load ---- */

struct loading {
	struct engine *e;
	struct map files; /* path -> owned digest, or owned "@path" of a link */
	json_t *index, *manifests;
	json_t *loaded;
	bool has_strays; /* files that no image will name */
	char *chunk;
};

static void loading_fini(struct loading *l)
{
	for (size_t i = 0; i < l->files.n; i++)
		free(l->files.entries[i].value);
	map_fini(&l->files);
	json_decref(l->index);
	json_decref(l->manifests);
	json_decref(l->loaded);
	free(l->chunk);
}

static FALLIBLE load_document(struct tar_reader *tar, const struct tar_entry *entry, json_t **out)
{
	auto_buf struct buf b = BUF(DOC_MAX);
	size_t n = 1;

	while (n) {
		char *p = buf_room(&b, 65536);

		if (!p)
			return FAIL(ERR_LIMIT, "%s: larger than %d bytes", entry->name, DOC_MAX);
		TRY(tar_read(tar, p, 65536, &n));
		b.n += n;
	}
	json_decref(*out);
	*out = NULL;
	return json_parse(sv_from(b.data, b.n), entry->name, DOC_MAX, out);
}

static struct err *from_unzip(void *ctx, void *p, size_t n, size_t *out_n)
{
	return unzip_read(ctx, p, n, out_n);
}

/* A file of the archive on its way into the store; what reads it gets the bytes that were stored. */
struct incoming {
	struct tar_reader *tar;
	struct ingest *ingest;
	char head[512];
	size_t n_head, at; /* bytes of head; how many were handed out */
	bool is_broken;	   /* bytes were read that could not be stored */
};

static void incoming_fini(struct incoming *in)
{
	ingest_free(in->ingest);
}

static struct err *incoming_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct incoming *in = ctx;
	size_t left = in->n_head - in->at;
	struct err *err;

	if (left) {
		*out_n = left < n ? left : n;
		memcpy(p, in->head + in->at, *out_n);
		in->at += *out_n;
		return NULL;
	}
	TRY(tar_read(in->tar, p, n, out_n));
	err = *out_n ? ingest_write(in->ingest, p, *out_n) : NULL;
	in->is_broken = err != NULL;
	return err;
}

static FALLIBLE incoming_open(struct incoming *in, struct loading *l, struct tar_reader *tar)
{
	size_t n = 1;

	in->tar = tar;
	TRY(ingest_begin(engine_store(l->e), &in->ingest));
	while (n && in->n_head < sizeof in->head) {
		TRY(tar_read(tar, in->head + in->n_head, sizeof in->head - in->n_head, &n));
		in->n_head += n;
	}
	return ingest_write(in->ingest, in->head, in->n_head);
}

/*
 * What looks like a layer is applied in the same pass: the bytes travel once. out_diff_id stays empty when it is none
 * after all or is a bad one; then who needs it as a layer finds out and says so.
 */
static FALLIBLE apply_incoming(struct loading *l, struct incoming *in, const char *digest, char out_diff_id[DIGEST_MAX])
{
	bool is_tar = in->n_head == sizeof in->head && memcmp(in->head + 257, "ustar", 5) == 0, applied = false;
	auto_unzip struct unzip *u = NULL;
	struct err *err;

	out_diff_id[0] = 0;
	if (is_tar && snapshotter_keeps_tars(engine_snapshotter(l->e)))
		return NULL; /* once the blob is there */
	if (!is_tar && zip_sniff(in->head, in->n_head) == ZIP_NONE)
		return NULL;
	if (digest)
		TRY(image_blob_applied(l->e, digest, &applied));
	if (applied)
		return NULL;
	err = unzip_open((struct zip_source){ incoming_read, in }, &u);
	if (!err)
		err = layer_apply(engine_snapshotter(l->e), (struct zip_source){ from_unzip, u }, NULL, out_diff_id);
	if (err)
		out_diff_id[0] = 0;
	if (in->is_broken)
		return err;
	err_free(err);
	return NULL;
}

/* A plain tar can be the layer by itself. The same holds for one that is none. */
static void adopt_blob(struct loading *l, const struct incoming *in, const char *digest)
{
	bool is_tar = in->n_head == sizeof in->head && memcmp(in->head + 257, "ustar", 5) == 0;
	struct snapshotter *s = engine_snapshotter(l->e);
	auto_fd int fd = -1;
	struct err *err;

	if (!is_tar || layer_exists(s, digest) || !snapshotter_keeps_tars(s))
		return;
	err = store_blob_open(engine_store(l->e), digest, 0, &fd);
	if (!err)
		err = layer_adopt(s, fd, NULL, -1, digest);
	err_free(err);
}

static FALLIBLE load_file(struct loading *l, struct tar_reader *tar, const struct tar_entry *entry)
{
	static const char blobs[] = "blobs/sha256/";
	auto_free char *want = NULL, *name = xstrdup(entry->name);
	CLEANUP(incoming_fini) struct incoming in = { 0 };
	char digest[DIGEST_MAX], diff_id[DIGEST_MAX];
	size_t n = 1;
	void **slot;

	if (strncmp(name, blobs, sizeof blobs - 1) == 0)
		want = xasprintf("sha256:%s", name + sizeof blobs - 1);
	l->has_strays |= !want;
	if (want && !digest_is_valid(sv_of(want)))
		return FAIL(ERR_INVALID, "archive: \"%s\" is not named by a digest", name);
	TRY(incoming_open(&in, l, tar));
	TRY(apply_incoming(l, &in, want, diff_id));
	while (n)
		TRY(incoming_read(&in, l->chunk, CHUNK, &n));
	TRY(ingest_commit(in.ingest, want, 0, digest));
	if (!diff_id[0])
		adopt_blob(l, &in, digest);
	if (diff_id[0])
		TRY(image_blob_remember(l->e, digest, diff_id));
	slot = map_put(&l->files, name);
	free(*slot);
	*slot = xstrdup(digest);
	return NULL;
}

/* "../other/layer.tar" as seen from the entry's directory; only what old docker archives have. */
static void load_link(struct loading *l, const struct tar_entry *entry)
{
	const char *target = entry->link;
	void **slot = map_put(&l->files, entry->name);

	while (strncmp(target, "../", 3) == 0)
		target += 3;
	free(*slot);
	*slot = xasprintf("@%s", target);
}

static FALLIBLE load_entries(struct loading *l, struct tar_reader *tar)
{
	const struct tar_entry *entry;

	for (;;) {
		TRY(tar_next(tar, &entry));
		if (!entry)
			return NULL;
		if (entry->type == '2' || entry->type == '1')
			load_link(l, entry);
		else if (entry->type != '0')
			continue;
		else if (strcmp(entry->name, "index.json") == 0)
			TRY(load_document(tar, entry, &l->index));
		else if (strcmp(entry->name, "manifest.json") == 0)
			TRY(load_document(tar, entry, &l->manifests));
		else
			TRY(load_file(l, tar, entry));
	}
}

static const char *file_digest(const struct loading *l, const char *path)
{
	for (int hops = 0; path && hops < 8; hops++) {
		void **slot = map_get(&l->files, path);
		const char *v = slot ? *slot : NULL;

		if (!v || v[0] != '@')
			return v;
		path = v + 1;
	}
	return NULL;
}

static FALLIBLE name_it(struct loading *l, const char *text, const char *manifest)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *full = NULL, *familiar = NULL;

	TRY(ref_parse(text, &r));
	full = ref_full(&r);
	familiar = ref_familiar(&r);
	TRY(image_name_set(l->e, full, manifest, manifest));
	(void)json_array_append_new(l->loaded, json_string(familiar));
	return NULL;
}

static FALLIBLE check_tags(const json_t *tags)
{
	size_t i;
	json_t *tag;

	json_array_foreach (tags, i, tag) {
		CLEANUP(ref_fini) struct ref r = { 0 };

		TRY(ref_parse(json_is_string(tag) ? json_string_value(tag) : "", &r));
	}
	return NULL;
}

static FALLIBLE finish_image(struct loading *l, const char *manifest, const json_t *tags)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	size_t i;
	json_t *tag;

	TRY(check_tags(tags));
	TRY(image_docs_load(l->e, manifest, &d));
	TRY(image_apply(l->e, &d));
	TRY(image_check_layers(l->e, &d));
	json_array_foreach (tags, i, tag)
		TRY(name_it(l, json_is_string(tag) ? json_string_value(tag) : "", manifest));
	if (json_array_size(tags))
		return NULL;
	TRY(image_name_set(l->e, NULL, manifest, manifest));
	(void)json_array_append_new(l->loaded, json_string(d.manifest.config.digest));
	return NULL;
}

/* Whether digest is an image of the archive with this configuration; an index is looked into. */
static FALLIBLE has_config(struct loading *l, const char *digest, const char *config, int depth, char out[DIGEST_MAX])
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_free char *body = NULL;
	struct err *err;
	size_t n = 0;

	if (!digest_is_valid(sv_of(digest)) || !store_has(engine_store(l->e), digest, NULL))
		return NULL;
	err = store_blob_read(engine_store(l->e), digest, MANIFEST_MAX, &body, &n);
	if (!err)
		err = manifest_parse(sv_from(body, n), NULL, &m);
	if (err && !image_is_damage(err))
		return err;
	if (!err && !m.is_index && strcmp(m.config.digest, config) == 0)
		memcpy(out, digest, DIGEST_MAX);
	err_free(err); /* an artifact, another version: not ours */
	for (size_t i = 0; m.is_index && depth > 0 && i < m.n && !out[0]; i++)
		TRY(has_config(l, m.parts[i].digest, config, depth - 1, out));
	return NULL;
}

/* A manifest that the archive brought and that has this configuration: its bytes, so its digest, are kept. */
static FALLIBLE original_manifest(struct loading *l, const char *config, char out[DIGEST_MAX])
{
	size_t i;
	json_t *m;

	out[0] = 0;
	json_array_foreach (json_object_get(l->index, "manifests"), i, m)
		if (!out[0])
			TRY(has_config(l, json_str_at(m, "digest", ""), config, 1, out));
	return NULL;
}

static void parts_fini(struct manifest *m)
{
	manifest_fini(m);
}

/* Without an original: a manifest of the files that manifest.json names. */
static FALLIBLE make_manifest(struct loading *l, const json_t *entry, const char *config, char out[DIGEST_MAX])
{
	CLEANUP(parts_fini) struct manifest m = { 0 };
	const json_t *layers = json_object_get(entry, "Layers");
	auto_buf struct buf b = BUF(MANIFEST_MAX);

	m.config.media_type = xstrdup(MEDIA_CONFIG);
	memcpy(m.config.digest, config, DIGEST_MAX);
	(void)store_has(engine_store(l->e), config, &m.config.size);
	m.parts = xcalloc(json_array_size(layers) + 1, sizeof *m.parts);
	for (; m.n < json_array_size(layers); m.n++) {
		const char *path = json_string_value(json_array_get(layers, m.n)), *digest = path ? file_digest(l, path) : NULL;

		if (!digest || !store_has(engine_store(l->e), digest, &m.parts[m.n].size))
			return FAIL(ERR_INVALID, "archive: layer \"%s\" is missing", path ? path : "");
		memcpy(m.parts[m.n].digest, digest, DIGEST_MAX);
		TRY(image_blob_media(l->e, digest, &m.parts[m.n].media_type));
	}
	manifest_write(&m.config, m.parts, m.n, &b);
	TRY(buf_check(&b, "manifest"));
	return store_put(engine_store(l->e), b.data, b.n, out);
}

static FALLIBLE load_docker(struct loading *l)
{
	size_t i;
	json_t *entry;

	if (!json_array_size(l->manifests))
		return FAIL(ERR_INVALID, "archive: manifest.json lists no image");
	json_array_foreach (l->manifests, i, entry) {
		const char *path = json_str_at(entry, "Config", ""), *config = file_digest(l, path);
		char manifest[DIGEST_MAX];

		if (!config)
			return FAIL(ERR_INVALID, "archive: configuration \"%s\" is missing", path);
		TRY(original_manifest(l, config, manifest));
		if (!manifest[0])
			TRY(make_manifest(l, entry, config, manifest));
		TRY(finish_image(l, manifest, json_object_get(entry, "RepoTags")));
	}
	return NULL;
}

static FALLIBLE choose(struct loading *l, const char *digest, char out[DIGEST_MAX])
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	const struct descriptor *part;
	auto_free char *body = NULL;
	struct platform host;
	size_t n = 0;

	TRY(store_blob_read(engine_store(l->e), digest, MANIFEST_MAX, &body, &n));
	TRY(manifest_parse(sv_from(body, n), NULL, &m));
	if (!m.is_index) {
		memcpy(out, digest, DIGEST_MAX);
		return NULL;
	}
	platform_host(&host);
	TRY(manifest_choose(&m, &host, &part));
	memcpy(out, part->digest, DIGEST_MAX);
	return NULL;
}

static FALLIBLE load_oci(struct loading *l)
{
	size_t i;
	json_t *m;

	json_array_foreach (json_object_get(l->index, "manifests"), i, m) {
		const json_t *a = json_object_get(m, "annotations");
		const char *full;
		const json_t *name = json_object_get(a, "io.containerd.image.name");
		const json_t *ref = json_object_get(a, "org.opencontainers.image.ref.name");
		auto_json json_t *tags = json_array();
		const char *digest = json_str_at(m, "digest", "");
		char manifest[DIGEST_MAX];

		TRY(digest_check(sv_of(digest)));
		TRY(choose(l, digest, manifest));
		full = name ? json_string_value(name) : ref ? json_string_value(ref) : NULL;
		if (full && (name || strpbrk(full, ":/"))) /* a bare tag names no repository */
			(void)json_array_append_new(tags, json_string(full));
		TRY(finish_image(l, manifest, tags));
	}
	return json_array_size(json_object_get(l->index, "manifests")) ? NULL :
									  FAIL(ERR_INVALID, "archive: it names no image");
}

static FALLIBLE load_all(struct loading *l, struct zip_source source)
{
	auto_unzip struct unzip *u = NULL;
	auto_tar_reader struct tar_reader *tar = NULL;

	TRY(unzip_open_any(source, &u));
	TRY(tar_reader_new((struct zip_source){ from_unzip, u }, &tar));
	TRY(load_entries(l, tar));
	if (l->manifests)
		return load_docker(l);
	if (l->index)
		return load_oci(l);
	return FAIL(ERR_INVALID, "archive: neither manifest.json nor index.json is in it: this is not an image archive "
				 "(a root file system is taken by 'hoy import')");
}

FALLIBLE engine_image_load(struct engine *e, struct zip_source source, json_t **out_loaded)
{
	CLEANUP(loading_fini) struct loading l = { .e = e, .loaded = json_array(), .chunk = xmalloc(CHUNK) };
	auto_leased struct engine *leased = NULL;
	struct err *err;

	TRY(engine_lease_begin(e, &leased));
	err = load_all(&l, source);
	engine_lease_end(TAKE(leased));
	if (err || l.has_strays)
		err_free(image_sweep(e));
	TRY(err);
	*out_loaded = json_incref(l.loaded);
	return NULL;
}
