/*
 * lease.h - content that somebody needs before a name in the database says so.
 *
 * Who adds content, or builds on what is there, has a lease: a file in ROOT/tmp, flocked while its owner lives, with a line for each
 * digest, of a blob or a layer, that must stay. ROOT/content.lock orders the two sides: a line is written under it shared, and
 * a sweep takes it alone for as long as it decides (leases_stop). So after lease_hold content is there and stays until lease_end,
 * or it was not there. A sweep reads the leases before the names: what left a lease meanwhile has its name by then.
 *
 * A crash ends a lease: the kernel drops its lock, the next sweep its file.
 * Layer: content.  Threads: a lease is shared.  Blocks: while a sweep decides.
 */
#pragma once
#include "base/err.h"
#include "base/own.h"
#include "codec/digest.h"

struct lease;
/* root_fd borrowed, must outlive the lease: ROOT, whose tmp is there. *out_lease is NULL where the file system is read-only: nobody can
 * sweep there, either. */
FALLIBLE lease_begin(int root_fd, struct lease **out_lease);
/* The other end of one that another process began and handed to us as fd (taken): both hold it, until both have ended it. */
FALLIBLE lease_join(int root_fd, int fd, struct lease **out_lease);
int lease_fd(const struct lease *l); /* borrowed; for handing it down */
/*
 * From now on a sweep keeps what digest names. Not within a write transaction of the database: a sweep waits for one of its own. Never fails: where the line cannot be written (a full disk) no sweep can decide
 * anything until the lease ends. NULL: nobody's lease, nothing is held.
 */
void lease_hold(struct lease *l, const char *digest);
void lease_end(struct lease *l);
OWN_DEFINE(struct lease *, lease, lease_end)
#define auto_lease CLEANUP(own_lease)

/* Until leases_go nobody comes to hold anything. */
struct leases_stop {
	int fd;
	struct lease *own;
};
/*
 * own: the caller's, which must outlive the stop, or NULL: what its thread looks at meanwhile it does not hold. ERR_CONFLICT: that one
 * could not be written, so nothing can be decided while it lasts.
 */
FALLIBLE leases_stop(int root_fd, struct lease *own, struct leases_stop *out_stop);
void leases_go(struct leases_stop *stop);
#define auto_leases CLEANUP(leases_go)
#define LEASES_GOING { .fd = -1 } /* the state in which nobody is stopped */
/* What is held by leases whose owners live, digest by digest, perhaps several times; while they are stopped. */
FALLIBLE leases_each(int root_fd, struct err *(*each)(void *ctx, const char *digest), void *ctx);
/* Whether anybody at all has one. */
FALLIBLE leases_any(int root_fd, bool *out_any);
