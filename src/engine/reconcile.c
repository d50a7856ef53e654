/*
 * reconcile.c - at every open: what a crash left is compared with what lives, and ended.
 *
 * Cheap when all is well: one readdir of RUN and one of containers/ against the database. Somebody else's work in progress
 * is recognised by its lock and left alone.
 */
#include "base/own.h"
#include "base/text.h"
#include "engine/ctr.h"
#include "engine/image_store.h"
#include "engine/volume_work.h"
#include "network/network.h"
#include "state/db.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/file.h>

static bool is_id(const char *name)
{
	return strlen(name) == 64 && text_is_hex(sv_of(name));
}

/* RUN/<id> of no container: whoever is just making it (a build step) holds or gets its lock, and then looks whether it still stands. */
static FALLIBLE end_stray(struct engine *e, const char *id)
{
	auto_fd int fd = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0 || sys_flock(fd, LOCK_EX | LOCK_NB) < 0)
		return NULL;
	TRY(ctr_sweep(e, id, NULL));
	return ctr_unmark(e, id);
}

/* A run directory whose keeper is gone without having been reaped. */
static FALLIBLE end_dead(struct engine *e, const char *id)
{
	auto_json json_t *doc = NULL;
	auto_fd int lock = -1;
	struct err *err;

	if (ctr_live(e, id, NULL))
		return NULL;
	err = ctr_lock(e, id, true, &lock);
	if (err && err->kind == ERR_CONFLICT) { /* somebody is at it: being started, stopped or reaped */
		err_free(err);
		return NULL;
	}
	if (err && err->kind == ERR_NOT_FOUND) { /* removed, but for this */
		err_free(err);
		return end_stray(e, id);
	}
	TRY(err);
	if (ctr_live(e, id, NULL))
		return NULL;
	err = ctr_load(e, id, &doc);
	if (err && err->kind == ERR_NOT_FOUND) {
		err_free(err);
		return end_stray(e, id);
	}
	if (err && err->kind == ERR_CORRUPT) { /* for verify, which must be able to open */
		err_free(err);
		return NULL;
	}
	TRY(err);
	return ctr_end(e, id, doc);
}

/* A directory without record: of a creation that did not come to its commit. */
static FALLIBLE end_unnamed(struct engine *e, const char *id)
{
	auto_fd int lock = -1;
	auto_free char *path = NULL;
	bool exists;
	struct err *err;

	TRY(ctr_exists(e, id, &exists)); /* no more than that: it is asked of every container by every command */
	if (exists)
		return NULL;
	err = ctr_lock(e, id, true, &lock);
	if (err) { /* in the making, or gone */
		err_free(err);
		return NULL;
	}
	TRY(ctr_exists(e, id, &exists));
	if (exists)
		return NULL;
	TRY(volume_forget_of(e, id));
	path = ctr_path(e, id, NULL);
	return ctr_remove_tree(AT_FDCWD, path);
}

bool ctr_was_started(const json_t *doc, int home)
{
	struct stat st;

	if (json_bool_at(doc, "HostConfig.AutoRemove", false))
		return sys_fstatat(home, "hostname", &st, 0) == 0;
	return strcmp(json_str_at(doc, "State.Status", ""), "running") == 0;
}

static FALLIBLE end_cut(struct engine *e, const char *id)
{
	auto_json json_t *doc = NULL;
	auto_fd int lock = -1;
	struct err *err = ctr_lock(e, id, true, &lock); /* not to be had: somebody is at it */

	if (!err)
		err = ctr_load(e, id, &doc);
	if (err) {
		err_free(err);
		return NULL;
	}
	return ctr_live(e, id, NULL) || !ctr_was_started(doc, lock) ? NULL : ctr_end(e, id, doc);
}

static void forget(void *ctx, enum db_table table, const char *key)
{
	(void)table;
	(void)key;
	*(bool *)ctx = true;
}

/* The database's log is not synced. What rotted is left for verify, with a log that may have it. */
static void mend_log(struct engine *e)
{
	enum db_copy_state copy = DB_COPY_GOOD;
	bool is_rotten = false;
	struct err *err = db_check(engine_db(e), forget, &is_rotten, &copy);

	if (!err && !is_rotten && (copy == DB_COPY_STALE || copy == DB_COPY_DAMAGED))
		err = db_copy(engine_db(e));
	err_free(err); /* it is a second copy only */
}

/*
 * RUN goes with a power cut, and with it the marks of what ran: then every record is read once. What says that it runs did
 * not end in order; its addresses are given back.
 */
static FALLIBLE after_boot(struct engine *e, char *const *homes)
{
	struct stat st;
	int fd;

	if (sys_fstatat(engine_run_fd(e), "reconciled", &st, 0) == 0)
		return NULL;
	for (size_t i = 0; homes[i]; i++)
		if (is_id(homes[i]))
			TRY(end_cut(e, homes[i]));
	mend_log(e);
	TRY(image_index_reconcile(e, true)); /* it is not synced */
	fd = sys_openat(engine_run_fd(e), "reconciled", O_WRONLY | O_CREAT, 0600);
	own_close(&fd);
	return fd < 0 ? FAIL_OS(-fd, "write %s/reconciled", engine_run(e)) : NULL;
}

FALLIBLE engine_reconcile(struct engine *e)
{
	auto_list char **live = NULL, **homes = NULL;
	auto_fd int containers = sys_open_beneath(engine_root_fd(e), "containers", O_RDONLY | O_DIRECTORY, 0);
	int r;

	if ((r = fs_list(engine_run_fd(e), &live)) < 0 || containers < 0 || (r = fs_list(containers, &homes)) < 0)
		return FAIL_OS(containers < 0 ? -containers : -r, "look for what a crash left");
	for (size_t i = 0; live[i]; i++) {
		if (is_id(live[i]))
			TRY(end_dead(e, live[i]));
		if (strcmp(live[i], IMAGE_INDEX_DIRTY) == 0)
			TRY(image_index_reconcile(e, false));
	}
	for (size_t i = 0; homes[i]; i++)
		if (is_id(homes[i]))
			TRY(end_unnamed(e, homes[i]));
	TRY(volume_reconcile(e));
	image_sweep_wanted(e);
	return after_boot(e, homes);
}
