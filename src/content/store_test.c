#include "base/mem.h"
#include "base/own.h"
#include "content/store.h"
#include "harness/t.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#define HELLO "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static struct store *open_store(void)
{
	struct store *s = NULL;

	CHECK_OK(store_open(t_tmpdir(), &s));
	return s;
}

static size_t litter(void)
{
	auto_fd int fd = sys_openat(t_tmpdir(), "tmp", O_RDONLY | O_DIRECTORY, 0);

	return t_entries(fd);
}

TEST(a_blob_is_named_by_its_bytes)
{
	struct store *s = open_store();
	char d[DIGEST_MAX];
	auto_free char *body = NULL;
	uint64_t size = 0;

	CHECK_OK(store_put(s, "hello", 5, d));
	CHECK_STR(d, HELLO);
	CHECK(store_has(s, d, &size) && size == 5);
	CHECK_OK(store_blob_read(s, d, 100, &body, NULL));
	CHECK_STR(body, "hello");
	CHECK_OK(store_put(s, "hello", 5, d));
	CHECK(litter() == 0);
	CHECK_OK(store_blob_delete(s, d));
	CHECK(!store_has(s, d, NULL));
	store_close(s);
}

TEST(a_wrong_digest_or_size_names_nothing)
{
	struct store *s = open_store();
	struct ingest *in = NULL;

	CHECK_OK(ingest_begin(s, &in));
	CHECK_OK(ingest_write(in, "hullo", 5));
	CHECK_ERR(ERR_CORRUPT, ingest_commit(in, HELLO, 0, NULL));
	ingest_free(in);
	CHECK_OK(ingest_begin(s, &in));
	CHECK_OK(ingest_write(in, "hello", 5));
	CHECK_ERR(ERR_CORRUPT, ingest_commit(in, HELLO, 6, NULL));
	ingest_free(in);
	CHECK(!store_has(s, HELLO, NULL) && litter() == 0);
	store_close(s);
}

TEST(damage_is_noticed_at_use)
{
	struct store *s = open_store();
	char d[DIGEST_MAX], path[128];
	char *body = NULL;
	int fd;

	CHECK_OK(store_put(s, "hello", 5, d));
	(void)snprintf(path, sizeof path, "blobs/sha256/%s", digest_hex(d));
	fd = sys_open_beneath(t_tmpdir(), path, O_WRONLY, 0);
	CHECK(fd >= 0 && sys_pwrite_all(fd, "j", 1, 0) == 0);
	own_close(&fd);
	CHECK_ERR(ERR_CORRUPT, store_blob_read(s, d, 100, &body, NULL));
	CHECK_ERR(ERR_CORRUPT, store_blob_verify(s, d));
	CHECK_ERR(ERR_CORRUPT, store_blob_open(s, d, 4, &fd));
	CHECK_ERR(ERR_NOT_FOUND,
		  store_blob_open(
		      s, "sha256:0000000000000000000000000000000000000000000000000000000000000000", 0, &fd));
	CHECK_ERR(ERR_INVALID, store_blob_open(s, "sha256:../../etc/passwd", 0, &fd));
	store_close(s);
}

TEST(any_failing_call_leaves_no_litter_and_no_half_blob)
{
	FAULT_SWEEP (ENOSPC) {
		struct store *s = open_store();
		char d[DIGEST_MAX];
		struct err *e;

		CHECK_OK(store_blob_delete(s, HELLO));
		t_sweep_on();
		e = store_put(s, "hello", 5, d);
		t_sweep_off();
		if (e)
			CHECK(e->kind == ERR_LIMIT);
		if (store_has(s, HELLO, NULL))
			CHECK_OK(store_blob_verify(s, HELLO));
		else
			CHECK(e);
		store_close(s);
		s = open_store();
		CHECK(litter() == 0);
		store_close(s);
		err_free(e);
	}
}

