/*
 * ctr.c - records, locks and live state of containers.
 *
 * Order of locks: the container's (directory flock), then RUN/<id>'s (held by keepers, taken by sweepers only without
 * waiting), then database and network transactions. A keeper's reaper takes the container's lock, so nobody waits for a
 * keeper while holding it.
 */
#include "engine/ctr.h"
#include "engine/volume_work.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "network/network.h"
#include "runtime/runtime.h"
#include "state/db.h"
#include "state/record.h"
#include "sys/event.h"
#include "sys/fs.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>

#define END_NS INT64_C(30000000000) /* so long a keeper may take to be reaped */

enum { ANSWER_MS = 10000 };

static const char *const state_names[CTR_STATES] = {
	[CTR_CREATED] = "created",	 [CTR_STARTING] = "starting", [CTR_RUNNING] = "running", [CTR_PAUSED] = "paused",
	[CTR_RESTARTING] = "restarting", [CTR_EXITED] = "exited",
};
#define TO(s) (1u << (s))
static const unsigned ctr_moves[CTR_STATES] = {
	[CTR_CREATED] = TO(CTR_STARTING),
	[CTR_STARTING] = TO(CTR_RUNNING) | TO(CTR_CREATED) | TO(CTR_EXITED),
	[CTR_RUNNING] = TO(CTR_PAUSED) | TO(CTR_RESTARTING) | TO(CTR_EXITED),
	[CTR_PAUSED] = TO(CTR_RUNNING) | TO(CTR_EXITED),
	[CTR_RESTARTING] = TO(CTR_RUNNING) | TO(CTR_EXITED),
	[CTR_EXITED] = TO(CTR_STARTING),
};

const char *ctr_state_name(enum ctr_state s)
{
	return state_names[s];
}

enum ctr_state ctr_state_of(const char *name)
{
	for (enum ctr_state s = 0; s < CTR_STATES; s++)
		if (strcmp(state_names[s], name) == 0)
			return s;
	return CTR_CREATED;
}

bool ctr_may_move(enum ctr_state from, enum ctr_state to)
{
	return ctr_moves[from] & TO(to);
}

/* ---- records ---- */

struct prefix_hit {
	char id[CTR_ID_MAX];
	unsigned n;
};

static struct err *prefix_each(void *ctx, struct sv key, struct sv value)
{
	struct prefix_hit *hit = ctx;

	(void)value;
	if (key.n < CTR_ID_MAX) {
		memcpy(hit->id, key.p, key.n);
		hit->id[key.n] = 0;
		hit->n++;
	}
	return NULL;
}

static FALLIBLE resolve_in(struct db_txn *txn, const char *text, char out_id[CTR_ID_MAX])
{
	struct prefix_hit hit = { .n = 0 };
	struct sv id;
	bool found;

	if (*text == '/')
		text++;
	if (!*text || strlen(text) > 255)
		return FAIL(ERR_NOT_FOUND, "No such container: %.255s", text);
	if (strlen(text) != 64) { /* a full id needs no look at the names */
		TRY(db_get(txn, DB_CONTAINER_NAME, text, &id, &found));
		if (found && id.n < CTR_ID_MAX) {
			memcpy(out_id, id.p, id.n);
			out_id[id.n] = 0;
			return NULL;
		}
	}
	if (text_is_hex(sv_of(text)) && strlen(text) <= 64)
		TRY(db_scan(txn, DB_CONTAINER, text, prefix_each, &hit));
	if (hit.n == 0)
		return FAIL(ERR_NOT_FOUND, "No such container: %s", text);
	if (hit.n > 1)
		return FAIL(ERR_INVALID, "Multiple IDs found with provided prefix: %s", text);
	memcpy(out_id, hit.id, CTR_ID_MAX);
	return NULL;
}

FALLIBLE ctr_resolve(struct engine *e, const char *text, char out_id[CTR_ID_MAX])
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	return resolve_in(txn, text, out_id);
}

