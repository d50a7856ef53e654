/* once_test.c - a layer that several want at once is made by one of them, and by the next when that one ends without it. */
#include "base/time.h"
#include "snapshot/snapshot_test.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

struct rig {
	struct snapshotter *s;
	struct buf tar;
	char diff_id[DIGEST_MAX];
};

static void rig_open(struct rig *r)
{
	static const struct tar_entry e[] = { { .name = "d/f", .type = '0', .mode = 0644 },
					      { .name = "g", .type = '0', .mode = 0644 } };

	r->tar = BUF(1 << 20);
	make_tar(e, LEN(e), &r->tar);
	digest_of(r->tar.data, r->tar.n, r->diff_id);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &r->s));
}

static void rig_close(struct rig *r)
{
	CHECK(layer_exists(r->s, r->diff_id) && is_empty("tmp"));
	snapshotter_close(r->s);
	buf_fini(&r->tar);
}

/* A source that counts who began to read it, and goes slowly. */
struct slow {
	struct bytes in;
	atomic_int *begun;
};

static struct err *take_slowly(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct slow *s = ctx;

	if (s->in.at == 0)
		(void)atomic_fetch_add(s->begun, 1);
	(void)usleep(20000);
	return take(&s->in, p, n < 2048 ? n : 2048, out_n);
}

static struct err *count(void *ctx)
{
	(void)atomic_fetch_add((atomic_int *)ctx, 1);
	return NULL;
}

struct party {
	struct rig *rig;
	atomic_int begun, proven;
};

static void *join(void *ctx)
{
	struct party *p = ctx;
	struct slow from = { { p->rig->tar.data, p->rig->tar.n, 0 }, &p->begun };
	const struct layer_want want = { .diff_id = p->rig->diff_id, .proven = count, .ctx = &p->proven };

	return layer_apply(p->rig->s, (struct zip_source){ take_slowly, &from }, &want, NULL);
}

TEST(threads_that_want_one_layer_make_it_once)
{
	struct rig r = { 0 };
	struct party p = { .rig = &r };
	pthread_t threads[6];

	rig_open(&r);
	for (size_t i = 0; i < LEN(threads); i++)
		CHECK(pthread_create(&threads[i], NULL, join, &p) == 0);
	for (size_t i = 0; i < LEN(threads); i++) {
		void *e;

		CHECK(pthread_join(threads[i], &e) == 0);
		CHECK_OK(e);
	}
	CHECK_INT(p.begun, 1);
	CHECK_INT(p.proven, 1);
	rig_close(&r);
}

/* Another process that has begun it, and never ends. */
struct other {
	int told; /* the end of a pipe that says so */
	bool fails;
};

static struct err *stop_here(void *ctx, void *p, size_t n, size_t *out_n)
{
	const struct other *o = ctx;

	(void)p;
	*out_n = n;
	CHECK(write(o->told, "x", 1) == 1);
	if (o->fails) {
		(void)usleep(300000);
		return FAIL(ERR_UNAVAILABLE, "no more comes");
	}
	for (;;)
		(void)pause();
}

static pid_t begin_elsewhere(struct rig *r, bool fails)
{
	int ends[2];
	char c;
	pid_t pid;

	CHECK(pipe(ends) == 0 && (pid = fork()) >= 0);
	if (pid == 0) {
		struct other o = { ends[1], fails };
		const struct layer_want want = { .diff_id = r->diff_id };
		struct snapshotter *s;

		CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
		err_free(layer_apply(s, (struct zip_source){ stop_here, &o }, &want, NULL));
		_exit(0);
	}
	CHECK(read(ends[0], &c, 1) == 1);
	close(ends[0]);
	close(ends[1]);
	return pid;
}

static void *kill_later(void *ctx)
{
	(void)usleep(300000);
	CHECK(kill(*(pid_t *)ctx, SIGKILL) == 0);
	return NULL;
}

TEST(who_waits_takes_over_from_one_that_ends_without_it)
{
	for (int fails = 0; fails < 2; fails++) {
		struct rig r = { 0 };
		struct party p = { .rig = &r };
		int64_t before;
		pthread_t killer;
		pid_t pid;

		rig_open(&r);
		CHECK_OK(layer_delete(r.s, r.diff_id));
		before = time_monotonic_ns();
		pid = begin_elsewhere(&r, fails);
		if (!fails)
			CHECK(pthread_create(&killer, NULL, kill_later, &pid) == 0);
		CHECK_OK(join(&p));
		CHECK(p.begun == 1 && time_monotonic_ns() - before >= 300000000);
		if (!fails)
			CHECK(pthread_join(killer, NULL) == 0);
		CHECK(waitpid(pid, NULL, 0) == pid);
		rig_close(&r);
	}
}

TEST(a_head_start_does_not_wait)
{
	struct rig r = { 0 };
	struct bytes in;
	struct layer_want want = { .diff_id = r.diff_id, .is_ahead = true };
	pid_t pid;

	rig_open(&r);
	in = (struct bytes){ r.tar.data, r.tar.n, 0 };
	pid = begin_elsewhere(&r, false);
	CHECK_ERR(ERR_CONFLICT, layer_apply(r.s, (struct zip_source){ take, &in }, &want, NULL));
	CHECK(in.at == 0);
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	CHECK_OK(layer_apply(r.s, (struct zip_source){ take, &in }, &want, NULL));
	rig_close(&r);
}

/* Stopped, or waiting for bytes that do not come: whoever has them all does not wait for ever. */
TEST(who_does_not_get_on_is_passed_by)
{
	struct rig r = { 0 };
	struct party p = { .rig = &r };
	pid_t pid;

	rig_open(&r);
	pid = begin_elsewhere(&r, false);
	CHECK_OK(join(&p));
	CHECK(p.begun == 1 && layer_exists(r.s, r.diff_id) && !is_empty("tmp"));
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	snapshotter_close(r.s);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &r.s)); /* which sweeps */
	rig_close(&r);
}

static struct err *refuse(void *ctx)
{
	(void)ctx;
	return FAIL(ERR_LIMIT, "no room for what is to be remembered");
}

TEST(a_proof_that_fails_leaves_no_layer)
{
	struct rig r = { 0 };
	struct party p = { .rig = &r };
	struct bytes in;

	rig_open(&r);
	in = (struct bytes){ r.tar.data, r.tar.n, 0 };
	CHECK_ERR(ERR_LIMIT, layer_apply(r.s, (struct zip_source){ take, &in },
					 &(struct layer_want){ .diff_id = r.diff_id, .proven = refuse }, NULL));
	CHECK(!layer_exists(r.s, r.diff_id) && is_empty("tmp"));
	CHECK_OK(join(&p));
	rig_close(&r);
}
