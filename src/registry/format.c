#include "registry/format.h"
#include "base/mem.h"
#include <string.h>

#define DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

static const struct {
	const char *oci, *docker; /* docker NULL: it has no such thing */
} types[] = {
	{ MEDIA_MANIFEST, MEDIA_DOCKER },
	{ MEDIA_INDEX, MEDIA_DOCKER_LIST },
	{ MEDIA_CONFIG, MEDIA_DOCKER_CONFIG },
	{ MEDIA_LAYER, DOCKER_LAYER },
	{ MEDIA_LAYER "+gzip", DOCKER_LAYER ".gzip" },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar",
	  "application/vnd.docker.image.rootfs.foreign.diff.tar" },
	{ MEDIA_LAYER "+zstd", NULL },
};

struct err *format_parse(const char *text, enum format *out_format)
{
	*out_format = FORMAT_AS_IS;
	if (!text)
		return NULL;
	if (strcmp(text, "v2s1") == 0)
		return FAIL(ERR_UNSUPPORTED, "format v2s1 is no longer supported (oci, v2s2)");
	if (strcmp(text, "oci") != 0 && strcmp(text, "v2s2") != 0)
		return FAIL(ERR_INVALID, "format \"%.40s\": wanted oci or v2s2", text);
	*out_format = strcmp(text, "oci") == 0 ? FORMAT_OCI : FORMAT_DOCKER;
	return NULL;
}

/* The media type in the family; what neither knows stays for OCI and is refused for docker. */
static struct err *type_in(enum format format, const char *type, const char **out)
{
	*out = type;
	for (size_t i = 0; i < LEN(types); i++) {
		bool is_docker = types[i].docker && strcmp(types[i].docker, type) == 0;

		if (!is_docker && strcmp(types[i].oci, type) != 0)
			continue;
		*out = format == FORMAT_OCI ? types[i].oci : types[i].docker;
		return *out ? NULL : FAIL(ERR_UNSUPPORTED, "docker's format (v2s2) has no zstd layers");
	}
	return format == FORMAT_OCI
		   ? NULL
		   : FAIL(ERR_UNSUPPORTED,
			  "docker's format (v2s2) has no place for something of type \"%.100s\"", type);
}

static struct err *convert_descriptor(enum format format, json_t *d)
{
	const char *type = json_str_at(d, "mediaType", ""), *now;

	TRY(type_in(format, type, &now));
	if (now != type)
		(void)json_object_set_new(d, "mediaType", json_string(now));
	return NULL;
}

struct err *format_apply(enum format format, const struct manifest *m, json_t *doc,
			 const char **out_media_type)
{
	json_t *entry;
	size_t i;

	*out_media_type = m->media_type;
	if (format == FORMAT_AS_IS)
		return NULL;
	if (format == FORMAT_DOCKER &&
	    (json_object_get(doc, "subject") || json_object_get(doc, "artifactType")))
		return FAIL(ERR_UNSUPPORTED, "docker's format (v2s2) has no artifactType and no subject");
	TRY(type_in(format, m->media_type, out_media_type));
	json_array_foreach(json_object_get(doc, m->is_index ? "manifests" : "layers"), i, entry)
	    TRY(convert_descriptor(format, entry));
	if (!m->is_index)
		TRY(convert_descriptor(format, json_object_get(doc, "config")));
	(void)json_object_set_new(doc, "mediaType", json_string(*out_media_type));
	return NULL;
}
