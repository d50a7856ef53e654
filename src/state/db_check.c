/*
 * db_check.c - is the database what was put into it, and if not: from its log, record by record while it can be
 * read, else all of it.
 */
#include "base/mem.h"
#include "base/own.h"
#include "state/db_int.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

struct checking {
	struct db_txn *t;
	struct db_replay replay;
	size_t n, n_known, n_other; /* records: all; in the log, too; there with another value */
	void (*tell)(void *ctx, enum db_table table, const char *key);
	void *ctx;
};

static void checking_fini(struct checking *c)
{
	db_replay_fini(&c->replay);
	db_abort(c->t);
}

static void check_record(struct checking *c, enum db_table table, struct sv k, struct sv v)
{
	auto_free char *key = xstrndup(k.p, k.n);
	const struct db_change *copy = db_replay_get(&c->replay, table, key);
	struct sv value;

	c->n++;
	c->n_known += copy && copy->value;
	if (!db_sum_check(table, k, v, &value))
		c->tell(c->ctx, table, key);
	else
		c->n_other += copy && copy->value && !sv_eq(value, sv_from(copy->value, copy->n_value));
}

static FALLIBLE check_table(struct checking *c, enum db_table table)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int r = mdb_cursor_open(c->t->txn, c->t->db->tables[table], &cursor);

	if (r)
		return db_fail(r, db_table_names[table]);
	for (r = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); !r; r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
		check_record(c, table, sv_from(k.mv_data, k.mv_size), sv_from(v.mv_data, v.mv_size));
	mdb_cursor_close(cursor);
	return r == MDB_NOTFOUND ? NULL : db_fail(r, db_table_names[table]);
}

static enum db_copy_state compare(const struct checking *c, uint64_t id)
{
	const struct db_replay *r = &c->replay;
	bool is_same = c->n == c->n_known && c->n_known == db_replay_count(r) && !c->n_other;

	if (!r->is_there)
		return c->n ? DB_COPY_STALE : DB_COPY_GOOD;
	if (r->end.sure > id)
		return DB_COPY_WINS;
	if (!r->is_whole)
		return DB_COPY_DAMAGED;
	if (r->is_contiguous && r->end.id >= id && r->groups.p[0].id <= id && !is_same)
		return DB_COPY_WINS;
	return r->is_contiguous && r->end.id == id && is_same ? DB_COPY_GOOD : DB_COPY_STALE;
}

FALLIBLE db_check(struct db *db, void (*tell)(void *ctx, enum db_table table, const char *key), void *ctx,
		  enum db_copy_state *out_copy)
{
	CLEANUP(checking_fini) struct checking c = { .tell = tell, .ctx = ctx };
	uint64_t id;

	if (db->is_readonly) {
		TRY(db_begin_read(db, &c.t));
		id = mdb_txn_id(c.t->txn);
	} else {
		TRY(db_begin_write(db, &c.t)); /* nobody changes either meanwhile */
		id = mdb_txn_id(c.t->txn) - 1;
	}
	TRY(db_replay(db->path, id, &c.replay));
	for (int i = 0; i < DB_TABLES; i++)
		TRY(check_table(&c, (enum db_table)i));
	*out_copy = compare(&c, id);
	return NULL;
}

FALLIBLE db_restore(struct db *db, enum db_table table, const char *key)
{
	CLEANUP(checking_fini) struct checking c = { 0 };
	const struct db_change *copy;

	TRY(db_begin_write(db, &c.t));
	TRY(db_replay(db->path, UINT64_MAX, &c.replay));
	copy = db_replay_get(&c.replay, table, key);
	if (!copy || !copy->value)
		return FAIL(ERR_NOT_FOUND, "there is no second copy of it");
	TRY(db_put(c.t, table, key, sv_from(copy->value, copy->n_value)));
	return db_commit(TAKE(c.t));
}

FALLIBLE db_copy(struct db *db)
{
	auto_txn struct db_txn *t = NULL;

	TRY(db_begin_write(db, &t));
	t->end.id = mdb_txn_id(t->txn) - 1;
	if (mdb_env_sync(db->env, 1) == 0)
		t->end.sure = t->end.id;
	return db_log_dump(t) ? NULL : FAIL(ERR_CONFLICT, "the database's log cannot be written");
}

/* ---- a database that cannot be read ---- */

static void tell_nobody(void *ctx, enum db_table table, const char *key)
{
	(void)ctx;
	(void)table;
	(void)key;
}

static FALLIBLE probe_open(struct db *db, enum db_copy_state *out_copy)
{
	auto_txn struct db_txn *t = NULL, *reading = NULL;

	if (!db->is_readonly)
		TRY(db_begin_write(db, &t)); /* only for its lock: LMDB lets no writer read the list of free pages */
	TRY(db_begin_read(db, &reading));
	TRY(db_pages_check(db, reading->txn));
	db_abort(TAKE(reading));
	db_abort(TAKE(t));
	return db_check(db, tell_nobody, NULL, out_copy);
}

/* Whatever LMDB says of a damaged file; not that we may not read it, or have no room to. */
static bool is_damage(const struct err *e)
{
	static const int others[] = { EACCES, EPERM, EROFS, ENOSPC, EDQUOT, EMFILE, ENFILE, EAGAIN };

	for (size_t i = 0; i < LEN(others); i++)
		if (e->os == others[i])
			return false;
	return e->kind != ERR_UNSUPPORTED;
}

