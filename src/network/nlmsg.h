/*
 * nlmsg.h - netlink messages: built in a bounded buffer, sent as one datagram, answers read.
 *
 * Format: rtnetlink(7), libnftnl's view of nfnetlink; attributes are in network order where NFTA_* says so.
 * Layer: network.  Threads: one at a time per batch.  Limits: 4 MiB a batch, nesting 8.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <stdint.h>

struct nl_batch {
	struct buf b;
	uint32_t n;		 /* messages so far; message i has sequence number i + 1 */
	size_t msg_at, nest[8];
	unsigned depth;
};
#define NL_BATCH() ((struct nl_batch){ .b = BUF(4 << 20) })
#define auto_batch __attribute__((cleanup(nl_fini)))
void nl_fini(struct nl_batch *m);
/* Starts a message; head is its fixed part (ifinfomsg, nfgenmsg …). NLM_F_REQUEST is implied. */
void nl_msg(struct nl_batch *m, uint16_t type, uint16_t flags, const void *head, size_t n);
void nl_put(struct nl_batch *m, uint16_t attr, const void *p, size_t n);
void nl_str(struct nl_batch *m, uint16_t attr, const char *s); /* with its terminator */
void nl_u32(struct nl_batch *m, uint16_t attr, uint32_t v);    /* host order */
void nl_be32(struct nl_batch *m, uint16_t attr, uint32_t v);
void nl_nest(struct nl_batch *m, uint16_t attr);
/* A nest that begins with a fixed part (VETH_INFO_PEER). */
void nl_nest_head(struct nl_batch *m, uint16_t attr, const void *head, size_t n);
void nl_end(struct nl_batch *m);

/*
 * Sends the batch; every message must be accepted. The error of the first that was not: "what: text of the kernel: errno";
 * *out_at (may be NULL) its index.
 */
FALLIBLE nl_send(int fd, struct nl_batch *m, const char *what, uint32_t *out_at);
/* Sends a batch of queries and calls each for every answer (h is valid within the call); each may return -errno. */
FALLIBLE nl_query(int fd, struct nl_batch *m, const char *what, int (*each)(void *ctx, const struct nlmsghdr *h), void *ctx);

/* The attributes of a message behind its fixed part of `head` bytes, or within a nest. (libmnl's macros do not compile
 * under -Wconversion.) */
static inline const struct nlattr *nl_ok(const void *at, const void *end)
{
	const struct nlattr *a = at;

	return mnl_attr_ok(a, (int)((const char *)end - (const char *)at)) ? a : NULL;
}
#define nl_each(a, h, head)                                                                                          \
	for (const struct nlattr *a = nl_ok(mnl_nlmsg_get_payload_offset((h), (head)), mnl_nlmsg_get_payload_tail(h)); a; \
	     a = nl_ok(mnl_attr_next(a), mnl_nlmsg_get_payload_tail(h)))
#define nl_each_in(a, nest)                                                                                         \
	for (const struct nlattr *a = nl_ok(mnl_attr_get_payload(nest), (const char *)(nest) + (nest)->nla_len); a; \
	     a = nl_ok(mnl_attr_next(a), (const char *)(nest) + (nest)->nla_len))
