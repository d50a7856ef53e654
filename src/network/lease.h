/*
 * lease.h - networks and who holds which address and port, as records in the database.
 *
 *	DB_NETWORK       <id>                              network, docker's inspect shape
 *	DB_NETWORK_NAME  <name>                            id
 *	DB_LEASE         endpoint/<container>/<network>    {"IPAddress","Veth","Names":[],"Ports":[{"Proto","HostIp","HostPort","Port"}]}
 *	DB_LEASE         net/<network>/<address>           container id
 *	DB_LEASE         port/<proto>/<port>/<host ip>     container id
 *	DB_LEASE         last/<network>                    the address given out last
 *
 * Layer: network.  Addresses in host order.
 */
#pragma once
#include "base/vec.h"
#include "codec/json.h"
#include "network/ipam.h"
#include "network/network.h"
#include "network/table.h"
#include "state/db.h"

struct net_def {
	char id[65], name[129], bridge[16];
	struct subnet subnet;
	uint32_t gateway;
	unsigned mtu;	/* 0: the uplink's */
	bool is_internal, is_auto; /* is_auto: we chose the subnet and may choose another while nobody uses it */
};
/* By name, id or unique prefix of an id. ERR_NOT_FOUND "network web not found". */
FALLIBLE def_find(struct db_txn *txn, const char *text, struct net_def *out_def);
/* The stored object, owned, and the same as a struct (either may be NULL). */
FALLIBLE def_read(struct db_txn *txn, const char *id, json_t **out_object, struct net_def *out_def);
/* Writes object under id and name. */
FALLIBLE def_write(struct db_txn *txn, const struct net_def *d, const json_t *object);
FALLIBLE def_delete(struct db_txn *txn, const struct net_def *d);
/* A new object with a new id; labels (borrowed, may be NULL). */
json_t *def_object(const struct net_def *d, const json_t *labels);
struct defs {
	struct net_def *p;
	size_t n, cap;
};
FALLIBLE def_list(struct db_txn *txn, struct defs *out_defs);

struct endpoint {
	char container[65], network[65], veth[16];
	uint32_t ip;
	uint8_t mac[6]; /* all zero before endpoint_add: by the address (link_mac) */
	char **names;
	struct net_port *ports;
	size_t n_ports;
};
struct endpoints {
	struct endpoint *p;
	size_t n, cap;
};
void endpoints_fini(struct endpoints *list);
#define auto_endpoints __attribute__((cleanup(endpoints_fini)))
/* Of one container, or of all (NULL). */
FALLIBLE endpoint_list(struct db_txn *txn, const char *container, struct endpoints *out_list);
/* Chooses address (want: 0 any) and free host ports, checks for conflicts, writes all records. Fills ip and host ports. */
FALLIBLE endpoint_add(struct db_txn *txn, const struct net_def *d, uint32_t want, struct endpoint *e);
FALLIBLE endpoint_drop(struct db_txn *txn, const struct endpoint *e);
/* Its ports as elements of the table. */
void endpoint_ports(const struct endpoint *e, struct table *out_table);
