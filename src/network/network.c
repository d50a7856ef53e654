/*
 * network.c - attach: reserve in the database (one durable transaction), then bridge, veth, table. Detach: the same backwards.
 * So the database always knows at least what the kernel has, and reconcile can drop what nobody owns.
 *
 * The lock is a flock on the network namespace's own inode (nsfs): all processes that could touch the same links and tables
 * meet there, whatever their RUN is, and no file is left behind.
 */
#include "network/network.h"
#include "base/buf.h"
#include "base/own.h"
#include "base/text.h"
#include "network/flow.h"
#include "network/link.h"
#include "network/private.h"
#include "sys/entropy.h"
#include "sys/netlink.h"
#include "state/record.h"
#include "sys/sys.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <sys/file.h>

#define FORWARD	    "ipv4/ip_forward"
#define FORWARD_MARK "ip_forward-was-0" /* in RUN: the table's comment is lost when somebody flushes the ruleset */

struct kernel { /* one operation's sockets */
	int lock_fd, route_fd, nft_fd;
};

static void kernel_close(struct kernel *k)
{
	own_close(&k->lock_fd); /* first: closing the next may wait until what was deleted is freed (nft_rcv_nl_event) */
	own_close(&k->nft_fd);
	own_close(&k->route_fd);
}
#define auto_kernel __attribute__((cleanup(kernel_close)))
#define KERNEL	    ((struct kernel){ -1, -1, -1 })

struct err *net_lock(int *out_fd)
{
	auto_fd int fd = sys_open("/proc/thread-self/ns/net", O_RDONLY, 0);
	int r = fd < 0 ? fd : sys_flock(fd, LOCK_EX);

	if (r < 0)
		return FAIL_OS(-r, "lock the network namespace");
	*out_fd = TAKE_FD(fd);
	return NULL;
}

static struct err *netlink_open(int protocol, int *out_fd)
{
	int fd = sys_netlink_open(protocol);

	if (fd < 0)
		return FAIL_OS(-fd, "open netlink");
	*out_fd = fd;
	return NULL;
}

struct err *net_route_open(int *out_fd)
{
	return netlink_open(NETLINK_ROUTE, out_fd);
}

static struct err *kernel_open(struct kernel *k)
{
	TRY(net_lock(&k->lock_fd));
	TRY(net_route_open(&k->route_fd));
	k->nft_fd = sys_netlink_open(NETLINK_NETFILTER);
	if (k->nft_fd < 0 && k->nft_fd != -EPROTONOSUPPORT) /* that: there can't be a table of ours, and none be made */
		return FAIL_OS(-k->nft_fd, "open netlink");
	return NULL;
}

static struct err *need_nft(const struct kernel *k)
{
	return k->nft_fd >= 0 ? NULL :
				FAIL(ERR_UNSUPPORTED, "this kernel has no nf_tables: only --network host, none and container work");
}

struct err *network_open(struct db *db, int run_fd, struct network **out_n)
{
	char self[40], path[4096];
	uint32_t hash = 2166136261u; /* FNV-1a: names need to differ, not to be secret */
	struct network *n;
	ssize_t len;

	(void)snprintf(self, sizeof self, "/proc/self/fd/%d", run_fd);
	len = sys_readlink(AT_FDCWD, self, path, sizeof path);
	if (len < 0)
		return FAIL_OS((int)-len, "name of the run directory");
	for (const char *p = path; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	n = xnew(struct network);
	n->db = db;
	n->run_fd = run_fd;
	n->is_default = strcmp(path, "/run/hoy") == 0;
	if (n->is_default)
		(void)snprintf(n->table, sizeof n->table, "hoy");
	else
		(void)snprintf(n->table, sizeof n->table, "hoy-%08x", hash);
	*out_n = n;
	return NULL;
}

void network_close(struct network *n)
{
	free(n);
}

/* ---- definitions ---- */

struct net_def net_def_new(const struct network *n, const char *name)
{
	struct net_def d = { .is_auto = true };

