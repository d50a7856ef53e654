/*
 * end_archive_out.c - archives as destinations. Blobs are written as they come, one after the other, into a file
 * beside the wanted one; the document that all is about ends it: then it is synced and renamed. docker's form
 * holds layers unpacked: each is unpacked twice, first for its name and size, which stand before its bytes.
 */
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/tar.h"
#include "image/manifest.h"
#include "image/ref.h"
#include "registry/end.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES (1u << 18)

struct archive_out {
	struct end base;
	bool is_docker;
	char *path, *tag; /* tag: of an oci-archive; or NULL */
	struct ref ref;   /* of a docker-archive; may be empty */
	char *dir, *name; /* of path */
	char tmp[64];     /* name while it is being written; "" afterwards */
	int dir_fd, fd;
	pthread_mutex_t lock; /* guards all below */
	struct tar_writer *tar;
	struct map done; /* blobs that were written: digest to owned name of the file */
};

static struct archive_out *out_of(struct end *end)
{
	return (struct archive_out *)end;
}

static struct err *write_text(struct archive_out *a, const char *name, struct sv body)
{
	const struct tar_entry e = { .name = name, .link = "", .type = '0', .mode = 0644, .size = body.n };

	TRY(tar_add(a->tar, &e));
	return tar_write(a->tar, body.p, body.n);
}

static struct err *write_json(struct archive_out *a, const char *name, const json_t *doc)
{
	auto_buf struct buf b = BUF(MANIFEST_MAX);

	json_print(doc, &b);
	TRY(buf_check(&b, name));
	return write_text(a, name, sv_from(b.data, b.n));
}

/* Bytes into the archive's present file, or nowhere (tar NULL); hashed and counted. */
static struct err *pass(struct archive_out *a, struct zip_source source, struct tar_writer *tar,
			uint64_t *out_n, char out_digest[DIGEST_MAX])
{
	auto_free char *chunk = xmalloc(CHUNK_BYTES);
	auto_digest struct digest_state *sum = digest_new();
	size_t n = 0;

	*out_n = 0;
	do {
		if (report_is_cancelled(a->base.conf->t.report))
			return FAIL(ERR_CANCELLED, "cancelled");
		TRY(source.read(source.ctx, chunk, CHUNK_BYTES, &n));
		digest_add(sum, chunk, n);
		*out_n += n;
		if (tar && n)
			TRY(tar_write(tar, chunk, n));
	} while (n);
	digest_end(sum, out_digest);
	return NULL;
}

static struct err *from_unzip(void *ctx, void *p, size_t n, size_t *out_n)
{
	return unzip_read(ctx, p, n, out_n);
}

/* One blob of the store, unpacked when that is wanted, through pass. */
static struct err *pass_blob(struct archive_out *a, const struct descriptor *d, bool is_unpacked,
			     struct tar_writer *tar, uint64_t *out_n, char out_digest[DIGEST_MAX])
{
	auto_unzip struct unzip *u = NULL;
	auto_fd int fd = -1;

	TRY(store_blob_open(a->base.conf->t.store, d->digest, d->size, &fd));
	if (!is_unpacked)
		return pass(a, zip_source_fd(&fd), tar, out_n, out_digest);
	TRY(unzip_open(zip_source_fd(&fd), &u));
	return pass(a, (struct zip_source){ .read = from_unzip, .ctx = u }, tar, out_n, out_digest);
}

static bool is_config(const char *media_type)
{
	return strcmp(media_type, MEDIA_CONFIG) == 0 || strcmp(media_type, MEDIA_DOCKER_CONFIG) == 0;
}

/* With the lock held. */
static struct err *write_blob(struct archive_out *a, const struct descriptor *d)
{
	struct tar_entry e = { .link = "", .type = '0', .mode = 0644, .size = d->size };
	bool is_unpacked = a->is_docker && !is_config(d->media_type);
	auto_free char *name = NULL;
	char digest[DIGEST_MAX], again[DIGEST_MAX];
	uint64_t n;

