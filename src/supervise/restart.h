/*
 * restart.h - whether and when a container that exited runs again. Pure.
 *
 * Layer: supervise.  Back-off: 100 ms, doubled per restart up to 1 min, from the start again after 10 s of running.
 */
#pragma once
#include "supervise/conf.h"

#define RESTART_FIRST_MS 100
#define RESTART_LAST_MS	 60000
#define RESTART_RESET_NS (10 * INT64_C(1000000000))

struct restart {
	uint32_t count;	   /* restarts so far */
	uint32_t delay_ms; /* of the last one; 0: none yet */
};
/* Milliseconds until the next start, or -1: it stays down. Counts in *r. stopped: by the user. */
int restart_next(const struct keeper_conf *c, struct restart *r, int exit_code, int64_t ran_ns, bool stopped);