	sys_random_hex(d.id, 32);
	(void)snprintf(d.name, sizeof d.name, "%s", name);
	if (n->is_default && strcmp(name, DEFAULT_NETWORK) == 0)
		(void)snprintf(d.bridge, sizeof d.bridge, "hoy0");
	else
		(void)snprintf(d.bridge, sizeof d.bridge, "hoy-%.8s", d.id);
	return d;
}

struct err *net_taken(struct db_txn *txn, int route_fd, const char *except, struct subnets *out_taken)
{
	struct defs defs = { 0 };
	struct err *e = link_routes(route_fd, out_taken);

	if (!e)
		e = def_list(txn, &defs);
	for (size_t i = 0; !e && i < defs.n; i++)
		if (!except || strcmp(defs.p[i].id, except) != 0)
			*vec_push(out_taken) = defs.p[i].subnet;
	vec_fini(&defs);
	return e;
}

static struct err *store_subnet(struct db_txn *txn, struct net_def *d, struct subnet s)
{
	auto_json json_t *old = NULL, *o = NULL;
	struct err *e = def_read(txn, d->id, &old, NULL);

	err_free(e); /* absent: it is new */
	d->subnet = s;
	d->gateway = s.base + 1;
	o = def_object(d, json_object_get(old, "Labels"));
	return def_write(txn, d, o);
}

/* Makes sure that the subnet of a network that is not up yet is free on this host now. */
static struct err *settle_subnet(struct db_txn *txn, int route_fd, struct net_def *d)
{
	struct subnets taken = { 0 };
	struct subnet s = d->subnet;
	char text[20];
	struct err *e = net_taken(txn, route_fd, d->id, &taken);
	bool clash = !s.prefix_len;

	for (size_t i = 0; !e && i < taken.n; i++)
		clash = clash || subnet_overlaps(s, taken.p[i]);
	if (!e && clash && !d->is_auto)
		e = FAIL(ERR_CONFLICT, "network %s: a route of this host overlaps its subnet %s", d->name, subnet_text(s, text));
	if (!e && clash)
		e = subnet_choose(taken.p, taken.n, &s);
	if (!e && clash)
		e = store_subnet(txn, d, s);
	vec_fini(&taken);
	return e;
}

struct err *net_find(const struct network *n, struct db_txn *txn, int route_fd, const char *text, struct net_def *out_def)
{
	struct err *e = def_find(txn, text, out_def);

	if (!e || e->kind != ERR_NOT_FOUND || strcmp(text, DEFAULT_NETWORK) != 0)
		return e;
	err_free(e);
	*out_def = net_def_new(n, DEFAULT_NETWORK);
	return settle_subnet(txn, route_fd, out_def);
}

/* ---- the table ---- */

static bool has_link(const struct links *links, const char *name)
{
	for (size_t i = 0; i < links->n; i++)
		if (strcmp(links->p[i].name, name) == 0)
			return true;
	return false;
}

static bool is_among(const struct endpoints *list, const struct endpoint *e)
{
	for (size_t i = 0; i < list->n; i++)
		if (strcmp(list->p[i].container, e->container) == 0 && strcmp(list->p[i].network, e->network) == 0)
			return true;
	return false;
}

/* What the table should hold when `gone` are gone: networks that are used, or whose bridges are among `present`. */
static struct err *wanted(const struct network *n, const struct endpoints *gone, const struct links *present,
			  struct table *out)
{
	auto_endpoints struct endpoints all = { 0 };
	auto_txn struct db_txn *txn = NULL;
	struct defs defs = { 0 };
	struct err *e;

	(void)snprintf(out->name, sizeof out->name, "%s", n->table);
	TRY(db_begin_read(n->db, &txn));
	TRY(endpoint_list(txn, NULL, &all));
	e = def_list(txn, &defs);
	for (size_t d = 0; !e && d < defs.n; d++) {
		bool used = has_link(present, defs.p[d].bridge);

		for (size_t i = 0; i < all.n; i++) {
			if (strcmp(all.p[i].network, defs.p[d].id) != 0 || is_among(gone, &all.p[i]))
				continue;
			used = true;
			endpoint_ports(&all.p[i], out);
		}
		if (used) {
			struct table_net *net = vec_push(&out->nets);

			*net = (struct table_net){ .subnet = defs.p[d].subnet, .is_internal = defs.p[d].is_internal };
			memcpy(net->bridge, defs.p[d].bridge, sizeof net->bridge);
		}
	}
	vec_fini(&defs);
	return e;
}

static struct err *find_table(const struct network *n, const struct kernel *k, struct table_found *out)
{
	struct stat st;

