/* conf.c - see conf.h. */
#include "supervise/conf.h"
#include <stdio.h>
#include <string.h>

void keeper_conf_pack(const struct keeper_conf *c, const struct buf *plan, struct buf *out)
{
	struct keeper_conf head = *c;

	head.version = KEEPER_VERSION;
	head.plan_bytes = (uint32_t)plan->n;
	buf_add(out, &head, sizeof head);
	buf_add(out, plan->data, plan->n);
}

FALLIBLE keeper_conf_unpack(const void *bytes, size_t n, const struct keeper_conf **out_conf, const void **out_plan)
{
	const struct keeper_conf *c = bytes;

	if (n < sizeof *c || c->version != KEEPER_VERSION || c->plan_bytes != n - sizeof *c)
		return FAIL(ERR_INVALID, "keeper: configuration of another version");
	if (memchr(c->id, 0, sizeof c->id) == NULL || c->restart > RESTART_UNLESS_STOPPED || c->log_files == 0)
		return FAIL(ERR_INVALID, "keeper: damaged configuration");
	*out_conf = c;
	*out_plan = c + 1;
	return NULL;
}

FALLIBLE keeper_conf_text(char *field, size_t size, const char *text)
{
	size_t n = strlen(text);

	if (n >= size)
		return FAIL(ERR_LIMIT, "\"%.64s…\": longer than %zu bytes", text, size - 1);
	memcpy(field, text, n + 1);
	return NULL;
}

void start_error_pack(const struct err *e, struct start_error *out)
{
	*out = (struct start_error){ .type = START_ERROR, .kind = (uint8_t)e->kind, .os = e->os };
	(void)snprintf(out->msg, sizeof out->msg, "%s", e->msg);
}

FALLIBLE start_error_unpack(struct start_error *m)
{
	struct err *e;

	m->msg[sizeof m->msg - 1] = 0;
	e = err_new(ERR_AT, (enum err_kind)m->kind, 0, "%s", m->msg);
	e->os = m->os;
	return e;
}
