/*
 * volume_fill.c - content that comes into a volume as a whole: what an image has at its place, an imported archive.
 *
 *	.hoy-new/  being made, worth nothing   ─ syncfs, rename ─▶   .hoy-fill/  whole   ─ entry by entry ─▶  _data
 *	                                                             .hoy-over/  the same, replacing what is there
 *
 * Both stand beside _data (in the directory itself where the volume is one of the user's). A crash on the left drops the
 * content, one on the right completes the move; so a volume is never half filled for who uses it, and nothing that a
 * container wrote meanwhile is replaced by what an image had. The caller holds the volume's lock.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/volume.h"
#include "engine/volume_work.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>

#define NEW  ".hoy-new"
#define FILL ".hoy-fill"
#define OVER ".hoy-over"

void volume_dirs_fini(struct volume_dirs *d)
{
	own_close(&d->data);
	own_close(&d->stage);
}

FALLIBLE volume_dirs_open(struct engine *e, const json_t *doc, struct volume_dirs *out_d)
{
	const char *name = json_str_at(doc, "Name", ""), *device = json_str_at(doc, "Options.device", NULL);
	auto_free char *data = NULL;

	if (device && !volume_is_bind(doc))
		return FAIL(ERR_UNSUPPORTED,
			    "volume %s is a file system of its own (%s), which only containers mount", name,
			    device);
	data = device ? xstrdup(device) : volume_path(e, name);
	out_d->data = sys_open_dir(data);
	if (out_d->data < 0)
		return FAIL_OS(-out_d->data, "open volume %s (%s)", name, data);
	out_d->stage =
	    device ? sys_dup(out_d->data) : sys_openat(out_d->data, "..", O_RDONLY | O_DIRECTORY, 0);
	return out_d->stage < 0 ? FAIL_OS(-out_d->stage, "open volume %s", name) : NULL;
}

bool volume_is_empty(const struct volume_dirs *d)
{
	auto_list char **names = NULL;

	if (fs_list(d->data, &names) < 0)
		return false;
	for (size_t i = 0; names[i]; i++)
		if (strcmp(names[i], NEW) != 0 && strcmp(names[i], FILL) != 0 && strcmp(names[i], OVER) != 0)
			return false;
	return true;
}

FALLIBLE volume_stage(struct volume_work *w, struct volume_dirs *d, int *out_fd)
{
	int r = fs_remove_tree(d->stage, NEW);

	w->is_kept = true; /* until all is moved in, who comes next goes on with it or drops it */
	if (r >= 0)
		r = sys_mkdir(d->stage, NEW, 0700);
	*out_fd = r < 0 ? r : sys_openat(d->stage, NEW, O_RDONLY | O_DIRECTORY, 0);
	return *out_fd < 0 ? FAIL_OS(-*out_fd, "make a directory beside the volume's data") : NULL;
}

void volume_stage_drop(struct volume_dirs *d)
{
	(void)fs_remove_tree(d->stage, NEW); /* else who comes next does: the mark stays */
}

static int move_in(struct volume_dirs *d, const char *staged)
{
	auto_fd int from = sys_openat(d->stage, staged, O_RDONLY | O_DIRECTORY, 0);
	int r = from < 0 ? from : fs_merge_tree(from, d->data, strcmp(staged, OVER) == 0);

	if (from == -ENOENT)
		return 0;
	if (r < 0 || (r = sys_fsync(d->data)) < 0)
		return r;
	return fs_remove_tree(d->stage, staged);
}

FALLIBLE volume_stage_commit(struct volume_work *w, struct volume_dirs *d, int stage_fd, bool over)
{
	const char *staged = over ? OVER : FILL;
	int r = sys_syncfs(stage_fd);

	if (r < 0 || (r = sys_renameat(d->stage, NEW, d->stage, staged, 0)) < 0 ||
	    (r = move_in(d, staged)) < 0)
		return FAIL_OS(-r, "move content into the volume");
	w->is_kept = false;
	return NULL;
}

FALLIBLE volume_stage_settle(struct volume_dirs *d)
{
	int r = move_in(d, FILL);

	if (r >= 0)
		r = move_in(d, OVER);
	if (r >= 0)
		r = fs_remove_tree(d->stage, NEW);
	return r < 0 ? FAIL_OS(-r, "end what a crash left in a volume") : NULL;
}

FALLIBLE volume_fill(struct volume_work *w, struct volume_dirs *d, int from)
{
	auto_list char **names = NULL;
	auto_fd int stage = -1;
	struct err *err = NULL;
	int r = fs_list(from, &names);

	if (r == 0 && (r = fs_copy_attrs(from, d->data)) >= 0)
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "look at the directory");
	TRY(volume_stage(w, d, &stage));
	if ((r = fs_copy_tree(from, stage)) >= 0)
		r = fs_copy_attrs(from, stage);
	if (r < 0)
		err = FAIL_OS(-r, "copy");
	if (!err)
		err = volume_stage_commit(w, d, stage, false);
	if (err)
		volume_stage_drop(d);
	return err;
}
