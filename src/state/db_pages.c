/*
 * db_pages.c - LMDB believes its file. So before it is believed: each page is of a tree, of a value, or free, and only one of
 * these; what is none is an inner page of a tree (LMDB shows no cursor those), and as many as the trees say.
 *
 * Format read here: LMDB 0.9's (MDB_page, MDB_meta); a record's address in the map gives its page.
 */
#include "base/mem.h"
#include "base/own.h"
#include "state/db_int.h"
#include "sys/sys.h"

enum { RECORD_HEAD = 8, P_BRANCH = 1, P_LEAF = 2, P_OVERFLOW = 4, P_META = 8, FREE_TABLE = 0, MAIN_TABLE = 1 };

struct page { /* the head of every page */
	uint64_t number;
	uint16_t pad, flags;
	union {
		uint32_t pages; /* of P_OVERFLOW */
		struct {
			uint16_t lower, upper; /* records fill it from upper to its end */
		};
	};
};
struct meta { /* the head of pages 0 and 1, as far as it says the same in both, and the transaction */
	struct page page;
	uint32_t magic, version;
	uint64_t address, map_bytes;
	uint32_t page_bytes;
	uint16_t flags, depth;
	uint64_t counts[5 + 6]; /* the rest of the free table, and the main table */
	uint64_t last_page, txn;
};
struct pages {
	MDB_txn *txn;
	const char *map; /* NULL: not known yet */
	size_t page_bytes, n;
	uint8_t *used;
	size_t n_branches;
};

static void pages_fini(struct pages *p)
{
	free(p->used);
}

static FALLIBLE bad(const char *what)
{
	return FAIL(ERR_CORRUPT, "database: %s", what);
}

static FALLIBLE use(struct pages *p, uint64_t number, uint64_t n)
{
	if (number < 2 || n > p->n || number > p->n - n)
		return bad("a page is beyond the end");
	for (uint64_t i = number; i < number + n; i++)
		if (p->used[i]++)
			return bad("a page is used twice");
	return NULL;
}

/* The page that at lies on. */
static FALLIBLE page_at(struct pages *p, const void *at, unsigned flags, struct page *out)
{
	const char *head = (const char *)((uintptr_t)at & ~(uintptr_t)(p->page_bytes - 1));

	memcpy(out, head, sizeof *out);
	if (!p->map && out->number < p->n)
		p->map = head - out->number * p->page_bytes;
	if (out->number >= p->n || head != p->map + out->number * p->page_bytes || !(out->flags & flags))
		return bad("a page is not what it should be");
	return NULL;
}

static FALLIBLE free_pages(struct pages *p, const MDB_val *v)
{
	size_t n = v->mv_size / sizeof(size_t), count, id;

	memcpy(&count, v->mv_data, sizeof count);
	if (n < 1 || count > n - 1)
		return bad("the list of free pages is damaged");
	for (size_t i = 1; i <= count; i++) {
		memcpy(&id, (const char *)v->mv_data + i * sizeof id, sizeof id);
		TRY(use(p, id, 1));
	}
	return NULL;
}

struct walk {
	MDB_val k, v, last; /* last: the key before k */
	size_t entries, leaves, overflows;
	struct page leaf;
	size_t filled; /* bytes of records met in it */
};

static FALLIBLE end_leaf(const struct pages *p, const struct walk *w)
{
	return w->leaves && w->filled + w->leaf.upper != p->page_bytes ? bad("the records of a page do not fill it") : NULL;
}

/* The record that the walk stands on. */
static FALLIBLE check_record(struct pages *p, struct walk *w, MDB_dbi dbi)
{
	bool is_far = (uintptr_t)w->v.mv_data / p->page_bytes != (uintptr_t)w->k.mv_data / p->page_bytes;
	struct page leaf, value;

	TRY(page_at(p, w->k.mv_data, P_LEAF, &leaf));
	if (leaf.number != w->leaf.number || !w->leaves) {
		TRY(end_leaf(p, w));
		TRY(use(p, leaf.number, 1));
		w->leaves++;
		w->leaf = leaf;
		w->filled = 0;
	}
	if (w->entries++ && mdb_cmp(p->txn, dbi, &w->last, &w->k) >= 0)
		return bad("a table is not in order");
	w->last = w->k;
	w->filled += (RECORD_HEAD + w->k.mv_size + (is_far ? sizeof leaf.number : w->v.mv_size) + 1) & ~(size_t)1;
	if (is_far) {
		TRY(page_at(p, w->v.mv_data, P_OVERFLOW, &value));
		if ((sizeof value - 1 + w->v.mv_size) / p->page_bytes + 1 != value.pages)
			return bad("a value is not as long as it says");
		w->overflows += value.pages;
		TRY(use(p, value.number, value.pages));
	}
	return dbi == FREE_TABLE ? free_pages(p, &w->v) : NULL;
}

