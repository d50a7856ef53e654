/* volume.c - see volume.h. The directory is made before the record and removed after it. */
#include "engine/volume.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "engine/ctr.h"
#include "engine/filter.h"
#include "state/db.h"
#include "sys/fs.h"
#include "sys/entropy.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

char *volume_path(struct engine *e, const char *name)
{
	return xasprintf("%s/volumes/%s/_data", engine_root(e), name);
}

static FALLIBLE make_directories(struct engine *e, const char *name)
{
	auto_free char *path = xasprintf("volumes/%s", name), *data = xasprintf("volumes/%s/_data", name);
	int r = sys_mkdir(engine_root_fd(e), path, 0711);

	if (r == 0 || r == -EEXIST)
		r = sys_mkdir(engine_root_fd(e), data, 0755);
	return r < 0 && r != -EEXIST ? FAIL_OS(-r, "create volume %s", name) : NULL;
}

static FALLIBLE get_in(struct db_txn *txn, const char *name, json_t **out)
{
	struct sv value;
	bool found;

	*out = NULL;
	TRY(db_get(txn, DB_VOLUME, name, &value, &found));
	return found ? json_parse(value, "volume record", 1u << 20, out) : NULL;
}

static FALLIBLE put(struct engine *e, const char *name, const json_t *doc, json_t **out_existing)
{
	auto_buf struct buf b = BUF(1u << 20);
	auto_txn struct db_txn *txn = NULL;

	json_print(doc, &b);
	TRY(buf_check(&b, "volume record"));
	TRY(db_begin_write(engine_db(e), &txn));
	TRY(get_in(txn, name, out_existing));
	if (*out_existing)
		return NULL;
	TRY(db_put(txn, DB_VOLUME, name, sv_from(b.data, b.n)));
	return db_commit(TAKE(txn));
}

FALLIBLE volume_create(struct engine *e, const json_t *body, json_t **out_volume)
{
	const char *given = json_str_at(body, "Name", ""), *driver = json_str_at(body, "Driver", "local");
	auto_json json_t *doc = NULL, *existing = NULL;
	const json_t *labels = json_object_get(body, "Labels");
	auto_free char *path = NULL;
	char name[256], now[TIME_TEXT_MAX], random[65];

	sys_random_hex(random, 32);
	(void)snprintf(name, sizeof name, "%s", *given ? given : random);
	if (strlen(given) > 255 || !text_is_name(sv_of(name)))
		return FAIL(ERR_INVALID, "create %s: \"%s\" includes invalid characters for a local volume name, only "
					 "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed", given, given);
	if (*driver && strcmp(driver, "local") != 0)
		return FAIL(ERR_NOT_FOUND, "create %s: error looking up volume plugin %s: plugin \"%s\" not found", name, driver,
			    driver);
	if (json_object_size(json_object_get(body, "DriverOpts")))
		return FAIL(ERR_UNSUPPORTED, "create %s: driver options are not supported", name);
	path = volume_path(e, name);
	doc = json_pack("{s:s, s:s, s:s, s:s, s:O?, s:s, s:{}, s:b}", "CreatedAt", time_format(time_now_ns(), now), "Name", name,
			"Driver", "local", "Mountpoint", path, "Labels", labels, "Scope", "local", "Options", "HoyAnonymous",
			json_bool_at(body, "HoyAnonymous", !*given));
	TRY(make_directories(e, name));
	TRY(put(e, name, doc, &existing));
	*out_volume = existing ? TAKE(existing) : TAKE(doc);
	return NULL;
}

FALLIBLE volume_inspect(struct engine *e, const char *name, json_t **out_volume)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	if (*name && strlen(name) < 256)
		TRY(get_in(txn, name, out_volume));
	if (!*name || strlen(name) >= 256 || !*out_volume)
		return FAIL(ERR_NOT_FOUND, "get %.255s: no such volume", name);
	return NULL;
}

/* ---- use ---- */

struct users {
	const char *name;
	char id[CTR_ID_MAX]; /* of one that uses it */
};

static struct err *look_for_user(void *ctx, struct sv key, struct sv value)
{
	struct users *u = ctx;
	auto_json json_t *doc = NULL;
	size_t i;
	json_t *m;

	TRY(json_parse(value, "container record", 1u << 20, &doc));
	json_array_foreach (json_object_get(doc, "Mounts"), i, m)
		if (strcmp(json_str_at(m, "Type", ""), "volume") == 0 && strcmp(json_str_at(m, "Name", ""), u->name) == 0)
			(void)snprintf(u->id, sizeof u->id, "%.*s", SV_ARG(key));
	return NULL;
}

