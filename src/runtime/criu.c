/* criu.c - one order to the criu program; see criu.h. */
#include "runtime/criu.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/proto.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Fields of criu_req and criu_resp. */
enum { TYPE = 1, OPTS = 2, NOTIFY_SUCCESS = 3 };
enum { SUCCESS = 2, RESTORE = 4, NOTIFY = 5, CR_ERRNO = 7, CR_ERRMSG = 9 };
enum { TYPE_NOTIFY = 6, MESSAGE_MAX = 65536, FDS_MAX = 8 };

static const char *kind_name(enum criu_kind k)
{
	return k == CRIU_RESTORE ? "restore" : k == CRIU_DUMP ? "dump" : "pre-dump";
}

static const char *opt_name(enum criu_opt opt)
{
#define NAME(number, id, name) [number] = (name),
	static const char *const names[] = { CRIU_OPTS(NAME) };
#undef NAME

	return names[opt];
}

void criu_order_fini(struct criu_order *o)
{
	buf_fini(&o->opts);
	buf_fini(&o->text);
}

void criu_number(struct criu_order *o, enum criu_opt opt, uint64_t value)
{
	proto_number(&o->opts, opt, value);
	buf_fmt(&o->text, " %s=%llu", opt_name(opt), (unsigned long long)value);
}

void criu_text(struct criu_order *o, enum criu_opt opt, const char *fmt, ...)
{
	auto_buf struct buf b = BUF(2 * PATH_MAX);
	va_list ap;

	va_start(ap, fmt);
	buf_vfmt(&b, fmt, ap);
	va_end(ap);
	proto_bytes(&o->opts, opt, sv_of(buf_text(&b)));
	buf_fmt(&o->text, " %s=%s", opt_name(opt), buf_text(&b));
}

static void pair(struct criu_order *o, enum criu_opt opt, const char *a, const char *b, uint64_t number)
{
	auto_buf struct buf m = BUF(2 * PATH_MAX);

	if (a)
		proto_bytes(&m, 1, sv_of(a));
	if (b)
		proto_bytes(&m, 2, sv_of(b));
	else
		proto_number(&m, 2, number);
	proto_bytes(&o->opts, opt, sv_from(m.data, m.n));
	buf_fmt(&o->text, " %s=%s%s", opt_name(opt), a ? a : "", a ? ":" : "");
	if (b)
		buf_str(&o->text, b);
	else
		buf_fmt(&o->text, "%llu", (unsigned long long)number);
}

void criu_pair(struct criu_order *o, enum criu_opt opt, const char *a, const char *b)
{
	pair(o, opt, a, b, 0);
}

void criu_pair_number(struct criu_order *o, enum criu_opt opt, const char *a, uint64_t b)
{
	pair(o, opt, a, NULL, b);
}

/* ---- the dialogue ---- */

struct answer {
	uint64_t type, os, pid;
	bool success;
	char script[64], why[256];
};

static void copy_text(struct sv s, char *out, size_t size)
{
	s = sv_trim(s);
	(void)snprintf(out, size, SV_FMT, SV_ARG(s));
}

/* Of the messages inside only the first field is of interest. */
static FALLIBLE first_field(struct sv message, struct proto_field *out_field)
{
	bool more;

	*out_field = (struct proto_field){ 0 };
	return proto_next(&message, "criu's answer", out_field, &more);
}

static FALLIBLE parse(struct sv message, struct answer *out)
{
	struct answer a = { 0 };
	bool more = true;

	while (more) {
		struct proto_field f = { 0 }, in;

		TRY(proto_next(&message, "criu's answer", &f, &more));
		if (!more)
			break;
		if (f.number == TYPE)
			a.type = f.value;
		else if (f.number == SUCCESS)
			a.success = f.value != 0;
		else if (f.number == CR_ERRNO)
			a.os = f.value;
		else if (f.number == CR_ERRMSG && !sv_starts(f.bytes, SV("Error ("))) /* its log has that */
			copy_text(f.bytes, a.why, sizeof a.why);
		if (f.number != RESTORE && f.number != NOTIFY)
			continue;
		TRY(first_field(f.bytes, &in));
		if (f.number == RESTORE)
			a.pid = in.value;
		else
			copy_text(in.bytes, a.script, sizeof a.script);
	}
	*out = a;
	return NULL;
}

