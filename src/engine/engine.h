/*
 * engine.h - the library all faces share: one handle over the store, the database, the snapshotter and the networks.
 *
 * Objects cross this seam in the shape of the Docker Engine API's JSON (v1.43 names): create bodies in, inspect and list
 * objects out. So a face translates and decides nothing, and a later API server passes bodies through.
 * Opening reconciles: what a crash left half done is finished or swept before the first operation.
 * Layer: engine.  Threads: calls are re-entrant per handle.  Blocks: yes.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include <stdbool.h>

struct engine;
struct lease;
struct network;
struct engine_opts {
	const char *root; /* NULL: $HOY_ROOT, else /var/lib/hoy */
	const char *run;  /* NULL: $HOY_RUN, else /run/hoy */
	const char *storage_driver; /* NULL: $HOY_STORAGE_DRIVER, else the first that works: snapshot.h */
};
/* Whether there is anything to open: ROOT or RUN. Makes nothing. */
bool engine_exists(const struct engine_opts *o);
FALLIBLE engine_open(const struct engine_opts *o, struct engine **out_engine);
void engine_close(struct engine *e);
char *engine_meta_path(const struct engine_opts *o); /* of the database, which may not be there yet; owned */
const char *engine_root(const struct engine *e); /* absolute path; borrowed, as all below */
const char *engine_run(const struct engine *e);
int engine_root_fd(const struct engine *e);
int engine_run_fd(const struct engine *e);
struct db *engine_db(struct engine *e);
struct store *engine_store(struct engine *e);
struct snapshotter *engine_snapshotter(struct engine *e);
/*
 * Whoever adds content, or reads much of it, does so under a lease (content/lease.h): what the store and the snapshotter find or make from
 * now on stays until *out_leased, which is e, is given back (auto_leased). Within one another they are one, which all threads share. The
 * last end removes what a sweep had to leave because of it.
 */
FALLIBLE engine_lease_begin(struct engine *e, struct engine **out_leased);
void engine_lease_end(struct engine *leased); /* NULL: nothing */
struct lease *engine_lease(const struct engine *e); /* borrowed; NULL: there is none */
/* The storage driver of an image's topmost layer (diff ids bottom first, as in a config). */
const char *engine_image_driver(struct engine *e, char *const *diff_ids);
FALLIBLE engine_network(struct engine *e, struct network **out_network); /* opened at first use */
/* The path of a sibling program ("hoy-keeper"): beside our own binary, else in the libexec directory. Owned. */
FALLIBLE engine_program(const char *name, char **out_path);

static inline void own_engine(struct engine **slot)
{
	engine_close(*slot);
}
#define auto_engine __attribute__((cleanup(own_engine)))
static inline void own_leased(struct engine **slot)
{
	engine_lease_end(*slot);
}
#define auto_leased __attribute__((cleanup(own_leased), unused))

/* docker version / docker info shaped objects. Owned. */
FALLIBLE engine_info(struct engine *e, json_t **out_info);
/* Everything hoy has on this host now (processes, links, table, sysctls, directories): one line each; owned list. */
FALLIBLE engine_footprint(struct engine *e, char ***out_lines);
/* Waits a little, then takes down networks that no container uses; for a process that nobody waits for. */
FALLIBLE engine_collect(const struct engine_opts *o);
/* Removes all of it: containers, networks, images, volumes, ROOT and RUN themselves. */
FALLIBLE engine_reset(struct engine *e);
