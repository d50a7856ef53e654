/*
 * attach.c - the client side of a keeper's control socket: terminal and streams, until the container ends or the user
 * detaches.
 */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/stream.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <signal.h>
#include <sys/uio.h>

enum { KEYS_MAX = 16 };
static const int forwarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGALRM, SIGWINCH, 0 };

struct session {
	struct engine *e;
	const char *id;
	const struct container_stdio *io;
	int sock, sig_fd;
	bool in_open, is_reaper, is_detached;
	bool is_full; /* the keeper takes no input now */
	uint8_t keys[KEYS_MAX];
	size_t n_keys, matched;
	struct sys_tty *saved;
	int code; /* -1: not ended */
};

/* "ctrl-p,ctrl-q", "ctrl-@", "a" -> bytes */
static FALLIBLE parse_keys(const char *text, struct session *s)
{
	struct sv rest = sv_of(text ? text : "ctrl-p,ctrl-q");

	while (rest.n) {
		struct sv key = sv_cut(&rest, ',');
		int c = -1;

		if (key.n == 1)
			c = key.p[0];
		else if (key.n == 6 && strncmp(key.p, "ctrl-", 5) == 0 && key.p[5] >= 'a' && key.p[5] <= 'z')
			c = key.p[5] - 'a' + 1;
		else if (key.n == 6 && strncmp(key.p, "ctrl-", 5) == 0 && strchr("@[\\]^_", key.p[5]))
			c = key.p[5] == '@' ? 0 : key.p[5] - '[' + 27;
		if (c < 0 || s->n_keys == KEYS_MAX)
			return FAIL(ERR_INVALID, "Invalid detach keys (%s) provided", text);
		s->keys[s->n_keys++] = (uint8_t)c;
	}
	return NULL;
}

static int send_bytes(struct session *s, char type, const void *p, size_t n)
{
	union {
		const void *in;
		void *out;
	} u = { .in = p };
	const struct iovec iov[2] = { { &type, 1 }, { u.out, n } };

	return sys_unix_send(s->sock, iov, n ? 2 : 1);
}

/* Over a connection of its own: on ours, input that the container does not take may stand before it. */
static void send_apart(struct session *s, void *message, size_t n)
{
	const struct iovec iov = { message, n };
	auto_fd int fd = -1;
	struct err *e = ctr_connect(s->e, s->id, &fd);

	if (!e)
		(void)sys_unix_send(fd, &iov, 1); /* no answer is waited for: the keeper may be waiting for us */
	err_free(e);
}

static void send_size(struct session *s)
{
	struct ctl_resize m = { .type = CTL_RESIZE };
	unsigned rows = 0, cols = 0;

	if (!s->io->is_tty || s->io->in < 0 || sys_tty_size(s->io->in, &rows, &cols) < 0 || !rows || !cols)
		return;
	m.rows = (uint16_t)rows;
	m.cols = (uint16_t)cols;
	send_apart(s, &m, sizeof m);
}

/* Connected and known to the keeper before the program starts, so nothing is missed. */
static FALLIBLE open_session(void *ctx)
{
	struct session *s = ctx;
	uint8_t flags = (uint8_t)((s->io->in >= 0 ? CTL_IN : 0) | (s->io->out >= 0 ? CTL_OUT : 0) |
				  (s->io->err >= 0 ? CTL_ERR : 0) | (s->is_reaper ? CTL_REAPER : 0));
	char answer[KEEPER_PACKET];
	ssize_t n;

	TRY(ctr_connect(s->e, s->id, &s->sock));
	if (send_bytes(s, CTL_ATTACH, &flags, 1) < 0)
		return FAIL(ERR_CONFLICT, "container %.12s ended", s->id);
	do
		n = sys_unix_recv(s->sock, answer, sizeof answer);
	while (n > 0 && answer[0] != CTL_ATTACHED);
	if (n <= 0)
		return FAIL(ERR_CONFLICT, "container %.12s ended", s->id);
	send_size(s);
	return NULL;
}

/* Whether the detach keys were completed. What turned out not to be them is sent on, from *p to *n. */
static bool detaches(struct session *s, const char *p, size_t n)
{
	if (!s->io->is_tty || !s->n_keys)
		return false;
	for (size_t i = 0; i < n; i++) {
		s->matched = (uint8_t)p[i] == s->keys[s->matched] ? s->matched + 1 : (uint8_t)p[i] == s->keys[0];
		if (s->matched == s->n_keys)
			return true;
	}
	return false;
}

/* Room for one chunk: a socket that polls writable has three quarters of its buffer free, many times KEEPER_PACKET. */
static bool has_room(struct session *s)
{
	struct pollfd f = { s->sock, POLLOUT, 0 };

	return sys_poll(&f, 1, 0) > 0 && (f.revents & POLLOUT);
}

/* Never blocks: the container may be waiting for its output to be taken, and that is our work too. */
static void on_input(struct session *s)
{
	char p[KEEPER_PACKET - 64];
	ssize_t n;

	s->is_full = !has_room(s);
	if (s->is_full)
		return;
	n = sys_read(s->io->in, p, sizeof p);
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		s->in_open = false;
		(void)send_bytes(s, CTL_STDIN_CLOSE, NULL, 0);
		return;
	}
	if (detaches(s, p, (size_t)n))
		s->is_detached = true;
	else
		(void)send_bytes(s, CTL_STDIN, p, (size_t)n);
}

