#include "content/lease.h"
#include "base/own.h"
#include "content/store.h"
#include "harness/t.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>

#define ONE "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define TWO "sha256:2222222222222222222222222222222222222222222222222222222222222222"

static void set_up(void)
{
	int r = sys_mkdir(t_tmpdir(), "tmp", 0700);

	CHECK(r == 0 || r == -EEXIST);
}

static struct lease *begin(void)
{
	struct lease *l = NULL;

	set_up();
	CHECK_OK(lease_begin(t_tmpdir(), &l));
	return l;
}

static size_t litter(void)
{
	auto_fd int fd = sys_openat(t_tmpdir(), "tmp", O_RDONLY | O_DIRECTORY, 0);

	return t_entries(fd);
}

static struct err *count_same(void *ctx, const char *digest)
{
	struct {
		const char *digest;
		int n;
	} *c = ctx;

	c->n += strcmp(digest, c->digest) == 0;
	return NULL;
}

/* How many lines say that digest is held. */
static int held(const char *digest)
{
	struct {
		const char *digest;
		int n;
	} c = { digest, 0 };

	CHECK_OK(leases_each(t_tmpdir(), count_same, &c));
	return c.n;
}

static bool any(void)
{
	bool is_any = false;

	CHECK_OK(leases_any(t_tmpdir(), &is_any));
	return is_any;
}

TEST(a_lease_holds_until_it_ends)
{
	auto_lease struct lease *l = begin();

	CHECK(any());
	lease_hold(l, ONE);
	lease_hold(l, ONE);
	lease_hold(l, "nothing that is a digest");
	lease_hold(NULL, TWO);
	CHECK_INT(held(ONE), 1);
	CHECK_INT(held(TWO), 0);
	lease_end(TAKE(l));
	CHECK_INT(held(ONE), 0);
	CHECK(!any());
	CHECK_INT(litter(), 0);
}

TEST(both_ends_of_a_lease_hold_it)
{
	auto_lease struct lease *ours = begin(), *theirs = NULL;

	CHECK_OK(lease_join(t_tmpdir(), dup(lease_fd(ours)), &theirs));
	lease_hold(ours, ONE);
	lease_hold(theirs, TWO);
	CHECK(held(ONE) == 1 && held(TWO) == 1);
	lease_end(TAKE(theirs));
	CHECK(held(ONE) == 1 && held(TWO) == 1);
	lease_end(TAKE(ours));
	CHECK(held(ONE) == 0 && held(TWO) == 0);
	CHECK_INT(litter(), 0);
}

TEST(a_crash_ends_a_lease)
{
	int status = -1;
	pid_t pid;

	set_up();
	pid = fork();
	if (pid == 0) {
		lease_hold(begin(), ONE);
		_exit(0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	CHECK_INT(litter(), 1);
	CHECK_INT(held(ONE), 0);
	CHECK_INT(litter(), 0);
}

static void *hold_two(void *arg)
{
	lease_hold(arg, TWO);
	return NULL;
}

static void hold_meanwhile(struct lease *own, struct lease *who)
{
	auto_leases struct leases_stop stop = LEASES_GOING;
	pthread_t thread;

	CHECK_OK(leases_stop(t_tmpdir(), own, &stop));
	CHECK(pthread_create(&thread, NULL, hold_two, who) == 0);
	(void)usleep(50000);
	CHECK_INT(held(TWO), 0); /* waits */
	leases_go(&stop);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK_INT(held(TWO), 1);
}

TEST(nobody_comes_to_hold_anything_while_leases_are_stopped)
{
	auto_lease struct lease *l = begin();

	hold_meanwhile(NULL, l);
}

TEST(who_has_a_lease_and_stops_all_stops_its_other_threads)
{
	auto_lease struct lease *l = begin();

	hold_meanwhile(l, l);
}

TEST(who_decides_holds_nothing_by_looking)
{
	auto_lease struct lease *l = begin();
	auto_leases struct leases_stop stop = LEASES_GOING;

	CHECK_OK(leases_stop(t_tmpdir(), l, &stop));
	lease_hold(l, ONE);
	CHECK_INT(held(ONE), 0);
	leases_go(&stop);
	lease_hold(l, ONE);
	CHECK_INT(held(ONE), 1);
}

/* Whatever fails: a sweep knows of it, or cannot decide. */
static void check_is_safe(const char *digest)
{
	auto_fd int fd = sys_openat(t_tmpdir(), "content.lock", O_RDWR, 0);

	CHECK(fd >= 0 && (sys_flock(fd, LOCK_EX | LOCK_NB) == -EWOULDBLOCK || held(digest) == 1));
}

TEST(a_lease_that_cannot_be_written_stops_every_sweep)
{
	FAULT_SWEEP(ENOSPC)
	{
		auto_lease struct lease *l = NULL;
		struct err *e;

		set_up();
		t_sweep_on();
		e = lease_begin(t_tmpdir(), &l);
		if (!e) {
			lease_hold(l, ONE);
			lease_hold(l, TWO);
		}
		t_sweep_off();
		if (!e) {
			check_is_safe(ONE);
			check_is_safe(TWO);
		}
		err_free(e);
		lease_end(TAKE(l));
		CHECK_INT(litter(), 0);
	}
}

TEST(who_could_not_write_its_lease_decides_nothing)
{
	size_t conflicts = 0;

	FAULT_SWEEP(ENOSPC)
	{
		auto_lease struct lease *l = begin();
		auto_leases struct leases_stop stop = LEASES_GOING;
		struct err *e;

		t_sweep_on();
		lease_hold(l, ONE);
		t_sweep_off();
		e = leases_stop(t_tmpdir(), l, &stop);
		conflicts += e && e->kind == ERR_CONFLICT;
		CHECK(!e || e->kind == ERR_CONFLICT);
		err_free(e);
	}
	CHECK(conflicts > 0);
}

TEST(a_store_holds_what_it_is_asked_for)
{
	auto_lease struct lease *l = NULL;
	struct store *s = NULL;
	char old[DIGEST_MAX], new[DIGEST_MAX];
	auto_free char *body = NULL;

	CHECK_OK(store_open(t_tmpdir(), &s));
	CHECK_OK(store_put(s, "old", 3, old));
	CHECK_OK(lease_begin(t_tmpdir(), &l));
	store_lease(s, l);
	CHECK(!store_has(s, ONE, NULL)); /* what is not there yet, too: somebody may bring it */
	CHECK_OK(store_blob_read(s, old, 10, &body, NULL));
	CHECK_OK(store_put(s, "new", 3, new));
	CHECK(held(ONE) == 1 && held(old) == 1 && held(new) == 1);
	store_lease(s, NULL);
	CHECK(!store_has(s, TWO, NULL) && held(TWO) == 0);
	store_close(s);
}
