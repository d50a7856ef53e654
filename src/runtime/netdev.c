#include "runtime/netdev.h"
#include "base/own.h"
#include "sys/netlink.h"
#include "sys/sys.h"
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>

enum { ANSWER_MAX = 32768, NAMES_MAX = 1024 };

/* A request in the making. */
struct request {
	_Alignas(struct nlmsghdr) char bytes[4096];
};

static struct nlmsghdr *head_of(struct request *r)
{
	return (struct nlmsghdr *)(void *)r->bytes;
}

static void begin(struct request *r, uint16_t type, uint16_t flags, const void *fixed, size_t n)
{
	memset(r, 0, sizeof *r);
	*head_of(r) = (struct nlmsghdr){ .nlmsg_len = (uint32_t)NLMSG_LENGTH(n),
					 .nlmsg_type = type,
					 .nlmsg_seq = 1,
					 .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) };
	memcpy(r->bytes + NLMSG_HDRLEN, fixed, n);
}

/* What does not fit makes the kernel refuse the message: names and addresses do. */
static void put(struct request *r, uint16_t type, const void *p, size_t n)
{
	size_t at = NLMSG_ALIGN(head_of(r)->nlmsg_len), whole = RTA_LENGTH(n);
	struct rtattr a = { .rta_len = (unsigned short)whole, .rta_type = type };

	if (at + RTA_ALIGN(whole) > sizeof r->bytes)
		return;
	memcpy(r->bytes + at, &a, sizeof a);
	memcpy(r->bytes + at + RTA_LENGTH(0), p, n);
	head_of(r)->nlmsg_len = (uint32_t)(at + whole);
}

/* Sends it and calls each for every answer until the acknowledgement or the end of a dump. >= 0 or -errno. */
static int ask(int fd, struct request *r, int (*each)(void *ctx, struct nlmsghdr *h), void *ctx)
{
	_Alignas(struct nlmsghdr) char answer[ANSWER_MAX];
	int result = sys_netlink_send(fd, r->bytes, head_of(r)->nlmsg_len);

	while (result >= 0) {
		ssize_t n = sys_netlink_recv(fd, answer, sizeof answer);
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)answer;

		if (n < 0 || n > (ssize_t)sizeof answer)
			return n < 0 ? (int)n : -EMSGSIZE;
		for (size_t left = (size_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return result;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (each && result >= 0)
				result = each(ctx, h);
		}
	}
	return result;
}

static int take_index(void *ctx, struct nlmsghdr *h)
{
	*(int *)ctx = ((const struct ifinfomsg *)NLMSG_DATA(h))->ifi_index;
	return 0;
}

/* The device's index, or -ENODEV. */
static int find(int fd, const char *name)
{
	const struct ifinfomsg none = { 0 };
	struct request r;
	int index = 0, e;

	begin(&r, RTM_GETLINK, NLM_F_ACK, &none, sizeof none);
	put(&r, IFLA_IFNAME, name, strlen(name) + 1);
	e = ask(fd, &r, take_index, &index);
	return e < 0 ? e : index;
}

/* ---- addresses ---- */

struct addresses {
	int index; /* of the device they are wanted of */
	VEC(struct request) list;
};

static void addresses_fini(struct addresses *a)
{
	vec_fini(&a->list);
}

/* A request that adds the address again: what the kernel made of it (label, life time, tentative …) is not
 * taken over. */
