/*
 * health.h - health checks: what is wanted of them, what they found.
 *
 * Config.Healthcheck is docker's: Test (["CMD", …], ["CMD-SHELL", TEXT], ["NONE"]), Interval, Timeout, StartPeriod,
 * StartInterval in ns, Retries; 0: 30 s, 30 s, 0, 5 s, 3. State.Health is docker's: Status ("starting", "healthy",
 * "unhealthy"), FailingStreak, Log of the last 5 (Start, End, ExitCode, Output of at most 4096 bytes). The keeper calls
 * `hoy keeper-health` when a check is due (supervise/health.h); that is the only writer of RUN/<id>/health while it runs.
 * Layer: engine (internal, but for container_probe).
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/engine.h"
#include "supervise/conf.h"

/* ERR_INVALID in docker's words. v may be NULL. */
FALLIBLE health_check(const json_t *healthcheck);
/* The user's over the image's, member by member; owned, NULL: none. */
json_t *health_merge(const json_t *own, const json_t *image);
/* What the keeper must know; nothing when there is no check. */
void health_conf(const json_t *healthcheck, struct keeper_conf *c);
/* What is known of a container's health, owned; NULL: it has no check. is_running false: "unhealthy", as docker has it. */
json_t *health_of(struct engine *e, const char *id, const json_t *doc, bool is_running);
struct health_result {
	int64_t start_ns, end_ns, since_start_ns; /* of the container */
	int exit_code;				  /* -1: it could not be run, or took too long */
	const char *output;			  /* borrowed, UTF-8 */
};
/* Puts one result into a State.Health. Pure. */
void health_note(json_t *health, const json_t *healthcheck, const struct health_result *r);
