#include "network/lease.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "network/link.h"
#include "sys/netlink.h"
#include <arpa/inet.h>
#include <stdio.h>

#define BRIDGE_OPTION "com.docker.network.bridge.name"
#define MTU_OPTION    "com.docker.network.driver.mtu"

static const char *proto_text(uint8_t proto)
{
	return proto == IPPROTO_TCP ? "tcp" : "udp";
}

static void copy(char *out, size_t size, const char *text)
{
	(void)snprintf(out, size, "%s", text);
}

/* ---- networks ---- */

static const char *option(const json_t *object, const char *key, const char *fallback)
{
	const char *s = json_string_value(json_object_get(json_object_get(object, "Options"), key));

	return s ? s : fallback;
}

static struct err *def_of(const json_t *o, struct net_def *out)
{
	const json_t *config = json_array_get(json_at(o, "IPAM.Config"), 0);
	uint64_t mtu;

	*out = (struct net_def){ .is_internal = json_bool_at(o, "Internal", false),
				 .is_auto = json_bool_at(o, "HoyAutoSubnet", false) };
	copy(out->id, sizeof out->id, json_str_at(o, "Id", ""));
	copy(out->name, sizeof out->name, json_str_at(o, "Name", ""));
	copy(out->bridge, sizeof out->bridge, option(o, BRIDGE_OPTION, ""));
	TRY(num_parse(sv_of(option(o, MTU_OPTION, "0")), 10, 0, 65535, &mtu));
	out->mtu = (unsigned)mtu;
	TRY(subnet_parse(sv_of(json_str_at(config, "Subnet", "")), &out->subnet));
	return ip_parse(sv_of(json_str_at(config, "Gateway", "")), &out->gateway);
}

json_t *def_object(const struct net_def *d, const json_t *labels)
{
	char subnet[20], gateway[16], mtu[16], now[TIME_TEXT_MAX];
	json_t *options = json_pack("{s:s}", BRIDGE_OPTION, d->bridge);

	(void)snprintf(mtu, sizeof mtu, "%u", d->mtu);
	if (d->mtu)
		(void)json_object_set_new(options, MTU_OPTION, json_string(mtu));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:{s:s, s:{}, s:[{s:s, s:s}]}, s:b, s:b, s:b, s:o, s:o, s:b}", "Name",
			 d->name, "Id", d->id, "Created", time_format(time_now_ns(), now), "Scope", "local", "Driver", "bridge",
			 "EnableIPv6", 0, "IPAM", "Driver", "default", "Options", "Config", "Subnet",
			 subnet_text(d->subnet, subnet), "Gateway", ip_text(d->gateway, gateway), "Internal", d->is_internal,
			 "Attachable", 0, "Ingress", 0, "Options", options, "Labels",
			 labels ? json_deep_copy(labels) : json_object(), "HoyAutoSubnet", d->is_auto);
}

struct err *def_read(struct db_txn *txn, const char *id, json_t **out_object, struct net_def *out_def)
{
	auto_json json_t *o = NULL;
	struct sv value;
	bool found;

	TRY(db_get(txn, DB_NETWORK, id, &value, &found));
	if (!found)
		return FAIL(ERR_NOT_FOUND, "network %s not found", id);
	TRY(json_parse(value, "network record", 1 << 20, &o));
	if (out_def)
		TRY(def_of(o, out_def));
	if (out_object)
		*out_object = TAKE(o);
	return NULL;
}

struct err *def_write(struct db_txn *txn, const struct net_def *d, const json_t *object)
{
	auto_buf struct buf b = BUF(1 << 20);

	json_print(object, &b);
	TRY(buf_check(&b, "network record"));
	TRY(db_put(txn, DB_NETWORK, d->id, sv_from(b.data, b.n)));
	return db_put(txn, DB_NETWORK_NAME, d->name, sv_of(d->id));
}

struct err *def_delete(struct db_txn *txn, const struct net_def *d)
{
	char last[80];

	(void)snprintf(last, sizeof last, "last/%s", d->id);
	TRY(db_delete(txn, DB_LEASE, last));
	TRY(db_delete(txn, DB_NETWORK_NAME, d->name));
	return db_delete(txn, DB_NETWORK, d->id);
}

struct ids {
	char id[65];
	size_t n;
};

static struct err *take_id(void *ctx, struct sv key, struct sv value)
{
	struct ids *ids = ctx;

