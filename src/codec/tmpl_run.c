/*
 * tmpl_run.c - walks the tree over the data. Values are borrowed: from the data, the literals or the pool of the run.
 *
 * Our values have no Go types, so one thing is decided by name: an object under a key of map_keys is a map (free keys,
 * printed map[…], a missing key is no value), every other object stands for an API struct.
 */
#include "base/own.h"
#include "codec/tmpl_int.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#define OUTPUT_MAX  (64u << 20)
#define COUNT_MAX   100000
#define DEPTH_MAX   64

static const char *const map_keys[] = {
	"Labels", "Ports", "PortBindings", "ExposedPorts", "Volumes", "Options", "DriverOpts", "Networks", "Sysctls", "Config.Config",
	"Annotations", "Tmpfs", "Containers", "EndpointsConfig", "StorageOpt", "Data", "IPAMOptions",
};

static bool is_map_key(const char *name)
{
	for (size_t i = 0; i < LEN(map_keys); i++)
		if (strcmp(map_keys[i], name) == 0)
			return true;
	return false;
}

struct err *tmpl_fail_at(const struct tmpl *t, const struct expr *x, const char *fmt, ...)
{
	char msg[256];
	unsigned line = 1, column = 1;
	va_list ap;

	for (size_t i = 0; i < x->at; i++) {
		line += t->source[i] == '\n';
		column = t->source[i] == '\n' ? 1 : column + 1;
	}
	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	return FAIL(ERR_INVALID, "template parsing error: template: :%u:%u: executing \"\" at <%s>: %s", line, column - 1,
		    x->text, msg);
}

struct val tmpl_keep(struct run *r, json_t *owned)
{
	struct val v = { .j = owned };

	if (owned && json_array_append_new(r->pool, owned) != 0)
		v.j = NULL;
	return v;
}

bool tmpl_truth(struct val v)
{
	if (!v.j)
		return false;
	switch (json_typeof(v.j)) {
	case JSON_OBJECT:
		return json_object_size(v.j) > 0;
	case JSON_ARRAY:
		return json_array_size(v.j) > 0;
	case JSON_STRING:
		return json_string_length(v.j) > 0;
	case JSON_INTEGER:
		return json_integer_value(v.j) != 0;
	case JSON_REAL:
		return fpclassify(json_real_value(v.j)) != FP_ZERO;
	case JSON_TRUE:
		return true;
	case JSON_FALSE:
	case JSON_NULL:
		break;
	}
	return false;
}

