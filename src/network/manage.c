/* manage.c - networks of the user's are records; their bridges exist only while a container is attached. */
#include "base/own.h"
#include "base/text.h"
#include "network/link.h"
#include "network/private.h"
#include <stdio.h>

static struct err *check_name(const char *name)
{
	static const char *const reserved[] = { DEFAULT_NETWORK, "host", "none", "default", "container" };

	if (!text_is_name(sv_of(name)) || strlen(name) > 128)
		return FAIL(ERR_INVALID, "\"%s\" is not a network name ([a-zA-Z0-9][a-zA-Z0-9_.-]+)", name);
	for (size_t i = 0; i < LEN(reserved); i++)
		if (strcmp(name, reserved[i]) == 0)
			return FAIL(ERR_EXISTS, "network name %s is reserved", name);
	return NULL;
}

static struct err *take_wishes(const struct net_create *c, const struct subnets *taken, struct net_def *d)
{
	char a[20], b[20];

	d->is_internal = c->is_internal;
	d->is_auto = !c->subnet;
	d->mtu = c->mtu;
	if (c->mtu && (c->mtu < 576 || c->mtu > 65535))
		return FAIL(ERR_INVALID, "MTU %u is not within 576 to 65535", c->mtu);
	if (!c->subnet && c->gateway)
		return FAIL(ERR_INVALID, "a gateway needs a subnet");
	if (!c->subnet) {
		TRY(subnet_choose(taken->p, taken->n, &d->subnet));
	} else {
		TRY(subnet_parse(sv_of(c->subnet), &d->subnet));
		for (size_t i = 0; i < taken->n; i++)
			if (subnet_overlaps(d->subnet, taken->p[i]))
				return FAIL(ERR_CONFLICT, "subnet %s overlaps %s, a network or route of this host",
					    subnet_text(d->subnet, a), subnet_text(taken->p[i], b));
	}
	d->gateway = d->subnet.base + 1;
	if (c->gateway) {
		TRY(ip_parse(sv_of(c->gateway), &d->gateway));
		if (!subnet_has(d->subnet, d->gateway) || d->gateway == d->subnet.base ||
		    d->gateway == subnet_last(d->subnet))
			return FAIL(ERR_INVALID, "gateway %s is not a host of %s", c->gateway, subnet_text(d->subnet, a));
	}
	return NULL;
}

struct err *network_create(struct network *n, const struct net_create *c, char **out_id)
{
	auto_fd int lock_fd = -1, route_fd = -1;
	auto_txn struct db_txn *txn = NULL;
	auto_json json_t *object = NULL;
	struct subnets taken = { 0 };
	struct net_def d;
	struct sv value;
	struct err *e;
	bool found;

	TRY(check_name(c->name));
	TRY(net_lock(&lock_fd));
	TRY(net_route_open(&route_fd));
	TRY(db_begin_write(n->db, &txn));
	TRY(db_get(txn, DB_NETWORK_NAME, c->name, &value, &found));
	if (found)
		return FAIL(ERR_EXISTS, "network with name %s already exists", c->name);
	d = net_def_new(n, c->name);
	e = net_taken(txn, route_fd, NULL, &taken);
	if (!e)
		e = take_wishes(c, &taken, &d);
	vec_fini(&taken);
	if (e)
		return e;
	object = def_object(&d, c->labels);
	TRY(def_write(txn, &d, object));
	TRY(db_commit(TAKE(txn)));
	*out_id = xstrdup(d.id);
	return NULL;
}

struct err *network_remove(struct network *n, const char *text)
{
	auto_endpoints struct endpoints all = { 0 };
	auto_fd int lock_fd = -1, route_fd = -1;
	auto_txn struct db_txn *txn = NULL;
	struct net_def d;

	if (strcmp(text, DEFAULT_NETWORK) == 0)
		return FAIL(ERR_DENIED, "%s is a pre-defined network and cannot be removed", text);
	TRY(net_lock(&lock_fd));
	TRY(db_begin_write(n->db, &txn));
	TRY(def_find(txn, text, &d));
	if (strcmp(d.name, DEFAULT_NETWORK) == 0)
		return FAIL(ERR_DENIED, "%s is a pre-defined network and cannot be removed", d.name);
	TRY(endpoint_list(txn, NULL, &all));
	for (size_t i = 0; i < all.n; i++)
		if (strcmp(all.p[i].network, d.id) == 0)
			return FAIL(ERR_CONFLICT, "network %s has active endpoints (container %.12s)", d.name, all.p[i].container);
	TRY(net_route_open(&route_fd));
	TRY(link_delete(route_fd, d.bridge)); /* it may wait for network_collect */
	TRY(def_delete(txn, &d));
	return db_commit(TAKE(txn));
}

/* docker's object: what is stored, without our own mark, with who is attached now. */
static struct err *describe(struct db_txn *txn, const char *id, const struct endpoints *all, json_t **out_object)
{
	json_t *containers = json_object();
	struct net_def d;
	json_t *o;
	struct err *e = def_read(txn, id, &o, &d);

