/* jsonlog.c - see jsonlog.h. Escapes through a small buffer; a line is at most a few writes. */
#include "supervise/jsonlog.h"
#include "base/own.h"
#include "base/time.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

int jsonlog_open(struct jsonlog *l, int dir_fd, const char *name, uint64_t max_bytes, uint32_t files)
{
	struct stat st;

	l->dir_fd = dir_fd;
	l->max_bytes = max_bytes;
	l->files = files;
	(void)snprintf(l->name, sizeof l->name, "%s", name);
	l->fd = sys_openat(dir_fd, name, O_WRONLY | O_CREAT | O_APPEND, 0640);
	if (l->fd < 0)
		return l->fd;
	l->bytes = sys_fstat(l->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	return 0;
}

static void out_flush(struct jsonlog *l)
{
	if (l->n && sys_write_all(l->fd, l->out, l->n) < 0)
		l->lost++;
	l->bytes += l->n;
	l->n = 0;
}

static void out_add(struct jsonlog *l, const char *p, size_t n)
{
	while (n) {
		size_t room = sizeof l->out - l->n, now = n < room ? n : room;

		memcpy(l->out + l->n, p, now);
		l->n += now;
		p += now;
		n -= now;
		if (l->n == sizeof l->out)
			out_flush(l);
	}
}

/* Length of the UTF-8 sequence at p, or 0 when there is none (RFC 3629: no surrogates, nothing overlong). */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

static void out_escaped(struct jsonlog *l, const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;

	for (size_t i = 0; i < n;) {
		size_t len = utf8_len(p + i, n - i);
		char esc[8];

		if (len == 0) {
			out_add(l, "\\ufffd", 6);
			i++;
			continue;
		}
		if (p[i] == '"' || p[i] == '\\') {
			out_add(l, "\\", 1);
			out_add(l, text + i, 1);
		} else if (p[i] == '\n') {
			out_add(l, "\\n", 2);
		} else if (p[i] == '\r') {
			out_add(l, "\\r", 2);
		} else if (p[i] == '\t') {
			out_add(l, "\\t", 2);
		} else if (p[i] < 0x20 || p[i] == 0x7f) {
			(void)snprintf(esc, sizeof esc, "\\u%04x", p[i]);
			out_add(l, esc, 6);
		} else {
			out_add(l, text + i, len);
		}
		i += len;
	}
}

static void rotate(struct jsonlog *l)
{
	char from[96], to[96];
	int fd;

	for (uint32_t i = l->files - 1; i >= 1; i--) {
		(void)snprintf(to, sizeof to, "%s.%u", l->name, i);
		if (i == 1)
			(void)snprintf(from, sizeof from, "%s", l->name);
		else
			(void)snprintf(from, sizeof from, "%s.%u", l->name, i - 1);
		(void)sys_rename(l->dir_fd, from, to);
	}
	if (l->files == 1)
		(void)sys_unlink(l->dir_fd, l->name);
	fd = sys_openat(l->dir_fd, l->name, O_WRONLY | O_CREAT | O_APPEND, 0640);
	if (fd < 0) {
		l->lost++;
		return; /* goes on in the old file */
	}
	(void)sys_close(l->fd);
	l->fd = fd;
	l->bytes = 0;
}

static void entry(struct jsonlog *l, int stream, const char *p, size_t n)
{
	char when[TIME_TEXT_MAX];

	if (l->max_bytes && l->bytes && l->bytes + n > l->max_bytes)
		rotate(l);
	out_add(l, "{\"log\":\"", 8);
	out_escaped(l, p, n);
	out_add(l, stream == 2 ? "\",\"stream\":\"stderr\",\"time\":\"" : "\",\"stream\":\"stdout\",\"time\":\"", 28);
	(void)time_format(time_now_ns(), when);
	out_add(l, when, strlen(when));
	out_add(l, "\"}\n", 3);
	out_flush(l);
}

void jsonlog_write(struct jsonlog *l, int stream, const char *p, size_t n)
{
	struct jsonlog_part *part = &l->part[stream == 2];

	if (l->fd < 0)
		return;
	while (n) {
		const char *nl = memchr(p, '\n', n);
		size_t len = nl ? (size_t)(nl - p) + 1 : n;

		if (len > JSONLOG_LINE - part->n)
			len = JSONLOG_LINE - part->n;
		if (p[len - 1] == '\n' && part->n == 0) {
			entry(l, stream, p, len);
		} else {
			memcpy(part->p + part->n, p, len);
			part->n += len;
			if (p[len - 1] == '\n' || part->n == JSONLOG_LINE) {
				entry(l, stream, part->p, part->n);
				part->n = 0;
			}
		}
		p += len;
		n -= len;
	}
}

void jsonlog_flush(struct jsonlog *l)
{
	for (int i = 0; l->fd >= 0 && i < 2; i++) {
		if (l->part[i].n)
			entry(l, i + 1, l->part[i].p, l->part[i].n);
		l->part[i].n = 0;
	}
}

void jsonlog_close(struct jsonlog *l)
{
	jsonlog_flush(l);
	if (l->fd >= 0)
		(void)sys_close(l->fd);
	l->fd = -1;
}
