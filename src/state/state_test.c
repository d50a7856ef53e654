#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "state/db_int.h"
#include "state/record.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

TEST(last_write_wins)
{
	CHECK_OK(record_write(t_tmpdir(), "web", "one", 3));
	CHECK_OK(record_write(t_tmpdir(), "web", "two", 3));
	CHECK(t_file_is(t_tmpdir(), "web", "two"));
}

TEST(a_record_reads_back)
{
	auto_free char *body = NULL;
	size_t n = 0;

	CHECK_OK(record_write_volatile(t_tmpdir(), "web", "text", 4));
	CHECK_OK(record_read(t_tmpdir(), "web", &body, &n));
	CHECK_STR(body, "text");
	CHECK_INT(n, 4);
	free(TAKE(body));
	CHECK_ERR(ERR_NOT_FOUND, record_read(t_tmpdir(), "none", &body, &n));
}

TEST(names_cannot_leave_the_directory)
{
	static const char *const bad[] = { "", ".", "..", "../x", "a/b", "A", ".new-web" };

	for (size_t i = 0; i < LEN(bad); i++)
		CHECK_ERR(ERR_INVALID, record_write(t_tmpdir(), bad[i], "x", 1));
}

TEST(any_failing_call_leaves_a_whole_record_and_no_litter)
{
	int dir = t_tmpdir();

	FAULT_SWEEP(ENOSPC) {
		struct err *e;

		CHECK_OK(record_write(dir, "web", "old", 3));
		t_sweep_on();
		e = record_write(dir, "web", "new", 3);
		t_sweep_off();
		CHECK(t_file_is(dir, "web", !e || strstr(e->msg, "sync directory") ? "new" : "old"));
		CHECK(!e == !t_sweep_fired() && (!e || e->kind == ERR_LIMIT));
		CHECK(t_entries(dir) == 1);
		err_free(e);
	}
}

static void crash_setup(void)
{
	CHECK_OK(record_write(t_tmpdir(), "web", "old", 3));
}
static void crash_op(void)
{
	CHECK_OK(record_write(t_tmpdir(), "web", "new", 3));
}
static void crash_judge(void)
{
	CHECK(t_file_is(t_tmpdir(), "web", "old") || t_file_is(t_tmpdir(), "web", "new"));
	CHECK_OK(record_write(t_tmpdir(), "web", "again", 5));
	CHECK(t_file_is(t_tmpdir(), "web", "again") && t_entries(t_tmpdir()) == 1);
}
TEST(a_crash_at_any_call_leaves_a_whole_record)
{
	t_crash_sweep(crash_setup, crash_op, crash_judge);
}

static struct db *open_db(void)
{
	char path[300];
	struct db *db = NULL;

	(void)snprintf(path, sizeof path, "%s/meta", t_tmppath());
	CHECK_OK(db_open(path, &db));
	return db;
}

static void put(struct db *db, const char *key, const char *value)
{
	auto_txn struct db_txn *t = NULL;

	CHECK_OK(db_begin_write(db, &t));
	CHECK_OK(db_put(t, DB_IMAGE, key, sv_of(value)));
	CHECK_OK(db_commit(TAKE(t)));
}

static bool has(struct db *db, const char *key, const char *value)
{
	auto_txn struct db_txn *t = NULL;
	struct sv v = { 0 };
	bool found = false;

	CHECK_OK(db_begin_read(db, &t));
	CHECK_OK(db_get(t, DB_IMAGE, key, &v, &found));
	return found && sv_is(v, value);
}

TEST(what_was_committed_is_there_after_reopening)
{
	struct db *db = open_db();
	auto_txn struct db_txn *t = NULL;

	put(db, "a", "1");
	CHECK_OK(db_begin_write(db, &t));
	CHECK_OK(db_put(t, DB_IMAGE, "b", SV("2")));
	db_abort(TAKE(t));
	db_close(db);
	db = open_db();
	CHECK(has(db, "a", "1") && !has(db, "b", "2"));
	db_close(db);
}

TEST(what_need_not_outlive_a_power_cut_is_committed_as_well)
{
	struct db *db = open_db();
	auto_txn struct db_txn *t = NULL;

	put(db, "a", "1");
	CHECK_OK(db_begin_passing(db, &t));
	CHECK_OK(db_put(t, DB_IMAGE, "b", SV("2")));
	CHECK_OK(db_commit(TAKE(t)));
	CHECK(has(db, "b", "2"));
	put(db, "c", "3");
	db_close(db);
	db = open_db();
	CHECK(has(db, "a", "1") && has(db, "b", "2") && has(db, "c", "3"));
	db_close(db);
}

