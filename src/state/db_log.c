/*
 * db_log.c - a second copy of every record, in a file of its own, so that the database can be made again
 * whatever of it rots.
 *
 * meta/log: changes in the order of their transactions, each with a checksum, unsynced: it costs two writes of
 * some hundred bytes and no sync. It is for rot, not for power cuts: a log that lacks something the sound
 * database has is written anew.
 *
 * A transaction is appended before it is committed, under LMDB's write lock, and confirmed after: so what is
 * confirmed and not in the database was there once. What is not confirmed may be that of a process that was
 * killed in between; the next writer, whose number is then not the log's next, writes the log anew.
 */
#include "base/mem.h"
#include "base/own.h"
#include "codec/zip.h"
#include "state/db_int.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

#define LOG_NEW	  "log.new"
#define LOG_MAGIC "hoy-log1"
enum { LOG_MAX = 1 << 30, FLUSH = 1 << 18, GROWTH = 1 << 20, OP_PUT = 1, OP_DELETE = 2, OP_END = 3 };

struct entry {        /* then the key, then the value */
	uint32_t sum; /* CRC-32 of all behind it */
	uint8_t op, table;
	uint16_t n_key;
	uint32_t n_value;
};
struct end_entry {
	struct entry entry; /* OP_END; n_key: the bytes of end */
	struct db_end end;
} __attribute__((packed));

/* The log while it is written anew. */
struct dump {
	int fd;
	struct buf b;
	uint64_t n;
	bool failed;
};

static void add(struct buf *b, uint8_t op, uint8_t table, struct sv key, struct sv value)
{
	struct entry e = { 0, op, table, (uint16_t)key.n, (uint32_t)value.n };
	uint32_t sum = zip_crc32(0, &e.op, sizeof e - offsetof(struct entry, op));

	e.sum = zip_crc32(zip_crc32(sum, key.p, key.n), value.p, value.n);
	buf_add(b, &e, sizeof e);
	buf_sv(b, key);
	buf_sv(b, value);
}

static void add_end(struct buf *b, const struct db_end *end)
{
	add(b, OP_END, 0, sv_from((const char *)end, sizeof *end), SV(""));
}

/* One entry at the front of rest. false: none, or damaged. */
static bool take(struct sv *rest, struct entry *out, struct sv *out_key, struct sv *out_value)
{
	if (rest->n < sizeof *out)
		return false;
	memcpy(out, rest->p, sizeof *out);
	if (out->n_key > DB_KEY_MAX || out->n_value > DB_VALUE_MAX ||
	    rest->n - sizeof *out < (size_t)out->n_key + out->n_value || out->op < OP_PUT || out->op > OP_END ||
	    out->table >= DB_TABLES)
		return false;
	*out_key = sv_from(rest->p + sizeof *out, out->n_key);
	*out_value = sv_from(out_key->p + out_key->n, out->n_value);
	if (out->sum != zip_crc32(0, rest->p + offsetof(struct entry, op),
				  sizeof *out - offsetof(struct entry, op) + out_key->n + out_value->n) ||
	    (out->op == OP_END && out_key->n != sizeof(struct db_end)))
		return false;
	*rest = sv_skip(*rest, sizeof *out + out_key->n + out_value->n);
	return true;
}

void db_log_note(struct db_txn *t, enum db_table table, struct sv key, struct sv value)
{
	if (!t->log.max)
		t->log = BUF(LOG_MAX);
	add(&t->log, value.p ? OP_PUT : OP_DELETE, (uint8_t)table, key, value.p ? value : SV(""));
}

/* ---- writing it anew ---- */

static void flush(struct dump *d)
{
	d->failed |= d->b.failed || sys_write_all(d->fd, d->b.data, d->b.n) < 0;
	d->n += d->b.n;
	buf_reset(&d->b);
}

static void dump_table(struct dump *d, MDB_txn *txn, MDB_dbi dbi, uint8_t table)
{
	MDB_cursor *c;
	MDB_val k, v;
	int r = mdb_cursor_open(txn, dbi, &c);

	d->failed |= r != 0;
	if (r)
		return;
	for (r = mdb_cursor_get(c, &k, &v, MDB_FIRST); !r && !d->failed; r = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
		struct sv key = sv_from(k.mv_data, k.mv_size), value;

		/* of what has rotted the old log may have the only good copy */
		d->failed |= !db_sum_check((enum db_table)table, key, sv_from(v.mv_data, v.mv_size), &value);
		if (d->failed)
			break;
		add(&d->b, OP_PUT, table, key, value);
		if (d->b.n >= FLUSH)
			flush(d);
	}
	mdb_cursor_close(c);
	d->failed |= r != 0 && r != MDB_NOTFOUND;
}