enum { PROBE_SOUND, PROBE_DAMAGED, PROBE_UNKNOWN };

/* In a process of its own: LMDB trusts its file, and what is damaged may end us. */
static int probe(void *path)
{
	auto_db struct db *db = NULL;
	enum db_copy_state copy = DB_COPY_GOOD;
	auto_fd int null = sys_open("/dev/null", O_WRONLY, 0);
	struct err *e;

	if (null >= 0)
		(void)sys_dup2(null, STDERR_FILENO); /* that we crash is an answer */
	e = db_open(path, &db);
	if (!e)
		e = probe_open(db, &copy);
	if (e)
		return is_damage(e) ? PROBE_DAMAGED : PROBE_UNKNOWN;
	return copy == DB_COPY_WINS ? PROBE_DAMAGED : PROBE_SOUND;
}

FALLIBLE db_probe(const char *path, bool *out_sound)
{
	int r = sys_spawn_call(probe, (void *)(uintptr_t)path);

	*out_sound = r == PROBE_SOUND;
	if (r == PROBE_UNKNOWN || (r < 0 && r != -EFAULT))
		return FAIL(ERR_UNAVAILABLE, "the database could not be checked%s", r == -ECHILD ? ": that was interrupted" : "");
	return NULL;
}

static FALLIBLE fill_from(struct db *db, const struct db_replay *r)
{
	auto_txn struct db_txn *t = NULL;

	TRY(db_begin_write(db, &t));
	for (size_t i = 0; i < r->records.n; i++) {
		const struct db_change *c = r->records.entries[i].value;

		if (c->value)
			TRY(db_put(t, c->table, c->key, sv_from(c->value, c->n_value)));
	}
	return db_commit(TAKE(t));
}

static void remove_new(int dir)
{
	auto_fd int fd = sys_openat(dir, "new", O_RDONLY | O_DIRECTORY, 0);
	static const char *const names[] = { "data.mdb", "lock.mdb", "log", "log.new" };

	for (size_t i = 0; fd >= 0 && i < LEN(names); i++)
		(void)sys_unlink(fd, names[i]);
	if (fd >= 0)
		(void)sys_rmdir(dir, "new");
}

/* Nobody may use the old one: whoever waits for the lock finds one that LMDB refuses, whoever comes later makes it anew. */
static FALLIBLE lock_out(int dir, int *out_lock)
{
	static const char none[4];
	auto_fd int fd = sys_openat(dir, "lock.mdb", O_RDWR | O_CREAT, 0600);
	pid_t user = 0;
	int r = fd < 0 ? fd : sys_lock_byte(fd, &user);

	if (r == -EAGAIN)
		return FAIL(ERR_CONFLICT, "process %d uses the damaged database: end it and repair again", (int)user);
	if (r >= 0)
		r = sys_pwrite_all(fd, none, sizeof none, 0);
	if (r < 0)
		return FAIL_OS(-r, "lock the damaged database");
	*out_lock = TAKE_FD(fd);
	return NULL;
}

/* The database first: one that is new beside the old log is made again, a new log beside the old one would be taken for stale. */
static FALLIBLE put_in_place(int dir, bool keep_old)
{
	auto_fd int new = sys_openat(dir, "new", O_RDONLY | O_DIRECTORY, 0);
	auto_fd int log = new < 0 ? new : sys_openat(new, "log", O_RDONLY, 0);
	int r = log < 0 ? log : sys_fsync(log);

	if (r >= 0)
		r = sys_fsync(new);
	if (r >= 0 && keep_old) {
		(void)sys_unlink(dir, "data.mdb.damaged");
		r = sys_link(dir, "data.mdb", dir, "data.mdb.damaged");
		r = r == -ENOENT ? 0 : r;
	}
	if (r >= 0)
		r = sys_renameat(new, "data.mdb", dir, "data.mdb", 0);
	if (r >= 0)
		r = sys_fsync(dir);
	if (r >= 0)
		r = sys_renameat(new, "log", dir, "log", 0);
	if (r >= 0)
		r = sys_fsync(dir);
	return r < 0 ? FAIL_OS(-r, "put the database in its place") : NULL;
}

FALLIBLE db_rebuild(const char *path, bool *out_whole)
{
	CLEANUP(db_replay_fini) struct db_replay r = { 0 };
	auto_free char *new_path = xasprintf("%s/new", path);
	auto_fd int dir = sys_open_dir(path), lock = -1;
	struct err *e;
	struct db *db;

	if (dir < 0)
		return FAIL_OS(-dir, "open %s", path);
	TRY(lock_out(dir, &lock));
	TRY(db_replay(path, UINT64_MAX, &r));
	if (!db_replay_count(&r))
		return FAIL(ERR_CORRUPT, "there is no second copy of the database in %s/log: every container, volume and network is lost (move %s "
					 "away, and 'hoy verify --repair' has the images again from index.json)", path, path);
	*out_whole = r.is_whole && r.is_contiguous;
	remove_new(dir);
	TRY(db_open(new_path, &db));
	e = fill_from(db, &r);
	db_close(db);
	if (!e)
		e = put_in_place(dir, !*out_whole);
	remove_new(dir);
	return e;
}
