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
		if (listener >= 0 && poll(&p, 1, 2000) == 1)
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

static int loopback_socket(void *arg)
{
	const struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(0x7f000002) } };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*(int *)arg = fd;
	return fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 ? -errno : 0;
}

static void send_to(int fd, const char *ip, uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };

	CHECK(inet_pton(AF_INET, ip, &at.sin_addr) == 1);
	CHECK(sendto(fd, "x", 1, 0, (const struct sockaddr *)&at, sizeof at) == 1);
}

/* SECURITY: route_localnet is on for bridges; a container with its namespace in its hands must not pass as the host itself. */
TEST(nobody_in_a_container_speaks_as_the_host_s_loopback)
{
	struct rig_container c;
	struct pollfd p = { -1, POLLIN, 0 };
	struct rig r;
	int client = -1, honest = -1;

	rig_up(&r);
	rig_attach(&r, A, "bridge", NULL, 0, &c);
	rig_sh("nsenter --net=/proc/%d/fd/%d sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet'", getpid(), c.net_fd);
	p.fd = rig_listen(HERE, IPPROTO_UDP, "0.0.0.0", 7777);
	CHECK(sys_in_netns(c.net_fd, udp_socket, &honest) == 0);
	send_to(honest, c.at.gateway, 7777);
	CHECK(poll(&p, 1, 10000) == 1); /* the way is open ... */
	CHECK(recv(p.fd, &(char){ 0 }, 1, 0) == 1);
	CHECK(sys_in_netns(c.net_fd, loopback_socket, &client) == 0);
	send_to(client, c.at.gateway, 7777);
	CHECK(poll(&p, 1, 300) == 0); /* ... but not with that source */
	own_close(&client);
	own_close(&honest);
	own_close(&p.fd);
	CHECK_OK(network_detach(r.net, A));
	own_close(&c.net_fd);
	rig_down(&r);
}
