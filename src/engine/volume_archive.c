/* volume_archive.c - a volume's content as a tar, and back: an import is extracted beside the data and moved
 * in as a whole. */
#include "base/own.h"
#include "engine/volume.h"
#include "engine/volume_work.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"

static FALLIBLE open_volume(struct engine *e, const char *name, struct volume_dirs *dirs)
{
	auto_json json_t *doc = NULL;

	TRY(volume_get(e, name, &doc));
	if (!doc)
		return FAIL(ERR_NOT_FOUND, "get %.255s: no such volume", name);
	return volume_dirs_open(e, doc, dirs);
}

FALLIBLE volume_export(struct engine *e, const char *name, struct zip_sink sink)
{
	CLEANUP(volume_dirs_fini) struct volume_dirs dirs = { -1, -1 };
	struct err *err;

	TRY(open_volume(e, name, &dirs));
	err = snapshot_archive(dirs.data, sink);
	return err ? err_ctx(err, "export volume %s", name) : NULL;
}

FALLIBLE volume_import(struct engine *e, const char *name, struct zip_source source)
{
	CLEANUP(volume_work_end) struct volume_work work = { .lock = -1 };
	CLEANUP(volume_dirs_fini) struct volume_dirs dirs = { -1, -1 };
	auto_json json_t *doc = NULL;
	auto_fd int stage = -1;
	struct err *err = NULL;
	int r;

	TRY(volume_get(e, name, &doc)); /* without a record there is nothing to lock */
	if (!doc)
		return FAIL(ERR_NOT_FOUND, "get %.255s: no such volume", name);
	TRY(volume_work_begin(e, name, &work));
	TRY(open_volume(e, name, &dirs));
	TRY(volume_stage(&work, &dirs, &stage));
	if ((r = fs_copy_attrs(dirs.data, stage)) < 0) /* they stay unless the archive has its own */
		err = FAIL_OS(-r, "make a directory beside the volume's data");
	if (!err)
		err = snapshot_extract(stage, source);
	if (!err)
		err = volume_stage_commit(&work, &dirs, stage, true);
	if (err)
		volume_stage_drop(&dirs);
	return err ? err_ctx(err, "import into volume %s", name) : NULL;
}
