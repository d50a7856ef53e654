/* seccomp.c - linux.seccomp of a configuration (runtime-spec config-linux.md#seccomp) as a filter policy. */
#include "base/own.h"
#include "codec/enc.h"
#include "runtime/filter.h"
#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>

#define SECCOMP "linux.seccomp"

const struct word plan_seccomp_actions[] = {
	{ "SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW },
	{ "SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO },
	{ "SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD },
	{ "SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS },
	{ "SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD },
	{ "SCMP_ACT_LOG", SECCOMP_RET_LOG },
	{ "SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF },
	{ "SCMP_ACT_TRACE", SECCOMP_RET_TRACE },
	{ "SCMP_ACT_TRAP", SECCOMP_RET_TRAP },
	{ NULL, 0 },
};
const struct word plan_seccomp_ops[] = {
	{ "SCMP_CMP_EQ", OP_EQ }, { "SCMP_CMP_GE", OP_GE },
	{ "SCMP_CMP_GT", OP_GT }, { "SCMP_CMP_LE", OP_LE },
	{ "SCMP_CMP_LT", OP_LT }, { "SCMP_CMP_MASKED_EQ", OP_MASKED_EQ },
	{ "SCMP_CMP_NE", OP_NE }, { NULL, 0 },
};
const struct word plan_seccomp_flags[] = {
	{ "SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG },
	{ "SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
	{ "SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC },
	{ "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV },
	{ NULL, 0 },
};
/* value: the ABI + 1; 0: of other machines, or x32, whose calls take the default */
const struct word plan_seccomp_arches[] = {
	{ "SCMP_ARCH_AARCH64", 0 },
	{ "SCMP_ARCH_ARM", 0 },
	{ "SCMP_ARCH_LOONGARCH64", 0 },
	{ "SCMP_ARCH_M68K", 0 },
	{ "SCMP_ARCH_MIPS", 0 },
	{ "SCMP_ARCH_MIPS64", 0 },
	{ "SCMP_ARCH_MIPS64N32", 0 },
	{ "SCMP_ARCH_MIPSEL", 0 },
	{ "SCMP_ARCH_MIPSEL64", 0 },
	{ "SCMP_ARCH_MIPSEL64N32", 0 },
	{ "SCMP_ARCH_PARISC", 0 },
	{ "SCMP_ARCH_PARISC64", 0 },
	{ "SCMP_ARCH_PPC", 0 },
	{ "SCMP_ARCH_PPC64", 0 },
	{ "SCMP_ARCH_PPC64LE", 0 },
	{ "SCMP_ARCH_RISCV64", 0 },
	{ "SCMP_ARCH_S390", 0 },
	{ "SCMP_ARCH_S390X", 0 },
	{ "SCMP_ARCH_SH", 0 },
	{ "SCMP_ARCH_SHEB", 0 },
	{ "SCMP_ARCH_X32", 0 },
	{ "SCMP_ARCH_X86", ABI_I386 + 1 },
	{ "SCMP_ARCH_X86_64", ABI_X86_64 + 1 },
	{ NULL, 0 },
};

/* action with its errno; fallback: what errnoRet is when absent. */
static struct err *action(const json_t *object, const char *key, const char *errno_key, const char *where,
			  uint32_t *out_ret)
{
	const char *name = json_string_value(json_object_get(object, key));
	const struct word *w = word_find(plan_seccomp_actions, name);
	const json_t *os = json_object_get(object, errno_key);

	if (!w)
		return FAIL(ERR_INVALID, "%s.%s: unknown action \"%s\"", where, key, name ? name : "");
	*out_ret = (uint32_t)w->value;
	if (w->value != SECCOMP_RET_ERRNO && w->value != SECCOMP_RET_TRACE)
		return os && !json_is_null(os)
			   ? FAIL(ERR_INVALID, "%s.%s: %s takes none", where, errno_key, name)
			   : NULL;
	if (os && !json_is_null(os) &&
	    (!json_is_integer(os) || json_integer_value(os) < 0 || json_integer_value(os) > SECCOMP_RET_DATA))
		return FAIL(ERR_INVALID, "%s.%s: not an error number", where, errno_key);
	*out_ret |= os && json_is_integer(os) ? (uint32_t)json_integer_value(os) : EPERM;
	return NULL;
}

static bool number64(const json_t *v, uint64_t *out)
{
	*out = 0;
	return !v || json_is_null(v) || json_u64(v, out);
}

static struct err *condition(const json_t *item, const char *where, size_t i, struct filter_cond *out)
{
	const char *op = json_str_at(item, "op", "");
	const struct word *w = word_find(plan_seccomp_ops, op);
	const json_t *index = json_object_get(item, "index");

	if (!json_is_integer(index) || json_integer_value(index) < 0 || json_integer_value(index) > 5)
		return FAIL(ERR_INVALID, "%s.args[%zu].index: not 0 to 5", where, i);
	if (!w)
		return FAIL(ERR_INVALID, "%s.args[%zu].op: unknown \"%s\"", where, i, op);
	*out =
	    (struct filter_cond){ .arg = (uint8_t)json_integer_value(index), .op = (enum filter_op)w->value };
	if (!number64(json_object_get(item, "value"), &out->value) ||
	    !number64(json_object_get(item, "valueTwo"), &out->datum))
		return FAIL(ERR_INVALID, "%s.args[%zu]: value out of range", where, i);
	return NULL;
}

static void on_abis(struct filter_policy *f, const int numbers[ABI_KINDS],
		    void (*with)(struct filter_policy *f, enum filter_abi_kind abi, int number,
				 unsigned value),
		    unsigned value)
{
	for (int k = 0; k < ABI_KINDS; k++)
		with(f, (enum filter_abi_kind)k, numbers[k], value);
}

static void name_only(struct filter_policy *f, enum filter_abi_kind abi, int number, unsigned value)
{
	(void)value;
	filter_name(f, abi, number);
}

/*
 * The conditions as rules: all of one rule must hold; where an argument is compared twice, each condition is
 * a rule of its own, any of which suffices (what runc and crun make of it, since libseccomp cannot compare
 * one twice).
 */
static struct err *conditions(struct filter_policy *f, const json_t *args, const char *where, uint32_t ret,
			      unsigned *out_first, unsigned *out_n)
{
	struct filter_rule rule = { .ret = ret };
	bool seen[FILTER_CONDS] = { false }, twice = false;
	json_t *item;
	size_t i;

	if (json_array_size(args) > 64)
		return FAIL(ERR_LIMIT, "%s.args: more than 64", where);
	*out_first = (unsigned)f->rules.n;
	json_array_foreach(args, i, item)
	{
		struct filter_cond c;

		TRY(condition(item, where, i, &c));
		twice = twice || seen[c.arg];
		seen[c.arg] = true;
	}
	json_array_foreach(args, i, item)
	{
		TRY(condition(item, where, i, &rule.conds[rule.n_conds]));
		rule.n_conds++;
		if (twice || i + 1 == json_array_size(args)) {
			(void)filter_rule(f, &rule);
			rule.n_conds = 0;
		}
	}
	*out_n = (unsigned)f->rules.n - *out_first;
	return NULL;
}

static struct err *entry(struct filter_policy *f, const json_t *item, size_t at, bool fail_unknown)
{
	auto_free char *where = xasprintf(SECCOMP ".syscalls[%zu]", at);
	const json_t *names = json_object_get(item, "names");
	size_t i, near = 0;
	unsigned first, n;
	json_t *name;
	uint32_t ret;

	TRY(action(item, "action", "errnoRet", where, &ret));
	f->notifies |= ret == SECCOMP_RET_USER_NOTIF;
	if (!json_array_size(names))
		return FAIL(ERR_INVALID, "%s.names: empty", where);
	TRY(conditions(f, json_object_get(item, "args"), where, ret, &first, &n));
	json_array_foreach(names, i, name)
	{
		const char *s = json_string_value(name);
		int numbers[ABI_KINDS];

		if (!s)
			return FAIL(ERR_INVALID, "%s.names[%zu]: not a string", where, i);
		if (!filter_numbers(s, &near, numbers) && fail_unknown)
			return FAIL(ERR_INVALID, "%s.names[%zu]: unknown system call \"%s\"", where, i, s);
		if (ret == f->def) /* says nothing new, as runc and crun see it */
			on_abis(f, numbers, name_only, 0);
		else if (!n)
			on_abis(f, numbers, filter_set, ret);
		for (unsigned k = 0; k < n && ret != f->def; k++)
			on_abis(f, numbers, filter_when, first + k);
	}
	return NULL;
}

static struct err *options(struct filter_policy *f, const json_t *seccomp, unsigned *out_flags)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(seccomp, "architectures"), i, item)
	{
		const char *name = json_is_string(item) ? json_string_value(item) : "";
		const struct word *w = word_find(plan_seccomp_arches, name);

		if (!w)
			return FAIL(ERR_INVALID, SECCOMP ".architectures[%zu]: unknown \"%s\"", i, name);
		if (w->value)
			f->abi[w->value - 1].on = true;
	}
	json_array_foreach(json_object_get(seccomp, "flags"), i, item)
	{
		const char *name = json_is_string(item) ? json_string_value(item) : "";
		const struct word *w = word_find(plan_seccomp_flags, name);

		if (!w)
			return FAIL(ERR_INVALID, SECCOMP ".flags[%zu]: unknown \"%s\"", i, name);
		*out_flags |= (unsigned)w->value;
	}
	return NULL;
}

/*
 * What the agent gets: containerProcessState (config-linux.md#containerprocessstate), the parts that are
 * known by now. Its version is that of the specification's example, as in crun. With a path the agent gets a
 * listener even when no action asks it: its owner waits for one.
 */
static struct err *listener(struct plan *p, const json_t *seccomp, bool notifies)
{
	const char *path = json_str_at(seccomp, "listenerPath", NULL),
		   *metadata = json_str_at(seccomp, "listenerMetadata", NULL);
	auto_json json_t *head = json_pack("{s:s, s:[s]}", "ociVersion", "0.2.0", "fds", "seccompFd");
	auto_json json_t *tail = metadata ? json_pack("{s:s}", "metadata", metadata) : NULL;
	auto_buf struct buf b = BUF(1 << 20), c = BUF(1 << 20);

	if (metadata && !path)
		return FAIL(ERR_INVALID, SECCOMP ".listenerMetadata: needs listenerPath beside it");
	if (path && path[0] != '/')
		return FAIL(ERR_INVALID, SECCOMP ".listenerPath: \"%s\" is not an absolute path", path);
	if (!p->listener) /* else an annotation said */
		p->listener = plan_text(p, path);
	if (!p->listener && !notifies) {
		p->filter_flags &=
		    ~(unsigned)SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV; /* says something of listeners only */
		return NULL;
	}
	if (!p->listener)
		return FAIL(ERR_INVALID,
			    SECCOMP ".listenerPath is missing: SCMP_ACT_NOTIFY needs someone to notify");
	p->filter_flags &=
	    ~(unsigned)SECCOMP_FILTER_FLAG_TSYNC; /* there is one thread; the two do not go together */
	json_print(head, &b);
	if (tail)
		json_print(tail, &c);
	TRY(buf_check(&b, SECCOMP));
	TRY(buf_check(&c, SECCOMP ".listenerMetadata"));
	b.data[b.n - 1] = 0;
	if (c.n)
		c.data[c.n - 1] = 0;
	p->listener_head = plan_text(p, b.data);
	p->listener_metadata = c.n ? plan_text(p, c.data + 1) : NULL;
	p->listener_room = b.n + c.n + sv_of(p->state_head).n + sv_of(p->state_tail).n + 128;
	p->listener_text = arena_alloc(&p->arena, p->listener_room);
	return p->listener_text ? NULL : FAIL(ERR_LIMIT, SECCOMP ": too large");
}

/* A ready program in base64 instead of the profile. */
struct err *plan_seccomp_raw(struct plan *p)
{
	auto_buf struct buf b = BUF(BPF_MAXINSNS * sizeof(struct sock_filter));

	TRY(enc_base64_decode(sv_of(p->raw_filter), &b));
	TRY(buf_check(&b, "annotation run.oci.seccomp_bpf_data"));
	if (!b.n || b.n % sizeof *p->filter)
		return FAIL(ERR_INVALID, "annotation run.oci.seccomp_bpf_data: %zu bytes are no program",
			    b.n);
	if (!(p->filter = arena_alloc(&p->arena, b.n)))
		return FAIL(ERR_LIMIT, "annotation run.oci.seccomp_bpf_data: too large");
	memcpy(p->filter, b.data, b.n);
	p->n_filter = b.n / sizeof *p->filter;
	return NULL;
}

static struct err *policy(struct filter_policy *f, struct plan *p, const json_t *seccomp, uint32_t def)
{
	json_t *item;
	size_t i;

	p->filter_flags = 0;
	TRY(options(f, seccomp, &p->filter_flags));
	json_array_foreach(json_object_get(seccomp, "syscalls"), i, item)
	    TRY(entry(f, item, i, p->fail_unknown_calls));
	TRY(listener(p, seccomp, f->notifies || def == SECCOMP_RET_USER_NOTIF));
	return filter_compile(f, p);
}

struct err *plan_seccomp(struct plan *p, const json_t *seccomp)
{
	struct filter_policy *f;
	struct err *e;
	uint32_t def;

	if (!seccomp || json_is_null(seccomp))
		return NULL;
	TRY(action(seccomp, "defaultAction", "defaultErrnoRet", SECCOMP, &def));
	f = xnew(struct filter_policy);
	filter_init(f, def);
	e = policy(f, p, seccomp, def);
	filter_fini(f);
	free(f);
	return e;
}
