/*
 * volume.c - see volume.h. The directory is made before the record and removed after it, under the volume's
 * lock; a removal marks what it does before the record goes (volume_work.h), so no crash leaves data that
 * nobody knows.
 */
#include "engine/volume.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "engine/ctr.h"
#include "engine/filter.h"
#include "engine/volume_options.h"
#include "engine/volume_work.h"
#include "state/db.h"
#include "sys/entropy.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

char *volume_path(struct engine *e, const char *name)
{
	return xasprintf("%s/volumes/%s/_data", engine_root(e), name);
}

/* ---- records ---- */

FALLIBLE volume_get_in(struct db_txn *txn, const char *name, json_t **out_doc)
{
	struct sv value;
	bool found = false;

	*out_doc = NULL;
	if (*name && strlen(name) <= VOLUME_NAME_MAX)
		TRY(db_get(txn, DB_VOLUME, name, &value, &found));
	return found ? json_parse(value, "volume record", 1u << 20, out_doc) : NULL;
}

FALLIBLE volume_get(struct engine *e, const char *name, json_t **out_doc)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	return volume_get_in(txn, name, out_doc);
}

static FALLIBLE put(struct engine *e, const char *name, const json_t *doc)
{
	auto_buf struct buf b = BUF(1u << 20);
	auto_txn struct db_txn *txn = NULL;

	json_print(doc, &b);
	TRY(buf_check(&b, "volume record"));
	TRY(db_begin_write(engine_db(e), &txn));
	TRY(db_put(txn, DB_VOLUME, name, sv_from(b.data, b.n)));
	return db_commit(TAKE(txn));
}

/* As a face shows it: without what is ours. */
static json_t *shown(json_t *doc)
{
	static const char *const ours[] = { "HoyFor", "HoyProject" };

	for (size_t i = 0; i < LEN(ours); i++)
		(void)json_object_del(doc, ours[i]);
	return doc;
}

/* ---- creation ---- */

FALLIBLE volume_make_directories(struct engine *e, const char *name)
{
	auto_free char *path = xasprintf("volumes/%s", name), *data = xasprintf("volumes/%s/_data", name);
	int r = sys_mkdir(engine_root_fd(e), path, 0711);

	if (r == 0 || r == -EEXIST)
		r = sys_mkdir(engine_root_fd(e), data, 0755);
	return r < 0 && r != -EEXIST ? FAIL_OS(-r, "create volume %s", name) : NULL;
}

/* Data without a record is nobody's to take or to remove: of another installation, or its database was lost.
 */
static FALLIBLE check_unknown(struct engine *e, const char *name)
{
	auto_free char *path = volume_path(e, name);
	auto_fd int fd = sys_open_dir(path);
	auto_list char **names = NULL;

	if (fd < 0 || fs_list(fd, &names) < 0 || !names[0])
		return NULL;
	return FAIL(ERR_CONFLICT,
		    "create %s: %s holds files of a volume that is not known here; move them away first",
		    name, path);
}

static FALLIBLE check_name(const char *name, const char *driver)
{
	if (strlen(name) == 1)
		return FAIL(ERR_INVALID,
			    "create %s: volume name is too short, names should be at least two alphanumeric "
			    "characters",
			    name);
	if (strlen(name) > VOLUME_NAME_MAX || (*name && !text_is_name(sv_of(name))))
		return FAIL(
		    ERR_INVALID,
		    "create %.300s: \"%.300s\" includes invalid characters for a local volume name, only "
		    "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, "
		    "use absolute path",
		    name, name);
	if (*driver && strcmp(driver, "local") != 0)
		return FAIL(ERR_NOT_FOUND,
			    "create %s: error looking up volume plugin %s: plugin \"%s\" not found", name,
			    driver, driver);
	return NULL;
}

