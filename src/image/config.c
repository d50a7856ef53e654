#include "image/config.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "codec/digest.h"

enum { CONFIG_MAX = 4 << 20 };

FALLIBLE config_diff_ids(const json_t *config, char ***out_diff_ids)
{
	auto_list char **ids = NULL;
	const char *type = json_str_at(config, "rootfs.type", "layers");

	if (strcmp(type, "layers") != 0)
		return FAIL(ERR_UNSUPPORTED, "image configuration: rootfs.type \"%s\" is not supported", type);
	TRY(json_list_at(config, "rootfs.diff_ids", &ids));
	for (size_t i = 0; ids && ids[i]; i++)
		if (!digest_is_valid(sv_of(ids[i])))
			return FAIL(ERR_INVALID, "image configuration: diff id \"%.100s\" is not sha256 with 64 digits", ids[i]);
	if (!ids)
		ids = calloc(1, sizeof *ids);
	*out_diff_ids = TAKE(ids);
	return NULL;
}

FALLIBLE config_parse(struct sv body, long n_layers, json_t **out_config)
{
	auto_json json_t *v = NULL;
	auto_list char **ids = NULL;
	const json_t *c;

	TRY(json_parse(body, "image configuration", CONFIG_MAX, &v));
	if (!json_is_object(v) || !json_is_object(json_object_get(v, "rootfs")))
		return FAIL(ERR_INVALID, "image configuration: it has no rootfs; this is not a container image");
	c = json_object_get(v, "config");
	if (c && !json_is_object(c) && !json_is_null(c))
		return FAIL(ERR_INVALID, "image configuration: \"config\" is not an object");
	TRY(config_diff_ids(v, &ids));
	if (n_layers >= 0 && text_list_len(ids) != (size_t)n_layers)
		return FAIL(ERR_INVALID, "image configuration: it names %zu layers, the manifest %ld", text_list_len(ids),
			    n_layers);
	*out_config = TAKE(v);
	return NULL;
}

int64_t config_created(const json_t *config)
{
	const char *text = json_str_at(config, "created", NULL);
	int64_t ns = 0;

	if (text)
		err_free(time_parse(sv_of(text), &ns));
	return ns;
}
