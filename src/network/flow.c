/* flow.c - see flow.h. The kernel filters the dump by protocol and port (5.8 on; older ones send all, and we look anyway). */
#include "network/flow.h"
#include "base/own.h"
#include "network/nlmsg.h"
#include "sys/netlink.h"
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

/* Bits of CTA_FILTER_*_FLAGS; the kernel keeps their names to itself (nf_conntrack_netlink.c), libnetfilter_conntrack has them too. */
enum { BY_PROTO = 1 << 3, BY_DST_PORT = 1 << 5 };

static void begin(struct nl_batch *m, uint16_t type, uint16_t flags)
{
	const struct nfgenmsg g = { .nfgen_family = AF_INET, .version = NFNETLINK_V0 };

	nl_msg(m, (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type), flags, &g, sizeof g);
}

struct tuple {
	uint32_t src, dst;   /* host order */
	uint16_t dst_port;
	uint8_t proto;
};

static void read_tuple(const struct nlattr *parent, struct tuple *out)
{
	nl_each_in(part, parent) {
		nl_each_in(a, part) {
			const bool is_ip = mnl_attr_get_type(part) == CTA_TUPLE_IP;

			if (is_ip && mnl_attr_get_type(a) == CTA_IP_V4_SRC)
				out->src = ntohl(mnl_attr_get_u32(a));
			else if (is_ip && mnl_attr_get_type(a) == CTA_IP_V4_DST)
				out->dst = ntohl(mnl_attr_get_u32(a));
			else if (!is_ip && mnl_attr_get_type(a) == CTA_PROTO_NUM)
				out->proto = mnl_attr_get_u8(a);
			else if (!is_ip && mnl_attr_get_type(a) == CTA_PROTO_DST_PORT)
				out->dst_port = ntohs(mnl_attr_get_u16(a));
		}
	}
}

struct dump {
	const struct table_port *port;
	struct nl_batch *deletions;
};

static bool is_of_host(uint32_t ip)
{
	uint16_t port;

	return sys_port_probe(IPPROTO_UDP, htonl(ip), 0, &port) == 0;
}

static int add_deletion(void *ctx, const struct nlmsghdr *h)
{
	const struct nlattr *orig = NULL, *id = NULL;
	struct tuple there = { 0 }, back = { 0 };
	const struct dump *d = ctx;

	nl_each(a, h, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(a) == CTA_TUPLE_ORIG)
			read_tuple(orig = a, &there);
		else if (mnl_attr_get_type(a) == CTA_TUPLE_REPLY)
			read_tuple(a, &back);
		else if (mnl_attr_get_type(a) == CTA_ID)
			id = a;
	}
	if (!orig || !id || there.proto != IPPROTO_UDP || there.dst_port != d->port->host_port)
		return 0;
	if (back.src != d->port->ip && !is_of_host(there.dst)) /* one that only passes through this host */
		return 0;
	begin(d->deletions, IPCTNL_MSG_CT_DELETE, NLM_F_ACK);
	nl_put(d->deletions, CTA_TUPLE_ORIG | NLA_F_NESTED, mnl_attr_get_payload(orig), mnl_attr_get_payload_len(orig));
	nl_put(d->deletions, CTA_ID, mnl_attr_get_payload(id), mnl_attr_get_payload_len(id));
	return 0;
}

static struct err *find(int nft_fd, const struct dump *d)
{
	auto_batch struct nl_batch m = NL_BATCH();
	const uint16_t port = htons(d->port->host_port);
	struct dump copy = *d;

	begin(&m, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	nl_nest(&m, CTA_TUPLE_ORIG);
	nl_nest(&m, CTA_TUPLE_PROTO);
	nl_put(&m, CTA_PROTO_NUM, &d->port->proto, 1);
	nl_put(&m, CTA_PROTO_DST_PORT, &port, sizeof port);
	nl_end(&m);
	nl_end(&m);
	nl_nest(&m, CTA_FILTER);
	nl_u32(&m, CTA_FILTER_ORIG_FLAGS, BY_PROTO | BY_DST_PORT);
	nl_u32(&m, CTA_FILTER_REPLY_FLAGS, 0);
	nl_end(&m);
	return nl_query(nft_fd, &m, "list flows", add_deletion, &copy);
}

struct err *flow_forget(int nft_fd, const struct table *ports)
{
	auto_batch struct nl_batch deletions = NL_BATCH();
	struct err *e;

	for (size_t i = 0; i < ports->ports.n; i++)
		if (ports->ports.p[i].proto == IPPROTO_UDP)
			TRY(find(nft_fd, &(struct dump){ &ports->ports.p[i], &deletions }));
	if (!deletions.n)
		return NULL;
	e = nl_send(nft_fd, &deletions, "forget flows", NULL);
	if (e && e->kind == ERR_NOT_FOUND) { /* ended by itself */
		err_free(e);
		e = NULL;
	}
	return e;
}
