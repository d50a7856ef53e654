/*
 * db.c - LMDB behind typed tables. Named databases are opened once at db_open inside one write transaction (or a read one
 * when the format is there already, so that a plain listing takes no lock). MDB_NOTLS: transactions are passed around, not
 * bound to threads. A reader slot that a killed process left is cleared at open (mdb_reader_check).
 */
#include "state/db.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/num.h"
#include "base/vec.h"
#include "codec/zip.h"
#include "state/db_int.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FORMAT	   "2"
#define FORMAT_OLD "1" /* without sums */
#define DB_REPAIR  " ('hoy verify --repair' makes it again from its log)"
#define DAMAGED	   "hoy: the database is damaged" DB_REPAIR "\n"

const char *const db_table_names[DB_TABLES] = {
	[DB_CONTAINER] = "container", [DB_CONTAINER_NAME] = "container-name", [DB_IMAGE] = "image",
	[DB_VOLUME] = "volume",	      [DB_NETWORK] = "network",		      [DB_NETWORK_NAME] = "network-name",
	[DB_LEASE] = "lease",	      [DB_LAYER] = "layer",		      [DB_CACHE] = "cache",
	[DB_BLOB_INFO] = "blob-info", [DB_DOCUMENT] = "document",
};

struct err *db_fail(int r, const char *what)
{
	if (r > 0)
		return FAIL_OS(r, "database: %s", what);
	switch (r) {
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_PANIC:
		return FAIL(ERR_CORRUPT, "database: %s: %s" DB_REPAIR, what, mdb_strerror(r));
	case MDB_MAP_FULL:
	case MDB_READERS_FULL:
	case MDB_TXN_FULL:
	case MDB_BAD_VALSIZE:
		return FAIL(ERR_LIMIT, "database: %s: %s", what, mdb_strerror(r));
	default:
		return FAIL(ERR_INTERNAL, "database: %s: %s", what, mdb_strerror(r));
	}
}

/* missing[DB_TABLES] stands for the table of the format, without which there is none. */
static struct err *open_tables(struct db *db, MDB_txn *txn, unsigned flags, bool missing[DB_TABLES + 1], bool *out_fresh)
{
	int r = mdb_dbi_open(txn, "meta", flags, &db->meta);

	*out_fresh = missing[DB_TABLES] = r == MDB_NOTFOUND;
	if (*out_fresh)
		return NULL;
	if (r)
		return db_fail(r, "open table meta");
	for (size_t i = 0; i < DB_TABLES; i++) {
		r = mdb_dbi_open(txn, db_table_names[i], flags, &db->tables[i]);
		if (r && r != MDB_NOTFOUND)
			return db_fail(r, db_table_names[i]);
		missing[i] = r == MDB_NOTFOUND;
		*out_fresh |= missing[i];
	}
	return NULL;
}

/* ---- sums ---- */

static void sum_of(const char *table, struct sv key, struct sv value, char out[DB_SUM + 1])
{
	uint32_t sum = zip_crc32(0, table, strlen(table) + 1);

	sum = zip_crc32(zip_crc32(sum, key.p, key.n), value.p, value.n);
	(void)snprintf(out, DB_SUM + 1, "\n%08x", sum);
}

static bool check_sum(const char *table, struct sv key, struct sv value, struct sv *out_value)
{
	char sum[DB_SUM + 1];

	if (value.n < DB_SUM || value.n > DB_VALUE_MAX + DB_SUM)
		return false;
	*out_value = sv_from(value.p, value.n - DB_SUM);
	sum_of(table, key, *out_value, sum);
	return memcmp(value.p + out_value->n, sum, DB_SUM) == 0;
}

bool db_sum_check(enum db_table table, struct sv key, struct sv value, struct sv *out_value)
{
	return check_sum(db_table_names[table], key, value, out_value);
}

static struct err *damaged(enum db_table table, struct sv key)
{
	return FAIL(ERR_CORRUPT, "database: the record of %s " SV_FMT " is damaged ('hoy verify --repair' mends it)",
		    db_table_names[table], SV_ARG(key));
}

