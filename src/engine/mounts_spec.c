/*
 * mounts_spec.c - at each start: the record's Mounts as mounts of an OCI specification (runtime-spec
 * config.md#mounts).
 *
 * Nothing is mounted here: the container's own first process does it in its own mount namespace. A subpath is
 * given as the option hoy.subpath=, resolved by that process by fd beneath what it has mounted.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/ctr.h"
#include "engine/mounts.h"
#include "engine/spec.h"
#include "engine/volume_options.h"
#include "engine/volume_work.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

static const char *const image_options[] = { "bind", "hoy.held", "exec", "suid", "rprivate" };

struct making {
	struct engine *e;
	const json_t *doc;
	int root_fd;
	struct mounts_hold *views;
	json_t *list;
};

static void add_option(json_t *options, const char *text)
{
	(void)json_array_append_new(options, json_string(text));
}

static void add_mount(struct making *k, const json_t *m, const char *type, const char *source,
		      json_t *options)
{
	(void)json_array_append_new(k->list, json_pack("{s:s, s:s, s:s, s:O}", "destination",
						       json_str_at(m, "Destination", ""), "type", type,
						       "source", source, "options", options));
}

/* ---- giving files away ---- */

/* podman's list: what the host itself lives on */
static bool is_of_the_host(const char *path)
{
	static const char *const all[] = { "/",      "/bin",   "/boot", "/dev", "/etc",  "/home",   "/lib",
					   "/lib64", "/media", "/mnt",  "/opt", "/proc", "/root",   "/run",
					   "/sbin",  "/srv",   "/sys",  "/usr", "/var",  "/var/lib" };
	auto_free char *real = realpath(path, NULL);

	for (size_t i = 0; real && i < LEN(all); i++)
		if (strcmp(all[i], real) == 0)
			return true;
	return false;
}

static FALLIBLE give_away(struct making *k, const char *source)
{
	auto_fd int fd = sys_open(source, O_RDONLY, 0);
	struct spec_user u;
	int r;

	if (is_of_the_host(source))
		return FAIL(ERR_INVALID, "chowning host path %s is not permitted (mount option U)", source);
	TRY(spec_user_find(k->root_fd, json_str_at(k->doc, "Config.User", ""), &u));
	r = fd < 0 ? fd : fs_chown_tree(fd, u.uid, u.gid);
	return r < 0 ? FAIL_OS(-r, "give %s to the container's user", source) : NULL;
}

/* ---- propagation ---- */

static FALLIBLE read_mountinfo(char **out_text)
{
	auto_fd int fd = sys_open("/proc/self/mountinfo", O_RDONLY, 0);
	auto_buf struct buf b = BUF(16u << 20);
	ssize_t n = fd < 0 ? fd : 1;

	while (n > 0) {
		char *p = buf_room(&b, 65536);

		if ((n = p ? sys_read(fd, p, 65536) : -ENOMEM) > 0)
			b.n += (size_t)n;
	}
	if (n < 0)
		return FAIL_OS((int)-n, "read /proc/self/mountinfo");
	*out_text = buf_take(&b);
	return NULL;
}

/* The optional fields of the mount that path is on: its mount point is the longest that begins path, the last
 * one made. */
static FALLIBLE peers_of(const char *path, char **out_fields)
{
	auto_free char *text = NULL, *real = realpath(path, NULL);
	struct sv rest, best = { NULL, 0 }, found = { NULL, 0 };

	TRY(read_mountinfo(&text));
	rest = sv_of(text);
	while (real && rest.n) {
		struct sv line = sv_cut(&rest, '\n'), fields = line, point;

		for (int i = 0; i < 4; i++)
			(void)sv_cut(&fields, ' ');
		point = sv_cut(&fields, ' ');
		if (sv_is(point, "/"))
			point.n = 0;
		if (point.n < best.n || !sv_starts(sv_of(real), point) ||
		    (real[point.n] && real[point.n] != '/'))
			continue;
		best = point;
		found = fields;
	}
	*out_fields = xstrndup(found.n ? found.p : "", found.n);
	return NULL;
}

/* docker's rule: what is asked to be shared must be shared on the host. */
static FALLIBLE check_propagation(const char *source, const char *propagation)
{
	bool slave = strstr(propagation, "slave") != NULL;
	auto_free char *fields = NULL;

	if (!slave && !strstr(propagation, "shared"))
		return NULL;
	TRY(peers_of(source, &fields));
	if (strstr(fields, " shared:") || (slave && strstr(fields, " master:")))
		return NULL;
	return FAIL(ERR_INVALID,
		    "path %s is mounted on a file system that is not a shared%s mount (mount --make-shared)",
		    source, slave ? " or slave" : "");
}

