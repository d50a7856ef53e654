/*
 * table.c - the rules are a table of small steps, each one expression of nf_tables; networks and ports are elements of sets
 * and maps, so the rules never change.
 *
 * prerouting, output: DNAT of what is addressed to this host (fib: any of its addresses; pub_ip: exactly that one). 127.0.0.0/8
 * works from this host only: a packet that came over a wire must not match, whatever its destination (moby #41872).
 * postrouting: masquerade what leaves our subnets, what comes from 127.0.0.0/8 (route_localnet is on for the bridge), and a
 * container's way to a published port of its own network. The latter matches addresses, not iifname: with
 * bridge-nf-call-iptables the incoming interface is not the bridge.
 * forward: the neighbours on a bridge talk, answers and published ports come in, all else to containers is dropped: other
 * bridges (isolation), the LAN (direct routing). An accept here does not overrule a drop in someone else's table.
 */
#include "network/table.h"
#include "base/own.h"
#include "network/nlmsg.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>

enum { ELEMENTS_BYTES = 24 << 10 }; /* of one message: a nest has a 16-bit length */
/* Types of nft's data, as it prints them (libnftables datatype.h): part of the ABI, kept in sets for nft list only. */
enum { TYPE_IP = 7, TYPE_PROTO = 12, TYPE_SERVICE = 13, TYPE_IFNAME = 41, TYPE_BITS = 6 };
/* A second or third 32-bit word of register 1: where parts of a concatenation go. */
enum { R1 = NFT_REG_1, R1_1 = NFT_REG32_01, R1_2 = NFT_REG32_02, R2 = NFT_REG_2 };

enum step_op { END, META, NET, TRANSPORT, EQ, NE, NONZERO, IN, NOT_IN, MAP, CT, MASK, FIB_TYPE, CLAMP, DNAT, MASQUERADE, VERDICT };
struct step {
	enum step_op op;
	uint32_t a, b, c;
	const char *s;
};
struct rule {
	const char *chain, *text;
	struct step steps[16];
};

#define IPV4	      { META, NFT_META_NFPROTO, R1 }, { EQ, 1, .s = "\x02" }
#define SADDR	      { NET, 12, 4, R1 }
#define DADDR	      { NET, 16, 4, R1 }
#define IIF_IN(set)   { META, NFT_META_IIFNAME, R1 }, { IN, .s = set }
#define OIF_IN(set)   { META, NFT_META_OIFNAME, R1 }, { IN, .s = set }
#define CT_HAS(k, v)  { CT, k, R1 }, { MASK, v, 4 }, { NONZERO }
#define LOCAL_IP(off) { NET, off, 1, R1 }, { EQ, 1, .s = "\x7f" }
#define SYN	      { META, NFT_META_L4PROTO, R1 }, { EQ, 1, .s = "\x06" }, { TRANSPORT, 13, 1, R1 }, { MASK, 6, 1 }, \
		      { EQ, 1, .s = "\x02" }
#define PUBLISHED_IP  IPV4, DADDR, { META, NFT_META_L4PROTO, R1_1 }, { TRANSPORT, 2, 2, R1_2 }, { MAP, .s = "pub_ip" }, \
		      { DNAT }
#define PUBLISHED     IPV4, { FIB_TYPE }, { EQ, 4, .s = "\x02\0\0\0" }, { META, NFT_META_L4PROTO, R1 }, \
		      { TRANSPORT, 2, 2, R1_1 }, { MAP, .s = "pub" }, { DNAT }