static struct err *join(void *ctx, struct sv key, struct sv value)
{
	char *out = ctx;
	size_t n = strlen(out);

	(void)snprintf(out + n, 100 - n, SV_FMT "=" SV_FMT " ", SV_ARG(key), SV_ARG(value));
	return NULL;
}

TEST(a_scan_sees_its_prefix_in_order)
{
	struct db *db = open_db();
	auto_txn struct db_txn *t = NULL;
	char text[100] = "";

	put(db, "x/b", "2");
	put(db, "x/a", "1");
	put(db, "y", "3");
	CHECK_OK(db_begin_read(db, &t));
	CHECK_OK(db_scan(t, DB_IMAGE, "x/", join, text));
	CHECK_STR(text, "x/a=1 x/b=2 ");
	db_abort(TAKE(t));
	db_close(db);
}

TEST(keys_and_values_have_limits)
{
	struct db *db = open_db();
	auto_txn struct db_txn *t = NULL;
	char key[600];

	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	CHECK_OK(db_begin_write(db, &t));
	CHECK_ERR(ERR_LIMIT, db_put(t, DB_IMAGE, key, SV("x")));
	CHECK_ERR(ERR_LIMIT, db_put(t, DB_IMAGE, "", SV("x")));
	CHECK_OK(db_delete(t, DB_IMAGE, "absent"));
	db_abort(TAKE(t));
	db_close(db);
}

TEST(a_killed_writer_blocks_nobody)
{
	struct db *db = open_db();
	pid_t pid;

	put(db, "a", "1");
	db_close(db);
	pid = fork();
	if (pid == 0) {
		struct db_txn *t;

		db = open_db();
		if (db_begin_write(db, &t) || db_put(t, DB_IMAGE, "a", SV("2")))
			_exit(1);
		(void)kill(getpid(), SIGKILL);
	}
	CHECK(waitpid(pid, NULL, 0) == pid);
	db = open_db();
	CHECK(has(db, "a", "1"));
	put(db, "a", "3");
	CHECK(has(db, "a", "3"));
	db_close(db);
}

/* ---- rot ---- */

static void tell_key(void *ctx, enum db_table table, const char *key)
{
	char *out = ctx;
	size_t n = strlen(out);

	(void)snprintf(out + n, 100 - n, "%d/%s ", (int)table, key);
}

/* Changes these bytes wherever they are: LMDB leaves old pages behind. */
static void rot(const char *name, const char *bytes, const char *by)
{
	auto_free char *path = xasprintf("%s/meta/%s", t_tmppath(), name);
	auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	auto_free char *p = NULL;
	struct stat st;
	size_t n = 0;

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	p = xmalloc((size_t)st.st_size + 1);
	CHECK(pread(fd, p, (size_t)st.st_size, 0) == st.st_size);
	for (char *at = p; (at = memmem(at, (size_t)(p + st.st_size - at), bytes, strlen(bytes))); at++, n++)
		CHECK(pwrite(fd, by, strlen(by), at - p) == (ssize_t)strlen(by));
	CHECK(n > 0);
}

static bool check_db(struct db *db, char told[100])
{
	enum db_copy_state copy;

	told[0] = 0;
	CHECK_OK(db_check(db, tell_key, told, &copy));
	return copy == DB_COPY_GOOD;
}

static bool is_sound(void)
{
	auto_free char *path = xasprintf("%s/meta", t_tmppath());
	bool is_sound = false;

	CHECK_OK(db_probe(path, &is_sound));
	return is_sound;
}

TEST(a_record_that_rots_is_told_and_restored)
{
	struct db *db = open_db();
	auto_txn struct db_txn *t = NULL;
	char told[100];
	struct sv v;
	bool found;

	put(db, "one", "value-of-one");
	put(db, "two", "value-of-two");
	CHECK(check_db(db, told) && !told[0]);
	db_close(db);
	rot("data.mdb", "value-of-one", "valve");
	db = open_db();
	CHECK_OK(db_begin_read(db, &t));
	CHECK_ERR(ERR_CORRUPT, db_get(t, DB_IMAGE, "one", &v, &found));
	CHECK_ERR(ERR_CORRUPT, db_scan(t, DB_IMAGE, "", join, told));
	db_abort(TAKE(t));
	(void)check_db(db, told);
	CHECK_STR(told, "2/one ");
	CHECK_ERR(ERR_CONFLICT, db_copy(db)); /* the log has the only good one */
	CHECK_ERR(ERR_NOT_FOUND, db_restore(db, DB_IMAGE, "three"));
	CHECK_OK(db_restore(db, DB_IMAGE, "one"));
	CHECK(check_db(db, told) && !told[0] && has(db, "one", "value-of-one"));
	db_close(db);
}

