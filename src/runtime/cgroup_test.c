/*
 * cgroup_test.c - real groups below private names, on whatever version this machine has; the device program
 * by an interpreter of the instructions it uses.
 */
#include "base/own.h"
#include "base/time.h"
#include "harness/t.h"
#include "runtime/cgroup.h"
#include "runtime/plan.h"
#include "sys/cgroup.h"
#include "sys/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void fini(struct plan *p)
{
	vec_fini(&p->cgroup_v1);
	vec_fini(&p->cgroup_v2);
	vec_fini(&p->device_rules);
	arena_fini(&p->arena);
}

static void need_groups(void)
{
	struct cgroup_set s;
	struct err *e;

	if (geteuid() != 0)
		t_skip("needs root");
	e = cgroup_set_find(&s);
	err_free(e);
	if (e)
		t_skip("needs mounted control groups");
}

static const struct cgroup_set *set(void)
{
	static struct cgroup_set s;

	if (!s.n)
		CHECK_OK(cgroup_set_find(&s));
	return &s;
}

static const char *group(const char *sub)
{
	static char path[128];

	(void)snprintf(path, sizeof path, "hoy/unit-test-%d%s", (int)getpid(), sub);
	return path;
}

#define PLAN(name)                                                                                           \
	CLEANUP(fini) struct plan name = { .id = "t" };                                                      \
	need_groups();                                                                                       \
	arena_init(&name.arena, 1 << 20);                                                                    \
	name.cgroup = plan_text(&name, group(""))

static struct err *resources(struct plan *p, const char *text)
{
	auto_json json_t *v = NULL;

	TRY(json_parse(sv_of(text), "resources", 1 << 20, &v));
	return plan_resources(p, v);
}

/* How many hierarchies have the group. */
static int present(const char *path)
{
	struct cgroup_set s;
	int n = 0;

	CHECK_OK(cgroup_set_find(&s));
	for (size_t i = 0; i < s.n; i++) {
		char name[CGROUP_PATH];
		struct stat st;

		n += cgroup_name(&s.h[i], path, "", name) == 0 && stat(name, &st) == 0;
	}
	return n;
}

