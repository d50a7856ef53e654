/*
 * engine.c - the handle: two directories, the database, and the rest when first used (the start path pays only for what it
 * uses).
 */
#include "engine/engine.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "content/store.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/image_store.h"
#include "engine/lost.h"
#include "network/network.h"
#include "runtime/runtime.h"
#include "snapshot/snapshot.h"
#include "state/db.h"
#include "sys/spawn.h"
#include "sys/loop.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/utsname.h>

struct engine {
	char *root, *run, *storage_driver;
	int root_fd, run_fd;
	struct db *db;
	struct store *store;
	struct snapshotter *snapshotter;
	struct network *network;
	pthread_mutex_t lock; /* guards the two below */
	struct lease *lease;  /* of all that this process does; NULL: none */
	unsigned lease_users;
};

/* mkdir -p, then the absolute path without links; owned. */
static FALLIBLE directory(const char *path, mode_t mode, char **out_path)
{
	auto_free char *p = xstrdup(path);

	for (char *at = p + 1; *p; at++) {
		char c = *at;
		int r;

		if (c != '/' && c != 0)
			continue;
		*at = 0;
		r = sys_mkdir(AT_FDCWD, p, c ? 0755 : mode);
		if (r < 0 && r != -EEXIST)
			return FAIL_OS(-r, "make directory %s", p);
		*at = c;
		if (!c)
			break;
	}
	*out_path = realpath(path, NULL);
	return *out_path ? NULL : FAIL_OS(errno, "directory %s", path);
}

static const char *pick(const char *given, const char *variable, const char *fallback)
{
	const char *env = getenv(variable);

	return given ? given : env && *env ? env : fallback;
}

static const char *root_of(const struct engine_opts *o)
{
	return pick(o ? o->root : NULL, "HOY_ROOT", "/var/lib/hoy");
}

static const char *run_of(const struct engine_opts *o)
{
	return pick(o ? o->run : NULL, "HOY_RUN", "/run/hoy");
}

bool engine_exists(const struct engine_opts *o)
{
	struct stat st;

	return sys_fstatat(AT_FDCWD, root_of(o), &st, 0) == 0 || sys_fstatat(AT_FDCWD, run_of(o), &st, 0) == 0;
}

char *engine_meta_path(const struct engine_opts *o)
{
	return xasprintf("%s/meta", pick(o ? o->root : NULL, "HOY_ROOT", "/var/lib/hoy"));
}

static FALLIBLE open_parts(struct engine *e, const struct engine_opts *o)
{
	auto_free char *meta = NULL;
	static const char *const dirs[] = { "containers", "tmp", "volumes", "layers" };
	struct err *err;

	TRY(directory(root_of(o), 0710, &e->root));
	TRY(directory(run_of(o), 0700, &e->run));
	e->storage_driver = xstrdup(pick(o ? o->storage_driver : NULL, "HOY_STORAGE_DRIVER", ""));
	if ((e->root_fd = sys_open_dir(e->root)) < 0)
		return FAIL_OS(-e->root_fd, "open %s", e->root);
	if ((e->run_fd = sys_open_dir(e->run)) < 0)
		return FAIL_OS(-e->run_fd, "open %s", e->run);
	for (size_t i = 0; i < LEN(dirs); i++) {
		int r = sys_mkdir(e->root_fd, dirs[i], 0710);

		if (r < 0 && r != -EEXIST)
			return FAIL_OS(-r, "make directory %s/%s", e->root, dirs[i]);
	}
	if (lost_database(e->root_fd))
		return FAIL(ERR_CORRUPT, LOST_DATABASE);
	meta = xasprintf("%s/meta", e->root);
	TRY(db_open(meta, &e->db));
	err = engine_reconcile(e);
	if (err && err->os == EROFS) { /* a disk that failed: what is there can still be looked at, saved, stopped */
		err_free(err);
		return NULL;
	}
	return err;
}

FALLIBLE engine_open(const struct engine_opts *o, struct engine **out_engine)
{
	auto_engine struct engine *e = xnew(struct engine);

	e->root_fd = e->run_fd = -1;
	(void)pthread_mutex_init(&e->lock, NULL);
	TRY(open_parts(e, o));
	*out_engine = TAKE(e);
	return NULL;
}