/* Every record as t sees it, its own changes with them. */
static bool write_dump(struct db_txn *t, int dir, int fd)
{
	struct dump d = { .fd = fd, .b = BUF(2 * FLUSH + DB_VALUE_MAX) };

	buf_str(&d.b, LOG_MAGIC);
	for (uint8_t i = 0; i < DB_TABLES; i++)
		dump_table(&d, t->txn, t->db->tables[i], i);
	t->end.dump_bytes = d.n + d.b.n;
	add_end(&d.b, &t->end);
	flush(&d);
	buf_fini(&d.b);
	return !d.failed && sys_rename(dir, LOG_NEW, "log") == 0;
}

bool db_log_dump(struct db_txn *t)
{
	auto_fd int dir = sys_open_dir(t->db->path), fd = -1;
	bool ok;

	fd = dir < 0 ? dir : sys_openat(dir, LOG_NEW, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);
	ok = fd >= 0 && write_dump(t, dir, fd);
	if (!ok && fd >= 0)
		(void)sys_unlink(dir, LOG_NEW);
	if (!ok)
		return false;
	own_close(&t->log_fd);
	t->log_fd = TAKE_FD(fd);
	return true;
}

/* ---- appending ---- */

/* What the last entries say. Confirmations come late, behind those of others: the last few are looked at. */
static bool read_tail(int fd, off_t size, struct db_end *out)
{
	struct end_entry last[4];
	struct entry e;
	struct sv key, value;
	off_t n = size < (off_t)sizeof last ? size : (off_t)sizeof last;
	bool found = false;

	*out = (struct db_end){ 0 };
	n -= n % (off_t)sizeof last[0];
	if (sys_pread(fd, last, (size_t)n, size - n) != n)
		return false;
	for (size_t i = (size_t)n / sizeof last[0]; i-- > 0;) {
		struct sv text = sv_from((const char *)&last[i], sizeof last[i]);
		struct db_end end;

		if (!take(&text, &e, &key, &value) || e.op != OP_END)
			break;
		memcpy(&end, key.p, sizeof end);
		out->id = end.id > out->id ? end.id : out->id;
		out->sure = end.sure > out->sure ? end.sure : out->sure;
		out->dump_bytes = found ? out->dump_bytes : end.dump_bytes;
		found = true;
	}
	return found;
}

/* A change that is there by half would make those behind it unreadable. */
static void append(struct db_txn *t, off_t size)
{
	add_end(&t->log, &t->end);
	if (t->log.failed || sys_write_all(t->log_fd, t->log.data, t->log.n) < 0)
		(void)sys_ftruncate(t->log_fd, size);
}

FALLIBLE db_log_write(struct db_txn *t)
{
	struct db_end tail = { 0 };
	struct stat st = { 0 };
	uint64_t id = mdb_txn_id(t->txn);
	bool is_next;

	t->log_fd = sys_open(t->db->log_path, O_RDWR | O_APPEND, 0);
	is_next = t->log_fd >= 0 && sys_fstat(t->log_fd, &st) == 0 && read_tail(t->log_fd, st.st_size, &tail);
	if (is_next && tail.sure >= id)
		return FAIL(ERR_CORRUPT, "the database is older than what it has confirmed ('hoy verify --repair' mends it)");
	is_next = is_next && tail.id == id - 1;
	t->end = (struct db_end){ id, tail.sure, tail.dump_bytes };
	if ((!is_next || (uint64_t)st.st_size > 2 * tail.dump_bytes + GROWTH) && db_log_dump(t))
		return NULL;
	if (t->log_fd >= 0) /* also with a gap before it: of what it has some may be nowhere else */
		append(t, st.st_size);
	return NULL;
}

void db_log_confirm(struct db_txn *t)
{
	auto_buf struct buf b = BUF(sizeof(struct end_entry));

	t->end.sure = t->end.id;
	add_end(&b, &t->end);
	if (t->log_fd >= 0 && !t->is_passing)
		(void)sys_write_all(t->log_fd, b.data, b.n); /* without it the next writer knows less */
}

