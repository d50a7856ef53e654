/*
 * launch.h - what the making of a container (create.c) and what enters one later (enter.c: exec, mounts) share: one child of ours
 * between its birth and its program, and the words with it.
 *
 * Layer: runtime, private.  Threads: one.
 */
#pragma once
#include "runtime/child.h"
#include "runtime/runtime.h"
#include "runtime/sources.h"

enum { NS_MAX = 8 };

/* What a creation holds until the child has it all. */
struct launch {
	const struct plan *p;
	struct child child;
	int ns_fds[NS_MAX];
	struct cgroup_set groups;
	struct sources sources;
	int sync; /* our end */
	pid_t pid;
	uint64_t start_time;
	int pid_fd, tty_fd;
	bool in_group; /* the child was born in it */
	bool has_rdt;
	bool has_group; /* we made it; someone else's stays when we fail */
	const struct runtime_stdio *io;
};
void launch_init(struct launch *l, const struct plan *p, const struct runtime_stdio *io);
void launch_fini(struct launch *l);	/* closes; kills nothing */
FALLIBLE launch_pair(struct launch *l); /* the socket pair */
/* What the child cannot reach from inside any more. */
FALLIBLE launch_helpers(struct launch *l);
void launch_labels(struct launch *l); /* which labels have an effect here; warnings about the others */
/*
 * The child is born in the pid namespace of ns_fd (-1: in ours), which is entered by us, for the next child; run never returns.
 */
FALLIBLE launch_clone(struct launch *l, int ns_fd, pid_t (*clone)(struct launch *l, uint64_t flags), uint64_t flags,
		      void (*run)(struct child *c));
FALLIBLE launch_go(struct launch *l);	 /* says "go" */
FALLIBLE launch_ready(struct launch *l); /* until the child is ready; its terminal comes along */
/* By us, who may more than the process. */
FALLIBLE launch_scheduling(const struct launch *l);
/* The next report; *out_fd a descriptor with it (owned) or -1. The end of the socket is kind 0. */
FALLIBLE launch_hear(int sync, struct child_report *out_r, int *out_fd);
FALLIBLE launch_error(const struct child_report *r); /* CHILD_ERROR, CHILD_REFUSED: as an error of ours */
/* What the child said while we failed at something else says more than our own error, which is freed then. */
struct err *launch_better_error(struct launch *l, struct err *e);
void launch_kill(struct launch *l);	/* and reaps, whatever is there */
void launch_hand_out(struct launch *l, struct runtime_proc *out_proc); /* moves the descriptors out */