/* ---- id mappings ---- */

/* "0-1000-1#10-11-10": on the file system - on the host - how many (podman's order) */
static FALLIBLE one_mapping(struct sv text, json_t *list)
{
	struct sv part[3];
	uint64_t n[3];

	for (size_t i = 0; i < 3; i++) {
		part[i] = sv_cut(&text, '-');
		TRY(num_parse(part[i], 10, 0, UINT32_MAX, &n[i]));
	}
	if (text.n)
		return FAIL(ERR_INVALID, "three numbers are wanted");
	(void)json_array_append_new(list, json_pack("{s:I, s:I, s:I}", "containerID", (json_int_t)n[0],
						    "hostID", (json_int_t)n[1], "size", (json_int_t)n[2]));
	return NULL;
}

static FALLIBLE mappings(const char *text, json_t *mount)
{
	static const char *const keys[][2] = { { "uids", "uidMappings" }, { "gids", "gidMappings" } };
	struct sv rest = sv_of(text);

	while (rest.n) {
		struct sv list = sv_cut(&rest, ';'), key = sv_cut(&list, '=');
		json_t *array = json_array();
		size_t i = sv_is(key, keys[1][0]);

		(void)json_object_set_new(mount, keys[i][1], array);
		if (!sv_is(key, keys[i][0]) || !list.n)
			return FAIL(ERR_INVALID,
				    "invalid idmap \"%s\": uids=FS-HOST-COUNT[#…];gids=… is wanted", text);
		while (list.n) {
			struct err *err = one_mapping(sv_cut(&list, '#'), array);

			if (err)
				return err_ctx(err, "invalid idmap \"%s\"", text);
		}
	}
	if (!*text)
		return FAIL(ERR_INVALID, "mount %s: idmap: the container has no user namespace to follow (idmap=uids=FS-HOST-COUNT;gids=…)",
			    json_str_at(mount, "destination", ""));
	if ((!json_object_get(mount, "uidMappings") || !json_object_get(mount, "gidMappings")))
		return FAIL(ERR_INVALID, "invalid idmap \"%s\": uids and gids are both wanted", text);
	return NULL;
}

/* ---- the kinds ---- */

/* What all kinds have: access, the user's options, a part of it. */
static void common_options(const json_t *m, json_t *options)
{
	const char *subpath = json_str_at(m, "HoySubpath", NULL);

	if (!json_bool_at(m, "RW", true))
		add_option(options, "ro");
	(void)json_array_extend(options, json_object_get(m, "HoyOptions"));
	if (subpath) {
		auto_free char *o = xasprintf("hoy.subpath=%s", subpath);

		add_option(options, o);
	}
}

/* Changes go to a directory of the container's that starts empty each time. */
static FALLIBLE overlay_over(struct making *k, const json_t *m, const char *source, json_t *options)
{
	auto_free char *home = ctr_path(k->e, json_str_at(k->doc, "Id", ""), NULL);
	auto_free char *name = xasprintf("overlay-%zu", json_array_size(k->list));
	auto_free char *lower = xasprintf("lowerdir+=%s", source),
		       *upper = xasprintf("upperdir=%s/%s/upper", home, name),
		       *work = xasprintf("workdir=%s/%s/work", home, name);
	auto_fd int at = sys_open_dir(home), dir = -1, from = sys_open_dir(source), to = -1;
	int r = at < 0 ? at : fs_remove_tree(at, name);

	if (r >= 0 && (r = sys_mkdir(at, name, 0700)) >= 0)
		r = dir = sys_openat(at, name, O_RDONLY | O_DIRECTORY, 0);
	if (r < 0 || (r = sys_mkdir(dir, "work", 0700)) < 0 || (r = sys_mkdir(dir, "upper", 0700)) < 0)
		return FAIL_OS(-r, "make an overlay over %s", source);
	to = sys_openat(dir, "upper", O_RDONLY | O_DIRECTORY, 0);
	if (to < 0 || from < 0 || (r = fs_copy_attrs(from, to)) < 0)
		return FAIL_OS(from < 0 ? -from : to < 0 ? -to : -r, "make an overlay over %s", source);
	add_option(options, lower);
	add_option(options, upper);
	add_option(options, work);
	add_mount(k, m, "overlay", "overlay", options);
	return NULL;
}

