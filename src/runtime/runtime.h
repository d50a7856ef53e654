/*
 * runtime.h - our OCI runtime as a library: an OCI bundle configuration in, a process in its isolation out.
 *
 * spec (JSON, runtime-spec 1.x) -> struct plan (data, printable, position-independent) -> child. The keeper and the
 * hoy-runtime command line both use this. Between clone3 and execve only runtime/child runs: no malloc, no locks, no stdio.
 * Layer: runtime.  Threads: one container is handled by one thread at a time.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "codec/json.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RUNTIME_SPEC_VERSION "1.3.0" /* the newest configuration we know all of */

struct plan; /* opaque: what the child will do, in order */

struct plan_opts {
	const char *id;		/* container id */
	const char *bundle;	/* relative root.path is resolved against it; NULL: must be absolute */
	const char *const *lower; /* engine: overlay layers, topmost first; NULL: root.path as it is */
	const char *upper, *work; /* NULL: read-only view of lower */
	bool is_volatile;
	bool is_user; /* the layers have user attributes for overlayfs (fs_marks_are_user) */
	bool no_pivot, no_keyring; /* as runc's --no-pivot, --no-new-keyring */
	bool die_with_parent; /* SIGKILL when the creating thread ends: what the keeper wants */
	bool default_seccomp; /* our built-in profile, shaped by the process's capabilities; a profile in the spec wins */
	bool oci_annotations; /* the configuration's run.oci.* annotations are orders, as for crun */
	const json_t *container; /* plan_compile_exec: the container's configuration (borrowed), for what
				    holds for each process */
	bool no_cgroup; /* none at all; ERR_INVALID when something is limited */
	const char *cgroup_path; /* relative to the cgroup root, e.g. "hoy/<id>"; NULL: linux.cgroupsPath, else "/<id>" */
};
/* Compiles a specification. ERR_INVALID names the JSON path ("process.cwd: not absolute"); ERR_UNSUPPORTED. Owned. */
FALLIBLE plan_compile(const json_t *spec, const struct plan_opts *o, struct plan **out_plan);
void plan_free(struct plan *p);
/* As flat bytes (for a memfd to the keeper) and back; unpack checks bounds. Same build on both sides. */
void plan_pack(const struct plan *p, struct buf *out);
FALLIBLE plan_unpack(const void *bytes, size_t n, struct plan **out_plan);
/*
 * Lowers that are mounts of another process ("/proc/PID/fd/N", which must still live) become copies of our own, lower i as fd
 * RUNTIME_LAYER_FD + i, for as long as we live: so that the container can start again, and others can copy them from us. Those
 * that are described (FS_LOWER_EROFS) are mounted so, anew for each start. So do the sources of mounts with the option hoy.held,
 * behind the lowers.
 */
#define RUNTIME_LAYER_FD 64
FALLIBLE runtime_hold_layers(struct plan *p, bool is_held); /* is_held: they are, from an earlier plan of the same container */
/* For people and golden tests: one line per step. */
void plan_print(const struct plan *p, struct buf *out);

/* stdin, stdout, stderr of the container (borrowed; -1: /dev/null). With process.terminal the pty's slave is opened inside
 * and the master comes back in runtime_proc.tty_fd. */
struct cgroup_set;
struct runtime_stdio {
	int fd[3];
	unsigned null_streams;	/* bit i: fd[i] is the host's null device; the container's own instead, where it has one */
	int listen_fd;		/* > 0: the start comes by a connection to this socket, perhaps of another process */
	bool one_shot;		/* exec: the caller ends soon, so it may join the container's user namespace for good */
	unsigned preserve_fds;	/* how many fds from 3 on reach the program */
	/*
	 * The caller's own step once the process exists and waits; NULL: none. create: before its control group is made, which
	 * then may be there with the process in it (a systemd scope). exec: when it has joined the container's group.
	 */
	struct err *(*on_born)(void *ctx, pid_t pid);
	void *ctx;
	struct cgroup_set *out_groups; /* create: the hierarchies that it found; may be NULL (borrowed) */
};
struct runtime_proc {
	pid_t pid;	/* in our pid namespace */
	uint64_t start_time; /* clock ticks since boot; 0: /proc did not tell */
	int pid_fd;	/* owned */
	int tty_fd;	/* owned pty master, or -1 */
	int go_fd;	/* owned; between create and start, else -1 */
};
/*
 * Everything but process.args: namespaces, cgroup, mounts, devices, masks, capabilities, seccomp. The child waits.
 * net_fd: a network namespace to join instead of what the spec says (borrowed; -1: as the spec says).
 * On error nothing is left behind (cgroup, processes).
 */
