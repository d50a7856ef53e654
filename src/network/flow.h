/*
 * flow.h - the kernel's memory of flows (conntrack). A flow of datagrams that began before its port was published, or while
 * another container had it, would go the old way for as long as it lasts: so it is forgotten when ports change.
 * TCP needs no such thing: a connection does not outlive its end.
 * Layer: network.  Format: nfnetlink, linux/netfilter/nfnetlink_conntrack.h.
 */
#pragma once
#include "base/err.h"
#include "network/table.h"

/* nft_fd: a NETLINK_NETFILTER socket. Only flows to our host's addresses or to the port's container are forgotten. */
FALLIBLE flow_forget(int nft_fd, const struct table *ports);