	*out = (struct table_found){ 0 };
	if (k->nft_fd >= 0)
		TRY(table_find(k->nft_fd, n->table, out));
	if (sys_fstatat(n->run_fd, FORWARD_MARK, &st, AT_SYMLINK_NOFOLLOW) == 0)
		out->forward_was_off = true;
	return NULL;
}

/* The mark and the table first: they remember what ip_forward was, also when we die before it is set. */
static struct err *replace(const struct network *n, const struct kernel *k, const struct table_found *found,
			   const struct endpoints *gone)
{
	auto_table struct table t = { 0 };
	struct links present = { 0 };
	struct err *e = link_list(k->route_fd, "hoy", &present);
	char forward[8];

	if (!e)
		e = wanted(n, gone, &present, &t);
	vec_fini(&present);
	if (e)
		return e;
	TRY(link_sysctl_get(FORWARD, forward, sizeof forward));
	t.forward_was_off = found->forward_was_off || (!found->exists && strcmp(forward, "0") == 0);
	if (t.forward_was_off)
		TRY(record_write_volatile(n->run_fd, FORWARD_MARK, "", 0));
	TRY(need_nft(k));
	TRY(table_replace(k->nft_fd, &t));
	return strcmp(forward, "1") == 0 ? NULL : link_sysctl_set(FORWARD, "1");
}

static struct err *change_ports(const struct network *n, const struct kernel *k, const struct endpoints *which, bool add)
{
	auto_table struct table t = { 0 };

	(void)snprintf(t.name, sizeof t.name, "%s", n->table);
	for (size_t i = 0; i < which->n; i++)
		endpoint_ports(&which->p[i], &t);
	TRY(need_nft(k));
	return table_ports(k->nft_fd, &t, add);
}

/* The bridges of networks that nobody uses any more. */
static struct err *delete_bridges(const struct network *n, const struct kernel *k, const struct table *stay)
{
	auto_txn struct db_txn *txn = NULL;
	struct defs defs = { 0 };
	struct err *e;

	TRY(db_begin_read(n->db, &txn));
	e = def_list(txn, &defs);
	for (size_t d = 0; !e && d < defs.n; d++) {
		bool used = false;

		for (size_t i = 0; i < stay->nets.n; i++)
			used = used || strcmp(stay->nets.p[i].bridge, defs.p[d].bridge) == 0;
		if (!used)
			e = link_delete(k->route_fd, defs.p[d].bridge);
	}
	vec_fini(&defs);
	return e;
}

static struct err *loses_network(const struct network *n, const struct table *stay, const struct endpoints *gone,
				 bool *out_loses)
{
	auto_txn struct db_txn *txn = NULL;
	bool loses = false;

	TRY(db_begin_read(n->db, &txn));
	for (size_t i = 0; i < gone->n; i++) {
		struct net_def d;
		bool used = false;

		TRY(def_read(txn, gone->p[i].network, NULL, &d));
		for (size_t k = 0; k < stay->nets.n; k++)
			used = used || strcmp(stay->nets.p[k].bridge, d.bridge) == 0;
		loses = loses || !used;
	}
	*out_loses = loses;
	return NULL;
}

/* ip_forward goes back first (unless another instance needs it), what remembers it goes last. */
static struct err *take_down(const struct network *n, const struct kernel *k, const struct table_found *found)
{
	const struct table none = { 0 };

	int r;

	TRY(delete_bridges(n, k, &none));
	if (found->forward_was_off && !found->others)
		TRY(link_sysctl_set(FORWARD, "0"));
	if (found->exists)
		TRY(table_delete(k->nft_fd, n->table));
	r = sys_unlink(n->run_fd, FORWARD_MARK);
	return r < 0 && r != -ENOENT ? FAIL_OS(-r, "remove %s", FORWARD_MARK) : NULL;
}

/* The ports of `gone` go; bridges stay, with their elements. */
static struct err *withdraw_ports(const struct network *n, const struct kernel *k, const struct endpoints *gone)
{
	struct table_found found;
	struct err *e;