	(void)value;
	(void)snprintf(ids->id, sizeof ids->id, SV_FMT, SV_ARG(key));
	ids->n++;
	return NULL;
}

struct err *def_find(struct db_txn *txn, const char *text, struct net_def *out_def)
{
	struct ids ids = { 0 };
	struct sv id;
	bool found;

	TRY(db_get(txn, DB_NETWORK_NAME, text, &id, &found));
	if (found) {
		(void)snprintf(ids.id, sizeof ids.id, SV_FMT, SV_ARG(id));
		return def_read(txn, ids.id, NULL, out_def);
	}
	if (text_is_hex(sv_of(text)) && *text)
		TRY(db_scan(txn, DB_NETWORK, text, take_id, &ids));
	if (ids.n > 1)
		return FAIL(ERR_INVALID, "network %s is ambiguous: %zu networks match", text, ids.n);
	if (ids.n == 0)
		return FAIL(ERR_NOT_FOUND, "network %s not found", text);
	return def_read(txn, ids.id, NULL, out_def);
}

static struct err *take_def(void *ctx, struct sv key, struct sv value)
{
	auto_json json_t *o = NULL;
	struct defs *list = ctx;

	(void)key;
	TRY(json_parse(value, "network record", 1 << 20, &o));
	return def_of(o, vec_push(list));
}

struct err *def_list(struct db_txn *txn, struct defs *out_defs)
{
	return db_scan(txn, DB_NETWORK, "", take_def, out_defs);
}

/* ---- endpoints ---- */

void endpoints_fini(struct endpoints *list)
{
	for (size_t i = 0; i < list->n; i++) {
		text_list_free(list->p[i].names);
		free(list->p[i].ports);
	}
	vec_fini(list);
}

static struct err *ports_of(const json_t *array, struct endpoint *e)
{
	const json_t *p;
	size_t i;

	e->ports = xcalloc(json_array_size(array) + 1, sizeof *e->ports);
	json_array_foreach(array, i, p) {
		struct net_port *out = &e->ports[e->n_ports++];
		uint32_t ip;

		TRY(ip_parse(sv_of(json_str_at(p, "HostIp", "")), &ip));
		*out = (struct net_port){ .host_ip = htonl(ip), .host_port = (uint16_t)json_int_at(p, "HostPort", 0),
					  .port = (uint16_t)json_int_at(p, "Port", 0),
					  .proto = strcmp(json_str_at(p, "Proto", "tcp"), "tcp") == 0 ? IPPROTO_TCP
												    : IPPROTO_UDP };
	}
	return NULL;
}

/* key: endpoint/<container>/<network> */
static struct err *take_endpoint(void *ctx, struct sv key, struct sv value)
{
	struct endpoint *e = vec_push((struct endpoints *)ctx);
	auto_json json_t *o = NULL;
	struct sv rest = key, container;

	(void)sv_cut(&rest, '/');
	container = sv_cut(&rest, '/');
	(void)snprintf(e->container, sizeof e->container, SV_FMT, SV_ARG(container));
	(void)snprintf(e->network, sizeof e->network, SV_FMT, SV_ARG(rest));
	TRY(json_parse(value, "endpoint record", 1 << 20, &o));
	copy(e->veth, sizeof e->veth, json_str_at(o, "Veth", ""));
	TRY(ip_parse(sv_of(json_str_at(o, "IPAddress", "")), &e->ip));
	if (!link_mac_parse(json_str_at(o, "MacAddress", ""), e->mac))
		link_mac(e->ip, e->mac);
	TRY(json_list_at(o, "Names", &e->names));
	return ports_of(json_object_get(o, "Ports"), e);
}

struct err *endpoint_list(struct db_txn *txn, const char *container, struct endpoints *out_list)
{
	char prefix[96];

	(void)snprintf(prefix, sizeof prefix, "endpoint/%s%s", container ? container : "", container ? "/" : "");
	return db_scan(txn, DB_LEASE, prefix, take_endpoint, out_list);
}

struct addresses {
	uint32_t *p;
	size_t n, cap;
};

static struct err *take_address(void *ctx, struct sv key, struct sv value)
{
	struct addresses *list = ctx;
	struct sv rest = key;

	(void)value;
	(void)sv_cut(&rest, '/');
	(void)sv_cut(&rest, '/');
	return ip_parse(rest, vec_push(list));
}

static int by_number(const void *a, const void *b)
{
	uint32_t x, y;

	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return x < y ? -1 : x > y;
}

