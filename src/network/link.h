/*
 * link.h - links, addresses, routes over rtnetlink: what there is, and the few shapes we make.
 *
 * route_fd: a NETLINK_ROUTE socket of the namespace meant. Addresses in host order.
 * Layer: network.  Format: rtnetlink(7).
 */
#pragma once
#include "base/err.h"
#include "base/vec.h"
#include "network/ipam.h"
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

struct link {
	int index, master;
	unsigned mtu;
	char name[IFNAMSIZ];
};
/* index 0: there is none of that name. */
FALLIBLE link_get(int route_fd, const char *name, struct link *out_link);
/* Links whose names start with prefix. */
struct links {
	struct link *p;
	size_t n, cap;
};
FALLIBLE link_list(int route_fd, const char *prefix, struct links *out_links);
/* The MTU on the way out of this host; 1500 when there is none. */
FALLIBLE link_uplink_mtu(int route_fd, unsigned *out_mtu);
/* Destinations of all routes but default ones. */
struct subnets {
	struct subnet *p;
	size_t n, cap;
};
FALLIBLE link_routes(int route_fd, struct subnets *out_subnets);

struct link_bridge {
	const char *name;
	struct subnet subnet;
	uint32_t gateway;
	unsigned mtu;
};
/* Makes the bridge with its address, up, without IPv6, reachable from 127.0.0.0/8. On error it is gone again. */
FALLIBLE link_bridge_add(int route_fd, const struct link_bridge *b, int *out_index);
FALLIBLE link_delete(int route_fd, const char *name); /* absent is no error */

struct link_veth {
	const char *name;     /* on the host */
	int bridge, net_fd;   /* its master; where the other end is born, as eth0 */
	struct subnet subnet;
	const uint8_t *mac; /* 6 bytes, borrowed */
	uint32_t ip, gateway; /* gateway 0: no default route */
	unsigned mtu;
};
/* One message makes the pair, one datagram inside net_fd does the rest (lo, address, routes). ERR_EXISTS: the name. */
FALLIBLE link_veth_add(int route_fd, const struct link_veth *v);
/* 02:42 and the address, as docker does: neighbours' caches stay right when an address moves on. */
void link_mac(uint32_t ip, uint8_t out_mac[6]);
#define LINK_MAC_TEXT 18
const char *link_mac_text(const uint8_t mac[6], char out[LINK_MAC_TEXT]);
/* "02:42:ac:11:00:02" or with dashes; false: it is none. */
bool link_mac_parse(const char *text, uint8_t out_mac[6]);
/* lo up in the namespace. */
FALLIBLE link_loopback(int net_fd);
FALLIBLE link_sysctl_get(const char *path, char *out, size_t size); /* below /proc/sys/net; "" when absent */
FALLIBLE link_sysctl_set(const char *path, const char *value);