/* The shortest decimal that reads back as d. */
static void print_real(double d, struct buf *out)
{
	char text[40];

	for (int digits = 1; digits <= 17; digits++) {
		(void)snprintf(text, sizeof text, "%.*g", digits, d);
		if (!(strtod(text, NULL) < d) && !(strtod(text, NULL) > d))
			break;
	}
	buf_str(out, text);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The keys of an object in Go's order of maps; owned array of borrowed strings. */
static const char **sorted_keys(const json_t *object, size_t *out_n)
{
	size_t n = 0;
	const char **keys = xcalloc(json_object_size(object) + 1, sizeof *keys);
	const char *key;
	json_t *value;

	union {
		const json_t *c;
		json_t *m;
	} u = { object };
	json_object_foreach(u.m, key, value)
		keys[n++] = key;
	qsort(keys, n, sizeof *keys, by_key);
	*out_n = n;
	return keys;
}

static void print_object(struct val v, struct buf *out)
{
	size_t n;
	auto_free const char **keys = sorted_keys(v.j, &n);
	const char *key;
	json_t *value;
	bool first = true;
	union {
		const json_t *c;
		json_t *m;
	} u = { v.j };

	if (v.is_map) {
		buf_str(out, "map[");
		for (size_t i = 0; i < n; i++) {
			buf_fmt(out, "%s%s:", i ? " " : "", keys[i]);
			tmpl_print((struct val){ .j = json_object_get(v.j, keys[i]) }, out, true);
		}
		buf_ch(out, ']');
		return;
	}
	buf_ch(out, '{');
	json_object_foreach(u.m, key, value) {
		if (!first)
			buf_ch(out, ' ');
		first = false;
		tmpl_print((struct val){ .j = value, .is_map = is_map_key(key) }, out, true);
	}
	buf_ch(out, '}');
}

void tmpl_print(struct val v, struct buf *out, bool nested)
{
	if (!v.j || json_is_null(v.j)) {
		buf_str(out, v.is_map && v.j ? "map[]" : nested || v.j ? "<nil>" : "<no value>");
		return;
	}
	switch (json_typeof(v.j)) {
	case JSON_OBJECT:
		print_object(v, out);
		break;
	case JSON_ARRAY:
		buf_ch(out, '[');
		for (size_t i = 0; i < json_array_size(v.j); i++) {
			if (i)
				buf_ch(out, ' ');
			tmpl_print((struct val){ .j = json_array_get(v.j, i) }, out, true);
		}
		buf_ch(out, ']');
		break;
	case JSON_STRING:
		buf_add(out, json_string_value(v.j), json_string_length(v.j));
		break;
	case JSON_INTEGER:
		buf_fmt(out, "%lld", (long long)json_integer_value(v.j));
		break;
	case JSON_REAL:
		print_real(json_real_value(v.j), out);
		break;
	case JSON_TRUE:
	case JSON_FALSE:
	case JSON_NULL:
		buf_str(out, json_is_true(v.j) ? "true" : "false");
		break;
	}
}

static FALLIBLE field(struct run *r, const struct expr *x, struct val base, struct val *out)
{
	const char *key;
	json_t *value;
	union {
		const json_t *c;
		json_t *m;
	} u = { base.j };

	if (base.is_map && (!base.j || json_is_null(base.j))) {
		*out = (struct val){ 0 };
		return NULL;
	}
	if (!base.j || json_is_null(base.j))
		return tmpl_fail_at(r->t, x, "nil pointer evaluating interface {}.%s", x->name);
	if (!json_is_object(base.j))
		return tmpl_fail_at(r->t, x, "can't evaluate field %s in type %s", x->name,
				    json_is_array(base.j) ? "[]interface {}" : "string");
	value = json_object_get(base.j, x->name);
	if (!value && !base.is_map) {
		const char *name = x->name;

		json_object_foreach(u.m, key, value)
			if (strcasecmp(key, name) == 0)
				break;
		value = key ? value : NULL;
	}
	if (!value && !base.is_map)
		return tmpl_fail_at(r->t, x, "map has no entry for key \"%s\"", x->name);
	*out = (struct val){ .j = value, .is_map = value && is_map_key(x->name) };
	return NULL;
}

static FALLIBLE eval(struct run *r, const struct expr *x, struct val dot, const struct val *piped, struct val *out);

static FALLIBLE eval_call(struct run *r, const struct expr *x, struct val dot, const struct val *piped, struct val *out)
{
	struct val args[34];
	bool is_and = strcmp(x->name, "and") == 0, is_or = strcmp(x->name, "or") == 0;
	size_t n = 0;

	for (size_t i = 0; i < x->n_args; i++) {
		TRY(eval(r, x->args[i], dot, NULL, &args[n++]));
		if ((is_and && !tmpl_truth(args[i])) || (is_or && tmpl_truth(args[i]))) {
			*out = args[i];
			return NULL;
		}
	}
	if (piped)
		args[n++] = *piped;
	if ((is_and || is_or) && n) {
		*out = args[n - 1];
		return NULL;
	}
	return tmpl_call(r, x, args, n, out);
}

static struct scope *find_var(struct run *r, const char *name)
{
	for (size_t i = r->n_vars; i-- > 0;)
		if (strcmp(r->vars[i].name, name) == 0)
			return &r->vars[i];
	return NULL;
}

static struct err *eval(struct run *r, const struct expr *x, struct val dot, const struct val *piped, struct val *out)
{
	struct val v = { 0 };
	const struct scope *s;

	switch (x->kind) {
	case EXPR_DOT:
		*out = dot;
		return NULL;
	case EXPR_LIT:
		*out = (struct val){ .j = x->lit };
		return NULL;
	case EXPR_VAR:
		s = find_var(r, x->name);
		if (!s)
			return tmpl_fail_at(r->t, x, "undefined variable \"$%s\"", x->name);
		*out = s->v;
		return NULL;
	case EXPR_FIELD:
		TRY(eval(r, x->base, dot, NULL, &v));
		return field(r, x, v, out);
	case EXPR_CALL:
		return eval_call(r, x, dot, piped, out);
	case EXPR_PIPE:
		for (size_t i = 0; i < x->n_args; i++)
			TRY(eval(r, x->args[i], dot, i ? &v : NULL, &v));
		*out = v;
		return NULL;
	}
	return FAIL(ERR_INTERNAL, "template: expression %d", (int)x->kind);
}

static FALLIBLE set_var(struct run *r, const struct expr *at, const char *name, struct val v, bool assign)
{
	struct scope *s = assign ? find_var(r, name) : NULL;

	if (assign && !s)
		return tmpl_fail_at(r->t, at, "undefined variable \"$%s\"", name);
	if (!s) {
		if (r->n_vars == LEN(r->vars))
			return FAIL(ERR_LIMIT, "template: more than %zu variables", LEN(r->vars));
		s = &r->vars[r->n_vars++];
	}
	*s = (struct scope){ .name = name, .v = v };
	return NULL;
}

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };
static FALLIBLE run_list(struct run *r, const struct node *n, struct val dot, enum flow *out_flow);

/* One round of a range body. */
static FALLIBLE round_of(struct run *r, const struct node *n, struct val key, struct val item, enum flow *out_flow)
{
	size_t mark = r->n_vars;

	if (n->n_vars == 2)
		TRY(set_var(r, n->pipe, n->var[0], key, n->assign));
	if (n->n_vars)
		TRY(set_var(r, n->pipe, n->var[n->n_vars - 1], item, n->assign));
	*out_flow = FLOW_ON;
	TRY(run_list(r, n->body, item, out_flow));
	r->n_vars = mark;
	return NULL;
}

