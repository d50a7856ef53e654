/*
 * network.h - networks of containers: one bridge each, one nftables table (inet hoy) for all, nothing else touched.
 *
 * Wanted state is data (from the database); the kernel is compared with it and changed in one netlink batch. When the last
 * container leaves a network its bridge goes; when the last bridge goes, the table goes and what was set is set back.
 *
 * A crash leaves no more in the kernel than the database knows: addresses and ports are recorded before they are set up and
 * forgotten after they are gone. The default RUN uses the table `hoy` and the bridge `hoy0`; other instances on the same
 * host have names of their own and choose subnets of their own.
 * IPv4 only: containers have no IPv6 beyond ::1. A firewall of the host that drops forwarded packets (docker's FORWARD
 * policy, ufw) still drops ours: an accept in one table cannot overrule a drop in another.
 * ip_forward is on while a network is up: until then a host with several interfaces may not have routed between them, and
 * only its own firewall decides whether it does now (docker sets FORWARD to drop, which breaks other programs' networks).
 * Datagram flows follow a published port when it comes, goes or changes hands (flow.h).
 * Layer: network.  Threads: calls for one host are serialised by a lock on its network namespace.  Blocks: netlink, one sync.
 * Limits: 1023 containers a network (ports of a bridge).
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct network; /* handle: db + run dir */
struct db;
FALLIBLE network_open(struct db *db, int run_fd, struct network **out_n);
void network_close(struct network *n);

struct net_port {
	uint32_t host_ip;	/* network order; 0: any */
	uint16_t host_port;	/* 0: choose one */
	uint16_t port;		/* in the container */
	uint8_t proto;		/* IPPROTO_TCP, IPPROTO_UDP */
};
struct net_attach {
	const char *container;	/* id */
	const char *network;	/* name or id; "bridge" is the default one */
	int net_fd;		/* the container's network namespace, borrowed */
	uint32_t want_ip;	/* network order; 0: choose */
	uint8_t want_mac[6];	/* all zero: one made of the address */
	struct net_port *ports; /* host_port 0 is filled in */
	size_t n_ports;
	char *const *names; /* by which others on a network of the user's reach it (network_hosts); may be NULL */
};
struct net_result {
	char ip[16], gateway[16], mac[18], network_id[65];
	unsigned prefix_len, mtu;
	char veth[16];
};
/*
 * lo, eth0 with address and default route, ports. All or nothing. ERR_NOT_FOUND no such network; ERR_CONFLICT "port is already
 * allocated: bind for 0.0.0.0:8080/tcp failed: in use by container …", address taken; ERR_UNAVAILABLE nothing free.
 * Ports on host_ip 0 are reachable at every address of the host, 127.0.0.1 included.
 */
FALLIBLE network_attach(struct network *n, const struct net_attach *a, struct net_result *out_result);
/* Frees address and ports of a container; the veth went with its namespace. Idempotent. */
FALLIBLE network_detach(struct network *n, const char *container);
/*
 * The same, but bridge and table stay when nobody uses them now, for the next container: making and deleting them costs 80 ms of
 * waiting for the kernel. network_collect takes down what is still unused.
 */
FALLIBLE network_leave(struct network *n, const char *container);
FALLIBLE network_collect(struct network *n);
/* Whether text is a hardware address that a card can have ("02:42:ac:11:00:02": not of a group, not zero); into out_mac. */
bool network_mac_parse(const char *text, uint8_t out_mac[6]);
/* Only lo up: for --network none and fresh namespaces. */
FALLIBLE network_loopback(int net_fd);
/*
 * Brings the kernel in line with the database: drops leases and elements of containers for which is_alive says no and whose
 * veth is gone (one that has its veth is being started, or its namespace is not quite dead); makes the table anew when
 * somebody flushed it.
 */
FALLIBLE network_reconcile(struct network *n, bool (*is_alive)(void *ctx, const char *container), void *ctx);
/* A resolv.conf for containers: the host's, without loopback servers; owned text. */
FALLIBLE network_resolv_conf(char *const *dns, char *const *search, char *const *options, char **out_text);
/* What we have on the host now: one line per link, table, sysctl; owned list (text_list_free). */
FALLIBLE network_footprint(struct network *n, char ***out_lines);

/* ---- networks of the user's ---- */

struct net_create {
	const char *name;
	const char *subnet, *gateway; /* "10.1.0.0/16", "10.1.0.1"; NULL: chosen; gateway NULL: the first address */
	bool is_internal;	      /* nothing leaves it, nothing comes in from elsewhere than the host */
	unsigned mtu;		      /* 0: the uplink's */
	const json_t *labels;	      /* borrowed; NULL: none */
};
/* out_id owned. ERR_EXISTS the name; ERR_INVALID name, subnet, gateway; ERR_CONFLICT the subnet overlaps a route of the host. */
FALLIBLE network_create(struct network *n, const struct net_create *c, char **out_id);
/* text: name, id, unique prefix of an id. ERR_DENIED the default one; ERR_CONFLICT it has containers; ERR_NOT_FOUND. */
FALLIBLE network_remove(struct network *n, const char *text);
/* Objects in the shape of docker's network inspect, "Containers" {id: {Name, IPv4Address, MacAddress}}. Owned. */
FALLIBLE network_list(struct network *n, json_t **out_array);
FALLIBLE network_inspect(struct network *n, const char *text, json_t **out_object);
/* Lines of /etc/hosts for a container: the names of all on its networks, itself included. Owned text; "" on the default one. */
FALLIBLE network_hosts(struct network *n, const char *container, char **out_text);
/* Ids of the containers on its networks of the user's, itself included; owned list, empty when it is on none. */
FALLIBLE network_peers(struct network *n, const char *container, char ***out_ids);