static void add_again(struct request *r, struct nlmsghdr *h, uint32_t flags)
{
	const uint32_t kept = flags & (IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR |
				       IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN);
	size_t left = IFA_PAYLOAD(h);

	begin(r, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, NLMSG_DATA(h), sizeof(struct ifaddrmsg));
	for (struct rtattr *a = IFA_RTA((struct ifaddrmsg *)NLMSG_DATA(h)); RTA_OK(a, left);
	     a = RTA_NEXT(a, left))
		if (a->rta_type == IFA_LOCAL || a->rta_type == IFA_ADDRESS || a->rta_type == IFA_BROADCAST ||
		    a->rta_type == IFA_RT_PRIORITY)
			put(r, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
	if (kept)
		put(r, IFA_FLAGS, &kept, sizeof kept);
}

static int keep_address(void *ctx, struct nlmsghdr *h)
{
	struct ifaddrmsg *m = NLMSG_DATA(h);
	struct addresses *all = ctx;
	size_t left = IFA_PAYLOAD(h);
	uint32_t flags = m->ifa_flags;

	for (struct rtattr *a = IFA_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFA_FLAGS && RTA_PAYLOAD(a) == sizeof flags)
			memcpy(&flags, RTA_DATA(a), sizeof flags);
	if ((int)m->ifa_index == all->index && m->ifa_scope == RT_SCOPE_UNIVERSE && (flags & IFA_F_PERMANENT))
		add_again(vec_push(&all->list), h, flags);
	return 0;
}

static int read_addresses(int fd, struct addresses *out)
{
	const struct ifaddrmsg any = { .ifa_family = AF_UNSPEC };
	struct request r;

	begin(&r, RTM_GETADDR, NLM_F_DUMP, &any, sizeof any);
	return ask(fd, &r, keep_address, out);
}

static int add_addresses(int fd, struct addresses *all, int index)
{
	int e = 0;

	for (size_t i = 0; i < all->list.n && e >= 0; i++) {
		((struct ifaddrmsg *)NLMSG_DATA(head_of(&all->list.p[i])))->ifa_index = (uint32_t)index;
		e = ask(fd, &all->list.p[i], NULL, NULL);
	}
	return e;
}

/* ---- the move ---- */

static int set_up(int fd, int index)
{
	const struct ifinfomsg up = { .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct request r;

	begin(&r, RTM_NEWLINK, NLM_F_ACK, &up, sizeof up);
	return ask(fd, &r, NULL, NULL);
}

static int move(int fd, int index, int net_fd, const char *name)
{
	const struct ifinfomsg device = { .ifi_index = index };
	struct request r;

	begin(&r, RTM_NEWLINK, NLM_F_ACK, &device, sizeof device);
	put(&r, IFLA_NET_NS_FD, &net_fd, sizeof net_fd);
	put(&r, IFLA_IFNAME, name, strlen(name) + 1);
	return ask(fd, &r, NULL, NULL);
}

struct device {
	int index;           /* at home */
	char name[IFNAMSIZ]; /* inside */
};
struct devices {
	VEC(struct device) list;
};

static void devices_fini(struct devices *all)
{
	vec_fini(&all->list);
}

/* 1: free in the container and not promised to another device; 0: taken; -errno. */
static int is_free(int inside, const struct devices *all, const char *name)
{
	int index = find(inside, name);

	for (size_t i = 0; i < all->list.n; i++)
		if (strcmp(all->list.p[i].name, name) == 0)
			return 0;
	return index == -ENODEV ? 1 : index < 0 ? index : 0;
}

/* "eth%d": the first number that is free there, as the kernel would choose; any other name as it is. */
static struct err *choose_name(int inside, const struct devices *all, const struct plan_netdev *d,
			       char out[IFNAMSIZ])
{
	const char *digit = strstr(d->name, "%d");

	for (unsigned i = 0; i < NAMES_MAX; i++) {
		int n =
		    digit ? snprintf(out, IFNAMSIZ, "%.*s%u%s", (int)(digit - d->name), d->name, i, digit + 2)
			  : snprintf(out, IFNAMSIZ, "%s", d->name);
		int r = n < IFNAMSIZ ? is_free(inside, all, out) : -ENAMETOOLONG;

		if (r == 1)
			return NULL;
		if (r < 0)
			return FAIL_OS(-r, "linux.netDevices.%s: look for \"%s\" in the container", d->host,
				       out);
		if (!digit)
			break;
	}
	return FAIL(ERR_EXISTS, "linux.netDevices.%s: there is a device \"%s\" in the container already",
		    d->host, d->name);
}

/* All devices are there and all names are free, before the first is moved: a device does not come back from a
 * namespace. */
static struct err *choose_all(const struct plan *p, int home, int inside, struct devices *out)
{
	for (size_t i = 0; i < p->netdevs.n; i++) {
		const struct plan_netdev *d = &p->netdevs.p[i];
		struct device one = { .index = find(home, d->host) };

		if (one.index < 0)
			return FAIL_OS(-one.index, "linux.netDevices: find device \"%s\"", d->host);
		TRY(choose_name(inside, out, d, one.name));
		*vec_push(&out->list) = one;
	}
	return NULL;
}

static struct err *move_one(int home, int inside, int net_fd, const char *host, const struct device *d)
{
	CLEANUP(addresses_fini) struct addresses all = { .index = d->index };
	int e, index;

	if ((e = read_addresses(home, &all)) < 0)
		return FAIL_OS(-e, "linux.netDevices.%s: read its addresses", host);
	if ((e = move(home, d->index, net_fd, d->name)) < 0)
		return FAIL_OS(-e, "linux.netDevices.%s: move it into the container as \"%s\"", host,
			       d->name);
	if ((index = find(inside, d->name)) < 0)
		return FAIL_OS(-index, "linux.netDevices.%s: find it in the container as \"%s\"", host,
			       d->name);
	if ((e = add_addresses(inside, &all, index)) < 0)
		return FAIL_OS(-e, "linux.netDevices.%s: give it its addresses in the container", host);
	e = set_up(inside, index);
	return e < 0 ? FAIL_OS(-e, "linux.netDevices.%s: set it up in the container", host) : NULL;
}

static int open_inside(void *out_fd)
{
	*(int *)out_fd = sys_netlink_open(NETLINK_ROUTE);
	return *(int *)out_fd;
}

struct err *netdev_move_all(const struct plan *p, int net_fd)
{
	CLEANUP(devices_fini) struct devices all = { 0 };
	auto_fd int home = -1, inside = -1;
	int r;

	if (!p->netdevs.n)
		return NULL;
	if ((home = sys_netlink_open(NETLINK_ROUTE)) < 0)
		return FAIL_OS(-home, "linux.netDevices: open netlink");
	if ((r = sys_in_netns(net_fd, open_inside, &inside)) < 0)
		return FAIL_OS(-r, "linux.netDevices: enter the network namespace");
	TRY(choose_all(p, home, inside, &all));
	for (size_t i = 0; i < p->netdevs.n; i++)
		TRY(move_one(home, inside, net_fd, p->netdevs.p[i].host, &all.list.p[i]));
	return NULL;
}
