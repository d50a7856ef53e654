/*
 * rig.h - tests only: a private network namespace as the host, another as its LAN, containers' namespaces, real sockets.
 *
 *	the test's namespace: "uplink0" 192.0.2.2/24, MTU 1400, default route --- 192.0.2.1 "lan" in the LAN's namespace
 */
#pragma once
#include "network/network.h"
#include <stdbool.h>
#include <stdint.h>

struct rig {
	struct db *db;
	struct network *net;
	int run_fd, lan_fd;
};
void rig_up(struct rig *r);	  /* skips the test without root */
void rig_open(struct rig *r);	  /* db and network only, in a fresh temporary directory */
void rig_down(struct rig *r);
void rig_sh(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* fails the test unless the command exits 0 */
char *rig_out(const char *command); /* its output, owned */
/* Everything on this host: links, addresses, routes, nftables, ip_forward. Owned. */
char *rig_census(void);

/* A container's namespace, attached. */
struct rig_container {
	int net_fd;
	struct net_result at;
};
void rig_attach(struct rig *r, const char *id, const char *network, struct net_port *ports, size_t n,
		struct rig_container *out);

void rig_open_again(struct rig *r); /* in a forked child: its own handles on the same database */

#define HERE (-1) /* our own namespace, for ns parameters */
int rig_listen(int ns, int proto, const char *ip, uint16_t port); /* owned fd */
/*
 * A client in ns says "ping" to ip:port; true when it arrives at listener and "pong" comes back within seconds.
 * out_from (16 bytes, may be NULL): the client's address as the listener saw it.
 */
bool rig_reach(int ns, int proto, const char *ip, uint16_t port, int listener, char *out_from);
/* The two halves of it: a connected client (owned fd), and one exchange. */
int rig_client(int ns, int proto, const char *ip, uint16_t port);
bool rig_ping(int client, int proto, int listener, char *out_from);
