/*
 * oci.h - the OCI command line (crun- and runc-compatible): containers in a state directory, as podman,
 * containerd, docker and buildah call a runtime.
 *
 * ROOT/<id>/: status (what we know, JSON), config.json (the configuration as it was at create), start (the
 * socket by which a created container is started; gone afterwards). Whoever changes a container holds a lock
 * on its directory; reading and signalling need none, so that a hook can ask for the state of the container
 * it runs for. See docs/formats/runtime.md. Messages that callers match on are runc's ("container not
 * running", "container does not exist", "already exists"). Layer: runtime.  Specification: runtime-spec
 * runtime.md; opencontainers/runtime-tools command-line-interface.
 */
#pragma once
#include "base/buf.h"
#include "codec/json.h"
#include "runtime/oci_opt.h"
#include "runtime/runtime.h"

enum oci_manager { OCI_CGROUPFS, OCI_SYSTEMD, OCI_NO_CGROUPS };
/* The global options. */
struct oci {
	const char *program; /* as we were called: "crun" through a link of that name */
	const char *root, *log, *log_format, *log_level, *criu;
	const char *manager_name, *rootless_text;
	enum oci_manager manager;
	bool debug, systemd, rootless, version, help;
};
/* The whole program. Returns the exit code. */
int oci_main(int argc, char *argv[]);

/* ---- oci_log.c: errors as callers read them ---- */

/* --log, --log-format, --log-level. ERR_INVALID; -errno of a file that can't be opened. */
FALLIBLE oci_log_check(struct oci *o);
/* To the log, and to standard error. */
void oci_report(const struct oci *o, const struct err *e);

/* ---- oci_box.c: one container's directory ---- */

enum { OCI_CONFIG_MAX = 4 << 20 };
struct oci_box {
	char *id, *path;
	int dir_fd; /* owned */
	bool locked;
	json_t *state, *config;
	struct buf text;	    /* config as it was read from a bundle; empty otherwise */
	bool is_changed;	    /* config is not what text says any more */
	struct cgroup_set *groups; /* the hierarchies as create found them; owned, may be NULL */
	pid_t pid;		    /* 0: not made yet */
};
#define OCI_BOX  ((struct oci_box){ .dir_fd = -1, .text = BUF(OCI_CONFIG_MAX) })
#define auto_box CLEANUP(oci_box_fini)
enum oci_status { OCI_CREATED, OCI_RUNNING, OCI_PAUSED, OCI_STOPPED };
const char *oci_status_name(enum oci_status s);
void oci_box_fini(struct oci_box *b);
/* Makes and locks the directory. ERR_INVALID bad id; ERR_EXISTS. */
FALLIBLE oci_box_new(const struct oci *o, const char *id, struct oci_box *out_box);
/* ERR_NOT_FOUND "container does not exist". */
FALLIBLE oci_box_open(const struct oci *o, const char *id, bool lock, struct oci_box *out_box);
FALLIBLE oci_box_save(struct oci_box *b);        /* status */
FALLIBLE oci_box_save_config(struct oci_box *b); /* config.json */
FALLIBLE oci_box_remove(struct oci_box *b);
enum oci_status oci_box_status(const struct oci_box *b);
/* The state document of the specification; owned. */
json_t *oci_box_document(const struct oci_box *b);
FALLIBLE oci_box_plan(const struct oci_box *b, struct plan **out_plan);
/* Relative to the hierarchies' roots; "": the container has no control group. */
const char *oci_box_cgroup(const struct oci_box *b);
/* ERR_UNSUPPORTED "… has no control group". */
FALLIBLE oci_box_need_cgroup(const struct oci_box *b);
/* Every id below --root, sorted; those that match an extended regular expression when it is not NULL. Owned
 * list. */
FALLIBLE oci_box_ids(const struct oci *o, const char *regex, char ***out_ids);
/* Start time of a process in clock ticks, which with the pid names it for good; 0: gone or a zombie. */
uint64_t oci_pid_start(pid_t pid);

/* ---- oci_io.c: descriptors, files and sockets that callers hand over ---- */

/*
 * Marks the caller's descriptors 3 … as for the container: N of --preserve-fds (text, may be NULL) and
 * $LISTEN_FDS. To be called before anything of ours is opened. ERR_INVALID: not a number.
 */
FALLIBLE oci_preserve(const char *text, unsigned *out_n);
/* For runtime_stdio.null_streams: which of our standard streams are the null device. A checkpoint cannot hold a file
 * of the host's. */