static json_t *new_record(struct engine *e, const char *name, const json_t *body, bool anonymous)
{
	const json_t *labels = json_object_get(body, "Labels"),
		     *options = json_object_get(body, "DriverOpts");
	auto_json json_t *own_labels = json_object_size(labels) ? json_deep_copy(labels)
				       : anonymous              ? json_object()
								: json_null();
	auto_free char *path = volume_path(e, name);
	char now[TIME_TEXT_MAX];

	(void)time_format(time_now_ns(), now);
	(void)snprintf(now + strcspn(now, "."), 2, "Z"); /* whole seconds, as docker has it */
	if (anonymous)
		(void)json_object_set_new(own_labels, VOLUME_ANONYMOUS, json_string(""));
	return json_pack("{s:s, s:s, s:O, s:s, s:s, s:o, s:s, s:s}", "CreatedAt", now, "Driver", "local",
			 "Labels", own_labels, "Mountpoint", path, "Name", name, "Options",
			 json_object_size(options) ? json_deep_copy(options) : json_null(), "Scope", "local",
			 "HoyFor", json_str_at(body, "HoyFor", ""));
}

/* The one that is there, if its options are what is wanted. */
static FALLIBLE existing(struct engine *e, const char *name, const json_t *options, json_t **out_doc)
{
	auto_json json_t *doc = NULL;

	TRY(volume_get(e, name, &doc));
	if (doc && json_object_size(options) && !json_equal(json_object_get(doc, "Options"), options))
		return FAIL(ERR_CONFLICT,
			    "create %s: a volume of that name exists already, with other driver options",
			    name);
	*out_doc = TAKE(doc);
	return NULL;
}

static FALLIBLE make_new(struct engine *e, const char *name, const json_t *body, json_t **out_doc)
{
	CLEANUP(volume_work_end) struct volume_work w = { .lock = -1 };
	const json_t *options = json_object_get(body, "DriverOpts");
	auto_json json_t *doc = NULL;

	TRY(volume_work_begin(e, name, &w));
	TRY(existing(e, name, options, &doc)); /* made while we waited */
	if (!doc) {
		TRY(check_unknown(e, name));
		w.is_kept = true; /* who comes next removes what has no record */
		doc = new_record(e, name, body, !*json_str_at(body, "Name", ""));
		TRY(volume_make_directories(e, name));
		TRY(volume_options_apply(e, doc));
		TRY(put(e, name, doc));
		w.is_kept = false;
	}
	*out_doc = TAKE(doc);
	return NULL;
}

FALLIBLE volume_make(struct engine *e, const json_t *body, json_t **out_doc)
{
	const char *given = json_str_at(body, "Name", "");
	const json_t *options = json_object_get(body, "DriverOpts");
	auto_json json_t *doc = NULL;
	char random[65];

	TRY(check_name(given, json_str_at(body, "Driver", "local")));
	sys_random_hex(random, 32);
	TRY(volume_options_check(*given ? given : random, options));
	if (*given)
		TRY(existing(e, given, options, &doc));
	if (!doc)
		TRY(make_new(e, *given ? given : random, body, &doc));
	*out_doc = TAKE(doc);
	return NULL;
}

FALLIBLE volume_create(struct engine *e, const json_t *body, json_t **out_volume)
{
	json_t *doc = NULL;

	TRY(volume_make(e, body, &doc));
	*out_volume = shown(doc);
	return NULL;
}

FALLIBLE volume_inspect(struct engine *e, const char *name, json_t **out_volume)
{
	json_t *doc = NULL;

	TRY(volume_get(e, name, &doc));
	if (!doc)
		return FAIL(ERR_NOT_FOUND, "get %.255s: no such volume", name);
	*out_volume = shown(doc);
	return NULL;
}

/* ---- use ---- */

struct users {
	struct map ids; /* volume -> owned id of one container that uses it */
	const char *but;
};

static void users_fini(struct users *u)
{
	for (size_t i = 0; i < u->ids.n; i++)
		free(u->ids.entries[i].value);
	map_fini(&u->ids);
}

