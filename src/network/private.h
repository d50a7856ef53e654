/* private.h - what network.c and manage.c share. Layer: network. */
#pragma once
#include "network/lease.h"
#include "network/link.h"
#include "network/network.h"

#define DEFAULT_NETWORK "bridge"

struct network {
	struct db *db; /* borrowed */
	int run_fd;    /* borrowed */
	bool is_default; /* the instance with the default RUN */
	char table[24];
};
/* The lock on this network namespace: held as long as the fd is open. */
FALLIBLE net_lock(int *out_fd);
FALLIBLE net_route_open(int *out_fd);
/* Subnets that a new network must not overlap: the host's routes, and all networks of the database but `except` (id). */
FALLIBLE net_taken(struct db_txn *txn, int route_fd, const char *except, struct subnets *out_taken);
/* A new, unwritten definition with id and bridge name; the subnet is left to the caller. */
struct net_def net_def_new(const struct network *n, const char *name);
/* The default network is made at its first use. */
FALLIBLE net_find(const struct network *n, struct db_txn *txn, int route_fd, const char *text, struct net_def *out_def);
