/*
 * filter.c - tables to BPF: equal neighbours become ranges, ranges a balanced tree of comparisons, leaves
 * answer.
 *
 * The program is written backwards, from its last instruction to its first, so that every jump's target is
 * known when the jump is written and its size (8-bit offsets, else a detour over an unconditional jump) is
 * chosen at once.
 */
#include "runtime/filter.h"
#include "base/mem.h"
#include "base/own.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>

#define X32_BIT 0x40000000u

struct row {
	const char *name;
	int16_t number[ABI_KINDS];
};
static const struct row rows[] = {
#define S(name, x86_64, i386) { #name, { x86_64, i386 } },
#include "runtime/syscalls.inc"
#undef S
};
#define S(name, x86_64, i386) _Static_assert((x86_64) < FILTER_NRS && (i386) < FILTER_NRS, #name);
#include "runtime/syscalls.inc"
#undef S

static const struct row *find_row(const char *name, size_t near)
{
	size_t lo = 0, hi = LEN(rows);

	for (size_t i = near + 1; i < near + 4 && i < LEN(rows); i++)
		if (strcmp(name, rows[i].name) == 0)
			return &rows[i];
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(name, rows[mid].name);

		if (c == 0)
			return &rows[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

bool filter_numbers(const char *name, size_t *near, int out[ABI_KINDS])
{
	const struct row *r = find_row(name, *near);

	for (int k = 0; k < ABI_KINDS; k++)
		out[k] = r ? r->number[k] : -1;
	*near = r ? (size_t)(r - rows) : *near;
	return r != NULL;
}

int filter_number(enum filter_abi_kind abi, const char *name)
{
	const struct row *r = find_row(name, LEN(rows));

	return r ? r->number[abi] : -1;
}

void filter_init(struct filter_policy *f, uint32_t def)
{
	memset(f, 0, sizeof *f);
	f->def = def;
	f->abi[ABI_X86_64].on = true;
	for (int k = 0; k < ABI_KINDS; k++)
		f->abi[k].top = -1;
}

void filter_fini(struct filter_policy *f)
{
	vec_fini(&f->rules);
	vec_fini(&f->uses);
}

void filter_name(struct filter_policy *f, enum filter_abi_kind abi, int number)
{
	if (number > f->abi[abi].top)
		f->abi[abi].top = number;
}

void filter_set(struct filter_policy *f, enum filter_abi_kind abi, int number, uint32_t ret)
{
	struct filter_abi *a = &f->abi[abi];

	filter_name(f, abi, number);
	if (number < 0 || a->is_set[number])
		return;
	a->is_set[number] = true;
	a->ret[number] = ret;
}

void filter_when(struct filter_policy *f, enum filter_abi_kind abi, int number, unsigned rule)
{
	unsigned *at;

	filter_name(f, abi, number);
	if (number < 0)
		return;
	*vec_push(&f->uses) = (struct filter_use){ rule, 0 };
	at = &f->abi[abi].uses[number];
	while (*at)
		at = &f->uses.p[*at - 1].next;
	*at = (unsigned)f->uses.n;
}

unsigned filter_rule(struct filter_policy *f, const struct filter_rule *r)
{
	*vec_push(&f->rules) = *r;
	return (unsigned)f->rules.n - 1;
}

/* --- the writer: p[at …] is what has been written, growing downwards --- */

struct program {
	struct sock_filter p[BPF_MAXINSNS];
	size_t at;
	bool full;
	struct {
		uint32_t ret;
		size_t at; /* 0: free */
	} rets[8];         /* answers that stand already; many branches share one */
	size_t next_ret;
};
enum { NEAR = 250 }; /* instructions a comparison can jump over, less some room */

static size_t put(struct program *g, struct sock_filter insn)
{
	if (g->at == 0)
		g->full = true;
	else
		g->p[--g->at] = insn;
	return g->at;
}

static size_t put_ret(struct program *g, uint32_t ret)
{
	return put(g, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ret));
}

static void put_load(struct program *g, size_t offset)
{
	(void)put(g, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

/* A comparison with both targets near (within a rule). */
static void put_cmp(struct program *g, uint16_t op, uint32_t k, size_t yes, size_t no)
{
	size_t here = g->at;

	(void)put(g, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | op | BPF_K), k, (uint8_t)(yes - here),
						  (uint8_t)(no - here)));
}

/* An entry that answers ret, near enough to be jumped to. */
static size_t shared_ret(struct program *g, uint32_t ret)
{
	for (size_t i = 0; i < LEN(g->rets); i++)
		if (g->rets[i].at && g->rets[i].ret == ret && g->rets[i].at - g->at <= NEAR / 2)
			return g->rets[i].at;
	g->next_ret = (g->next_ret + 1) % LEN(g->rets);
	g->rets[g->next_ret].ret = ret;
	return g->rets[g->next_ret].at = put_ret(g, ret);
}

/* A target that a comparison can reach: itself, or a jump to it. */
static size_t near_target(struct program *g, size_t target)
{
	if (target - g->at <= NEAR)
		return target;
	return put(g, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)(target - g->at)));
}

