/*
 * image_import.c - a root file system tar as an image of one layer, and the Dockerfile words of --change.
 *
 * The same archive and the same changes give the same image: its time is that of the newest entry (SOURCE_DATE_EPOCH
 * if that is set), never that of the import.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "codec/tar.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "image/platform.h"
#include "image/ref.h"
#include <stdio.h>

enum { WORD_MAX_BYTES = 65536, PORTS_MAX = 1024 };

/* ---- changes ---- */

/* The next word into out (emptied before): quotes go, a backslash keeps what follows it. false at the end. */
static bool next_word(struct sv *rest, struct buf *out)
{
	char quote = 0;

	buf_reset(out);
	*rest = sv_trim(*rest);
	if (!rest->n)
		return false;
	for (; rest->n; *rest = sv_skip(*rest, 1)) {
		char c = rest->p[0];

		if (!quote && (c == ' ' || c == '\t'))
			break;
		if (c == '\\' && quote != '\'' && rest->n > 1) {
			*rest = sv_skip(*rest, 1);
			buf_ch(out, rest->p[0]);
		} else if (c == quote || (!quote && (c == '"' || c == '\''))) {
			quote = quote ? 0 : c;
		} else {
			buf_ch(out, c);
		}
	}
	return true;
}

/* ["a","b"]; anything else leaves *out_list NULL: then it is plain text, as in docker. */
static json_t *json_list_of(struct sv rest)
{
	json_t *v = NULL, *item;
	struct err *err = rest.n && rest.p[0] == '[' ? json_parse(rest, "list", WORD_MAX_BYTES, &v) : NULL;
	size_t i;
	bool is_list = !err && json_is_array(v);

	json_array_foreach (v, i, item)
		is_list = is_list && json_is_string(item);
	err_free(err);
	if (is_list)
		return v;
	json_decref(v);
	return NULL;
}

static json_t *command_of(struct sv rest)
{
	json_t *list = json_list_of(rest);

	return list ? list : json_pack("[s, s, o]", "/bin/sh", "-c", json_stringn(rest.p, rest.n));
}

static FALLIBLE set_pair(json_t *config, bool is_env, const char *name, const char *value)
{
	auto_list char **env = NULL;
	auto_free char *entry = xasprintf("%s=%s", name, value);

	if (!*name)
		return FAIL(ERR_INVALID, "names can not be blank");
	if (!is_env) {
		(void)json_object_set_new(json_object_get(config, "Labels"), name, json_string(value));
		return NULL;
	}
	TRY(json_list_at(config, "Env", &env));
	text_env_set(&env, entry);
	(void)json_object_set_new(config, "Env", json_from_list(env));
	return NULL;
}

/* "a=1 b='2 3'", or the old form "name all of the rest". */
static FALLIBLE change_pairs(json_t *config, bool is_env, struct sv rest)
{
	struct sv old = rest, first = sv_cut(&old, ' ');
	auto_buf struct buf word = BUF(WORD_MAX_BYTES);

	if (!memchr(first.p, '=', first.n)) {
		auto_free char *name = xstrndup(first.p, first.n), *value = NULL;

		old = sv_trim(old);
		value = xstrndup(old.n ? old.p : "", old.n);
		return set_pair(config, is_env, name, value);
	}
	while (next_word(&rest, &word)) {
		auto_free char *text = buf_take(&word);
		char *eq = strchr(text, '=');

		if (!eq)
			return FAIL(ERR_INVALID, "can't find = in \"%s\": expected name=value", text);
		*eq = 0;
		TRY(set_pair(config, is_env, text, eq + 1));
	}
	return NULL;
}

static void add_key(json_t *config, const char *map, const char *key)
{
	(void)json_object_set_new(json_object_get(config, map), key, json_object());
}

/* "80", "53/udp", "8000-8010/tcp" */
static FALLIBLE expose(json_t *config, const char *text)
{
	struct sv proto = sv_of(text), last = sv_cut(&proto, '/'), first = sv_cut(&last, '-');
	uint64_t from = 0, to = 0;

	if (!proto.n)
		proto = SV("tcp");
	if (!sv_is(proto, "tcp") && !sv_is(proto, "udp") && !sv_is(proto, "sctp"))
		return FAIL(ERR_INVALID, "invalid proto: " SV_FMT, SV_ARG(proto));
	TRY(num_parse(first, 10, 1, 65535, &from));
	to = from;
	if (last.n)
		TRY(num_parse(last, 10, from, 65535, &to));
	if (to - from > PORTS_MAX)
		return FAIL(ERR_LIMIT, "port range %s is larger than %d", text, PORTS_MAX);
	for (; from <= to; from++) {
		auto_free char *key = xasprintf("%u/" SV_FMT, (unsigned)from, SV_ARG(proto));

		add_key(config, "ExposedPorts", key);
	}
	return NULL;
}

static FALLIBLE change_set(json_t *config, bool is_port, struct sv rest)
{
	auto_json json_t *list = is_port ? NULL : json_list_of(rest);
	auto_buf struct buf word = BUF(WORD_MAX_BYTES);
	json_t *item;
	size_t i;

	json_array_foreach (list, i, item)
		add_key(config, "Volumes", json_string_value(item));
	while (!list && next_word(&rest, &word)) {
		if (is_port)
			TRY(expose(config, buf_text(&word)));
		else
			add_key(config, "Volumes", buf_text(&word));
	}
	return NULL;
}

static FALLIBLE change_workdir(json_t *config, struct sv rest)
{
	const char *old = json_str_at(config, "WorkingDir", "");
	auto_free char *path = rest.p[0] == '/' ? xstrndup(rest.p, rest.n) :
						  xasprintf("%s/" SV_FMT, strcmp(old, "/") == 0 ? "" : old, SV_ARG(rest));

	(void)json_object_set_new(config, "WorkingDir", json_string(path));
	return NULL;
}

