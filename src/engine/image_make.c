/*
 * image_make.c - images made here: import, and the naming of what build and commit made.
 *
 * Layers are plain tar blobs and the manifest names them so: what is pushed has the digest that it has here.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "image/platform.h"
#include "image/ref.h"
#include <stdio.h>

static void layers_free(struct descriptor **slot)
{
	for (struct descriptor *l = *slot; l && l->media_type; l++)
		free(l->media_type);
	free(*slot);
}

FALLIBLE engine_image_create(struct engine *e, const json_t *config, const char *ref, char **out_id)
{
	auto_list char **diff_ids = NULL;
	auto_buf struct buf b = BUF(MANIFEST_MAX), m = BUF(MANIFEST_MAX);
	char config_type[] = MEDIA_CONFIG, digest[DIGEST_MAX];
	struct descriptor head = { .media_type = config_type };
	CLEANUP(layers_free) struct descriptor *layers = NULL;
	size_t n;

	TRY(config_diff_ids(config, &diff_ids));
	n = text_list_len(diff_ids);
	layers = xcalloc(n + 1, sizeof *layers);
	for (size_t i = 0; i < n; i++)
		TRY(image_layer_blob(e, diff_ids[i], &layers[i]));
	json_print(config, &b);
	TRY(buf_check(&b, "image configuration"));
	TRY(store_put(engine_store(e), b.data, b.n, head.digest));
	head.size = b.n;
	manifest_write(&head, layers, n, &m);
	TRY(buf_check(&m, "manifest"));
	TRY(store_put(engine_store(e), m.data, m.n, digest));
	/* without a name of the user's it is known by its own digest, so that it can be run, tagged and removed */
	if (ref) {
		CLEANUP(ref_fini) struct ref r = { 0 };
		auto_free char *full = NULL;

		TRY(ref_parse(ref, &r));
		full = ref_full(&r);
		TRY(image_name_set(e, full, digest, digest));
	} else {
		auto_free char *full = xasprintf("<none>@%s", digest);

		TRY(image_name_set(e, full, digest, digest));
	}
	*out_id = xstrdup(head.digest);
	return NULL;
}

/* ---- import ---- */

/* ["a","b"] or words for the shell */
static json_t *command_of(struct sv rest)
{
	json_t *v = NULL;
	struct err *err;

	if (rest.n && rest.p[0] == '[') {
		err = json_parse(rest, "command", 65536, &v);
		if (!err && json_is_array(v))
			return v;
		err_free(err);
		json_decref(v);
	}
	return json_pack("[s, s, o]", "/bin/sh", "-c", json_stringn(rest.p, rest.n));
}

static FALLIBLE change_pairs(json_t *config, const char *key, struct sv rest)
{
	while ((rest = sv_trim(rest)).n) {
		struct sv pair = sv_cut(&rest, ' '), name = sv_cut(&pair, '=');
		auto_free char *text = xasprintf("%.*s=%.*s", SV_ARG(name), (int)pair.n, pair.p ? pair.p : "");

		if (strcmp(key, "Env") == 0)
			(void)json_array_append_new(json_object_get(config, "Env"), json_string(text));
		else
			(void)json_object_setn_new(json_object_get(config, "Labels"), name.p, name.n,
						   json_stringn(pair.p ? pair.p : "", pair.n));
	}
	return NULL;
}

static void change_set(json_t *config, const char *key, struct sv rest, const char *suffix)
{
	while ((rest = sv_trim(rest)).n) {
		struct sv word = sv_cut(&rest, ' ');
		auto_free char *text = xasprintf("%.*s%s", SV_ARG(word), memchr(word.p, '/', word.n) ? "" : suffix);

		(void)json_object_set_new(json_object_get(config, key), text, json_object());
	}
}

static FALLIBLE one_change(json_t *config, const char *text)
{
	static const char *const strings[][2] = { { "USER", "User" }, { "WORKDIR", "WorkingDir" }, { "STOPSIGNAL", "StopSignal" } };
	struct sv rest = sv_trim(sv_of(text)), word = sv_cut(&rest, ' ');
	char name[32];

	(void)snprintf(name, sizeof name, "%.*s", SV_ARG(word));
	for (char *c = name; *c; c++)
		*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
	rest = sv_trim(rest);
	if (!rest.n)
		return FAIL(ERR_INVALID, "--change \"%s\": %s requires at least one argument", text, name);
	for (size_t i = 0; i < LEN(strings); i++)
		if (strcmp(strings[i][0], name) == 0) {
			(void)json_object_set_new(config, strings[i][1], json_stringn(rest.p, rest.n));
			return NULL;
		}
	if (!strcmp(name, "CMD") || !strcmp(name, "ENTRYPOINT"))
		(void)json_object_set_new(config, name[0] == 'C' ? "Cmd" : "Entrypoint", command_of(rest));
	else if (!strcmp(name, "ENV") || !strcmp(name, "LABEL"))
		return change_pairs(config, name[0] == 'E' ? "Env" : "Labels", rest);
	else if (!strcmp(name, "EXPOSE"))
		change_set(config, "ExposedPorts", rest, "/tcp");
	else if (!strcmp(name, "VOLUME"))
		change_set(config, "Volumes", rest, "");
	else
		return FAIL(ERR_INVALID, "--change \"%s\": %s is not a valid change command", text, name);
	return NULL;
}

/* The same archive shall give the same image: the time is not that of the import. */
static FALLIBLE fixed_time(char out[TIME_TEXT_MAX])
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	uint64_t seconds = 0;

	if (epoch && *epoch)
		TRY(num_parse(sv_of(epoch), 10, 0, UINT64_C(1) << 32, &seconds));
	(void)time_format((int64_t)seconds * 1000000000, out);
	return NULL;
}

static FALLIBLE import_config(const char *diff_id, const char *message, char *const *changes, json_t **out_config)
{
	auto_json json_t *config = json_pack("{s:[], s:{}, s:{}, s:{}}", "Env", "Labels", "ExposedPorts", "Volumes");
	static const char *const maps[] = { "Labels", "ExposedPorts", "Volumes" };
	char when[TIME_TEXT_MAX];
	struct platform p;

	for (size_t i = 0; changes && changes[i]; i++)
		TRY(one_change(config, changes[i]));
	for (size_t i = 0; i < LEN(maps); i++)
		if (!json_object_size(json_object_get(config, maps[i])))
			(void)json_object_del(config, maps[i]);
	TRY(fixed_time(when));
	platform_host(&p);
	*out_config = json_pack("{s:s, s:s, s:s, s:O, s:{s:s, s:[s]}, s:[{s:s, s:s}]}", "created", when, "architecture", p.arch, "os",
				p.os, "config", config, "rootfs", "type", "layers", "diff_ids", diff_id, "history", "created", when,
				"comment", message && *message ? message : "Imported");
	return NULL;
}

FALLIBLE engine_image_import(struct engine *e, struct zip_source source, const char *ref, const char *message,
			     char *const *changes, char **out_id)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	struct descriptor layer = { 0 };
	auto_json json_t *config = NULL;
	auto_fd int lock = -1;
	struct err *err;

	if (ref)
		TRY(ref_parse(ref, &r));
	TRY(engine_content_lock(e, false, &lock));
	TRY(image_layer_import(e, source, &layer));
	free(layer.media_type);
	err = import_config(layer.digest, message, changes, &config);
	if (!err)
		err = engine_image_create(e, config, ref, out_id);
	if (!err)
		return NULL;
	own_close(&lock); /* nobody needs what was read: it goes with the next sweep, which can be this one */
	lock = -1;
	err_free(image_sweep(e));
	return err;
}
