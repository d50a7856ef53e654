#include "registry/compress.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include <stdio.h>
#include <string.h>

#define GZIP_LEVEL  4 /* 6 takes twice the time for 3 % */
#define ZSTD_LEVEL  3
#define CHUNK_BYTES (1u << 18)

static const struct {
	const char *plain, *gzip, *zstd;
} types[] = {
	{ MEDIA_LAYER, MEDIA_LAYER "+gzip", MEDIA_LAYER "+zstd" },
	{ "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip",
	  "application/vnd.docker.image.rootfs.diff.tar.zstd" },
};

struct err *compress_parse(const char *format, uint64_t level, struct compress_how *out_how)
{
	bool is_zstd = format && strcmp(format, "zstd") == 0;

	if (format && !is_zstd && strcmp(format, "gzip") != 0)
		return FAIL(ERR_INVALID, "compression format \"%.40s\": wanted gzip or zstd", format);
	if (level > (is_zstd ? 19 : 9))
		return FAIL(ERR_INVALID, "compression level %llu: %s has 1 to %d", (unsigned long long)level,
			    is_zstd ? "zstd" : "gzip", is_zstd ? 19 : 9);
	*out_how = (struct compress_how){ .kind = is_zstd ? ZIP_ZSTD : ZIP_GZIP, .level = (int)level };
	if (!level)
		out_how->level = is_zstd ? ZSTD_LEVEL : GZIP_LEVEL;
	return NULL;
}

static const char *type_of(const char *media_type, enum zip_kind kind)
{
	for (size_t i = 0; i < LEN(types); i++)
		if (strcmp(types[i].plain, media_type) == 0)
			return kind == ZIP_ZSTD ? types[i].zstd : types[i].gzip;
	return NULL;
}

bool compress_applies(const char *media_type)
{
	return type_of(media_type, ZIP_GZIP) != NULL;
}

static void note_key(struct compress_how how, char out[32])
{
	(void)snprintf(out, 32, "%s-%d", how.kind == ZIP_ZSTD ? "zstd" : "gzip", how.level);
}

/* "<digest> <size>" */
static void note(struct store *store, struct compress_how how, const struct descriptor *plain,
		 const struct descriptor *layer)
{
	char key[32], value[NOTE_MAX];

	note_key(how, key);
	(void)snprintf(value, sizeof value, "%s %llu", layer->digest, (unsigned long long)layer->size);
	store_note_set(store, plain->digest, key, value);
}

bool compress_known(const struct store *store, struct compress_how how, const struct descriptor *plain,
		    struct descriptor *out_layer)
{
	char key[32], value[NOTE_MAX];
	struct sv rest, digest;
	bool is_plain;
	struct err *e;

	note_key(how, key);
	if (!store_note_get(store, plain->digest, key, value))
		return false;
	rest = sv_of(value);
	digest = sv_cut(&rest, ' ');
	if (!digest_is_valid(digest))
		return false;
	memset(out_layer, 0, sizeof *out_layer);
	memcpy(out_layer->digest, digest.p, digest.n);
	e = num_parse(rest, 10, 0, INT64_MAX, &out_layer->size);
	err_free(e);
	if (e)
		return false;
	is_plain = strcmp(out_layer->digest, plain->digest) == 0;
	out_layer->media_type = xstrdup(is_plain ? plain->media_type : type_of(plain->media_type, how.kind));
	return true;
}

static struct err *into_store(void *ctx, const void *p, size_t n)
{
	return ingest_write(ctx, p, n);
}

static struct err *squeeze(struct report *report, struct compress_how how, struct zip_source source,
			   const char *digest, struct ingest *in)
{
	auto_digest struct digest_state *sum = digest_new();
	auto_free char *chunk = xmalloc(CHUNK_BYTES);
	auto_zip struct zip *z = NULL;
	char got[DIGEST_MAX];
	size_t n = 0;

	TRY(zip_open(how.kind, how.level, (struct zip_sink){ into_store, in }, &z));
	for (;;) {
		TRY(source.read(source.ctx, chunk, CHUNK_BYTES, &n));
		if (!n)
			break;
		if (report_is_cancelled(report))
			return FAIL(ERR_CANCELLED, "cancelled");
		digest_add(sum, chunk, n);
		TRY(zip_write(z, chunk, n));
	}
	digest_end(sum, got);
	TRY(store_blob_is(digest,
			  got)); /* or what is pushed would be whole by its name and damaged all the same */
	return zip_finish(z);
}

struct err *compress_layer(struct store *store, struct report *report, struct compress_how how,
			   const struct descriptor *plain, struct descriptor *out_layer)
{
	auto_fd int fd = -1;

	TRY(store_blob_open(store, plain->digest, plain->size, &fd));
	return compress_stream(store, report, how, plain, zip_source_fd(&fd), out_layer);
}

struct err *compress_stream(struct store *store, struct report *report, struct compress_how how,
			    const struct descriptor *plain, struct zip_source source, struct descriptor *out_layer)
{
	struct descriptor layer = { 0 };
	auto_ingest struct ingest *in = NULL;
	struct err *e;

	TRY(ingest_begin(store, &in));
	e = squeeze(report, how, source, plain->digest, in);
	if (e)
		return err_ctx(e, "compress layer %s", plain->digest);
	layer.size = ingest_size(in);
	if (layer.size >= plain->size) {
		*out_layer = *plain;
		out_layer->media_type = xstrdup(plain->media_type);
		note(store, how, plain, plain);
		return NULL;
	}
	TRY(ingest_commit(in, NULL, 0, layer.digest));
	layer.media_type = xstrdup(type_of(plain->media_type, how.kind));
	note(store, how, plain, &layer);
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
