/*
 * container.h - containers: create, start, stop and everything between, as the faces call it.
 *
 * A container is a record in the database (its inspect object, API shape ContainerInspectResponse without live state) and,
 * while it lives, a keeper process that owns its live state in RUN/<id>/. `text` parameters take a name, an id or a unique
 * id prefix: ERR_NOT_FOUND "No such container: …".
 *
 *	created --start--> running --exit--> exited --start--> running …   (paused: running with the freezer on)
 *
 * Layer: engine.  Threads: re-entrant; one container's transitions are serialised by a lock file in RUN.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "codec/json.h"
#include "codec/zip.h"
#include "engine/engine.h"
#include "engine/image.h"

/*
 * body: Docker API ContainerCreate body (Config fields at top level, HostConfig, NetworkingConfig), plus our own
 * HostConfig."HoyHostCA" (bool). name NULL: one is made up. Unknown or unsupported fields that would change behaviour are
 * ERR_UNSUPPORTED, never dropped. The image must be present (engine_image_ensure before). out_id owned (64 hex).
 */
FALLIBLE container_create(struct engine *e, const char *name, const json_t *body, char **out_id);
/* Returns when the program was executed. ERR_NOT_FOUND / ERR_DENIED as the program could not be run (exit 127 / 126). */
FALLIBLE container_start(struct engine *e, const char *text);
/* stop signal, then SIGKILL after seconds (negative: the container's own StopTimeout, else 10). */
FALLIBLE container_stop(struct engine *e, const char *text, int seconds);
FALLIBLE container_restart(struct engine *e, const char *text, int seconds);
FALLIBLE container_kill(struct engine *e, const char *text, int signo);
FALLIBLE container_pause(struct engine *e, const char *text, bool pause);
FALLIBLE container_rename(struct engine *e, const char *text, const char *name);
struct container_rm {
	bool force, volumes;
};
FALLIBLE container_remove(struct engine *e, const char *text, struct container_rm how);
/* Blocks until it is not running; its exit code. */
FALLIBLE container_wait(struct engine *e, const char *text, int *out_code);
/* The full id of text; owned. */
FALLIBLE container_resolve(struct engine *e, const char *text, char **out_id);
FALLIBLE container_inspect(struct engine *e, const char *text, json_t **out_object); /* with live State */
/* API ContainerSummary array; filters: API form {"status":["running"],…} or NULL; all: also not running ones. */
FALLIBLE container_list(struct engine *e, bool all, const json_t *filters, json_t **out_array);

struct container_logs {
	bool follow, timestamps, want_stdout, want_stderr;
	long tail;			/* last n lines; -1: all */
	int64_t since_ns, until_ns;	/* 0: no bound */
	struct err *(*chunk)(void *ctx, int stream, const char *p, size_t n); /* stream 1 or 2 */
	void *ctx;
};
FALLIBLE container_logs(struct engine *e, const char *text, const struct container_logs *o);

/* Connects fds (borrowed; -1: none) with a running container until it exits or its streams end; resizes with SIGWINCH when
 * tty. To miss nothing: attach_open before container_start. out_detached: left by the detach keys (ctrl-p,ctrl-q). */
struct container_stdio {
	int in, out, err;
	bool is_tty, sig_proxy;
	const char *detach_keys; /* NULL: ctrl-p,ctrl-q */
};
struct attach;
FALLIBLE container_start_attached(struct engine *e, const char *text, const struct container_stdio *io, bool *out_detached,
				  int *out_code);
FALLIBLE container_attach(struct engine *e, const char *text, const struct container_stdio *io, bool *out_detached,
			  int *out_code);

/* body: API ExecConfig (Cmd Env User WorkingDir Tty Privileged AttachStdin… Detach). out_code: of the command. With Detach it is
 * a child of the container's keeper. */
FALLIBLE container_exec(struct engine *e, const char *text, const json_t *body, const struct container_stdio *io,
			int *out_code);
/*
 * The same for a program: without a terminal and input, both outputs into out (borrowed, at most max_bytes; the rest is dropped),
 * killed after timeout_ns: then *out_late, and the code is 137.
 */
FALLIBLE container_exec_capture(struct engine *e, const char *text, const json_t *body, int64_t timeout_ns, size_t max_bytes,
				struct buf *out, int *out_code, bool *out_late);
/* Called by `hoy keeper-health ID`, which the keeper starts when a health check is due: runs it, notes its outcome. ERR_CONFLICT
 * there is nothing to check now. out_is_starting: neither healthy nor unhealthy yet. */
FALLIBLE container_probe(struct engine *e, const char *id, bool *out_is_starting);
/* Called by `hoy keeper-exec ID`, which the keeper starts for a body with Detach; sock (borrowed): to who gave that (supervise/conf.h). */
FALLIBLE container_exec_detached(struct engine *e, const char *id, int sock);
/* One sample, API shape reduced: {cpu_percent, mem_usage, mem_limit, net_rx, net_tx, blk_read, blk_write, pids}. */
FALLIBLE container_stats(struct engine *e, const char *text, json_t **out_stats);
FALLIBLE container_top(struct engine *e, const char *text, char *const *ps_args, json_t **out_table); /* Titles, Processes */
/* An owned fd of its root with what is mounted in it: live (through /proc/PID/root), or put together for us when it does not run. For cp. */
FALLIBLE container_root(struct engine *e, const char *text, bool writable, int *out_root_fd);
/* The same to read from, without what only a running one has: /proc, /sys, /dev, tmpfs. For all of it at once. */
FALLIBLE container_files(struct engine *e, const char *text, int *out_root_fd);
/* What it changed in its image's files, in order of paths: kind 'A' added, 'C' changed, 'D' deleted. Mount points do not count. */
FALLIBLE container_changes(struct engine *e, const char *text, struct err *(*each)(void *ctx, char kind, const char *path), void *ctx);
/* Its file system as a plain tar, without what is mounted in it; also while it runs. */
FALLIBLE container_export(struct engine *e, const char *text, struct zip_sink sink);
/* Called by `hoy keeper-exit ID` which the keeper starts after the last exit: records the exit, frees the network, --rm. */
FALLIBLE container_reap(struct engine *e, const char *id);
