/*
 * end_files.c - OCI layouts and skopeo's directories as ends of a copy. A file is written beside, synced and
 * renamed; what a reader meets is whole. The two differ in where blobs and documents lie, and in how the
 * named one is found.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "image/manifest.h"
#include "registry/end.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES (1u << 18)
#define TAG_KEY     "org.opencontainers.image.ref.name"
#define DIR_VERSION "Directory Transport Version: "

struct files_end {
	struct end base;
	bool is_oci;
	char *path, *tag;     /* tag: of a layout, or NULL */
	int dir_fd, blobs_fd; /* of a dir the same */
	struct map named;     /* of a dir: files of the image that is copied */
};

static struct files_end *files_of(struct end *end)
{
	return (struct files_end *)end;
}

static struct err *name_of_blob(const char *digest, char out[80])
{
	TRY(digest_check(sv_of(digest)));
	(void)snprintf(out, 80, "%s", digest_hex(digest));
	return NULL;
}

/* Of a directory's manifest that is not the named one. */
static void name_of_document(const struct files_end *f, const char *digest, char out[80])
{
	(void)snprintf(out, 80, f->is_oci ? "%.64s" : "%.64s.manifest.json", digest_hex(digest));
}

static struct err *read_small(int dir_fd, const char *name, const char *what, char **out_body, size_t *out_n)
{
	auto_fd int fd = sys_open_beneath(dir_fd, name, O_RDONLY, 0);
	auto_buf struct buf b = BUF(MANIFEST_MAX + 1);
	ssize_t n;

	if (fd < 0)
		return FAIL_OS(-fd, "%s: %s", what, name);
	if (!buf_room(&b, MANIFEST_MAX + 1))
		return FAIL_OS(ENOMEM, "%s: %s", what, name);
	n = sys_read_full(fd, b.data, MANIFEST_MAX + 1);
	if (n < 0)
		return FAIL_OS((int)-n, "%s: %s", what, name);
	if ((size_t)n > MANIFEST_MAX)
		return FAIL(ERR_LIMIT, "%s: %s is larger than %u bytes", what, name, MANIFEST_MAX);
	b.n = (size_t)n;
	b.data[n] = '\0';
	*out_n = b.n;
	*out_body = buf_take(&b);
	return NULL;
}

struct err *end_layout_find(const char *path, struct sv body, const char *tag, char out[DIGEST_MAX])
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	const json_t *list;
	size_t found = 0;

	TRY(manifest_parse(body, MEDIA_INDEX, &m));
	if (!m.is_index)
		return FAIL(ERR_INVALID, "%s: index.json is no index", path);
	list = json_object_get(m.doc, "manifests");
	for (size_t i = 0; i < m.n; i++) {
		const json_t *notes = json_object_get(json_array_get(list, i), "annotations");
		const char *own = json_string_value(json_object_get(notes, TAG_KEY));

		if (tag && (!own || strcmp(own, tag) != 0))
			continue;
		found++;
		memcpy(out, m.parts[i].digest, DIGEST_MAX);
	}
	if (tag && found)
		return NULL; /* of equal names the last is the newest */
	if (found == 1)
		return NULL;
	return tag ? FAIL(ERR_NOT_FOUND, "%s has nothing that is called %s", path, tag)
		   : FAIL(ERR_INVALID, "%s holds %zu images: say which (PATH:TAG)", path, m.n);
}

json_t *end_layout_entry(const struct remote_doc *doc, const char *media_type, const char *tag)
{
	json_t *entry = json_pack("{s:s, s:s, s:I}", "mediaType", media_type, "digest", doc->digest, "size",
				  (json_int_t)doc->n);

	if (tag)
		(void)json_object_set_new(entry, "annotations", json_pack("{s:s}", TAG_KEY, tag));
	return entry;
}

static struct err *find_in_layout(struct files_end *f, char out[DIGEST_MAX])
{
	auto_free char *body = NULL;
	size_t n = 0;

	TRY(read_small(f->dir_fd, "index.json", f->path, &body, &n));
	return end_layout_find(f->path, sv_from(body, n), f->tag, out);
}