void engine_close(struct engine *e)
{
	if (!e)
		return;
	if (e->network)
		network_close(e->network);
	if (e->snapshotter)
		snapshotter_close(e->snapshotter);
	if (e->store)
		store_close(e->store);
	lease_end(e->lease);
	if (e->db)
		db_close(e->db);
	(void)pthread_mutex_destroy(&e->lock);
	own_close(&e->root_fd);
	own_close(&e->run_fd);
	free(e->root);
	free(e->run);
	free(e->storage_driver);
	free(e);
}

const char *engine_root(const struct engine *e)
{
	return e->root;
}

const char *engine_run(const struct engine *e)
{
	return e->run;
}

int engine_root_fd(const struct engine *e)
{
	return e->root_fd;
}

int engine_run_fd(const struct engine *e)
{
	return e->run_fd;
}

struct db *engine_db(struct engine *e)
{
	return e->db;
}

/* A root that cannot hold our store at all: nothing that was asked for can be done. */
static void give_up(struct err *e)
{
	(void)fprintf(stderr, "hoy: %s\n", e->msg);
	exit(125);
}

struct store *engine_store(struct engine *e)
{
	struct err *err = e->store ? NULL : store_open(e->root_fd, &e->store);

	if (err)
		give_up(err);
	return e->store;
}

struct snapshotter *engine_snapshotter(struct engine *e)
{
	struct snapshotter_opts o = { e->storage_driver, true, e->run_fd };
	struct err *err = e->snapshotter ? NULL : snapshotter_open(e->root_fd, &o, &e->snapshotter);

	if (err)
		give_up(err);
	snapshotter_lease(e->snapshotter, e->lease);
	return e->snapshotter;
}

struct lease *engine_lease(const struct engine *e)
{
	return e->lease;
}

FALLIBLE engine_lease_begin(struct engine *e, struct engine **out_leased)
{
	struct store *store = engine_store(e);
	struct err *err = NULL;

	(void)pthread_mutex_lock(&e->lock);
	if (!e->lease)
		err = lease_begin(e->root_fd, &e->lease);
	if (!err) {
		e->lease_users++;
		store_lease(store, e->lease);
		if (e->snapshotter)
			snapshotter_lease(e->snapshotter, e->lease);
		*out_leased = e;
	}
	(void)pthread_mutex_unlock(&e->lock);
	return err;
}

void engine_lease_end(struct engine *leased)
{
	struct lease *last = NULL;

	if (!leased)
		return;
	(void)pthread_mutex_lock(&leased->lock);
	if (--leased->lease_users == 0) {
		last = TAKE(leased->lease);
		store_lease(leased->store, NULL);
		if (leased->snapshotter)
			snapshotter_lease(leased->snapshotter, NULL);
	}
	(void)pthread_mutex_unlock(&leased->lock);
	lease_end(last);
	if (last)
		image_sweep_wanted(leased);
}

const char *engine_image_driver(struct engine *e, char *const *diff_ids)
{
	size_t n = text_list_len(diff_ids);
	const char *name = n ? layer_driver_name(engine_snapshotter(e), diff_ids[n - 1]) : "";

	return *name ? name : "overlay";
}

FALLIBLE engine_network(struct engine *e, struct network **out_network)
{
	if (!e->network)
		TRY(network_open(e->db, e->run_fd, &e->network));
	*out_network = e->network;
	return NULL;
}

FALLIBLE engine_program(const char *name, char **out_path)
{
	char exe[PATH_MAX];
	auto_free char *path = NULL;
	const char *self = getenv("HOY_SELF"); /* behind a shield /proc/self/exe does not tell where we are */
	ssize_t n = self ? snprintf(exe, sizeof exe, "%s", self) : sys_readlink(AT_FDCWD, "/proc/self/exe", exe, sizeof exe);
	struct stat st;

	if (n > 0 && strchr(exe, '/')) {
		char *slash = strrchr(exe, '/');

		*slash = 0;
		path = xasprintf("%s/%s", exe, name);
		if (sys_fstatat(AT_FDCWD, path, &st, 0) < 0) {
			free(path);
			path = NULL;
		}
	}
	if (!path) {
		path = xasprintf("%s/%s", HOY_LIBEXEC, name);
		if (sys_fstatat(AT_FDCWD, path, &st, 0) < 0)
			return FAIL(ERR_NOT_FOUND, "%s: neither beside hoy nor in %s", name, HOY_LIBEXEC);
	}
	*out_path = TAKE(path);
	return NULL;
}

/* ---- info ---- */

static int64_t memory_total(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return (int64_t)pages * size;
}

