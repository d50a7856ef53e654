/*
 * db.h - what should exist: tables of key -> bytes in one LMDB environment, ROOT/meta.
 *
 * A committed transaction is on disk (one sync each) and survives a crash at any instruction; readers take no lock and see
 * one consistent state. One write transaction at a time across all processes; the others wait.
 * Layer: state.  Threads: a transaction belongs to one thread.  Blocks: db_begin_write, db_commit.
 * Format: docs/formats/state.md.  Limits: 1 GiB of data, keys 1..480 bytes, values 1 MiB.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include <stdbool.h>
#include <stddef.h>

/* One table each; DB_TABLES is the count. The names are part of the format (docs/formats/state.md). */
enum db_table {
	DB_CONTAINER,	   /* id -> container JSON (configuration and last known state) */
	DB_CONTAINER_NAME, /* name -> id */
	DB_IMAGE,	   /* normalised reference -> JSON {digest, created_ns …} */
	DB_VOLUME,	   /* name -> volume JSON */
	DB_NETWORK,	   /* network id -> network JSON */
	DB_NETWORK_NAME,   /* name -> id */
	DB_LEASE,	   /* "net/<network>/<address>" -> container id; content leases "blob/…" */
	DB_LAYER,	   /* diff id -> layer JSON (driver, size) */
	DB_CACHE,	   /* build cache key -> JSON */
	DB_BLOB_INFO,	   /* blob digest -> JSON (media type, diff id of compressed layers …) */
	DB_DOCUMENT,	   /* digest of an image's manifest or configuration -> JSON {text}: a second copy */
	DB_TABLES
};

struct db;
/* Opens or creates the environment in directory path (created 0700). Migrations run here. Owned. On a read-only file system it
 * can be read, and who begins to write is told (EROFS). */
FALLIBLE db_open(const char *path, struct db **out_db);
void db_close(struct db *db);

struct db_txn;
FALLIBLE db_begin_read(struct db *db, struct db_txn **out_txn);
FALLIBLE db_begin_write(struct db *db, struct db_txn **out_txn);
/* For what a power cut ends anyway (the record of a --rm container): one sync less. A cut may undo the last such transactions,
 * whole ones, the youngest first; the next ordinary commit makes them durable, too. */
FALLIBLE db_begin_passing(struct db *db, struct db_txn **out_txn);
FALLIBLE db_commit(struct db_txn *txn); /* consumes txn, also on error (then nothing was changed) */
void db_abort(struct db_txn *txn);	/* NULL is fine */

/* Values are borrowed from the map until the transaction ends or writes. Absent: *out_found false, no error. */
FALLIBLE db_get(struct db_txn *txn, enum db_table table, const char *key, struct sv *out_value, bool *out_found);
FALLIBLE db_put(struct db_txn *txn, enum db_table table, const char *key, struct sv value);
FALLIBLE db_delete(struct db_txn *txn, enum db_table table, const char *key); /* absent is no error */
/* Calls each for every key with the prefix, in byte order, until it returns an error. each must not write. */
FALLIBLE db_scan(struct db_txn *txn, enum db_table table, const char *prefix,
		 struct err *(*each)(void *ctx, struct sv key, struct sv value), void *ctx);

/*
 * Rot. Every value is kept with a checksum, and every record a second time in a log beside the database.
 * db_get and db_scan: ERR_CORRUPT names a damaged record. A database whose own structure is damaged, and that is then met by any
 * call, may end the process: with a message that names the repair and exit code 125.
 * db_check: tells each record that is not what was put, and how the log is. Also of one that can only be read.
 */
enum db_copy_state {
	DB_COPY_GOOD,
	DB_COPY_STALE,	 /* it lacks something or is not there: a kill, a power cut, a full disk; db_copy writes it anew */
	DB_COPY_DAMAGED, /* a checksum in it is wrong; db_copy, too */
	DB_COPY_WINS,	 /* it has what the database has lost: db_rebuild */
};
FALLIBLE db_check(struct db *db, void (*tell)(void *ctx, enum db_table table, const char *key), void *ctx,
		  enum db_copy_state *out_copy);
FALLIBLE db_restore(struct db *db, enum db_table table, const char *key); /* from the log. ERR_NOT_FOUND */
FALLIBLE db_copy(struct db *db); /* ERR_CONFLICT: not while a record is damaged, or no room */
/*
 * Whether a database can be opened and read, each page of it is used once, and it has what its log confirms; asked in a process
 * of its own, because LMDB may crash on one that is damaged. ERR_UNAVAILABLE: that cannot be told now.
 */
FALLIBLE db_probe(const char *path, bool *out_sound);
/*
 * Makes it anew from the log, beside the old one, and renames it into its place: killed at any point, this can be done again.
 * *out_whole: nothing is lost; else the log is damaged as well, and the old database stays as data.mdb.damaged.
 * ERR_CONFLICT: a process has it open. ERR_CORRUPT: there is no log.
 */
FALLIBLE db_rebuild(const char *path, bool *out_whole);

static inline void own_db(struct db **slot)
{
	db_close(*slot);
}
#define auto_db __attribute__((cleanup(own_db)))
static inline void own_db_txn(struct db_txn **slot)
{
	db_abort(*slot);
}
#define auto_txn __attribute__((cleanup(own_db_txn)))
