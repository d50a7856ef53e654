/*
 * child.h - what runs between clone and execve: no malloc, no locks, no stdio, every failure told to the parent.
 *
 * Layer: runtime, private.  The plan and everything it points to is the parent's memory, copied by clone.
 */
#pragma once
#include "runtime/cgroup.h"
#include "runtime/plan.h"

struct child {
	const struct plan *p;
	int sync;	/* our end of the socket pair to the parent */
	int listen_fd;	/* > 0: the start comes by a connection to it */
	int hook_out[2]; /* for what hooks print, or -1 */
	bool has_apparmor, has_selinux; /* the plan's labels take effect on this kernel */
	int agent;       /* socket of the seccomp agent, or -1 */
	int net_fd;	/* network namespace to join, or -1 */
	int target_fd;	/* exec: pidfd of the container's process */
	int *born;	/* exec: what runs the program is born at the very end, as our sibling; its pid, shared with the parent. NULL: we run it */
	bool is_late;	/* the container runs: no path can be trusted, not even /proc */
	bool no_rights;	/* exec: the caller had to join the container's user namespace first */
	int target_ns;	/* exec: its namespaces to join, CLONE_NEW* */
	int target_root; /* exec: the root to enter when the mount namespace is ours; -1 otherwise */
	unsigned preserve_fds;
	int stdio[3];
	unsigned null_streams; /* as in runtime_stdio */
	const int *ns_fds; /* of p->ns entries with a path; -1 otherwise */
	const struct cgroup_set *groups; /* the hierarchies */
	bool joins;			 /* v1: the child joins its groups by itself */
	const int *mount_fds; /* per mount of the plan, what the parent opened for it; see sources.h. -1: nothing */
	int root_mount_fd;    /* the same for the root */
	int devices_fd;       /* nodes that the parent made; see sources.h. -1: none */
	pid_t pid;	   /* as the parent sees us */
	uint64_t permitted; /* capabilities, once we are the user */
	uint64_t ignored; /* signals that we were born with ignored: n is bit n - 1 */
	int root_fd;	   /* of the new root, from child_rootfs on */
	int dev_fd;	   /* its /dev, when that is a tmpfs which we have just mounted; else -1 */
	int proc_fd;	   /* our own /proc, once child_proc was asked; -1 before */
	int tty_fd;	   /* slave, or -1 */
};

/* One message in either direction on the sync socket. */
enum child_msg {
	CHILD_GO = 'G',    /* parent: namespaces and cgroup are ready; os: our pid; text: ignored signals, 8 bytes */
	CHILD_START = 'S', /* parent: execute */
	CHILD_TTY = 'T',   /* the pty master comes along */
	CHILD_READY = 'R', /* all but the execve is done */
	CHILD_EXEC = 'X',  /* execve comes next: the end of the socket now means success */
	CHILD_ERROR = 'E',
	CHILD_REFUSED = 'H' /* the same: a hook failed */
};
struct child_report {
	char kind;
	int os;
	char text[240];
};

_Noreturn void child_run(struct child *c);
/* exec: born in the container's pid namespace, joins its other namespaces. */
_Noreturn void child_run_exec(struct child *c);

/* mounts add: born in the container's pid namespace, joins its others, places the plan's mounts and ends. */
_Noreturn void child_run_mounts(struct child *c);

/* Reports "what name: <os>" and ends the process. */
_Noreturn void child_fail(const struct child *c, int os, const char *what, const char *name);
/* Reports that a hook failed (result as of hook_run) and ends the process. */
_Noreturn void child_refuse(const struct child *c, const char *kind, const struct plan_hook *h, int result);
/* r < 0: child_fail. Returns r. */
int child_need(const struct child *c, int r, const char *what, const char *name);
/*
 * An owned descriptor of the set-up. Closing them one by one was a quarter of all system calls: small numbers stay open until
 * a call or two close them all, before the child waits for its start.
 */
#define child_fd CLEANUP(child_drop)
void child_drop(const int *fd);

/* Concatenates up to three texts; cut when too long. */
void child_cat(char *out, size_t size, const char *a, const char *b, const char *d);
/* "/proc/self/fd/7" */
void child_fd_path(int fd, char out[40]);

/*
 * child_proc.c: a /proc of our own that no mount of the container can redirect (CVE-2019-19921, CVE-2025-52881). The first call
 * must come while we still see the host's mounts; a later one uses what that opened. Fails the child on error.
 */
int child_proc(struct child *c);
/* Writes text to a file of it ("self/attr/exec", "sys/net/…"); what: for the error. */
void child_proc_write(struct child *c, const char *path, const char *text);

/* child_root.c: the root file system, masks; then pivot. child_mount.c: mounts. child_dev.c: devices, terminal. */
void child_rootfs(struct child *c);
void child_mounts(struct child *c);
void child_devices(struct child *c);
void child_console(struct child *c);
void child_masks(struct child *c);
void child_pivot(struct child *c);
enum {
	TARGET_DIR = 1,	     /* a directory when it must be made, else a file */
	TARGET_NO_LINKS = 2, /* no symbolic link on the way */
	TARGET_OPEN = 8,     /* a directory that must be made is for everybody, as /tmp is */
	TARGET_NOFOLLOW = 4, /* a symbolic link at the end is the target itself */
};
/*
 * An O_PATH fd of the mount point `path` inside root_fd, made when missing (also behind a link that points to nothing yet, as
 * /etc/resolv.conf often does); fails the child on error. Owned.
 */
int child_target(const struct child *c, const char *path, unsigned how);
int child_mkdirs(int root_fd, const char *path);
/* child_copy.c: the tree of directory from_fd into to_fd. 0 or -errno. */
int child_copy_tree(int from_fd, int to_fd);

/* child_policy.c */
void child_clocks(const struct child *c);
void child_policy(const struct child *c);
void child_home(struct child *c); /* inside the root */
void child_labels(struct child *c); /* of the next execve; child_proc was asked while the host's /proc was in sight */

/* hook.c: usable by both sides. 0, -errno, or the hook's exit status > 0. state_fd: a file, for its stdin. */
int hook_run(const struct plan_hook *h, int state_fd, const int out[2]);
/* The state document in pieces; digits: room for the pid. */
enum { HOOK_STATE_PARTS = 7 };
void hook_state(const struct plan *p, const char *status, pid_t pid, char digits[12],
		const char *out_parts[HOOK_STATE_PARTS]);
/* The files for what hooks print: owned, -1 where there is none. On error *out_path is the one that cannot be
 * opened. */
int hook_open_out(const struct plan *p, int out[2], const char **out_path);
/* The same from one of them on. */
int hook_run_from(const struct plan *p, enum hook_kind kind, size_t from, const char *status, pid_t pid,
		  const int out[2], int *out_result);
/* Runs a list in order; -1 or the index of the one that failed; *out_result as hook_run. */
int hook_run_all(const struct plan *p, enum hook_kind kind, const char *status, pid_t pid, const int out[2],
		 int *out_result);
