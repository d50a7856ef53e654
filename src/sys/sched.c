#include "sys/sched.h"
#include "sys/sys.h"
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/sched/types.h collides with sched.h in glibc 2.36; version 0 of the structure */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};
_Static_assert(sizeof(struct attr) == 48, "SCHED_ATTR_SIZE_VER0");

int sys_sched_setattr(pid_t pid, const struct sys_sched *s)
{
	struct attr a = { sizeof a,    s->policy,  s->flags,    s->nice,
			  s->priority, s->runtime, s->deadline, s->period };

	SYS_FAULT("sched_setattr");
	return sys_ret(syscall(SYS_sched_setattr, pid, &a, 0));
}

int sys_sched_setaffinity(pid_t pid, const unsigned long *bits, size_t n_longs)
{
	SYS_FAULT("sched_setaffinity");
	return sys_ret(syscall(SYS_sched_setaffinity, pid, n_longs * sizeof *bits, bits));
}

int sys_ioprio_set(pid_t pid, int value)
{
	SYS_FAULT("ioprio_set");
	return sys_ret(syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, pid, value));
}

int sys_personality(unsigned long persona)
{
	SYS_FAULT("personality");
	return sys_ret(personality(persona));
}

int sys_set_mempolicy(int mode, const unsigned long *nodes, size_t n_longs)
{
	SYS_FAULT("set_mempolicy");
	return sys_ret(
	    syscall(SYS_set_mempolicy, mode, nodes, n_longs ? n_longs * 8 * sizeof *nodes + 1 : 0));
}
