#include "base/own.h"
#include "content/store.h"
#include "harness/t.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

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
	CHECK_ERR(ERR_NOT_FOUND, store_blob_open(s, "sha256:0000000000000000000000000000000000000000000000000000000000000000",
						 0, &fd));
	CHECK_ERR(ERR_INVALID, store_blob_open(s, "sha256:../../etc/passwd", 0, &fd));
	store_close(s);
}

TEST(any_failing_call_leaves_no_litter_and_no_half_blob)
{
	FAULT_SWEEP(ENOSPC) {
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
