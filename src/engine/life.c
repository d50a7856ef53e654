/* life.c - stop, kill, restart, pause, rename, remove, wait, reap: everything that changes a container after its start. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/health.h"
#include "engine/signals.h"
#include "runtime/runtime.h"
#include "state/db.h"
#include "state/record.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

FALLIBLE container_resolve(struct engine *e, const char *text, char **out_id)
{
	char id[CTR_ID_MAX];

	TRY(ctr_resolve(e, text, id));
	*out_id = xstrdup(id);
	return NULL;
}

/* ---- the end of a container ---- */

/*
 * Exit facts: the last status of the keeper, else the durable exit record. A keeper that was killed leaves a status that does
 * not say "exited", a power cut leaves none: then NULL, nobody saw it end.
 */
static void read_exit(struct engine *e, const char *id, json_t **out_facts)
{
	auto_fd int run = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	auto_free char *path = ctr_path(e, id, NULL), *text = NULL;
	auto_fd int home = sys_open_dir(path);
	struct err *err = NULL;
	size_t n = 0;

	*out_facts = NULL;
	err = run < 0 ? FAIL(ERR_NOT_FOUND, "no status") : record_read(run, "status", &text, &n);
	if (err && home >= 0) {
		err_free(err);
		err = record_read(home, "exit", &text, &n);
	}
	if (!err)
		err = json_parse(sv_from(text, n), "status", 65536, out_facts);
	err_free(err);
	if (strcmp(json_str_at(*out_facts, "Status", "exited"), "exited") != 0) {
		json_decref(*out_facts);
		*out_facts = NULL;
	}
}

/* health: what was known of it, or NULL. */
static void set_exited(json_t *doc, const json_t *facts, json_t *health)
{
	json_t *state = json_object_get(doc, "State");
	char now[TIME_TEXT_MAX];
	const char *finished = json_str_at(facts, "FinishedAt", "");

	(void)json_object_set_new(state, "Status", json_string("exited"));
	(void)json_object_set_new(state, "Running", json_false());
	(void)json_object_set_new(state, "Paused", json_false());
	(void)json_object_set_new(state, "Pid", json_integer(0));
	(void)json_object_set_new(state, "ExitCode", json_integer(json_int_at(facts, "ExitCode", CTR_UNSEEN)));
	(void)json_object_set_new(state, "OOMKilled", json_boolean(json_bool_at(facts, "OOMKilled", false)));
	(void)json_object_set_new(state, "FinishedAt",
				  json_string(*finished ? finished : time_format(time_now_ns(), now)));
	if (*json_str_at(facts, "StartedAt", ""))
		(void)json_object_set_new(state, "StartedAt", json_string(json_str_at(facts, "StartedAt", "")));
	if (json_int_at(facts, "RestartCount", 0))
		(void)json_object_set_new(doc, "RestartCount", json_integer(json_int_at(facts, "RestartCount", 0)));
	if (health)
		(void)json_object_set(state, "Health", health);
	(void)json_object_set_new(json_object_get(doc, "NetworkSettings"), "IPAddress", json_string(""));
	(void)json_object_set_new(json_object_get(doc, "NetworkSettings"), "Ports", json_object());
}

void ctr_show_end(struct engine *e, const char *id, json_t *doc)
{
	auto_json json_t *facts = NULL;

	read_exit(e, id, &facts);
	set_exited(doc, facts, NULL);
}

FALLIBLE ctr_end(struct engine *e, const char *id, json_t *doc)
{
	auto_json json_t *facts = NULL;
	const char *before = json_str_at(doc, "State.Status", "created");

	read_exit(e, id, &facts);
	TRY(ctr_sweep(e, id, doc));
	if (json_bool_at(doc, "HostConfig.AutoRemove", false)) {
		TRY(ctr_delete(e, id, doc, true));
		return ctr_unmark(e, id);
	}
	if (facts || strcmp(before, "running") == 0) {
		auto_json json_t *health = health_of(e, id, doc, false);

		set_exited(doc, facts, health);
		TRY(ctr_save(e, id, doc));
	}
	return ctr_unmark(e, id);
}