	if (e) {
		json_decref(containers);
		return e;
	}
	for (size_t i = 0; i < all->n; i++) {
		const struct endpoint *p = &all->p[i];
		char ip[16], cidr[24], mac[LINK_MAC_TEXT];

		if (strcmp(p->network, id) != 0)
			continue;
		(void)link_mac_text(p->mac, mac);
		(void)snprintf(cidr, sizeof cidr, "%s/%u", ip_text(p->ip, ip), d.subnet.prefix_len);
		(void)json_object_set_new(containers, p->container,
					  json_pack("{s:s, s:s, s:s, s:s}", "Name", p->names && *p->names ? *p->names : "",
						    "MacAddress", mac, "IPv4Address", cidr, "IPv6Address", ""));
	}
	(void)json_object_del(o, "HoyAutoSubnet");
	(void)json_object_set_new(o, "Containers", containers);
	*out_object = o;
	return NULL;
}

static struct err *make_default(const struct network *n, int route_fd)
{
	auto_txn struct db_txn *txn = NULL;
	struct net_def d;

	TRY(db_begin_write(n->db, &txn));
	TRY(net_find(n, txn, route_fd, DEFAULT_NETWORK, &d));
	return db_commit(TAKE(txn));
}

/* A transaction in which the default network exists, but on a read-only disk. It writes only when that had to be made. */
static struct err *begin_with_default(const struct network *n, int route_fd, struct db_txn **out_txn)
{
	auto_txn struct db_txn *txn = NULL;
	struct net_def d;
	struct err *e;

	TRY(db_begin_read(n->db, &txn));
	e = def_find(txn, DEFAULT_NETWORK, &d);
	if (e && e->kind == ERR_NOT_FOUND) {
		err_free(e);
		db_abort(TAKE(txn));
		e = make_default(n, route_fd);
		if (e && e->os == EROFS) {
			err_free(e);
			e = NULL;
		}
		TRY(e);
		e = db_begin_read(n->db, &txn);
	}
	if (!e)
		*out_txn = TAKE(txn);
	return e;
}

struct err *network_list(struct network *n, json_t **out_array)
{
	auto_json json_t *array = json_array();
	auto_endpoints struct endpoints all = { 0 };
	auto_fd int lock_fd = -1, route_fd = -1;
	auto_txn struct db_txn *txn = NULL;
	struct defs defs = { 0 };
	struct err *e;

	TRY(net_lock(&lock_fd));
	TRY(net_route_open(&route_fd));
	TRY(begin_with_default(n, route_fd, &txn));
	TRY(endpoint_list(txn, NULL, &all));
	e = def_list(txn, &defs);
	for (size_t i = 0; !e && i < defs.n; i++) {
		json_t *o;

		e = describe(txn, defs.p[i].id, &all, &o);
		if (!e)
			(void)json_array_append_new(array, o);
	}
	vec_fini(&defs);
	if (!e)
		*out_array = TAKE(array);
	return e;
}

struct err *network_inspect(struct network *n, const char *text, json_t **out_object)
{
	auto_endpoints struct endpoints all = { 0 };
	auto_fd int lock_fd = -1, route_fd = -1;
	auto_txn struct db_txn *txn = NULL;
	struct net_def d;

	TRY(net_lock(&lock_fd));
	TRY(net_route_open(&route_fd));
	TRY(begin_with_default(n, route_fd, &txn));
	TRY(def_find(txn, text, &d));
	TRY(endpoint_list(txn, NULL, &all));
	return describe(txn, d.id, &all, out_object);
}

/* Calls each for every endpoint on a network of the user's that container is on. As docker: no names on the default one. */
static struct err *each_peer(struct network *n, const char *container, void (*each)(void *ctx, const struct endpoint *p),
			     void *ctx)
{
	auto_endpoints struct endpoints all = { 0 }, mine = { 0 };
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(n->db, &txn));
	TRY(endpoint_list(txn, container, &mine));
	for (size_t m = 0; m < mine.n; m++) {
		struct net_def d;

		TRY(def_read(txn, mine.p[m].network, NULL, &d));
		if (strcmp(d.name, DEFAULT_NETWORK) == 0)
			continue;
		if (!all.n)
			TRY(endpoint_list(txn, NULL, &all));
		for (size_t i = 0; i < all.n; i++)
			if (strcmp(all.p[i].network, d.id) == 0)
				each(ctx, &all.p[i]);
	}
	return NULL;
}

static void put_names(void *ctx, const struct endpoint *p)
{
	struct buf *b = ctx;
	char ip[16];

	if (text_list_len(p->names) == 0)
		return;
	buf_str(b, ip_text(p->ip, ip));
	for (char **name = p->names; *name; name++)
		buf_fmt(b, "%c%s", name == p->names ? '\t' : ' ', *name);
	buf_ch(b, '\n');
}

struct err *network_hosts(struct network *n, const char *container, char **out_text)
{
	auto_buf struct buf b = BUF(1 << 20);

	TRY(each_peer(n, container, put_names, &b));
	TRY(buf_check(&b, "hosts"));
	*out_text = buf_take(&b);
	return NULL;
}

static void put_id(void *ctx, const struct endpoint *p)
{
	text_list_add(ctx, p->container);
}

struct err *network_peers(struct network *n, const char *container, char ***out_ids)
{
	auto_list char **ids = xcalloc(1, sizeof *ids);

	TRY(each_peer(n, container, put_id, &ids));
	*out_ids = TAKE(ids);
	return NULL;
}