static FALLIBLE range_map(struct run *r, const struct node *n, struct val over)
{
	size_t count;
	auto_free const char **keys = sorted_keys(over.j, &count);
	enum flow flow = FLOW_ON;

	for (size_t i = 0; i < count && flow != FLOW_BREAK; i++)
		TRY(round_of(r, n, tmpl_keep(r, json_string(keys[i])),
			     (struct val){ .j = json_object_get(over.j, keys[i]), .is_map = is_map_key(keys[i]) }, &flow));
	return NULL;
}

static FALLIBLE run_range(struct run *r, const struct node *n, struct val over, struct val dot, enum flow *out_flow)
{
	enum flow flow = FLOW_ON;
	size_t count;

	if (!tmpl_truth(over))
		return run_list(r, n->orelse, dot, out_flow);
	if (json_is_object(over.j))
		return range_map(r, n, over);
	if (!json_is_array(over.j) && !json_is_integer(over.j))
		return tmpl_fail_at(r->t, n->pipe, "range can't iterate over it");
	count = json_is_array(over.j) ? json_array_size(over.j) : (size_t)json_integer_value(over.j);
	if (json_is_integer(over.j) && (json_integer_value(over.j) < 0 || count > COUNT_MAX))
		return FAIL(ERR_LIMIT, "template: range over more than %d", COUNT_MAX);
	for (size_t i = 0; i < count && flow != FLOW_BREAK; i++) {
		struct val number = tmpl_keep(r, json_integer((json_int_t)i));

		TRY(round_of(r, n, number,
			     json_is_array(over.j) ? (struct val){ .j = json_array_get(over.j, i) } : number, &flow));
	}
	return NULL;
}

static FALLIBLE run_block(struct run *r, const struct node *n, struct val dot, enum flow *out_flow)
{
	size_t mark = r->n_vars;
	struct val v;

	TRY(eval(r, n->pipe, dot, NULL, &v));
	if (n->kind == NODE_RANGE)
		return run_range(r, n, v, dot, out_flow);
	if (n->n_vars)
		TRY(set_var(r, n->pipe, n->var[0], v, n->assign));
	if (tmpl_truth(v))
		TRY(run_list(r, n->body, n->kind == NODE_WITH ? v : dot, out_flow));
	else
		TRY(run_list(r, n->orelse, dot, out_flow));
	r->n_vars = mark;
	return NULL;
}

static FALLIBLE run_action(struct run *r, const struct node *n, struct val dot)
{
	struct val v;

	TRY(eval(r, n->pipe, dot, NULL, &v));
	if (n->n_vars)
		return set_var(r, n->pipe, n->var[0], v, n->assign);
	tmpl_print(v, r->out, false);
	return NULL;
}

static struct err *run_list(struct run *r, const struct node *n, struct val dot, enum flow *out_flow)
{
	if (++r->depth > DEPTH_MAX)
		return FAIL(ERR_LIMIT, "template nested too deeply");
	for (; n && *out_flow == FLOW_ON; n = n->next) {
		switch (n->kind) {
		case NODE_TEXT:
			buf_sv(r->out, n->text);
			break;
		case NODE_ACTION:
			TRY(run_action(r, n, dot));
			break;
		case NODE_BREAK:
			*out_flow = FLOW_BREAK;
			break;
		case NODE_CONTINUE:
			*out_flow = FLOW_CONTINUE;
			break;
		case NODE_IF:
		case NODE_RANGE:
		case NODE_WITH:
			TRY(run_block(r, n, dot, out_flow));
			break;
		}
		TRY(buf_check(r->out, "output of the template"));
	}
	r->depth--;
	return NULL;
}

struct err *tmpl_run(const struct tmpl *t, const json_t *data, struct buf *out)
{
	auto_json json_t *pool = json_array();
	auto_buf struct buf text = BUF(OUTPUT_MAX);
	struct run r = { .t = t, .pool = pool, .out = &text };
	struct val dot = { .j = data };
	enum flow flow = FLOW_ON;

	r.vars[r.n_vars++] = (struct scope){ .name = "", .v = dot };
	TRY(run_list(&r, t->nodes, dot, &flow));
	buf_add(out, buf_text(&text), text.n);
	return NULL;
}

static bool expr_uses(const struct expr *x, const char *name)
{
	if (!x)
		return false;
	if (x->kind == EXPR_FIELD && strcmp(x->name, name) == 0)
		return true;
	for (size_t i = 0; i < x->n_args; i++)
		if (expr_uses(x->args[i], name))
			return true;
	return expr_uses(x->base, name);
}

static bool list_uses(const struct node *n, const char *name)
{
	for (; n; n = n->next)
		if (expr_uses(n->pipe, name) || list_uses(n->body, name) || list_uses(n->orelse, name))
			return true;
	return false;
}

bool tmpl_uses(const struct tmpl *t, const char *field_name)
{
	return list_uses(t->nodes, field_name);
}
