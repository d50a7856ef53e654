#include "engine/mounts.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/ctr.h"
#include "engine/volume.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

/* One mount on its way into the record. */
struct want {
	const char *type; /* bind volume tmpfs */
	char *source, *target, *options;
	const char *propagation;
	bool read_only, is_flat, no_copy, make_source, is_anonymous;
	const json_t *labels;
};

static void want_fini(struct want *w)
{
	free(w->source);
	free(w->target);
	free(w->options);
}

/* Absolute, without double or trailing slashes; ".." refused. Owned. */
static FALLIBLE clean_target(const char *text, char **out)
{
	auto_free char *path = xcalloc(1, strlen(text) + 2);
	struct sv rest = sv_of(text);
	size_t n = 0;

	if (text[0] != '/')
		return FAIL(ERR_INVALID, "invalid mount config: mount path must be absolute: %s", text);
	while (rest.n) {
		struct sv part = sv_cut(&rest, '/');

		if (!part.n || sv_is(part, "."))
			continue;
		if (sv_is(part, ".."))
			return FAIL(ERR_INVALID, "invalid mount config: \"%s\" has \"..\" in it", text);
		path[n++] = '/';
		memcpy(path + n, part.p, part.n);
		n += part.n;
	}
	if (n == 0)
		return FAIL(ERR_INVALID, "invalid specification: destination can't be '/'");
	*out = TAKE(path);
	return NULL;
}

static bool has_target(const json_t *list, const char *target)
{
	size_t i;
	json_t *m;

	json_array_foreach (list, i, m)
		if (strcmp(json_str_at(m, "Destination", ""), target) == 0)
			return true;
	return false;
}

/* ---- volumes ---- */

/* What the image has at the place goes into a volume that is empty. */
static FALLIBLE copy_up(struct engine *e, const struct engine_image *image, const char *data, const char *target)
{
	CLEANUP(rootfs_fini) struct rootfs rootfs = { 0 };
	auto_fd int to = sys_open_dir(data), root = -1, from = -1;
	auto_list char **names = NULL;
	struct stat st;
	int r;

	if (to < 0 || (r = fs_list(to, &names)) < 0)
		return FAIL_OS(to < 0 ? -to : -r, "open volume %s", data);
	if (names[0])
		return NULL;
	TRY(rootfs_prepare(engine_snapshotter(e), image->diff_ids, NULL, &rootfs));
	TRY(rootfs_view(&rootfs, &root));
	from = sys_open_in_root(root, target + 1, O_RDONLY | O_DIRECTORY, 0);
	if (from == -ENOENT || from == -ENOTDIR)
		return NULL;
	if (from < 0 || (r = sys_fstat(from, &st)) < 0)
		return FAIL_OS(from < 0 ? -from : -r, "open %s of the image", target);
	if ((r = sys_fchown(to, st.st_uid, st.st_gid)) < 0 || (r = sys_fchmod(to, st.st_mode & 07777)) < 0 ||
	    (r = fs_copy_tree(from, to)) < 0)
		return FAIL_OS(-r, "copy %s of the image into the volume", target);
	return NULL;
}

static FALLIBLE use_volume(struct engine *e, const struct engine_image *image, struct want *w, json_t **out_mount)
{
	auto_json json_t *body = json_pack("{s:s, s:b, s:O?}", "Name", w->source ? w->source : "", "HoyAnonymous", !w->source,
					   "Labels", w->labels),
			 *volume = NULL;
	const char *data;

	TRY(volume_create(e, body, &volume));
	data = json_str_at(volume, "Mountpoint", "");
	if (!w->no_copy)
		TRY(copy_up(e, image, data, w->target));
	*out_mount = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:b}", "Type", "volume", "Name",
			       json_str_at(volume, "Name", ""), "Source", data, "Destination", w->target, "Driver", "local",
			       "Mode", w->read_only ? "ro" : "z", "RW", !w->read_only, "Propagation", "", "HoyAnonymous",
			       !w->source);
	return NULL;
}