static int put_with_sum(MDB_txn *txn, MDB_dbi dbi, const char *table, struct sv key, struct sv value)
{
	MDB_val k = { key.n, (void *)(uintptr_t)key.p }, v = { value.n + DB_SUM, NULL };
	char sum[DB_SUM + 1];
	int r;

	sum_of(table, key, value, sum);
	r = mdb_put(txn, dbi, &k, &v, MDB_RESERVE);
	if (r)
		return r;
	memcpy(v.mv_data, value.p, value.n);
	memcpy((char *)v.mv_data + value.n, sum, DB_SUM);
	return 0;
}

/* ---- formats ---- */

static struct err *set_format(struct db *db, MDB_txn *txn)
{
	int r = put_with_sum(txn, db->meta, "meta", SV("format"), SV(FORMAT));

	return r ? db_fail(r, "write format") : NULL;
}

struct old {
	char *key, *value;
	size_t n_value;
};
struct olds {
	VEC(struct old) v;
};

static void olds_fini(struct olds *o)
{
	for (size_t i = 0; i < o->v.n; i++) {
		free(o->v.p[i].key);
		free(o->v.p[i].value);
	}
	vec_fini(&o->v);
}

static int read_old(MDB_txn *txn, MDB_dbi dbi, struct olds *out)
{
	MDB_cursor *c;
	MDB_val k, v;
	int r = mdb_cursor_open(txn, dbi, &c);

	if (r)
		return r;
	for (r = mdb_cursor_get(c, &k, &v, MDB_FIRST); !r; r = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
		struct old *o = vec_push(&out->v);

		*o = (struct old){ xstrndup(k.mv_data, k.mv_size), xmalloc(v.mv_size + 1), v.mv_size };
		memcpy(o->value, v.mv_data, v.mv_size);
	}
	mdb_cursor_close(c);
	return r == MDB_NOTFOUND ? 0 : r;
}

/* Format 1 had values alone. All of it in the transaction that sets the format. */
static struct err *add_sums(struct db *db, MDB_txn *txn, enum db_table table)
{
	CLEANUP(olds_fini) struct olds olds = { 0 };
	int r = read_old(txn, db->tables[table], &olds);

	for (size_t i = 0; !r && i < olds.v.n; i++)
		r = put_with_sum(txn, db->tables[table], db_table_names[table], sv_of(olds.v.p[i].key),
				 sv_from(olds.v.p[i].value, olds.v.p[i].n_value));
	return r ? db_fail(r, "migrate") : NULL;
}

static struct err *migrate(struct db *db, MDB_txn *txn)
{
	for (int i = 0; i < DB_TABLES; i++)
		TRY(add_sums(db, txn, (enum db_table)i));
	return set_format(db, txn);
}

/* *out_old: it has to be written to first. */
static struct err *check_format(struct db *db, MDB_txn *txn, bool may_write, bool *out_old)
{
	MDB_val key = { 6, (void *)(uintptr_t) "format" }, value;
	int r = mdb_get(txn, db->meta, &key, &value);
	struct sv format = r ? SV("") : sv_from(value.mv_data, value.mv_size);

	if (r == MDB_NOTFOUND && may_write)
		return set_format(db, txn);
	if (r)
		return db_fail(r, "read format");
	*out_old = sv_is(format, FORMAT_OLD);
	if (*out_old && may_write) {
		*out_old = false;
		return migrate(db, txn);
	}
	if (!*out_old && !check_sum("meta", SV("format"), format, &format))
		return FAIL(ERR_CORRUPT, "database: the record of its format is damaged" DB_REPAIR);
	if (!*out_old && !sv_is(format, FORMAT))
		return FAIL(ERR_UNSUPPORTED, "database: format \"%.*s\" was written by another version (this one: %s)",
			    (int)format.n, format.p, FORMAT);
	return NULL;
}

/*
 * Who writes a log has made the tables before. But a store of an earlier version lacks the tables that came later: they are
 * made when the log, which must be whole to say so, never had a record of theirs.
 */
static struct err *check_missing(const struct db *db, const bool missing[DB_TABLES + 1])
{
	CLEANUP(db_replay_fini) struct db_replay log = { 0 };
	bool gone;

	TRY(db_replay(db->path, UINT64_MAX, &log));
	gone = log.is_there && (missing[DB_TABLES] || !log.is_whole);
	for (size_t i = 0; i < log.changes.n; i++)
		gone |= missing[log.changes.p[i].table];
	return gone ? FAIL(ERR_CORRUPT, "database: its tables are gone" DB_REPAIR) : NULL;
}

