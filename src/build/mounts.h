/*
 * mounts.h - RUN --mount: what a step sees beside its layers.
 *
 * Layer: build, private.
 */
#pragma once
#include "base/vec.h"
#include "build/stage.h"

struct run_mount {
	char *target;
	char *source; /* NULL: text, or tmpfs */
	char *text;   /* of a secret */
	int lock_fd;  /* of a cache, held while it is used; or -1 */
	bool read_only;
	unsigned mode, uid, gid;
	char content[DIGEST_MAX]; /* of a bind: what the step's key depends on; else "" */
};
struct run_mounts {
	VEC(struct run_mount) v;
	char **env; /* of secrets that are variables */
};
void run_mounts_fini(struct run_mounts *m);
/* One --mount flag. ERR_UNSUPPORTED, ERR_INVALID, ERR_NOT_FOUND, with or without place. */
FALLIBLE run_mount_add(struct stage *s, const struct at *at, const char *flag, struct run_mounts *out);