static FALLIBLE say(int sock, const struct buf *message)
{
	ssize_t n = sys_send_fds(sock, message->data, message->n, NULL, 0);

	return n < 0 ? FAIL_OS((int)-n, "talk to criu") : NULL;
}

static FALLIBLE order(int sock, const struct criu_order *o)
{
	auto_buf struct buf m = BUF(2 << 20);

	TRY(buf_check(&o->opts, "options of criu"));
	proto_number(&m, TYPE, o->kind);
	proto_bytes(&m, OPTS, sv_from(o->opts.data, o->opts.n));
	return say(sock, &m);
}

/* What criu tells on its way is answered with yes; of the master of a terminal the descriptor is kept. */
static FALLIBLE acknowledge(int sock, const struct answer *a, int *fd, int *tty_fd)
{
	auto_buf struct buf m = BUF(64);

	if (strcmp(a->script, "orphan-pts-master") == 0 && *tty_fd < 0) {
		*tty_fd = *fd;
		*fd = -1;
	}
	proto_number(&m, TYPE, TYPE_NOTIFY);
	proto_number(&m, NOTIFY_SUCCESS, 1);
	return say(sock, &m);
}

/* One message; false: criu has gone without a word. */
static FALLIBLE hear(int sock, struct answer *out, int *out_fd, bool *out_there)
{
	auto_free char *text = xcalloc(1, MESSAGE_MAX);
	size_t n_fds = 0;
	ssize_t n = sys_recv_fds(sock, text, MESSAGE_MAX, out_fd, 1, &n_fds);

	if (n < 0)
		return FAIL_OS((int)-n, "hear criu");
	*out_there = n > 0;
	return n ? parse(sv_from(text, (size_t)n), out) : NULL;
}

static FALLIBLE converse(int sock, const struct criu_order *o, struct runtime_proc *proc)
{
	TRY(order(sock, o));
	for (;;) {
		auto_fd int fd = -1;
		struct answer a;
		bool there;

		TRY(hear(sock, &a, &fd, &there));
		if (!there)
			return FAIL(ERR_UNAVAILABLE, "criu %s: it ended without an answer",
				    kind_name(o->kind));
		if (a.type == TYPE_NOTIFY) {
			TRY(acknowledge(sock, &a, &fd, &proc->tty_fd));
			continue;
		}
		if (!a.success)
			return FAIL(ERR_UNAVAILABLE, "criu %s failed%s%s%s%s", kind_name(o->kind),
				    a.os ? ": " : "", a.os && a.os < 4096 ? strerror((int)a.os) : "",
				    *a.why ? ": " : "", a.why);
		proc->pid = (pid_t)a.pid;
		return NULL;
	}
}

FALLIBLE criu_run(const char *program, const struct criu_order *o, const int *fds, size_t n_fds,
		  struct runtime_proc *out_proc)
{
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	char swrk[] = "swrk",
	     socket_fd[] = "3", *const argv[] = { (char *)(uintptr_t)program, swrk, socket_fd, NULL };
	int all[CRIU_FDS + FDS_MAX] = { 0, 1, 2, -1 }, pair_fds[2];
	struct sys_spawn s = { .path = program, .argv = argv, .fds = all, .n_fds = CRIU_FDS + n_fds };
	auto_fd int ours = -1, theirs = -1, pid_fd = -1;
	struct err *e;
	int r;

	assert(n_fds <= FDS_MAX);
	r = sys_socketpair(SOCK_SEQPACKET, pair_fds);

	if (r < 0)
		return FAIL_OS(-r, "make a socket for criu");
	ours = pair_fds[0];
	all[3] = theirs = pair_fds[1];
	for (size_t i = 0; i < n_fds; i++)
		all[CRIU_FDS + i] = fds[i];
	if ((r = sys_spawn_run(&s, &pid_fd)) < 0)
		return FAIL_OS(-r, "run %s (is criu installed?)", program);
	own_close(&theirs);
	theirs = -1;
	e = converse(ours, o, &proc);
	own_close(&ours);
	ours = -1;
	r = sys_pid_fd_wait(pid_fd, false, NULL);
	if (!e && r < 0)
		e = FAIL_OS(-r, "wait for criu");
	if (!e && o->kind == CRIU_RESTORE && (r = proc.pid_fd = sys_pid_fd(proc.pid)) < 0)
		e = FAIL_OS(-r, "the restored process");
	if (e) {
		runtime_proc_fini(&proc);
		return e;
	}
	*out_proc = proc;
	return NULL;
}