static FALLIBLE use_bind(const struct want *w, json_t **out_mount)
{
	struct stat st;
	int r = sys_fstatat(AT_FDCWD, w->source, &st, 0);

	if (r == -ENOENT && w->make_source && (r = sys_mkdir(AT_FDCWD, w->source, 0755)) == -ENOENT)
		return FAIL(ERR_NOT_FOUND, "bind source path does not exist: %s", w->source);
	if (r == -ENOENT)
		return FAIL(ERR_NOT_FOUND, "invalid mount config for type \"bind\": bind source path does not exist: %s", w->source);
	if (r < 0)
		return FAIL_OS(-r, "bind source %s", w->source);
	*out_mount = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:b}", "Type", "bind", "Source", w->source, "Destination",
			       w->target, "Mode", w->read_only ? "ro" : "", "RW", !w->read_only, "Propagation",
			       w->propagation ? w->propagation : "rprivate", "HoyFlat", w->is_flat);
	return NULL;
}

static FALLIBLE add(struct engine *e, const struct engine_image *image, struct want *w, json_t *list)
{
	json_t *m = NULL;

	if (has_target(list, w->target))
		return FAIL(ERR_INVALID, "Duplicate mount point: %s", w->target);
	if (strcmp(w->type, "volume") == 0)
		TRY(use_volume(e, image, w, &m));
	else if (strcmp(w->type, "bind") == 0)
		TRY(use_bind(w, &m));
	else
		m = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s}", "Type", "tmpfs", "Source", "", "Destination", w->target,
			      "Mode", "", "RW", !w->read_only, "Propagation", "", "HoyOptions",
			      w->options ? w->options : "noexec,nosuid,nodev");
	(void)json_array_append_new(list, m);
	return NULL;
}

/* ---- the four ways to ask ---- */

static FALLIBLE bind_option(struct want *w, struct sv o, const char *text)
{
	static const char *const propagation[] = { "private", "rprivate", "shared", "rshared", "slave", "rslave" };

	if (sv_is(o, "ro")) {
		w->read_only = true;
		return NULL;
	}
	if (sv_is(o, "nocopy")) {
		w->no_copy = true;
		return NULL;
	}
	if (sv_is(o, "rw") || sv_is(o, "z") || sv_is(o, "Z") || sv_is(o, "rbind") || sv_is(o, "consistent") ||
	    sv_is(o, "cached") || sv_is(o, "delegated"))
		return NULL;
	if (sv_is(o, "bind")) {
		w->is_flat = true;
		return NULL;
	}
	for (size_t i = 0; i < LEN(propagation); i++)
		if (sv_is(o, propagation[i])) {
			w->propagation = propagation[i];
			return NULL;
		}
	return FAIL(ERR_INVALID, "invalid mode: " SV_FMT " (in \"%s\")", SV_ARG(o), text);
}

/* "source:target[:options]" */
static FALLIBLE from_bind(const char *text, struct want *w)
{
	struct sv rest = sv_of(text), source = sv_cut(&rest, ':'), target = sv_cut(&rest, ':');
	auto_free char *raw = xstrndup(target.p ? target.p : "", target.n);

	if (!source.n || !target.n || memchr(rest.p ? rest.p : "", ':', rest.n))
		return FAIL(ERR_INVALID, "invalid volume specification: '%s'", text);
	w->source = xstrndup(source.p, source.n);
	w->type = source.p[0] == '/' ? "bind" : "volume";
	w->make_source = true;
	if (source.p[0] != '/' && !text_is_name(source))
		return FAIL(ERR_INVALID,
			    "invalid volume specification: '%s': \"%s\" includes invalid characters for a local volume name", text,
			    w->source);
	TRY(clean_target(raw, &w->target));
	while (rest.n)
		TRY(bind_option(w, sv_cut(&rest, ','), text));
	return NULL;
}

