/*
 * sched.h - scheduling, affinity, I/O priority, personality and memory policy of a process: >= 0 or -errno,
 * no policy.
 *
 * Everything here is safe between clone and execve. pid 0 is the caller. Layer: sys.
 * Source: sched_setattr(2), sched_setaffinity(2), ioprio_set(2), personality(2), set_mempolicy(2).
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sys_sched {
	uint32_t policy;                    /* SCHED_* */
	uint64_t flags;                     /* SCHED_FLAG_* */
	int32_t nice;                       /* OTHER, BATCH */
	uint32_t priority;                  /* FIFO, RR */
	uint64_t runtime, deadline, period; /* DEADLINE, ns; period 0: the deadline */
};
int sys_sched_setattr(pid_t pid, const struct sys_sched *s);
int sys_sched_setaffinity(pid_t pid, const unsigned long *bits, size_t n_longs);
int sys_ioprio_set(pid_t pid, int value); /* class << 13 | level */
int sys_personality(unsigned long persona);
int sys_set_mempolicy(int mode, const unsigned long *nodes, size_t n_longs);