static const struct rule rules[] = {
	{ "guard", "iifname @bridges ip daddr 127.0.0.0/8 drop",
	  { IIF_IN("bridges"), IPV4, LOCAL_IP(16), { VERDICT, NF_DROP } } },
	{ "guard", "iifname @bridges ip saddr 127.0.0.0/8 drop",
	  { IIF_IN("bridges"), IPV4, LOCAL_IP(12), { VERDICT, NF_DROP } } },
	{ "incoming", "iifname != \"lo\" ip daddr 127.0.0.0/8 return",
	  { { META, NFT_META_IIFNAME, R1 }, { NE, 16, .s = "lo\0\0\0\0\0\0\0\0\0\0\0\0\0" }, IPV4, LOCAL_IP(16),
	    { VERDICT, (uint32_t)NFT_RETURN } } },
	{ "incoming", "dnat ip to ip daddr . meta l4proto . th dport map @pub_ip", { PUBLISHED_IP } },
	{ "incoming", "fib daddr type local dnat ip to meta l4proto . th dport map @pub", { PUBLISHED } },
	{ "outgoing", "dnat ip to ip daddr . meta l4proto . th dport map @pub_ip", { PUBLISHED_IP } },
	{ "outgoing", "fib daddr type local dnat ip to meta l4proto . th dport map @pub", { PUBLISHED } },
	{ "leaving", "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
	  { IPV4, LOCAL_IP(12), OIF_IN("bridges"), { MASQUERADE } } },
	{ "leaving", "ip saddr @subnets oifname != @bridges masquerade",
	  { IPV4, SADDR, { IN, .s = "subnets" }, { META, NFT_META_OIFNAME, R1 }, { NOT_IN, .s = "bridges" }, { MASQUERADE } } },
	{ "leaving", "ip saddr @subnets oifname @bridges ct status dnat masquerade",
	  { IPV4, SADDR, { IN, .s = "subnets" }, OIF_IN("bridges"), CT_HAS(NFT_CT_STATUS, IPS_DST_NAT), { MASQUERADE } } },
	{ "through", "oifname @bridges tcp flags syn / syn,rst tcp option maxseg size set rt mtu",
	  { OIF_IN("bridges"), SYN, { CLAMP } } },
	{ "through", "iifname @bridges tcp flags syn / syn,rst tcp option maxseg size set rt mtu",
	  { IIF_IN("bridges"), SYN, { CLAMP } } },
	{ "through", "iifname . oifname @same accept",
	  { { META, NFT_META_IIFNAME, R1 }, { META, NFT_META_OIFNAME, R2 }, { IN, .s = "same" }, { VERDICT, NF_ACCEPT } } },
	{ "through", "iifname @internal drop", { IIF_IN("internal"), { VERDICT, NF_DROP } } },
	{ "through", "oifname @bridges ct state established,related accept",
	  { OIF_IN("bridges"), CT_HAS(NFT_CT_STATE, NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED)),
	    { VERDICT, NF_ACCEPT } } },
	{ "through", "oifname @bridges ct status dnat accept",
	  { OIF_IN("bridges"), CT_HAS(NFT_CT_STATUS, IPS_DST_NAT), { VERDICT, NF_ACCEPT } } },
	{ "through", "oifname @bridges drop", { OIF_IN("bridges"), { VERDICT, NF_DROP } } },
};

static const struct chain {
	const char *name, *type, *hook_name;
	uint32_t hook;
	int priority;
} chains[] = {
	{ "guard", "filter", "prerouting", NF_INET_PRE_ROUTING, -300 },
	{ "incoming", "nat", "prerouting", NF_INET_PRE_ROUTING, -100 },
	{ "outgoing", "nat", "output", NF_INET_LOCAL_OUT, -100 },
	{ "leaving", "nat", "postrouting", NF_INET_POST_ROUTING, 100 },
	{ "through", "filter", "forward", NF_INET_FORWARD, 0 },
};

static const struct set {
	const char *name;
	uint32_t flags, key_type, key_len, data_type, data_len;
} sets[] = {
	{ "bridges", 0, TYPE_IFNAME, 16, 0, 0 },
	{ "internal", 0, TYPE_IFNAME, 16, 0, 0 },
	{ "same", 0, TYPE_IFNAME << TYPE_BITS | TYPE_IFNAME, 32, 0, 0 },
	{ "subnets", NFT_SET_INTERVAL, TYPE_IP, 4, 0, 0 },
	{ "pub", NFT_SET_MAP, TYPE_PROTO << TYPE_BITS | TYPE_SERVICE, 8, TYPE_IP << TYPE_BITS | TYPE_SERVICE, 8 },
	{ "pub_ip", NFT_SET_MAP, (TYPE_IP << TYPE_BITS | TYPE_PROTO) << TYPE_BITS | TYPE_SERVICE, 12,
	  TYPE_IP << TYPE_BITS | TYPE_SERVICE, 8 },
};

