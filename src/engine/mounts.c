/* mounts.c - see mounts.h: from what is wanted (mounts_parse.c) to the record's Mounts; volumes made and
 * filled on the way. */
#include "engine/mounts.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/ctr.h"
#include "engine/mounts_want.h"
#include "engine/volume.h"
#include "engine/volume_work.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

struct planning {
	struct engine *e;
	const struct engine_image *image;
	json_t *doc, *list;
	struct mounts_hold *hold;
	int root; /* the image to read, opened when first needed */
};

static void planning_fini(struct planning *p)
{
	own_close(&p->root);
}

static json_t *find_target(const json_t *list, const char *target, size_t *out_i)
{
	size_t i;
	json_t *m;

	json_array_foreach(list, i, m) if (strcmp(json_str_at(m, "Destination", ""), target) == 0)
	{
		*out_i = i;
		return m;
	}
	return NULL;
}

static void set_flag(json_t *m, const char *key, bool value)
{
	if (value)
		(void)json_object_set_new(m, key, json_true());
}

static void set_text(json_t *m, const char *key, const char *value)
{
	if (value)
		(void)json_object_set_new(m, key, json_string(value));
}

/* ---- volumes ---- */

static FALLIBLE open_image(struct planning *p)
{
	CLEANUP(rootfs_fini) struct rootfs rootfs = { 0 };

	if (p->root >= 0)
		return NULL;
	TRY(rootfs_prepare(engine_snapshotter(p->e), p->image->diff_ids, NULL, &rootfs));
	return rootfs_view_read(&rootfs, &p->root);
}

/* What the image has at the place goes into a volume that is empty. */
static FALLIBLE copy_up(struct planning *p, const json_t *volume, const struct want *w)
{
	CLEANUP(volume_work_end) struct volume_work work = { .lock = -1 };
	CLEANUP(volume_dirs_fini) struct volume_dirs dirs = { -1, -1 };
	const char *name = json_str_at(volume, "Name", "");
	auto_fd int from = -1;
	struct stat st;
	struct err *err;

	TRY(open_image(p));
	from = sys_open_in_root(p->root, w->target + 1, O_PATH, 0);
	if (from >= 0 && sys_fstat(from, &st) >= 0 && !S_ISDIR(st.st_mode) && !w->source)
		return FAIL(ERR_INVALID, "cannot mount volume over existing file, file exists %s", w->target);
	own_close(&from);
	from = sys_open_in_root(p->root, w->target + 1, O_RDONLY | O_DIRECTORY, 0);
	if (from == -ENOENT || from == -ENOTDIR)
		return NULL;
	if (from < 0)
		return FAIL_OS(-from, "open %s of the image", w->target);
	TRY(volume_work_begin(p->e, name, &work));
	err = volume_dirs_open(p->e, volume, &dirs);
	if (!err && volume_is_empty(&dirs))
		err = volume_fill(&work, &dirs, from);
	return err ? err_ctx(err, "copy %s of the image into volume %s", w->target, name) : NULL;
}

static json_t *volume_mount(const json_t *volume, const struct want *w)
{
	const char *device = json_str_at(volume, "Options.device", NULL);
	json_t *m =
	    json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:b}", "Type", "volume", "Name",
		      json_str_at(volume, "Name", ""), "Source", json_str_at(volume, "Mountpoint", ""),
		      "Destination", w->target, "Driver", "local", "Mode", w->mode ? w->mode : "z", "RW",
		      !w->read_only, "Propagation", "", "HoyAnonymous", !w->source);

	set_flag(m, "HoyNoCopy", w->no_copy && device);
	return m;
}

static FALLIBLE hold(struct planning *p, const char *name, json_t **out_volume)
{
	int fd = -1;

	TRY(volume_hold(p->e, name, &fd, out_volume));
	if (fd >= 0)
		*vec_push(&p->hold->fds) = fd;
	return NULL;
}

/* Somebody may remove it just before it is held: then it is made again. */
static FALLIBLE make_held(struct planning *p, const json_t *body, json_t **out_volume)
{
	for (int tries = 0; tries < 1000; tries++) {
		auto_json json_t *made = NULL;

		TRY(volume_make(p->e, body, &made));
		TRY(volume_make_directories(
		    p->e, json_str_at(made, "Name", ""))); /* a power cut may have taken new ones */
		TRY(hold(p, json_str_at(made, "Name", ""), out_volume));
		if (*out_volume)
			return NULL;
	}
	return FAIL(ERR_CONFLICT, "volume %s is removed again and again", json_str_at(body, "Name", ""));
}