TEST(a_log_that_rots_is_written_anew)
{
	struct db *db = open_db();
	char told[100];

	put(db, "one", "value-of-one");
	put(db, "two", "value-of-two");
	rot("log", "value-of-one", "valve");
	CHECK(!check_db(db, told) && !told[0]);
	CHECK_OK(db_copy(db));
	CHECK(check_db(db, told));
	{
		auto_free char *path = xasprintf("%s/meta/log", t_tmppath());

		CHECK(unlink(path) == 0);
	}
	CHECK(!check_db(db, told));
	put(db, "three", "3"); /* begins with a dump again */
	CHECK(check_db(db, told));
	db_close(db);
}

TEST(what_was_not_committed_is_not_in_the_copy)
{
	struct db *db = open_db();
	auto_free char *path = xasprintf("%s/meta", t_tmppath());
	auto_txn struct db_txn *t = NULL;
	bool is_whole;
	char told[100];

	put(db, "a", "1");
	CHECK_OK(db_begin_write(db, &t));
	CHECK_OK(db_put(t, DB_IMAGE, "phantom", SV("x")));
	CHECK_OK(db_put(t, DB_IMAGE, "a", SV("phantom")));
	CHECK_OK(db_log_write(t)); /* and then it was killed */
	db_abort(TAKE(t));
	CHECK(!check_db(db, told));
	put(db, "b", "2");
	CHECK(check_db(db, told));
	db_close(db);
	CHECK(is_sound());
	CHECK_OK(db_rebuild(path, &is_whole));
	CHECK(is_whole);
	db = open_db();
	CHECK(has(db, "a", "1") && has(db, "b", "2") && !has(db, "phantom", "x"));
	db_close(db);
}

static const char *const old_values[] = { "{\"a\":1}", "x" };

static void make_old(void)
{
	struct db *db = open_db();
	MDB_txn *txn;

	CHECK(mdb_txn_begin(db->env, NULL, 0, &txn) == 0);
	for (size_t i = 0; i < LEN(old_values); i++) {
		MDB_val k = { 1, (void *)(uintptr_t)(i ? "l" : "k") }, v = { strlen(old_values[i]), (void *)(uintptr_t)old_values[i] };

		CHECK(mdb_put(txn, db->tables[DB_IMAGE], &k, &v, 0) == 0);
	}
	CHECK(mdb_put(txn, db->meta, &(MDB_val){ 6, (void *)(uintptr_t) "format" }, &(MDB_val){ 1, (void *)(uintptr_t) "1" }, 0) == 0);
	CHECK(mdb_txn_commit(txn) == 0);
	db_close(db);
}

static void migrate_op(void)
{
	db_close(open_db());
}

static void judge_migrated(void)
{
	struct db *db = open_db();

	CHECK(has(db, "k", old_values[0]) && has(db, "l", old_values[1]));
	put(db, "k", "new");
	CHECK(has(db, "k", "new"));
	db_close(db);
}

TEST(format_1_gets_its_sums)
{
	make_old();
	judge_migrated();
	t_crash_sweep(make_old, migrate_op, judge_migrated);
}

/* ---- a database that cannot be read ---- */

static char *read_file(const char *name, size_t *out_n)
{
	auto_free char *path = xasprintf("%s/meta/%s", t_tmppath(), name);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *p;

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	p = xmalloc((size_t)st.st_size + 1);
	CHECK(read(fd, p, (size_t)st.st_size) == st.st_size);
	*out_n = (size_t)st.st_size;
	return p;
}

static void write_file(const char *name, const char *p, size_t n)
{
	auto_free char *path = xasprintf("%s/meta/%s", t_tmppath(), name);
	auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, p, n) == (ssize_t)n);
}

static void fill(void)
{
	struct db *db = open_db();
	char key[20], value[3000];

	for (int i = 0; i < 40; i++) { /* some in pages of their own, some deleted again: there are free pages, and inner ones */
		(void)snprintf(key, sizeof key, "key%d", i);
		memset(value, 'v', sizeof value);
		(void)snprintf(value + i * 70, 100, "%d", i);
		put(db, key, value);
	}
	for (int i = 0; i < 10; i++) {
		auto_txn struct db_txn *t = NULL;

		(void)snprintf(key, sizeof key, "key%d", i * 4);
		CHECK_OK(db_begin_write(db, &t));
		CHECK_OK(db_delete(t, DB_IMAGE, key));
		CHECK_OK(db_put(t, DB_VOLUME, key, SV("{}")));
		CHECK_OK(db_commit(TAKE(t)));
	}
	db_close(db);
}

