/*
 * jsonlog.h - writes docker's json-file log: {"log":"line\n","stream":"stdout","time":"…"} per line.
 *
 * Lines above 16 KiB are split (no "\n" at the end marks a part). At max_bytes the file is renamed to NAME.1 (… NAME.n-1)
 * and a new one begun. Bytes that are not UTF-8 become U+FFFD, as docker writes them. Allocates nothing.
 * Layer: supervise.  Threads: one.  A full disk loses lines, never the container: `lost` counts them.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define JSONLOG_LINE 16384

struct jsonlog_part {
	size_t n;
	char p[JSONLOG_LINE];
};
struct jsonlog {
	int dir_fd, fd; /* dir_fd borrowed; fd owned, -1: not logging */
	char name[80];
	uint64_t bytes, max_bytes;
	uint32_t files;
	uint64_t lost;
	size_t n;
	char out[8192];
	struct jsonlog_part part[2]; /* begun lines of stdout and stderr; last, as they are seldom used */
};
/* 0 or -errno. name: copied. */
int jsonlog_open(struct jsonlog *l, int dir_fd, const char *name, uint64_t max_bytes, uint32_t files);
/* stream: 1 stdout, 2 stderr */
void jsonlog_write(struct jsonlog *l, int stream, const char *p, size_t n);
/* Writes begun lines as they are. */
void jsonlog_flush(struct jsonlog *l);
void jsonlog_close(struct jsonlog *l);