static FALLIBLE use_volume(struct planning *p, const struct want *w, json_t **out_mount)
{
	bool own = !w->source;
	auto_json json_t *body = json_pack("{s:s, s:s, s:s, s:O?, s:O?}", "Name", own ? "" : w->source,
					   "Driver", w->driver && *w->driver ? w->driver : "local", "HoyFor",
					   own ? json_str_at(p->doc, "Id", "") : "", "Labels", w->labels,
					   "DriverOpts", w->driver_options),
			 *volume = NULL;
	bool is_fs;
	struct err *err = NULL;

	TRY(make_held(p, body, &volume));
	is_fs = json_at(volume, "Options.device") && !volume_is_bind(volume);
	if (!w->no_copy && !w->subpath && !w->is_overlay && !is_fs)
		err = copy_up(p, volume, w);
	TRY(err);
	*out_mount = volume_mount(volume, w);
	return NULL;
}

/* ---- binds ---- */

static int make_directories(const char *path)
{
	auto_free char *p = xstrdup(path);
	int r = 0;

	for (char *at = p + 1; r >= 0 && (at = strchr(at, '/')); *at++ = '/') {
		*at = 0;
		r = sys_mkdir(AT_FDCWD, p, 0755);
		r = r == -EEXIST ? 0 : r;
	}
	if (r >= 0)
		r = sys_mkdir(AT_FDCWD, p, 0755);
	return r == -EEXIST ? 0 : r;
}

static FALLIBLE use_bind(const struct want *w, json_t **out_mount)
{
	struct stat st;
	int r = sys_fstatat(AT_FDCWD, w->source, &st, 0);

	if (r == -ENOENT && w->make_source) {
		if ((r = make_directories(w->source)) < 0)
			return FAIL_OS(-r, "error while creating mount source path '%s'", w->source);
	}
	if (r == -ENOENT)
		return FAIL(ERR_NOT_FOUND,
			    "invalid mount config for type \"bind\": bind source path does not exist: %s",
			    w->source);
	if (r < 0)
		return FAIL_OS(-r, "bind source %s", w->source);
	*out_mount = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "Type", "bind", "Source", w->source,
			       "Destination", w->target, "Mode", w->mode ? w->mode : "", "RW", !w->read_only,
			       "Propagation", w->propagation ? w->propagation : "rprivate");
	return NULL;
}

/* ---- images ---- */

/* Nobody removes it before the record names it: its lease goes over to hold. */
static FALLIBLE use_image(struct planning *p, const struct want *w, json_t **out_mount)
{
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };

	TRY(engine_image_get(p->e, w->source, &image));
	*out_mount = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:o}", "Type", "image", "Source", w->source, "Destination",
			       w->target, "Mode", "", "RW", false, "Propagation", "", "HoyImage", image.id, "HoyLayers",
			       json_from_list(image.diff_ids));
	if (image.lease)
		*vec_push(&p->hold->fds) = image.lease - 1;
	image.lease = 0;
	return NULL;
}

bool mounts_at(const json_t *doc, const char *target)
{
	size_t i;

	return find_target(json_object_get(doc, "Mounts"), target, &i) != NULL;
}

void mounts_images(const json_t *doc, char ***layers, char ***ids)
{
	size_t i, k;
	json_t *m, *layer;

	json_array_foreach(json_object_get(doc, "Mounts"), i, m)
	{
		if (ids && *json_str_at(m, "HoyImage", ""))
			text_list_add(ids, json_str_at(m, "HoyImage", ""));
		json_array_foreach(json_object_get(m, "HoyLayers"), k, layer) if (layers && json_is_string(layer))
		    text_list_add(layers, json_string_value(layer));
	}
}

/* ---- all of them ---- */

static FALLIBLE add(struct planning *p, const struct want *w)
{
	auto_json json_t *made = NULL;
	size_t i;
	json_t *m = find_target(p->list, w->target, &i);

	if (m && !json_bool_at(m, "HoyFrom", false))
		return FAIL(ERR_INVALID, "Duplicate mount point: %s", w->target);
	if (m) /* of another container: what is asked for itself stands above it */
		(void)json_array_remove(p->list, i);
	if (strcmp(w->type, "volume") == 0)
		TRY(use_volume(p, w, &made));
	else if (strcmp(w->type, "bind") == 0)
		TRY(use_bind(w, &made));
	else if (strcmp(w->type, "image") == 0)
		TRY(use_image(p, w, &made));
	else
		made =
		    json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "Type", "tmpfs", "Source", "", "Destination",
			      w->target, "Mode", "", "RW", !w->read_only, "Propagation", "");
	set_flag(made, "HoyFlat", w->is_flat);
	set_flag(made, "HoyTopOnly", w->is_top_only);
	set_flag(made, "HoyChown", w->want_chown);
	set_flag(made, "HoyOverlay", w->is_overlay);
	set_text(made, "HoySubpath", w->subpath);
	set_text(made, "HoyIdmap", w->idmap);
	if (w->options)
		(void)json_object_set(made, "HoyOptions", w->options);
	(void)json_array_append(p->list, made);
	return NULL;
}