static struct err *add_all(void *ctx, struct sv key, struct sv value)
{
	buf_fmt(ctx, SV_FMT "=" SV_FMT "\n", SV_ARG(key), SV_ARG(value));
	return NULL;
}

static char *all_records(void)
{
	struct db *db = open_db();
	auto_txn struct db_txn *t = NULL;
	struct buf b = BUF(1 << 20);

	CHECK_OK(db_begin_read(db, &t));
	for (int i = 0; i < DB_TABLES; i++)
		CHECK_OK(db_scan(t, (enum db_table)i, "", add_all, &b));
	db_abort(TAKE(t));
	db_close(db);
	return buf_take(&b);
}

/* As hoy verify --repair does it. */
static void mend(void)
{
	auto_free char *path = xasprintf("%s/meta", t_tmppath());
	char told[100] = "";
	bool is_whole;
	struct db *db;

	if (!is_sound()) {
		CHECK_OK(db_rebuild(path, &is_whole));
		CHECK(is_whole && is_sound());
		return;
	}
	db = open_db();
	if (!check_db(db, told) && !told[0])
		CHECK_OK(db_copy(db));
	for (char *rest = NULL, *one = strtok_r(told, " ", &rest); one; one = strtok_r(NULL, " ", &rest))
		CHECK_OK(db_restore(db, (enum db_table)(one[0] - '0'), strchr(one, '/') + 1));
	CHECK(check_db(db, told) && !told[0]);
	db_close(db);
}

static void flip_all(const char *name, size_t step)
{
	auto_free char *want = NULL, *data = NULL, *log = NULL;
	size_t n, n_data, n_log;

	fill();
	want = all_records();
	data = read_file("data.mdb", &n_data);
	log = read_file("log", &n_log);
	n = strcmp(name, "log") == 0 ? n_log : n_data;
	for (size_t at = 0; at < n; at += at < 3 * 4096 ? step / 8 + 1 : step) {
		auto_free char *have = NULL;
		char *p = strcmp(name, "log") == 0 ? log : data;

		p[at] = (char)(p[at] ^ (1 << (at % 8)));
		write_file("data.mdb", data, n_data);
		write_file("log", log, n_log);
		p[at] = (char)(p[at] ^ (1 << (at % 8)));
		mend();
		have = all_records();
		if (strcmp(have, want) != 0)
			(void)fprintf(stderr, "byte %zu of %s\n", at, name);
		CHECK_STR(have, want);
	}
}

TEST(a_flipped_bit_anywhere_in_the_database_is_mended)
{
	flip_all("data.mdb", 211);
}

TEST(a_flipped_bit_anywhere_in_the_log_is_mended)
{
	flip_all("log", 397);
}

static void drop_table(const char *name)
{
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	CHECK(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, DB_TABLES + 1) == 0);
	CHECK(mdb_env_set_mapsize(env, 1 << 30) == 0 && mdb_env_open(env, t_tmppath(), 0, 0600) == 0);
	CHECK(mdb_txn_begin(env, NULL, 0, &txn) == 0 && mdb_dbi_open(txn, name, 0, &dbi) == 0);
	CHECK(mdb_drop(txn, dbi, 1) == 0 && mdb_txn_commit(txn) == 0);
	mdb_env_close(env);
}

static void put_one(enum db_table table)
{
	auto_db struct db *db = NULL;
	struct db_txn *txn;

	CHECK_OK(db_open(t_tmppath(), &db));
	CHECK_OK(db_begin_write(db, &txn));
	CHECK_OK(db_put(txn, table, "k", SV("v")));
	CHECK_OK(db_commit(txn));
}

TEST(a_store_of_an_earlier_version_gets_the_tables_that_came_later)
{
	auto_db struct db *db = NULL;
	auto_txn struct db_txn *txn = NULL;
	struct sv value;
	bool found;

	put_one(DB_IMAGE);
	drop_table(db_table_names[DB_DOCUMENT]);
	put_one(DB_DOCUMENT);
	CHECK_OK(db_open(t_tmppath(), &db));
	CHECK_OK(db_begin_read(db, &txn));
	CHECK_OK(db_get(txn, DB_IMAGE, "k", &value, &found));
	CHECK(found && sv_is(value, "v"));
}

TEST(a_table_with_records_that_is_gone_is_damage)
{
	auto_db struct db *db = NULL;

	put_one(DB_IMAGE);
	drop_table(db_table_names[DB_IMAGE]);
	CHECK_ERR(ERR_CORRUPT, db_open(t_tmppath(), &db));
}