static FALLIBLE change_with(json_t *config, const char *name, struct sv rest)
{
	if (!rest.n)
		return FAIL(ERR_INVALID, "%s requires at least one argument", name);
	if (!strcmp(name, "CMD") || !strcmp(name, "ENTRYPOINT"))
		(void)json_object_set_new(config, name[0] == 'C' ? "Cmd" : "Entrypoint", command_of(rest));
	else if (!strcmp(name, "USER") || !strcmp(name, "STOPSIGNAL"))
		(void)json_object_set_new(config, name[0] == 'U' ? "User" : "StopSignal", json_stringn(rest.p, rest.n));
	else if (!strcmp(name, "ENV") || !strcmp(name, "LABEL"))
		return change_pairs(config, name[0] == 'E', rest);
	else if (!strcmp(name, "EXPOSE") || !strcmp(name, "VOLUME"))
		return change_set(config, name[0] == 'E', rest);
	else if (!strcmp(name, "WORKDIR"))
		return change_workdir(config, rest);
	else
		return FAIL(ERR_INVALID, "%s is not a valid change command", name);
	return NULL;
}

static FALLIBLE one_change(json_t *config, const char *text)
{
	struct sv rest = sv_trim(sv_of(text)), word = sv_cut(&rest, ' ');
	auto_json json_t *probe = json_string(text);
	char name[32];
	struct err *err;

	if (!probe)
		return FAIL(ERR_INVALID, "--change: the text is not UTF-8");
	(void)snprintf(name, sizeof name, "%.*s", word.n < sizeof name ? (int)word.n : (int)sizeof name - 1, word.p);
	for (char *c = name; *c; c++)
		*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
	err = change_with(config, name, sv_trim(rest));
	return err ? err_ctx(err, "--change \"%s\"", text) : NULL;
}

/* ---- import ---- */

/* The newest mtime of a layer's plain tar. */
static FALLIBLE newest_entry(struct engine *e, const char *digest, int64_t *out_ns)
{
	auto_tar_reader struct tar_reader *tar = NULL;
	const struct tar_entry *entry;
	auto_fd int fd = -1;

	*out_ns = 0;
	TRY(store_blob_open(engine_store(e), digest, 0, &fd));
	TRY(tar_reader_new(zip_source_fd(&fd), &tar));
	for (;;) {
		TRY(tar_next(tar, &entry));
		if (!entry)
			return NULL;
		if (entry->mtime_ns > *out_ns)
			*out_ns = entry->mtime_ns;
	}
}

static FALLIBLE fixed_time(struct engine *e, const char *digest, char out[TIME_TEXT_MAX])
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	uint64_t seconds = 0;
	int64_t ns = 0;

	if (epoch && *epoch) {
		TRY(num_parse(sv_of(epoch), 10, 0, UINT64_C(1) << 32, &seconds));
		ns = (int64_t)seconds * 1000000000;
	} else {
		TRY(newest_entry(e, digest, &ns));
	}
	(void)time_format(ns, out);
	return NULL;
}

FALLIBLE image_config_change(json_t *config, char *const *changes)
{
	static const char *const maps[] = { "Labels", "ExposedPorts", "Volumes" };

	for (size_t i = 0; i < LEN(maps); i++)
		if (!json_is_object(json_object_get(config, maps[i])))
			(void)json_object_set_new(config, maps[i], json_object());
	for (size_t i = 0; changes && changes[i]; i++)
		TRY(one_change(config, changes[i]));
	for (size_t i = 0; i < LEN(maps); i++)
		if (!json_object_size(json_object_get(config, maps[i])))
			(void)json_object_del(config, maps[i]);
	return NULL;
}

static FALLIBLE import(struct engine *e, struct zip_source source, const json_t *config, const struct platform *p, const char *message,
		       json_t **out_document)
{
	struct descriptor layer = { 0 };
	char when[TIME_TEXT_MAX];

	TRY(image_layer_import(e, source, &layer));
	free(layer.media_type);
	TRY(fixed_time(e, layer.digest, when));
	*out_document = json_pack("{s:s, s:s, s:s, s:O, s:{s:s, s:[s]}, s:[{s:s, s:s}]}", "created", when, "architecture", p->arch,
				  "os", p->os, "config", config, "rootfs", "type", "layers", "diff_ids", layer.digest, "history",
				  "created", when, "comment", message && *message ? message : "Imported");
	if (*out_document && *p->variant)
		(void)json_object_set_new(*out_document, "variant", json_string(p->variant));
	return *out_document ? NULL : FAIL(ERR_INVALID, "import: the message is not UTF-8");
}

FALLIBLE engine_image_import(struct engine *e, struct zip_source source, const struct image_import *how, char **out_id)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_json json_t *config = json_pack("{s:[]}", "Env"), *document = NULL;
	auto_leased struct engine *leased = NULL;
	struct platform p;
	struct err *err;

	if (how->ref)
		TRY(ref_parse(how->ref, &r));
	platform_host(&p);
	if (how->platform)
		TRY(platform_parse(how->platform, &p));
	TRY(image_config_change(config, how->changes)); /* what is wrong is said before the archive is read */
	TRY(engine_lease_begin(e, &leased));
	err = import(e, source, config, &p, how->message, &document);
	if (!err)
		err = engine_image_create(e, document, how->ref, out_id);
	if (!err)
		return NULL;
	engine_lease_end(TAKE(leased)); /* nobody needs what was read: it goes with the next sweep, which can be this one */
	err_free(image_sweep(e));
	return err;
}
