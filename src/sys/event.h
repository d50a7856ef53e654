/*
 * event.h - epoll, signals and timers as fds, local sockets, terminals.
 *
 * Layer: sys.  Results: >= 0 or -errno. Local sockets are SOCK_SEQPACKET: one send is one message, ends are seen.
 */
#pragma once
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <sys/uio.h>

int sys_epoll_new(void); /* owned */
/* op: EPOLL_CTL_ADD, _MOD, _DEL */
int sys_epoll_set(int ep, int op, int fd, uint32_t events, uint64_t key);
int sys_epoll_wait(int ep, struct epoll_event *out, int max, int timeout_ms);
/* timeout_ms < 0: forever. Not retried after EINTR: 0 then. */
int sys_poll(struct pollfd *fds, size_t n, int timeout_ms);
/* Blocks the signals (0-terminated list) and returns an fd that reads them. Owned. */
int sys_signal_fd(const int *signals);
/* The next signal of such an fd that no terminal sent (SI_KERNEL is skipped), or -EAGAIN. */
int sys_signal_read(int fd);
int sys_nonblock(int fd, bool on);
/* Non-blocking copies of a fifo's ends are wanted often. */
int sys_unix_listen(const char *path);	/* owned, non-blocking; replaces a stale name */
int sys_unix_connect(const char *path); /* owned, blocking */
int sys_unix_connect_stream(const char *path); /* the same as SOCK_STREAM: for others' sockets */
/* A datagram socket, bound to path (a stale name is replaced) or connected to it; "@name": the abstract name space. Owned. */
int sys_unix_datagram(const char *path, bool bound);
int sys_unix_accept(int fd);		/* owned, non-blocking */
int sys_unix_send(int fd, const struct iovec *iov, size_t n); /* one message, no SIGPIPE */
ssize_t sys_unix_recv(int fd, void *p, size_t n);	      /* one message; 0: the other end is gone */
int sys_tty_size(int fd, unsigned *out_rows, unsigned *out_cols);
int sys_tty_resize(int fd, unsigned rows, unsigned cols);
/* Raw mode on; *out_saved (owned by the caller, freed by sys_tty_restore) the old one. */
struct sys_tty;
int sys_tty_raw(int fd, struct sys_tty **out_saved);
void sys_tty_restore(struct sys_tty *saved);