static FALLIBLE from_container(struct planning *p, const char *text)
{
	auto_free char *container = NULL;
	auto_json json_t *doc = NULL;
	char id[CTR_ID_MAX];
	bool read_only;
	size_t i, at;
	json_t *m;

	TRY(want_from_container(text, &container, &read_only));
	TRY(ctr_find(p->e, container, id, &doc));
	json_array_foreach(json_object_get(doc, "Mounts"), i, m)
	{
		auto_json json_t *volume = NULL;
		json_t *copy;

		if (strcmp(json_str_at(m, "Type", ""), "volume") == 0)
			TRY(hold(p, json_str_at(m, "Name", ""), &volume));
		if (strcmp(json_str_at(m, "Type", ""), "volume") == 0 && !volume)
			return FAIL(ERR_NOT_FOUND, "get %s: no such volume", json_str_at(m, "Name", ""));
		copy = json_deep_copy(m);
		if (read_only)
			(void)json_object_set_new(copy, "RW", json_false());
		(void)json_object_set_new(copy, "HoyFrom", json_true());
		if (find_target(p->list, json_str_at(m, "Destination", ""), &at))
			(void)json_array_remove(p->list, at); /* a later one replaces */
		(void)json_array_append_new(p->list, copy);
	}
	return NULL;
}

static size_t depth(const json_t *m)
{
	size_t n = 0;

	for (const char *s = json_str_at(m, "Destination", ""); *s; s++)
		n += *s == '/';
	return n;
}

/* Outer mounts first, else as they were asked for. */
static void sort_by_depth(json_t *list)
{
	for (size_t i = 1; i < json_array_size(list); i++)
		for (size_t j = i;
		     j > 0 && depth(json_array_get(list, j - 1)) > depth(json_array_get(list, j)); j--) {
			json_t *m = json_incref(json_array_get(list, j));

			(void)json_array_remove(list, j);
			(void)json_array_insert_new(list, j - 1, m);
		}
}

static const char *text_of(const json_t *v)
{
	return json_is_string(v) ? json_string_value(v) : "";
}

static FALLIBLE plan_host(struct planning *p)
{
	const json_t *host = json_object_get(p->doc, "HostConfig");
	const char *key;
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(host, "VolumesFrom"), i, item)
	    TRY(from_container(p, text_of(item)));
	json_array_foreach(json_object_get(host, "Binds"), i, item)
	{
		CLEANUP(want_fini) struct want w = { .driver = json_str_at(host, "VolumeDriver", NULL) };

		TRY(want_from_bind(text_of(item), &w));
		TRY(add(p, &w));
	}
	json_array_foreach(json_object_get(host, "Mounts"), i, item)
	{
		CLEANUP(want_fini) struct want w = { 0 };

		TRY(want_from_object(item, &w));
		TRY(add(p, &w));
	}
	json_object_foreach(json_object_get(host, "Tmpfs"), key, item)
	{
		CLEANUP(want_fini) struct want w = { 0 };

		TRY(want_from_tmpfs(key, text_of(item), &w));
		TRY(add(p, &w));
	}
	return NULL;
}

static FALLIBLE plan_all(struct planning *p)
{
	const char *key;
	json_t *item;
	size_t i;

	TRY(plan_host(p));
	json_object_foreach(json_at(p->doc, "Config.Volumes"), key, item)
	{
		CLEANUP(want_fini)
		struct want w = { .driver = json_str_at(p->doc, "HostConfig.VolumeDriver", NULL) };

		TRY(want_from_path(key, &w));
		if (!find_target(p->list, w.target, &i))
			TRY(add(p, &w));
	}
	json_array_foreach(p->list, i, item)(void) json_object_del(item, "HoyFrom");
	return NULL;
}

void mounts_hold_fini(struct mounts_hold *h)
{
	for (size_t i = 0; i < h->fds.n; i++)
		own_close(&h->fds.p[i]);
	vec_fini(&h->fds);
}

FALLIBLE mounts_plan(struct engine *e, const struct engine_image *image, json_t *doc,
		     struct mounts_hold *hold_them)
{
	CLEANUP(planning_fini) struct planning p = { e, image, doc, json_array(), hold_them, -1 };

	(void)json_object_set_new(doc, "Mounts", p.list);
	TRY(plan_all(&p));
	sort_by_depth(p.list);
	return NULL;
}