	memcpy(digest, d->digest, DIGEST_MAX);
	if (is_unpacked)
		TRY(pass_blob(a, d, true, NULL, &e.size, digest));
	name = !a->is_docker ? xasprintf("blobs/sha256/%s", digest_hex(digest))
	       : is_unpacked ? xasprintf("%s.tar", digest_hex(digest))
			     : xasprintf("%s.json", digest_hex(digest));
	e.name = name;
	for (size_t i = 0; i < a->done.n; i++) /* two blobs, packed in different ways, of one layer */
		if (strcmp(a->done.entries[i].value, name) == 0) {
			*map_put(&a->done, d->digest) = xstrdup(name);
			return NULL;
		}
	TRY(tar_add(a->tar, &e));
	TRY(pass_blob(a, d, is_unpacked, a->tar, &n, again));
	if (strcmp(digest, again) != 0)
		return is_unpacked ? FAIL(ERR_CORRUPT, "it changed while it was read")
				   : store_blob_is(digest, again);
	*map_put(&a->done, d->digest) = TAKE(name);
	return NULL;
}

static struct err *out_put(struct end *end, struct http_client *http, const struct descriptor *d,
			   struct end *source)
{
	struct archive_out *a = out_of(end);
	struct err *e = NULL;

	(void)http;
	if (a->is_docker && !is_config(d->media_type) && !manifest_is_layer(d->media_type))
		return FAIL(ERR_UNSUPPORTED,
			    "docker-archive: %s holds images only, this has a part of type \"%.100s\"",
			    a->path, d->media_type);
	TRY(source->ops->fetch(source, NULL, d));
	(void)pthread_mutex_lock(&a->lock);
	if (!map_get(&a->done, d->digest))
		e = write_blob(a, d);
	(void)pthread_mutex_unlock(&a->lock);
	return e ? err_ctx(e, "%s: blob %s", a->path, d->digest) : NULL;
}

/* Durable, then under its name. */
static struct err *finish(struct archive_out *a)
{
	int r;

	TRY(tar_finish(a->tar));
	r = sys_fdatasync(a->fd);
	if (r >= 0)
		r = sys_rename(a->dir_fd, a->tmp, a->name);
	if (r < 0)
		return FAIL_OS(-r, "write %s", a->path);
	a->tmp[0] = '\0';
	r = sys_fsync(a->dir_fd);
	return r < 0 ? FAIL_OS(-r, "sync %s", a->dir) : NULL;
}

static struct err *put_oci_document(struct archive_out *a, const struct remote_doc *doc,
				    const char *media_type, bool is_top)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	auto_free char *name = xasprintf("blobs/sha256/%s", digest_hex(doc->digest));
	auto_json json_t *index = NULL;

	if (!map_get(&a->done, doc->digest)) {
		TRY(write_text(a, name, sv_from(doc->body, doc->n)));
		*map_put(&a->done, doc->digest) = TAKE(name);
	}
	if (!is_top)
		return NULL;
	index = json_pack("{s:i, s:s, s:[o]}", "schemaVersion", 2, "mediaType", MEDIA_INDEX, "manifests",
			  end_layout_entry(doc, media_type, a->tag));
	TRY(write_json(a, "index.json", index));
	TRY(write_text(a, "oci-layout", sv_of(layout)));
	return finish(a);
}

/* manifest.json. That layers are what the configuration says was not looked at so far. */
static struct err *put_docker_document(struct archive_out *a, const struct remote_doc *doc)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_json json_t *list = NULL, *layers = json_array(), *tags = json_array(), *config = NULL;
	auto_free char *name = a->ref.path ? ref_full(&a->ref) : NULL, *body = NULL;
	const json_t *diff_ids;
	size_t n = 0;

	TRY(manifest_parse(sv_from(doc->body, doc->n), NULL, &m));
	if (m.is_index || !is_config(m.config.media_type))
		return FAIL(ERR_UNSUPPORTED, "docker-archive: %s holds one image, not %s", a->path,
			    m.is_index ? "an index (without --all the part of the platform is taken)"
				       : "an artifact");
	TRY(store_blob_read(a->base.conf->t.store, m.config.digest, MANIFEST_MAX, &body, &n));
	TRY(json_parse(sv_from(body, n), "configuration", MANIFEST_MAX, &config));
	diff_ids = json_at(config, "rootfs.diff_ids");
	for (size_t i = 0; i < m.n; i++) {
		void **slot = map_get(&a->done, m.parts[i].digest);
		const char *want = json_string_value(json_array_get(diff_ids, i));

		if (!slot)
			return FAIL(ERR_UNSUPPORTED, "docker-archive: layer %s must not be distributed",
				    m.parts[i].digest);
		if (!want || !digest_is_valid(sv_of(want)) || strncmp(*slot, digest_hex(want), 64) != 0)
			return FAIL(ERR_CORRUPT, "layer %s unpacks to %.64s, the configuration says %.100s",
				    m.parts[i].digest, (const char *)*slot, want ? want : "nothing");
		(void)json_array_append_new(layers, json_string(*slot));
	}
	if (name)
		(void)json_array_append_new(tags, json_string(name));
	list = json_pack("[{s:s, s:O, s:O}]", "Config", *map_get(&a->done, m.config.digest), "RepoTags",
			 name ? tags : json_null(), "Layers", layers);
	TRY(write_json(a, "manifest.json", list));
	return finish(a);
}