static void on_signal(struct session *s)
{
	int signo = sys_signal_read(s->sig_fd);
	struct ctl_kill m = { .type = CTL_KILL };

	if (signo == SIGWINCH)
		send_size(s);
	if (signo <= 0 || signo == SIGWINCH || !s->io->sig_proxy)
		return;
	m.signo = (uint8_t)signo;
	send_apart(s, &m, sizeof m);
}

/* false: nothing more will come */
static bool on_message(struct session *s)
{
	static char p[KEEPER_PACKET + 1];
	ssize_t n = sys_unix_recv(s->sock, p, sizeof p);
	int32_t code;
	int fd;

	if (n <= 0)
		return false;
	switch (p[0]) {
	case CTL_STDOUT:
	case CTL_STDERR:
		fd = p[0] == CTL_STDOUT ? s->io->out : s->io->err;
		if (fd >= 0 && !stream_write(fd, p + 1, (size_t)n - 1))
			s->is_detached = true; /* a reader that went away is our end, not the container's */
		return true;
	case CTL_EXITED:
		memcpy(&code, p + 1, sizeof code);
		s->code = code;
		return false;
	default:
		return true;
	}
}

static void converse(struct session *s)
{
	for (;;) {
		struct pollfd f[3] = { { s->sock, (short)(s->is_full ? POLLIN | POLLOUT : POLLIN), 0 },
				       { s->sig_fd, POLLIN, 0 },
				       { s->in_open && !s->is_full ? s->io->in : -1, POLLIN, 0 } };

		if (sys_poll(f, 3, -1) < 0)
			return;
		if (f[0].revents & POLLOUT)
			s->is_full = false;
		if ((f[0].revents & ~POLLOUT) && !on_message(s))
			return;
		if (f[1].revents)
			on_signal(s);
		if (f[2].revents)
			on_input(s);
		if (s->is_detached)
			return;
	}
}

static FALLIBLE begin(struct session *s)
{
	TRY(parse_keys(s->io->detach_keys, s));
	s->in_open = s->io->in >= 0;
	if ((s->sig_fd = sys_signal_fd(s->io->sig_proxy ? forwarded : (const int[]){ SIGWINCH, 0 })) < 0)
		return FAIL_OS(-s->sig_fd, "watch signals");
	return NULL;
}

static void raw_terminal(struct session *s)
{
	if (s->io->is_tty && s->io->in >= 0 && isatty(s->io->in))
		(void)sys_tty_raw(s->io->in, &s->saved);
}

static void session_fini(struct session *s)
{
	if (s->saved)
		sys_tty_restore(s->saved);
	own_close(&s->sock);
	own_close(&s->sig_fd);
}

/* The reaping that keeper-exit would do, here, without a further process; then the keeper may go. */
static FALLIBLE reap_here(struct session *s)
{
	struct err *e = container_reap(s->e, s->id);

	(void)send_bytes(s, CTL_REAPED, NULL, 0);
	return e;
}

static FALLIBLE end_session(struct session *s, bool *out_detached, int *out_code)
{
	*out_detached = s->is_detached;
	if (s->is_detached)
		return NULL;
	if (s->code >= 0) {
		*out_code = s->code;
		return s->is_reaper ? reap_here(s) : NULL;
	}
	return container_wait(s->e, s->id, out_code); /* the keeper was killed: what the record says */
}

FALLIBLE container_start_attached(struct engine *e, const char *text, const struct container_stdio *io, bool *out_detached,
				  int *out_code)
{
	CLEANUP(session_fini) struct session s = { .e = e, .io = io, .sock = -1, .sig_fd = -1, .code = -1 };
	auto_json json_t *doc = NULL;
	auto_fd int lock = -1;
	char id[CTR_ID_MAX];

	TRY(ctr_resolve(e, text, id));
	TRY(ctr_lock_settled(e, id, &lock));
	TRY(ctr_load(e, id, &doc));
	s.id = id;
	TRY(begin(&s));
	if (!ctr_live(e, id, NULL)) {
		s.is_reaper = true;
		TRY(ctr_start(e, id, doc, open_session, &s));
	}
	own_close(&lock); /* before we talk to one that runs: it may end, and is not reaped while we hold it */
	lock = -1;
	if (!s.is_reaper)
		TRY(open_session(&s));
	raw_terminal(&s);
	converse(&s);
	return end_session(&s, out_detached, out_code);
}

FALLIBLE container_attach(struct engine *e, const char *text, const struct container_stdio *io, bool *out_detached,
			  int *out_code)
{
	CLEANUP(session_fini) struct session s = { .e = e, .io = io, .sock = -1, .sig_fd = -1, .code = -1 };
	char id[CTR_ID_MAX];

	TRY(ctr_resolve(e, text, id));
	if (!ctr_runs(e, id))
		return FAIL(ERR_CONFLICT, "You cannot attach to a stopped container, start it first");
	s.id = id;
	TRY(begin(&s));
	TRY(open_session(&s));
	raw_terminal(&s);
	converse(&s);
	return end_session(&s, out_detached, out_code);
}