unsigned oci_null_streams(void);
/* LISTEN_FDS and LISTEN_PID=1 in process.env when we were given such descriptors. */
FALLIBLE oci_listen_env(json_t *process, bool *changed); /* changed: set when it was */
FALLIBLE oci_write_pid(const char *path, pid_t pid); /* path NULL: nothing; replaced whole */
/* Sends fd (borrowed) with a text to the stream socket at path. */
FALLIBLE oci_send_fd(const char *path, const char *text, int fd);
/* Streams stdio of a pty until it ends (run and exec -t in the foreground); then waits. notify: may be NULL.
 */
struct oci_notify;
FALLIBLE oci_wait(struct runtime_proc *proc, int sig_fd, const struct oci_notify *notify, int *out_exit);
/* From now on signals are for the container: owned fd for oci_wait, to be made before the program runs.
 * -errno. */
int oci_signals(void);
FALLIBLE oci_print(const json_t *v);                                      /* to standard output, indented */
FALLIBLE oci_read_json(const char *path, const char *what, json_t **out); /* "-": standard input */

/* ---- oci_notify.c: systemd's readiness protocol, as runc proxies it ---- */

struct oci_notify {
	int fd; /* owned; -1: not wanted */
	pid_t pid;
};
#define OCI_NOTIFY ((struct oci_notify){ .fd = -1 })
/* create: with $NOTIFY_SOCKET the container gets a socket of its own (mount and env of the configuration). */
FALLIBLE oci_notify_prepare(struct oci_box *b);
/* start: listens there, when create prepared it and $NOTIFY_SOCKET is set. */
FALLIBLE oci_notify_open(const struct oci_box *b, struct oci_notify *out_n);
void oci_notify_fini(struct oci_notify *n);
/* One message, if there is one: what systemd may hear of a container is passed on. *out_ready: READY=1 was
 * told. */
FALLIBLE oci_notify_pass(const struct oci_notify *n, bool *out_ready);
/* Until READY=1 or the end of the container. */
FALLIBLE oci_notify_wait(const struct oci_notify *n);

/* ---- oci_cgroup.c: which control group, and who makes it ---- */

/* Decides; into b->state: "cgroup-path", with systemd "scope" and "slice". */
FALLIBLE oci_cgroup_choose(const struct oci *o, struct oci_box *b);
/* The systemd scope around pid; for runtime_stdio.on_born with the box as context. */
struct err *oci_cgroup_born(void *box, pid_t pid);
/* What is limited by a running container's unit, too (update). */
FALLIBLE oci_cgroup_updated(const struct oci_box *b, const json_t *resources);
/* Kills what is left, removes the group and its unit. Idempotent. */
FALLIBLE oci_cgroup_remove(const struct oci_box *b);
/* exec --cgroup: a process of the container into "[CONTROLLERS:]PATH" below its group. ERR_INVALID leaves the
 * container. */
FALLIBLE oci_cgroup_check_sub(const char *text);
FALLIBLE oci_cgroup_join_sub(const char *cgroup, const char *text, pid_t pid);

/* ---- oci_annot.c ---- */

/* ERR_UNSUPPORTED for run.oci.* annotations that we do not obey; adds what $RUN_OCI_SECCOMP_RECEIVER says. */
FALLIBLE oci_annotations(const struct oci_box *b);
const char *oci_annotation(const json_t *config, const char *name); /* NULL: not there */
/* run.oci.delegate-cgroup (v2): the first process into a group of its own below the container's. */
FALLIBLE oci_cgroup_delegate(const struct oci_box *b);

/* ---- create, used by run, restore ---- */

struct oci_create {
	const char *bundle, *config, *pid_file, *console, *preserve, *pidfd_socket;
	bool no_pivot, no_keyring, detach, keep;
};
FALLIBLE oci_read_bundle(const struct oci_create *c, struct oci_box *b);
/* ERR_INVALID: process.terminal without --console-socket or foreground, or --console-socket without a terminal. */
FALLIBLE oci_check_console(const struct oci_create *c, const struct oci_box *b, bool foreground);
/* What the standard streams of a process are, as text, into b->state: a restored container gets its new ones in their place. */
void oci_note_streams(struct oci_box *b, pid_t pid);
/* Frees a container that has ended: group, poststop hooks (a failure is a warning), directory. */
/* Kills every process and returns when they are gone. The first is not our child: gone when its start time is
 * not that. */
FALLIBLE oci_end(const struct oci_box *b);
FALLIBLE oci_forget(const struct oci *o, struct oci_box *b);

/* ---- the commands ---- */

extern const struct oci_cmd oci_cmd_create, oci_cmd_start, oci_cmd_run, oci_cmd_exec, oci_cmd_state,
    oci_cmd_list, oci_cmd_ps, oci_cmd_kill, oci_cmd_delete, oci_cmd_pause, oci_cmd_resume, oci_cmd_update,
    oci_cmd_events, oci_cmd_spec, oci_cmd_features, oci_cmd_checkpoint, oci_cmd_restore, oci_cmd_mounts;
