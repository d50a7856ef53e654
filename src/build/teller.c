/*
 * teller.c - lines on stderr; see teller.h. With a terminal the line of a step is written over when it ends, as long as it is
 * still the last one on the screen.
 */
#include "build/teller.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sv.h"
#include "base/time.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

enum { LINE_MAX_BYTES = 1 << 16, TAIL_MAX = 1 << 18 };

struct teller {
	bool quiet, is_tty;
	int width; /* of a title, so that a line never wraps: it could not be written over */
	pthread_mutex_t lock; /* guards what follows, and whole lines on stderr */
	unsigned n;
	unsigned last; /* the step whose line is the last on the screen; 0: none */
};
struct told {
	struct teller *t;
	unsigned number;
	int64_t begun_ns;
	char *title;
	/* output */
	pthread_t reader;
	bool has_reader;
	int read_fd, write_fd;
	struct buf line, tail; /* tail: what quiet did not tell */
};

struct teller *teller_new(enum build_progress mode, bool quiet)
{
	struct teller *t = xnew(struct teller);
	unsigned rows, columns;

	t->quiet = quiet;
	t->is_tty = mode == BUILD_PROGRESS_TTY || (mode == BUILD_PROGRESS_AUTO && isatty(STDERR_FILENO));
	t->width = 64;
	if (t->is_tty && sys_tty_size(STDERR_FILENO, &rows, &columns) >= 0 && columns > 40)
		t->width = (int)columns - 20;
	(void)pthread_mutex_init(&t->lock, NULL);
	return t;
}

void teller_free(struct teller *t)
{
	if (!t)
		return;
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}

static double since(int64_t ns)
{
	return (double)(time_monotonic_ns() - ns) / 1e9;
}

/* One or more whole lines; with a terminal over the step's own line when that is the last. Lock held. */
static void say(struct told *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct told *s, const char *fmt, ...)
{
	va_list ap;

	if (s->t->is_tty && s->t->last == s->number)
		(void)fputs("\033[A\r\033[K", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fflush(stderr);
	s->t->last = 0;
}

/* The line of a running step, below what was told of it. Lock held. */
static void say_running(struct told *s)
{
	say(s, " \033[34m=>\033[0m %.*s\n", s->t->width, s->title);
	s->t->last = s->number;
}

void teller_warn(struct teller *t, const char *fmt, ...)
{
	va_list ap;

	if (t->quiet)
		return;
	(void)pthread_mutex_lock(&t->lock);
	va_start(ap, fmt);
	(void)fputs("[Warning] ", stderr);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
	t->last = 0;
	(void)pthread_mutex_unlock(&t->lock);
}

struct told *teller_begin(struct teller *t, const char *title)
{
	struct told *s = xnew(struct told);

	*s = (struct told){ .t = t, .begun_ns = time_monotonic_ns(), .title = xstrdup(title), .read_fd = -1, .write_fd = -1,
			    .line = BUF(LINE_MAX_BYTES), .tail = BUF(TAIL_MAX) };
	(void)pthread_mutex_lock(&t->lock);
	s->number = ++t->n;
	if (!t->quiet && t->is_tty)
		say_running(s);
	else if (!t->quiet)
		say(s, "#%u %s\n", s->number, title);
	(void)pthread_mutex_unlock(&t->lock);
	return s;
}

void told_drop(struct told *s)
{
	if (!s)
		return;
	told_output_close(s, false);
	buf_fini(&s->line);
	buf_fini(&s->tail);
	free(s->title);
	free(s);
}

void told_done(struct told *s, bool is_cached)
{
	if (!s->t->quiet) {
		(void)pthread_mutex_lock(&s->t->lock);
		if (s->t->is_tty)
			say(s, " \033[32m=>\033[0m %s%.*s \033[2m%.1fs\033[0m\n", is_cached ? "CACHED " : "", s->t->width,
			    s->title, since(s->begun_ns));
		else if (is_cached)
			say(s, "#%u CACHED\n\n", s->number);
		else
			say(s, "#%u DONE %.1fs\n\n", s->number, since(s->begun_ns));
		(void)pthread_mutex_unlock(&s->t->lock);
	}
	told_drop(s);
}

void told_note(struct told *s, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (s->t->quiet)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)pthread_mutex_lock(&s->t->lock);
	if (s->t->is_tty) {
		say(s, " \033[2m=> => %s\033[0m\n", text);
		say_running(s);
	} else {
		say(s, "#%u %s\n", s->number, text);
	}
	(void)pthread_mutex_unlock(&s->t->lock);
}

/* ---- output of a step ---- */

static void tell_line(struct told *s, struct sv line)
{
	while (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	if (s->t->quiet) {
		if (s->tail.n + line.n + 1 > TAIL_MAX)
			buf_reset(&s->tail);
		buf_sv(&s->tail, line);
		buf_ch(&s->tail, '\n');
		return;
	}
	(void)pthread_mutex_lock(&s->t->lock);
	if (s->t->is_tty) {
		say(s, " \033[2m" SV_FMT "\033[0m\n", SV_ARG(line));
		say_running(s);
	} else {
		say(s, "#%u %.3f " SV_FMT "\n", s->number, since(s->begun_ns), SV_ARG(line));
	}
	(void)pthread_mutex_unlock(&s->t->lock);
}

static void tell(struct told *s, struct sv text)
{
	while (text.n) {
		const char *end = memchr(text.p, '\n', text.n);
		size_t n = end ? (size_t)(end - text.p) : text.n;

		buf_sv(&s->line, sv_from(text.p, n));
		if (end || s->line.failed) {
			tell_line(s, sv_from(s->line.data, s->line.n));
			buf_reset(&s->line);
			s->line.failed = false;
		}
		text = sv_skip(text, end ? n + 1 : n);
	}
}

static void *read_output(void *arg)
{
	struct told *s = arg;
	char chunk[4096];
	ssize_t n;

	while ((n = sys_read(s->read_fd, chunk, sizeof chunk)) > 0)
		tell(s, sv_from(chunk, (size_t)n));
	if (s->line.n)
		tell_line(s, sv_from(s->line.data, s->line.n));
	return NULL;
}

FALLIBLE told_output_open(struct told *s, int *out_fd)
{
	int fds[2], r = sys_pipe(fds);

	if (r < 0)
		return FAIL_OS(-r, "make a pipe");
	s->read_fd = fds[0];
	s->write_fd = fds[1];
	r = pthread_create(&s->reader, NULL, read_output, s);
	if (r)
		return FAIL_OS(r, "start a thread");
	s->has_reader = true;
	*out_fd = s->write_fd;
	return NULL;
}

void told_output_close(struct told *s, bool failed)
{
	own_close(&s->write_fd);
	s->write_fd = -1;
	if (s->has_reader)
		(void)pthread_join(s->reader, NULL);
	s->has_reader = false;
	own_close(&s->read_fd);
	s->read_fd = -1;
	if (failed && s->t->quiet && s->tail.n) {
		(void)pthread_mutex_lock(&s->t->lock);
		(void)fwrite(s->tail.data, 1, s->tail.n, stderr);
		(void)pthread_mutex_unlock(&s->t->lock);
	}
}