void table_fini(struct table *t)
{
	vec_fini(&t->nets);
	vec_fini(&t->ports);
}

void table_explain(const struct table *t, struct buf *out)
{
	char a[20], b[16];

	buf_fmt(out, "table inet %s\n", t->name);
	for (size_t i = 0; i < LEN(chains); i++) {
		buf_fmt(out, "\tchain %s: type %s hook %s priority %d\n", chains[i].name, chains[i].type, chains[i].hook_name,
			chains[i].priority);
		for (size_t k = 0; k < LEN(rules); k++)
			if (strcmp(rules[k].chain, chains[i].name) == 0)
				buf_fmt(out, "\t\t%s\n", rules[k].text);
	}
	for (size_t i = 0; i < t->nets.n; i++)
		buf_fmt(out, "\tbridge %s %s%s\n", t->nets.p[i].bridge, subnet_text(t->nets.p[i].subnet, a),
			t->nets.p[i].is_internal ? " internal" : "");
	for (size_t i = 0; i < t->ports.n; i++) {
		const struct table_port *p = &t->ports.p[i];

		buf_fmt(out, "\tport %s:%u/%s -> ", ip_text(p->host_ip, b), p->host_port, p->proto == IPPROTO_TCP ? "tcp" : "udp");
		buf_fmt(out, "%s:%u (%.12s)\n", ip_text(p->ip, b), p->port, p->container);
	}
}

/* ---- messages ---- */

static void nft(struct nl_batch *m, unsigned type, uint16_t flags)
{
	const struct nfgenmsg g = { .nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0 };

	nl_msg(m, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, &g, sizeof g);
}

static void batch_mark(struct nl_batch *m, uint16_t type)
{
	const struct nfgenmsg g = { .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES) };

	nl_msg(m, type, 0, &g, sizeof g);
}

static void value(struct nl_batch *m, uint16_t attr, const void *p, size_t n)
{
	nl_nest(m, attr);
	nl_put(m, NFTA_DATA_VALUE, p, n);
	nl_end(m);
}

