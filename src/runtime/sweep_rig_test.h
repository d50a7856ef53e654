/*
 * sweep_rig_test.h - what the sweeps of the runtime share: the n-th system call of one side fails (or its process ends there), a bundle,
 * commands in processes of their own, what may not be left. One test process has one sweep. Only for tests.
 */
#pragma once
#include "codec/json.h"
#include "harness/t.h"
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

enum { PARENT, CHILD, END = -1 /* instead of an errno: the process ends */ };

/* ---- failing the n-th call of one side ---- */

struct sweep {
	pid_t parent;
	int side, at, os, n, step;
	bool fired;
	char call[64];
};
extern struct sweep *sweep; /* shared with the children */

void rig_start(int side, int os);
void rig_stride(int n); /* after it: every n-th call only (times T_STRIDE); with T_SWEEP each all the same */
/* Another round, one call (or stride) further. false: the last round was the one without a failure. */
bool rig_next(void);
void rig_on(void);	/* from here on calls are counted; off: sys_fault = NULL */
extern unsigned faults; /* so far */
/* With T_SWEEP=all every errno; else these few. 0 ends the list. */
const int *rig_errnos(const int *few);

#define SWEEP_CHECK(cond, ...)                                                                                        \
	((cond) ? (void)0 :                                                                                           \
		  (fprintf(stderr, "%s side, call %d (%s), errno %d: ", sweep->side ? "child" : "parent", sweep->at,      \
			   sweep->call, sweep->os),                                                                       \
		   t_fail(__FILE__, __LINE__, __VA_ARGS__)))

/* All that the configuration wants, as the program sees it. (Devices may be bound where mknod is refused.) */
#define TELL                                                                                                        \
	"grep -E 'Cap|Seccomp:|NoNew|^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f5,6 /proc/self/mountinfo |"      \
	"grep -vE '^/dev/(null|zero|full|u?random|tty) '; ls /dev; pwd; umask; hostname; ulimit -c;"                \
	"cat /proc/self/oom_score_adj /proc/sys/kernel/shm_rmid_forced; ls -l /proc/self/fd | wc -l;"               \
	"cat /proc/keys | wc -c; ls /sys/firmware | wc -l; cut -d: -f3 /proc/self/cgroup"


void rig_root(void); /* busybox as "root"; skips the test where it cannot be */
void rig_write_spec(const char *script);
json_t *rig_spec(const char *script); /* owned */
/* The container's name and control group: one per test process. */
const char *rig_group(void);
#define GROUP rig_group()
int rig_groups_left(void);
void rig_nothing_left(void);

/* oci_main with these words (NULL ends them) in a process of its own; what it says goes to the file "said". Its exit status. */
int rig_command(int with_fault, ...);
bool rig_said_something(void);
void rig_show_said(void);
void rig_reap(void);   /* orphans of a killed runtime come to us */
void rig_bundle(void); /* root, config.json of a program that sleeps, state directory */
void rig_state_empty(void);
void rig_clear(void); /* whatever happened: one forced deletion and all is as before */