static struct err *files_document(struct end *end, const char *digest, struct remote_doc *out_doc)
{
	struct files_end *f = files_of(end);
	char found[DIGEST_MAX], name[80] = "manifest.json";
	auto_remote_doc struct remote_doc doc = { 0 };
	bool is_named = !digest && !f->is_oci;

	if (digest)
		TRY(digest_check(sv_of(digest)));
	if (!digest && f->is_oci) {
		TRY(find_in_layout(f, found));
		digest = found;
	}
	if (!is_named)
		name_of_document(f, digest, name);
	TRY(read_small(f->blobs_fd, name, f->path, &doc.body, &doc.n));
	digest_of(doc.body, doc.n, doc.digest);
	if (!is_named && strcmp(doc.digest, digest) != 0)
		return FAIL(ERR_CORRUPT, "%s: digest mismatch: wanted %s, got %s", f->path, digest,
			    doc.digest);
	doc.media_type = xstrdup("");
	*out_doc = doc;
	doc = (struct remote_doc){ 0 };
	return NULL;
}

static struct err *into_store(const struct end *end, struct zip_source source, const struct descriptor *d)
{
	auto_free char *chunk = xmalloc(CHUNK_BYTES);
	auto_ingest struct ingest *in = NULL;
	size_t n = 0;

	TRY(ingest_begin(end->conf->t.store, &in));
	for (;;) {
		TRY(source.read(source.ctx, chunk, CHUNK_BYTES, &n));
		if (!n)
			break;
		if (ingest_size(in) + n > d->size)
			return FAIL(ERR_CORRUPT, "size mismatch: wanted %llu bytes, got more",
				    (unsigned long long)d->size);
		if (report_is_cancelled(end->conf->t.report))
			return FAIL(ERR_CANCELLED, "cancelled");
		TRY(ingest_write(in, chunk, n));
	}
	if (ingest_size(in) != d->size)
		return FAIL(ERR_CORRUPT, "size mismatch: wanted %llu bytes, got %llu",
			    (unsigned long long)d->size, (unsigned long long)ingest_size(in));
	return ingest_commit(in, d->digest, d->size, NULL);
}

struct err *end_store_blob(const struct end *end, const char *path, struct zip_source source,
			   const struct descriptor *d)
{
	struct err *e = into_store(end, source, d);

	return e ? err_ctx(e, "%s: blob %s", path, d->digest) : NULL;
}

static struct err *files_fetch(struct end *end, struct http_client *http, const struct descriptor *d)
{
	struct files_end *f = files_of(end);
	auto_fd int fd = -1;
	char name[80];

	(void)http;
	if (store_has(end->conf->t.store, d->digest, NULL))
		return NULL;
	TRY(name_of_blob(d->digest, name));
	fd = sys_open_beneath(f->blobs_fd, name, O_RDONLY, 0);
	if (fd < 0)
		return FAIL_OS(-fd, "%s: blob %s", f->path, d->digest);
	return end_store_blob(end, f->path, zip_source_fd(&fd), d);
}

/* A new file of what body, or else from_fd, holds. */
static struct err *write_file(const struct files_end *f, int dir_fd, const char *name, struct sv body,
			      int from_fd)
{
	static atomic_uint serial;
	auto_fd int fd = -1;
	ssize_t r = 0;
	char tmp[64];

	(void)snprintf(tmp, sizeof tmp, ".hoy-%d-%u", (int)getpid(), atomic_fetch_add(&serial, 1));
	fd = sys_openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return FAIL_OS(-fd, "create %s/%s", f->path, tmp);
	if (from_fd >= 0)
		while ((r = sys_copy_range(from_fd, fd, 64u << 20)) > 0)
			;
	else
		r = sys_write_all(fd, body.p, body.n);
	if (r >= 0)
		r = sys_fdatasync(fd);
	if (r >= 0)
		r = sys_rename(dir_fd, tmp, name);
	if (r >= 0)
		r = sys_fsync(dir_fd);
	if (r < 0) {
		(void)sys_unlink(dir_fd, tmp);
		return FAIL_OS((int)-r, "write %s/%s", f->path, name);
	}
	return NULL;
}

static struct err *files_put(struct end *end, struct http_client *http, const struct descriptor *d,
			     struct end *source)
{
	struct files_end *f = files_of(end);
	auto_fd int fd = -1;
	struct stat st;
	char name[80];

