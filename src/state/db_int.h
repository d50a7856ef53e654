/* db_int.h - what the files of the database share. Layer: state (private). Format: docs/formats/state.md. */
#pragma once
#include "base/buf.h"
#include "base/map.h"
#include "base/vec.h"
#include "state/db.h"
#include <lmdb.h>
#include <stdint.h>

/* DB_SUM: bytes of "\n" and a CRC-32 in hex behind each value */
enum { DB_KEY_MAX = 480, DB_VALUE_MAX = 1 << 20, DB_SUM = 9, DB_MAP_BYTES = 1 << 30 };

struct db {
	MDB_env *env;
	MDB_dbi tables[DB_TABLES];
	MDB_dbi meta;
	char *path, *log_path;
	bool is_readonly; /* the file system is, so nobody writes and no locks are needed */
};
/* The end of a transaction in the log. sure: the youngest that a power cut cannot undo, as far as the writer knew. */
struct db_end {
	uint64_t id, sure, dump_bytes; /* dump_bytes: how large the log was when it was last written anew */
};
struct db_txn {
	struct db *db;
	MDB_txn *txn;
	bool is_passing;
	struct buf log; /* what was changed, as db_log.c writes it */
	int log_fd;     /* owned, from db_log_write on; or -1 */
	struct db_end end;
};
extern const char *const db_table_names[DB_TABLES];

struct err *db_fail(int mdb_result, const char *what);
/* Whether value (with its sum) is what was put under key; out_value: without the sum. */
bool db_sum_check(enum db_table table, struct sv key, struct sv value, struct sv *out_value);

/* ---- db_log.c: the second copy ---- */

/* A change, to be written with its transaction. value.p NULL: deleted. */
void db_log_note(struct db_txn *t, enum db_table table, struct sv key, struct sv value);
/*
 * Before the commit of t, whose write lock orders it. A log that cannot be written is no error, it only lacks something then.
 * ERR_CORRUPT: the database lacks what the log knows to be committed.
 */
FALLIBLE db_log_write(struct db_txn *t);
void db_log_confirm(struct db_txn *t); /* after the commit */
/* Anew, all of what is in the database now. false: a record is damaged, or no room; the old one stays. */
bool db_log_dump(struct db_txn *t);

struct db_change {
	enum db_table table;
	char *key, *value; /* value NULL: deleted; owned */
	size_t n_value;
};
struct db_group { /* the changes of one transaction end here */
	size_t end;
	uint64_t id;
};
struct db_replay {
	VEC(struct db_change) changes;
	VEC(struct db_group) groups;
	struct map records; /* "table key" -> struct db_change *, of changes */
	struct db_end end;
	bool is_there;
	bool is_whole;      /* each byte of it is as it was written */
	bool is_contiguous; /* no transaction is missing in it */
};
void db_replay_fini(struct db_replay *r);
/* Reads the log of the database in directory path, transactions up to number last. One that is damaged: what can be read of it. */
FALLIBLE db_replay(const char *path, uint64_t last, struct db_replay *out);
const struct db_change *db_replay_get(const struct db_replay *r, enum db_table table, const char *key);
size_t db_replay_count(const struct db_replay *r); /* records that are not deleted */

/* db_pages.c: every page of the file is used once, and is what it should be. txn: only reading, while nobody writes. May crash
 * on damage. */
FALLIBLE db_pages_check(struct db *db, MDB_txn *txn);
