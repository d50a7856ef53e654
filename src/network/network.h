/*
 * network.h - networks of containers: one bridge each, one nftables table (inet hoy) for all, nothing else touched.
 *
 * Wanted state is data (from the database); the kernel is compared with it and changed in one netlink batch. When the last
 * container leaves a network its bridge goes; when the last bridge goes, the table goes and what was set is set back.
 * Layer: network.  Threads: calls for one host are serialised by a lock file in RUN.  Blocks: netlink.
 */
#pragma once
#include "base/err.h"
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
	struct net_port *ports; /* host_port 0 is filled in */
	size_t n_ports;
};
struct net_result {
	char ip[16], gateway[16], mac[18], network_id[65];
	unsigned prefix_len, mtu;
	char veth[16];
};
/* Address, veth, routes, ports. ERR_CONFLICT "port 8080/tcp is already in use (by container …)". All or nothing. */
FALLIBLE network_attach(struct network *n, const struct net_attach *a, struct net_result *out_result);
/* Frees address and ports of a container; the veth went with its namespace. Idempotent. */
FALLIBLE network_detach(struct network *n, const char *container);
/* Only lo up: for --network none and fresh namespaces. */
FALLIBLE network_loopback(int net_fd);
/* Brings the kernel in line with the database: drops leases and elements of containers for which is_alive says no. */
FALLIBLE network_reconcile(struct network *n, bool (*is_alive)(void *ctx, const char *container), void *ctx);
/* A resolv.conf for containers: the host's, without loopback servers; owned text. */
FALLIBLE network_resolv_conf(char *const *dns, char *const *search, char *const *options, char **out_text);
/* What we have on the host now: one line per link, table, sysctl; owned list (text_list_free). */
FALLIBLE network_footprint(struct network *n, char ***out_lines);