static struct err *check_address(const struct net_def *d, const struct addresses *used, uint32_t want)
{
	char ip[16], subnet[20];

	if (!subnet_has(d->subnet, want) || want == d->subnet.base || want == subnet_last(d->subnet))
		return FAIL(ERR_INVALID, "address %s is not a host of network %s (%s)", ip_text(want, ip), d->name,
			    subnet_text(d->subnet, subnet));
	for (size_t i = 0; i < used->n; i++)
		if (used->p[i] == want)
			return FAIL(ERR_CONFLICT, "address %s is already in use on network %s", ip_text(want, ip), d->name);
	return NULL;
}

static struct err *address_from(struct db_txn *txn, const struct net_def *d, struct addresses *used, uint32_t *out_ip)
{
	uint32_t last = d->gateway;
	char key[80];
	struct sv value;
	bool found;

	(void)snprintf(key, sizeof key, "last/%s", d->id);
	TRY(db_get(txn, DB_LEASE, key, &value, &found));
	if (found)
		TRY(ip_parse(value, &last));
	qsort(used->p, used->n, sizeof *used->p, by_number);
	return ip_choose(d->subnet, used->p, used->n, last, out_ip);
}

static struct err *choose_address(struct db_txn *txn, const struct net_def *d, uint32_t want, uint32_t *out_ip)
{
	struct addresses used = { 0 };
	char key[96], text[16];
	struct err *e;

	(void)snprintf(key, sizeof key, "net/%s/", d->id);
	e = db_scan(txn, DB_LEASE, key, take_address, &used);
	*vec_push(&used) = d->gateway;
	if (!e)
		e = want ? check_address(d, &used, want) : address_from(txn, d, &used, out_ip);
	vec_fini(&used);
	if (e)
		return e;
	if (want) {
		*out_ip = want;
		return NULL;
	}
	(void)snprintf(key, sizeof key, "last/%s", d->id);
	return db_put(txn, DB_LEASE, key, sv_of(ip_text(*out_ip, text)));
}

struct holder {
	const struct net_port *port;
	char container[65];
	bool found;
};

/* key: port/<proto>/<port>/<host ip>. "Any address" conflicts with every address. */
static struct err *match_holder(void *ctx, struct sv key, struct sv value)
{
	struct holder *h = ctx;
	struct sv rest = key;
	uint32_t ip;

	for (int i = 0; i < 3; i++)
		(void)sv_cut(&rest, '/');
	TRY(ip_parse(rest, &ip));
	if (ip && h->port->host_ip && ip != ntohl(h->port->host_ip))
		return NULL;
	(void)snprintf(h->container, sizeof h->container, SV_FMT, SV_ARG(value));
	h->found = true;
	return NULL;
}

static struct err *find_holder(struct db_txn *txn, struct holder *h)
{
	char key[64];

	(void)snprintf(key, sizeof key, "port/%s/%u/", proto_text(h->port->proto), h->port->host_port);
	return db_scan(txn, DB_LEASE, key, match_holder, h);
}

static struct err *taken(const struct net_port *p, const char *by)
{
	char ip[16];

	return FAIL(ERR_CONFLICT, "port is already allocated: bind for %s:%u/%s failed: %s%.12s",
		    ip_text(ntohl(p->host_ip), ip), p->host_port, proto_text(p->proto),
		    by ? "in use by container " : "address already in use on this host", by ? by : "");
}

/* Whether the kernel would let us listen there; chooses a port when 0. */
static struct err *probe(struct net_port *p, bool *out_busy)
{
	char ip[16];
	int r = sys_port_probe(p->proto, p->host_ip, p->host_port, &p->host_port);

	*out_busy = r == -EADDRINUSE;
	if (r == -EADDRNOTAVAIL)
		return FAIL(ERR_INVALID, "bind for %s:%u failed: this host has no such address", ip_text(ntohl(p->host_ip), ip),
			    p->host_port);
	return r < 0 && !*out_busy ? FAIL_OS(-r, "bind for %s:%u", ip_text(ntohl(p->host_ip), ip), p->host_port) : NULL;
}

static struct err *choose_port(struct db_txn *txn, struct net_port *p)
{
	for (int tries = 0; tries < 100; tries++) {
		struct holder h = { .port = p };
		bool busy;

		p->host_port = 0;
		TRY(probe(p, &busy));
		if (busy)
			break;
		TRY(find_holder(txn, &h));
		if (!h.found)
			return NULL;
	}
	return FAIL(ERR_UNAVAILABLE, "no free host port: all of net.ipv4.ip_local_port_range are in use");
}

