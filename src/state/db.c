/*
 * db.c - LMDB behind typed tables. Named databases are opened once at db_open inside one write transaction (or a read one
 * when the format is there already, so that a plain listing takes no lock). MDB_NOTLS: transactions are passed around, not
 * bound to threads. A reader slot that a killed process left is cleared at open (mdb_reader_check).
 */
#include "state/db.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/num.h"
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FORMAT "1"
enum { MAP_BYTES = 1 << 30, VALUE_MAX = 1 << 20 };

static const char *const table_names[DB_TABLES] = {
	[DB_CONTAINER] = "container", [DB_CONTAINER_NAME] = "container-name", [DB_IMAGE] = "image",
	[DB_VOLUME] = "volume",	      [DB_NETWORK] = "network",		      [DB_NETWORK_NAME] = "network-name",
	[DB_LEASE] = "lease",	      [DB_LAYER] = "layer",		      [DB_CACHE] = "cache",
	[DB_BLOB_INFO] = "blob-info",
};

struct db {
	MDB_env *env;
	MDB_dbi tables[DB_TABLES];
	MDB_dbi meta;
};
struct db_txn {
	struct db *db;
	MDB_txn *txn;
};

static struct err *fail(int r, const char *what)
{
	if (r > 0)
		return FAIL_OS(r, "database: %s", what);
	switch (r) {
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_PANIC:
		return FAIL(ERR_CORRUPT, "database: %s: %s", what, mdb_strerror(r));
	case MDB_MAP_FULL:
	case MDB_READERS_FULL:
	case MDB_TXN_FULL:
	case MDB_BAD_VALSIZE:
		return FAIL(ERR_LIMIT, "database: %s: %s", what, mdb_strerror(r));
	default:
		return FAIL(ERR_INTERNAL, "database: %s: %s", what, mdb_strerror(r));
	}
}

static struct err *open_tables(struct db *db, MDB_txn *txn, unsigned flags, bool *out_fresh)
{
	int r = mdb_dbi_open(txn, "meta", flags, &db->meta);

	*out_fresh = r == MDB_NOTFOUND;
	if (*out_fresh)
		return NULL;
	if (r)
		return fail(r, "open table meta");
	for (size_t i = 0; i < DB_TABLES; i++) {
		r = mdb_dbi_open(txn, table_names[i], flags, &db->tables[i]);
		*out_fresh = r == MDB_NOTFOUND;
		if (*out_fresh)
			return NULL;
		if (r)
			return fail(r, table_names[i]);
	}
	return NULL;
}

static struct err *check_format(struct db *db, MDB_txn *txn, bool may_write)
{
	MDB_val key = { 6, (void *)(uintptr_t) "format" }, value;
	int r = mdb_get(txn, db->meta, &key, &value);

	if (r == MDB_NOTFOUND && may_write) {
		value = (MDB_val){ sizeof FORMAT - 1, (void *)(uintptr_t)FORMAT };
		r = mdb_put(txn, db->meta, &key, &value, 0);
		return r ? fail(r, "write format") : NULL;
	}
	if (r)
		return fail(r, "read format");
	if (!sv_is(sv_from(value.mv_data, value.mv_size), FORMAT))
		return FAIL(ERR_UNSUPPORTED, "database: format \"%.*s\" was written by another version (this one: %s)",
			    (int)value.mv_size, (const char *)value.mv_data, FORMAT);
	return NULL;
}

/* With `create` in a write transaction, else in a read one; *out_fresh: tables are missing. */
static struct err *prepare(struct db *db, bool create, bool *out_fresh)
{
	MDB_txn *txn;
	struct err *e;
	int r = mdb_txn_begin(db->env, NULL, create ? 0 : MDB_RDONLY, &txn);

	if (r)
		return fail(r, "begin");
	e = open_tables(db, txn, create ? MDB_CREATE : 0, out_fresh);
	if (!e && !*out_fresh)
		e = check_format(db, txn, create);
	if (e) {
		mdb_txn_abort(txn);
		return e;
	}
	r = mdb_txn_commit(txn);
	return r ? fail(r, "commit") : NULL;
}

struct err *db_open(const char *path, struct db **out_db)
{
	struct db *db = xnew(struct db);
	struct err *e = NULL;
	bool fresh = false;
	int r;

	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		r = errno;
		free(db);
		return FAIL_OS(r, "create database directory %s", path);
	}
	r = mdb_env_create(&db->env);
	if (!r)
		r = mdb_env_set_maxdbs(db->env, DB_TABLES + 1);
	if (!r)
		r = mdb_env_set_mapsize(db->env, MAP_BYTES);
	if (!r)
		r = mdb_env_open(db->env, path, MDB_NOTLS, 0600);
	if (r) {
		e = err_ctx(fail(r, "open"), "%s", path);
	} else {
		int dead;

		(void)mdb_reader_check(db->env, &dead);
		e = prepare(db, false, &fresh);
		if (!e && fresh)
			e = prepare(db, true, &fresh);
	}
	if (e) {
		db_close(db);
		return e;
	}
	*out_db = db;
	return NULL;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	if (db->env)
		mdb_env_close(db->env);
	free(db);
}

static struct err *begin(struct db *db, unsigned flags, struct db_txn **out_txn)
{
	struct db_txn *t = xnew(struct db_txn);
	int r = mdb_txn_begin(db->env, NULL, flags, &t->txn);

	if (r) {
		free(t);
		return fail(r, "begin");
	}
	t->db = db;
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

struct err *db_commit(struct db_txn *txn)
{
	int r = mdb_txn_commit(txn->txn);

	free(txn);
	return r ? fail(r, "commit") : NULL;
}

void db_abort(struct db_txn *txn)
{
	if (!txn)
		return;
	mdb_txn_abort(txn->txn);
	free(txn);
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
	if (!k.mv_size || k.mv_size > 480)
		return NULL; /* such a key was never put */
	r = mdb_get(txn->txn, txn->db->tables[table], &k, &v);
	if (r == MDB_NOTFOUND)
		return NULL;
	if (r)
		return fail(r, "get");
	*out_value = sv_from(v.mv_data, v.mv_size);
	*out_found = true;
	return NULL;
}

struct err *db_put(struct db_txn *txn, enum db_table table, const char *key, struct sv value)
{
	MDB_val k = key_of(key), v = { value.n, (void *)(uintptr_t)value.p };
	int r;

	if (!k.mv_size || k.mv_size > 480 || value.n > VALUE_MAX)
		return FAIL(ERR_LIMIT, "database: key of %zu bytes, value of %zu", k.mv_size, value.n);
	r = mdb_put(txn->txn, txn->db->tables[table], &k, &v, 0);
	return r ? fail(r, "put") : NULL;
}

struct err *db_delete(struct db_txn *txn, enum db_table table, const char *key)
{
	MDB_val k = key_of(key);
	int r;

	if (!k.mv_size || k.mv_size > 480)
		return NULL;
	r = mdb_del(txn->txn, txn->db->tables[table], &k, NULL);
	return r && r != MDB_NOTFOUND ? fail(r, "delete") : NULL;
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
		return fail(r, "scan");
	r = mdb_cursor_get(c, &k, &v, want.n ? MDB_SET_RANGE : MDB_FIRST);
	while (!r && !e && sv_starts(sv_from(k.mv_data, k.mv_size), want)) {
		e = each(ctx, sv_from(k.mv_data, k.mv_size), sv_from(v.mv_data, v.mv_size));
		r = mdb_cursor_get(c, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(c);
	if (!e && r && r != MDB_NOTFOUND)
		e = fail(r, "scan");
	return e;
}