FALLIBLE engine_info(struct engine *e, json_t **out_info)
{
	auto_json json_t *list = NULL, *images = NULL;
	struct utsname u;
	struct stat st;
	size_t running = 0, paused = 0, i;
	json_t *c;
	char now[TIME_TEXT_MAX];
	const char *driver, *why_not;

	TRY(snapshotter_driver(engine_snapshotter(e), &driver, &why_not));
	TRY(container_list(e, true, NULL, &list));
	TRY(engine_image_list(e, NULL, &images));
	json_array_foreach(list, i, c) {
		const char *state = json_str_at(c, "State", "");

		running += strcmp(state, "running") == 0;
		paused += strcmp(state, "paused") == 0;
	}
	(void)uname(&u);
	*out_info = json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s}", "ID", "hoy",
		"Containers", (json_int_t)json_array_size(list), "ContainersRunning", (json_int_t)running,
		"ContainersPaused", (json_int_t)paused, "ContainersStopped",
		(json_int_t)(json_array_size(list) - running - paused), "Images", (json_int_t)json_array_size(images),
		"Driver", driver, "ServerVersion", HOY_VERSION, "KernelVersion",
		u.release, "OSType", "linux", "Architecture", u.machine, "Name", u.nodename, "NCPU",
		(json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "MemTotal", (json_int_t)memory_total(), "DockerRootDir", e->root,
		"CgroupVersion", sys_fstatat(AT_FDCWD, "/sys/fs/cgroup/cgroup.controllers", &st, 0) == 0 ? "2" : "1",
		"LoggingDriver", "json-file", "SystemTime", time_format(time_now_ns(), now));
	if (!*out_info)
		return FAIL(ERR_INTERNAL, "info: no memory");
	if (why_not)
		(void)json_object_set_new(*out_info, "DriverStatus", json_pack("[[s, s]]", "not used", why_not));
	return NULL;
}

/* ---- footprint and reset ---- */

static int add_keeper(void *ctx, const char *name)
{
	char ***lines = ctx;

	if (strlen(name) == 64 && text_is_hex(sv_of(name))) {
		auto_free char *line = xasprintf("container %.12s: keeper, run directory", name);

		text_list_add(lines, line);
	}
	return 0;
}

static int add_loop(void *ctx, const char *device, const char *file)
{
	char ***lines = ctx;
	auto_free char *line = xasprintf("loop device %s: %s", device, file);

	text_list_add(lines, line);
	return 0;
}

FALLIBLE engine_footprint(struct engine *e, char ***out_lines)
{
	auto_list char **lines = NULL, **net = NULL;
	auto_free char *root = xasprintf("directory %s", e->root), *run = xasprintf("directory %s", e->run);
	struct network *n;
	int r;

	text_list_add(&lines, root);
	text_list_add(&lines, run);
	if ((r = sys_each_entry(e->run_fd, add_keeper, &lines)) < 0)
		return FAIL_OS(-r, "list %s", e->run);
	(void)sys_loop_each(e->root, add_loop, &lines); /* of the driver erofs-loop */
	TRY(engine_network(e, &n));
	TRY(network_footprint(n, &net));
	for (size_t i = 0; net && net[i]; i++)
		text_list_add(&lines, net[i]);
	*out_lines = TAKE(lines);
	return NULL;
}

static bool nobody(void *ctx, const char *container)
{
	(void)ctx;
	(void)container;
	return false;
}

/* A collector that waits holds the lock, and ends when it sees that its file has gone. */
FALLIBLE engine_reset(struct engine *e)
{
	auto_fd int lock = -1;
	auto_json json_t *list = NULL;
	struct network *n;
	size_t i;
	json_t *c;

	TRY(container_list(e, true, NULL, &list));
	json_array_foreach(list, i, c)
		TRY(container_remove(e, json_str_at(c, "Id", ""), (struct container_rm){ .force = true, .volumes = true }));
	TRY(engine_network(e, &n));
	TRY(network_reconcile(n, nobody, NULL));
	network_close(TAKE(e->network));
	if (e->snapshotter)
		snapshotter_close(TAKE(e->snapshotter));
	if (e->store)
		store_close(TAKE(e->store));
	(void)sys_unlink(e->root_fd, "index.json"); /* first: killed after the database has gone, this is no store that lost it */
	db_close(TAKE(e->db));
	lock = sys_openat(e->run_fd, "collect.lock", O_RDWR, 0);
	TRY(ctr_remove_tree(AT_FDCWD, e->root));
	TRY(ctr_remove_tree(AT_FDCWD, e->run));
	if (lock >= 0)
		(void)sys_flock(lock, LOCK_EX);
	return NULL;
}
