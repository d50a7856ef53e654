/*
 * link.c - a veth pair is born with its other end inside the container (IFLA_VETH_PEER + IFLA_NET_NS_FD), enslaved and up,
 * in one message: nothing has to be moved or renamed, and no other namespace ever sees eth0. The container's half is set
 * up through a socket opened inside; sockets stay in the namespace of their birth, so we are there for microseconds only.
 * IPv6 is off on what we make: a link nobody configured would still take routes from any neighbour (CVE-2020-13401).
 */
#include "network/link.h"
#include "base/own.h"
#include "network/nlmsg.h"
#include "sys/netlink.h"
#include "sys/sys.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>

#define ADD (NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)

static void link_msg(struct nl_batch *m, uint16_t type, uint16_t flags, int index, bool up)
{
	const struct ifinfomsg i = { .ifi_index = index, .ifi_flags = up ? IFF_UP : 0, .ifi_change = up ? IFF_UP : 0 };

	nl_msg(m, type, flags, &i, sizeof i);
}

static int read_link(void *ctx, const struct nlmsghdr *h)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	struct link *l = ctx;

	l->index = i->ifi_index;
	nl_each(a, h, sizeof *i) {
		if (mnl_attr_get_type(a) == IFLA_IFNAME)
			(void)snprintf(l->name, sizeof l->name, "%s", mnl_attr_get_str(a));
		else if (mnl_attr_get_type(a) == IFLA_MTU)
			l->mtu = mnl_attr_get_u32(a);
		else if (mnl_attr_get_type(a) == IFLA_MASTER)
			l->master = (int)mnl_attr_get_u32(a);
	}
	return 0;
}

static struct err *get(int route_fd, const char *name, int index, struct link *out_link)
{
	auto_batch struct nl_batch m = NL_BATCH();
	struct err *e;

	*out_link = (struct link){ 0 };
	link_msg(&m, RTM_GETLINK, 0, index, false);
	if (name)
		nl_str(&m, IFLA_IFNAME, name);
	e = nl_query(route_fd, &m, "read link", read_link, out_link);
	if (e && e->os == ENODEV) {
		err_free(e);
		e = NULL;
	}
	return e;
}

struct err *link_get(int route_fd, const char *name, struct link *out_link)
{
	return get(route_fd, name, 0, out_link);
}

struct listing {
	const char *prefix;
	struct links *links;
};

static int list_link(void *ctx, const struct nlmsghdr *h)
{
	struct listing *l = ctx;
	struct link one = { 0 };

	(void)read_link(&one, h);
	if (strncmp(one.name, l->prefix, strlen(l->prefix)) == 0)
		*vec_push(l->links) = one;
	return 0;
}

struct err *link_list(int route_fd, const char *prefix, struct links *out_links)
{
	auto_batch struct nl_batch m = NL_BATCH();
	struct listing l = { prefix, out_links };

	link_msg(&m, RTM_GETLINK, NLM_F_DUMP, 0, false);
	return nl_query(route_fd, &m, "list links", list_link, &l);
}

struct route {
	int oif;
	unsigned mtu;
};

static int read_route(void *ctx, const struct nlmsghdr *h)
{
	struct route *r = ctx;

	nl_each(a, h, sizeof(struct rtmsg)) {
		if (mnl_attr_get_type(a) == RTA_OIF)
			r->oif = (int)mnl_attr_get_u32(a);
		if (mnl_attr_get_type(a) != RTA_METRICS)
			continue;
		nl_each_in(metric, a)
			if (mnl_attr_get_type(metric) == RTAX_MTU)
				r->mtu = mnl_attr_get_u32(metric);
	}
	return 0;
}

struct err *link_uplink_mtu(int route_fd, unsigned *out_mtu)
{
	/* A look-up, not a dump: hosts with a full routing table exist. Any address that only a default route covers. */
	const struct rtmsg head = { .rtm_family = AF_INET, .rtm_dst_len = 32 };
	auto_batch struct nl_batch m = NL_BATCH();
	struct route r = { 0 };
	struct link l = { 0 };
	struct err *e;

