/*
 * oci_log.c - errors of the command line as callers read them: a file of text or JSON lines, the journal, syslog; people read
 * standard error.
 *
 * Source: systemd.io/JOURNAL_NATIVE_PROTOCOL, RFC 3164 section 4.1 as of /dev/log.
 */
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "runtime/oci.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define SYSLOG_SOCKET  "/dev/log"
enum { PRIORITY_ERROR = 3, FACILITY_USER = 1, LINE_MAX_BYTES = 65536 };

/* "journald:NAME": NAME, the program's own when it is empty. NULL: another kind of log. */
static const char *service(const struct oci *o, const char *kind)
{
	size_t n = strlen(kind);

	if (!o->log || strncmp(o->log, kind, n) != 0)
		return NULL;
	return o->log[n] ? o->log + n : o->program;
}

/*
 * The message as callers match it: docker tells "not found" (127) and "not executable" (126) apart by Go's
 * words for the errors of an exec, which begin in lower case.
 */
static char *message(const struct oci *o, const struct err *e)
{
	char *text = o->debug ? xasprintf("%s (%s)", e->msg, e->at) : xstrdup(e->msg);
	char *at = strncmp(text, "exec: ", 6) == 0 && e->os ? strstr(text, strerror(e->os)) : NULL;

	if (at)
		*at = (char)tolower(*at);
	return text;
}

static void send(const char *path, const struct buf *b)
{
	auto_fd int fd = sys_unix_datagram(path, false);

	if (fd >= 0)
		(void)sys_unix_send(fd, &(struct iovec){ b->data, b->n }, 1);
}

/* A field whose value may have lines: its name, the length as eight bytes, the value. */
static void to_journal(const char *name, const char *text)
{
	auto_buf struct buf b = BUF(LINE_MAX_BYTES);
	uint64_t n = strlen(text);

	buf_fmt(&b, "PRIORITY=%d\nSYSLOG_IDENTIFIER=%s\nMESSAGE\n", PRIORITY_ERROR, name);
	for (int i = 0; i < 8; i++)
		buf_ch(&b, (char)(n >> (8 * i)));
	buf_fmt(&b, "%s\n", text);
	send(JOURNAL_SOCKET, &b);
}

static void to_syslog(const char *name, const char *text)
{
	auto_buf struct buf b = BUF(LINE_MAX_BYTES);

	buf_fmt(&b, "<%d>%s[%d]: %s", FACILITY_USER << 3 | PRIORITY_ERROR, name, (int)getpid(), text);
	send(SYSLOG_SOCKET, &b);
}

static void as_line(bool as_json, const char *text, struct buf *out)
{
	char now[TIME_TEXT_MAX];

	(void)time_format(time_now_ns(), now);
	if (as_json) {
		auto_json json_t *v = json_pack("{s:s, s:s, s:s}", "msg", text, "level", "error", "time", now);

		json_print(v, out);
	} else {
		buf_fmt(out, "time=\"%s\" level=error msg=\"%s\"", now, text);
	}
	buf_ch(out, '\n');
}

void oci_report(const struct oci *o, const struct err *e)
{
	const char *journal = service(o, "journald:"), *syslog = service(o, "syslog:");
	bool as_json = o->log_format && strcmp(o->log_format, "json") == 0;
	auto_fd int fd = o->log && !journal && !syslog ? sys_open(o->log, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
	auto_free char *text = message(o, e);
	auto_buf struct buf line = BUF(LINE_MAX_BYTES);

	as_line(as_json, text, &line);
	if (journal)
		to_journal(journal, text);
	if (syslog)
		to_syslog(syslog, text);
	if (fd >= 0)
		(void)sys_write_all(fd, buf_text(&line), line.n);
	if (as_json && !o->log)
		(void)fprintf(stderr, "%s", buf_text(&line));
	else
		(void)fprintf(stderr, "%s: %s\n", o->program, text);
}

static FALLIBLE check_level(struct oci *o)
{
	const char *level = o->log_level ? o->log_level : o->debug ? "debug" : "warning";

	if (strcmp(level, "error") == 0)
		log_level = LOG_QUIET;
	else if (strcmp(level, "debug") == 0)
		log_level = LOG_DEBUG;
	else if (strcmp(level, "warning") != 0)
		return FAIL(ERR_INVALID, "unknown log-level \"%s\": error, warning or debug", level);
	o->debug |= log_level == LOG_DEBUG;
	return NULL;
}

/* A log that cannot be written is forgotten, so that its error reaches standard error alone. */
static FALLIBLE reachable(struct oci *o, const char *path)
{
	auto_fd int fd = sys_unix_datagram(path, false);
	const char *bad = o->log;

	if (fd >= 0)
		return NULL;
	o->log = NULL;
	return FAIL_OS(-fd, "--log=%s: connect to %s", bad, path);
}

FALLIBLE oci_log_check(struct oci *o)
{
	auto_fd int fd = -1;

	if (o->log_format && strcmp(o->log_format, "text") != 0 && strcmp(o->log_format, "json") != 0) {
		const char *bad = o->log_format;

		o->log_format = NULL;
		return FAIL(ERR_INVALID, "unknown log-format \"%s\": text or json", bad);
	}
	TRY(check_level(o));
	if (!o->log)
		return NULL;
	if (strncmp(o->log, "file:", 5) == 0)
		o->log += 5;
	if (service(o, "journald:"))
		return reachable(o, JOURNAL_SOCKET);
	if (service(o, "syslog:"))
		return reachable(o, SYSLOG_SOCKET);
	fd = sys_open(o->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0) {
		const char *bad = o->log;

		o->log = NULL;
		return FAIL_OS(-fd, "open log %s", bad);
	}
	return NULL;
}