static FALLIBLE load_in(struct db_txn *txn, const char *id, json_t **out_doc)
{
	struct sv value;
	bool found;

	TRY(db_get(txn, DB_CONTAINER, id, &value, &found));
	if (!found)
		return FAIL(ERR_NOT_FOUND, "No such container: %s", id);
	return json_parse(value, "container record", 1u << 20, out_doc);
}

/* The record beside the status of a living keeper, if there is one. */
static bool load_live(struct engine *e, const char *id, json_t **out_doc)
{
	auto_fd int dir = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	auto_free char *text = NULL;
	struct err *err;
	size_t n = 0;

	if (dir < 0)
		return false;
	err = record_read(dir, "record", &text, &n);
	if (!err)
		err = json_parse(sv_from(text, n), "container record", 1u << 20, out_doc);
	err_free(err);
	return !err;
}

FALLIBLE ctr_save_live(struct engine *e, const char *id, const json_t *doc)
{
	auto_fd int dir = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	auto_buf struct buf text = BUF(1u << 20);

	if (dir < 0)
		return NULL; /* it ended already and was swept */
	json_print(doc, &text);
	TRY(buf_check(&text, "container record"));
	return record_write_volatile(dir, "record", text.data, text.n);
}

FALLIBLE ctr_load(struct engine *e, const char *id, json_t **out_doc)
{
	auto_txn struct db_txn *txn = NULL;

	if (load_live(e, id, out_doc))
		return NULL;
	TRY(db_begin_read(engine_db(e), &txn));
	return load_in(txn, id, out_doc);
}

FALLIBLE ctr_find(struct engine *e, const char *text, char out_id[CTR_ID_MAX], json_t **out_doc)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	TRY(resolve_in(txn, text, out_id));
	return load_live(e, out_id, out_doc) ? NULL : load_in(txn, out_id, out_doc);
}

FALLIBLE ctr_exists(struct engine *e, const char *id, bool *out_exists)
{
	auto_txn struct db_txn *txn = NULL;
	struct sv value;
	struct err *err;

	TRY(db_begin_read(engine_db(e), &txn));
	err = db_get(txn, DB_CONTAINER, id, &value, out_exists);
	if (!err || err->kind != ERR_CORRUPT)
		return err;
	err_free(err); /* damaged is there, too */
	*out_exists = true;
	return NULL;
}

FALLIBLE ctr_save(struct engine *e, const char *id, const json_t *doc)
{
	auto_buf struct buf text = BUF(1u << 20);
	auto_txn struct db_txn *txn = NULL;

	json_print(doc, &text);
	TRY(buf_check(&text, "container record"));
	TRY(db_begin_write(engine_db(e), &txn));
	TRY(db_put(txn, DB_CONTAINER, id, sv_from(text.data, text.n)));
	return db_commit(TAKE(txn));
}

/* ---- locks and live state ---- */

char *ctr_path(struct engine *e, const char *id, const char *name)
{
	return xasprintf("%s/containers/%s%s%s", engine_root(e), id, name ? "/" : "", name ? name : "");
}

FALLIBLE ctr_lock(struct engine *e, const char *id, bool try_only, int *out_fd)
{
	auto_free char *path = ctr_path(e, id, NULL);
	auto_fd int fd = sys_open_dir(path);
	struct stat st;
	int r;

	if (fd == -ENOENT)
		return FAIL(ERR_NOT_FOUND, "No such container: %s", id);
	if (fd < 0)
		return FAIL_OS(-fd, "open %s", path);
	r = sys_flock(fd, LOCK_EX | (try_only ? LOCK_NB : 0));
	if (r == -EWOULDBLOCK)
		return FAIL(ERR_CONFLICT, "container %.12s is busy", id);
	if (r < 0 || (r = sys_fstat(fd, &st)) < 0)
		return FAIL_OS(-r, "lock container %.12s", id);
	if (st.st_nlink == 0)
		return FAIL(ERR_NOT_FOUND, "No such container: %s", id);
	*out_fd = TAKE_FD(fd);
	return NULL;
}