/* With `create` in a write transaction, else in a read one; *out_fresh: tables are missing. */
static struct err *prepare(struct db *db, bool create, bool *out_fresh)
{
	MDB_txn *txn;
	bool missing[DB_TABLES + 1] = { false };
	struct err *e;
	int r = mdb_txn_begin(db->env, NULL, create ? 0 : MDB_RDONLY, &txn);

	if (r)
		return db_fail(r, "begin");
	e = open_tables(db, txn, 0, missing, out_fresh);
	if (!e && *out_fresh && create)
		e = check_missing(db, missing);
	if (!e && *out_fresh && create)
		e = open_tables(db, txn, MDB_CREATE, missing, out_fresh);
	if (!e && !*out_fresh)
		e = check_format(db, txn, create, out_fresh);
	if (e) {
		mdb_txn_abort(txn);
		return e;
	}
	r = mdb_txn_commit(txn);
	return r ? db_fail(r, "commit") : NULL;
}

/* A record's page tells its number, so where the file is mapped is known. */
static void watch_map(struct db *db)
{
	MDB_val key = { 6, (void *)(uintptr_t) "format" }, value;
	uint64_t number;
	uintptr_t page;
	MDB_txn *txn;
	MDB_stat st;

	if (mdb_env_stat(db->env, &st) || mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn))
		return;
	if (!mdb_get(txn, db->meta, &key, &value)) {
		page = (uintptr_t)value.mv_data & ~((uintptr_t)st.ms_psize - 1);
		memcpy(&number, (const char *)value.mv_data - ((uintptr_t)value.mv_data - page), sizeof number);
		page -= number * st.ms_psize;
		sys_on_memory_fault(page, page + DB_MAP_BYTES + 16 * DB_VALUE_MAX, DAMAGED);
	}
	mdb_txn_abort(txn);
}

static int open_files(struct db *db, unsigned flags)
{
	int r = mdb_env_create(&db->env);

	if (!r)
		r = mdb_env_set_maxdbs(db->env, DB_TABLES + 1);
	if (!r)
		r = mdb_env_set_mapsize(db->env, DB_MAP_BYTES);
	return r ? r : mdb_env_open(db->env, db->path, MDB_NOTLS | flags, 0600);
}

static struct err *open_env(struct db *db)
{
	struct err *e;
	bool fresh = false;
	int dead, r = open_files(db, 0);

	if (r == EROFS) { /* a disk that failed: what is on it can still be looked at and saved */
		mdb_env_close(db->env);
		db->is_readonly = true;
		r = open_files(db, MDB_RDONLY);
	}
	if (r)
		return err_ctx(db_fail(r, "open"), "%s", db->path);
	if (!db->is_readonly)
		(void)mdb_reader_check(db->env, &dead);
	e = prepare(db, false, &fresh);
	if (!e && fresh && db->is_readonly)
		return FAIL_OS(EROFS, "make the tables of %s", db->path);
	return !e && fresh ? prepare(db, true, &fresh) : e;
}

struct err *db_open(const char *path, struct db **out_db)
{
	auto_db struct db *db = xnew(struct db);

	db->path = xstrdup(path);
	db->log_path = xasprintf("%s/log", path);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return FAIL_OS(errno, "create database directory %s", path);
	sys_on_memory_fault(0, UINTPTR_MAX, DAMAGED);
	TRY(open_env(db));
	watch_map(db);
	*out_db = TAKE(db);
	return NULL;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	if (db->env)
		mdb_env_close(db->env);
	free(db->path);
	free(db->log_path);
	free(db);
}

static struct err *begin(struct db *db, unsigned flags, struct db_txn **out_txn)
{
	struct db_txn *t;
	int r;

	if (db->is_readonly && !(flags & MDB_RDONLY))
		return FAIL_OS(EROFS, "%s", db->path);
	t = xnew(struct db_txn);
	r = mdb_txn_begin(db->env, NULL, flags, &t->txn);
	if (r) {
		free(t);
		return db_fail(r, "begin");
	}
	t->db = db;
	t->log_fd = -1;
	t->is_passing = flags & MDB_NOMETASYNC;
	*out_txn = t;
	return NULL;
}