	nl_msg(&m, RTM_GETROUTE, 0, &head, sizeof head);
	nl_be32(&m, RTA_DST, 0x01010101);
	e = nl_query(route_fd, &m, "look up the default route", read_route, &r);
	if (e && e->os != ENETUNREACH && e->os != EHOSTUNREACH && e->os != EACCES && e->os != EINVAL)
		return e;
	err_free(e);
	if (r.oif)
		TRY(get(route_fd, NULL, r.oif, &l));
	if (r.mtu && r.mtu < l.mtu)
		l.mtu = r.mtu;
	*out_mtu = l.mtu >= 576 && l.mtu <= 65535 ? l.mtu : 1500;
	return NULL;
}

static int add_route(void *ctx, const struct nlmsghdr *h)
{
	const struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	struct subnets *list = ctx;

	if (rt->rtm_dst_len == 0 || rt->rtm_table == RT_TABLE_LOCAL || rt->rtm_flags & RTM_F_CLONED)
		return 0;
	nl_each(a, h, sizeof *rt)
		if (mnl_attr_get_type(a) == RTA_DST)
			*vec_push(list) = (struct subnet){ ntohl(mnl_attr_get_u32(a)), rt->rtm_dst_len };
	return 0;
}

struct err *link_routes(int route_fd, struct subnets *out_subnets)
{
	const struct rtmsg head = { .rtm_family = AF_INET };
	auto_batch struct nl_batch m = NL_BATCH();

	nl_msg(&m, RTM_GETROUTE, NLM_F_DUMP, &head, sizeof head);
	return nl_query(route_fd, &m, "list routes", add_route, out_subnets);
}

struct err *link_sysctl_get(const char *path, char *out, size_t size)
{
	char full[128];
	auto_fd int fd = -1;
	ssize_t n;

	(void)snprintf(full, sizeof full, "/proc/sys/net/%s", path);
	*out = 0;
	fd = sys_open(full, O_RDONLY, 0);
	if (fd == -ENOENT)
		return NULL;
	n = fd < 0 ? fd : sys_read(fd, out, size - 1);
	if (n < 0)
		return FAIL_OS((int)-n, "read %s", full);
	out[n] = 0;
	out[strcspn(out, "\n")] = 0;
	return NULL;
}

static int sysctl_write(const char *path, const char *value)
{
	char full[128];
	auto_fd int fd = -1;

	(void)snprintf(full, sizeof full, "/proc/sys/net/%s", path);
	fd = sys_open(full, O_WRONLY, 0);
	return fd < 0 ? fd : sys_write_all(fd, value, strlen(value));
}

struct err *link_sysctl_set(const char *path, const char *value)
{
	int r = sysctl_write(path, value);

	return r < 0 ? FAIL_OS(-r, "set net/%s to %s", path, value) : NULL;
}

void link_mac(uint32_t ip, uint8_t out_mac[6])
{
	const uint8_t mac[6] = { 2, 0x42, (uint8_t)(ip >> 24), (uint8_t)(ip >> 16), (uint8_t)(ip >> 8), (uint8_t)ip };

	memcpy(out_mac, mac, sizeof mac);
}

const char *link_mac_text(const uint8_t mac[6], char out[LINK_MAC_TEXT])
{
	(void)snprintf(out, LINK_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return out;
}

/* -1: none. */
static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

bool link_mac_parse(const char *text, uint8_t out_mac[6])
{
	char sep = strlen(text) == LINK_MAC_TEXT - 1 ? text[2] : 0;

	if (sep != ':' && sep != '-')
		return false;
	for (size_t i = 0; i < 6; i++) {
		int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);

		if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != sep))
			return false;
		out_mac[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static void add_address(struct nl_batch *m, int index, uint32_t ip, struct subnet s)
{
	const struct ifaddrmsg i = { .ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)s.prefix_len,
				     .ifa_index = (unsigned)index };

	nl_msg(m, RTM_NEWADDR, ADD, &i, sizeof i);
	nl_be32(m, IFA_LOCAL, ip);
	nl_be32(m, IFA_ADDRESS, ip);
	nl_be32(m, IFA_BROADCAST, subnet_last(s));
}

