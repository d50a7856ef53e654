/* teller.c - lines on stderr; see teller.h. With a terminal the step that runs stands in one line that is written over. */
#include "build/teller.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sv.h"
#include "base/time.h"
#include "sys/sys.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

enum { LINE_MAX_BYTES = 1 << 16, TAIL_MAX = 1 << 18 };

struct teller {
	bool quiet, is_tty;
	unsigned n;
	int64_t begun_ns;
	char *title;
	/* of the running step's output */
	pthread_t reader;
	int read_fd, write_fd;
	unsigned step;
	struct buf line, tail; /* tail: what quiet did not tell */
};

struct teller *teller_new(enum build_progress mode, bool quiet)
{
	struct teller *p = xnew(struct teller);

	p->quiet = quiet;
	p->is_tty = mode == BUILD_PROGRESS_TTY || (mode == BUILD_PROGRESS_AUTO && isatty(STDERR_FILENO));
	p->read_fd = p->write_fd = -1;
	p->line = BUF(LINE_MAX_BYTES);
	p->tail = BUF(TAIL_MAX);
	return p;
}

void teller_free(struct teller *p)
{
	if (!p)
		return;
	own_close(&p->read_fd);
	own_close(&p->write_fd);
	buf_fini(&p->line);
	buf_fini(&p->tail);
	free(p->title);
	free(p);
}

static double since(int64_t ns)
{
	return (double)(time_monotonic_ns() - ns) / 1e9;
}

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fflush(stderr);
}

unsigned teller_begin(struct teller *p, const char *title)
{
	p->n++;
	p->begun_ns = time_monotonic_ns();
	free(p->title);
	p->title = xstrdup(title);
	if (p->quiet)
		return p->n;
	if (p->is_tty)
		say(" \033[34m=>\033[0m %.160s\n", title);
	else
		say("#%u %s\n", p->n, title);
	return p->n;
}

void teller_done(struct teller *p, unsigned step, bool is_cached)
{
	if (p->quiet)
		return;
	if (p->is_tty)
		say("\033[A\r\033[K \033[32m=>\033[0m %s%.160s \033[2m%.1fs\033[0m\n", is_cached ? "CACHED " : "", p->title,
		    since(p->begun_ns));
	else if (is_cached)
		say("#%u CACHED\n\n", step);
	else
		say("#%u DONE %.1fs\n\n", step, since(p->begun_ns));
}

void teller_note(struct teller *p, unsigned step, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (p->quiet)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (p->is_tty) /* above the line of the step, which is told again */
		say("\033[A\r\033[K \033[2m=> => %s\033[0m\n \033[34m=>\033[0m %.160s\n", text, p->title);
	else
		say("#%u %s\n", step, text);
}

void teller_warn(struct teller *p, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (p->quiet)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	say("[Warning] %s\n", text);
}

/* ---- output of a step ---- */

static void tell_line(struct teller *p, struct sv line)
{
	while (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	if (p->quiet) {
		if (p->tail.n + line.n + 1 > TAIL_MAX)
			buf_reset(&p->tail);
		buf_sv(&p->tail, line);
		buf_ch(&p->tail, '\n');
	} else if (p->is_tty) {
		say("\033[A\r\033[K \033[2m" SV_FMT "\033[0m\n \033[34m=>\033[0m %.160s\n", SV_ARG(line), p->title);
	} else {
		say("#%u %.3f " SV_FMT "\n", p->step, since(p->begun_ns), SV_ARG(line));
	}
}

static void tell(struct teller *p, struct sv text)
{
	while (text.n) {
		const char *end = memchr(text.p, '\n', text.n);
		size_t n = end ? (size_t)(end - text.p) : text.n;

		buf_sv(&p->line, sv_from(text.p, n));
		if (end || p->line.failed) {
			tell_line(p, sv_from(p->line.data, p->line.n));
			buf_reset(&p->line);
			p->line.failed = false;
		}
		text = sv_skip(text, end ? n + 1 : n);
	}
}

static void *read_output(void *arg)
{
	struct teller *p = arg;
	char chunk[4096];
	ssize_t n;

	while ((n = sys_read(p->read_fd, chunk, sizeof chunk)) > 0)
		tell(p, sv_from(chunk, (size_t)n));
	if (p->line.n)
		tell_line(p, sv_from(p->line.data, p->line.n));
	buf_reset(&p->line);
	return NULL;
}

FALLIBLE teller_output_open(struct teller *p, unsigned step, int *out_fd)
{
	int fds[2], r = sys_pipe(fds);

	if (r < 0)
		return FAIL_OS(-r, "make a pipe");
	p->read_fd = fds[0];
	p->write_fd = fds[1];
	p->step = step;
	buf_reset(&p->tail);
	r = pthread_create(&p->reader, NULL, read_output, p);
	if (r) {
		own_close(&p->read_fd);
		own_close(&p->write_fd);
		p->read_fd = p->write_fd = -1;
		return FAIL_OS(r, "start a thread");
	}
	*out_fd = p->write_fd;
	return NULL;
}

void teller_output_close(struct teller *p, bool failed)
{
	own_close(&p->write_fd);
	p->write_fd = -1;
	(void)pthread_join(p->reader, NULL);
	own_close(&p->read_fd);
	p->read_fd = -1;
	if (failed && p->quiet && p->tail.n)
		say(SV_FMT, SV_ARG(sv_from(p->tail.data, p->tail.n)));
}