	(void)http;
	TRY(name_of_blob(d->digest, name));
	if (f->is_oci && sys_fstatat(f->blobs_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (uint64_t)st.st_size == d->size)
		return NULL;
	TRY(source->ops->fetch(source, NULL, d));
	TRY(store_blob_open(end->conf->t.store, d->digest, d->size, &fd));
	return write_file(f, f->blobs_fd, name, (struct sv){ 0 }, fd);
}

/* The layout's index.json with the document under its tag; others stay. */
static struct err *name_in_layout(struct files_end *f, const struct remote_doc *doc, const char *media_type)
{
	auto_free char *body = NULL;
	auto_json json_t *index = NULL;
	auto_buf struct buf out = BUF(2 * MANIFEST_MAX);
	json_t *list, *old;
	size_t n = 0, i;
	struct err *e = read_small(f->dir_fd, "index.json", f->path, &body, &n);

	if (e && e->kind != ERR_NOT_FOUND)
		return e;
	if (!e)
		TRY(json_parse(sv_from(body, n), "index.json", MANIFEST_MAX, &index));
	err_free(e);
	if (!index)
		index =
		    json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2, "mediaType", MEDIA_INDEX, "manifests");
	list = json_object_get(index, "manifests");
	if (!json_is_array(list))
		return FAIL(ERR_INVALID, "%s: index.json is no index", f->path);
	for (i = json_array_size(list); i-- > 0;) {
		const char *tag;

		old = json_array_get(list, i);
		tag = json_string_value(json_object_get(json_object_get(old, "annotations"), TAG_KEY));
		if (f->tag ? tag && strcmp(tag, f->tag) == 0
			   : !tag && strcmp(json_str_at(old, "digest", ""), doc->digest) == 0)
			(void)json_array_remove(list, i);
	}
	(void)json_array_append_new(list, end_layout_entry(doc, media_type, f->tag));
	json_print(index, &out);
	TRY(buf_check(&out, "index.json"));
	return write_file(f, f->dir_fd, "index.json", sv_from(out.data, out.n), -1);
}

static struct err *note_named(struct files_end *f, const struct remote_doc *doc, const char *media_type,
			      const char *own)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	char name[80];

	*map_put(&f->named, own) = f;
	TRY(manifest_parse(sv_from(doc->body, doc->n), media_type, &m));
	for (size_t i = 0; !m.is_index && i <= m.n; i++) {
		TRY(name_of_blob(i < m.n ? m.parts[i].digest : m.config.digest, name));
		*map_put(&f->named, name) = f;
	}
	return NULL;
}

struct leftover {
	const struct map *named;
	char **list;
};

static int see_leftover(void *ctx, const char *name)
{
	struct leftover *l = ctx;
	size_t n = strlen(name);
	bool is_ours = (n == 64 || strcmp(name + (n > 64 ? 64 : n), ".manifest.json") == 0) &&
		       text_is_hex(sv_from(name, n > 64 ? 64 : n));

	if (is_ours && !map_get(l->named, name))
		text_list_add(&l->list, name);
	return 0;
}

/* A directory holds one image: what an earlier one had goes when the new one is whole. */
static void drop_leftovers(const struct files_end *f)
{
	struct leftover l = { .named = &f->named };
	auto_list char **list = NULL;

	(void)sys_each_entry(f->dir_fd, see_leftover, &l);
	list = l.list;
	for (char **name = list; name && *name; name++)
		(void)sys_unlink(f->dir_fd, *name);
}

static struct err *files_put_document(struct end *end, const struct remote_doc *doc, const char *media_type,
				      bool is_top)
{
	struct files_end *f = files_of(end);
	char name[80] = "manifest.json";

	if (f->is_oci || !is_top)
		name_of_document(f, doc->digest, name);
	TRY(write_file(f, f->blobs_fd, name, sv_from(doc->body, doc->n), -1));
	if (is_top && f->is_oci)
		return name_in_layout(f, doc, media_type);
	if (!f->is_oci)
		TRY(note_named(f, doc, media_type, name));
	if (is_top)
		drop_leftovers(f);
	return NULL;
}