static struct err *bridge_set_up(int route_fd, const struct link_bridge *b, int *out_index)
{
	auto_batch struct nl_batch m = NL_BATCH();
	char path[80];
	struct link l;
	int r;

	TRY(link_get(route_fd, b->name, &l));
	(void)snprintf(path, sizeof path, "ipv6/conf/%s/disable_ipv6", b->name);
	r = sysctl_write(path, "1");
	if (r < 0 && r != -ENOENT) /* a kernel without IPv6 is fine */
		return FAIL_OS(-r, "set net/%s", path);
	(void)snprintf(path, sizeof path, "ipv4/conf/%s/route_localnet", b->name);
	TRY(link_sysctl_set(path, "1"));
	add_address(&m, l.index, b->gateway, b->subnet);
	link_msg(&m, RTM_SETLINK, NLM_F_ACK, l.index, true);
	nl_u32(&m, IFLA_MTU, b->mtu); /* set after birth: only then it stays when ports come and go (br_change_mtu) */
	TRY(nl_send(route_fd, &m, "set up bridge", NULL));
	*out_index = l.index;
	return NULL;
}

struct err *link_bridge_add(int route_fd, const struct link_bridge *b, int *out_index)
{
	auto_batch struct nl_batch m = NL_BATCH();
	uint8_t mac[6];
	struct err *e;

	link_mac(b->gateway, mac);
	link_msg(&m, RTM_NEWLINK, ADD, 0, false);
	nl_str(&m, IFLA_IFNAME, b->name);
	nl_put(&m, IFLA_ADDRESS, mac, sizeof mac); /* else it changes with every port that comes and goes */
	nl_nest(&m, IFLA_LINKINFO);
	nl_str(&m, IFLA_INFO_KIND, "bridge");
	TRY(nl_send(route_fd, &m, "create bridge", NULL));
	e = bridge_set_up(route_fd, b, out_index);
	if (e)
		err_free(link_delete(route_fd, b->name));
	return e;
}

struct err *link_delete(int route_fd, const char *name)
{
	auto_batch struct nl_batch m = NL_BATCH();
	struct err *e;

	link_msg(&m, RTM_DELLINK, NLM_F_ACK, 0, false);
	nl_str(&m, IFLA_IFNAME, name);
	e = nl_send(route_fd, &m, "delete link", NULL);
	if (e && e->os == ENODEV) {
		err_free(e);
		e = NULL;
	}
	return e;
}

/* What has to be done with our thread inside the container's namespace. */
struct inside {
	int route_fd;
	bool want_eth0;
};

static int step_inside(void *arg)
{
	struct inside *in = arg;
	int r;

	if (in->want_eth0) {
		r = sysctl_write("ipv6/conf/eth0/disable_ipv6", "1");
		if (r < 0 && r != -ENOENT && r != -EROFS)
			return r;
	}
	in->route_fd = sys_netlink_open(NETLINK_ROUTE);
	return in->route_fd < 0 ? in->route_fd : 0;
}

static struct err *enter(int net_fd, bool want_eth0, int *out_route_fd)
{
	struct inside in = { -1, want_eth0 };
	int r = sys_in_netns(net_fd, step_inside, &in);

	if (r < 0)
		return FAIL_OS(-r, "enter the network namespace");
	*out_route_fd = in.route_fd;
	return NULL;
}

static void lo_up(struct nl_batch *m)
{
	link_msg(m, RTM_SETLINK, NLM_F_ACK, 1, true); /* lo is born first in every namespace */
}

struct err *link_loopback(int net_fd)
{
	auto_batch struct nl_batch m = NL_BATCH();
	auto_fd int fd = -1;