static void crash_setup(void)
{
	store_close(open_store());
}
static void crash_op(void)
{
	struct store *s = open_store();
	char d[DIGEST_MAX];

	CHECK_OK(store_put(s, "hello", 5, d));
}
static void crash_judge(void)
{
	struct store *s = open_store();

	CHECK(litter() == 0);
	if (store_has(s, HELLO, NULL))
		CHECK_OK(store_blob_verify(s, HELLO));
	store_close(s);
}
TEST(a_crash_at_any_call_is_swept_at_the_next_open)
{
	t_crash_sweep(crash_setup, crash_op, crash_judge);
}

static struct ingest *resume(struct store *s, uint64_t want_size)
{
	struct ingest *in = NULL;

	CHECK_OK(ingest_resume(s, HELLO, &in));
	CHECK_INT(ingest_size(in), want_size);
	return in;
}

TEST(what_was_kept_is_gone_on_with)
{
	struct store *s = open_store();
	struct ingest *in = resume(s, 0);

	CHECK_OK(ingest_write(in, "hel", 3));
	ingest_keep(in);
	store_close(s);
	s = open_store(); /* another process */
	CHECK(litter() == 1 && store_part_size(s, HELLO) > 0);
	in = resume(s, 3);
	CHECK_OK(ingest_write(in, "lo", 2));
	CHECK_OK(ingest_commit(in, HELLO, 5, NULL));
	ingest_free(in);
	CHECK(litter() == 0 && store_has(s, HELLO, NULL));
	CHECK_OK(store_blob_verify(s, HELLO));
	store_close(s);
}

TEST(parts_out_of_order)
{
	struct store *s = open_store();
	struct ingest *in = resume(s, 0);

	CHECK_OK(ingest_put_at(in, 3, "lo", 2));
	CHECK_OK(ingest_write(in, "hel", 3));
	CHECK_OK(ingest_claim(in, NULL, 2));
	CHECK_OK(ingest_commit(in, HELLO, 5, NULL));
	ingest_free(in);
	CHECK_OK(store_blob_verify(s, HELLO));
	store_close(s);
}

TEST(bytes_behind_a_hole_have_not_come)
{
	struct store *s = open_store();
	struct ingest *in = resume(s, 0);
	auto_free char *block = calloc(1, 65536);
	auto_fd int tmp = sys_openat(t_tmpdir(), "tmp", O_RDONLY | O_DIRECTORY, 0), fd = -1;
	char name[80];

	CHECK_OK(ingest_write(in, block, 65536)); /* then killed, with a later part in the file */
	CHECK_OK(ingest_put_at(in, 1 << 20, block, 65536));
	(void)snprintf(name, sizeof name, "part-%s", &HELLO[7]);
	ingest_keep(in);
	fd = sys_openat(tmp, name, O_RDWR, 0);
	CHECK(fd >= 0 && sys_pwrite_all(fd, block, 65536, 1 << 20) == 0);
	own_close(&fd);
	fd = -1;
	CHECK_OK(ingest_resume(s, HELLO, &in));
	CHECK(ingest_size(in) <= 65536); /* a block less is allowed */
	ingest_free(in);
	store_close(s);
}

TEST(one_part_has_one_writer)
{
	struct store *s = open_store();
	struct ingest *first = resume(s, 0), *second;

	CHECK_OK(ingest_write(first, "hel", 3));
	CHECK_OK(ingest_resume(s, HELLO, &second));
	CHECK(!second);
	CHECK_OK(ingest_begin(s, &second));
	CHECK_OK(ingest_write(second, "hello", 5));
	CHECK_OK(ingest_commit(second, HELLO, 5, NULL));
	ingest_keep(second); /* nothing to be kept: it was a private one */
	ingest_keep(first);
	CHECK(litter() == 1);
	store_parts_drop(s);
	CHECK(litter() == 0 && store_has(s, HELLO, NULL));
	store_close(s);
}