/* If the comparison holds goes to target, else on. */
static void put_jump_if(struct program *g, uint16_t op, uint32_t k, size_t target)
{
	size_t distance = target - g->at;

	if (distance > 255) {
		(void)put(g, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)distance));
		(void)put(g, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | op | BPF_K), k, 0, 1));
	} else {
		(void)put(g, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | op | BPF_K), k,
							  (uint8_t)distance, 0));
	}
}

static size_t arg_offset(unsigned arg, bool high)
{
	return offsetof(struct seccomp_data, args) + arg * sizeof(uint64_t) +
	       (high ? 4 : 0); /* little endian */
}

/* The lower halves, the upper ones being equal. */
static void put_low(struct program *g, const struct filter_cond *c, size_t yes, size_t no)
{
	uint32_t v = (uint32_t)c->value;

	switch (c->op) {
	case OP_EQ:
		put_cmp(g, BPF_JEQ, v, yes, no);
		break;
	case OP_NE:
		put_cmp(g, BPF_JEQ, v, no, yes);
		break;
	case OP_GE:
		put_cmp(g, BPF_JGE, v, yes, no);
		break;
	case OP_LT:
		put_cmp(g, BPF_JGE, v, no, yes);
		break;
	case OP_GT:
		put_cmp(g, BPF_JGT, v, yes, no);
		break;
	case OP_LE:
		put_cmp(g, BPF_JGT, v, no, yes);
		break;
	case OP_MASKED_EQ:
		put_cmp(g, BPF_JEQ, (uint32_t)c->datum, yes, no);
		(void)put(g, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, v));
		break;
	}
	put_load(g, arg_offset(c->arg, false));
}

static void put_high(struct program *g, const struct filter_cond *c, size_t yes, size_t no)
{
	uint32_t v = (uint32_t)(c->value >> 32);
	size_t low = g->at;

	switch (c->op) {
	case OP_EQ:
		put_cmp(g, BPF_JEQ, v, low, no);
		break;
	case OP_NE:
		put_cmp(g, BPF_JEQ, v, low, yes);
		break;
	case OP_GE:
	case OP_GT:
		put_cmp(g, BPF_JEQ, v, low, no);
		put_cmp(g, BPF_JGT, v, yes, g->at);
		break;
	case OP_LT:
	case OP_LE:
		put_cmp(g, BPF_JEQ, v, low, yes);
		put_cmp(g, BPF_JGT, v, no, g->at);
		break;
	case OP_MASKED_EQ:
		put_cmp(g, BPF_JEQ, (uint32_t)(c->datum >> 32), low, no);
		(void)put(g, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, v));
		break;
	}
	put_load(g, arg_offset(c->arg, true));
}

/* The conditional rules of one call from uses[use - 1] on; what follows the last stands already. */
static void put_rules(const struct filter_policy *f, struct program *g, unsigned use)
{
	const struct filter_use *u = &f->uses.p[use - 1];
	const struct filter_rule *r = &f->rules.p[u->rule];
	size_t next;

	if (u->next)
		put_rules(f, g, u->next);
	next = g->at;
	(void)put_ret(g, r->ret);
	for (unsigned i = r->n_conds; i-- > 0;) {
		size_t holds = g->at;

		put_low(g, &r->conds[i], holds, next);
		if (!r->conds[i].low32)
			put_high(g, &r->conds[i], holds, next);
	}
}

struct range {
	unsigned from;
	uint32_t ret;
	unsigned use;
};

/* Returns the entry. */
static size_t put_tree(const struct filter_policy *f, struct program *g, const struct range *r, size_t n)
{
	size_t right, left;

	if (n == 1) {
		if (!r->use)
			return shared_ret(g, r->ret);
		(void)put_ret(g, r->ret);
		put_rules(f, g, r->use);
		return g->at;
	}
	right = put_tree(f, g, r + n / 2, n - n / 2);
	left = put_tree(f, g, r, n / 2);
	right = near_target(g, right);
	left = near_target(g, left);
	put_cmp(g, BPF_JGE, r[n / 2].from, right, left);
	return g->at;
}

static bool lets_through(uint32_t ret)
{
	uint32_t action = ret & SECCOMP_RET_ACTION_FULL;

	return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG || action == SECCOMP_RET_TRACE;
}

