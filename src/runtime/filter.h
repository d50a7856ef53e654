/*
 * filter.h - a system call policy as tables, and its compilation to the kernel's packet filter. Layer:
 * runtime, private.
 *
 * Two ABIs: x86-64 and i386. A number without a rule takes the policy's default; an unconditional action
 * beats conditional ones, the first unconditional action stays (as in libseccomp). Conditional rules of a
 * call are tried in order; a rule holds when all its conditions do. Other architectures get
 * SECCOMP_RET_KILL_THREAD as libseccomp's "bad architecture"; x32 numbers the default, or ENOSYS when the
 * default lets calls through (a deny list must not be walked around).
 */
#pragma once
#include "base/err.h"
#include "base/vec.h"
#include "runtime/plan.h"
#include <stdbool.h>
#include <stdint.h>

enum { FILTER_NRS = 512, FILTER_CONDS = 6 };
enum filter_abi_kind { ABI_X86_64, ABI_I386, ABI_KINDS };
enum filter_op { OP_NE, OP_LT, OP_LE, OP_EQ, OP_GE, OP_GT, OP_MASKED_EQ };

struct filter_cond {
	uint8_t arg; /* 0 … 5 */
	enum filter_op op;
	bool low32;     /* the kernel's parameter has 32 bits: the upper half of the register says nothing */
	uint64_t value; /* OP_MASKED_EQ: the mask */
	uint64_t datum; /* OP_MASKED_EQ: what the masked argument must be */
};
struct filter_rule {
	uint32_t ret; /* SECCOMP_RET_* with data */
	unsigned n_conds;
	struct filter_cond conds[FILTER_CONDS];
};
struct filter_use {          /* one rule of one call */
	unsigned rule, next; /* next: index + 1, 0 the last */
};
struct filter_abi {
	bool on;
	int top;                   /* largest number the policy names; -1: none */
	bool is_set[FILTER_NRS];   /* has an unconditional action */
	uint32_t ret[FILTER_NRS];  /* that action, when set */
	unsigned uses[FILTER_NRS]; /* index + 1 of the first conditional rule */
};
struct filter_policy {
	uint32_t def;
	bool notifies; /* an action asks an agent */
	struct filter_abi abi[ABI_KINDS];
	VEC(struct filter_rule) rules;
	VEC(struct filter_use) uses;
};

/*
 * Whether a program of the packet filter lets a system call of our own architecture pass unseen (ALLOW or LOG). An instruction
 * that is not understood, and whoever is asked first, say no. For what we do ourselves under a filter.
 */
bool filter_passes(const struct sock_filter *f, size_t n, int nr, uint64_t first, uint64_t second);

/* The number of a name, or -1: no such call in this ABI. */
int filter_number(enum filter_abi_kind abi, const char *name);
/* The same for all ABIs; false: in none. near: where the name before was found, so that sorted lists go fast;
 * 0 at first. */
bool filter_numbers(const char *name, size_t *near, int out[ABI_KINDS]);

void filter_init(struct filter_policy *f, uint32_t def);
void filter_fini(struct filter_policy *f);
/* number < 0 (a name this ABI does not have) is ignored by all three. */
void filter_name(struct filter_policy *f, enum filter_abi_kind abi, int number); /* counts for top only */
void filter_set(struct filter_policy *f, enum filter_abi_kind abi, int number, uint32_t ret);
void filter_when(struct filter_policy *f, enum filter_abi_kind abi, int number, unsigned rule);
unsigned filter_rule(struct filter_policy *f, const struct filter_rule *r); /* its index */
/*
 * Into p->filter (arena). With a default of ERRNO, numbers above top answer ENOSYS: programs probe for calls
 * that are newer than the profile and fall back only on ENOSYS (as runc does). ERR_LIMIT: more than 4096
 * instructions.
 */
FALLIBLE filter_compile(const struct filter_policy *f, struct plan *p);
