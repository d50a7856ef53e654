/*
 * lost.c - see lost.h. Order: the new database beside the place, synced; the containers' files out of the way, because what no record names is
 * removed by the first command; then the new one gets its name.
 */
#include "engine/lost.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/image_store.h"
#include "state/db.h"
#include "state/record.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static FALLIBLE read_index(int root_fd, json_t **out_doc)
{
	auto_free char *text = NULL;
	size_t n = 0;

	TRY(record_read(root_fd, "index.json", &text, &n));
	return json_parse(sv_from(text, n), "index.json", RECORD_BODY_MAX, out_doc);
}

bool lost_database(int root_fd)
{
	auto_json json_t *doc = NULL;
	struct stat st;

	if (sys_fstatat(root_fd, "meta/data.mdb", &st, AT_SYMLINK_NOFOLLOW) != -ENOENT ||
	    sys_fstatat(root_fd, "meta/log", &st, AT_SYMLINK_NOFOLLOW) != -ENOENT)
		return false;
	err_free(read_index(root_fd, &doc));
	return json_array_size(json_object_get(doc, "manifests")) > 0;
}

static FALLIBLE put_names(struct db *db, const json_t *index, unsigned *out_n)
{
	auto_txn struct db_txn *txn = NULL;
	size_t i;
	json_t *m;

	TRY(db_begin_write(db, &txn));
	json_array_foreach(json_object_get(index, "manifests"), i, m) {
		const char *name = json_string_value(json_object_get(json_object_get(m, "annotations"), "io.containerd.image.name"));
		const char *digest = json_str_at(m, "digest", "");

		if (!digest_is_valid(sv_of(digest)))
			continue;
		TRY(image_name_put(txn, name, digest, json_str_at(m, "mediaType", "")));
		++*out_n;
	}
	return db_commit(TAKE(txn));
}

static FALLIBLE fill_new(int root_fd, const char *root, unsigned *out_n)
{
	auto_free char *path = xasprintf("%s/meta.new", root);
	auto_json json_t *index = NULL;
	struct db *db;
	struct err *err;
	int r = fs_remove_tree(root_fd, "meta.new"); /* of one that was killed here */

	if (r < 0 && r != -ENOENT)
		return FAIL_OS(-r, "remove %s", path);
	TRY(read_index(root_fd, &index));
	TRY(db_open(path, &db));
	err = put_names(db, index, out_n);
	db_close(db);
	return err;
}

static FALLIBLE set_containers_aside(int root_fd, const char *root, void (*tell)(void *ctx, const char *line), void *ctx)
{
	auto_free char *line = xasprintf("containers: their files are in %s/containers.lost", root);
	auto_list char **names = NULL;
	auto_fd int fd = sys_open_beneath(root_fd, "containers", O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (fd < 0 || fs_list(fd, &names) < 0 || !names[0])
		return NULL;
	r = sys_renameat(root_fd, "containers", root_fd, "containers.lost", RENAME_NOREPLACE);
	if (r < 0)
		return FAIL_OS(-r, "set the files of containers aside as %s/containers.lost", root);
	tell(ctx, line);
	return NULL;
}

static FALLIBLE tell_volumes(int root_fd, const char *root, void (*tell)(void *ctx, const char *line), void *ctx)
{
	auto_list char **names = NULL;
	auto_fd int fd = sys_open_beneath(root_fd, "volumes", O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0 || fs_list(fd, &names) < 0)
		return NULL;
	for (size_t i = 0; names[i]; i++) {
		auto_free char *line = xasprintf("volume %s: its files are in %s/volumes/%s", names[i], root, names[i]);

		tell(ctx, line);
	}
	return NULL;
}

FALLIBLE lost_make_again(int root_fd, const char *root, void (*tell)(void *ctx, const char *line), void *ctx)
{
	auto_free char *line = NULL;
	unsigned n = 0;
	int r;

	TRY(fill_new(root_fd, root, &n));
	TRY(set_containers_aside(root_fd, root, tell, ctx));
	r = fs_remove_tree(root_fd, "meta"); /* there is no more than a lock in it */
	if (r >= 0 || r == -ENOENT)
		r = sys_renameat(root_fd, "meta.new", root_fd, "meta", 0);
	if (r < 0 || (r = sys_fsync(root_fd)) < 0)
		return FAIL_OS(-r, "put the database in its place");
	line = xasprintf("meta/data.mdb: made again from index.json with %u names of images; containers, volumes and networks are not known "
			 "any more", n);
	tell(ctx, line);
	return tell_volumes(root_fd, root, tell, ctx);
}
