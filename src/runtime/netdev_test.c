/* netdev_test.c - devices move between two network namespaces of the test; every failing call is told. Needs
 * root, veth. */
#include "base/own.h"
#include "harness/t.h"
#include "runtime/netdev.h"
#include "sys/netlink.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <errno.h>
#include <net/if.h>
#include <sched.h>

static void fini(struct plan *p)
{
	vec_fini(&p->netdevs);
}
#define PLAN(name) CLEANUP(fini) struct plan name = { .id = "t" }

static int run(const char *const *argv)
{
	static const int fds[3] = { -1, -1, -1 };
	struct sys_spawn s = { .path = "ip", .argv = (char *const *)(uintptr_t)argv, .fds = fds, .n_fds = 3 };
	int pid_fd = -1, r = sys_spawn_run(&s, &pid_fd);

	r = r < 0 ? r : sys_pid_fd_wait(pid_fd, false, NULL);
	own_close(&pid_fd);
	return r;
}
#define IP(...) run((const char *const[]){ "ip", __VA_ARGS__, NULL })

/* The test's process in a namespace of its own; returns the other one, owned. */
static int two_namespaces(void)
{
	int inside;

	if (geteuid() != 0)
		t_skip("needs root");
	CHECK(sys_unshare(CLONE_NEWNET) >= 0);
	if (IP("link", "add", "v0", "type", "veth", "peer", "name", "v1") != 0)
		t_skip("needs ip and veth devices");
	inside = sys_netns_new();
	CHECK(inside >= 0);
	return inside;
}

static int index_here(void *name)
{
	return (int)if_nametoindex(*(const char **)name);
}

static int index_in(int net_fd, const char *name)
{
	return sys_in_netns(net_fd, index_here, &name);
}

TEST(a_template_takes_the_first_free_number)
{
	auto_fd int inside = two_namespaces();
	PLAN(p);

	*vec_push(&p.netdevs) = (struct plan_netdev){ "v1", "eth1" };
	*vec_push(&p.netdevs) = (struct plan_netdev){ "v0", "eth%d" };
	CHECK_OK(netdev_move_all(&p, inside));
	CHECK(index_in(inside, "eth0") > 0 && index_in(inside, "eth1") > 0);
	CHECK(if_nametoindex("v0") == 0 && if_nametoindex("v1") == 0);
}

TEST(nothing_moves_when_one_cannot)
{
	static const struct {
		struct plan_netdev second;
		enum err_kind kind;
	} bad[] = { { { "v1", "lo" }, ERR_EXISTS },
		    { { "v1", "x" }, ERR_EXISTS },
		    { { "nosuch", "y" }, ERR_INTERNAL } };
	auto_fd int inside = two_namespaces();

	for (size_t i = 0; i < LEN(bad); i++) {
		auto_err struct err *e = NULL;
		PLAN(p);

		*vec_push(&p.netdevs) = (struct plan_netdev){ "v0", "x" };
		*vec_push(&p.netdevs) = bad[i].second;
		e = netdev_move_all(&p, inside);
		CHECK(e != NULL);
		if (bad[i].kind == ERR_EXISTS)
			CHECK_INT(e->kind, ERR_EXISTS);
		else
			CHECK_INT(e->os, ENODEV);
		CHECK(if_nametoindex("v0") > 0 && if_nametoindex("v1") > 0);
	}
}

TEST(every_failing_call_is_told)
{
	auto_fd int inside = two_namespaces();

	CHECK(IP("address", "add", "10.5.5.1/24", "dev", "v0") == 0);
	FAULT_SWEEP (EIO) {
		auto_fd int again = -1;
		struct err *e;
		PLAN(p);

		if (if_nametoindex("v0") == 0) { /* it went with the namespace of the round before */
			CHECK(IP("link", "add", "v0", "type", "veth", "peer", "name", "v1") == 0);
			CHECK(IP("address", "add", "10.5.5.1/24", "dev", "v0") == 0);
		}
		again = sys_netns_new();
		CHECK(again >= 0);
		*vec_push(&p.netdevs) = (struct plan_netdev){ "v0", "eth0" };
		t_sweep_on();
		e = netdev_move_all(&p, again);
		t_sweep_off();
		CHECK(!e == !t_sweep_fired());
		if (!e)
			CHECK(index_in(again, "eth0") > 0);
		err_free(e);
		(void)IP("link", "delete", "v1");
	}
}