static struct err *out_put_document(struct end *end, const struct remote_doc *doc, const char *media_type,
				    bool is_top)
{
	struct archive_out *a = out_of(end);

	return a->is_docker ? put_docker_document(a, doc) : put_oci_document(a, doc, media_type, is_top);
}

static void out_close(struct end *end)
{
	struct archive_out *a = out_of(end);

	if (a->tmp[0])
		(void)sys_unlink(a->dir_fd, a->tmp);
	for (size_t i = 0; i < a->done.n; i++)
		free(a->done.entries[i].value);
	map_fini(&a->done);
	tar_writer_free(a->tar);
	own_close(&a->fd);
	own_close(&a->dir_fd);
	(void)pthread_mutex_destroy(&a->lock);
	ref_fini(&a->ref);
	free(a->path);
	free(a->tag);
	free(a->dir);
	free(a->name);
	free(a);
}

static const struct end_ops out_ops = {
	.put = out_put,
	.put_document = out_put_document,
	.close = out_close,
};

static struct err *open_file(struct archive_out *a)
{
	const char *slash = strrchr(a->path, '/');
	struct stat st;

	a->dir = !slash             ? xstrdup(".")
		 : slash == a->path ? xstrdup("/")
				    : xstrndup(a->path, (size_t)(slash - a->path));
	a->name = xstrdup(slash ? slash + 1 : a->path);
	if (!*a->name)
		return FAIL(ERR_INVALID, "%s is no name of a file", a->path);
	a->dir_fd = sys_open_dir(a->dir);
	if (a->dir_fd < 0)
		return FAIL_OS(-a->dir_fd, "%s", a->dir);
	if (sys_fstatat(a->dir_fd, a->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!S_ISREG(st.st_mode))
			return FAIL(ERR_INVALID, "%s is there and no regular file", a->path);
		if (a->is_docker)
			return FAIL(ERR_EXISTS,
				    "%s is there: a docker-archive is not added to; remove it first",
				    a->path);
	}
	(void)snprintf(a->tmp, sizeof a->tmp, ".hoy-%d.tar", (int)getpid());
	a->fd = sys_openat(a->dir_fd, a->tmp, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (a->fd < 0) {
		a->tmp[0] = '\0';
		return FAIL_OS(-a->fd, "create a file in %s", a->dir);
	}
	return tar_writer_new(zip_sink_fd(&a->fd), &a->tar);
}

struct err *end_make_archive(const struct copy_conf *conf, const char *text, bool is_docker,
			     struct end **out_end)
{
	const char *colon = strchr(text, ':');
	struct archive_out *a = xnew(struct archive_out);
	auto_end struct end *owned = &a->base;

	*a = (struct archive_out){ .base = { .ops = &out_ops, .conf = conf, .text = text },
				   .is_docker = is_docker,
				   .dir_fd = -1,
				   .fd = -1 };
	(void)pthread_mutex_init(&a->lock, NULL);
	a->path = colon ? xstrndup(text, (size_t)(colon - text)) : xstrdup(text);
	if (!*a->path || (colon && !colon[1]))
		return FAIL(ERR_INVALID, "%s-archive:%s: wanted %s", is_docker ? "docker" : "oci", text,
			    is_docker ? "docker-archive:PATH[:NAME[:TAG]]" : "oci-archive:PATH[:TAG]");
	if (colon && is_docker)
		TRY(ref_parse(colon + 1, &a->ref));
	if (colon && !is_docker)
		a->tag = xstrdup(colon + 1);
	if (a->ref.digest)
		return FAIL(ERR_INVALID, "docker-archive:%s: a name with a digest cannot be given", text);
	TRY(open_file(a));
	*out_end = TAKE(owned);
	return NULL;
}