static FALLIBLE check_tree(struct pages *p, MDB_dbi dbi, MDB_cursor *c)
{
	struct walk w = { 0 };
	MDB_stat st;
	struct err *e = NULL;
	int r = mdb_stat(p->txn, dbi, &st);

	for (r = r ? r : mdb_cursor_get(c, &w.k, &w.v, MDB_FIRST); !r && !e; r = mdb_cursor_get(c, &w.k, &w.v, MDB_NEXT))
		e = check_record(p, &w, dbi);
	if (e)
		return e;
	if (r != MDB_NOTFOUND)
		return db_fail(r, "read");
	TRY(end_leaf(p, &w));
	if (w.entries != st.ms_entries || w.leaves != st.ms_leaf_pages || w.overflows != st.ms_overflow_pages)
		return bad("a table is not as large as it says");
	p->n_branches += st.ms_branch_pages;
	return NULL;
}

static FALLIBLE check_table(struct pages *p, MDB_dbi dbi)
{
	MDB_cursor *c;
	struct err *e;
	int r = mdb_cursor_open(p->txn, dbi, &c);

	if (r)
		return db_fail(r, "read");
	e = check_tree(p, dbi, c);
	mdb_cursor_close(c);
	return e;
}

static FALLIBLE check_branches(struct pages *p)
{
	for (size_t i = 2; i < p->n; i++) {
		struct page head;

		if (p->used[i])
			continue;
		if (!p->map || !p->n_branches)
			return bad("a page is used by nothing");
		TRY(page_at(p, p->map + i * p->page_bytes, P_BRANCH, &head));
		p->n_branches--;
	}
	return p->n_branches ? bad("a page of a table is missing") : NULL;
}

/* A commit writes the one of the two whose number is that of the transaction's last bit: so they are neighbours. */
static FALLIBLE check_metas(MDB_env *env, size_t page_bytes)
{
	struct meta m[2];
	int fd, r = mdb_env_get_fd(env, &fd);

	for (unsigned i = 0; !r && i < 2; i++) {
		if (sys_pread(fd, &m[i], sizeof m[i], (off_t)(i * page_bytes)) != (ssize_t)sizeof m[i])
			return bad("its head cannot be read");
		if (m[i].page.number != i || !(m[i].page.flags & P_META))
			return bad("its head is damaged");
	}
	if (r)
		return db_fail(r, "head");
	if (m[0].txn == 0 && m[1].txn == 0)
		return NULL;
	if (memcmp(&m[0].page.pad, &m[1].page.pad, offsetof(struct meta, depth) - offsetof(struct page, pad)) != 0 ||
	    m[0].txn % 2 != 0 || (m[1].txn != m[0].txn + 1 && m[1].txn + 1 != m[0].txn))
		return bad("its head is damaged");
	return NULL;
}

FALLIBLE db_pages_check(struct db *db, MDB_txn *txn)
{
	CLEANUP(pages_fini) struct pages p = { .txn = txn };
	MDB_dbi main_table;
	MDB_envinfo info;
	MDB_stat st;
	int r = mdb_env_info(db->env, &info);

	r = r ? r : mdb_env_stat(db->env, &st);
	r = r ? r : mdb_dbi_open(txn, NULL, 0, &main_table);
	if (r)
		return db_fail(r, "look at its pages");
	p.page_bytes = st.ms_psize;
	p.n = info.me_last_pgno + 1;
	if (p.page_bytes < 512 || (p.page_bytes & (p.page_bytes - 1)) || p.n > DB_MAP_BYTES / p.page_bytes)
		return bad("its head is damaged");
	TRY(check_metas(db->env, p.page_bytes));
	p.used = xcalloc(p.n, 1);
	TRY(check_table(&p, FREE_TABLE));
	TRY(check_table(&p, main_table));
	TRY(check_table(&p, db->meta));
	for (size_t i = 0; i < DB_TABLES; i++)
		TRY(check_table(&p, db->tables[i]));
	return check_branches(&p);
}
