#include "network/nlmsg.h"
#include "base/mem.h"
#include "base/own.h"
#include "sys/netlink.h"
#include <arpa/inet.h>

enum { RECV_BYTES = 64 << 10 };

void nl_fini(struct nl_batch *m)
{
	buf_fini(&m->b);
}

static void pad(struct nl_batch *m)
{
	while (m->b.n % NLMSG_ALIGNTO && !m->b.failed)
		buf_ch(&m->b, 0);
}

/* Lengths are brought up to date with every append: there is no "end of message" to forget. */
static void grown(struct nl_batch *m)
{
	uint32_t len = (uint32_t)(m->b.n - m->msg_at);

	if (m->b.failed)
		return;
	memcpy(m->b.data + m->msg_at, &len, sizeof len);
	for (unsigned i = 0; i < m->depth; i++) {
		uint16_t nested = (uint16_t)(m->b.n - m->nest[i]);

		memcpy(m->b.data + m->nest[i], &nested, sizeof nested);
	}
}

void nl_msg(struct nl_batch *m, uint16_t type, uint16_t flags, const void *head, size_t n)
{
	struct nlmsghdr h = { .nlmsg_type = type, .nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST), .nlmsg_seq = ++m->n };

	m->msg_at = m->b.n;
	m->depth = 0;
	buf_add(&m->b, &h, sizeof h);
	buf_add(&m->b, head, n);
	pad(m);
	grown(m);
}

void nl_put(struct nl_batch *m, uint16_t attr, const void *p, size_t n)
{
	struct nlattr a = { .nla_len = (uint16_t)(sizeof a + n), .nla_type = attr };

	buf_add(&m->b, &a, sizeof a);
	buf_add(&m->b, p, n);
	pad(m);
	grown(m);
}

void nl_str(struct nl_batch *m, uint16_t attr, const char *s)
{
	nl_put(m, attr, s, strlen(s) + 1);
}

void nl_u32(struct nl_batch *m, uint16_t attr, uint32_t v)
{
	nl_put(m, attr, &v, sizeof v);
}

void nl_be32(struct nl_batch *m, uint16_t attr, uint32_t v)
{
	nl_u32(m, attr, htonl(v));
}

void nl_nest(struct nl_batch *m, uint16_t attr)
{
	m->nest[m->depth++] = m->b.n;
	nl_put(m, (uint16_t)(attr | NLA_F_NESTED), NULL, 0);
}

void nl_nest_head(struct nl_batch *m, uint16_t attr, const void *head, size_t n)
{
	m->nest[m->depth++] = m->b.n;
	nl_put(m, (uint16_t)(attr | NLA_F_NESTED), head, n);
}

void nl_end(struct nl_batch *m)
{
	m->depth--;
}

/* The kernel's own words about an error, or NULL; borrowed from h. */
static const char *kernel_text(const struct nlmsghdr *h)
{

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	nl_each(a, h, sizeof(struct nlmsgerr))
		if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG)
			return mnl_attr_get_str(a);
	return NULL;
}

struct reader {
	int (*each)(void *ctx, const struct nlmsghdr *h);
	void *ctx;
	const char *what;
	uint32_t *out_at;
	struct err *e;
};

static void read_one(struct reader *r, const struct nlmsghdr *h)
{
	int result = 0;
	const char *text;

	if (r->e)
		return;
	if (h->nlmsg_type == NLMSG_ERROR) {
		result = ((const struct nlmsgerr *)mnl_nlmsg_get_payload(h))->error;
	} else if (h->nlmsg_type == NLMSG_DONE) {
		memcpy(&result, mnl_nlmsg_get_payload(h), sizeof result);
	} else if (r->each) {
		result = r->each(r->ctx, h);
	}
	if (result >= 0)
		return;
	text = h->nlmsg_type == NLMSG_ERROR ? kernel_text(h) : NULL;
	r->e = FAIL_OS(-result, "%s%s%s", r->what, text ? ": " : "", text ? text : "");
	if (r->out_at)
		*r->out_at = h->nlmsg_seq - 1;
}

static struct err *talk(int fd, struct nl_batch *m, struct reader *r)
{
	auto_free char *in = xmalloc(RECV_BYTES);
	int sent;

	TRY(buf_check(&m->b, r->what));
	sent = sys_netlink_send(fd, m->b.data, m->b.n);
	if (sent < 0)
		return FAIL_OS(-sent, "%s", r->what);
	for (;;) {
		ssize_t n = sys_netlink_recv(fd, in, RECV_BYTES);
		int left = (int)n;

		if (n == -EAGAIN)
			return r->e;
		if (n < 0 || n > RECV_BYTES) {
			err_free(r->e);
			return FAIL_OS(n < 0 ? (int)-n : ENOBUFS, "%s: answer", r->what);
		}
		for (const struct nlmsghdr *h = (const void *)in; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
			read_one(r, h);
	}
}

struct err *nl_send(int fd, struct nl_batch *m, const char *what, uint32_t *out_at)
{
	struct reader r = { .what = what, .out_at = out_at };

	return talk(fd, m, &r);
}

struct err *nl_query(int fd, struct nl_batch *m, const char *what, int (*each)(void *ctx, const struct nlmsghdr *h),
		     void *ctx)
{
	struct reader r = { .each = each, .ctx = ctx, .what = what };

	return talk(fd, m, &r);
}