static FALLIBLE from_object(const json_t *m, struct want *w)
{
	const char *type = json_str_at(m, "Type", ""), *source = json_str_at(m, "Source", "");
	int64_t size = json_int_at(m, "TmpfsOptions.SizeBytes", 0), mode = json_int_at(m, "TmpfsOptions.Mode", 0);
	static const char *const types[] = { "bind", "volume", "tmpfs" };

	for (size_t i = 0; i < LEN(types); i++)
		if (strcmp(types[i], type) == 0)
			w->type = types[i];
	if (!w->type)
		return FAIL(ERR_INVALID, "mount type unknown: \"%s\"", type);
	TRY(clean_target(json_str_at(m, "Target", ""), &w->target));
	if (strcmp(type, "bind") == 0 && source[0] != '/')
		return FAIL(ERR_INVALID, "invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute",
			    source);
	if (strcmp(type, "tmpfs") == 0 && *source)
		return FAIL(ERR_INVALID, "invalid mount config for type \"tmpfs\": field Source must not be specified");
	if (json_object_size(json_at(m, "VolumeOptions.DriverConfig.Options")) || *json_str_at(m, "VolumeOptions.Subpath", ""))
		return FAIL(ERR_UNSUPPORTED, "mount %s: volume driver options and subpaths are not supported", w->target);
	w->source = *source ? xstrdup(source) : NULL;
	w->read_only = json_bool_at(m, "ReadOnly", false);
	w->no_copy = json_bool_at(m, "VolumeOptions.NoCopy", false);
	w->labels = json_at(m, "VolumeOptions.Labels");
	w->is_flat = json_bool_at(m, "BindOptions.NonRecursive", false);
	w->make_source = json_bool_at(m, "BindOptions.CreateMountpoint", false);
	if (*json_str_at(m, "BindOptions.Propagation", ""))
		TRY(bind_option(w, sv_of(json_str_at(m, "BindOptions.Propagation", "")), w->target));
	if (strcmp(type, "tmpfs") == 0) {
		char text[96] = "";

		if (size)
			(void)snprintf(text, sizeof text, ",size=%lld", (long long)size);
		w->options = mode ? xasprintf("noexec,nosuid,nodev%s,mode=%llo", text, (unsigned long long)mode) :
				    xasprintf("noexec,nosuid,nodev%s%s", text, w->read_only ? ",ro" : "");
	}
	return NULL;
}

/* docker's defaults, then what the user wrote */
static FALLIBLE from_tmpfs(const char *target, const char *options, struct want *w)
{
	w->type = "tmpfs";
	w->options = xasprintf("noexec,nosuid,nodev%s%s", *options ? "," : "", options);
	return clean_target(target, &w->target);
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
		for (size_t j = i; j > 0 && depth(json_array_get(list, j - 1)) > depth(json_array_get(list, j)); j--) {
			json_t *m = json_incref(json_array_get(list, j));

			(void)json_array_remove(list, j);
			(void)json_array_insert_new(list, j - 1, m);
		}
}

static FALLIBLE plan_all(struct engine *e, const struct engine_image *image, json_t *doc, json_t *list)
{
	const json_t *host = json_object_get(doc, "HostConfig");
	const char *key;
	json_t *item;
	size_t i;

	json_array_foreach (json_object_get(host, "Binds"), i, item) {
		CLEANUP(want_fini) struct want w = { 0 };

		TRY(from_bind(json_is_string(item) ? json_string_value(item) : "", &w));
		TRY(add(e, image, &w, list));
	}
	json_array_foreach (json_object_get(host, "Mounts"), i, item) {
		CLEANUP(want_fini) struct want w = { 0 };

		TRY(from_object(item, &w));
		TRY(add(e, image, &w, list));
	}
	json_object_foreach (json_object_get(host, "Tmpfs"), key, item) {
		CLEANUP(want_fini) struct want w = { 0 };

		TRY(from_tmpfs(key, json_is_string(item) ? json_string_value(item) : "", &w));
		TRY(add(e, image, &w, list));
	}
	json_object_foreach (json_at(doc, "Config.Volumes"), key, item) {
		CLEANUP(want_fini) struct want w = { .type = "volume" };

		TRY(clean_target(key, &w.target));
		if (!has_target(list, w.target))
			TRY(add(e, image, &w, list));
	}
	return NULL;
}

FALLIBLE mounts_plan(struct engine *e, const struct engine_image *image, json_t *doc)
{
	json_t *list = json_array();

	(void)json_object_set_new(doc, "Mounts", list);
	TRY(plan_all(e, image, doc, list));
	sort_by_depth(list);
	return NULL;
}