/* The keeper still holds RUN/<id> while it waits for us: what is left of it after the unmark is an open directory. */
FALLIBLE container_reap(struct engine *e, const char *id)
{
	auto_json json_t *doc = NULL, *status = NULL;
	auto_fd int lock = -1;
	struct err *err = ctr_lock(e, id, false, &lock);

	if (err && err->kind == ERR_NOT_FOUND) { /* somebody removed it already */
		err_free(err);
		return ctr_unmark(e, id);
	}
	TRY(err);
	if (ctr_live(e, id, &status) && ctr_state_of(json_str_at(status, "Status", "")) == CTR_RUNNING)
		return NULL; /* it was started anew: of a keeper whose RUN/<id> was taken away */
	TRY(ctr_load(e, id, &doc));
	return ctr_end(e, id, doc);
}

/* ---- signals ---- */

/* A frozen process dies only when it runs again. */
static FALLIBLE thaw(const char *id)
{
	struct err *err = NULL;
	char cgroup[80];

	ctr_cgroup(id, cgroup);
	if (ctr_is_paused(id))
		err = runtime_freeze(cgroup, false);
	if (!err || err->kind != ERR_NOT_FOUND) /* that: it ended meanwhile */
		return err;
	err_free(err);
	return NULL;
}

FALLIBLE container_kill(struct engine *e, const char *text, int signo)
{
	auto_json json_t *doc = NULL;
	char id[CTR_ID_MAX];
	const char *stop;

	TRY(ctr_find(e, text, id, &doc));
	if (!ctr_runs(e, id))
		return FAIL(ERR_CONFLICT, "Cannot kill container: %s: Container %s is not running", text, id);
	stop = json_str_at(doc, "Config.StopSignal", "");
	TRY(ctr_signal(e, id, signo, signo == SIGKILL || signo == SIGTERM || signo == signal_number(stop)));
	return signo == SIGKILL ? thaw(id) : NULL;
}

/* SIGKILL to who holds RUN/<id>, if that is whom the status calls its keeper. */
static void kill_keeper(struct engine *e, const char *id)
{
	auto_json json_t *status = NULL;
	char path[64];
	struct stat here, there;
	pid_t pid;

	if (!ctr_live(e, id, &status))
		return;
	pid = (pid_t)json_int_at(status, "Keeper", 0);
	(void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, KEEPER_FD_RUN);
	if (pid > 0 && sys_fstatat(engine_run_fd(e), id, &here, 0) == 0 && sys_fstatat(AT_FDCWD, path, &there, 0) == 0 &&
	    here.st_dev == there.st_dev && here.st_ino == there.st_ino)
		(void)sys_pid_kill(pid, SIGKILL);
}

/* Its keeper cannot be reached or is stuck: all in its control group goes, then the keeper does what it does at an end, or goes, too. */
static FALLIBLE stop_without_keeper(struct engine *e, const char *id, bool is_stuck)
{
	char cgroup[80];

	ctr_cgroup(id, cgroup);
	err_free(runtime_kill_all(cgroup, SIGKILL));
	if (is_stuck && !ctr_wait_gone(e, id, 2000))
		kill_keeper(e, id);
	return ctr_wait_gone(e, id, 30000) ? NULL : FAIL(ERR_TIMEOUT, "container %s does not end after SIGKILL", id);
}

static FALLIBLE stop_one(struct engine *e, const char *id, const json_t *doc, int seconds)
{
	int signo = signal_number(json_str_at(doc, "Config.StopSignal", ""));
	bool is_stuck, is_reached;
	struct err *err;

	if (seconds < 0)
		seconds = (int)json_int_at(doc, "Config.StopTimeout", 10);
	TRY(thaw(id));
	err = ctr_signal(e, id, signo > 0 ? signo : SIGTERM, true);
	if (!err && ctr_wait_gone(e, id, seconds * 1000))
		return NULL;
	if (!err)
		err = ctr_signal(e, id, SIGKILL, true);
	if (!err)
		err = thaw(id); /* somebody may have paused it meanwhile */
	is_reached = !err;
	is_stuck = err && err->kind == ERR_TIMEOUT;
	if (err && !is_stuck && err->kind != ERR_CONFLICT && err->kind != ERR_NOT_FOUND) /* those: it ended meanwhile, or seems so */
		return err;
	err_free(err);
	if (ctr_wait_gone(e, id, is_reached ? 30000 : is_stuck ? 0 : 2000))
		return NULL;
	return stop_without_keeper(e, id, is_stuck);
}

