#include "registry/report.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "codec/digest.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define LINE_MAX_BYTES (32u << 20) /* a manifest as text, every byte escaped */
#define EVERY_NS       100000000

struct report {
	pthread_mutex_t lock; /* guards the order of lines on out_fd */
	int out_fd, cancel_fd;
	atomic_bool is_broken;
};

static const char *const kinds[] = {
	[ERR_INTERNAL] = "internal",  [ERR_INVALID] = "invalid",         [ERR_NOT_FOUND] = "not_found",
	[ERR_EXISTS] = "exists",    [ERR_DENIED] = "denied",           [ERR_CONFLICT] = "conflict",
	[ERR_LIMIT] = "limit",        [ERR_UNAVAILABLE] = "unavailable", [ERR_TIMEOUT] = "timeout",
	[ERR_CANCELLED] = "internal", [ERR_UNSUPPORTED] = "unsupported", [ERR_CORRUPT] = "corrupt",
};

struct report *report_new(int out_fd, int cancel_fd)
{
	struct report *r = xnew(struct report);

	(void)pthread_mutex_init(&r->lock, NULL);
	r->out_fd = out_fd;
	r->cancel_fd = cancel_fd;
	return r;
}

void report_free(struct report *r)
{
	if (!r)
		return;
	(void)pthread_mutex_destroy(&r->lock);
	free(r);
}

/* A reader that is gone is noted; the work ends at the next question whether it is cancelled. */
static void put(struct report *r, const char *text, size_t n)
{
	(void)pthread_mutex_lock(&r->lock);
	if (!atomic_load(&r->is_broken) && sys_write_all(r->out_fd, text, n) < 0)
		atomic_store(&r->is_broken, true);
	(void)pthread_mutex_unlock(&r->lock);
}

void report_blob(struct report *r, struct report_line *line, const char *status, uint64_t current_bytes)
{
	bool is_new = !line->status || strcmp(line->status, status) != 0;
	int64_t now = time_monotonic_ns();
	char text[256];
	int n;

	if (!is_new && now - line->told_ns < EVERY_NS)
		return;
	line->status = status;
	line->told_ns = now;
	n = snprintf(text, sizeof text,
		     "{\"id\":\"%.12s\",\"status\":\"%s\",\"current\":%llu,\"total\":%llu}\n",
		     digest_hex(line->digest), status, (unsigned long long)current_bytes,
		     (unsigned long long)line->total);
	put(r, text, (size_t)n);
}

static void put_line(struct report *r, const json_t *line)
{
	auto_buf struct buf b = BUF(LINE_MAX_BYTES);

	json_print(line, &b);
	buf_ch(&b, '\n');
	put(r, b.data, b.n);
}

static void put_json(struct report *r, const char *key, json_t *value)
{
	auto_json json_t *line = json_object();

	(void)json_object_set_new(line, key, value);
	put_line(r, line);
}

void report_layer(struct report *r, const struct descriptor *layer, const char *diff_id)
{
	auto_json json_t *line = json_pack("{s:s, s:s, s:s, s:I}", "layer", layer->digest, "diff_id", diff_id,
					   "media_type", layer->media_type, "size", (json_int_t)layer->size);

	put_line(r, line);
}

void report_arriving(struct report *r, const struct descriptor *layer, const char *diff_id, const char *file)
{
	auto_json json_t *line =
	    json_pack("{s:s, s:s, s:s, s:I, s:s}", "arriving", layer->digest, "diff_id", diff_id,
		      "media_type", layer->media_type, "size", (json_int_t)layer->size, "file", file);

	put_line(r, line);
}

void report_arrived(struct report *r, const char *digest, uint64_t bytes)
{
	char text[DIGEST_MAX + 64];
	int n = snprintf(text, sizeof text, "{\"arrived\":\"%s\",\"bytes\":%llu}\n", digest,
			 (unsigned long long)bytes);

	put(r, text, (size_t)n);
}

void report_result(struct report *r, json_t *result)
{
	put_json(r, "result", result);
}

void report_error(struct report *r, const struct err *e)
{
	auto_free char *text = xstrndup(e->msg, 8192);
	json_t *message;

	for (char *p = text; *p; p++) /* what the other side said may have come in */
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	message = json_string(text);
	if (!message) { /* not UTF-8 */
		for (char *p = text; *p; p++)
			if ((unsigned char)*p >= 0x80)
				*p = '?';
		message = json_string(text);
	}
	put_json(r, "error", json_pack("{s:s, s:o}", "kind", kinds[e->kind], "message", message));
}

bool report_sleep(struct report *r, int64_t ns)
{
	/* no events wanted of the pipe: the kernel tells of its broken end all the same */
	struct pollfd fds[2] = { { .fd = r->out_fd }, { .fd = r->cancel_fd, .events = POLLIN } };
	int64_t until = time_monotonic_ns() + ns;

	for (;;) {
		int64_t left = until - time_monotonic_ns();

		if (atomic_load(&r->is_broken))
			return true;
		fds[0].revents = fds[1].revents = 0;
		(void)sys_poll(fds, 2, left > 0 ? (int)(left / 1000000) + 1 : 0);
		if (fds[0].revents & POLLERR)
			atomic_store(&r->is_broken, true);
		if (fds[0].revents & POLLERR || fds[1].revents & POLLIN)
			return true;
		if (left <= 0)
			return false;
	}
}

bool report_is_cancelled(struct report *r)
{
	return report_sleep(r, 0);
}

bool report_ctx_is_cancelled(void *report)
{
	return report_is_cancelled(report);
}