static FALLIBLE find_user(struct db_txn *txn, const char *name, char out_id[CTR_ID_MAX])
{
	struct users u = { .name = name };

	TRY(db_scan(txn, DB_CONTAINER, "", look_for_user, &u));
	memcpy(out_id, u.id, CTR_ID_MAX);
	return NULL;
}

FALLIBLE volume_remove(struct engine *e, const char *name, bool force)
{
	auto_txn struct db_txn *txn = NULL;
	auto_json json_t *doc = NULL;
	auto_fd int dir = -1;
	char user[CTR_ID_MAX];
	int r;

	TRY(db_begin_write(engine_db(e), &txn));
	if (*name && strlen(name) < 256)
		TRY(get_in(txn, name, &doc));
	if (!doc)
		return force ? NULL : FAIL(ERR_NOT_FOUND, "get %.255s: no such volume", name);
	TRY(find_user(txn, name, user));
	if (user[0])
		return FAIL(ERR_CONFLICT, "remove %s: volume is in use - [%s]", name, user);
	TRY(db_delete(txn, DB_VOLUME, name));
	TRY(db_commit(TAKE(txn)));
	dir = sys_open_beneath(engine_root_fd(e), "volumes", O_RDONLY | O_DIRECTORY, 0);
	r = dir < 0 ? dir : fs_remove_tree(dir, name);
	return r < 0 ? FAIL_OS(-r, "remove volume %s", name) : NULL;
}

/* ---- lists ---- */

static struct err *add_volume(void *ctx, struct sv key, struct sv value)
{
	json_t *v;

	(void)key;
	TRY(json_parse(value, "volume record", 1u << 20, &v));
	(void)json_array_append_new(ctx, v);
	return NULL;
}

static FALLIBLE keeps(struct db_txn *txn, const json_t *v, const json_t *filters, bool *out_keep)
{
	const json_t *dangling = json_object_get(filters, "dangling");
	char user[CTR_ID_MAX];

	*out_keep = filter_contains(filters, "name", json_str_at(v, "Name", "")) &&
		    filter_labels(filters, json_object_get(v, "Labels")) &&
		    filter_is(filters, "driver", json_str_at(v, "Driver", ""));
	if (!*out_keep || !json_array_size(dangling))
		return NULL;
	TRY(find_user(txn, json_str_at(v, "Name", ""), user));
	*out_keep = filter_is(filters, "dangling", user[0] ? "false" : "true") ||
		    filter_is(filters, "dangling", user[0] ? "0" : "1");
	return NULL;
}

FALLIBLE volume_list(struct engine *e, const json_t *filters, json_t **out_array)
{
	static const char *const known[] = { "name", "label", "driver", "dangling", NULL };
	auto_json json_t *all = json_array();
	auto_txn struct db_txn *txn = NULL;

	TRY(filter_check(filters, known));
	TRY(db_begin_read(engine_db(e), &txn));
	TRY(db_scan(txn, DB_VOLUME, "", add_volume, all));
	for (size_t i = json_array_size(all); i-- > 0;) {
		bool keep = false;

		TRY(keeps(txn, json_array_get(all, i), filters, &keep));
		if (!keep)
			(void)json_array_remove(all, i);
	}
	*out_array = TAKE(all);
	return NULL;
}

static uint64_t tree_bytes(int dir_fd)
{
	auto_list char **names = NULL;
	uint64_t sum = 0;

	if (fs_list(dir_fd, &names) < 0)
		return 0;
	for (size_t i = 0; names[i]; i++) {
		struct stat st;
		auto_fd int fd = -1;

		if (sys_fstatat(dir_fd, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		sum += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
		if (S_ISDIR(st.st_mode) && (fd = sys_openat(dir_fd, names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) >= 0)
			sum += tree_bytes(fd);
	}
	return sum;
}

FALLIBLE volume_prune(struct engine *e, bool all, json_t **out_names, uint64_t *out_bytes)
{
	auto_json json_t *list = NULL, *names = json_array(), *filters = json_pack("{s:[s]}", "dangling", "true");
	size_t i;
	json_t *v;

	*out_bytes = 0;
	TRY(volume_list(e, filters, &list));
	json_array_foreach (list, i, v) {
		const char *name = json_str_at(v, "Name", "");
		auto_free char *path = volume_path(e, name);
		auto_fd int fd = sys_open_dir(path);
		struct err *err;

		if (!all && !json_bool_at(v, "HoyAnonymous", false))
			continue;
		*out_bytes += fd < 0 ? 0 : tree_bytes(fd);
		err = volume_remove(e, name, false);
		if (!err)
			(void)json_array_append_new(names, json_string(name));
		else if (err->kind != ERR_CONFLICT) /* taken into use meanwhile: stays */
			return err;
		err_free(err);
	}
	*out_names = TAKE(names);
	return NULL;
}