/* ---- reading ---- */

void db_replay_fini(struct db_replay *r)
{
	for (size_t i = 0; i < r->changes.n; i++) {
		free(r->changes.p[i].key);
		free(r->changes.p[i].value);
	}
	vec_fini(&r->changes);
	vec_fini(&r->groups);
	map_fini(&r->records);
}

/* A confirmation has the number of what came before it, or an older one. */
static void replay_end(struct db_replay *r, struct sv bytes)
{
	size_t start = r->groups.n ? r->groups.p[r->groups.n - 1].end : 0;
	bool is_first = r->groups.n == 0;
	struct db_end end;

	memcpy(&end, bytes.p, sizeof end);
	if (end.sure > r->end.sure)
		r->end.sure = end.sure;
	if (!is_first && r->changes.n == start)
		return;
	r->is_contiguous &= is_first || end.id == r->end.id + 1;
	r->end.id = end.id;
	*vec_push(&r->groups) = (struct db_group){ r->changes.n, end.id };
}

static bool replay_one(struct db_replay *r, struct sv *rest)
{
	struct entry e;
	struct sv key, value;
	struct db_change *c;

	if (!take(rest, &e, &key, &value))
		return false;
	if (e.op == OP_END) {
		replay_end(r, key);
		return true;
	}
	c = vec_push(&r->changes);
	*c = (struct db_change){ (enum db_table)e.table, xstrndup(key.p, key.n), NULL, value.n };
	if (e.op == OP_PUT) {
		c->value = xmalloc(value.n + 1);
		memcpy(c->value, value.p, value.n);
	}
	return true;
}

static void replay_bytes(struct db_replay *r, struct sv rest)
{
	r->is_whole = sv_starts(rest, SV(LOG_MAGIC));
	r->is_contiguous = true;
	rest = sv_skip(rest, rest.n < sizeof LOG_MAGIC - 1 ? rest.n : sizeof LOG_MAGIC - 1);
	while (rest.n)
		if (!replay_one(r, &rest)) { /* on to the next that is good */
			r->is_whole = false;
			rest = sv_skip(rest, 1);
		}
	r->is_whole &= r->groups.n && r->groups.p[r->groups.n - 1].end == r->changes.n;
}

static char *name_of(enum db_table table, const char *key)
{
	return xasprintf("%d %s", (int)table, key);
}

static void build(struct db_replay *r, uint64_t last)
{
	for (size_t g = 0, i = 0; g < r->groups.n; g++)
		for (; i < r->groups.p[g].end; i++) {
			auto_free char *name = name_of(r->changes.p[i].table, r->changes.p[i].key);

			if (r->groups.p[g].id <= last || g == 0)
				*map_put(&r->records, name) = &r->changes.p[i];
		}
}

FALLIBLE db_replay(const char *path, uint64_t last, struct db_replay *out)
{
	auto_fd int dir = sys_open_dir(path), fd = -1;
	auto_buf struct buf b = BUF(LOG_MAX);
	struct stat st;
	ssize_t n;

	if (dir < 0)
		return FAIL_OS(-dir, "open %s", path);
	fd = sys_openat(dir, "log", O_RDONLY, 0);
	if (fd == -ENOENT)
		return NULL;
	if (fd < 0 || (n = sys_fstat(fd, &st)) < 0)
		return FAIL_OS(fd < 0 ? -fd : (int)-n, "open %s/log", path);
	out->is_there = true;
	if (!buf_room(&b, (size_t)st.st_size + 1))
		return FAIL(ERR_LIMIT, "%s/log: %lld bytes", path, (long long)st.st_size);
	if ((n = sys_read_full(fd, b.data, (size_t)st.st_size)) < 0)
		return FAIL_OS((int)-n, "read %s/log", path);
	replay_bytes(out, sv_from(b.data, (size_t)n));
	build(out, last);
	return NULL;
}

const struct db_change *db_replay_get(const struct db_replay *r, enum db_table table, const char *key)
{
	auto_free char *name = name_of(table, key);
	void *const *slot = map_get(&r->records, name);

	return slot ? *slot : NULL;
}

size_t db_replay_count(const struct db_replay *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->records.n; i++)
		n += ((const struct db_change *)r->records.entries[i].value)->value != NULL;
	return n;
}