	TRY(find_table(n, k, &found));
	e = change_ports(n, k, gone, false);
	if (!e)
		return NULL;
	err_free(e); /* somebody changed our table: nothing of the batch was done */
	return replace(n, k, &found, gone);
}

/* The kernel without `gone`. */
static struct err *withdraw(const struct network *n, const struct kernel *k, const struct endpoints *gone)
{
	auto_table struct table stay = { 0 };
	const struct links none = { 0 };
	struct table_found found;
	bool fewer;

	TRY(find_table(n, k, &found));
	TRY(wanted(n, gone, &none, &stay));
	if (stay.nets.n == 0)
		return take_down(n, k, &found);
	TRY(loses_network(n, &stay, gone, &fewer));
	if (!fewer)
		return withdraw_ports(n, k, gone);
	TRY(delete_bridges(n, k, &stay));
	return replace(n, k, &found, gone);
}

/* Best effort: without conntrack in the kernel there is nothing to forget. */
static void forget_flows(const struct kernel *k, const struct endpoints *changed)
{
	auto_table struct table t = { 0 };

	for (size_t i = 0; i < changed->n; i++)
		endpoint_ports(&changed->p[i], &t);
	err_free(flow_forget(k->nft_fd, &t));
}

static struct err *forget(const struct network *n, const struct endpoints *gone)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_write(n->db, &txn));
	for (size_t i = 0; i < gone->n; i++)
		TRY(endpoint_drop(txn, &gone->p[i]));
	return db_commit(TAKE(txn));
}

static struct err *release(const struct network *n, const struct kernel *k, const struct endpoints *gone)
{
	if (!gone->n)
		return NULL;
	TRY(withdraw(n, k, gone));
	forget_flows(k, gone);
	return forget(n, gone);
}

/* ---- attach ---- */

static struct err *check(const struct net_attach *a)
{
	if (!text_is_name(sv_of(a->container)) || strlen(a->container) > 64)
		return FAIL(ERR_INVALID, "\"%s\" is not a container id", a->container);
	for (size_t i = 0; i < a->n_ports; i++) {
		const struct net_port *p = &a->ports[i];

		if (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP)
			return FAIL(ERR_UNSUPPORTED, "port %u: protocol number %u cannot be published", p->port, p->proto);
		if (!p->port)
			return FAIL(ERR_INVALID, "port 0 of a container cannot be published");
	}
	return NULL;
}

/* Records address and ports; the subnet of a network that is not up is checked against the host as it is now. */
static struct err *reserve(const struct network *n, const struct kernel *k, const struct net_attach *a, struct net_def *out_def,
			   struct endpoint *e)
{
	auto_endpoints struct endpoints mine = { 0 };
	auto_txn struct db_txn *txn = NULL;
	struct link bridge;

	TRY(db_begin_write(n->db, &txn));
	TRY(net_find(n, txn, k->route_fd, a->network, out_def));
	TRY(endpoint_list(txn, a->container, &mine));
	if (mine.n)
		return FAIL(ERR_CONFLICT, "container %.12s is already attached to a network", a->container);
	TRY(link_get(k->route_fd, out_def->bridge, &bridge));
	if (!bridge.index)
		TRY(settle_subnet(txn, k->route_fd, out_def));
	(void)snprintf(e->container, sizeof e->container, "%s", a->container);
	memcpy(e->network, out_def->id, sizeof e->network);
	memcpy(e->veth, "hoy", 4);
	sys_random_hex(e->veth + 3, 4);
	e->names = text_list_dup(a->names);
	e->n_ports = a->n_ports;
	e->ports = xcalloc(a->n_ports + 1, sizeof *e->ports);
	if (a->n_ports)
		memcpy(e->ports, a->ports, a->n_ports * sizeof *e->ports);
	memcpy(e->mac, a->want_mac, sizeof e->mac);
	TRY(endpoint_add(txn, out_def, ntohl(a->want_ip), e));
	return db_commit(TAKE(txn));
}

