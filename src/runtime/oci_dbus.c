/* oci_dbus.c - D-Bus messages over a local socket; see oci_dbus.h. */
#include "runtime/oci_dbus.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <stdio.h>
#include <unistd.h>

enum { MESSAGE_MAX = 1 << 20, CALL_MS = 30000 };
enum { CALL = 1, RETURN = 2, ERROR = 3, SIGNAL = 4 };
enum { F_PATH = 1, F_INTERFACE, F_MEMBER, F_ERROR, F_REPLY_SERIAL, F_DESTINATION, F_SENDER, F_SIGNATURE };

/* ---- writing ---- */

void dbus_align(struct dbus_out *o, size_t to)
{
	while (o->b.n % to)
		buf_ch(&o->b, 0);
}

void dbus_put_u32(struct dbus_out *o, uint32_t v)
{
	dbus_align(o, 4);
	buf_add(&o->b, &v, sizeof v);
}

void dbus_put_u64(struct dbus_out *o, uint64_t v)
{
	dbus_align(o, 8);
	buf_add(&o->b, &v, sizeof v);
}

void dbus_put_str(struct dbus_out *o, const char *s)
{
	dbus_put_u32(o, (uint32_t)strlen(s));
	buf_add(&o->b, s, strlen(s) + 1);
}

void dbus_put_sig(struct dbus_out *o, const char *s)
{
	buf_ch(&o->b, (char)strlen(s));
	buf_add(&o->b, s, strlen(s) + 1);
}

/* The length does not count the padding behind it. */
struct dbus_mark dbus_array(struct dbus_out *o, size_t align)
{
	struct dbus_mark m;

	dbus_put_u32(o, 0);
	m.length_at = o->b.n - 4;
	dbus_align(o, align);
	m.start = o->b.n;
	return m;
}

void dbus_array_end(struct dbus_out *o, struct dbus_mark m)
{
	uint32_t n = (uint32_t)(o->b.n - m.start);

	if (!o->b.failed)
		memcpy(o->b.data + m.length_at, &n, sizeof n);
}

/* ---- reading ---- */

void dbus_in_fini(struct dbus_in *m)
{
	free(m->data);
	*m = (struct dbus_in){ 0 };
}

uint32_t dbus_get_u32(struct dbus_in *m)
{
	uint32_t v = 0;

	m->at = (m->at + 3) & ~(size_t)3;
	if (m->at + 4 <= m->n)
		memcpy(&v, m->data + m->at, 4);
	m->at += 4;
	return v;
}

const char *dbus_get_str(struct dbus_in *m)
{
	size_t n = dbus_get_u32(m), at = m->at;

	if (at >= m->n || n >= m->n - at || m->data[at + n])
		return "";
	m->at += n + 1;
	return m->data + at;
}

/* ---- the connection ---- */

void dbus_close(struct dbus *d)
{
	own_close(&d->fd);
	for (size_t i = 0; i < d->n_early; i++)
		dbus_in_fini(&d->early[i]);
	*d = DBUS;
}

static FALLIBLE read_within(int fd, void *p, size_t n, int64_t until_ns)
{
	for (size_t got = 0; got < n;) {
		int64_t left = (until_ns - time_monotonic_ns()) / 1000000;
		struct pollfd f = { fd, POLLIN, 0 };
		ssize_t r;

		if (left <= 0)
			return FAIL(ERR_TIMEOUT, "systemd does not answer");
		if (sys_poll(&f, 1, (int)left) <= 0)
			continue;
		r = sys_read(fd, (char *)p + got, n - got);
		if (r <= 0)
			return r < 0 ? FAIL_OS((int)-r, "read from D-Bus")
				     : FAIL(ERR_UNAVAILABLE, "D-Bus closed the connection");
		got += (size_t)r;
	}
	return NULL;
}

/* A systemd that has gone is an error, not a SIGPIPE. */
static FALLIBLE write_all(int fd, const char *p, size_t n)
{
	while (n) {
		int r = sys_unix_send(fd, &(struct iovec){ (char *)(uintptr_t)p, n }, 1);

		if (r < 0)
			return FAIL_OS(-r, "write to D-Bus");
		p += r;
		n -= (size_t)r;
	}
	return NULL;
}

/*
 * EXTERNAL: the socket tells the server who we are. BEGIN goes along, as from systemd's own library: its server forgets
 * what it reads together with a late BEGIN until more arrives.
 */
