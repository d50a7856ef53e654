#include "image/manifest.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include <stdio.h>

enum { PARTS_MAX = 1024 };

static void descriptor_fini(struct descriptor *d)
{
	free(d->media_type);
}

void manifest_fini(struct manifest *m)
{
	descriptor_fini(&m->config);
	for (size_t i = 0; i < m->n; i++)
		descriptor_fini(&m->parts[i]);
	free(m->parts);
	free(m->media_type);
	json_decref(m->doc);
	*m = (struct manifest){ 0 };
}

static FALLIBLE descriptor_parse(const json_t *v, const char *what, size_t i, struct descriptor *out)
{
	const char *digest = json_str_at(v, "digest", NULL), *type = json_str_at(v, "mediaType", "");
	const json_t *size = json_object_get(v, "size");

	if (!json_is_object(v) || !digest)
		return FAIL(ERR_INVALID, "invalid manifest: %s %zu has no digest", what, i);
	if (!digest_is_valid(sv_of(digest)))
		return FAIL(ERR_INVALID, "invalid manifest: %s %zu: digest \"%.100s\" is not sha256 with 64 digits", what, i,
			    digest);
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return FAIL(ERR_INVALID, "invalid manifest: %s %zu has no size", what, i);
	out->media_type = xstrdup(type);
	memcpy(out->digest, digest, DIGEST_MAX);
	out->size = (uint64_t)json_integer_value(size);
	return NULL;
}

static FALLIBLE parts_parse(const json_t *list, const char *what, struct manifest *m)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list))
		return FAIL(ERR_INVALID, "invalid manifest: \"%ss\" is not an array", what);
	if (n > PARTS_MAX)
		return FAIL(ERR_LIMIT, "invalid manifest: more than %d %ss", PARTS_MAX, what);
	m->parts = xcalloc(n ? n : 1, sizeof *m->parts);
	for (size_t i = 0; i < n; i++) {
		m->n = i + 1;
		TRY(descriptor_parse(json_array_get(list, i), what, i, &m->parts[i]));
	}
	return NULL;
}

static bool is_index_type(const char *t)
{
	return strcmp(t, MEDIA_INDEX) == 0 || strcmp(t, MEDIA_DOCKER_LIST) == 0;
}

static bool is_manifest_type(const char *t)
{
	return strcmp(t, MEDIA_MANIFEST) == 0 || strcmp(t, MEDIA_DOCKER) == 0;
}

/* SECURITY: one document must not be read as a manifest by one tool and as an index by another (CVE-2021-41190). */
static FALLIBLE parse(struct sv body, const char *content_type, struct manifest *m)
{
	const json_t *manifests, *layers;
	const char *type;

	TRY(json_parse(body, "manifest", MANIFEST_MAX, &m->doc));
	if (!json_is_object(m->doc))
		return FAIL(ERR_INVALID, "invalid manifest: not an object");
	if (json_int_at(m->doc, "schemaVersion", 0) == 1)
		return FAIL(ERR_UNSUPPORTED, "manifest has schema version 1, which is no longer supported: push the image again "
					     "with a current tool");
	if (json_int_at(m->doc, "schemaVersion", 0) != 2)
		return FAIL(ERR_INVALID, "invalid manifest: schemaVersion is not 2");
	manifests = json_object_get(m->doc, "manifests");
	layers = json_object_get(m->doc, "layers");
	if (manifests && (layers || json_object_get(m->doc, "config")))
		return FAIL(ERR_INVALID, "invalid manifest: it has both layers and manifests");
	type = json_str_at(m->doc, "mediaType", content_type ? content_type : "");
	m->is_index = manifests != NULL;
	if ((m->is_index && is_manifest_type(type)) || (!m->is_index && is_index_type(type)))
		return FAIL(ERR_INVALID, "invalid manifest: its content is not that of media type %s", type);
	if (!is_manifest_type(type) && !is_index_type(type))
		type = m->is_index ? MEDIA_INDEX : MEDIA_MANIFEST;
	m->media_type = xstrdup(type);
	if (m->is_index)
		return parts_parse(manifests, "manifest", m);
	TRY(descriptor_parse(json_object_get(m->doc, "config"), "config", 0, &m->config));
	return parts_parse(layers, "layer", m);
}

FALLIBLE manifest_parse(struct sv body, const char *content_type, struct manifest *out_manifest)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };

	TRY(parse(body, content_type, &m));
	*out_manifest = m;
	m = (struct manifest){ 0 };
	return NULL;
}

#define RANK_FOR_ALL 100 /* image-spec: platform may be left out; such a part is the last resort, as for skopeo */

FALLIBLE manifest_choose(const struct manifest *index, const struct platform *want, const struct descriptor **out_part)
{
	const json_t *list = json_object_get(index->doc, "manifests");
	auto_buf struct buf offered = BUF(512);
	int best = -1;
	char text[96];

	for (size_t i = 0; i < index->n; i++) {
		const json_t *entry = json_array_get(list, i), *p = json_object_get(entry, "platform");
		const char *os = json_str_at(p, "os", ""), *arch = json_str_at(p, "architecture", "");
		const char *variant = json_str_at(p, "variant", "");
		bool is_for_all = !*os && !*arch && !*json_str_at(entry, "artifactType", "");
		int rank = is_for_all ? RANK_FOR_ALL : platform_rank(want, os, arch, variant);

		if (rank >= 0 && (best < 0 || rank < best)) {
			best = rank;
			*out_part = &index->parts[i];
		}
		if (*os && strcmp(os, "unknown") != 0)
			buf_fmt(&offered, "%s%s/%s%s%s", offered.n ? ", " : "", os, arch, variant[0] ? "/" : "", variant);
	}
	if (best >= 0)
		return NULL;
	return FAIL(ERR_NOT_FOUND, "no matching manifest for %s in the manifest list entries (it has: %s)",
		    platform_text(want, text), buf_text(&offered));
}

bool manifest_is_layer(const char *t)
{
	static const char oci[] = "application/vnd.oci.image.layer.", docker[] = "application/vnd.docker.image.rootfs.";

	return strncmp(t, oci, sizeof oci - 1) == 0 || strncmp(t, docker, sizeof docker - 1) == 0;
}

static json_t *descriptor_json(const struct descriptor *d)
{
	return json_pack("{s:s, s:s, s:I}", "mediaType", d->media_type, "digest", d->digest, "size", (json_int_t)d->size);
}

void manifest_write(const struct descriptor *config, const struct descriptor *layers, size_t n, struct buf *out)
{
	auto_json json_t *list = json_array(), *doc = NULL;

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(list, descriptor_json(&layers[i]));
	doc = json_pack("{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", MEDIA_MANIFEST, "config",
			descriptor_json(config), "layers", list);
	json_print(doc, out);
}
