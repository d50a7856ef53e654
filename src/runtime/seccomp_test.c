/*
 * seccomp_test.c - the compiled filters, run by an interpreter of the classic BPF subset the kernel allows,
 * and once by the kernel itself in a child. The oracle is the policy read the slow way.
 */
#include "base/own.h"
#include "base/time.h"
#include "harness/t.h"
#include "runtime/filter.h"
#include "runtime/plan.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ALLOW     SECCOMP_RET_ALLOW
#define ERR(os)   (SECCOMP_RET_ERRNO | (os))
#define SYS_ADMIN (UINT64_C(1) << CAP_SYS_ADMIN)

static uint32_t load(const struct seccomp_data *d, uint32_t offset)
{
	uint32_t v;

	CHECK(offset % 4 == 0 && offset + 4 <= sizeof *d);
	memcpy(&v, (const char *)d + offset, sizeof v);
	return v;
}

/* What the kernel would answer; checks what its verifier would refuse. */
static uint32_t run(const struct plan *p, const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (size_t at = 0; at < p->n_filter; at++) {
		const struct sock_filter *i = &p->filter[at];
		bool yes;

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			a = load(d, i->k);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			continue;
		case BPF_RET | BPF_K:
			return i->k;
		case BPF_JMP | BPF_JA:
			at += i->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == i->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= i->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = a > i->k;
			break;
		default:
			t_fail(__FILE__, __LINE__, "instruction %zu: code %#x", at, i->code);
		}
		at += yes ? i->jt : i->jf;
	}
	t_fail(__FILE__, __LINE__, "ran off the end");
}

static uint32_t ask_arch(const struct plan *p, uint32_t arch, int nr, uint64_t arg0, uint64_t arg1)
{
	struct seccomp_data d = { .nr = nr, .arch = arch, .args = { arg0, arg1 } };

	return run(p, &d);
}

static uint32_t ask(const struct plan *p, int nr, uint64_t arg0)
{
	uint32_t ret = ask_arch(p, AUDIT_ARCH_X86_64, nr, arg0, 0), action = ret & SECCOMP_RET_ACTION_FULL;

	CHECK(filter_passes(p->filter, p->n_filter, nr, arg0, 0) == (action == ALLOW || action == SECCOMP_RET_LOG));
	return ret;
}

static void fini(struct plan *p)
{
	arena_fini(&p->arena);
}
#define PLAN(name)                                                                                           \
	CLEANUP(fini) struct plan name = { .id = "t" };                                                      \
	arena_init(&name.arena, 1 << 20)

static struct err *compile(struct plan *p, const char *text)
{
	auto_json json_t *v = NULL;

	TRY(json_parse(sv_of(text), "profile", 1 << 20, &v));
	return plan_seccomp(p, v);
}

TEST(a_filter_that_is_not_understood_lets_nothing_pass)
{
	const struct sock_filter odd[] = { BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 1), BPF_STMT(BPF_RET | BPF_K, ALLOW) };
	const struct sock_filter far[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), BPF_STMT(BPF_RET | BPF_K, ALLOW) };
	const struct sock_filter flags[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x8000, 0, 1),
					     BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS), BPF_STMT(BPF_RET | BPF_K, ALLOW) };

	CHECK(filter_passes(odd + 1, 1, SYS_clone, 0, 0));
	CHECK(!filter_passes(odd, 2, SYS_clone, 0, 0) && !filter_passes(far, 2, SYS_clone, 0, 0) && !filter_passes(odd, 0, 0, 0, 0));
	CHECK(!filter_passes(flags, 4, SYS_clone, 0x8000, 0) && filter_passes(flags, 4, SYS_clone, 17, 0));
	CHECK(!filter_passes(flags, 1, SYS_clone, 17, 0)); /* runs off the end */
}