static FALLIBLE authenticate(int fd)
{
	char text[128], line[128], uid[16];
	size_t n = 0;
	int m = snprintf(uid, sizeof uid, "%u", (unsigned)geteuid());

	(void)snprintf(text, sizeof text, "%cAUTH EXTERNAL ", '-');
	for (int i = 0; i < m; i++)
		(void)snprintf(text + strlen(text), 3, "%02x", (unsigned)uid[i]);
	(void)snprintf(text + strlen(text), 10, "\r\nBEGIN\r\n");
	m = (int)strlen(text);
	text[0] = 0;
	TRY(write_all(fd, text, (size_t)m));
	do {
		TRY(read_within(fd, line + n, 1, time_monotonic_ns() + CALL_MS * INT64_C(1000000)));
	} while (line[n++] != '\n' && n + 1 < sizeof line);
	line[n] = 0;
	if (strncmp(line, "OK ", 3) != 0)
		return FAIL(ERR_DENIED, "D-Bus refuses us: %.*s", (int)strcspn(line, "\r\n"), line);
	return NULL;
}

/* ---- messages ---- */

static void field(struct dbus_out *o, int code, const char *type, const char *value)
{
	dbus_align(o, 8);
	buf_ch(&o->b, (char)code);
	dbus_put_sig(o, type);
	if (type[0] == 'g')
		dbus_put_sig(o, value);
	else
		dbus_put_str(o, value);
}

struct target {
	const char *destination, *path, *interface;
};

static FALLIBLE send(struct dbus *d, struct target t, const char *member, const char *signature,
		     const struct dbus_out *args)
{
	struct dbus_out o = { BUF(MESSAGE_MAX) };
	struct dbus_mark fields;
	struct err *e;

	buf_add(&o.b, "l\1\0\1", 4);
	dbus_put_u32(&o, args ? (uint32_t)args->b.n : 0);
	dbus_put_u32(&o, ++d->serial);
	fields = dbus_array(&o, 8);
	field(&o, F_PATH, "o", t.path);
	if (d->is_bus)
		field(&o, F_DESTINATION, "s", t.destination);
	field(&o, F_INTERFACE, "s", t.interface);
	field(&o, F_MEMBER, "s", member);
	if (args)
		field(&o, F_SIGNATURE, "g", signature);
	dbus_array_end(&o, fields);
	dbus_align(&o, 8);
	if (args)
		buf_add(&o.b, args->b.data, args->b.n);
	e = buf_check(&o.b, "D-Bus message");
	if (!e)
		e = write_all(d->fd, o.b.data, o.b.n);
	buf_fini(&o.b);
	return e;
}

/* The header's fields: array of (code, variant); what they say goes into m, the error's name into name. */
static void read_fields(struct dbus_in *m, size_t end, char name[128])
{
	while (m->at < end) {
		char code, type;

		m->at = (m->at + 7) & ~(size_t)7;
		if (m->at + 4 > end)
			return;
		code = m->data[m->at];
		type = m->data[m->at + 2];
		m->at += 4; /* code, length of the signature (1), signature, 0 */
		if (type == 'u') {
			uint32_t v = dbus_get_u32(m);

			m->reply_to = code == F_REPLY_SERIAL ? v : m->reply_to;
		} else if (type == 'g') {
			m->at += (size_t)(unsigned char)m->data[m->at] + 2;
		} else {
			const char *s = dbus_get_str(m);

			if (code == F_MEMBER)
				(void)snprintf(m->member, sizeof m->member, "%s", s);
			if (code == F_ERROR)
				(void)snprintf(name, 128, "%s", s);
		}
	}
}

static enum err_kind kind_of(const char *name)
{
	return strstr(name, "NoSuchUnit") || strstr(name, "NotLoaded")       ? ERR_NOT_FOUND
	       : strstr(name, "UnitExists")                                  ? ERR_EXISTS
	       : strstr(name, "AccessDenied") || strstr(name, "Interactive") ? ERR_DENIED
	       : strstr(name, "ServiceUnknown")                              ? ERR_UNAVAILABLE
									     : ERR_INVALID;
}

static FALLIBLE receive(struct dbus *d, int64_t until_ns, struct dbus_in *out)
{
	uint32_t head[4], fields, body;
	char name[128] = "";
	size_t start;

	TRY(read_within(d->fd, head, sizeof head, until_ns));
	body = head[1];
	fields = head[3];
	if ((head[0] & 0xff) != 'l' || body > MESSAGE_MAX || fields > MESSAGE_MAX)
		return FAIL(ERR_INVALID, "a D-Bus message that is none, or too large");
	start = 16 + (((size_t)fields + 7) & ~(size_t)7);
	out->n = start + body;
	out->data = xcalloc(1, out->n + 1);
	memcpy(out->data, head, sizeof head);
	TRY(read_within(d->fd, out->data + 16, out->n - 16, until_ns));
	out->type = (char)(head[0] >> 8 & 0xff);
	out->at = 16;
	read_fields(out, 16 + fields, name);
	out->at = start;
	if (out->type == ERROR)
		return FAIL(kind_of(name), "%s (%s)", dbus_get_str(out), name);
	return NULL;
}

