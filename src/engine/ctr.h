/*
 * ctr.h - what the files of the engine share about one container: its record, its lock, its live state.
 *
 * The record (DB_CONTAINER) is the inspect object plus "Hoy": {"Layers": [diff ids]}; its State is what was known at the last
 * transition. Live state is RUN/<id>/status, believed only while RUN/<id> is flocked, which the keeper does all its life.
 * The lock of a container is a flock on ROOT/containers/<id>: it goes with its holder and with the container.
 * Layer: engine (internal).
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/engine.h"
#include "engine/spec.h"
#include "engine/volume.h"
#include "snapshot/snapshot.h"
#include "supervise/conf.h"

#define CTR_ID_MAX 65
#define CTR_UNSEEN 255 /* exit code of what nobody saw end: its keeper was killed, the power went */

/* In the record's State.Status; only CTR_MOVES of ctr.c are allowed between them. */
enum ctr_state { CTR_CREATED, CTR_STARTING, CTR_RUNNING, CTR_PAUSED, CTR_RESTARTING, CTR_EXITED, CTR_STATES };
const char *ctr_state_name(enum ctr_state s);
enum ctr_state ctr_state_of(const char *name); /* CTR_CREATED for what is none */
bool ctr_may_move(enum ctr_state from, enum ctr_state to);

/* text -> full id. ERR_NOT_FOUND "No such container: …", ERR_INVALID when a prefix fits several. */
FALLIBLE ctr_resolve(struct engine *e, const char *text, char out_id[CTR_ID_MAX]);
/* Record of a full id, as last committed; owned. */
FALLIBLE ctr_load(struct engine *e, const char *id, json_t **out_doc);
/* Both: record of text. */
FALLIBLE ctr_find(struct engine *e, const char *text, char out_id[CTR_ID_MAX], json_t **out_doc);
/* Whether the database knows a full id, without reading its record. */
FALLIBLE ctr_exists(struct engine *e, const char *id, bool *out_exists);
FALLIBLE ctr_save(struct engine *e, const char *id, const json_t *doc);
/* For a container that goes with its keeper: RUN/<id>/record, read before the database. */
FALLIBLE ctr_save_live(struct engine *e, const char *id, const json_t *doc);
/* The lock, waited for; owned fd (also a fd of its directory). ERR_NOT_FOUND when it was removed meanwhile. try: ERR_CONFLICT
 * instead of waiting. */
FALLIBLE ctr_lock(struct engine *e, const char *id, bool try_only, int *out_fd);
/* Whether a keeper lives; its status if wanted (owned, NULL when dead). */
bool ctr_live(struct engine *e, const char *id, json_t **out_status);
/* Whether a keeper lives and is not at its end: `exited` is told before it is reaped, for which the lock is needed. */
bool ctr_runs(struct engine *e, const char *id);
/* Waits until a keeper that is at its end is gone; the caller has no lock. ERR_TIMEOUT: it does not end. */
FALLIBLE ctr_settle(struct engine *e, const char *id);
/* ctr_lock, of a container that runs or does not: nobody is at its end. */
FALLIBLE ctr_lock_settled(struct engine *e, const char *id, int *out_fd);
/* ROOT/containers/<id>[/name]; owned. */
char *ctr_path(struct engine *e, const char *id, const char *name);
/* What it is now: record and live state together. status as ctr_live gave it. */
enum ctr_state ctr_now(const json_t *doc, const json_t *status);
/* Its processes are frozen, whoever did it and however that ended: the kernel knows, no record. */
bool ctr_is_paused(const char *id);
/* A connected control socket; owned. ERR_NOT_FOUND when no keeper listens. */
FALLIBLE ctr_connect(struct engine *e, const char *id, int *out_fd);
/* Sends a signal through the keeper (0: none); no_restart: it stays down then. ERR_CONFLICT when it is not running, ERR_TIMEOUT when the
 * keeper does not answer. */
FALLIBLE ctr_signal(struct engine *e, const char *id, int signo, bool no_restart);
/* Waits until the keeper is gone (its lock free); timeout_ms negative: forever. false: still there. */
bool ctr_wait_gone(struct engine *e, const char *id, int timeout_ms);
/* With the lock held: what a dead keeper's container may have left (cgroup, processes, network). Idempotent. */
FALLIBLE ctr_sweep(struct engine *e, const char *id, const json_t *doc);
/* RUN/<id>: the marker that there may be something to sweep, so it goes last. */
FALLIBLE ctr_unmark(struct engine *e, const char *id);
/* With the lock held: record, directory, anonymous volumes (volumes: as docker rm -v). */
FALLIBLE ctr_delete(struct engine *e, const char *id, const json_t *doc, bool volumes);
/* The cgroup of a container, relative to the hierarchy: "hoy/<id>". */
void ctr_cgroup(const char *id, char out[80]);
FALLIBLE ctr_rootfs(struct engine *e, const char *id, const json_t *doc, struct rootfs *out_rootfs);
/* rm -r of name in dir_fd, following no link, staying on what is below it. */
FALLIBLE ctr_remove_tree(int dir_fd, const char *name);
/* The network mode of a record: "bridge" for default. */
const char *ctr_network(const json_t *doc);
bool ctr_wants_netns(const json_t *doc);

/* life.c: lock held, keeper gone (or waiting for us): the exit is recorded, what it left swept, with --rm all removed. */
FALLIBLE ctr_end(struct engine *e, const char *id, json_t *doc);
/* The end of what its record calls running, in doc only: it is being recorded just now, or cannot be (a read-only disk). */
void ctr_show_end(struct engine *e, const char *id, json_t *doc);
/* start.c: everything up to a keeper that waits for go, then go. on_ready (may be NULL) runs between. Lock held. */
FALLIBLE ctr_start(struct engine *e, const char *id, json_t *doc, struct err *(*on_ready)(void *ctx), void *ctx);
/* hosts.c: the names of a network of the user's in /etc/hosts of all these containers, as they are now. */
FALLIBLE ctr_hosts_refresh(struct engine *e, char *const *ids);
/* reconcile.c. Its record says that it runs, or it was started and should have gone with its keeper; home_fd: its directory. */
bool ctr_was_started(const json_t *doc, int home_fd);
/* reconcile.c: at engine_open. */
FALLIBLE engine_reconcile(struct engine *e);
