/*
 * health.h - when the health check of a container is due, and the process that does it.
 *
 * The keeper only keeps time: `hoy keeper-health ID` runs the check inside, gives it its time, and writes its outcome to
 * RUN/<id>/health. Its exit status tells whether the container counts as starting still, and so how soon the next check is.
 * A check is due an interval after the start and after the end of the one before, as docker has it.
 * Layer: supervise.  Allocates nothing.
 */
#pragma once
#include "supervise/conf.h"
#include <sys/types.h>

#define HEALTH_STARTING 3 /* exit status of keeper-health; 0: healthy or unhealthy, else: it could not tell */

struct health {
	int64_t started_ns, due_ns; /* monotonic; due 0: nothing is due (no check, or one runs) */
	pid_t pid;		    /* of the check that runs, our child; 0 */
	bool has_passed;            /* no longer starting */
};
/* The container runs: RUN/<id>/health says "starting". Without a check: nothing. */
void health_begin(struct health *h, const struct keeper_conf *c, int64_t now_ns);
/* Nanoseconds until the next check, -1: none. */
int64_t health_left(const struct health *h, int64_t now_ns);
/* How long after one check the next is due. */
int64_t health_pause(const struct health *h, const struct keeper_conf *c, int64_t now_ns);
/* Starts the check. */
void health_run(struct health *h, const struct keeper_conf *c, int64_t now_ns);
/* It ended: waits for it. */
void health_ended(struct health *h, const struct keeper_conf *c, int64_t now_ns);
/* The container does not run any more. */
void health_stop(struct health *h);