TEST(a_blob_is_never_written_to_by_its_part_s_name)
{
	struct store *s = open_store();
	struct ingest *in = resume(s, 0);
	auto_fd int tmp = sys_openat(t_tmpdir(), "tmp", O_RDONLY | O_DIRECTORY, 0);
	auto_fd int blobs = sys_open_beneath(t_tmpdir(), "blobs/sha256", O_RDONLY | O_DIRECTORY, 0);
	char name[80];

	CHECK_OK(ingest_write(in, "hello", 5));
	CHECK_OK(ingest_commit(in, HELLO, 5, NULL));
	ingest_free(in);
	(void)snprintf(name, sizeof name, "part-%s", &HELLO[7]);
	CHECK(sys_link(blobs, &HELLO[7], tmp, name) ==
	      0); /* as a kill between naming and unlinking leaves it */
	in = resume(s, 0);
	CHECK_OK(ingest_write(in, "evil!", 5));
	ingest_free(in);
	CHECK_OK(store_blob_verify(s, HELLO));
	store_close(s);
}

TEST(a_wrong_start_is_forgotten)
{
	struct store *s = open_store();
	struct ingest *in = resume(s, 0);

	CHECK_OK(ingest_write(in, "evil", 4));
	ingest_keep(in);
	in = resume(s, 4);
	CHECK_OK(ingest_write(in, "!", 1));
	CHECK_ERR(ERR_CORRUPT, ingest_commit(in, HELLO, 5, NULL));
	CHECK_OK(ingest_restart(in));
	CHECK_OK(ingest_write(in, "hello", 5));
	CHECK_OK(ingest_commit(in, HELLO, 5, NULL));
	ingest_free(in);
	CHECK(litter() == 0);
	store_close(s);
}

TEST(resumption_with_every_call_failing_once)
{
	FAULT_SWEEP (EIO) {
		struct store *s = open_store();
		struct ingest *in = resume(s, 0), *again = NULL;
		struct err *e;

		CHECK_OK(ingest_write(in, "hel", 3));
		ingest_keep(in);
		t_sweep_on();
		e = ingest_resume(s, HELLO, &again);
		if (!e)
			e = ingest_size(again) == 3 ? ingest_write(again, "lo", 2)
						    : ingest_write(again, "hello", 5);
		if (!e)
			e = ingest_commit(again, HELLO, 5, NULL);
		ingest_free(again);
		t_sweep_off();
		CHECK(!store_has(s, HELLO, NULL) || !store_blob_verify(s, HELLO));
		CHECK(e || store_has(s, HELLO, NULL));
		err_free(e);
		CHECK_OK(store_blob_delete(s, HELLO));
		store_parts_drop(s);
		store_close(s);
	}
}

static void *open_and_close(void *arg)
{
	struct store *s = NULL;
	struct err *e = store_open(*(int *)arg, &s);

	store_close(s);
	return e;
}

TEST(many_open_a_new_store_at_once)
{
	for (int round = 0; round < 40; round++) {
		pthread_t threads[8];
		char name[16];
		int root;

		(void)snprintf(name, sizeof name, "r%d", round);
		CHECK(sys_mkdir(t_tmpdir(), name, 0700) == 0);
		root = sys_openat(t_tmpdir(), name, O_RDONLY | O_DIRECTORY, 0);
		CHECK(root >= 0);
		for (size_t i = 0; i < 8; i++)
			CHECK(pthread_create(&threads[i], NULL, open_and_close, &root) == 0);
		for (size_t i = 0; i < 8; i++) {
			void *e = NULL;

			(void)pthread_join(threads[i], &e);
			CHECK_OK(e);
		}
		CHECK(t_file_is(root, "oci-layout", STORE_LAYOUT));
		(void)close(root);
	}
}