static const char *value(const char *controller, const char *v1, const char *v2)
{
	static char text[4096];
	struct cgroup_set s;
	const struct cgroup_hier *h;

	CHECK_OK(cgroup_set_find(&s));
	h = cgroup_find(&s, controller);
	if (!h)
		t_skip("needs one more controller");
	if (cgroup_read(h, group(""), s.v2 ? v2 : v1, text, sizeof text) < 0)
		t_skip("needs one more control file");
	return text;
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void reap(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(paths_cannot_leave_the_hierarchy)
{
	static const char *const bad[] = { "", "/a", "a/", "a//b", ".", "..", "a/../b", "a/." };

	for (size_t i = 0; i < LEN(bad); i++)
		CHECK_ERR(ERR_INVALID, cgroup_check_path(bad[i]));
	CHECK_OK(cgroup_check_path("hoy/..x/a.b"));
	CHECK_ERR(ERR_INVALID, runtime_kill_all("", SIGKILL));
	CHECK_ERR(ERR_INVALID, runtime_cgroup_remove(".."));
}

TEST(a_group_is_made_with_its_limits_and_removed_without_a_trace)
{
	PLAN(p);

	CHECK_OK(resources(&p, "{\"memory\":{\"limit\":67108864},\"pids\":{\"limit\":9},\"cpu\":{\"quota\":"
			       "50000,\"period\":100000}}"));
	CHECK_OK(cgroup_create(set(), &p));
	CHECK_STR(value("memory", "memory.limit_in_bytes", "memory.max"), "67108864\n");
	CHECK_STR(value("pids", "pids.max", "pids.max"), "9\n");
	CHECK_STR(value("cpu", "cpu.cfs_quota_us", "cpu.max"), set()->v2 ? "50000 100000\n" : "50000\n");
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
	CHECK_INT(present(p.cgroup), 0);
	CHECK_OK(runtime_cgroup_remove(p.cgroup)); /* idempotent */
}

TEST(empty_parents_of_ours_go_too)
{
	PLAN(p);

	p.cgroup = plan_text(&p, group("/a/b"));
	CHECK_OK(cgroup_create(set(), &p));
	CHECK(present(p.cgroup) > 0);
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
	CHECK_INT(present(group("")), 0);
}

TEST(a_limit_that_cannot_be_set_is_an_error_and_leaves_nothing)
{
	PLAN(p);

	*vec_push(&p.cgroup_v1) = (struct plan_pair){ "nonsense/nonsense.max", "1" };
	*vec_push(&p.cgroup_v2) = (struct plan_pair){ "nonsense.max", "1" };
	CHECK_ERR(ERR_UNSUPPORTED, cgroup_create(set(), &p));
	CHECK_INT(present(p.cgroup), 0);
	p.cgroup_v1.p[0] = (struct plan_pair){ "pids/pids.max", "many" };
	p.cgroup_v2.p[0] = (struct plan_pair){ "pids.max", "many" };
	CHECK_ERR(ERR_INVALID, cgroup_create(set(), &p));
	CHECK_INT(present(p.cgroup), 0);
	p.cgroup_v1.p[0].value = p.cgroup_v2.p[0].value = NULL;
	CHECK_ERR(ERR_UNSUPPORTED, cgroup_create(set(), &p));
	CHECK_INT(present(p.cgroup), 0);
}

TEST(optional_files_may_be_absent)
{
	PLAN(p);

	*vec_push(&p.cgroup_v1) = (struct plan_pair){ "pids/pids.nonsense|", "1" };
	*vec_push(&p.cgroup_v1) = (struct plan_pair){ "pids/pids.nonsense|pids/pids.max", "1|7" };
	*vec_push(&p.cgroup_v2) = (struct plan_pair){ "pids.nonsense|", "1" };
	*vec_push(&p.cgroup_v2) = (struct plan_pair){ "pids.nonsense|pids.max", "1|7" };
	CHECK_OK(cgroup_create(set(), &p));
	CHECK_STR(value("pids", "pids.max", "pids.max"), "7\n");
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
}

TEST(processes_join_are_listed_frozen_killed_and_removed)
{
	auto_free pid_t *pids = NULL;
	struct runtime_stats st;
	pid_t one, two;
	size_t n;
	PLAN(p);

	CHECK_OK(cgroup_create(set(), &p));
	one = sleeper();
	two = sleeper();
	CHECK_OK(cgroup_join(p.cgroup, one));
	CHECK_OK(cgroup_join(p.cgroup, two));
	CHECK_OK(runtime_pids(p.cgroup, &pids, &n));
	CHECK(n == 2 && pids[0] + pids[1] == one + two);
	CHECK_OK(runtime_stats(p.cgroup, &st));
	CHECK_INT(st.pids, 2);
	CHECK(st.mem_limit_bytes == 0 && !st.oom_killed);
	CHECK_ERR(ERR_CONFLICT, cgroup_create(set(), &p)); /* somebody lives there */
	CHECK_OK(runtime_freeze(p.cgroup, true));
	CHECK(strstr(value("freezer", "freezer.state", "cgroup.events"),
		     set()->v2 ? "frozen 1" : "FROZEN"));
	CHECK_OK(runtime_freeze(p.cgroup, false));
	CHECK_OK(runtime_freeze(p.cgroup, true));
	CHECK_OK(runtime_kill_all(p.cgroup, SIGKILL)); /* also when frozen */
	reap(one);
	reap(two);
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
	CHECK_ERR(ERR_NOT_FOUND, runtime_stats(p.cgroup, &st));
	CHECK_ERR(ERR_NOT_FOUND, runtime_kill_all(p.cgroup, SIGKILL));
	CHECK_ERR(ERR_NOT_FOUND, runtime_freeze(p.cgroup, true));
}

TEST(removing_kills_what_lives_there_and_in_groups_made_inside)
{
	pid_t one, two;
	PLAN(p);

	CHECK_OK(cgroup_create(set(), &p));
	one = sleeper();
	CHECK_OK(cgroup_join(p.cgroup, one));
	if (!set()->v2) { /* a v2 group with controllers has no processes beside child groups */
		struct plan inner = { .id = "i", .cgroup = plan_text(&p, group("/inner/deep")) };

		CHECK_OK(cgroup_create(set(), &inner));
		two = sleeper();
		CHECK_OK(cgroup_join(inner.cgroup, two));
	} else {
		two = 0;
	}
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
	CHECK_INT(present(p.cgroup), 0);
	reap(one);
	if (two)
		reap(two);
}

TEST(a_fork_storm_is_killed_too)
{
	pid_t one;
	int gate[2];
	char byte;
	PLAN(p);

	CHECK_OK(resources(&p, "{\"pids\":{\"limit\":40}}"));
	CHECK_OK(cgroup_create(set(), &p));
	CHECK(sys_pipe(gate) == 0);
	one = fork();
	CHECK(one >= 0);
	if (one == 0) {
		if (sys_read(gate[0], &byte, 1) != 1) /* never before it is limited: it would take the machine */
			_exit(1);
		for (;;) /* every descendant forks on and dies after a moment */
			if (fork() == 0)
				alarm(1);
	}
	CHECK_OK(cgroup_join(p.cgroup, one));
	CHECK(sys_write(gate[1], "g", 1) == 1);
	close(gate[0]);
	close(gate[1]);
	sys_pause_ns(100000000);
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
	CHECK_INT(present(p.cgroup), 0);
	reap(one);
}

TEST(a_v2_group_can_be_given_to_clone)
{
	int fd;
	PLAN(p);

	if (!set()->v2) {
		CHECK_INT(cgroup_fd(set(), p.cgroup), -EOPNOTSUPP);
		t_skip("needs cgroup v2");
	}
	CHECK_OK(cgroup_create(set(), &p));
	fd = cgroup_fd(set(), p.cgroup);
	CHECK(fd >= 0);
	close(fd);
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
}

TEST(device_rules_hold_in_the_kernel)
{
	static const char rules[] =
	    "{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
	    "{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":11,\"access\":\"r\"}]}";
	int status;
	pid_t pid;
	PLAN(p);

	CHECK_OK(resources(&p, rules));
	CHECK_OK(cgroup_create(set(), &p));
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct err *e = cgroup_enter(set(), p.cgroup, getpid());

		if (e)
			_exit(9);
		if (open("/dev/null", O_RDWR | O_CLOEXEC) < 0)
			_exit(1);
		if (open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC) < 0 && errno == EPERM)
			_exit(2);
		if (open("/dev/kmsg", O_RDWR | O_CLOEXEC) >= 0 || errno != EPERM)
			_exit(3);
		if (mknodat(t_tmpdir(), "mem", S_IFCHR | 0600, (1 << 8) | 1) < 0)
			_exit(4); /* making a node is free, using it is not */
		if (openat(t_tmpdir(), "mem", O_RDONLY | O_CLOEXEC) >= 0 || errno != EPERM)
			_exit(5);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
	CHECK(WIFEXITED(status));
	CHECK_INT(WEXITSTATUS(status), 0);
}

TEST(limits_can_be_changed_up_and_down)
{
	auto_json json_t *raise = NULL, *low = NULL, *alone = NULL, *none = NULL;
	PLAN(p);

	CHECK_OK(json_parse(SV("{\"memory\":{\"limit\":67108864}}"), "r", 1000, &alone));
	CHECK_OK(json_parse(SV("{\"memory\":{\"limit\":-1}}"), "r", 1000, &none));

	CHECK_OK(resources(&p, "{\"memory\":{\"limit\":16777216,\"swap\":33554432},\"pids\":{\"limit\":9}}"));
	CHECK_OK(cgroup_create(set(), &p));
	CHECK_OK(json_parse(SV("{\"memory\":{\"limit\":67108864,\"swap\":67108864},\"pids\":{\"limit\":-1}}"),
			    "r", 1000, &raise));
	CHECK_OK(
	    json_parse(SV("{\"memory\":{\"limit\":16777216,\"swap\":16777216,\"checkBeforeUpdate\":true}}"),
		       "r", 1000, &low));
	CHECK_OK(runtime_update(p.cgroup, raise));
	CHECK_STR(value("memory", "memory.limit_in_bytes", "memory.max"), "67108864\n");
	CHECK_STR(value("pids", "pids.max", "pids.max"), "max\n");
	CHECK_OK(runtime_update(p.cgroup, low));
	CHECK_STR(value("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
		  set()->v2 ? "0\n" : "16777216\n");
	if (!set()->v2) /* the sum of memory and swap stands in the way */
		CHECK_ERR(ERR_INVALID, runtime_update(p.cgroup, alone));
	CHECK_OK(runtime_update(p.cgroup, none));
	CHECK_STR(value("memory", "memory.limit_in_bytes", "memory.max"), set()->v2 ? "max\n" : "9223372036854771712\n");
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
	CHECK_ERR(ERR_UNSUPPORTED, runtime_update(p.cgroup, raise)); /* gone */
}

/* Takes n bytes and holds them until killed. */
static void hog(const char *path, size_t n)
{
	char *m;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || cgroup_join(path, getpid()))
		_exit(1);
	m = malloc(n);
	for (size_t i = 0; m && i < n; i += 512)
		m[i] = (char)i;
	for (;;)
		pause();
}

TEST(use_is_counted_and_an_out_of_memory_kill_is_told)
{
	struct runtime_stats st;
	auto_json json_t *too_low = NULL;
	pid_t pid;
	PLAN(p);

	CHECK_OK(resources(&p, "{\"memory\":{\"limit\":33554432,\"swap\":33554432}}"));
	CHECK_OK(cgroup_create(set(), &p));
	if ((pid = fork()) == 0)
		hog(p.cgroup, 8 << 20);
	do {
		sys_pause_ns(5000000);
		CHECK_OK(runtime_stats(p.cgroup, &st));
	} while (st.mem_bytes < 8 << 20);
	CHECK(st.mem_limit_bytes == 33554432 && !st.oom_killed && st.pids == 1 && st.cpu_ns > 0);
	CHECK_OK(json_parse(SV("{\"memory\":{\"limit\":1048576,\"checkBeforeUpdate\":true}}"), "r", 1000,
			    &too_low));
	CHECK_ERR(ERR_CONFLICT, runtime_update(p.cgroup, too_low));
	CHECK_OK(runtime_kill_all(p.cgroup, SIGKILL));
	reap(pid);
	if ((pid = fork()) == 0)
		hog(p.cgroup, 64 << 20);
	reap(pid); /* by the kernel */
	CHECK_OK(runtime_stats(p.cgroup, &st));
	CHECK(st.oom_killed);
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
}

TEST(every_call_that_fails_is_told)
{
	pid_t pid;
	PLAN(p);

	CHECK_OK(resources(&p, "{\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]}"));
	CHECK_OK(cgroup_create(set(), &p));
	pid = sleeper();
	FAULT_SWEEP (EIO) {
		struct err *e;

		t_sweep_on();
		e = cgroup_enter(set(), p.cgroup, pid);
		t_sweep_off();
		CHECK(!e == !t_sweep_fired());
		err_free(e);
	}
	FAULT_SWEEP (EIO) {
		struct err *e;

		t_sweep_on();
		e = runtime_cgroup_remove(p.cgroup);
		t_sweep_off();
		if (!e) /* it may have got round a failing call, but the group is gone */
			CHECK_INT(present(p.cgroup), 0);
		err_free(e);
	}
	reap(pid);
	CHECK_OK(runtime_cgroup_remove(p.cgroup));
}

/* The last to leave removes the parent that the next is about to use. */
static void make_and_remove(int rounds)
{
	char path[128];
	struct plan p = { .id = "t", .cgroup = path };

	(void)snprintf(path, sizeof path, "hoy/unit-test-%d/deep/leaf-%d", (int)getppid(), (int)getpid());
	for (int i = 0; i < rounds; i++) {
		pid_t pid = sleeper();
		struct err *e = cgroup_create(set(), &p);

		if (!e)
			e = cgroup_join(path, pid);
		if (!e)
			e = runtime_cgroup_remove(path);
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		if (e) {
			(void)fprintf(stderr, "round %d: %s\n", i, e->msg);
			_exit(1);
		}
	}
	_exit(0);
}

TEST(many_make_and_remove_at_once)
{
	enum { WORKERS = 5, ROUNDS = 40 };
	pid_t pids[WORKERS];
	int status;

	need_groups();
	for (int i = 0; i < WORKERS; i++)
		if ((pids[i] = fork()) == 0)
			make_and_remove(ROUNDS);
	for (int i = 0; i < WORKERS; i++) {
		CHECK(waitpid(pids[i], &status, 0) == pids[i]);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	CHECK_INT(present(group("")), 0);
}

TEST(making_a_group_survives_every_failing_call)
{
	PLAN(p);

	CHECK_OK(resources(&p, "{\"pids\":{\"limit\":9}}"));
	FAULT_SWEEP (EIO) {
		struct cgroup_set s;
		struct err *e;

		t_sweep_on();
		e = cgroup_set_find(&s);
		if (!e)
			e = cgroup_create(&s, &p);
		t_sweep_off();
		CHECK(!e || t_sweep_fired());
		err_free(e);
		CHECK_OK(runtime_cgroup_remove(p.cgroup));
		CHECK_INT(present(p.cgroup), 0);
	}
}

/* --- the device program --- */

static int run(const struct device_insn *p, size_t n, uint32_t type, uint32_t access, uint32_t major,
	       uint32_t minor)
{
	uint32_t ctx[3] = { access << 16 | type, major, minor };
	uint64_t r[11] = { 0 };

	for (size_t at = 0; at < n; at++) {
		unsigned dst = p[at].regs & 15, src = p[at].regs >> 4;

		switch (p[at].code) {
		case BPF_LDX | BPF_MEM | BPF_W:
			CHECK(src == 1 && p[at].off >= 0 && p[at].off <= 8);
			r[dst] = ctx[p[at].off / 4];
			break;
		case BPF_ALU | BPF_MOV | BPF_X:
			r[dst] = (uint32_t)r[src];
			break;
		case BPF_ALU64 | BPF_MOV | BPF_X:
			r[dst] = r[src];
			break;
		case BPF_ALU64 | BPF_MOV | BPF_K:
			r[dst] = (uint64_t)(int64_t)p[at].imm;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			r[dst] = (uint32_t)r[dst] & (uint32_t)p[at].imm;
			break;
		case BPF_ALU | BPF_RSH | BPF_K:
			r[dst] = (uint32_t)r[dst] >> p[at].imm;
			break;
		case BPF_JMP | BPF_JNE | BPF_K:
			at += r[dst] != (uint64_t)(int64_t)p[at].imm ? (size_t)p[at].off : 0;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += r[dst] == (uint64_t)(int64_t)p[at].imm ? (size_t)p[at].off : 0;
			break;
		case BPF_JMP | BPF_EXIT:
			return (int)r[0];
		default:
			t_fail(__FILE__, __LINE__, "instruction %zu: code %#x", at, p[at].code);
		}
	}
	t_fail(__FILE__, __LINE__, "ran off the end");
}

/* The rule list read the slow way: for every wanted access the last rule that speaks about it. */
static bool oracle(const struct plan *p, uint32_t type, uint32_t access, uint32_t major, uint32_t minor)
{
	static const struct {
		uint32_t bit;
		char name;
	} bits[] = { { BPF_DEVCG_ACC_MKNOD, 'm' },
		     { BPF_DEVCG_ACC_READ, 'r' },
		     { BPF_DEVCG_ACC_WRITE, 'w' } };

	for (size_t b = 0; b < LEN(bits); b++) {
		bool ok = false;

		if (!(access & bits[b].bit))
			continue;
		for (size_t i = 0; i < p->device_rules.n; i++) {
			const struct plan_cgroup_rule *r = &p->device_rules.p[i];

			if ((r->type == 'a' || (r->type == 'b') == (type == BPF_DEVCG_DEV_BLOCK)) &&
			    (r->major < 0 || r->major == major) && (r->minor < 0 || r->minor == minor) &&
			    strchr(r->access, bits[b].name))
				ok = r->allow;
		}
		if (!ok)
			return false;
	}
	return true;
}

TEST(the_device_program_decides_as_the_last_rule_says)
{
	static const struct plan_cgroup_rule pool[] = {
		{ false, 'a', -1, -1, "rwm" }, { true, 'c', 1, 3, "r" },     { true, 'c', 1, 3, "w" },
		{ false, 'c', 1, -1, "w" },    { true, 'b', 8, -1, "rw" },   { true, 'a', -1, -1, "m" },
		{ false, 'b', 8, 1, "r" },     { true, 'a', -1, -1, "rwm" }, { true, 'c', -1, 3, "rw" },
		{ true, 'a', 8, 1, "rwm" },
	};
	unsigned seed = 1;

	for (int round = 0; round < 300; round++) {
		CLEANUP(fini) struct plan p = { .id = "t" };
		struct device_insn insns[256];
		size_t n, rules = 1 + (size_t)rand_r(&seed) % 8;

		arena_init(&p.arena, 4096);
		for (size_t i = 0; i < rules; i++)
			*vec_push(&p.device_rules) = pool[(size_t)rand_r(&seed) % LEN(pool)];
		n = device_program(&p, insns, LEN(insns));
		CHECK(n > 0);
		for (uint32_t access = 1; access < 8; access++)
			for (uint32_t type = BPF_DEVCG_DEV_BLOCK; type <= BPF_DEVCG_DEV_CHAR; type++)
				for (uint32_t major = 1; major <= 8; major += 7)
					for (uint32_t minor = 1; minor <= 3; minor += 2)
						CHECK_INT(run(insns, n, type, access, major, minor),
							  oracle(&p, type, access, major, minor));
		CHECK_INT(device_program(&p, insns, 3), 0);
	}
}