FALLIBLE runtime_create(const struct plan *p, const struct runtime_stdio *io, int net_fd, struct runtime_proc *out_proc);
/* Lets it exec; returns after execve succeeded. ERR_NOT_FOUND/ERR_DENIED with the program's name when it could not. */
FALLIBLE runtime_start(struct runtime_proc *proc);
/* The same by a connection to runtime_stdio.listen_fd's socket (borrowed), from whatever process. */
/* ERR_CANCELLED (also from runtime_create): a hook failed, and the container is to be destroyed. */
FALLIBLE runtime_start_by(int sync_fd);
/* Runs the "poststart" or "poststop" hooks; status as in the state document. ERR_CANCELLED names those that
 * failed. */
FALLIBLE runtime_hooks(const struct plan *p, const char *which, const char *status, pid_t pid);
void runtime_proc_fini(struct runtime_proc *proc); /* closes fds; kills nothing */
/* Kills what is left in the cgroup and removes it. Idempotent. */
FALLIBLE runtime_cleanup(const struct plan *p);

/* A further process in a running container (exec): its namespaces and cgroup, process as in OCI process JSON. */
FALLIBLE plan_compile_exec(const json_t *process, const struct plan_opts *o, pid_t container_pid, struct plan **out_plan);
FALLIBLE runtime_exec(const struct plan *p, pid_t container_pid, const struct runtime_stdio *io,
		      struct runtime_proc *out_proc);

/*
 * Mount i of the plan (of the container's configuration) into the running container, with all that it can at creation but
 * "remount", control groups and links that are to be copied: ERR_UNSUPPORTED, as is a container without a mount namespace of
 * its own. The plan is changed: what only we can reach is opened by us.
 */
FALLIBLE runtime_mount(struct plan *p, size_t i, pid_t container_pid);

/*
 * cgroup facts and controls by path (v1 and v2). ERR_NOT_FOUND when there is no such group.
 * mem_cache_bytes: file pages that can go at once (inactive_file), what docker subtracts from mem_bytes. Limits: 0 is none.
 * What a missing controller would tell is 0.
 */
struct runtime_stats {
	uint64_t cpu_ns, cpu_user_ns, cpu_system_ns, mem_bytes, mem_cache_bytes, mem_limit_bytes, pids, pids_limit;
	uint64_t io_read_bytes, io_write_bytes;
	uint64_t throttled_ns, throttled_periods, periods;
	bool oom_killed;
};
FALLIBLE runtime_stats(const char *cgroup_path, struct runtime_stats *out_stats);
FALLIBLE runtime_frozen(const char *cgroup_path, bool *out_frozen); /* no freezer: false */
FALLIBLE runtime_freeze(const char *cgroup_path, bool frozen); /* returns when it is; ERR_TIMEOUT after 5 s, thawed again */
FALLIBLE runtime_kill_all(const char *cgroup_path, int signo); /* to every process in it; returns without waiting */
FALLIBLE runtime_pids(const char *cgroup_path, pid_t **out_pids, size_t *out_n); /* owned array */
/* The features document (runtime-spec features.md); owned. */
json_t *runtime_features(void);
/* New limits (linux.resources JSON, borrowed) for a living group; devices are ignored. What was written before an error stays.
 * ERR_INVALID, ERR_UNSUPPORTED as from plan_compile; ERR_CONFLICT: checkBeforeUpdate and more memory is in use. */
FALLIBLE runtime_update(const char *cgroup_path, const json_t *resources);
FALLIBLE runtime_cgroup_remove(const char *cgroup_path); /* kills, then removes; absent is no error */