static struct err *take_port(struct db_txn *txn, struct net_port *p, const char *container)
{
	struct holder h = { .port = p };
	char key[64], ip[16];
	bool busy;

	if (p->host_port == 0) {
		TRY(choose_port(txn, p));
	} else {
		TRY(find_holder(txn, &h));
		if (h.found)
			return taken(p, h.container);
		TRY(probe(p, &busy));
		if (busy)
			return taken(p, NULL);
	}
	(void)snprintf(key, sizeof key, "port/%s/%u/%s", proto_text(p->proto), p->host_port, ip_text(ntohl(p->host_ip), ip));
	return db_put(txn, DB_LEASE, key, sv_of(container));
}

static struct err *write_endpoint(struct db_txn *txn, const struct endpoint *e)
{
	auto_json json_t *o = NULL;
	auto_buf struct buf b = BUF(1 << 20);
	json_t *ports = json_array();
	char key[160], ip[16], mac[LINK_MAC_TEXT];

	for (size_t i = 0; i < e->n_ports; i++) {
		const struct net_port *p = &e->ports[i];

		(void)json_array_append_new(ports, json_pack("{s:s, s:s, s:i, s:i}", "Proto", proto_text(p->proto), "HostIp",
							     ip_text(ntohl(p->host_ip), ip), "HostPort", (int)p->host_port,
							     "Port", (int)p->port));
	}
	o = json_pack("{s:s, s:s, s:s, s:o, s:o}", "IPAddress", ip_text(e->ip, ip), "MacAddress", link_mac_text(e->mac, mac), "Veth", e->veth, "Names",
		      json_from_list(e->names), "Ports", ports);
	json_print(o, &b);
	TRY(buf_check(&b, "endpoint record"));
	(void)snprintf(key, sizeof key, "endpoint/%s/%s", e->container, e->network);
	return db_put(txn, DB_LEASE, key, sv_from(b.data, b.n));
}

struct err *endpoint_add(struct db_txn *txn, const struct net_def *d, uint32_t want, struct endpoint *e)
{
	char key[160], ip[16];
	struct sv value;
	bool found;

	(void)snprintf(key, sizeof key, "endpoint/%s/%s", e->container, e->network);
	TRY(db_get(txn, DB_LEASE, key, &value, &found));
	if (found)
		return FAIL(ERR_CONFLICT, "container %.12s is already attached to network %s", e->container, d->name);
	TRY(choose_address(txn, d, want, &e->ip));
	if (memcmp(e->mac, (const uint8_t[6]){ 0 }, sizeof e->mac) == 0)
		link_mac(e->ip, e->mac);
	for (size_t i = 0; i < e->n_ports; i++)
		TRY(take_port(txn, &e->ports[i], e->container));
	(void)snprintf(key, sizeof key, "net/%s/%s", e->network, ip_text(e->ip, ip));
	TRY(db_put(txn, DB_LEASE, key, sv_of(e->container)));
	return write_endpoint(txn, e);
}

struct err *endpoint_drop(struct db_txn *txn, const struct endpoint *e)
{
	char key[160], ip[16];

	for (size_t i = 0; i < e->n_ports; i++) {
		const struct net_port *p = &e->ports[i];

		(void)snprintf(key, sizeof key, "port/%s/%u/%s", proto_text(p->proto), p->host_port,
			       ip_text(ntohl(p->host_ip), ip));
		TRY(db_delete(txn, DB_LEASE, key));
	}
	(void)snprintf(key, sizeof key, "net/%s/%s", e->network, ip_text(e->ip, ip));
	TRY(db_delete(txn, DB_LEASE, key));
	(void)snprintf(key, sizeof key, "endpoint/%s/%s", e->container, e->network);
	return db_delete(txn, DB_LEASE, key);
}

void endpoint_ports(const struct endpoint *e, struct table *out_table)
{
	for (size_t i = 0; i < e->n_ports; i++) {
		struct table_port *p = vec_push(&out_table->ports);

		*p = (struct table_port){ .host_ip = ntohl(e->ports[i].host_ip), .ip = e->ip,
					  .host_port = e->ports[i].host_port, .port = e->ports[i].port,
					  .proto = e->ports[i].proto };
		copy(p->container, sizeof p->container, e->container);
	}
}