bool ctr_live(struct engine *e, const char *id, json_t **out_status)
{
	auto_fd int fd = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	auto_free char *text = NULL;
	struct err *err;
	size_t n;

	if (out_status)
		*out_status = NULL;
	if (fd < 0 || sys_flock(fd, LOCK_SH | LOCK_NB) != -EWOULDBLOCK)
		return false;
	if (!out_status)
		return true;
	err = record_read(fd, "status", &text, &n);
	if (!err)
		err = json_parse(sv_from(text, n), "status", 65536, out_status);
	if (err) { /* its keeper has not written any yet */
		err_free(err);
		*out_status = json_pack("{s:s}", "Status", "starting");
	}
	return true;
}

bool ctr_is_paused(const char *id)
{
	bool frozen = false;
	char cgroup[80];

	ctr_cgroup(id, cgroup);
	err_free(runtime_frozen(cgroup, &frozen));
	return frozen;
}

static bool has_ended(const json_t *status)
{
	return strcmp(json_str_at(status, "Status", ""), "exited") == 0;
}

static bool is_at_its_end(struct engine *e, const char *id)
{
	auto_json json_t *status = NULL;

	return ctr_live(e, id, &status) && has_ended(status);
}

bool ctr_runs(struct engine *e, const char *id)
{
	auto_json json_t *status = NULL;

	return ctr_live(e, id, &status) && !has_ended(status);
}

/* Between two looks at something that others change: 0.2 ms, then longer, up to 10 and a bit. */
static void nap(int64_t *pause_ns)
{
	(void)nanosleep(&(struct timespec){ .tv_nsec = *pause_ns }, NULL);
	*pause_ns = *pause_ns < 10000000 ? *pause_ns * 2 : *pause_ns;
}

FALLIBLE ctr_settle(struct engine *e, const char *id)
{
	int64_t until = time_monotonic_ns() + END_NS, pause_ns = 200000;

	while (is_at_its_end(e, id)) {
		if (time_monotonic_ns() >= until)
			return FAIL(ERR_TIMEOUT, "the keeper of container %.12s does not end", id);
		nap(&pause_ns);
	}
	return NULL;
}

FALLIBLE ctr_lock_settled(struct engine *e, const char *id, int *out_fd)
{
	for (;;) {
		auto_fd int fd = -1;

		TRY(ctr_lock(e, id, false, &fd));
		if (!is_at_its_end(e, id)) {
			*out_fd = TAKE_FD(fd);
			return NULL;
		}
		own_close(&fd);
		fd = -1;
		TRY(ctr_settle(e, id));
	}
}

enum ctr_state ctr_now(const json_t *doc, const json_t *status)
{
	enum ctr_state live;

	if (!status) {
		live = ctr_state_of(json_str_at(doc, "State.Status", "created"));
		return live == CTR_CREATED ? CTR_CREATED : CTR_EXITED;
	}
	live = ctr_state_of(json_str_at(status, "Status", "starting"));
	if (live == CTR_RUNNING && ctr_is_paused(json_str_at(doc, "Id", "")))
		return CTR_PAUSED;
	return live;
}

FALLIBLE ctr_connect(struct engine *e, const char *id, int *out_fd)
{
	auto_fd int dir = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	char path[64];
	int fd;

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d/ctl", dir);
	fd = dir < 0 ? dir : sys_unix_connect(path);
	if (fd < 0)
		return FAIL(ERR_NOT_FOUND, "Container %s is not running", id);
	*out_fd = fd;
	return NULL;
}

