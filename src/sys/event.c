/* event.c - see event.h. */
#include "sys/event.h"
#include "sys/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

int sys_epoll_new(void)
{
	SYS_FAULT("epoll_create");
	return sys_ret(epoll_create1(EPOLL_CLOEXEC));
}

int sys_epoll_set(int ep, int op, int fd, uint32_t events, uint64_t key)
{
	struct epoll_event e = { .events = events, .data.u64 = key };

	SYS_FAULT("epoll_ctl");
	return sys_ret(epoll_ctl(ep, op, fd, &e));
}

int sys_epoll_wait(int ep, struct epoll_event *out, int max, int timeout_ms)
{
	int r;

	SYS_FAULT("epoll_wait");
	do
		r = epoll_wait(ep, out, max, timeout_ms);
	while (r < 0 && errno == EINTR);
	return sys_ret(r);
}

int sys_poll(struct pollfd *fds, size_t n, int timeout_ms)
{
	int r;

	SYS_FAULT("poll");
	r = poll(fds, (nfds_t)n, timeout_ms);
	return r < 0 && errno == EINTR ? 0 : sys_ret(r);
}

int sys_signal_fd(const int *signals)
{
	sigset_t set;

	SYS_FAULT("signalfd");
	sigemptyset(&set);
	for (; *signals; signals++)
		sigaddset(&set, *signals);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	return sys_ret(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

int sys_signal_read(int fd)
{
	struct signalfd_siginfo si;

	SYS_FAULT("signalfd_read");
	do
		if (read(fd, &si, sizeof si) != (ssize_t)sizeof si)
			return -EAGAIN;
	while (si.ssi_code == SI_KERNEL && si.ssi_signo != SIGWINCH);
	return (int)si.ssi_signo;
}

int sys_nonblock(int fd, bool on)
{
	int flags;

	SYS_FAULT("fcntl");
	flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	return sys_ret(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

static int unix_addr(const char *path, struct sockaddr_un *out_addr)
{
	size_t n = strlen(path);

	memset(out_addr, 0, sizeof *out_addr);
	out_addr->sun_family = AF_UNIX;
	if (n >= sizeof out_addr->sun_path)
		return -ENAMETOOLONG;
	memcpy(out_addr->sun_path, path, n + 1);
	return 0;
}

int sys_unix_listen(const char *path)
{
	struct sockaddr_un addr;
	int fd, r;

	SYS_FAULT("unix_listen");
	if ((r = unix_addr(path, &addr)) < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	(void)unlink(path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 64) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int unix_connect(const char *path, int type)
{
	struct sockaddr_un addr;
	int fd, r;

	SYS_FAULT("unix_connect");
	if ((r = unix_addr(path, &addr)) < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int sys_unix_datagram(const char *path, bool bound)
{
	struct sockaddr_un addr;
	socklen_t n = sizeof addr;
	int fd, r;

	SYS_FAULT("unix_datagram");
	if ((r = unix_addr(path, &addr)) < 0)
		return r;
	if (path[0] == '@') { /* of the abstract name space: no file, and its name ends without a zero */
		addr.sun_path[0] = 0;
		n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bound)
		(void)unlink(path);
	if ((bound ? bind : connect)(fd, (struct sockaddr *)&addr, n) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int sys_unix_connect(const char *path)
{
	return unix_connect(path, SOCK_SEQPACKET);
}

int sys_unix_connect_stream(const char *path)
{
	return unix_connect(path, SOCK_STREAM);
}

int sys_unix_accept(int fd)
{
	SYS_FAULT("accept");
	return sys_ret(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

int sys_unix_send(int fd, const struct iovec *iov, size_t n)
{
	union {
		const struct iovec *in;
		struct iovec *out;
	} u = { .in = iov }; /* msghdr is not const-correct; sendmsg only reads */
	struct msghdr m = { .msg_iov = u.out, .msg_iovlen = n };
	long r;

	SYS_FAULT("sendmsg");
	do
		r = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return sys_ret(r);
}

ssize_t sys_unix_recv(int fd, void *p, size_t n)
{
	ssize_t r;

	SYS_FAULT("recv");
	do
		r = recv(fd, p, n, 0);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int sys_tty_size(int fd, unsigned *out_rows, unsigned *out_cols)
{
	struct winsize w;

	SYS_FAULT("tty_size");
	if (ioctl(fd, TIOCGWINSZ, &w) < 0)
		return -errno;
	*out_rows = w.ws_row;
	*out_cols = w.ws_col;
	return 0;
}

int sys_tty_resize(int fd, unsigned rows, unsigned cols)
{
	struct winsize w = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };

	SYS_FAULT("tty_resize");
	return sys_ret(ioctl(fd, TIOCSWINSZ, &w));
}

struct sys_tty {
	int fd;
	struct termios old;
};

int sys_tty_raw(int fd, struct sys_tty **out_saved)
{
	struct sys_tty *t;
	struct termios raw;

	SYS_FAULT("tty_raw");
	t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->fd = fd;
	if (tcgetattr(fd, &t->old) < 0) {
		int r = -errno;

		free(t);
		return r;
	}
	raw = t->old;
	cfmakeraw(&raw);
	(void)tcsetattr(fd, TCSANOW, &raw);
	*out_saved = t;
	return 0;
}

void sys_tty_restore(struct sys_tty *saved)
{
	if (!saved)
		return;
	(void)tcsetattr(saved->fd, TCSANOW, &saved->old);
	free(saved);
}
