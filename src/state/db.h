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
	DB_TABLES
};

struct db;
/* Opens or creates the environment in directory path (created 0700). Migrations run here. Owned. */
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

static inline void own_db_txn(struct db_txn **slot)
{
	db_abort(*slot);
}
#define auto_txn __attribute__((cleanup(own_db_txn)))