FALLIBLE ctr_signal(struct engine *e, const char *id, int signo, bool no_restart)
{
	struct ctl_kill msg = { .type = CTL_KILL, .signo = (uint8_t)signo, .no_restart = no_restart };
	const struct iovec iov = { &msg, sizeof msg };
	auto_fd int fd = -1;
	char answer[64];
	int32_t r;

	TRY(ctr_connect(e, id, &fd));
	if (sys_unix_send(fd, &iov, 1) < 0)
		return FAIL(ERR_CONFLICT, "Container %s is not running", id);
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (sys_poll(&p, 1, ANSWER_MS) == 0)
			return FAIL(ERR_TIMEOUT, "the keeper of container %.12s does not answer", id);
		n = sys_unix_recv(fd, answer, sizeof answer);
		if (n <= 0)
			return FAIL(ERR_CONFLICT, "Container %s is not running", id);
		if (answer[0] == CTL_KILLED && n >= 5)
			break;
	}
	memcpy(&r, answer + 1, 4);
	if (r == -ESRCH)
		return FAIL(ERR_CONFLICT, "Container %s is not running", id);
	return r < 0 ? FAIL_OS(-r, "signal container %.12s", id) : NULL;
}

bool ctr_wait_gone(struct engine *e, const char *id, int timeout_ms)
{
	auto_fd int fd = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	int64_t until = time_monotonic_ns() + (int64_t)timeout_ms * 1000000, pause_ns = 200000;

	if (fd < 0)
		return true;
	if (timeout_ms < 0)
		return sys_flock(fd, LOCK_SH) >= 0;
	while (sys_flock(fd, LOCK_SH | LOCK_NB) == -EWOULDBLOCK) {
		if (time_monotonic_ns() >= until)
			return false;
		nap(&pause_ns);
	}
	return true;
}

/* ---- what is left of one ---- */

static FALLIBLE remove_failed(const char *name, int r)
{
	return FAIL_OS(-r, "remove %s%s", name, r == -EBUSY ? ", where something is mounted" : "");
}

FALLIBLE ctr_remove_tree(int dir_fd, const char *name)
{
	int r = fs_remove_tree(dir_fd, name);

	return r < 0 ? remove_failed(name, r) : NULL;
}

void ctr_cgroup(const char *id, char out[80])
{
	(void)snprintf(out, 80, "hoy/%s", id);
}

const char *ctr_network(const json_t *doc)
{
	const char *mode = json_str_at(doc, "HostConfig.NetworkMode", "bridge");

	return !*mode || strcmp(mode, "default") == 0 ? "bridge" : mode;
}

bool ctr_wants_netns(const json_t *doc)
{
	const char *mode = ctr_network(doc);

	return strcmp(mode, "host") != 0 && strncmp(mode, "container:", 10) != 0;
}

static bool is_attached(const json_t *doc)
{
	return ctr_wants_netns(doc) && strcmp(ctr_network(doc), "none") != 0;
}

/*
 * A process of its own waits a little and then takes down what no container uses: the next start finds the bridge still there,
 * and whoever ended the last container does not wait for the kernel. One at a time: the lock says that one is waiting.
 */
static FALLIBLE collect_later(struct engine *e)
{
	auto_fd int lock = sys_openat(engine_run_fd(e), "collect.lock", O_RDWR | O_CREAT, 0600);
	char hoy[] = "hoy", root[] = "--root", run[] = "--run", cmd[] = "network-collect";
	auto_free char *path = NULL, *root_path = xstrdup(engine_root(e)), *run_path = xstrdup(engine_run(e));
	char *const argv[] = { hoy, root, root_path, run, run_path, cmd, NULL };
	static const int none[3] = { -1, -1, -1 };
	int r;

	if (lock < 0)
		return FAIL_OS(-lock, "open %s/collect.lock", engine_run(e));
	if (sys_flock(lock, LOCK_EX | LOCK_NB) < 0)
		return NULL;
	own_close(&lock);
	lock = -1;
	TRY(engine_program("hoy", &path));
	r = sys_spawn_run(&(struct sys_spawn){ path, argv, NULL, none, 3, true }, NULL);
	return r < 0 ? FAIL_OS(-r, "start %s", path) : NULL;
}

