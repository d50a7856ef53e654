/* Flows that were there before a port was published, or outlive the container behind it. */
#include "base/own.h"
#include "harness/t.h"
#include "network/rig.h"
#include "sys/netlink.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static int udp_socket(void *arg)
{
	*(int *)arg = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return *(int *)arg < 0 ? -errno : 0;
}

/* Whether one of a few datagrams of this very socket comes through; the socket keeps its port, so the flow its identity. */
static bool arrives(int client, int listener)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(5353) };
	char in[16];

	CHECK(inet_pton(AF_INET, "192.0.2.2", &at.sin_addr) == 1);
	for (int i = 0; i < 5; i++) {
		struct pollfd p = { listener, POLLIN, 0 };

		(void)sendto(client, "x", 1, 0, (const struct sockaddr *)&at, sizeof at);
		if (listener >= 0 && poll(&p, 1, 200) == 1)
			return recv(listener, in, sizeof in, MSG_DONTWAIT) == 1;
	}
	return false;
}

TEST(a_flow_of_datagrams_follows_the_port)
{
	struct net_port port = { .host_port = 5353, .port = 53, .proto = IPPROTO_UDP };
	int client = -1, listener;
	struct rig_container c;
	struct rig r;

	rig_up(&r);
	CHECK(sys_in_netns(r.lan_fd, udp_socket, &client) == 0);
	rig_attach(&r, A, "bridge", NULL, 0, &c); /* conntrack looks from now on */
	CHECK(!arrives(client, -1));
	own_close(&c.net_fd);

	rig_attach(&r, B, "bridge", &port, 1, &c);
	listener = rig_listen(c.net_fd, IPPROTO_UDP, "0.0.0.0", 53);
	CHECK(arrives(client, listener));
	own_close(&listener);
	CHECK_OK(network_detach(r.net, B));
	own_close(&c.net_fd);
	CHECK(!arrives(client, -1));

	rig_attach(&r, B, "bridge", &port, 1, &c); /* another address */
	listener = rig_listen(c.net_fd, IPPROTO_UDP, "0.0.0.0", 53);
	CHECK(arrives(client, listener));
	own_close(&listener);
	CHECK_OK(network_detach(r.net, B));
	CHECK_OK(network_detach(r.net, A));
	own_close(&c.net_fd);
	own_close(&client);
	rig_down(&r);
}