static void files_close(struct end *end)
{
	struct files_end *f = files_of(end);

	if (f->blobs_fd != f->dir_fd)
		own_close(&f->blobs_fd);
	own_close(&f->dir_fd);
	map_fini(&f->named);
	free(f->path);
	free(f->tag);
	free(f);
}

static const struct end_ops files_ops = {
	.document = files_document,
	.fetch = files_fetch,
	.put = files_put,
	.put_document = files_put_document,
	.close = files_close,
};

static struct err *make_dir(const struct files_end *f, int at, const char *name)
{
	int r = sys_mkdir(at, name, 0755);

	return r < 0 && r != -EEXIST ? FAIL_OS(-r, "create %s in %s", name, f->path) : NULL;
}

static int see_any(void *ctx, const char *name)
{
	(void)name;
	*(bool *)ctx = true;
	return 0;
}

/* Whatever else is in a directory is not ours to add to, and to remove from. */
static struct err *check_dir(const struct files_end *f)
{
	auto_free char *body = NULL;
	bool has_any = false;
	size_t n = 0;
	struct err *e = read_small(f->dir_fd, "version", f->path, &body, &n);

	if (!e && sv_starts(sv_from(body, n), SV(DIR_VERSION)))
		return NULL;
	if (e && e->kind != ERR_NOT_FOUND)
		return e;
	err_free(e);
	(void)sys_each_entry(f->dir_fd, see_any, &has_any);
	return has_any ? FAIL(ERR_INVALID, "%s: it is not empty and holds no image of this kind (dir:): nothing is written into it", f->path)
		       : NULL;
}

static struct err *make_layout(struct files_end *f)
{
	static const char oci[] = "{\"imageLayoutVersion\":\"1.0.0\"}", dir[] = DIR_VERSION "1.1\n";

	if (!f->is_oci) {
		TRY(check_dir(f));
		return write_file(f, f->dir_fd, "version", sv_of(dir), -1);
	}
	TRY(make_dir(f, f->dir_fd, "blobs"));
	TRY(make_dir(f, f->dir_fd, "blobs/sha256"));
	return write_file(f, f->dir_fd, "oci-layout", sv_of(oci), -1);
}

static struct err *open_files(struct files_end *f, bool is_source)
{
	int r = is_source ? 0 : sys_mkdir(AT_FDCWD, f->path, 0755);

	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "create %s", f->path);
	f->dir_fd = sys_open_dir(f->path);
	if (f->dir_fd < 0)
		return FAIL_OS(-f->dir_fd, "%s", f->path);
	if (!is_source)
		TRY(make_layout(f));
	f->blobs_fd =
	    f->is_oci ? sys_open_beneath(f->dir_fd, "blobs/sha256", O_RDONLY | O_DIRECTORY, 0) : f->dir_fd;
	return f->blobs_fd < 0 ? FAIL_OS(-f->blobs_fd, "%s: blobs/sha256", f->path) : NULL;
}

static struct err *open_end(const struct copy_conf *conf, const char *text, bool is_oci, bool is_source,
			    struct end **out_end)
{
	const char *colon = is_oci ? strchr(text, ':') : NULL; /* the first, as skopeo: a tag may be app:1 */
	struct files_end *f = xnew(struct files_end);
	auto_end struct end *owned = &f->base;

	*f = (struct files_end){ .base = { .ops = &files_ops, .conf = conf, .text = text },
				 .is_oci = is_oci,
				 .dir_fd = -1,
				 .blobs_fd = -1 };
	f->path = colon ? xstrndup(text, (size_t)(colon - text)) : xstrdup(text);
	f->tag = colon ? xstrdup(colon + 1) : NULL;
	if (!*f->path || (f->tag && !*f->tag))
		return FAIL(ERR_INVALID, "%s:%s: wanted %s", is_oci ? "oci" : "dir", text,
			    is_oci ? "oci:PATH[:TAG]" : "dir:PATH");
	TRY(open_files(f, is_source));
	*out_end = TAKE(owned);
	return NULL;
}

struct err *end_open_oci(const struct copy_conf *conf, const char *path, bool is_source, struct end **out_end)
{
	return open_end(conf, path, true, is_source, out_end);
}

struct err *end_open_dir(const struct copy_conf *conf, const char *path, bool is_source, struct end **out_end)
{
	return open_end(conf, path, false, is_source, out_end);
}
