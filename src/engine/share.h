/*
 * share.h - what a container takes from another one that runs: --ipc container:NAME means its /dev/shm, too.
 *
 * docker's rule: the other one must have said --ipc shareable. Layer: engine (internal).
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/engine.h"
#include <sys/types.h>

/* mode: "container:NAME", else *out_pid is 0. what: "network", "IPC", "PID", for the message. ERR_CONFLICT it does not run. */
FALLIBLE share_target(struct engine *e, const char *mode, const char *what, pid_t *out_pid);
/* mode is an IpcMode: whether the container it names may be joined. ERR_CONFLICT. */
FALLIBLE share_check_ipc(struct engine *e, const char *mode);
/*
 * A shareable container's /dev/shm is a mount that its keeper holds, so that others can have it: made by who starts the container
 * (an owned fd, detached; bytes 0: docker's 64 MiB), told of in RUN/<id>/shm, and found there by who joins (owned path; NULL: it
 * has none of its own).
 */
FALLIBLE share_shm_make(int64_t bytes, int *out_fd);
FALLIBLE share_shm_tell(int run_fd, int keeper, int fd);
FALLIBLE share_shm_find(struct engine *e, const char *mode, char **out_path);
