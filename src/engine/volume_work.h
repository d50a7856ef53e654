/*
 * volume_work.h - work in progress on one volume: its lock, its mark for a crash, and what is moved into it
 * as a whole.
 *
 * A file ROOT/volumes/.work/<name> is both: flocked while somebody makes, fills or removes the volume, and,
 * when nobody holds it, the sign that the work was cut. Whoever takes it then, at the next use or the next
 * open, ends that work: a removal is completed, content that was staged whole is moved in, content that was
 * not is dropped, so that it is copied again. Layer: engine (internal).  Threads: any.  Blocks: for the lock
 * of one volume; who has one waits for nothing else.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/engine.h"
#include "state/db.h"
#include <stdbool.h>
#include <stdint.h>

#define VOLUME_NAME_MAX 255

struct volume_work {
	struct engine *e;
	char name[VOLUME_NAME_MAX + 1];
	int lock;     /* -1: none */
	bool is_kept; /* the mark stays for the next one: something is not ended */
};
/* Waits for the lock; what a crash left has been ended when it returns. Ended by volume_work_end. */
FALLIBLE volume_work_begin(struct engine *e, const char *name, struct volume_work *out_w);
void volume_work_end(struct volume_work *w);
/* From now on a crash means: the record, if it is gone, took the directory with it. */
FALLIBLE volume_work_doom(struct volume_work *w);

/* volume_fill.c: moves content as a whole into a volume. */
struct volume_dirs {
	int data;  /* owned fd of what containers see */
	int stage; /* owned fd of the directory on the same file system where content is made ready */
};
void volume_dirs_fini(struct volume_dirs *d);
/* doc: the volume's record. ERR_UNSUPPORTED for one that is a file system of its own, mounted by containers
 * only. */
FALLIBLE volume_dirs_open(struct engine *e, const json_t *doc, struct volume_dirs *out_d);
bool volume_is_empty(const struct volume_dirs *d);
/* What directory from holds, as a whole; for a volume that is empty. */
FALLIBLE volume_fill(struct volume_work *w, struct volume_dirs *d, int from);
/* An empty directory to make content in; owned fd. Then the first of the next two, and on error the second. */
FALLIBLE volume_stage(struct volume_work *w, struct volume_dirs *d, int *out_fd);
/* The staged content is on disk, and goes into the volume: over what is there, or only beside it. */
FALLIBLE volume_stage_commit(struct volume_work *w, struct volume_dirs *d, int stage_fd, bool over);
void volume_stage_drop(struct volume_dirs *d);
/* What was cut: whole content goes in, other content goes. */
FALLIBLE volume_stage_settle(struct volume_dirs *d);

/* volume.c: the record with what is ours in it ("Hoy…"); NULL when there is none. Owned. */
FALLIBLE volume_get_in(struct db_txn *txn, const char *name, json_t **out_doc);
FALLIBLE volume_get(struct engine *e, const char *name, json_t **out_doc);
/* As volume_create, with the whole record. */
FALLIBLE volume_make(struct engine *e, const json_t *body, json_t **out_doc);
/* Its directory and _data in it, made if they are not there. */
FALLIBLE volume_make_directories(struct engine *e, const char *name);
/*
 * Keeps a volume from being removed until the fd (owned) is closed: for who makes a container, until its
 * record says that it uses the volume. *out_doc: its record, owned; NULL (and no fd) when it was removed
 * before.
 */
FALLIBLE volume_hold(struct engine *e, const char *name, int *out_fd, json_t **out_doc);
/* What a creation of this container that was cut made for it alone. */
FALLIBLE volume_forget_of(struct engine *e, const char *container_id);
/* As volume_remove; this container's use of it does not count. */
FALLIBLE volume_remove_with(struct engine *e, const char *name, const char *container_id);
/* At engine_open: everything that was cut and that nobody works on. */
FALLIBLE volume_reconcile(struct engine *e);