struct err *db_begin_read(struct db *db, struct db_txn **out_txn)
{
	return begin(db, MDB_RDONLY, out_txn);
}

struct err *db_begin_write(struct db *db, struct db_txn **out_txn)
{
	return begin(db, 0, out_txn);
}

struct err *db_begin_passing(struct db *db, struct db_txn **out_txn)
{
	return begin(db, MDB_NOMETASYNC, out_txn); /* the pages are synced, the root that names them is not */
}

static void txn_fini(struct db_txn *t)
{
	buf_fini(&t->log);
	own_close(&t->log_fd);
	free(t);
}

struct err *db_commit(struct db_txn *txn)
{
	bool any = txn->log.n > 0;
	struct err *e = any ? db_log_write(txn) : NULL;
	int r;

	if (e) {
		db_abort(txn);
		return e;
	}
	r = mdb_txn_commit(txn->txn);
	if (!r && any)
		db_log_confirm(txn);
	txn_fini(txn);
	return r ? db_fail(r, "commit") : NULL;
}

void db_abort(struct db_txn *txn)
{
	if (!txn)
		return;
	mdb_txn_abort(txn->txn);
	txn_fini(txn);
}

static MDB_val key_of(const char *key)
{
	return (MDB_val){ strlen(key), (void *)(uintptr_t)key };
}

struct err *db_get(struct db_txn *txn, enum db_table table, const char *key, struct sv *out_value, bool *out_found)
{
	MDB_val k = key_of(key), v;
	int r;

	*out_found = false;
	if (!k.mv_size || k.mv_size > DB_KEY_MAX)
		return NULL; /* such a key was never put */
	r = mdb_get(txn->txn, txn->db->tables[table], &k, &v);
	if (r == MDB_NOTFOUND)
		return NULL;
	if (r)
		return db_fail(r, "get");
	if (!db_sum_check(table, sv_of(key), sv_from(v.mv_data, v.mv_size), out_value))
		return damaged(table, sv_of(key));
	*out_found = true;
	return NULL;
}

struct err *db_put(struct db_txn *txn, enum db_table table, const char *key, struct sv value)
{
	struct sv k = sv_of(key), v = value.p ? value : SV("");
	int r;

	if (!k.n || k.n > DB_KEY_MAX || v.n > DB_VALUE_MAX)
		return FAIL(ERR_LIMIT, "database: key of %zu bytes, value of %zu", k.n, v.n);
	db_log_note(txn, table, k, v); /* before: v may lie in the map, which the put moves */
	r = put_with_sum(txn->txn, txn->db->tables[table], db_table_names[table], k, v);
	return r ? db_fail(r, "put") : NULL;
}

struct err *db_delete(struct db_txn *txn, enum db_table table, const char *key)
{
	MDB_val k = key_of(key);
	int r;

	if (!k.mv_size || k.mv_size > DB_KEY_MAX)
		return NULL;
	r = mdb_del(txn->txn, txn->db->tables[table], &k, NULL);
	if (!r)
		db_log_note(txn, table, sv_of(key), (struct sv){ 0 });
	return r && r != MDB_NOTFOUND ? db_fail(r, "delete") : NULL;
}

struct err *db_scan(struct db_txn *txn, enum db_table table, const char *prefix,
		    struct err *(*each)(void *ctx, struct sv key, struct sv value), void *ctx)
{
	MDB_val k = key_of(prefix), v;
	struct sv want = sv_of(prefix);
	struct err *e = NULL;
	MDB_cursor *c;
	int r = mdb_cursor_open(txn->txn, txn->db->tables[table], &c);

	if (r)
		return db_fail(r, "scan");
	r = mdb_cursor_get(c, &k, &v, want.n ? MDB_SET_RANGE : MDB_FIRST);
	while (!r && !e && sv_starts(sv_from(k.mv_data, k.mv_size), want)) {
		struct sv key = sv_from(k.mv_data, k.mv_size), value;

		e = db_sum_check(table, key, sv_from(v.mv_data, v.mv_size), &value) ? each(ctx, key, value) : damaged(table, key);
		r = mdb_cursor_get(c, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(c);
	if (!e && r && r != MDB_NOTFOUND)
		e = db_fail(r, "scan");
	return e;
}
