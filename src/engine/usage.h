/*
 * usage.h - what files and directories take on disk, as du counts it (blocks), each file once whatever names
 * it has.
 *
 * Layer: engine.  Threads: one at a time.
 */
#pragma once
#include "base/err.h"
#include "base/map.h"
#include <stdint.h>

struct usage {
	struct map links; /* inode -> names seen so far, of files with several */
	uint64_t all;     /* bytes of everything added */
	uint64_t freed;   /* … of that what is free once all of it is removed: files with further names
			     elsewhere do not count */
};
#define auto_usage __attribute__((cleanup(usage_fini)))
void usage_fini(struct usage *u);
/* name in dir_fd (borrowed) and all below it; absent is nothing. Follows no link. */
FALLIBLE usage_add(struct usage *u, int dir_fd, const char *name);