static struct err *add_user(void *ctx, struct sv key, struct sv value)
{
	struct users *u = ctx;
	auto_json json_t *doc = NULL;
	size_t i;
	json_t *m;

	if (u->but && sv_is(key, u->but))
		return NULL;
	TRY(json_parse(value, "container record", 1u << 20, &doc));
	json_array_foreach(json_object_get(doc, "Mounts"), i, m)
	{
		void **slot;

		if (strcmp(json_str_at(m, "Type", ""), "volume") == 0 &&
		    !*(slot = map_put(&u->ids, json_str_at(m, "Name", ""))))
			*slot = xstrndup(key.p, key.n);
	}
	return NULL;
}

static const char *user_of(const struct users *u, const char *name)
{
	void **slot = map_get(&u->ids, name);

	return slot ? *slot : NULL;
}

/* A creation holds the directory shared; a removal has it for itself. */
static int lock_directory(struct engine *e, const char *name, int how)
{
	auto_free char *path = xasprintf("volumes/%s", name);
	auto_fd int fd = sys_open_beneath(engine_root_fd(e), path, O_RDONLY | O_DIRECTORY, 0);
	struct stat st;
	int r;

	if (fd < 0 || (r = sys_flock(fd, how)) < 0 || (r = sys_fstat(fd, &st)) < 0)
		return fd < 0 ? fd : r;
	return st.st_nlink ? TAKE_FD(fd) : -ENOENT;
}

FALLIBLE volume_hold(struct engine *e, const char *name, int *out_fd, json_t **out_doc)
{
	auto_fd int fd = -1;

	*out_doc = NULL;
	fd = lock_directory(e, name, LOCK_SH);
	if (fd == -ENOENT)
		return NULL;
	if (fd < 0)
		return FAIL_OS(-fd, "hold volume %s", name);
	TRY(volume_get(e, name,
		       out_doc)); /* none: its directory is there already or still, the record is not */
	if (*out_doc)
		*out_fd = TAKE_FD(fd);
	return NULL;
}

/* ---- removal ---- */

static FALLIBLE forget_record(struct volume_work *w, const char *but, json_t **out_doc, int *out_lock)
{
	CLEANUP(users_fini) struct users u = { .but = but };
	auto_txn struct db_txn *txn = NULL;
	auto_json json_t *doc = NULL;
	auto_fd int lock = lock_directory(w->e, w->name, LOCK_EX | LOCK_NB);

	if (lock == -EWOULDBLOCK)
		return FAIL(ERR_CONFLICT, "remove %s: volume is in use - [a container that is being created]",
			    w->name);
	if (lock < 0 && lock != -ENOENT)
		return FAIL_OS(-lock, "lock volume %s", w->name);

	TRY(db_begin_write(engine_db(w->e), &txn));
	TRY(volume_get_in(txn, w->name, &doc));
	if (!doc)
		return FAIL(ERR_NOT_FOUND, "get %s: no such volume", w->name);
	TRY(db_scan(txn, DB_CONTAINER, "", add_user, &u));
	if (user_of(&u, w->name))
		return FAIL(ERR_CONFLICT, "remove %s: volume is in use - [%s]", w->name,
			    user_of(&u, w->name));
	w->is_kept = true; /* until all is gone, who comes next goes on with it */
	TRY(volume_work_doom(w));
	TRY(db_delete(txn, DB_VOLUME, w->name));
	TRY(db_commit(TAKE(txn)));
	*out_doc = TAKE(doc);
	*out_lock = TAKE_FD(lock);
	return NULL;
}

