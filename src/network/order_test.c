/* What holds at any instant, also when the next instant never comes. */
#include "base/own.h"
#include "base/text.h"
#include "harness/t.h"
#include "network/rig.h"
#include "state/db.h"
#include "sys/cgroup.h"
#include "sys/spawn.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct rig rig;
static bool has_host;
static int hold_fd, new_fd;

static bool nobody(void *ctx, const char *container)
{
	(void)ctx;
	(void)container;
	return false;
}

static void setup(void)
{
	struct rig_container hold;
	auto_free char *id = NULL;

	if (!has_host)
		rig_up(&rig);
	else
		rig_open(&rig);
	has_host = true;
	rig_attach(&rig, A, "bridge", NULL, 0, &hold);
	hold_fd = hold.net_fd;
	CHECK_OK(network_create(rig.net, &(struct net_create){ .name = "mine" }, &id));
	new_fd = sys_netns_new();
	CHECK(new_fd >= 0);
}

static void second_network(void)
{
	struct net_result result;
	struct net_attach a = { .container = B, .network = "mine", .net_fd = new_fd };

	CHECK_OK(network_attach(rig.net, &a, &result));
}

static void judge(void)
{
	/* SECURITY: route_localnet is on for a bridge; only the table keeps its containers from the host's loopback services. */
	rig_sh("for b in $(ip -o link show type bridge | sed 's/^[0-9]*: //; s/:.*//'); do "
	       "nft list ruleset | grep -q \"$b\\\" . \\\"$b\" || exit 1; done");
	own_close(&hold_fd);
	own_close(&new_fd);
	for (int i = 0; i < 6000; i++) {
		auto_list char **lines = NULL;

		CHECK_OK(network_reconcile(rig.net, nobody, NULL));
		CHECK_OK(network_footprint(rig.net, &lines));
		if (text_list_len(lines) == 0)
			break;
		CHECK(i < 5999);
		sys_pause_ns(10000000);
	}
	network_close(rig.net);
	db_close(rig.db);
}

TEST(a_bridge_that_is_there_is_in_the_table)
{
	t_crash_sweep(setup, second_network, judge);
	own_close(&rig.lan_fd);
}
