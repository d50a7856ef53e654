#include "base/log.h"
#include <stdarg.h>
#include <stdio.h>

enum log_level log_level = LOG_WARN;

static void line(enum log_level level, const char *word, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

static void line(enum log_level level, const char *word, const char *fmt, va_list ap)
{
	char text[1024];

	if (log_level < level)
		return;
	(void)vsnprintf(text, sizeof text, fmt, ap);
	(void)fprintf(stderr, "hoy: %s: %s\n", word, text);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_WARN, "warning", fmt, ap);
	va_end(ap);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_DEBUG, "debug", fmt, ap);
	va_end(ap);
}