FALLIBLE volume_remove_with(struct engine *e, const char *name, const char *container_id)
{
	CLEANUP(volume_work_end) struct volume_work w = { .lock = -1 };
	auto_json json_t *doc = NULL;
	auto_fd int dir = -1, lock = -1;
	int r;

	TRY(volume_get(e, name, &doc));
	if (!doc)
		return FAIL(ERR_NOT_FOUND, "get %.255s: no such volume", name);
	json_decref(TAKE(doc));
	TRY(volume_work_begin(e, name, &w));
	TRY(forget_record(&w, container_id, &doc, &lock));
	volume_options_release(e, doc);
	dir = sys_open_beneath(engine_root_fd(e), "volumes", O_RDONLY | O_DIRECTORY, 0);
	r = dir < 0 ? dir : fs_remove_tree(dir, name);
	w.is_kept = r < 0;
	if (r == -EBUSY)
		return FAIL(ERR_CONFLICT, "remove volume %s: something is mounted in %s/volumes/%s; once it is not, the next command goes on",
			    name, engine_root(e), name);
	return r < 0 ? FAIL_OS(-r, "remove volume %s", name) : NULL;
}

FALLIBLE volume_remove(struct engine *e, const char *name, bool force)
{
	struct err *err = volume_remove_with(e, name, NULL);

	if (err && err->kind == ERR_NOT_FOUND && force) {
		err_free(err);
		return NULL;
	}
	return err;
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

static FALLIBLE all_volumes(struct engine *e, struct users *u, json_t **out_array)
{
	auto_json json_t *all = json_array();
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	TRY(db_scan(txn, DB_VOLUME, "", add_volume, all));
	if (u)
		TRY(db_scan(txn, DB_CONTAINER, "", add_user, u));
	*out_array = TAKE(all);
	return NULL;
}

static FALLIBLE check_dangling(const json_t *filters)
{
	size_t i;
	json_t *v;

	json_array_foreach(json_object_get(filters, "dangling"), i, v)
	{
		const char *s = json_is_string(v) ? json_string_value(v) : "";

		if (strcmp(s, "true") != 0 && strcmp(s, "1") != 0 && strcmp(s, "false") != 0 &&
		    strcmp(s, "0") != 0)
			return FAIL(ERR_INVALID, "invalid filter 'dangling=[%s]'", s);
	}
	return NULL;
}

static bool keeps(const struct users *u, const json_t *v, const json_t *filters)
{
	const char *name = json_str_at(v, "Name", "");
	bool used = user_of(u, name) != NULL;

	return filter_by_name(filters, "name", name) &&
	       filter_labels(filters, json_object_get(v, "Labels")) &&
	       filter_is(filters, "driver", json_str_at(v, "Driver", "")) &&
	       (filter_is(filters, "dangling", used ? "false" : "true") ||
		filter_is(filters, "dangling", used ? "0" : "1"));
}

FALLIBLE volume_list(struct engine *e, const json_t *filters, json_t **out_array)
{
	static const char *const known[] = { "name", "label", "driver", "dangling", NULL };
	CLEANUP(users_fini) struct users u = { .but = NULL };
	auto_json json_t *all = NULL;

	TRY(filter_check(filters, known));
	TRY(check_dangling(filters));
	TRY(all_volumes(e, json_object_get(filters, "dangling") ? &u : NULL, &all));
	for (size_t i = json_array_size(all); i-- > 0;)
		if (keeps(&u, shown(json_array_get(all, i)), filters) == false)
			(void)json_array_remove(all, i);
	*out_array = TAKE(all);
	return NULL;
}

/* ---- sweeping ---- */

FALLIBLE volume_forget_of(struct engine *e, const char *container_id)
{
	auto_json json_t *all = NULL;
	size_t i;
	json_t *v;

	TRY(all_volumes(e, NULL, &all));
	json_array_foreach(all, i, v)
	{
		struct err *err = NULL;

		if (strcmp(json_str_at(v, "HoyFor", ""), container_id) == 0)
			err = volume_remove(e, json_str_at(v, "Name", ""), true);
		if (err && err->kind != ERR_CONFLICT)
			return err;
		err_free(err); /* in use by another: stays */
	}
	return NULL;
}
