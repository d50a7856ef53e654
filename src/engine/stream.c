/* stream.c - see stream.h. */
#include "engine/stream.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <errno.h>

void stream_flush(struct stream_pending *s, int to)
{
	while (s->at < s->n) {
		ssize_t r = sys_write(to, s->p + s->at, s->n - s->at);

		if (r == -EAGAIN)
			return;
		if (r < 0)
			break;
		s->at += (size_t)r;
	}
	s->n = s->at = 0;
}

bool stream_feed(struct stream_pending *s, int from, int to)
{
	ssize_t n = sys_read(from, s->p, sizeof s->p);

	if (n <= 0)
		return n == -EAGAIN;
	s->n = (size_t)n;
	s->at = 0;
	stream_flush(s, to);
	return true;
}

bool stream_write(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t r = sys_write(fd, p, n);

		if (r == -EAGAIN) { /* somebody shares the terminal and made it non-blocking */
			struct pollfd f = { fd, POLLOUT, 0 };

			if (sys_poll(&f, 1, -1) < 0)
				return false;
			continue;
		}
		if (r < 0)
			return false;
		p += r;
		n -= (size_t)r;
	}
	return true;
}