TEST(a_database_cut_short_or_gone_or_with_a_page_of_zeros_is_made_again)
{
	auto_free char *want = NULL, *data = NULL;
	size_t n;

	fill();
	want = all_records();
	data = read_file("data.mdb", &n);
	for (size_t i = 0; i < n / 4096; i++) {
		auto_free char *cut = xmalloc(n), *have = NULL, *again = NULL;

		write_file("data.mdb", data, i * 4096);
		mend();
		have = all_records();
		memcpy(cut, data, n);
		memset(cut + i * 4096, 0, 4096);
		write_file("data.mdb", cut, n);
		mend();
		again = all_records();
		CHECK_STR(have, want);
		CHECK_STR(again, want);
	}
}

TEST(a_database_that_went_back_is_not_written_to)
{
	auto_free char *path = xasprintf("%s/meta", t_tmppath()), *old = NULL, *want = NULL, *have = NULL;
	auto_txn struct db_txn *t = NULL;
	bool is_whole;
	struct db *db;
	size_t n;

	fill();
	old = read_file("data.mdb", &n);
	db = open_db();
	put(db, "young", "1");
	db_close(db);
	want = all_records();
	write_file("data.mdb", old, n);
	db = open_db();
	CHECK_OK(db_begin_write(db, &t));
	CHECK_OK(db_put(t, DB_IMAGE, "x", SV("y")));
	CHECK_ERR(ERR_CORRUPT, db_commit(TAKE(t)));
	db_close(db);
	CHECK(!is_sound());
	CHECK_OK(db_rebuild(path, &is_whole));
	have = all_records();
	CHECK_STR(have, want);
}

TEST(without_a_log_the_error_says_what_is_lost)
{
	auto_free char *path = xasprintf("%s/meta", t_tmppath()), *log = xasprintf("%s/log", path), *data = NULL;
	bool is_whole;
	size_t n;

	fill();
	data = read_file("data.mdb", &n);
	write_file("data.mdb", data, 8192);
	CHECK(!is_sound());
	CHECK(unlink(log) == 0);
	CHECK_ERR(ERR_CORRUPT, db_rebuild(path, &is_whole));
}

TEST(of_two_damaged_ones_what_can_be_read_is_kept)
{
	auto_free char *path = xasprintf("%s/meta", t_tmppath()), *have = NULL, *log = NULL;
	bool is_whole = true;
	size_t n;

	fill();
	log = read_file("log", &n);
	log[n / 2] = (char)(log[n / 2] ^ 1);
	write_file("log", log, n);
	write_file("data.mdb", "x", 1);
	CHECK(!is_sound());
	CHECK_OK(db_rebuild(path, &is_whole));
	have = all_records();
	CHECK(!is_whole && strstr(have, "key39=") && strstr(have, "key1="));
}

TEST(a_database_in_use_is_not_made_again)
{
	auto_free char *path = xasprintf("%s/meta", t_tmppath());
	bool is_whole;
	int ready[2], stay[2];
	pid_t pid;
	char c;

	fill();
	CHECK(pipe2(ready, O_CLOEXEC) == 0 && pipe2(stay, O_CLOEXEC) == 0);
	pid = fork();
	if (pid == 0) {
		(void)close(stay[1]);
		(void)open_db();
		(void)!write(ready[1], "x", 1);
		(void)!read(stay[0], &c, 1);
		_exit(0);
	}
	CHECK(read(ready[0], &c, 1) == 1);
	CHECK_ERR(ERR_CONFLICT, db_rebuild(path, &is_whole));
	for (int i = 0; i < 2; i++)
		CHECK(close(ready[i]) == 0 && close(stay[i]) == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK_OK(db_rebuild(path, &is_whole));
	CHECK(is_sound());
}

static void make_damaged(void)
{
	fill();
	write_file("data.mdb", "x", 1);
}

static void mend_op(void)
{
	auto_free char *path = xasprintf("%s/meta", t_tmppath());
	bool is_whole;

	err_free(db_rebuild(path, &is_whole));
}

static void judge_mended(void)
{
	struct db *db;

	mend();
	db = open_db();
	CHECK(has(db, "key36", "") == false && has(db, "key0", "") == false);
	db_close(db);
	{
		auto_free char *have = all_records();

		CHECK(strstr(have, "key39=") && strstr(have, "key36={}"));
	}
}

TEST(a_kill_while_it_is_made_again_loses_nothing)
{
	t_crash_sweep(make_damaged, mend_op, judge_mended);
}
