/*
 * client.h - a conversation with one repository of a registry: where it is, who we are there, asking again
 * when that helps.
 *
 * Specification: OCI distribution-spec 1.1; docker's rules for names of registries: docker.io is
 * registry-1.docker.io; https first; loopback hosts and --insecure may speak http or have any certificate.
 * Layer: registry.  Threads: a registry is shared; each thread has its own http_client (registry_http).
 * Blocks: yes.
 */
#pragma once
#include "base/err.h"
#include "http/client.h"
#include "registry/cred.h"
#include "registry/place.h"
#include "registry/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct patience { /* 0: as usual */
	unsigned retry_ms;   /* the first pause between attempts (500), doubled each time */
	unsigned stall_s;    /* how long a connection may bring nothing (60) */
	unsigned connect_ms; /* how long it may take to stand (30000) */
};
struct registry_conf {
	struct report *report;     /* borrowed, outlives the registry */
	const struct place *place; /* borrowed, outlives the registry: who is asked, for which repository */
	const char *actions;       /* "pull" or "pull,push"; NULL: no scope */
	char *const *pull_from;    /* borrowed; other repositories to be mounted from; may be NULL */
	struct patience patience;
	const struct daemon_conf *daemon; /* borrowed; whose proxies hold when the environment has none; may be NULL */
	const struct access *access; /* borrowed, outlives the registry; NULL: nothing is said */
};
struct registry;
/* Finds the scheme and the challenge by GET /v2/, asked again when the connection is cut. ERR_UNAVAILABLE nobody there. */
FALLIBLE registry_open(const struct registry_conf *conf, struct registry **out_registry);
void registry_close(struct registry *r);
/* A client, one that has a connection when there is one; NULL-safe back with registry_http_done. */
struct http_client *registry_http(struct registry *r);
void registry_http_done(struct registry *r, struct http_client *http);
struct report *registry_report(const struct registry *r); /* borrowed */
const struct place *registry_place(const struct registry *r); /* borrowed */
char *registry_root_url(const struct registry *r);        /* "<base>/v2/", owned */
/* The URL "<base>/v2/<repository>/<what>", owned; what may have a query. */
char *registry_url(const struct registry *r, const char *what);
/*
 * One request with whatever authorization the registry wants, when q->url is at the registry itself; after a
 * 401 again with a fresh one, twice at most. Any status is success. http NULL: one that is idle.
 */
FALLIBLE registry_call(struct registry *r, struct http_client *http, struct http_request q,
		       struct http_response *out);
/* The same, again after cut connections and passing faults, at most 4 times; the last answer or error stands.
 * No sinks. */
FALLIBLE registry_ask(struct registry *r, struct http_client *http, struct http_request q,
		      struct http_response *out);
/* Waits before attempt 1, 2, …: Retry-After of the answer (may be NULL), else retry_ms, doubled each time.
 * ERR_CANCELLED. */
FALLIBLE registry_pause(struct registry *r, unsigned attempt, const struct http_response *answer);

typedef struct err *registry_job(void *ctx, struct http_client *http, size_t index);
/*
 * Runs n jobs, n_bytes of payload in all, on up to 4 connections, in order of index; the first error stops
 * all and is returned.
 */
FALLIBLE registry_each(struct registry *r, size_t n, uint64_t n_bytes, registry_job *job, void *ctx);

static inline void own_registry(struct registry **slot)
{
	registry_close(*slot);
}
#define auto_registry __attribute__((cleanup(own_registry)))