/* Everything for one ABI, behind its architecture check. Returns its entry. */
static size_t put_abi(const struct filter_policy *f, struct program *g, enum filter_abi_kind kind)
{
	const struct filter_abi *a = &f->abi[kind];
	struct range ranges[FILTER_NRS + 1] = { 0 };
	size_t n = 0, entry;
	bool enosys = (f->def & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO && a->top >= 0;

	for (unsigned nr = 0; nr <= FILTER_NRS; nr++) {
		struct range r = { nr, f->def, 0 };

		if (enosys && (int)nr > a->top)
			r.ret = SECCOMP_RET_ERRNO | ENOSYS;
		else if (nr < FILTER_NRS && a->is_set[nr])
			r.ret = a->ret[nr];
		else if (nr < FILTER_NRS)
			r.use = a->uses[nr];
		if (n && !r.use && !ranges[n - 1].use && ranges[n - 1].ret == r.ret)
			continue;
		ranges[n++] = r;
	}
	entry = put_tree(f, g, ranges, n);
	if (entry != g->at) /* one range for all: the answer stands elsewhere */
		(void)put(g, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)(entry - g->at)));
	if (kind == ABI_X86_64) {
		size_t tree = g->at,
		       x32 = put_ret(g, lets_through(f->def) ? SECCOMP_RET_ERRNO | ENOSYS : f->def);

		put_cmp(g, BPF_JGE, X32_BIT, x32, tree);
	}
	put_load(g, offsetof(struct seccomp_data, nr));
	return g->at;
}

struct err *filter_compile(const struct filter_policy *f, struct plan *p)
{
	static const uint32_t arches[ABI_KINDS] = { AUDIT_ARCH_X86_64, AUDIT_ARCH_I386 };
	auto_free struct program *g = xmalloc(sizeof *g); /* on the stack each page would be touched */
	size_t entry[ABI_KINDS] = { 0 }, n;

	g->at = BPF_MAXINSNS;
	g->full = false;
	g->next_ret = 0;
	memset(g->rets, 0, sizeof g->rets);
	for (int k = ABI_KINDS; k-- > 0;)
		if (f->abi[k].on)
			entry[k] = put_abi(f, g, (enum filter_abi_kind)k);
	(void)put_ret(g, SECCOMP_RET_KILL_THREAD);
	for (int k = ABI_KINDS; k-- > 0;)
		if (f->abi[k].on)
			put_jump_if(g, BPF_JEQ, arches[k], entry[k]);
	put_load(g, offsetof(struct seccomp_data, arch));
	n = BPF_MAXINSNS - g->at;
	p->filter = g->full ? NULL : arena_alloc(&p->arena, n * sizeof *p->filter);
	if (!p->filter)
		return FAIL(ERR_LIMIT, "linux.seccomp: larger than the kernel's %d instructions",
			    BPF_MAXINSNS);
	memcpy(p->filter, g->p + g->at, n * sizeof *p->filter);
	p->n_filter = n;
	return NULL;
}

/* ---- one call, tried ---- */

#ifdef __x86_64__
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#define OUR_ARCH 0
#endif

static bool load(const struct seccomp_data *d, uint32_t at, uint32_t *out)
{
	if (at % 4 || at + 4 > sizeof *d)
		return false;
	memcpy(out, (const char *)d + at, 4);
	return true;
}

static bool jump(const struct sock_filter *i, uint32_t a, bool *out)
{
	switch (BPF_OP(i->code)) {
	case BPF_JEQ:
		*out = a == i->k;
		return true;
	case BPF_JGT:
		*out = a > i->k;
		return true;
	case BPF_JGE:
		*out = a >= i->k;
		return true;
	case BPF_JSET:
		*out = (a & i->k) != 0;
		return true;
	default:
		return false;
	}
}

bool filter_passes(const struct sock_filter *f, size_t n, int nr, uint64_t first, uint64_t second)
{
	struct seccomp_data d = { .nr = nr, .arch = OUR_ARCH, .args = { first, second } };
	uint32_t a = 0;

	for (size_t at = 0; at < n; at++) {
		const struct sock_filter *i = &f[at];
		bool yes;

		if (i->code == (BPF_LD | BPF_W | BPF_ABS)) {
			if (!load(&d, i->k, &a))
				return false;
		} else if (i->code == (BPF_ALU | BPF_AND | BPF_K)) {
			a &= i->k;
		} else if (i->code == (BPF_JMP | BPF_JA)) {
			at += i->k;
		} else if (BPF_CLASS(i->code) == BPF_JMP && BPF_SRC(i->code) == BPF_K && jump(i, a, &yes)) {
			at += yes ? i->jt : i->jf;
		} else {
			uint32_t action = i->k & SECCOMP_RET_ACTION_FULL;

			return i->code == (BPF_RET | BPF_K) && (action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG);
		}
	}
	return false;
}