TEST(zeros_take_no_room)
{
	struct store *s = open_store();
	auto_free char *zeros = xcalloc(1, 1 << 20);
	struct ingest *in = NULL;
	char d[DIGEST_MAX], path[128];
	struct stat st;

	CHECK_OK(ingest_begin(s, &in));
	for (int i = 0; i < 4; i++) {
		CHECK_OK(ingest_write(in, zeros, 1 << 20));
		CHECK_OK(ingest_write(in, "hello", i == 3 ? 0 : 5));
		CHECK_OK(ingest_write(in, zeros, i == 3 ? 1 << 20 : 7));
	}
	CHECK_OK(ingest_write(in, zeros, 0)); /* as who reads until nothing comes writes it */
	CHECK_OK(ingest_commit(in, NULL, 0, d));
	ingest_free(in);
	CHECK_OK(store_blob_verify(s, d));
	(void)snprintf(path, sizeof path, "blobs/sha256/%s", digest_hex(d));
	CHECK(fstatat(t_tmpdir(), path, &st, 0) == 0);
	CHECK_INT(st.st_size, (5 << 20) + 3 * 12);
	CHECK(st.st_blocks * 512 <= 64 << 10);
	store_close(s);
}

/* Writes other bytes into a blob. */
static void damage(const char *name)
{
	auto_fd int dir = sys_openat(t_tmpdir(), "blobs/sha256", O_RDONLY | O_DIRECTORY, 0);
	auto_fd int fd = sys_openat(dir, name, O_WRONLY, 0);

	CHECK(fd >= 0 && sys_write_all(fd, "jello", 5) == 0);
}

TEST(a_damaged_blob_waits_aside_for_a_good_one)
{
	struct store *s = open_store();
	char d[DIGEST_MAX], text[8] = "";
	auto_fd int fd = -1;

	CHECK_OK(store_put(s, "hello", 5, d));
	damage(digest_hex(HELLO));
	CHECK_OK(store_blob_set_aside(s, HELLO));
	CHECK(!store_has(s, HELLO, NULL));
	CHECK_OK(store_aside_open(s, HELLO, &fd));
	CHECK(sys_read(fd, text, 5) == 5);
	CHECK_STR(text, "jello");
	CHECK_OK(store_blob_put_back(s, HELLO, true));
	CHECK_ERR(ERR_CORRUPT, store_blob_verify(s, HELLO));
	CHECK_OK(store_put(s, "hello", 5, d)); /* whoever brings it again mends it */
	CHECK_OK(store_blob_verify(s, HELLO));
	CHECK(litter() == 0);
	CHECK_OK(store_blob_set_aside(s, HELLO));
	CHECK_OK(store_blob_put_back(s, HELLO, false));
	CHECK(!store_has(s, HELLO, NULL));
	store_close(s);
}

TEST(a_file_becomes_a_blob_by_its_content_alone)
{
	struct store *s = open_store();
	auto_fd int fd = sys_openat(t_tmpdir(), "file", O_RDWR | O_CREAT, 0600);
	struct stat st;

	CHECK(fd >= 0 && sys_write_all(fd, "jello", 5) == 0);
	CHECK_ERR(ERR_CORRUPT, store_put_file(s, fd, HELLO));
	CHECK(!store_has(s, HELLO, NULL));
	CHECK(sys_pwrite_all(fd, "h", 1, 0) == 0);
	CHECK_OK(store_put_file(s, fd, HELLO));
	CHECK_OK(store_put_file(s, fd, HELLO));
	CHECK_OK(store_blob_verify(s, HELLO));
	CHECK(sys_fstat(fd, &st) == 0 && st.st_nlink == 2);
	CHECK(sys_unlink(t_tmpdir(), "file") == 0);
	CHECK_OK(store_blob_delete(s, HELLO));
	CHECK_OK(store_put_file(s, fd, HELLO)); /* it has no name left that could be given to it: a copy */
	CHECK_OK(store_blob_verify(s, HELLO));
	store_close(s);
}