static void verdict(struct nl_batch *m, uint32_t code)
{
	nl_be32(m, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	nl_nest(m, NFTA_IMMEDIATE_DATA);
	nl_nest(m, NFTA_DATA_VERDICT);
	nl_be32(m, NFTA_VERDICT_CODE, code);
	nl_end(m);
	nl_end(m);
}

static void expr_begin(struct nl_batch *m, const char *name)
{
	nl_nest(m, NFTA_LIST_ELEM);
	nl_str(m, NFTA_EXPR_NAME, name);
	nl_nest(m, NFTA_EXPR_DATA);
}

static void expr_end(struct nl_batch *m)
{
	nl_end(m);
	nl_end(m);
}

static void payload(struct nl_batch *m, uint32_t base, const struct step *s)
{
	expr_begin(m, "payload");
	nl_be32(m, NFTA_PAYLOAD_DREG, s->c);
	nl_be32(m, NFTA_PAYLOAD_BASE, base);
	nl_be32(m, NFTA_PAYLOAD_OFFSET, s->a);
	nl_be32(m, NFTA_PAYLOAD_LEN, s->b);
	expr_end(m);
}

static void compare(struct nl_batch *m, uint32_t op, const char *p, size_t n)
{
	expr_begin(m, "cmp");
	nl_be32(m, NFTA_CMP_SREG, R1);
	nl_be32(m, NFTA_CMP_OP, op);
	value(m, NFTA_CMP_DATA, p, n);
	expr_end(m);
}

static void lookup(struct nl_batch *m, const struct step *s)
{
	expr_begin(m, "lookup");
	nl_str(m, NFTA_LOOKUP_SET, s->s);
	nl_be32(m, NFTA_LOOKUP_SREG, R1);
	if (s->op == MAP)
		nl_be32(m, NFTA_LOOKUP_DREG, R1);
	if (s->op == NOT_IN)
		nl_be32(m, NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
	expr_end(m);
}

static void mask(struct nl_batch *m, uint32_t bits, size_t n)
{
	static const uint32_t zero;

	expr_begin(m, "bitwise");
	nl_be32(m, NFTA_BITWISE_SREG, R1);
	nl_be32(m, NFTA_BITWISE_DREG, R1);
	nl_be32(m, NFTA_BITWISE_LEN, (uint32_t)n);
	if (n == 1)
		value(m, NFTA_BITWISE_MASK, &(const uint8_t){ (uint8_t)bits }, 1);
	else
		value(m, NFTA_BITWISE_MASK, &bits, sizeof bits);
	value(m, NFTA_BITWISE_XOR, &zero, n);
	expr_end(m);
}

static void clamp_mss(struct nl_batch *m)
{
	expr_begin(m, "rt");
	nl_be32(m, NFTA_RT_DREG, R1);
	nl_be32(m, NFTA_RT_KEY, NFT_RT_TCPMSS);
	expr_end(m);
	expr_begin(m, "byteorder");
	nl_be32(m, NFTA_BYTEORDER_SREG, R1);
	nl_be32(m, NFTA_BYTEORDER_DREG, R1);
	nl_be32(m, NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON);
	nl_be32(m, NFTA_BYTEORDER_LEN, 2);
	nl_be32(m, NFTA_BYTEORDER_SIZE, 2);
	expr_end(m);
	expr_begin(m, "exthdr");
	nl_be32(m, NFTA_EXTHDR_SREG, R1);
	nl_put(m, NFTA_EXTHDR_TYPE, &(const uint8_t){ 2 }, 1); /* TCPOPT_MAXSEG; its value starts at 2 */
	nl_be32(m, NFTA_EXTHDR_OFFSET, 2);
	nl_be32(m, NFTA_EXTHDR_LEN, 2);
	nl_be32(m, NFTA_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT);
	expr_end(m);
}

static void load(struct nl_batch *m, const struct step *s)
{
	if (s->op == META) {
		expr_begin(m, "meta");
		nl_be32(m, NFTA_META_DREG, s->b);
		nl_be32(m, NFTA_META_KEY, s->a);
	} else if (s->op == CT) {
		expr_begin(m, "ct");
		nl_be32(m, NFTA_CT_DREG, s->b);
		nl_be32(m, NFTA_CT_KEY, s->a);
	} else {
		expr_begin(m, "fib");
		nl_be32(m, NFTA_FIB_DREG, R1);
		nl_be32(m, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
		nl_be32(m, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
	}
	expr_end(m);
}

static void act(struct nl_batch *m, const struct step *s)
{
	if (s->op == DNAT) {
		expr_begin(m, "nat");
		nl_be32(m, NFTA_NAT_TYPE, NFT_NAT_DNAT);
		nl_be32(m, NFTA_NAT_FAMILY, NFPROTO_IPV4);
		nl_be32(m, NFTA_NAT_REG_ADDR_MIN, R1);
		nl_be32(m, NFTA_NAT_REG_PROTO_MIN, R1_1);
	} else if (s->op == VERDICT) {
		expr_begin(m, "immediate");
		verdict(m, s->a);
	} else {
		expr_begin(m, "masq");
	}
	expr_end(m);
}

static void step(struct nl_batch *m, const struct step *s)
{
	switch (s->op) {
	case META:
	case CT:
	case FIB_TYPE:
		load(m, s);
		break;
	case NET:
		payload(m, NFT_PAYLOAD_NETWORK_HEADER, s);
		break;
	case TRANSPORT:
		payload(m, NFT_PAYLOAD_TRANSPORT_HEADER, s);
		break;
	case EQ:
		compare(m, NFT_CMP_EQ, s->s, s->a);
		break;
	case NE:
		compare(m, NFT_CMP_NEQ, s->s, s->a);
		break;
	case NONZERO:
		compare(m, NFT_CMP_NEQ, "\0\0\0", 4);
		break;
	case IN:
	case NOT_IN:
	case MAP:
		lookup(m, s);
		break;
	case MASK:
		mask(m, s->a, s->b);
		break;
	case CLAMP:
		clamp_mss(m);
		break;
	case DNAT:
	case MASQUERADE:
	case VERDICT:
		act(m, s);
		break;
	case END:
		break;
	}
}

static void add_rule(struct nl_batch *m, const char *table, const struct rule *r)
{
	nft(m, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	nl_str(m, NFTA_RULE_TABLE, table);
	nl_str(m, NFTA_RULE_CHAIN, r->chain);
	nl_nest(m, NFTA_RULE_EXPRESSIONS);
	for (const struct step *s = r->steps; s->op != END; s++)
		step(m, s);
	nl_end(m);
}

static void add_chain(struct nl_batch *m, const char *table, const struct chain *c)
{
	nft(m, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	nl_str(m, NFTA_CHAIN_TABLE, table);
	nl_str(m, NFTA_CHAIN_NAME, c->name);
	nl_str(m, NFTA_CHAIN_TYPE, c->type);
	nl_be32(m, NFTA_CHAIN_POLICY, NF_ACCEPT);
	nl_nest(m, NFTA_CHAIN_HOOK);
	nl_be32(m, NFTA_HOOK_HOOKNUM, c->hook);
	nl_be32(m, NFTA_HOOK_PRIORITY, (uint32_t)c->priority);
	nl_end(m);
}

static void add_set(struct nl_batch *m, const char *table, const struct set *s, uint32_t id)
{
	nft(m, NFT_MSG_NEWSET, NLM_F_CREATE);
	nl_str(m, NFTA_SET_TABLE, table);
	nl_str(m, NFTA_SET_NAME, s->name);
	nl_be32(m, NFTA_SET_ID, id);
	nl_be32(m, NFTA_SET_FLAGS, s->flags);
	nl_be32(m, NFTA_SET_KEY_TYPE, s->key_type);
	nl_be32(m, NFTA_SET_KEY_LEN, s->key_len);
	if (s->key_type == TYPE_IFNAME) /* a hint for nft list: the key is no big number (type 0, 4 bytes, host order) */
		nl_put(m, NFTA_SET_USERDATA, "\0\4\1\0\0", 6);
	if (s->data_len) {
		nl_be32(m, NFTA_SET_DATA_TYPE, s->data_type);
		nl_be32(m, NFTA_SET_DATA_LEN, s->data_len);
	}
}

/* Elements of one set, in as many messages as their size asks for. */
struct elements {
	struct nl_batch *m;
	const char *table, *set;
	bool add;
	size_t begun_at; /* 0: no message is open */
};

static void element_begin(struct elements *s, const void *key, size_t n)
{
	if (!s->begun_at || s->m->b.n - s->begun_at > ELEMENTS_BYTES) {
		s->begun_at = s->m->b.n;
		nft(s->m, s->add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, s->add ? NLM_F_CREATE | NLM_F_EXCL : 0);
		nl_str(s->m, NFTA_SET_ELEM_LIST_TABLE, s->table);
		nl_str(s->m, NFTA_SET_ELEM_LIST_SET, s->set);
		nl_nest(s->m, NFTA_SET_ELEM_LIST_ELEMENTS);
	}
	nl_nest(s->m, NFTA_LIST_ELEM);
	value(s->m, NFTA_SET_ELEM_KEY, key, n);
}

static void element(struct elements *s, const void *key, size_t n)
{
	element_begin(s, key, n);
	nl_end(s->m);
}

static void name_elements(struct nl_batch *m, const struct table *t)
{
	struct elements bridges = { m, t->name, "bridges", true, 0 };
	struct elements same = { m, t->name, "same", true, 0 };
	struct elements internal = { m, t->name, "internal", true, 0 };
	char twice[2 * IFNAMSIZ];

	for (size_t i = 0; i < t->nets.n; i++)
		element(&bridges, t->nets.p[i].bridge, IFNAMSIZ);
	for (size_t i = 0; i < t->nets.n; i++) {
		memcpy(twice, t->nets.p[i].bridge, IFNAMSIZ);
		memcpy(twice + IFNAMSIZ, t->nets.p[i].bridge, IFNAMSIZ);
		element(&same, twice, sizeof twice);
	}
	for (size_t i = 0; i < t->nets.n; i++)
		if (t->nets.p[i].is_internal)
			element(&internal, t->nets.p[i].bridge, IFNAMSIZ);
}

static int by_base(const void *a, const void *b)
{
	const struct table_net *x = a, *y = b;

	return x->subnet.base < y->subnet.base ? -1 : x->subnet.base > y->subnet.base;
}

/* Intervals are begins and ends, in order; nf_tables keeps an end and a begin at the same address apart. */
static void subnet_elements(struct nl_batch *m, const struct table *t)
{
	auto_free struct table_net *sorted = xcalloc(t->nets.n + 1, sizeof *sorted);
	struct elements out = { m, t->name, "subnets", true, 0 };

	if (t->nets.n)
		memcpy(sorted, t->nets.p, t->nets.n * sizeof *sorted);
	qsort(sorted, t->nets.n, sizeof *sorted, by_base);
	for (size_t i = 0; i < t->nets.n; i++) {
		const uint32_t begin = htonl(sorted[i].subnet.base), end = htonl(subnet_last(sorted[i].subnet) + 1);

		element(&out, &begin, sizeof begin);
		element_begin(&out, &end, sizeof end);
		nl_be32(m, NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
		nl_end(m);
	}
}

static size_t port_key(const struct table_port *p, uint8_t out[12])
{
	const uint32_t ip = htonl(p->host_ip);
	const uint16_t port = htons(p->host_port);
	uint8_t *at = out;

	memset(out, 0, 12);
	if (ip) {
		memcpy(at, &ip, 4);
		at += 4;
	}
	at[0] = p->proto;
	memcpy(at + 4, &port, 2);
	return (size_t)(at + 8 - out);
}

static void port_element(struct elements *out, const struct table_port *p)
{
	uint8_t key[12], data[8] = { 0 }, comment[2 + 65] = { 0 }; /* comment: type 0, length, text */
	const uint32_t ip = htonl(p->ip);
	const uint16_t port = htons(p->port);
	size_t n = strlen(p->container) + 1;

	element_begin(out, key, port_key(p, key));
	if (out->add) {
		memcpy(data, &ip, 4);
		memcpy(data + 4, &port, 2);
		value(out->m, NFTA_SET_ELEM_DATA, data, sizeof data);
		comment[1] = (uint8_t)n;
		memcpy(comment + 2, p->container, n);
		nl_put(out->m, NFTA_SET_ELEM_USERDATA, comment, 2 + n);
	}
	nl_end(out->m);
}

static void port_elements(struct nl_batch *m, const struct table *t, bool add)
{
	struct elements any = { m, t->name, "pub", add, 0 }, one = { m, t->name, "pub_ip", add, 0 };

	for (size_t i = 0; i < t->ports.n; i++)
		if (!t->ports.p[i].host_ip)
			port_element(&any, &t->ports.p[i]);
	for (size_t i = 0; i < t->ports.n; i++)
		if (t->ports.p[i].host_ip)
			port_element(&one, &t->ports.p[i]);
}

#define COMMENT_WAS_OFF "containers of hoy; ip_forward was 0"
#define COMMENT_WAS_ON	"containers of hoy"

static void table_msg(struct nl_batch *m, unsigned type, const struct table *t, bool comment)
{
	const char *text = t->forward_was_off ? COMMENT_WAS_OFF : COMMENT_WAS_ON;
	char data[2 + sizeof COMMENT_WAS_OFF] = { 0 };
	size_t n = strlen(text) + 1;

	nft(m, type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);
	nl_str(m, NFTA_TABLE_NAME, t->name);
	if (!comment)
		return;
	data[1] = (char)n;
	memcpy(data + 2, text, n);
	nl_put(m, NFTA_TABLE_USERDATA, data, 2 + n);
}

struct err *table_replace(int nft_fd, const struct table *t)
{
	auto_batch struct nl_batch m = NL_BATCH();

	batch_mark(&m, NFNL_MSG_BATCH_BEGIN);
	table_msg(&m, NFT_MSG_NEWTABLE, t, false); /* so that the deletion finds one */
	table_msg(&m, NFT_MSG_DELTABLE, t, false);
	table_msg(&m, NFT_MSG_NEWTABLE, t, true);
	for (uint32_t i = 0; i < LEN(chains); i++)
		add_chain(&m, t->name, &chains[i]);
	for (uint32_t i = 0; i < LEN(sets); i++)
		add_set(&m, t->name, &sets[i], i + 1);
	for (uint32_t i = 0; i < LEN(rules); i++)
		add_rule(&m, t->name, &rules[i]);
	name_elements(&m, t);
	subnet_elements(&m, t);
	port_elements(&m, t, true);
	batch_mark(&m, NFNL_MSG_BATCH_END);
	return nl_send(nft_fd, &m, "replace the nftables table", NULL);
}

struct err *table_ports(int nft_fd, const struct table *t, bool add)
{
	auto_batch struct nl_batch m = NL_BATCH();

	if (!t->ports.n)
		return NULL;
	batch_mark(&m, NFNL_MSG_BATCH_BEGIN);
	port_elements(&m, t, add);
	batch_mark(&m, NFNL_MSG_BATCH_END);
	return nl_send(nft_fd, &m, add ? "publish ports" : "unpublish ports", NULL);
}

struct err *table_delete(int nft_fd, const char *name)
{
	auto_batch struct nl_batch m = NL_BATCH();
	struct table t = { 0 };
	struct err *e;

	(void)snprintf(t.name, sizeof t.name, "%s", name);
	batch_mark(&m, NFNL_MSG_BATCH_BEGIN);
	table_msg(&m, NFT_MSG_DELTABLE, &t, false);
	batch_mark(&m, NFNL_MSG_BATCH_END);
	e = nl_send(nft_fd, &m, "delete the nftables table", NULL);
	if (e && e->os == ENOENT) {
		err_free(e);
		e = NULL;
	}
	return e;
}

struct finding {
	const char *name;
	struct table_found *found;
};

static int read_table(void *ctx, const struct nlmsghdr *h)
{
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
	bool is_hoy = false, was_off = false;
	struct finding *f = ctx;

	if (g->nfgen_family != NFPROTO_INET)
		return 0;
	nl_each(a, h, sizeof *g) {
		const char *p = mnl_attr_get_payload(a);

		if (mnl_attr_get_type(a) == NFTA_TABLE_NAME) {
			is_hoy = strcmp(p, "hoy") == 0 || strncmp(p, "hoy-", 4) == 0;
			if (strcmp(p, f->name) == 0)
				f->found->exists = true;
			else if (is_hoy)
				f->found->others = true;
		} else if (mnl_attr_get_type(a) == NFTA_TABLE_USERDATA) {
			was_off = mnl_attr_get_payload_len(a) == 2 + sizeof COMMENT_WAS_OFF &&
				  memcmp(p + 2, COMMENT_WAS_OFF, sizeof COMMENT_WAS_OFF) == 0;
		}
	}
	if (is_hoy && was_off)
		f->found->forward_was_off = true;
	return 0;
}

struct err *table_find(int nft_fd, const char *name, struct table_found *out_found)
{
	auto_batch struct nl_batch m = NL_BATCH();
	struct table_found found = { 0 };
	struct finding f = { name, &found };
	struct err *err;

	nft(&m, NFT_MSG_GETTABLE, NLM_F_DUMP);
	err = nl_query(nft_fd, &m, "list nftables tables", read_table, &f);
	if (err && err->os != EPERM) /* who may not look has made none: an ordinary user, in a user namespace of theirs */
		return err;
	err_free(err);
	*out_found = found;
	return NULL;
}
