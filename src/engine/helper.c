#include "engine/helper.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/lease.h"
#include "engine/image_ahead.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <signal.h>

enum { LINE_MAX_BYTES = 32 << 20 }; /* a manifest as text, every byte escaped */

static const struct {
	const char *name;
	enum err_kind kind;
} kinds[] = { { "not_found", ERR_NOT_FOUND }, { "denied", ERR_DENIED },		{ "unavailable", ERR_UNAVAILABLE },
	      { "invalid", ERR_INVALID },     { "corrupt", ERR_CORRUPT },	{ "limit", ERR_LIMIT },
	      { "timeout", ERR_TIMEOUT },     { "unsupported", ERR_UNSUPPORTED }, { "exists", ERR_EXISTS },
	      { "conflict", ERR_CONFLICT },   { "cancelled", ERR_CANCELLED },	{ "internal", ERR_INTERNAL } };

static FALLIBLE one_line(struct helper *h, struct sv line)
{
	json_t *v = NULL;

	TRY(json_parse(line, "hoy-transfer", LINE_MAX_BYTES, &v));
	if (json_object_get(v, "result") || json_object_get(v, "error")) {
		json_decref(h->last);
		h->last = v;
		return NULL;
	}
	if (!image_ahead_line(h->ahead, v) && h->progress.line)
		h->progress.line(h->progress.ctx, json_str_at(v, "id", ""), json_str_at(v, "status", ""),
				 json_int_at(v, "current", 0), json_int_at(v, "total", 0));
	json_decref(v);
	return NULL;
}

static FALLIBLE read_lines(struct helper *h)
{
	auto_buf struct buf b = BUF(LINE_MAX_BYTES);
	char p[4096];
	ssize_t n;

	while ((n = sys_read(h->lines_fd, p, sizeof p)) > 0) {
		struct sv rest = sv_from(p, (size_t)n);

		while (rest.n) {
			const char *end = memchr(rest.p, '\n', rest.n);
			size_t len = end ? (size_t)(end - rest.p) : rest.n;

			buf_add(&b, rest.p, len);
			rest = sv_skip(rest, len + (end != NULL));
			if (!end)
				break;
			TRY(buf_check(&b, "hoy-transfer"));
			TRY(one_line(h, sv_from(b.data, b.n)));
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

FALLIBLE helper_start(struct helper *h, char *const *args, int in_fd, int data_fd)
{
	auto_free char *path = NULL;
	auto_list char **argv = NULL;
	int lease = h->e && engine_lease(h->e) ? lease_fd(engine_lease(h->e)) : -1;
	int p[2], r;

	TRY(engine_program("hoy-transfer", &path));
	text_list_add(&argv, "hoy-transfer");
	if (log_level == LOG_DEBUG)
		text_list_add(&argv, "--debug");
	if (lease >= 0)
		text_list_add(&argv, "--lease");
	for (size_t i = 0; args[i]; i++)
		text_list_add(&argv, args[i]);
	if ((r = sys_pipe(p)) < 0)
		return FAIL_OS(-r, "make a pipe");
	h->lines_fd = p[0];
	{
		const int fds[] = { in_fd, p[1], 2, data_fd >= 0 ? data_fd : lease };

		r = sys_spawn_run(&(struct sys_spawn){ path, argv, NULL, fds, fds[3] < 0 ? 3 : 4, false }, &h->pid_fd);
	}
	(void)sys_close(p[1]);
	return r < 0 ? FAIL_OS(-r, "run %s", path) : NULL;
}

static int reap(struct helper *h)
{
	int code;

	own_close(&h->lines_fd); /* one that still speaks ends by that */
	h->lines_fd = -1;
	code = sys_pid_fd_wait(h->pid_fd, false, NULL);
	own_close(&h->pid_fd);
	h->pid_fd = -1;
	return code;
}

FALLIBLE helper_end(struct helper *h, json_t **out_result)
{
	struct err *err = read_lines(h);
	int code = reap(h);

	if (!err && !h->last)
		err = FAIL(ERR_UNAVAILABLE, "hoy-transfer ended without a result (%s %d)", code > 128 ? "signal" : "exit code",
			   code > 128 ? code - 128 : code);
	if (!err && json_object_get(h->last, "error"))
		err = error_of(json_object_get(h->last, "error"));
	if (!err)
		*out_result = json_incref(json_object_get(h->last, "result"));
	return err;
}

void helper_fini(struct helper *h)
{
	if (h->pid_fd >= 0) {
		(void)sys_pid_fd_kill(h->pid_fd, SIGTERM);
		(void)reap(h);
	}
	own_close(&h->lines_fd);
	json_decref(h->last);
}

FALLIBLE helper_run(struct helper *h, char *const *args, int in_fd, json_t **out_result)
{
	TRY(helper_start(h, args, in_fd, -1));
	return helper_end(h, out_result);
}
