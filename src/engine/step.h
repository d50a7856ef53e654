/*
 * step.h - one process in a root file system, waited for: what a RUN instruction needs. No record, no keeper.
 *
 * The process dies with the caller (pdeathsig); the network namespace goes with both; what else a kill -9 leaves (cgroup, address,
 * RUN/<id>) the next open ends, as it does for a container whose keeper died.
 * Layer: engine.
 */
#pragma once
#include "base/err.h"
#include "engine/engine.h"
#include "snapshot/snapshot.h"

struct step_mount {
	const char *source; /* absolute host path (file or directory), bound at target; NULL: text or tmpfs */
	const char *target;
	bool read_only;
	const char *text; /* a file with this text, kept on RUN's tmpfs while the step runs; NULL: tmpfs */
	unsigned mode, uid, gid; /* of that file */
};
/* A connected network namespace that steps can share: making one costs more than most steps do. */
struct step_net;
FALLIBLE step_net_open(struct engine *e, struct step_net **out_net);
void step_net_close(struct step_net *n); /* the address and the namespace go; NULL is fine */

struct step {
	const struct rootfs *rootfs;
	char *const *args;
	char *const *env;
	const char *cwd, *user;	  /* "" or NULL: / and root; user as in Dockerfile USER, resolved in the rootfs */
	const char *network;	  /* "bridge" (NULL), "none", "host" */
	struct step_net *net;	  /* what "bridge" means; borrowed. NULL: one of its own, made and swept here */
	const struct step_mount *mounts;
	size_t n_mounts;
	bool host_ca;		  /* trust the host's CA bundle inside, leaving nothing in the upper directory */
	bool privileged;
	int stdio[3];		  /* borrowed; -1: /dev/null */
	int cancel_fd;		  /* > 0: when it becomes readable, or its other end goes, the process is killed; borrowed */
};
/* out_code: exit status (128 + signal when killed). Mount points it had to create in the upper are removed again. */
FALLIBLE step_run(struct engine *e, const struct step *s, int *out_code);