static FALLIBLE bind(struct making *k, const json_t *m, const char *source, json_t *options)
{
	const char *idmap = json_str_at(m, "HoyIdmap", NULL),
		   *propagation = json_str_at(m, "Propagation", "");
	bool flat = json_bool_at(m, "HoyFlat", false);

	if (json_bool_at(m, "HoyChown", false))
		TRY(give_away(k, source));
	if (json_bool_at(m, "HoyOverlay", false))
		return overlay_over(k, m, source, options);
	TRY(check_propagation(source, propagation));
	add_option(options, flat ? "bind" : "rbind");
	if (!json_bool_at(m, "RW", true) && !flat && !json_bool_at(m, "HoyTopOnly", false))
		add_option(options, "rro");
	add_option(options, *propagation ? propagation : "rprivate");
	if (idmap)
		add_option(options, flat ? "idmap" : "ridmap");
	add_mount(k, m, "bind", source, options);
	return idmap ? mappings(idmap, json_array_get(k->list, json_array_size(k->list) - 1)) : NULL;
}

/* A tmpfs is born with its owner and with what the image has there; other file systems have their own. */
static FALLIBLE of_its_own(struct making *k, const json_t *m, const char *type, const char *source,
			   json_t *options)
{
	bool tmpfs = strcmp(type, "tmpfs") == 0;
	struct spec_user u;
	char text[40];

	if (json_bool_at(m, "HoyOverlay", false) || json_at(m, "HoyIdmap") ||
	    (json_bool_at(m, "HoyChown", false) && !tmpfs))
		return FAIL(ERR_UNSUPPORTED,
			    "mount %s: options U, O and idmap are not for a volume of type %s",
			    json_str_at(m, "Destination", ""), type);
	if (json_bool_at(m, "HoyChown", false)) {
		TRY(spec_user_find(k->root_fd, json_str_at(k->doc, "Config.User", ""), &u));
		(void)snprintf(text, sizeof text, "uid=%u", u.uid);
		add_option(options, text);
		(void)snprintf(text, sizeof text, "gid=%u", u.gid);
		add_option(options, text);
	}
	if (tmpfs && !json_bool_at(m, "HoyNoCopy", false))
		add_option(options, "tmpcopyup");
	add_mount(k, m, type, source, options);
	return NULL;
}

static FALLIBLE volume(struct making *k, const json_t *m, json_t *options)
{
	auto_json json_t *doc = NULL;
	auto_free char *source = NULL;
	const char *type = NULL, *name = json_str_at(m, "Name", "");

	TRY(volume_get(k->e, name, &doc));
	if (!doc)
		return FAIL(ERR_NOT_FOUND, "get %s: no such volume", name);
	TRY(volume_options_mount(k->e, doc, &type, &source, options));
	return strcmp(type, "bind") == 0 ? bind(k, m, source, options)
					 : of_its_own(k, m, type, source, options);
}

/* A read-only view of the image's layers, which the keeper copies while we hold it. */
static FALLIBLE image(struct making *k, const json_t *m, json_t *options)
{
	CLEANUP(rootfs_fini) struct rootfs rootfs = { 0 };
	auto_list char **layers = NULL;
	auto_free char *source = NULL;
	int fd = -1;
	struct err *err;

	TRY(json_list_at(m, "HoyLayers", &layers));
	if (!layers)
		layers = xcalloc(1, sizeof *layers); /* FROM scratch */
	err = rootfs_prepare(engine_snapshotter(k->e), layers, NULL, &rootfs);
	if (!err)
		err = rootfs_view_read(&rootfs, &fd);
	if (err)
		return err_ctx(err, "mount image %s", json_str_at(m, "Source", ""));
	*vec_push(&k->views->fds) = fd;
	source = xasprintf("/proc/%d/fd/%d", (int)getpid(), fd);
	/* the view is for looking only; in a container its programs may run, as those of the container's own image */
	for (size_t i = 0; i < LEN(image_options); i++)
		add_option(options, image_options[i]);
	add_mount(k, m, "bind", source, options);
	return NULL;
}

FALLIBLE mounts_spec(struct engine *e, const json_t *doc, int root_fd, struct mounts_hold *views, json_t **out_mounts)
{
	auto_json json_t *list = json_array();
	struct making k = { e, doc, root_fd, views, list };
	size_t i;
	json_t *m;

	json_array_foreach(json_object_get(doc, "Mounts"), i, m)
	{
		const char *type = json_str_at(m, "Type", "");
		auto_json json_t *options = json_array();

		common_options(m, options);
		if (strcmp(type, "bind") == 0)
			TRY(bind(&k, m, json_str_at(m, "Source", ""), options));
		else if (strcmp(type, "volume") == 0)
			TRY(volume(&k, m, options));
		else if (strcmp(type, "image") == 0)
			TRY(image(&k, m, options));
		else
			add_mount(&k, m, "tmpfs", "tmpfs", options);
	}
	*out_mounts = TAKE(list);
	return NULL;
}