TEST(names_have_their_numbers)
{
	CHECK_INT(filter_number(ABI_X86_64, "read"), SYS_read);
	CHECK_INT(filter_number(ABI_X86_64, "clone3"), SYS_clone3);
	CHECK_INT(filter_number(ABI_I386, "socketcall"), 102);
	CHECK_INT(filter_number(ABI_X86_64, "socketcall"), -1);
	CHECK_INT(filter_number(ABI_X86_64, "no_such_call"), -1);
	CHECK_INT(filter_number(ABI_X86_64, ""), -1);
#define S(name, x86_64, i386)                                                                                \
	CHECK_INT(filter_number(ABI_X86_64, #name), x86_64);                                                 \
	CHECK_INT(filter_number(ABI_I386, #name), i386);
#include "runtime/syscalls.inc"
#undef S
}

TEST(no_profile_is_no_filter)
{
	PLAN(p);

	CHECK_OK(plan_seccomp(&p, NULL));
	CHECK(!p.filter && p.n_filter == 0);
}

TEST(every_number_is_answered_as_the_profile_says)
{
	static const char *const allowed[] = { "read", "write", "exit", "exit_group", "fchmodat2", "openat" };
	PLAN(p);

	CHECK_OK(compile(
	    &p,
	    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\"]"
	    ","
	    "\"syscalls\":[{\"names\":[\"read\",\"write\",\"exit\",\"exit_group\",\"fchmodat2\",\"openat\","
	    "\"not_a_call\"],\"action\":\"SCMP_ACT_ALLOW\"},"
	    "{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":95},"
	    "{\"names\":[\"reboot\"],\"action\":\"SCMP_ACT_KILL_PROCESS\"}]}"));
	for (int abi = 0; abi < ABI_KINDS; abi++) {
		for (int nr = 0; nr < 700; nr++) {
			uint32_t want = nr > 452 ? ERR(ENOSYS) : ERR(EPERM);

			for (size_t i = 0; i < LEN(allowed); i++)
				if (filter_number((enum filter_abi_kind)abi, allowed[i]) == nr)
					want = ALLOW;
			if (filter_number((enum filter_abi_kind)abi, "mount") == nr)
				want = ERR(95);
			if (filter_number((enum filter_abi_kind)abi, "reboot") == nr)
				want = SECCOMP_RET_KILL_PROCESS;
			CHECK_INT(ask_arch(&p, abi ? AUDIT_ARCH_I386 : AUDIT_ARCH_X86_64, nr, 0, 0), want);
		}
	}
	CHECK_INT(ask(&p, 0x40000000, 0), ERR(EPERM));
	CHECK_INT(ask(&p, -1, 0), ERR(EPERM));
	CHECK_INT(ask_arch(&p, AUDIT_ARCH_AARCH64, 0, 0, 0), SECCOMP_RET_KILL_THREAD);
}

TEST(unlisted_architectures_are_killed_and_x32_cannot_walk_around_a_deny_list)
{
	PLAN(p);

	CHECK_OK(compile(&p, "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mount\"],"
			     "\"action\":\"SCMP_ACT_ERRNO\"}]}"));
	CHECK_INT(ask(&p, SYS_mount, 0), ERR(EPERM));
	CHECK_INT(ask(&p, SYS_read, 0), ALLOW);
	CHECK_INT(ask(&p, 999, 0), ALLOW);
	CHECK_INT(ask(&p, 0x40000000 | SYS_mount, 0), ERR(ENOSYS));
	CHECK_INT(ask_arch(&p, AUDIT_ARCH_I386, 21, 0, 0), SECCOMP_RET_KILL_THREAD);
}

static bool holds(enum filter_op op, uint64_t x, uint64_t value, uint64_t datum)
{
	switch (op) {
	case OP_NE:
		return x != value;
	case OP_LT:
		return x < value;
	case OP_LE:
		return x <= value;
	case OP_EQ:
		return x == value;
	case OP_GE:
		return x >= value;
	case OP_GT:
		return x > value;
	case OP_MASKED_EQ:
		return (x & value) == datum;
	}
	return false;
}

TEST(operators_compare_64_bits_without_sign)
{
	static const uint64_t values[] = {
		0,          1,          5,          0x7fffffff,       0x80000000,
		0xffffffff, 1ull << 32, 5ull << 32, (5ull << 32) + 5, (5ull << 32) + 0xffffffff,
		~0ull,      ~0ull - 1,  1ull << 63
	};

	for (int op = OP_NE; op <= OP_MASKED_EQ; op++) {
		for (size_t i = 0; i < LEN(values); i++) {
			struct filter_policy f;
			struct filter_rule r = {
				ALLOW, 1, { { 1, (enum filter_op)op, false, values[i], values[i] & 5 } }
			};
			PLAN(p);

			filter_init(&f, ERR(EPERM));
			filter_when(&f, ABI_X86_64, 7, filter_rule(&f, &r));
			CHECK_OK(filter_compile(&f, &p));
			for (size_t k = 0; k < LEN(values); k++)
				CHECK_INT(ask_arch(&p, AUDIT_ARCH_X86_64, 7, 99, values[k]),
					  holds((enum filter_op)op, values[k], values[i], values[i] & 5)
					      ? ALLOW
					      : ERR(EPERM));
			filter_fini(&f);
		}
	}
}

TEST(all_conditions_of_a_rule_must_hold_but_one_of_a_twice_compared_argument)
{
	PLAN(p);

	CHECK_OK(compile(&p, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":13,\"syscalls\":["
			     "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
			     "{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":1,\"value\":2,"
			     "\"op\":\"SCMP_CMP_GT\"}]},"
			     "{\"names\":[\"write\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":["
			     "{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":0,\"value\":2,"
			     "\"op\":\"SCMP_CMP_EQ\"}]}]}"));
	CHECK_INT(ask_arch(&p, AUDIT_ARCH_X86_64, SYS_read, 1, 3), ALLOW);
	CHECK_INT(ask_arch(&p, AUDIT_ARCH_X86_64, SYS_read, 1, 2), ERR(13));
	CHECK_INT(ask_arch(&p, AUDIT_ARCH_X86_64, SYS_read, 2, 3), ERR(13));
	CHECK_INT(ask(&p, SYS_write, 1), SECCOMP_RET_TRAP);
	CHECK_INT(ask(&p, SYS_write, 2), SECCOMP_RET_TRAP);
	CHECK_INT(ask(&p, SYS_write, 3), ERR(13));
}

TEST(an_unconditional_action_beats_conditions_in_any_order)
{
	static const char *const profiles[] = {
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_"
		"ACT_TRAP\",\"args\":"
		"[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"}]},{\"names\":[\"read\"],\"action\":\"SCMP_"
		"ACT_ALLOW\"}]}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_"
		"ACT_ALLOW\"},"
		"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"value\":1,"
		"\"op\":\"SCMP_CMP_EQ\"}]}]}",
	};

	for (size_t i = 0; i < LEN(profiles); i++) {
		PLAN(p);

		CHECK_OK(compile(&p, profiles[i]));
		CHECK_INT(ask(&p, SYS_read, 1), ALLOW);
	}
}

/* Many long rules: the tree's jumps must take the detour, and too many must be refused. */
TEST(large_policies_compile_or_are_refused)
{
	for (unsigned calls = 20; calls <= 400; calls += 380) {
		struct filter_policy f;
		PLAN(p);

		filter_init(&f, SECCOMP_RET_LOG);
		for (unsigned nr = 0; nr < calls; nr++) {
			for (unsigned k = 0; k < 6; k++) {
				struct filter_rule r = { ERR(nr + k * 100),
							 1,
							 { { 0, OP_EQ, false, (uint64_t)k << 33, 0 } } };

				filter_when(&f, ABI_X86_64, (int)nr, filter_rule(&f, &r));
			}
		}
		if (calls == 20) {
			CHECK_OK(filter_compile(&f, &p));
			for (unsigned nr = 0; nr < calls; nr++)
				for (unsigned k = 0; k < 8; k++)
					CHECK_INT(ask(&p, (int)nr, (uint64_t)k << 33),
						  k < 6 ? ERR(nr + k * 100) : SECCOMP_RET_LOG);
		} else {
			CHECK_ERR(ERR_LIMIT, filter_compile(&f, &p));
		}
		filter_fini(&f);
	}
}

TEST(bad_profiles_are_refused_by_path)
{
	static const struct {
		const char *text, *path;
		enum err_kind kind;
	} bad[] = {
		{ "{}", "linux.seccomp.defaultAction", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_MAYBE\"}", "linux.seccomp.defaultAction", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "linux.seccomp.listenerPath", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"x\"}",
		  "linux.seccomp.listenerPath", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerMetadata\":\"x\"}",
		  "linux.seccomp.listenerMetadata", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":-1}",
		  "linux.seccomp.defaultErrnoRet", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_VAX\"]}",
		  "linux.seccomp.architectures[0]", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"X\"]}", "linux.seccomp.flags[0]",
		  ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[],\"action\":\"SCMP_ACT_"
		  "KILL\"}]}",
		  "linux.seccomp.syscalls[0].names", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":"
		  "\"SCMP_ACT_KILL\",\"args\":"
		  "[{\"index\":6,\"value\":1,\"op\":\"SCMP_CMP_EQ\"}]}]}",
		  "linux.seccomp.syscalls[0].args[0].index", ERR_INVALID },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":"
		  "\"SCMP_ACT_KILL\",\"args\":"
		  "[{\"index\":0,\"value\":1,\"op\":\"EQ\"}]}]}",
		  "linux.seccomp.syscalls[0].args[0].op", ERR_INVALID },
	};

	for (size_t i = 0; i < LEN(bad); i++) {
		auto_err struct err *e = NULL;
		PLAN(p);

		e = compile(&p, bad[i].text);
		CHECK(e != NULL);
		CHECK_INT(e->kind, bad[i].kind);
		if (!strstr(e->msg, bad[i].path))
			CHECK_STR(e->msg, bad[i].path);
	}
}

TEST(a_listener_changes_the_flags)
{
	static const char text[] =
	    "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/a\",\"listenerMetadata\":\"m\","
	    "\"flags\":[\"SECCOMP_FILTER_FLAG_TSYNC\",\"SECCOMP_FILTER_FLAG_LOG\","
	    "\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"],\"syscalls\":[{\"names\":[\"mkdir\"],"
	    "\"action\":\"SCMP_ACT_NOTIFY\",\"args\":[{\"index\":0,\"value\":18446744073709551615,"
	    "\"op\":\"SCMP_CMP_EQ\"}]}]}";
	struct seccomp_data d = { .nr = SYS_mkdir, .arch = AUDIT_ARCH_X86_64, .args = { UINT64_MAX } };
	PLAN(p);

	CHECK_OK(compile(&p, text));
	CHECK_STR(p.listener, "/a");
	CHECK_INT(p.filter_flags, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
	CHECK_STR(p.listener_metadata, "\"metadata\":\"m\"");
	CHECK(run(&p, &d) == SECCOMP_RET_USER_NOTIF);
	d.args[0] = INT64_MAX;
	CHECK(run(&p, &d) == ALLOW);
}

TEST(raw_programs_are_taken_as_they_are)
{
	static const char *const bad[] = { "", "AAAA", "!" };
	PLAN(p);

	p.raw_filter = "BgAAAAAA/38="; /* BPF_RET ALLOW */
	CHECK_OK(plan_seccomp_raw(&p));
	CHECK_INT(p.n_filter, 1);
	CHECK_INT(p.filter[0].k, ALLOW);
	for (size_t i = 0; i < LEN(bad); i++) {
		p.raw_filter = bad[i];
		CHECK_ERR(ERR_INVALID, plan_seccomp_raw(&p));
	}
}

/* Any text is refused or gives a filter that answers. */
TEST(damaged_profiles_do_no_harm)
{
	static const char whole[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"architectures\":[\"SCMP_ARCH_X86\"],"
		"\"flags\":[],\"syscalls\":[{\"names\":[\"read\",\"clone\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":"
		"[{\"index\":0,\"value\":2114060288,\"valueTwo\":0,\"op\":\"SCMP_CMP_MASKED_EQ\"}]}]}";
	static const char bits[] = "{}[]\",:0-9.eE\\ntf";
	unsigned seed = 7;
	int good = 0;

	for (int i = 0; i < 20000; i++) {
		char text[sizeof whole];
		struct err *e;
		PLAN(p);

		memcpy(text, whole, sizeof whole);
		for (int k = rand_r(&seed) % 3; k >= 0; k--)
			text[(size_t)rand_r(&seed) % (sizeof whole - 1)] =
				bits[(size_t)rand_r(&seed) % (sizeof bits - 1)];
		e = compile(&p, text);
		if (!e && p.filter) {
			good++;
			for (int nr = 0; nr < 500; nr += 28)
				(void)ask(&p, nr, 0);
		}
		err_free(e);
	}
	CHECK(good > 100);
}

TEST(flags_are_passed_on)
{
	PLAN(p);

	CHECK_OK(compile(&p, "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\","
			     "\"SECCOMP_FILTER_FLAG_SPEC_ALLOW\"]}"));
	CHECK_INT(p.filter_flags, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW);
}

TEST(default_profile_allows_and_refuses_what_docker_does)
{
	PLAN(p);

	CHECK_OK(plan_seccomp_default(&p));
	CHECK_INT(ask(&p, SYS_openat, 0), ALLOW);
	CHECK_INT(ask(&p, SYS_execve, 0), ALLOW);
	CHECK_INT(ask(&p, SYS_ptrace, 0), ALLOW);
	CHECK_INT(ask(&p, SYS_mount, 0), ERR(EPERM));
	CHECK_INT(ask(&p, SYS_keyctl, 0), ERR(EPERM));
	CHECK_INT(ask(&p, SYS_io_uring_setup, 0), ERR(EPERM));
	CHECK_INT(ask(&p, SYS_clone3, 0), ERR(ENOSYS));
	CHECK_INT(ask(&p, SYS_clone, SIGCHLD), ALLOW);
	CHECK_INT(ask(&p, SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND), ALLOW);
	CHECK_INT(ask(&p, SYS_clone, CLONE_NEWUSER | SIGCHLD), ERR(EPERM));
	CHECK_INT(ask(&p, SYS_unshare, CLONE_NEWUSER), ERR(EPERM));
	CHECK_INT(ask(&p, SYS_socket, AF_INET), ALLOW);
	CHECK_INT(ask(&p, SYS_socket, 38), ERR(EPERM));
	CHECK_INT(ask(&p, SYS_socket, 39), ALLOW);
	CHECK_INT(ask(&p, SYS_socket, 40), ERR(EPERM));
	CHECK_INT(ask(&p, SYS_socket, (1ull << 32) + 38), ERR(EPERM)); /* the kernel looks at 32 bits */
	CHECK_INT(ask(&p, SYS_personality, 0xffffffff), ALLOW);
	CHECK_INT(ask(&p, SYS_personality, 0x20008), ALLOW);
	CHECK_INT(ask(&p, SYS_personality, ADDR_NO_RANDOMIZE), ERR(EPERM));
	CHECK_INT(ask(&p, 466, 0), ALLOW);
	CHECK_INT(ask(&p, 469, 0), ERR(ENOSYS));
	CHECK_INT(ask(&p, 9999, 0), ERR(ENOSYS));
	CHECK_INT(ask_arch(&p, AUDIT_ARCH_I386, 21, 0, 0), ERR(EPERM)); /* mount */
	CHECK_INT(ask_arch(&p, AUDIT_ARCH_I386, 102, 0, 0), ALLOW);     /* socketcall */
	CHECK(p.n_filter < 400);
}

TEST(default_profile_grows_with_capabilities)
{
	PLAN(p);
	PLAN(q);

	p.caps[0] = SYS_ADMIN;
	CHECK_OK(plan_seccomp_default(&p));
	CHECK_INT(ask(&p, SYS_mount, 0), ALLOW);
	CHECK_INT(ask(&p, SYS_clone3, 0), ALLOW);
	CHECK_INT(ask(&p, SYS_clone, CLONE_NEWUSER), ALLOW);
	CHECK_INT(ask(&p, SYS_reboot, 0), ERR(EPERM));
	q.caps[0] = UINT64_C(1) << CAP_SYS_BOOT | UINT64_C(1) << CAP_SYS_CHROOT;
	CHECK_OK(plan_seccomp_default(&q));
	CHECK_INT(ask(&q, SYS_reboot, 0), ALLOW);
	CHECK_INT(ask(&q, SYS_chroot, 0), ALLOW);
	CHECK_INT(ask(&q, SYS_mount, 0), ERR(EPERM));
}

TEST(the_default_profile_compiles_in_microseconds)
{
	int64_t best = INT64_MAX;
	size_t n = 0;

	for (int i = 0; i < 50; i++) {
		PLAN(p);
		int64_t start = time_monotonic_ns(), took;

		CHECK_OK(plan_seccomp_default(&p));
		took = time_monotonic_ns() - start;
		best = took < best ? took : best;
		n = p.n_filter;
	}
	if (getenv("T_VERBOSE"))
		printf("default profile: %zu instructions in %lld us\n", n, (long long)best / 1000);
	CHECK(best <
	      1000000); /* far above the usual 30 us: a loaded machine must pass, a quadratic compiler not */
}

/* Runs argv under the default profile; the exit status. */
static int under_filter(char *const args[])
{
	int status;
	pid_t pid;
	PLAN(p);

	p.caps[0] = UINT64_C(1) << CAP_SYS_CHROOT;
	CHECK_OK(plan_seccomp_default(&p));
	fflush(NULL);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct sock_fprog program = { (unsigned short)p.n_filter, p.filter };
		char *const env[] = { (char[]){ "PATH=/bin:/usr/bin" }, NULL };

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sys_seccomp(&program, p.filter_flags) < 0)
			_exit(101);
		if (sys_mount("none", "/nowhere", "tmpfs", 0, NULL) != -EPERM)
			_exit(102);
		if (unshare(CLONE_NEWNS) != -1 || errno != EPERM)
			_exit(103);
		if (socket(38, SOCK_SEQPACKET, 0) != -1 || errno != EPERM)
			_exit(104);
		if (syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS)
			_exit(105);
		if (syscall(9999) != -1 || errno != ENOSYS)
			_exit(106);
		(void)execve(args[0], args, env);
		_exit(107);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

TEST(the_kernel_takes_the_default_profile_and_programs_run_under_it)
{
	char *const args[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" },
			       (char[]){ "ls / >/dev/null && (echo x | cat >/dev/null) && exit 7" }, NULL };

	CHECK_INT(under_filter(args), 7);
}
