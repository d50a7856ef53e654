#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "state/db.h"
#include "state/record.h"
#include <signal.h>
#include <stdio.h>
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
