/*
 * log.h - debug lines on stderr, for people who look for a fault; never an error's way to its reader.
 *
 * The level is one of the two globals of the project (the other is sys_fault).
 */
#pragma once

enum log_level { LOG_QUIET, LOG_WARN, LOG_INFO, LOG_DEBUG };
extern enum log_level log_level;

/* "hoy: warning: …" */
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
