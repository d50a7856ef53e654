/* client.c - see client.h. */
#include "supervise/client.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <errno.h>

void clients_init(struct clients *s, int ep, uint64_t key0, char chunk[KEEPER_PACKET])
{
	s->chunk = chunk;
	s->ep = ep;
	s->key0 = key0;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		s->c[i].fd = -1;
}

static void want(struct clients *s, unsigned i, int op)
{
	bool is_held = s->in_held && (s->c[i].flags & CTL_IN);
	uint32_t events = (is_held ? 0 : EPOLLIN) | (s->todo & (1u << i) ? EPOLLOUT : 0u);

	(void)sys_epoll_set(s->ep, op, s->c[i].fd, events, s->key0 + i);
}

void clients_accept(struct clients *s, int listen_fd)
{
	int fd = sys_unix_accept(listen_fd);

	if (fd < 0)
		return;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		if (s->c[i].fd >= 0)
			continue;
		s->c[i] = (struct client){ .fd = fd };
		want(s, i, EPOLL_CTL_ADD);
		return;
	}
	(void)sys_close(fd); /* full: the caller sees the end at once */
}

void clients_drop(struct clients *s, unsigned i)
{
	if (s->c[i].fd >= 0)
		(void)sys_close(s->c[i].fd);
	s->c[i] = (struct client){ .fd = -1 };
	s->todo &= ~(1u << i);
}

static void send_chunk(struct clients *s, unsigned i)
{
	const struct iovec iov[2] = { { &s->stream, 1 }, { s->chunk, s->n } };
	int r = sys_unix_send(s->c[i].fd, iov, 2);

	if (r == -EAGAIN) {
		s->todo |= 1u << i;
		return;
	}
	s->todo &= ~(1u << i);
	if (r < 0)
		clients_drop(s, i);
}

void clients_broadcast(struct clients *s, uint8_t stream, size_t n)
{
	uint8_t flag = stream == CTL_STDERR ? CTL_ERR : CTL_OUT;

	s->stream = stream;
	s->n = n;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		if (s->c[i].fd < 0 || !(s->c[i].flags & flag))
			continue;
		send_chunk(s, i);
		if (s->todo & (1u << i))
			want(s, i, EPOLL_CTL_MOD);
	}
}

void clients_retry(struct clients *s, unsigned i)
{
	if (s->c[i].fd < 0)
		return;
	if (s->todo & (1u << i))
		send_chunk(s, i);
	if (s->c[i].fd >= 0)
		want(s, i, EPOLL_CTL_MOD);
}

void clients_hold_input(struct clients *s, bool hold)
{
	if (s->in_held == hold)
		return;
	s->in_held = hold;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (s->c[i].fd >= 0 && (s->c[i].flags & CTL_IN))
			want(s, i, EPOLL_CTL_MOD);
}

void clients_tell(struct clients *s, unsigned i, const void *msg, size_t n)
{
	union {
		const void *in;
		void *out;
	} u = { .in = msg };
	const struct iovec iov = { u.out, n };

	if (s->c[i].fd >= 0)
		(void)sys_unix_send(s->c[i].fd, &iov, 1);
}

int clients_reaper(const struct clients *s)
{
	for (int i = 0; i < CLIENTS_MAX; i++)
		if (s->c[i].fd >= 0 && (s->c[i].flags & CTL_REAPER))
			return i;
	return -1;
}