static FALLIBLE call(struct dbus *d, struct target t, const char *member, const char *signature,
		     const struct dbus_out *args, struct dbus_in *out_reply)
{
	int64_t until = time_monotonic_ns() + CALL_MS * INT64_C(1000000);

	TRY(send(d, t, member, signature, args));
	for (;;) {
		struct err *e;

		dbus_in_fini(out_reply);
		e = receive(d, until, out_reply);
		if (e || (out_reply->type == RETURN && out_reply->reply_to == d->serial))
			return e;
		if (out_reply->type == SIGNAL && !strcmp(out_reply->member, DBUS_KEPT) &&
		    d->n_early < LEN(d->early)) {
			d->early[d->n_early++] = *out_reply;
			*out_reply = (struct dbus_in){ 0 };
		}
	}
}

FALLIBLE dbus_call(struct dbus *d, const char *member, const char *signature, const struct dbus_out *args,
		   struct dbus_in *out_reply)
{
	static const struct target manager = { "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
					       "org.freedesktop.systemd1.Manager" };
	struct err *e = call(d, manager, member, signature, args, out_reply);

	return e ? err_ctx(e, "systemd: %s", member) : NULL;
}

FALLIBLE dbus_signal(struct dbus *d, const char *member, int timeout_ms, struct dbus_in *out)
{
	int64_t until = time_monotonic_ns() + timeout_ms * INT64_C(1000000);

	if (d->n_early && strcmp(member, DBUS_KEPT) == 0) {
		*out = d->early[0];
		memmove(d->early, d->early + 1, --d->n_early * sizeof *d->early);
		return NULL;
	}
	do {
		dbus_in_fini(out);
		TRY(receive(d, until, out));
	} while (out->type != SIGNAL || strcmp(out->member, member) != 0);
	return NULL;
}

/* "unix:path=P[,…][;…]": the first path. NULL: none. Owned. */
static char *path_of(const char *address)
{
	const char *at = address ? strstr(address, "unix:path=") : NULL;

	return at ? xstrndup(at + 10, strcspn(at + 10, ",;")) : NULL;
}

/* What a bus wants first: a name for us, and word of systemd's signals. */
static FALLIBLE join_bus(struct dbus *d)
{
	static const struct target bus = { "org.freedesktop.DBus", "/org/freedesktop/DBus",
					   "org.freedesktop.DBus" };
	struct dbus_out rule = { BUF(1024) };
	struct dbus_in reply = { 0 };
	struct err *e;

	dbus_put_str(&rule, "type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'");
	e = call(d, bus, "Hello", NULL, NULL, &reply);
	if (!e)
		e = call(d, bus, "AddMatch", "s", &rule, &reply);
	if (!e)
		e = dbus_call(d, "Subscribe", NULL, NULL, &reply);
	dbus_in_fini(&reply);
	buf_fini(&rule.b);
	return e;
}

FALLIBLE dbus_open(struct dbus *out, bool user)
{
	const char *run = getenv("XDG_RUNTIME_DIR"), *dir = user ? (run ? run : "/nonexistent") : "/run";
	auto_free char *own = xasprintf("%s/systemd/private", dir);
	auto_free char *given =
	    path_of(getenv(user ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS"));
	auto_free char *usual = user ? xasprintf("%s/bus", dir) : xstrdup("/run/dbus/system_bus_socket");
	const char *const paths[] = { given, own, usual };
	struct err *e;
	int fd = -ENOENT;

	for (size_t i = 0; i < LEN(paths) && fd < 0; i++) {
		if (!paths[i])
			continue;
		fd = sys_unix_connect_stream(paths[i]);
		out->is_bus = paths[i] != own;
	}
	if (fd < 0)
		return FAIL(ERR_UNAVAILABLE,
			    "systemd cannot be reached (%s, %s); use --cgroup-manager=cgroupfs", own, usual);
	out->fd = fd;
	out->serial = 0;
	e = authenticate(fd);
	if (!e && out->is_bus)
		e = join_bus(out);
	if (e)
		dbus_close(out);
	return e;
}