/* It was started, and RUN knows nothing of it: somebody has taken that away. Lock held. */
static bool is_lost(struct engine *e, const char *id, const json_t *doc, int lock)
{
	return !ctr_live(e, id, NULL) && ctr_was_started(doc, lock);
}

static FALLIBLE end_lost(struct engine *e, const char *id)
{
	auto_json json_t *doc = NULL;
	auto_fd int lock = -1;
	struct err *err;

	err = ctr_lock(e, id, false, &lock);
	if (!err)
		err = ctr_load(e, id, &doc);
	if (!err && is_lost(e, id, doc, lock))
		err = ctr_end(e, id, doc);
	if (!err || (err->kind != ERR_NOT_FOUND && err->os != EROFS)) /* those: it was removed; it has ended, which cannot be recorded */
		return err;
	err_free(err);
	return NULL;
}

FALLIBLE container_stop(struct engine *e, const char *text, int seconds)
{
	auto_json json_t *doc = NULL;
	char id[CTR_ID_MAX];

	TRY(ctr_find(e, text, id, &doc));
	return ctr_live(e, id, NULL) ? stop_one(e, id, doc, seconds) : end_lost(e, id);
}

FALLIBLE container_restart(struct engine *e, const char *text, int seconds)
{
	TRY(container_stop(e, text, seconds));
	return container_start(e, text);
}

FALLIBLE container_pause(struct engine *e, const char *text, bool pause)
{
	auto_fd int lock = -1;
	char id[CTR_ID_MAX], cgroup[80];
	struct err *err;

	TRY(ctr_resolve(e, text, id));
	TRY(ctr_lock(e, id, false, &lock));
	if (!ctr_runs(e, id))
		return FAIL(ERR_CONFLICT, "Container %s is not running", text);
	if (pause == ctr_is_paused(id))
		return FAIL(ERR_CONFLICT, pause ? "Container %s is already paused" : "Container %s is not paused", text);
	ctr_cgroup(id, cgroup);
	err = runtime_freeze(cgroup, pause);
	if (!err || err->kind != ERR_NOT_FOUND)
		return err;
	err_free(err); /* it has just ended */
	return FAIL(ERR_CONFLICT, "Container %s is not running", text);
}

/* The code as the keeper tells everybody at the end: the only place where that of a --rm container is to be had. */
static bool hear_exit(struct engine *e, const char *id, int *out_code)
{
	char msg[KEEPER_PACKET];
	auto_fd int fd = -1;
	struct err *err = ctr_connect(e, id, &fd);
	int32_t code;
	ssize_t n;

	if (err) {
		err_free(err);
		return false;
	}
	do
		n = sys_unix_recv(fd, msg, sizeof msg);
	while (n > 0 && msg[0] != CTL_EXITED);
	if (n < 5)
		return false;
	memcpy(&code, msg + 1, sizeof code);
	*out_code = code;
	return true;
}

FALLIBLE container_wait(struct engine *e, const char *text, int *out_code)
{
	auto_json json_t *doc = NULL, *facts = NULL;
	char id[CTR_ID_MAX];
	int code = 0;
	bool is_heard;
	struct err *err;

	TRY(ctr_resolve(e, text, id));
	is_heard = ctr_live(e, id, NULL) && hear_exit(e, id, &code);
	(void)ctr_wait_gone(e, id, -1);
	if (!is_heard)
		read_exit(e, id, &facts); /* before the record: a reaper may take both away meanwhile */
	err = is_heard ? NULL : ctr_load(e, id, &doc);
	if (err && err->kind == ERR_NOT_FOUND) { /* --rm, and all was over before we listened */
		err_free(err);
		err = NULL;
	}
	TRY(err);
	if (facts && (!doc || strcmp(json_str_at(doc, "State.Status", ""), "exited") != 0))
		code = (int)json_int_at(facts, "ExitCode", 0);
	else if (doc)
		code = strcmp(json_str_at(doc, "State.Status", ""), "running") == 0 ?
			       CTR_UNSEEN :
			       (int)json_int_at(doc, "State.ExitCode", 0);
	*out_code = code;
	return NULL;
}

