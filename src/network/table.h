/*
 * table.h - our one nftables table: what it should hold as data, and the batch that makes the kernel agree.
 *
 * Publishing a port is one map element, not a rule. A replaced table is deleted and made in one transaction: no packet ever
 * sees half of it. No other table, chain or policy is touched.
 * Layer: network.  Addresses in host order.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"
#include "network/ipam.h"
#include <stdbool.h>
#include <stdint.h>

struct table_net {
	char bridge[16];
	struct subnet subnet;
	bool is_internal; /* nothing leaves it */
};
struct table_port {
	uint32_t host_ip, ip; /* host_ip 0: any address of the host */
	uint16_t host_port, port;
	uint8_t proto;
	char container[65]; /* the comment of the element */
};
struct table {
	char name[24];
	bool forward_was_off; /* kept as the table's comment: it lives as long as our setting does */
	VEC(struct table_net) nets;
	VEC(struct table_port) ports;
};
void table_fini(struct table *t);
#define auto_table __attribute__((cleanup(table_fini)))

/* All of it as text, for people and golden files. */
void table_explain(const struct table *t, struct buf *out);
/* nft_fd: a NETLINK_NETFILTER socket. */
FALLIBLE table_replace(int nft_fd, const struct table *t);
/* Adds or removes ports only; ERR_NOT_FOUND or ERR_EXISTS when the table is not what we think: replace it then. */
FALLIBLE table_ports(int nft_fd, const struct table *t, bool add);
FALLIBLE table_delete(int nft_fd, const char *name); /* absent is no error */

struct table_found {
	bool exists;	      /* the one of that name */
	bool others;	      /* tables of other instances of hoy */
	bool forward_was_off; /* so says any of them */
};
FALLIBLE table_find(int nft_fd, const char *name, struct table_found *out_found);