/* Two seconds, or until a reset has taken the lock's file away: then nothing of ours may stay, and no process either. */
static void wait_unless_reset(int lock)
{
	struct stat st;

	for (int i = 0; i < 100 && sys_fstat(lock, &st) == 0 && st.st_nlink; i++)
		(void)nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

FALLIBLE engine_collect(const struct engine_opts *o)
{
	auto_engine struct engine *e = NULL;
	auto_free char *path = xasprintf("%s/collect.lock", o && o->run ? o->run : "/run/hoy");
	auto_fd int lock = sys_open(path, O_RDWR, 0);
	struct network *n;

	if (lock < 0 || sys_flock(lock, LOCK_EX | LOCK_NB) < 0)
		return NULL; /* all is gone, or somebody else waits already */
	wait_unless_reset(lock);
	own_close(&lock); /* who leaves from now on starts a collector of their own */
	lock = sys_open(path, O_RDWR, 0);
	if (lock < 0)
		return NULL; /* reset meanwhile */
	TRY(engine_open(o, &e));
	TRY(engine_network(e, &n));
	return network_collect(n);
}

FALLIBLE ctr_sweep(struct engine *e, const char *id, const json_t *doc)
{
	auto_list char **peers = NULL;
	char cgroup[80];
	struct network *n;

	ctr_cgroup(id, cgroup);
	TRY(runtime_cgroup_remove(cgroup));
	if (!doc || is_attached(doc)) {
		TRY(engine_network(e, &n));
		TRY(network_peers(n, id, &peers));
		TRY(network_leave(n, id));
		TRY(ctr_hosts_refresh(e, peers));
		TRY(collect_later(e));
	}
	return NULL;
}

FALLIBLE ctr_unmark(struct engine *e, const char *id)
{
	return ctr_remove_tree(engine_run_fd(e), id);
}

static void delete_volumes(struct engine *e, const char *id, const json_t *doc)
{
	size_t i;
	json_t *m;

	json_array_foreach(json_at(doc, "Mounts"), i, m)
		if (json_bool_at(m, "HoyAnonymous", false))
			err_free(volume_remove_with(e, json_str_at(m, "Name", ""), id)); /* in use elsewhere: stays */
}

FALLIBLE ctr_delete(struct engine *e, const char *id, const json_t *doc, bool volumes)
{
	auto_txn struct db_txn *txn = NULL;
	auto_free char *path = ctr_path(e, id, NULL);
	const char *name = json_str_at(doc, "Name", "/") + 1;
	auto_fd int home = sys_open_dir(path);
	bool found = true;
	struct sv value;
	int r;

	/*
	 * The directory, which is the lock, outlives the record: a crash before leaves one whose removal can be repeated, a crash after
	 * an empty directory, which the next command removes.
	 */
	if (volumes)
		delete_volumes(e, id, doc);
	if (home >= 0 && (r = fs_remove_content(home)) < 0)
		return remove_failed(path, r);
	TRY((json_bool_at(doc, "HostConfig.AutoRemove", false) ? db_begin_passing : db_begin_write)(engine_db(e), &txn));
	err_free(db_get(txn, DB_CONTAINER, id, &value, &found)); /* a damaged one goes, too */
	if (!found) /* somebody was faster: the name may be another one's by now */
		return NULL;
	TRY(db_delete(txn, DB_CONTAINER, id));
	TRY(db_delete(txn, DB_CONTAINER_NAME, name));
	TRY(db_commit(TAKE(txn)));
	return ctr_remove_tree(AT_FDCWD, path);
}

FALLIBLE ctr_rootfs(struct engine *e, const char *id, const json_t *doc, struct rootfs *out_rootfs)
{
	auto_list char **layers = NULL;
	auto_free char *dir = ctr_path(e, id, NULL);

	TRY(json_list_at(doc, "Hoy.Layers", &layers));
	TRY(rootfs_prepare(engine_snapshotter(e), layers, dir, out_rootfs));
	out_rootfs->is_volatile = json_bool_at(doc, "HostConfig.AutoRemove", false);
	return NULL;
}
