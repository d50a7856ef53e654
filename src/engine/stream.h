/*
 * stream.h - bytes between two descriptors without ever waiting for one while the other could move.
 *
 * Who reads and writes for a program must not block in a write to it: it may be waiting for its own output to be taken.
 * Layer: engine (internal).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum { STREAM_CHUNK = 65536 };

/* What was read for `to` and not taken yet. */
struct stream_pending {
	size_t n, at;
	char p[STREAM_CHUNK];
};

/* Reads a chunk and writes what `to` (borrowed, non-blocking) takes now. false: the end of from. */
bool stream_feed(struct stream_pending *s, int from, int to);
/* Writes on; what a reader that went away did not take is dropped. */
void stream_flush(struct stream_pending *s, int to);
/* All of it to somebody who waits for nothing of ours (a user's terminal, also a non-blocking one). false: nobody reads. */
bool stream_write(int fd, const char *p, size_t n);
