/*
 * image_transfer.c - pull and push through hoy-transfer, which moves blobs between the store and a registry. Its lines of
 * JSON are progress; the last one is the result or the error. Layers are applied and names given here.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/image_ahead.h"
#include "engine/image_store.h"
#include "image/ref.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <stdio.h>

enum { LINE_MAX_BYTES = 1 << 20 };

struct transfer {
	const struct engine_transfer_opts *o;
	struct image_ahead *ahead; /* of a pull; else NULL */
	json_t *last; /* result or error */
};

static const struct {
	const char *name;
	enum err_kind kind;
} kinds[] = { { "not_found", ERR_NOT_FOUND }, { "denied", ERR_DENIED },		{ "unavailable", ERR_UNAVAILABLE },
	      { "invalid", ERR_INVALID },     { "corrupt", ERR_CORRUPT },	{ "limit", ERR_LIMIT },
	      { "timeout", ERR_TIMEOUT },     { "unsupported", ERR_UNSUPPORTED }, { "exists", ERR_EXISTS },
	      { "conflict", ERR_CONFLICT },   { "cancelled", ERR_CANCELLED },	{ "internal", ERR_INTERNAL } };

static FALLIBLE one_line(struct transfer *t, struct sv line)
{
	json_t *v = NULL;

	TRY(json_parse(line, "hoy-transfer", LINE_MAX_BYTES, &v));
	if (json_object_get(v, "result") || json_object_get(v, "error")) {
		json_decref(t->last);
		t->last = v;
		return NULL;
	}
	if (json_object_get(v, "layer")) {
		if (t->ahead)
			image_ahead_add(t->ahead, v);
	} else if (t->o->progress.line)
		t->o->progress.line(t->o->progress.ctx, json_str_at(v, "id", ""), json_str_at(v, "status", ""),
				    json_int_at(v, "current", 0), json_int_at(v, "total", 0));
	json_decref(v);
	return NULL;
}

static FALLIBLE read_lines(struct transfer *t, int fd)
{
	auto_buf struct buf b = BUF(LINE_MAX_BYTES);
	char p[4096];
	ssize_t n;

	while ((n = sys_read(fd, p, sizeof p)) > 0) {
		struct sv rest = sv_from(p, (size_t)n);

		while (rest.n) {
			const char *end = memchr(rest.p, '\n', rest.n);
			size_t len = end ? (size_t)(end - rest.p) : rest.n;

			buf_add(&b, rest.p, len);
			rest = sv_skip(rest, len + (end != NULL));
			if (!end)
				break;
			TRY(buf_check(&b, "hoy-transfer"));
			TRY(one_line(t, sv_from(b.data, b.n)));
			buf_reset(&b);
		}
	}
	return n < 0 ? FAIL_OS((int)-n, "read from hoy-transfer") : NULL;
}

static FALLIBLE error_of(const json_t *error)
{
	const char *kind = json_str_at(error, "kind", "internal");
	enum err_kind k = ERR_INTERNAL;

	for (size_t i = 0; i < LEN(kinds); i++)
		if (strcmp(kinds[i].name, kind) == 0)
			k = kinds[i].kind;
	return FAIL(k, "%s", json_str_at(error, "message", "the transfer failed"));
}

/* in_fd: its standard input (-1: none). *out_result owned. */
static FALLIBLE run_program(char *const *args, int in_fd, struct transfer *t, json_t **out_result)
{
	auto_free char *path = NULL;
	auto_fd int read_end = -1, pid_fd = -1;
	auto_list char **argv = NULL;
	int p[2], r, code;
	struct err *err;

	TRY(engine_program("hoy-transfer", &path));
	text_list_add(&argv, "hoy-transfer");
	for (size_t i = 0; args[i]; i++)
		text_list_add(&argv, args[i]);
	if ((r = sys_pipe(p)) < 0)
		return FAIL_OS(-r, "make a pipe");
	read_end = p[0];
	{
		const int fds[3] = { in_fd, p[1], 2 };

		r = sys_spawn_run(&(struct sys_spawn){ path, argv, NULL, fds, 3, false }, &pid_fd);
	}
	(void)sys_close(p[1]);
	if (r < 0)
		return FAIL_OS(-r, "run %s", path);
	err = read_lines(t, read_end);
	own_close(&read_end);
	read_end = -1;
	code = sys_pid_fd_wait(pid_fd, false, NULL);
	if (!err && !t->last)
		err = FAIL(ERR_UNAVAILABLE, "hoy-transfer ended without a result (%s %d)", code > 128 ? "signal" : "exit code",
			   code > 128 ? code - 128 : code);
	if (!err && json_object_get(t->last, "error"))
		err = error_of(json_object_get(t->last, "error"));
	if (!err)
		*out_result = json_incref(json_object_get(t->last, "result"));
	json_decref(t->last);
	return err;
}