static struct err *bridge_up(const struct kernel *k, const struct net_def *d, struct link *out_bridge)
{
	struct link_bridge b = { d->bridge, d->subnet, d->gateway, d->mtu };

	if (!b.mtu)
		TRY(link_uplink_mtu(k->route_fd, &b.mtu));
	TRY(link_bridge_add(k->route_fd, &b, &out_bridge->index));
	out_bridge->mtu = b.mtu;
	return NULL;
}

/* The table first: no packet passes a bridge the table does not know, whenever we die. */
static struct err *connect_all(const struct network *n, const struct kernel *k, int net_fd, const struct net_def *d,
			       const struct endpoints *one, unsigned *out_mtu)
{
	const struct endpoint *e = &one->p[0];
	const struct endpoints none = { 0 };
	struct link_veth v = { .name = e->veth, .net_fd = net_fd, .subnet = d->subnet, .ip = e->ip, .mac = e->mac,
			       .gateway = d->is_internal ? 0 : d->gateway };
	struct table_found found;
	struct link bridge;
	struct err *err;

	TRY(find_table(n, k, &found));
	TRY(link_get(k->route_fd, d->bridge, &bridge));
	if (bridge.index && found.exists)
		err = change_ports(n, k, one, true);
	else
		err = FAIL(ERR_NOT_FOUND, "not in the table");
	if (err) { /* or somebody changed our table */
		err_free(err);
		TRY(replace(n, k, &found, &none));
	}
	if (!bridge.index)
		TRY(bridge_up(k, d, &bridge));
	v.bridge = bridge.index;
	*out_mtu = v.mtu = bridge.mtu;
	return link_veth_add(k->route_fd, &v);
}

static void fill_result(const struct net_def *d, const struct endpoint *e, unsigned mtu, struct net_result *out)
{
	*out = (struct net_result){ .prefix_len = d->subnet.prefix_len, .mtu = mtu };
	(void)ip_text(e->ip, out->ip);
	(void)ip_text(d->gateway, out->gateway);
	(void)link_mac_text(e->mac, out->mac);
	memcpy(out->network_id, d->id, sizeof out->network_id);
	memcpy(out->veth, e->veth, sizeof out->veth);
}

bool network_mac_parse(const char *text, uint8_t out_mac[6])
{
	static const uint8_t zero[6];

	return link_mac_parse(text, out_mac) && !(out_mac[0] & 1) && memcmp(out_mac, zero, sizeof zero) != 0;
}

struct err *network_attach(struct network *n, const struct net_attach *a, struct net_result *out_result)
{
	auto_endpoints struct endpoints one = { 0 };
	auto_kernel struct kernel k = KERNEL;
	unsigned mtu = 0;
	struct net_def d;
	struct err *e;

	TRY(check(a));
	TRY(kernel_open(&k));
	TRY(reserve(n, &k, a, &d, vec_push(&one)));
	e = connect_all(n, &k, a->net_fd, &d, &one, &mtu);
	if (e) {
		err_free(link_delete(k.route_fd, one.p[0].veth));
		err_free(release(n, &k, &one)); /* what this leaves, reconcile drops */
		return err_ctx(e, "network %s", d.name);
	}
	if (a->n_ports)
		memcpy(a->ports, one.p[0].ports, a->n_ports * sizeof *a->ports);
	forget_flows(&k, &one);
	fill_result(&d, &one.p[0], mtu, out_result);
	return NULL;
}

/* ---- detach, reconcile ---- */

static struct err *endpoints_read(const struct network *n, const char *container, struct endpoints *out)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(n->db, &txn));
	return endpoint_list(txn, container, out);
}

struct err *network_leave(struct network *n, const char *container)
{
	auto_endpoints struct endpoints gone = { 0 };
	auto_kernel struct kernel k = KERNEL;

	TRY(kernel_open(&k));
	TRY(endpoints_read(n, container, &gone));
	if (!gone.n)
		return NULL;
	TRY(withdraw_ports(n, &k, &gone));
	forget_flows(&k, &gone);
	return forget(n, &gone);
}

