/*
 * netlink.h - netlink sockets, a look into another network namespace, whether a port is free.
 *
 * The kernel answers route and netfilter requests before the send returns, so receiving never waits: -EAGAIN means that
 * nothing more comes.
 * Layer: sys.  Results: >= 0 or -errno.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int sys_netlink_open(int protocol); /* NETLINK_ROUTE, NETLINK_NETFILTER; short acks with texts. Owned fd */
int sys_netlink_send(int fd, const void *p, size_t n);
/* One datagram; its full length also when it was cut. -EAGAIN: none. */
ssize_t sys_netlink_recv(int fd, void *p, size_t n);
/*
 * Runs fn(arg) with this thread in the network namespace net_fd and comes back; fn's result. Other threads stay where they
 * are. Aborts when the way back is closed: going on in a foreign namespace would change the wrong host.
 */
int sys_in_netns(int net_fd, int (*fn)(void *arg), void *arg);
/* The loopback device of our network namespace goes up. Safe between clone and execve. */
int sys_loopback_up(void);
/*
 * Whether ip (network order) : port could be listened on; port 0: the kernel chooses one. The port goes to *out_port.
 * -EADDRINUSE, -EADDRNOTAVAIL.
 */
int sys_port_probe(int proto, uint32_t ip, uint16_t port, uint16_t *out_port);
