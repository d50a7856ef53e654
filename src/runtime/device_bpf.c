/*
 * device_bpf.c - device rules as an eBPF program: the last rule that speaks about an access decides it.
 *
 * The program walks the rules from the last to the first and keeps the accesses (read, write, mknod) not yet
 * decided: a matching allow rule takes its accesses off, and nothing left means yes; a matching deny rule
 * with an access still undecided means no. So "allow r" and "allow w" together allow opening for both, and
 * "deny w" after "allow rw" refuses such an open, as the v1 controller does. What no rule allows is refused.
 */
#include "base/own.h"
#include "runtime/cgroup.h"
#include "runtime/plan.h"
#include <linux/bpf.h>

_Static_assert(sizeof(struct device_insn) == sizeof(struct bpf_insn), "the kernel's layout");

struct program {
	struct device_insn *p;
	size_t n, max;
};

static void add(struct program *g, struct device_insn i)
{
	if (g->n < g->max)
		g->p[g->n] = i;
	g->n++;
}

static void op_imm(struct program *g, int code, uint8_t reg, int16_t off, int32_t imm)
{
	add(g, (struct device_insn){ (uint8_t)code, reg, off, imm });
}

static void op_reg(struct program *g, int code, uint8_t dst, uint8_t src, int16_t off)
{
	add(g, (struct device_insn){ (uint8_t)code, (uint8_t)(src << 4 | dst), off, 0 });
}

static void answer(struct program *g, int32_t yes)
{
	op_imm(g, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, yes);
	op_imm(g, BPF_JMP | BPF_EXIT, 0, 0, 0);
}

static int32_t access_bits(const char *access)
{
	int32_t bits = 0;

	for (; *access; access++)
		bits |= *access == 'm'   ? BPF_DEVCG_ACC_MKNOD
			: *access == 'r' ? BPF_DEVCG_ACC_READ
					 : BPF_DEVCG_ACC_WRITE;
	return bits;
}

/* r2 type, r3 accesses not decided, r4 major, r5 minor */
static void rule(struct program *g, const struct plan_cgroup_rule *r)
{
	int32_t bits = access_bits(r->access);
	int16_t left = r->allow ? 4 : 5; /* instructions of the action */
	int checks = (r->type != 'a') + (r->major >= 0) + (r->minor >= 0);

	if (r->type != 'a')
		op_imm(g, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, (int16_t)(--checks + left),
		       r->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	if (r->major >= 0)
		op_imm(g, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, (int16_t)(--checks + left),
		       (int32_t)r->major);
	if (r->minor >= 0)
		op_imm(g, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, left, (int32_t)r->minor);
	if (r->allow) {
		op_imm(g, BPF_ALU | BPF_AND | BPF_K, BPF_REG_3, 0, ~bits);
		op_imm(g, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_3, 2, 0);
		answer(g, 1);
	} else {
		op_reg(g, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_3, 0);
		op_imm(g, BPF_ALU | BPF_AND | BPF_K, BPF_REG_1, 0, bits);
		op_imm(g, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 2, 0);
		answer(g, 0);
	}
}

bool device_rule_is_all(const struct plan_cgroup_rule *r)
{
	return r->type == 'a' && r->major < 0 && r->minor < 0 && strlen(r->access) == 3;
}

size_t device_program(const struct plan *p, struct device_insn *out, size_t max)
{
	struct program g = { .p = out, .max = max };
	bool rest = false;

	op_reg(&g, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1,
	       offsetof(struct bpf_cgroup_dev_ctx, access_type));
	op_reg(&g, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_2, 0);
	op_imm(&g, BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0xffff);
	op_imm(&g, BPF_ALU | BPF_RSH | BPF_K, BPF_REG_3, 0, 16);
	op_reg(&g, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1,
	       offsetof(struct bpf_cgroup_dev_ctx, major));
	op_reg(&g, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1,
	       offsetof(struct bpf_cgroup_dev_ctx, minor));
	for (size_t i = p->device_rules.n; i-- > 0;) {
		const struct plan_cgroup_rule *r = &p->device_rules.p[i];

		if (device_rule_is_all(r)) {
			rest = r->allow;
			break; /* the verifier refuses unreachable code */
		}
		rule(&g, r);
	}
	answer(&g, rest);
	return g.n <= max ? g.n : 0;
}