FALLIBLE engine_transfer_run(char *const *args, int in_fd, const struct engine_transfer_opts *o, json_t **out_result)
{
	struct transfer t = { .o = o };

	return run_program(args, in_fd, &t, out_result);
}

/* digest: what is pushed; NULL: a pull. */
static FALLIBLE run_for(struct engine *e, const char *full, const char *digest, struct transfer *t, json_t **out_result)
{
	auto_list char **args = NULL;

	text_list_add(&args, "--root");
	text_list_add(&args, engine_root(e));
	text_list_add(&args, digest ? "push" : "pull");
	if (t->o->platform) {
		text_list_add(&args, "--platform");
		text_list_add(&args, t->o->platform);
	}
	if (t->o->insecure)
		text_list_add(&args, "--insecure");
	text_list_add(&args, full);
	if (digest)
		text_list_add(&args, digest);
	return run_program(args, -1, t, out_result);
}

/* Layers that have come are applied while others come. */
static FALLIBLE fetch(struct engine *e, const char *full, const struct engine_transfer_opts *o, json_t **out_result)
{
	struct transfer t = { .o = o, .ahead = image_ahead_new(e) };
	struct err *err = run_for(e, full, NULL, &t, out_result);

	if (!err && o->progress.line)
		o->progress.line(o->progress.ctx, "", "Extracting", 0, 0);
	image_ahead_end(t.ahead, err != NULL);
	return err;
}

static FALLIBLE pull(struct engine *e, const char *full, const struct engine_transfer_opts *o, char **out_digest)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_json json_t *result = NULL;
	const char *digest, *manifest;

	TRY(fetch(e, full, o, &result));
	digest = json_str_at(result, "digest", "");
	manifest = json_str_at(result, "manifest", digest);
	TRY(digest_check(sv_of(digest)));
	TRY(image_docs_load(e, manifest, &d));
	TRY(image_apply(e, &d));
	TRY(image_name_set(e, full, digest, manifest));
	*out_digest = xstrdup(digest);
	return NULL;
}

FALLIBLE engine_image_pull(struct engine *e, const char *ref, const struct engine_transfer_opts *o, char **out_digest)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *full = NULL;
	auto_fd int lock = -1;
	struct err *err;

	TRY(ref_parse(ref, &r));
	full = ref_full(&r);
	(void)engine_store(e); /* the layout must stand before somebody else writes into it */
	TRY(engine_content_lock(e, false, &lock));
	err = pull(e, full, o, out_digest);
	own_close(&lock);
	lock = -1;
	if (err) /* what came so far stays for the next try only while something names it */
		err_free(image_sweep(e));
	return err;
}

FALLIBLE engine_image_push(struct engine *e, const char *ref, const struct engine_transfer_opts *o, char **out_digest)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *full = NULL;
	auto_json json_t *result = NULL;
	struct transfer t = { .o = o };
	const char *digest = NULL;
	auto_fd int lock = -1;
	struct err *err;

	TRY(ref_parse(ref, &r));
	full = ref_full(&r);
	TRY(image_names_load(e, &names));
	for (size_t i = 0; i < names.v.n; i++)
		if (strcmp(names.v.p[i].ref, full) == 0) /* an index only when all of it is here: else our platform's part */
			digest = names.v.p[i].manifest;
	if (!digest)
		return FAIL(ERR_NOT_FOUND, "An image does not exist locally with the tag: %s", ref);
	TRY(engine_content_lock(e, false, &lock)); /* what is pushed is compressed into the store before */
	err = run_for(e, full, digest, &t, &result);
	own_close(&lock);
	lock = -1;
	err_free(image_sweep(e)); /* and goes again */
	if (err)
		return err;
	*out_digest = xstrdup(json_str_at(result, "digest", digest));
	return NULL;
}

FALLIBLE engine_image_ensure(struct engine *e, const char *ref, enum pull_policy policy,
			     const struct engine_transfer_opts *o, struct engine_image *out_image)
{
	auto_free char *digest = NULL;
	struct err *err;

	if (policy != PULL_ALWAYS) {
		err = engine_image_get(e, ref, out_image);
		if (!err || err->kind != ERR_NOT_FOUND || policy == PULL_NEVER)
			return err;
		err_free(err);
	}
	if (policy == PULL_MISSING && o->progress.line) {
		auto_free char *text = xasprintf("Unable to find image '%s%s' locally", ref,
						 strchr(strrchr(ref, '/') ? strrchr(ref, '/') : ref, ':') || strchr(ref, '@') ?
							 "" :
							 ":latest");

		o->progress.line(o->progress.ctx, "", text, 0, 0);
	}
	TRY(engine_image_pull(e, ref, o, &digest));
	return engine_image_get(e, ref, out_image);
}
