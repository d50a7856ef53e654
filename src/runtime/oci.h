/*
 * oci.h - the OCI command line (crun- and runc-compatible): containers in a state directory, as podman, containerd, docker
 * and buildah call a runtime.
 *
 * ROOT/<id>/: state.json (what we know), config.json (the configuration as it was at create), start (the socket by which a
 * created container is started; gone afterwards). A lock on the directory serialises commands for one container.
 * Layer: runtime.  Specification: runtime-spec runtime.md; opencontainers/runtime-tools command-line-interface.
 */
#pragma once
#include "codec/json.h"
#include "runtime/runtime.h"

struct oci {
	const char *root; /* --root */
	const char *log, *log_format;
	bool debug;
	const char *cgroup_manager; /* cgroupfs, disabled */
};
/* The whole program. Returns the exit code. */
int oci_main(int argc, char *argv[]);

/* One container's directory, locked. */
struct oci_box {
	char *id, *path;
	int dir_fd; /* owned; flocked */
	json_t *state, *config;
	pid_t pid;
};
enum oci_status { OCI_CREATING, OCI_CREATED, OCI_RUNNING, OCI_PAUSED, OCI_STOPPED };
const char *oci_status_name(enum oci_status s);
void oci_box_fini(struct oci_box *b);
/* ERR_INVALID bad id; ERR_EXISTS. */
FALLIBLE oci_box_new(const struct oci *o, const char *id, struct oci_box *out_box);
/* ERR_NOT_FOUND "container \"x\" does not exist". */
FALLIBLE oci_box_open(const struct oci *o, const char *id, struct oci_box *out_box);
FALLIBLE oci_box_save(struct oci_box *b);
FALLIBLE oci_box_remove(struct oci_box *b);
enum oci_status oci_box_status(const struct oci_box *b);
/* The state document of the specification; owned. */
json_t *oci_box_document(const struct oci_box *b);
FALLIBLE oci_box_plan(const struct oci *o, const struct oci_box *b, struct plan **out_plan);
const char *oci_box_cgroup(const struct oci_box *b);
/* Start time of a process in clock ticks, which with the pid names it for good; 0: gone or a zombie. */
uint64_t oci_pid_start(pid_t pid);

/* Options of one command line: struct oci_opt rows, filled into strings. */
struct oci_opt {
	const char *name;  /* "bundle" */
	char letter;	   /* 'b' or 0 */
	char kind;	   /* 's' string, 'f' flag, 'l' list, 'i' accepted and without effect here (value), 'x' the same (flag) */
	void *at;	   /* const char **, bool *, char *** */
};
/* Parses argv[*at…]: options up to the first other word. ERR_INVALID "unknown option". */
FALLIBLE oci_options(const struct oci_opt *opts, char *argv[], int *at);

/* oci_create.c */
FALLIBLE oci_create(const struct oci *o, char *argv[], int *out_exit);
FALLIBLE oci_run(const struct oci *o, char *argv[], int *out_exit);
FALLIBLE oci_start(const struct oci *o, char *argv[], int *out_exit);
FALLIBLE oci_exec(const struct oci *o, char *argv[], int *out_exit);
/* Streams stdio of a pty until it ends (run and exec -t in the foreground); then waits. Owned fds stay the caller's. */
FALLIBLE oci_wait(struct runtime_proc *proc, int *out_exit);
FALLIBLE oci_send_console(const char *socket_path, int tty_fd);
