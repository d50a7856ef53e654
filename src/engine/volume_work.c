/* volume_work.c - see volume_work.h. */
#include "engine/volume_work.h"
#include "base/own.h"
#include "base/text.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

#define DOOMED "remove\n"

static int open_marks(struct engine *e)
{
	auto_fd int volumes = sys_open_beneath(engine_root_fd(e), "volumes", O_RDONLY | O_DIRECTORY, 0);
	int fd = volumes < 0 ? volumes : sys_openat(volumes, ".work", O_RDONLY | O_DIRECTORY, 0), r;

	if (volumes < 0 || fd != -ENOENT)
		return fd;
	r = sys_mkdir(volumes, ".work", 0700);
	return r < 0 && r != -EEXIST ? r : sys_openat(volumes, ".work", O_RDONLY | O_DIRECTORY, 0);
}

/* The mark, locked; *out_cut: it stood there without an owner. -EWOULDBLOCK only when told not to wait. */
static int take_mark(int marks, const char *name, int how, bool *out_cut)
{
	for (;;) {
		auto_fd int fd = sys_openat(marks, name, O_RDWR | O_CREAT | O_EXCL, 0600);
		struct stat st;
		int r;

		*out_cut = fd == -EEXIST;
		if (*out_cut)
			fd = sys_openat(marks, name, O_RDWR, 0);
		if (fd == -ENOENT)
			continue;
		if (fd < 0 || (r = sys_flock(fd, how)) < 0 || (r = sys_fstat(fd, &st)) < 0)
			return fd < 0 ? fd : r;
		if (st.st_nlink)
			return TAKE_FD(fd);
	}
}

/* Its record is gone or was never made. Data goes only where a removal was decided. */
static int settle_unknown(struct engine *e, const char *name, int mark)
{
	auto_fd int volumes = sys_open_beneath(engine_root_fd(e), "volumes", O_RDONLY | O_DIRECTORY, 0),
		    dir = -1;
	char text[sizeof DOOMED] = "";

	if (volumes < 0 || sys_pread(mark, text, sizeof DOOMED - 1, 0) < 0)
		return volumes < 0 ? volumes : -EIO;
	if (strcmp(text, DOOMED) == 0)
		return fs_remove_tree(volumes, name);
	dir = sys_openat(volumes, name, O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	(void)sys_rmdir(dir, "_data"); /* both only when they are empty */
	(void)sys_rmdir(volumes, name);
	return 0;
}

static FALLIBLE settle(struct engine *e, const char *name, int mark)
{
	CLEANUP(volume_dirs_fini) struct volume_dirs dirs = { -1, -1 };
	auto_json json_t *doc = NULL;
	struct err *err;
	int r;

	TRY(volume_get(e, name, &doc));
	if (!doc) {
		r = settle_unknown(e, name, mark);
		return r < 0 ? FAIL_OS(-r, "end the removal of volume %s", name) : NULL;
	}
	err = volume_dirs_open(e, doc, &dirs);
	if (err && err->kind == ERR_UNSUPPORTED) { /* nothing is ever staged for it */
		err_free(err);
		return NULL;
	}
	TRY(err);
	return volume_stage_settle(&dirs);
}

FALLIBLE volume_work_begin(struct engine *e, const char *name, struct volume_work *out_w)
{
	auto_fd int marks = open_marks(e), lock = -1;
	bool was_cut;

	if (marks < 0 || (lock = take_mark(marks, name, LOCK_EX, &was_cut)) < 0)
		return FAIL_OS(marks < 0 ? -marks : -lock, "lock volume %s", name);
	*out_w = (struct volume_work){ .e = e, .lock = -1 };
	(void)snprintf(out_w->name, sizeof out_w->name, "%s", name);
	if (was_cut) {
		int r;

		TRY(settle(e, name, lock));
		if ((r = sys_ftruncate(lock, 0)) < 0)
			return FAIL_OS(-r, "lock volume %s", name);
	}
	out_w->lock = TAKE_FD(lock);
	return NULL;
}

FALLIBLE volume_work_doom(struct volume_work *w)
{
	int r = sys_pwrite_all(w->lock, DOOMED, sizeof DOOMED - 1, 0);

	return r < 0 ? FAIL_OS(-r, "mark volume %s for removal", w->name) : NULL;
}

void volume_work_end(struct volume_work *w)
{
	auto_fd int marks = w->lock < 0 ? -1 : open_marks(w->e);

	if (marks >= 0 && !w->is_kept)
		(void)sys_unlink(marks, w->name); /* if it stays, it makes the next one look: no harm */
	own_close(&w->lock);
	w->lock = -1;
}

static FALLIBLE end_cut(struct engine *e, int marks, const char *name)
{
	auto_fd int lock = -1;
	bool was_cut;

	lock = take_mark(marks, name, LOCK_EX | LOCK_NB, &was_cut);
	if (lock == -EWOULDBLOCK)
		return NULL;
	if (lock < 0)
		return FAIL_OS(-lock, "lock volume %s", name);
	if (was_cut)
		TRY(settle(e, name, lock));
	(void)sys_unlink(marks, name);
	return NULL;
}

FALLIBLE volume_reconcile(struct engine *e)
{
	auto_fd int volumes = sys_open_beneath(engine_root_fd(e), "volumes", O_RDONLY | O_DIRECTORY, 0),
		    marks = -1;
	auto_list char **names = NULL;
	int r;

	marks = volumes < 0 ? volumes : sys_openat(volumes, ".work", O_RDONLY | O_DIRECTORY, 0);
	if (marks == -ENOENT)
		return NULL;
	if (marks < 0 || (r = fs_list(marks, &names)) < 0)
		return FAIL_OS(marks < 0 ? -marks : -r, "look for volumes that a crash left half done");
	for (size_t i = 0; names[i]; i++)
		err_free(end_cut(e, marks, names[i])); /* one that is broken speaks up when it is used */
	return NULL;
}