struct err *network_detach(struct network *n, const char *container)
{
	auto_endpoints struct endpoints gone = { 0 };
	auto_kernel struct kernel k = KERNEL;

	TRY(kernel_open(&k));
	TRY(endpoints_read(n, container, &gone));
	return release(n, &k, &gone);
}

struct err *network_collect(struct network *n)
{
	auto_table struct table stay = { 0 }, now = { 0 };
	const struct endpoints nobody = { 0 };
	auto_kernel struct kernel k = KERNEL;
	struct links present = { 0 };
	const struct links none = { 0 };
	struct table_found found;
	struct err *e;

	TRY(kernel_open(&k));
	TRY(find_table(n, &k, &found));
	TRY(wanted(n, &nobody, &none, &stay));
	if (stay.nets.n == 0)
		return take_down(n, &k, &found);
	e = link_list(k.route_fd, "hoy", &present);
	if (!e)
		e = wanted(n, &nobody, &present, &now);
	vec_fini(&present);
	if (e || now.nets.n == stay.nets.n)
		return e;
	TRY(delete_bridges(n, &k, &stay));
	return replace(n, &k, &found, &nobody);
}

static struct err *restore(const struct network *n, const struct kernel *k, bool any_left)
{
	const struct endpoints none = { 0 };
	struct table_found found;

	TRY(find_table(n, k, &found));
	if (!any_left)
		return take_down(n, k, &found);
	return found.exists ? NULL : replace(n, k, &found, &none);
}

struct err *network_reconcile(struct network *n, bool (*is_alive)(void *ctx, const char *container), void *ctx)
{
	auto_endpoints struct endpoints all = { 0 };
	auto_kernel struct kernel k = KERNEL;
	struct endpoints gone = { 0 };
	struct links links = { 0 };
	struct err *e;

	TRY(kernel_open(&k));
	TRY(endpoints_read(n, NULL, &all));
	e = link_list(k.route_fd, "hoy", &links);
	for (size_t i = 0; !e && i < all.n; i++)
		if (!has_link(&links, all.p[i].veth) && !is_alive(ctx, all.p[i].container))
			*vec_push(&gone) = all.p[i]; /* its strings stay all's */
	if (!e)
		e = gone.n ? release(n, &k, &gone) : restore(n, &k, all.n > 0);
	vec_fini(&gone);
	vec_fini(&links);
	return e;
}

struct err *network_loopback(int net_fd)
{
	return link_loopback(net_fd);
}

/* ---- footprint ---- */

static void add_line(char ***list, const char *what, const char *name)
{
	auto_buf struct buf b = BUF(256);

	buf_fmt(&b, "%s %s", what, name);
	text_list_add(list, buf_text(&b));
}

static struct err *own_bridges(const struct network *n, struct defs *out)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(n->db, &txn));
	return def_list(txn, out);
}

struct err *network_footprint(struct network *n, char ***out_lines)
{
	auto_endpoints struct endpoints all = { 0 };
	auto_kernel struct kernel k = KERNEL;
	auto_list char **lines = xcalloc(1, sizeof *lines);
	struct table_found found;
	struct links links = { 0 };
	struct defs defs = { 0 };
	struct err *e;

	TRY(kernel_open(&k));
	TRY(endpoints_read(n, NULL, &all));
	e = own_bridges(n, &defs);
	if (!e)
		e = link_list(k.route_fd, "hoy", &links);
	for (size_t i = 0; !e && i < defs.n; i++)
		if (has_link(&links, defs.p[i].bridge))
			add_line(&lines, "link", defs.p[i].bridge);
	for (size_t i = 0; !e && i < all.n; i++)
		if (has_link(&links, all.p[i].veth))
			add_line(&lines, "link", all.p[i].veth);
	vec_fini(&links);
	vec_fini(&defs);
	if (e)
		return e;
	TRY(find_table(n, &k, &found));
	if (found.exists)
		add_line(&lines, "nftables table inet", n->table);
	if (found.exists && found.forward_was_off)
		add_line(&lines, "sysctl", "net.ipv4.ip_forward=1 (was 0)");
	*out_lines = TAKE(lines);
	return NULL;
}