/* ---- names and removal ---- */

FALLIBLE container_rename(struct engine *e, const char *text, const char *name)
{
	auto_txn struct db_txn *txn = NULL;
	auto_buf struct buf b = BUF(1u << 20);
	auto_json json_t *doc = NULL;
	auto_free char *slashed = NULL;
	char id[CTR_ID_MAX];
	struct sv owner;
	bool taken;

	name += *name == '/';
	if (strlen(name) > 200 || !text_is_name(sv_of(name)))
		return FAIL(ERR_INVALID, "Invalid container name (%.255s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
	TRY(ctr_find(e, text, id, &doc));
	TRY(db_begin_write(engine_db(e), &txn));
	TRY(db_get(txn, DB_CONTAINER_NAME, name, &owner, &taken));
	if (taken)
		return FAIL(ERR_CONFLICT, "Conflict. The container name \"/%s\" is already in use by container \"%.*s\".", name,
			    SV_ARG(owner));
	TRY(db_delete(txn, DB_CONTAINER_NAME, json_str_at(doc, "Name", "/") + 1));
	slashed = xasprintf("/%s", name);
	(void)json_object_set_new(doc, "Name", json_string(slashed));
	json_print(doc, &b);
	TRY(buf_check(&b, "container record"));
	TRY(db_put(txn, DB_CONTAINER_NAME, name, sv_of(id)));
	TRY(db_put(txn, DB_CONTAINER, id, sv_from(b.data, b.n)));
	return db_commit(TAKE(txn));
}

static FALLIBLE end_for_removal(struct engine *e, const char *id, const json_t *doc, bool force)
{
	const char *state;

	TRY(ctr_settle(e, id));
	if (!ctr_live(e, id, NULL))
		return NULL;
	state = ctr_is_paused(id) ? "paused" : "running";
	if (!force)
		return FAIL(ERR_CONFLICT,
			    "You cannot remove a %s container %s. Stop the container before attempting removal or force remove",
			    state, id);
	return stop_one(e, id, doc, 0);
}

/* Its directory went without its record: --rm was faster, or a removal was cut short between the two, or the disk lost it. */
static FALLIBLE remove_rest(struct engine *e, const char *id, bool volumes)
{
	auto_json json_t *doc = NULL;
	struct err *err = ctr_load(e, id, &doc);

	if (err && err->kind == ERR_NOT_FOUND) {
		err_free(err);
		return NULL;
	}
	TRY(err);
	TRY(ctr_delete(e, id, doc, volumes));
	return ctr_unmark(e, id);
}

FALLIBLE container_remove(struct engine *e, const char *text, struct container_rm how)
{
	auto_json json_t *doc = NULL, *now = NULL;
	auto_fd int lock = -1;
	char id[CTR_ID_MAX];
	struct stat st;
	struct err *err;

	TRY(ctr_find(e, text, id, &doc));
	TRY(end_for_removal(e, id, doc, how.force));
	err = ctr_lock_settled(e, id, &lock);
	if (err && err->kind == ERR_NOT_FOUND) {
		err_free(err);
		return remove_rest(e, id, how.volumes);
	}
	TRY(err);
	if (ctr_live(e, id, NULL))
		return FAIL(ERR_CONFLICT, "container %s was started meanwhile", text);
	TRY(ctr_load(e, id, &now));
	/* without a mark it never ran, or was swept at its end */
	if (sys_fstatat(engine_run_fd(e), id, &st, 0) == 0 || is_lost(e, id, now, lock))
		TRY(ctr_sweep(e, id, now));
	TRY(ctr_delete(e, id, now, how.volumes));
	return ctr_unmark(e, id);
}
