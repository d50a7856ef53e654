#include "sys/netlink.h"
#include "base/own.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { BUFFER_BYTES = 8 << 20 }; /* a table with thousands of elements is one datagram */

int sys_netlink_open(int protocol)
{
	static const int size = BUFFER_BYTES, on = 1;
	auto_fd int fd = -1;

	SYS_FAULT("netlink");
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return -errno;
	/* Best effort: without them texts are missing, or large batches fail with ENOBUFS. */
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	return TAKE_FD(fd);
}

int sys_netlink_send(int fd, const void *p, size_t n)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t r;

	SYS_FAULT("netlink_send");
	do
		r = sendto(fd, p, n, MSG_NOSIGNAL, (const struct sockaddr *)&kernel, sizeof kernel);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

ssize_t sys_netlink_recv(int fd, void *p, size_t n)
{
	ssize_t r;

	SYS_FAULT("netlink_recv");
	do
		r = recv(fd, p, n, MSG_DONTWAIT | MSG_TRUNC);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int sys_in_netns(int net_fd, int (*fn)(void *arg), void *arg)
{
	auto_fd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (home < 0)
		return -errno;
	if ((r = sys_setns(net_fd, CLONE_NEWNET)) < 0)
		return r;
	r = fn(arg);
	if (setns(home, CLONE_NEWNET) < 0)
		abort();
	return r;
}

int sys_loopback_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	auto_fd int fd = -1;

	SYS_FAULT("loopback_up");
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : sys_ret(ioctl(fd, SIOCSIFFLAGS, &lo));
}

int sys_port_probe(int proto, uint32_t ip, uint16_t port, uint16_t *out_port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { ip } };
	socklen_t len = sizeof at;
	const int on = 1;
	auto_fd int fd = -1;

	SYS_FAULT("bind");
	fd = socket(AF_INET, (proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, proto);
	if (fd < 0)
		return -errno;
	/* TCP: connections in TIME_WAIT do not count, listeners do. UDP would share the port with it. */
	if (proto == IPPROTO_TCP)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 || getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		return -errno;
	*out_port = ntohs(at.sin_port);
	return 0;
}
