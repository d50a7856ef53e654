/*
 * logs.c - reading json-file logs: all, the last n lines, a span of time, and on as they are written.
 *
 * The files are NAME.k (oldest) … NAME.1, NAME. Following ends when the keeper is gone and everything was read.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "base/vec.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

enum { LINE_MAX_BYTES = 1 << 20, CHUNK = 1 << 16 };

struct reader {
	const struct container_logs *o;
	struct buf line; /* begun */
	long skip;	 /* lines still to be left out, for tail */
	bool is_past;	 /* beyond until */
};

static FALLIBLE emit(struct reader *r, struct sv text)
{
	auto_json json_t *v = NULL;
	const char *stream, *log, *when;
	char stamp[TIME_TEXT_MAX + 1];
	int64_t ns = 0;
	int number;

	if (json_parse(text, "log", LINE_MAX_BYTES, &v) != NULL)
		return NULL; /* a line that a power cut left half written */
	log = json_str_at(v, "log", "");
	stream = json_str_at(v, "stream", "stdout");
	when = json_str_at(v, "time", "");
	number = strcmp(stream, "stderr") == 0 ? 2 : 1;
	if (r->o->since_ns || r->o->until_ns)
		err_free(time_parse(sv_of(when), &ns));
	if (r->o->since_ns && ns < r->o->since_ns)
		return NULL;
	if (r->o->until_ns && ns > r->o->until_ns) {
		r->is_past = true;
		return NULL;
	}
	if (number == 1 ? !r->o->want_stdout : !r->o->want_stderr)
		return NULL;
	if (r->o->timestamps) {
		(void)snprintf(stamp, sizeof stamp, "%s ", when);
		TRY(r->o->chunk(r->o->ctx, number, stamp, strlen(stamp)));
	}
	return r->o->chunk(r->o->ctx, number, log, json_string_length(json_object_get(v, "log")));
}

static FALLIBLE feed(struct reader *r, const char *p, size_t n)
{
	struct sv rest = { p, n };

	while (rest.n && !r->is_past) {
		const char *end = memchr(rest.p, '\n', rest.n);
		size_t len = end ? (size_t)(end - rest.p) : rest.n;

		buf_add(&r->line, rest.p, len);
		rest = sv_skip(rest, len + (end != NULL));
		if (!end)
			return NULL;
		if (r->skip > 0)
			r->skip--;
		else if (!r->line.failed)
			TRY(emit(r, sv_from(r->line.data, r->line.n)));
		buf_reset(&r->line);
		r->line.failed = false;
	}
	return NULL;
}

/* Reads to the end of what there is now. */
static FALLIBLE read_on(struct reader *r, int fd)
{
	static char p[CHUNK];
	ssize_t n;

	while (!r->is_past && (n = sys_read(fd, p, sizeof p)) != 0) {
		if (n < 0)
			return FAIL_OS((int)-n, "read the log");
		TRY(feed(r, p, (size_t)n));
	}
	return NULL;
}

static long count_lines(int fd)
{
	static char p[CHUNK];
	long lines = 0;
	off_t at = 0;
	ssize_t n;

	while ((n = sys_pread(fd, p, sizeof p, at)) > 0) {
		for (const char *c = p; (c = memchr(c, '\n', (size_t)(p + n - c))); c++)
			lines++;
		at += n;
	}
	return lines;
}

struct files {
	VEC(int) v; /* oldest first; owned */
};

static void files_fini(struct files *f)
{
	for (size_t i = 0; i < f->v.n; i++)
		own_close(&f->v.p[i]);
	vec_fini(&f->v);
}

static int open_log(int dir, const char *id, unsigned k)
{
	char name[96];

	if (k)
		(void)snprintf(name, sizeof name, "%s-json.log.%u", id, k);
	else
		(void)snprintf(name, sizeof name, "%s-json.log", id);
	return sys_openat(dir, name, O_RDONLY, 0);
}

static void open_files(int dir, const char *id, struct files *out)
{
	unsigned k = 0;
	int fd;

	while ((fd = open_log(dir, id, k + 1)) >= 0) {
		own_close(&fd);
		k++;
	}
	for (;; k--) {
		if ((fd = open_log(dir, id, k)) >= 0)
			*vec_push(&out->v) = fd;
		if (k == 0)
			return;
	}
}

static void skip_to_tail(struct reader *r, const struct files *f)
{
	long total = 0;

	if (r->o->tail < 0)
		return;
	for (size_t i = 0; i < f->v.n; i++)
		total += count_lines(f->v.p[i]);
	r->skip = total > r->o->tail ? total - r->o->tail : 0;
}

/* A new file under the name: the old one was renamed; its end is read first. */
static FALLIBLE follow_rotation(struct reader *r, int dir, const char *id, int *fd)
{
	auto_fd int now = open_log(dir, id, 0);
	struct stat a, b;

	if (now < 0 || sys_fstat(now, &a) < 0 || (*fd >= 0 && sys_fstat(*fd, &b) == 0 && a.st_ino == b.st_ino))
		return NULL;
	if (*fd >= 0)
		TRY(read_on(r, *fd));
	own_close(fd);
	*fd = TAKE_FD(now);
	return read_on(r, *fd);
}

static FALLIBLE follow(struct reader *r, struct engine *e, const char *id, int dir, int *fd)
{
	for (bool live = true; live && !r->is_past;) {
		live = ctr_live(e, id, NULL); /* before the read: what it wrote last is seen after it is gone */
		if (*fd >= 0)
			TRY(read_on(r, *fd));
		TRY(follow_rotation(r, dir, id, fd));
		if (live)
			(void)nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	return NULL;
}

FALLIBLE container_logs(struct engine *e, const char *text, const struct container_logs *o)
{
	struct reader r = { .o = o };
	auto_buf struct buf line = BUF(LINE_MAX_BYTES);
	CLEANUP(files_fini) struct files files = { 0 };
	auto_json json_t *doc = NULL;
	auto_free char *home = NULL;
	auto_fd int dir = -1;
	char id[CTR_ID_MAX];
	struct err *err = NULL;
	int none = -1;

	TRY(ctr_find(e, text, id, &doc));
	if (strcmp(json_str_at(doc, "HostConfig.LogConfig.Type", ""), "none") == 0)
		return FAIL(ERR_UNSUPPORTED, "configured logging driver does not support reading");
	home = ctr_path(e, id, NULL);
	if ((dir = sys_open_dir(home)) < 0)
		return FAIL_OS(-dir, "open %s", home);
	r.line = line;
	open_files(dir, id, &files);
	skip_to_tail(&r, &files);
	for (size_t i = 0; !err && i < files.v.n && !r.is_past; i++)
		err = read_on(&r, files.v.p[i]);
	if (!err && o->follow)
		err = follow(&r, e, id, dir, files.v.n ? &files.v.p[files.v.n - 1] : &none);
	own_close(&none);
	line = r.line;
	return err;
}
