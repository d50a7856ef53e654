#include "network/rig.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "state/db.h"
#include "sys/netlink.h"
#include "sys/spawn.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

void rig_sh(const char *fmt, ...)
{
	auto_buf struct buf b = BUF(4096);
	va_list ap;

	va_start(ap, fmt);
	buf_vfmt(&b, fmt, ap);
	va_end(ap);
	free(rig_out(buf_text(&b)));
}

static int run_sh(void *arg)
{
	char *const *a = arg; /* the command, the name of its output file */
	int fd = open(a[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);

	(void)dup2(fd, 1);
	(void)execl("/bin/sh", "sh", "-c", a[0], (char *)NULL);
	return 127;
}

char *rig_out(const char *command)
{
	auto_buf struct buf path = BUF(512), b = BUF(4 << 20);
	char *args[2];
	auto_fd int fd = -1;
	ssize_t n;
	int code;

	buf_fmt(&path, "/tmp/hoy-rig-%d.out", getpid());
	args[0] = xstrdup(command);
	args[1] = path.data;
	code = sys_spawn_call(run_sh, args);
	free(args[0]);
	if (code != 0)
		t_fail(__FILE__, __LINE__, "exit %d: %s", code, command);
	fd = open(path.data, O_RDONLY | O_CLOEXEC);
	(void)unlink(path.data);
	while ((n = read(fd, buf_room(&b, 65536), 65536)) > 0)
		b.n += (size_t)n;
	return xstrndup(b.n ? b.data : "", b.n);
}

void rig_open_again(struct rig *r)
{
	auto_buf struct buf path = BUF(512);

	buf_fmt(&path, "%s/meta", t_tmppath());
	CHECK_OK(db_open(buf_text(&path), &r->db));
	CHECK_OK(network_open(r->db, r->run_fd, &r->net));
}

void rig_open(struct rig *r)
{
	r->run_fd = t_tmpdir();
	rig_open_again(r);
}

void rig_up(struct rig *r)
{
	if (geteuid() != 0)
		t_skip("needs root");
	if (unshare(CLONE_NEWNET) < 0)
		t_skip("needs network namespaces");
	r->lan_fd = sys_netns_new();
	CHECK(r->lan_fd >= 0);
	rig_sh("echo 0 >/proc/sys/net/ipv4/ip_forward && ip link set lo up && ip link add name uplink0 mtu 1400 type veth peer name lan mtu 1400 && "
	       "ip addr add 192.0.2.2/24 dev uplink0 && ip link set uplink0 up && ip link set lan netns /proc/%d/fd/%d && "
	       "nsenter --net=/proc/%d/fd/%d sh -c 'ip link set lo up; ip addr add 192.0.2.1/24 dev lan; "
	       "ip link set lan up; ip link show lan >/dev/null' && "
	       "ip link show uplink0 >/dev/null && ip route add default via 192.0.2.1",
	       getpid(), r->lan_fd, getpid(), r->lan_fd);
	rig_open(r);
}

void rig_down(struct rig *r)
{
	network_close(r->net);
	db_close(r->db);
	own_close(&r->lan_fd);
}

char *rig_census(void)
{
	return rig_out("ip -o link | sed 's/^[0-9]*: //; s/@[^ ]*//; s/qdisc.*//'; ip -4 -o addr | sed 's/^[0-9]*: //'; "
		       "ip route; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/route_localnet");
}

void rig_attach(struct rig *r, const char *id, const char *network, struct net_port *ports, size_t n,
		struct rig_container *out)
{
	struct net_attach a = { .container = id, .network = network, .ports = ports, .n_ports = n };

	a.net_fd = out->net_fd = sys_netns_new();
	CHECK(a.net_fd >= 0);
	CHECK_OK(network_attach(r->net, &a, &out->at));
}

struct end {
	int proto;
	struct sockaddr_in at;
	bool listen;
	int fd;
};

static int open_end(void *arg)
{
	struct end *e = arg;
	const int on = 1;

	e->fd = socket(AF_INET, (e->proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (e->fd < 0)
		return -errno;
	(void)setsockopt(e->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (!e->listen)
		return connect(e->fd, (struct sockaddr *)&e->at, sizeof e->at) < 0 && errno != EINPROGRESS ? -errno : 0;
	if (bind(e->fd, (struct sockaddr *)&e->at, sizeof e->at) < 0)
		return -errno;
	return e->proto == IPPROTO_TCP && listen(e->fd, 16) < 0 ? -errno : 0;
}

static int end_open(int ns, struct end *e)
{
	int r = ns == HERE ? open_end(e) : sys_in_netns(ns, open_end, e);

	if (r < 0 && e->fd >= 0)
		close(e->fd);
	return r < 0 ? r : e->fd;
}

static struct end make_end(int proto, const char *ip, uint16_t port, bool want_listen)
{
	struct end e = { .proto = proto, .at = { .sin_family = AF_INET, .sin_port = htons(port) }, .listen = want_listen, .fd = -1 };

	CHECK(inet_pton(AF_INET, ip, &e.at.sin_addr) == 1);
	return e;
}

int rig_listen(int ns, int proto, const char *ip, uint16_t port)
{
	struct end e = make_end(proto, ip, port, true);
	int fd = end_open(ns, &e);

	CHECK(fd >= 0);
	return fd;
}

static bool ready(int fd, short events)
{
	struct pollfd p = { fd, events, 0 };

	return poll(&p, 1, 2500) == 1 && !(p.revents & (POLLERR | POLLNVAL));
}

static bool udp_exchange(int client, int listener, struct sockaddr_in *from)
{
	socklen_t len = sizeof *from;
	char in[8];

	return send(client, "ping", 4, 0) == 4 && ready(listener, POLLIN) &&
	       recvfrom(listener, in, sizeof in, 0, (struct sockaddr *)from, &len) == 4 &&
	       sendto(listener, "pong", 4, 0, (struct sockaddr *)from, len) == 4 && ready(client, POLLIN) &&
	       recv(client, in, sizeof in, 0) == 4 && memcmp(in, "pong", 4) == 0;
}

static bool tcp_exchange(int client, int listener, struct sockaddr_in *from)
{
	socklen_t len = sizeof *from;
	auto_fd int server = -1;
	char in[8];

	if (!ready(client, POLLOUT) || !ready(listener, POLLIN))
		return false;
	server = accept4(listener, (struct sockaddr *)from, &len, SOCK_CLOEXEC);
	return server >= 0 && send(client, "ping", 4, MSG_NOSIGNAL) == 4 && ready(server, POLLIN) &&
	       recv(server, in, sizeof in, 0) == 4 && send(server, "pong", 4, MSG_NOSIGNAL) == 4 && ready(client, POLLIN) &&
	       recv(client, in, sizeof in, 0) == 4 && memcmp(in, "pong", 4) == 0;
}

int rig_client(int ns, int proto, const char *ip, uint16_t port)
{
	struct end e = make_end(proto, ip, port, false);

	return end_open(ns, &e);
}

bool rig_ping(int client, int proto, int listener, char *out_from)
{
	struct sockaddr_in from = { 0 };
	bool r = proto == IPPROTO_TCP ? tcp_exchange(client, listener, &from) : udp_exchange(client, listener, &from);

	if (r && out_from)
		(void)inet_ntop(AF_INET, &from.sin_addr, out_from, 16);
	return r;
}

bool rig_reach(int ns, int proto, const char *ip, uint16_t port, int listener, char *out_from)
{
	int fd = rig_client(ns, proto, ip, port);
	auto_fd int client = fd;

	return fd >= 0 && rig_ping(client, proto, listener, out_from);
}
