#include "registry/compress.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/zip.h"
#include "sys/sys.h"
#include <string.h>

#define LEVEL       4 /* 6 takes twice the time for 3 % */
#define CHUNK_BYTES (1u << 18)

static const char *const pairs[][2] = {
	{ MEDIA_LAYER, MEDIA_LAYER "+gzip" },
	{ "application/vnd.docker.image.rootfs.diff.tar",
	  "application/vnd.docker.image.rootfs.diff.tar.gzip" },
};

static const char *gzip_type(const char *media_type)
{
	for (size_t i = 0; i < LEN(pairs); i++)
		if (strcmp(pairs[i][0], media_type) == 0)
			return pairs[i][1];
	return NULL;
}

bool compress_applies(const char *media_type)
{
	return gzip_type(media_type) != NULL;
}

static struct err *into_store(void *ctx, const void *p, size_t n)
{
	return ingest_write(ctx, p, n);
}

static struct err *squeeze(struct report *report, int fd, const char *digest, struct ingest *in)
{
	auto_digest struct digest_state *sum = digest_new();
	auto_free char *chunk = xmalloc(CHUNK_BYTES);
	auto_zip struct zip *z = NULL;
	char got[DIGEST_MAX];
	ssize_t n;

	TRY(zip_open(ZIP_GZIP, LEVEL, (struct zip_sink){ into_store, in }, &z));
	while ((n = sys_read(fd, chunk, CHUNK_BYTES)) > 0) {
		if (report_is_cancelled(report))
			return FAIL(ERR_CANCELLED, "cancelled");
		digest_add(sum, chunk, (size_t)n);
		TRY(zip_write(z, chunk, (size_t)n));
	}
	if (n < 0)
		return FAIL_OS((int)-n, "read");
	digest_end(sum, got);
	TRY(store_blob_is(digest, got)); /* or what is pushed would be whole by its name and damaged all the same */
	return zip_finish(z);
}

struct err *compress_layer(struct store *store, struct report *report, const struct descriptor *plain,
			   struct descriptor *out_layer)
{
	const char *type = gzip_type(plain->media_type);
	struct descriptor layer = { 0 };
	auto_ingest struct ingest *in = NULL;
	auto_fd int fd = -1;
	struct err *e;

	TRY(store_blob_open(store, plain->digest, plain->size, &fd));
	TRY(ingest_begin(store, &in));
	e = squeeze(report, fd, plain->digest, in);
	if (e)
		return err_ctx(e, "compress layer %s", plain->digest);
	layer.size = ingest_size(in);
	if (layer.size >= plain->size) {
		*out_layer = *plain;
		out_layer->media_type = xstrdup(plain->media_type);
		return NULL;
	}
	TRY(ingest_commit(in, NULL, 0, layer.digest));
	layer.media_type = xstrdup(type);
	*out_layer = layer;
	return NULL;
}

void compress_rewrite(const json_t *doc, const struct descriptor *plain, const struct descriptor *layers,
		      size_t n, struct buf *out)
{
	auto_json json_t *copy = json_deep_copy(doc);
	json_t *entry;
	size_t at;

	json_array_foreach(json_object_get(copy, "layers"), at, entry)
	{
		if (at >= n || strcmp(plain[at].digest, layers[at].digest) == 0)
			continue;
		(void)json_object_set_new(entry, "mediaType", json_string(layers[at].media_type));
		(void)json_object_set_new(entry, "digest", json_string(layers[at].digest));
		(void)json_object_set_new(entry, "size", json_integer((json_int_t)layers[at].size));
	}
	json_print(copy, out);
}