	TRY(enter(net_fd, false, &fd));
	lo_up(&m);
	return nl_send(fd, &m, "set lo up", NULL);
}

static struct err *veth_inside(const struct link_veth *v)
{
	const struct rtmsg route = { .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
				     .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST };
	auto_batch struct nl_batch m = NL_BATCH();
	auto_fd int fd = -1;
	struct link eth0;

	TRY(enter(v->net_fd, true, &fd));
	TRY(link_get(fd, "eth0", &eth0));
	lo_up(&m);
	add_address(&m, eth0.index, v->ip, v->subnet);
	link_msg(&m, RTM_SETLINK, NLM_F_ACK, eth0.index, true);
	if (v->gateway) {
		nl_msg(&m, RTM_NEWROUTE, ADD, &route, sizeof route);
		nl_be32(&m, RTA_GATEWAY, v->gateway);
		nl_u32(&m, RTA_OIF, (uint32_t)eth0.index);
	}
	link_msg(&m, RTM_GETLINK, 0, eth0.index, false); /* see activate */
	return nl_send(fd, &m, "address and route of eth0", NULL);
}

/*
 * A link whose carrier came up gets its queue from a work item (linkwatch), which waits for the rtnl lock; until then packets
 * are dropped, and a first SYN that is lost costs the program in the container a second. Asking for a link does that work at
 * once (rtnl_getlink: linkwatch_sync_dev): on both ends, then on the bridge, whose carrier is that of its ports.
 */
static struct err *activate(int route_fd, const char *veth, int bridge)
{
	auto_batch struct nl_batch m = NL_BATCH();

	link_msg(&m, RTM_GETLINK, 0, 0, false);
	nl_str(&m, IFLA_IFNAME, veth);
	link_msg(&m, RTM_GETLINK, 0, bridge, false);
	return nl_send(route_fd, &m, "activate links", NULL);
}

struct err *link_veth_add(int route_fd, const struct link_veth *v)
{
	const struct ifinfomsg peer = { 0 };
	auto_batch struct nl_batch m = NL_BATCH();
	uint32_t at = 0;
	struct err *e;

	link_msg(&m, RTM_NEWLINK, ADD, 0, true);
	nl_str(&m, IFLA_IFNAME, v->name);
	nl_u32(&m, IFLA_MTU, v->mtu);
	nl_u32(&m, IFLA_MASTER, (uint32_t)v->bridge);
	nl_nest(&m, IFLA_LINKINFO);
	nl_str(&m, IFLA_INFO_KIND, "veth");
	nl_nest(&m, IFLA_INFO_DATA);
	nl_nest_head(&m, VETH_INFO_PEER, &peer, sizeof peer);
	nl_str(&m, IFLA_IFNAME, "eth0");
	nl_u32(&m, IFLA_MTU, v->mtu);
	nl_put(&m, IFLA_ADDRESS, v->mac, 6);
	nl_u32(&m, IFLA_NET_NS_FD, (uint32_t)v->net_fd);
	/* Hairpin: a container reaches its own published port through the bridge port it came from (bridge-nf-call). */
	link_msg(&m, RTM_NEWLINK, NLM_F_ACK, 0, false);
	nl_str(&m, IFLA_IFNAME, v->name);
	nl_nest(&m, IFLA_LINKINFO);
	nl_str(&m, IFLA_INFO_SLAVE_KIND, "bridge");
	nl_nest(&m, IFLA_INFO_SLAVE_DATA);
	nl_put(&m, IFLA_BRPORT_MODE, &(const uint8_t){ 1 }, 1);
	e = nl_send(route_fd, &m, "create veth", &at);
	if (e && e->os == EXFULL) {
		err_free(e);
		return FAIL(ERR_LIMIT, "it is full: a bridge has at most 1023 ports");
	}
	if (e && at == 0)
		return e;
	if (!e)
		e = veth_inside(v);
	if (!e)
		e = activate(route_fd, v->name, v->bridge);
	if (e)
		err_free(link_delete(route_fd, v->name));
	return e;
}
