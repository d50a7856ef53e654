/* create_test.c - real containers of busybox: isolation, errors, terminal, exec, and what is left behind. Needs root. */
#include "base/buf.h"
#include "base/own.h"
#include "base/text.h"
#include "base/mem.h"
#include "harness/t.h"
#include "runtime/runtime.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

static const char spec_text[] =
	"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"root\"},\"hostname\":\"box\","
	"\"process\":{\"cwd\":\"/\",\"args\":[\"sh\"],\"env\":[\"PATH=/bin\",\"A=1\"],\"user\":{\"uid\":0,\"gid\":0}},"
	"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"mode=755\"]},"
	"{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"newinstance\",\"ptmxmode=0666\"]},"
	"{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\",\"options\":[\"ro\",\"nosuid\"]},"
	"{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\",\"options\":[\"ro\"]}],"
	"\"linux\":{\"maskedPaths\":[\"/proc/kcore\",\"/sys/firmware\"],\"readonlyPaths\":[\"/proc/sys\"],"
	"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"network\"}]}}";

struct box {
	struct plan *plan;
	struct runtime_proc proc;
	int out;
	char id[64];
};

/* tests/v2 keeps programs off registers its guest does not save. */
static void add_tunables(json_t *process)
{
	auto_free char *entry = getenv("GLIBC_TUNABLES") ? xasprintf("GLIBC_TUNABLES=%s", getenv("GLIBC_TUNABLES")) : NULL;

	if (entry)
		json_array_append_new(json_object_get(process, "env"), json_string(entry));
}

static json_t *spec(void)
{
	json_t *v;
	int fd;

	if (geteuid() != 0)
		t_skip("needs root");
	if (access("/bin/busybox", X_OK) != 0)
		t_skip("needs busybox-static");
	CHECK_OK(json_parse(sv_of(spec_text), "spec", 65536, &v));
	add_tunables(json_at(v, "process"));
	if (mkdirat(t_tmpdir(), "root", 0755) == 0) {
		static const char *const names[] = { "sh", "cat", "id", "ls", "sleep", "echo", "tty", "wc", "hostname", "grep" };
		static const char *const dirs[] = { "root/bin", "root/proc", "root/sys", "root/tmp" };

		for (size_t i = 0; i < LEN(dirs); i++)
			CHECK(mkdirat(t_tmpdir(), dirs[i], 0755) == 0);
		for (size_t i = 0; i < LEN(names); i++) {
			auto_free char *path = xasprintf("root/bin/%s", names[i]);

			CHECK(symlinkat("busybox", t_tmpdir(), path) == 0);
		}
		fd = openat(t_tmpdir(), "root/bin/busybox", O_CREAT | O_WRONLY, 0755);
		CHECK(fd >= 0);
		{
			int from = open("/bin/busybox", O_RDONLY);

			while (sys_copy_range(from, fd, 1 << 20) > 0)
				;
			close(from);
		}
		close(fd);
	}
	return v;
}

static void set_args(json_t *v, const char *script)
{
	json_object_set_new(json_object_get(v, "process"), "args", json_pack("[s,s,s]", "sh", "-c", script));
}

static struct err *launch(json_t *v, struct box *b)
{
	struct plan_opts o = { .id = b->id, .bundle = t_tmppath(), .default_seccomp = true };
	struct runtime_stdio io = { .fd = { -1, -1, -1 } };
	static unsigned n;
	int p[2];
	struct err *e;

	(void)snprintf(b->id, sizeof b->id, "hoy-test-%d-%u", (int)getpid(), n++);
	CHECK(sys_pipe(p) == 0);
	b->out = p[0];
	b->proc = (struct runtime_proc){ .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	io.fd[1] = io.fd[2] = p[1];
	e = plan_compile(v, &o, &b->plan);
	CHECK_OK(e);
	e = runtime_create(b->plan, &io, -1, &b->proc);
	close(p[1]);
	return e;
}

static int finish(struct box *b, char *text, size_t size)
{
	ssize_t n = sys_read_full(b->out, text, size - 1);
	int code = sys_pid_fd_wait(b->proc.pid_fd, false, NULL);

	text[n < 0 ? 0 : n] = 0;
	close(b->out);
	runtime_proc_fini(&b->proc);
	CHECK_OK(runtime_cleanup(b->plan));
	plan_free(b->plan);
	return code;
}

static int run(json_t *v, char *text, size_t size)
{
	struct box b = { 0 };

	CHECK_OK(launch(v, &b));
	CHECK_OK(runtime_start(&b.proc));
	return finish(&b, text, size);
}

TEST(a_container_is_isolated)
{
	auto_json json_t *v = spec();
	char text[4096];

	set_args(v, "echo $$ $A; hostname; cat /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware | wc -l; ls / | grep -c proc;"
		    "echo x >/proc/sys/kernel/hostname || echo ro; ls -d /sys/fs/cgroup/*/ >/dev/null && echo cg; exit 7");
	CHECK_INT(run(v, text, sizeof text), 7);
	CHECK(strncmp(text, "1 1\nbox\n0\n0\n1\n", 14) == 0);
	CHECK(strstr(text, "ro\ncg\n") != NULL);
}

TEST(a_missing_program_is_told_at_create)
{
	auto_json json_t *v = spec();
	struct box b;

	json_object_set_new(json_object_get(v, "process"), "args", json_pack("[s]", "nosuch"));
	CHECK_ERR(ERR_NOT_FOUND, launch(v, &b));
	close(b.out);
	plan_free(b.plan);
	json_object_set_new(json_object_get(v, "process"), "args", json_pack("[s]", "/tmp"));
	CHECK_ERR(ERR_DENIED, launch(v, &b));
	close(b.out);
	plan_free(b.plan);
}

TEST(the_filter_and_capabilities_hold)
{
	auto_json json_t *v = spec();
	char text[4096];

	json_object_set_new(json_object_get(v, "process"), "capabilities",
			    json_pack("{s:[s], s:[s], s:[s]}", "bounding", "CAP_CHOWN", "effective", "CAP_CHOWN", "permitted",
				      "CAP_CHOWN"));
	set_args(v, "grep -E 'CapEff|CapBnd|Seccomp:' /proc/self/status");
	CHECK_INT(run(v, text, sizeof text), 0);
	CHECK(strstr(text, "CapEff:\t0000000000000001") && strstr(text, "CapBnd:\t0000000000000001"));
	CHECK(strstr(text, "Seccomp:\t2"));
}

TEST(a_user_without_rights)
{
	auto_json json_t *v = spec();
	char text[4096];

	json_object_set_new(json_object_get(v, "process"), "user",
			    json_pack("{s:i, s:i, s:[i]}", "uid", 12, "gid", 34, "additionalGids", 56));
	set_args(v, "id; echo out >/dev/stdout");
	CHECK_INT(run(v, text, sizeof text), 0);
	CHECK(strstr(text, "uid=12 gid=34 groups=34,56") || strstr(text, "uid=12 gid=34 groups=56"));
	CHECK(strstr(text, "out\n"));
}

TEST(a_terminal_comes_back)
{
	auto_json json_t *v = spec();
	char text[512];
	struct box b;
	ssize_t n, at = 0;

	json_object_set_new(json_object_get(v, "process"), "terminal", json_true());
	set_args(v, "tty");
	CHECK_OK(launch(v, &b));
	CHECK(b.proc.tty_fd >= 0);
	CHECK_OK(runtime_start(&b.proc));
	while ((n = sys_read(b.proc.tty_fd, text + at, sizeof text - 1 - (size_t)at)) > 0)
		at += n;
	text[at] = 0;
	CHECK(strstr(text, "/dev/pts/0"));
	CHECK_INT(finish(&b, text, sizeof text), 0);
}

TEST(exec_joins)
{
	auto_json json_t *v = spec(), *process = NULL;
	struct runtime_stdio io = { .fd = { -1, -1, -1 } };
	struct plan_opts o = { .default_seccomp = true };
	struct runtime_proc proc;
	struct plan *plan;
	struct box b;
	char text[512];
	int p[2];
	ssize_t n;

	set_args(v, "sleep 100");
	CHECK_OK(launch(v, &b));
	CHECK_OK(runtime_start(&b.proc));
	CHECK(sys_pipe(p) == 0);
	io.fd[1] = p[1];
	o.id = o.cgroup_path = b.id;
	process = json_pack("{s:s, s:[s,s,s], s:[s]}", "cwd", "/tmp", "args", "sh", "-c", "hostname; echo $B; exit 4", "env",
			    "B=two");
	add_tunables(process);
	CHECK_OK(plan_compile_exec(process, &o, b.proc.pid, &plan));
	CHECK_OK(runtime_exec(plan, b.proc.pid, &io, &proc));
	close(p[1]);
	n = sys_read_full(p[0], text, sizeof text - 1);
	close(p[0]);
	text[n] = 0;
	CHECK_STR(text, "box\ntwo\n");
	CHECK_INT(sys_pid_fd_wait(proc.pid_fd, false, NULL), 4);
	runtime_proc_fini(&proc);
	plan_free(plan);
	CHECK(sys_pid_fd_kill(b.proc.pid_fd, SIGKILL) == 0);
	CHECK_INT(finish(&b, text, sizeof text), 137);
}

TEST(a_packed_plan_is_the_same)
{
	static const char *const lower[] = { "/l1", "/l2", NULL };
	const struct plan_opts all[] = {
		{ .id = "x", .bundle = "/b", .default_seccomp = true },
		{ .id = "y", .lower = lower, .upper = "/u", .work = "/w", .cgroup_path = "hoy/y", .is_volatile = true },
		{ .id = "z", .lower = lower, .upper = "/u", .work = "/w", .is_user = true, .no_pivot = true, .no_keyring = true },
		{ .id = "v", .bundle = "/b", .no_cgroup = true, .die_with_parent = true, .oci_annotations = true },
	};

	for (size_t i = 0; i < LEN(all); i++) {
		auto_json json_t *v = spec();
		auto_buf struct buf packed = BUF(1 << 20), a = BUF(1 << 20), b = BUF(1 << 20), again = BUF(1 << 20);
		struct plan *p, *q;

		CHECK_OK(plan_compile(v, &all[i], &p));
		plan_pack(p, &packed);
		CHECK_OK(plan_unpack(packed.data, packed.n, &q));
		plan_pack(q, &again);
		CHECK_STR(buf_text(&again), buf_text(&packed));
		plan_print(p, &a);
		plan_print(q, &b);
		CHECK_STR(buf_text(&b), buf_text(&a));
		CHECK(i != 1 || (strstr(buf_text(&b), "/u volatile\n") && strstr(buf_text(&b), "hoy/y")));
		CHECK(i != 2 || strstr(buf_text(&b), "/u userxattr\n"));
		plan_free(p);
		plan_free(q);
	}
	{
		struct plan *q;

		CHECK_ERR(ERR_INVALID, plan_unpack("{", 1, &q));
		CHECK_ERR(ERR_CORRUPT, plan_unpack("{}", 2, &q));
	}
}

/* Whatever call of the parent fails: an error or a running container, and nothing left in the cgroups. */
TEST(failures_of_the_parent_leave_nothing)
{
	FAULT_SWEEP(ENOMEM)
	{
		auto_json json_t *v = spec();
		struct plan_opts o = { .id = "hoy-test-sweep", .bundle = t_tmppath() };
		struct runtime_stdio io = { .fd = { -1, -1, -1 } };
		struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
		struct plan *plan;
		struct err *e;

		set_args(v, "exit 0");
		CHECK_OK(plan_compile(v, &o, &plan));
		t_sweep_on();
		e = runtime_create(plan, &io, -1, &proc);
		t_sweep_off();
		if (!e) {
			CHECK_OK(runtime_start(&proc));
			CHECK_INT(sys_pid_fd_wait(proc.pid_fd, false, NULL), 0);
			runtime_proc_fini(&proc);
		}
		err_free(e);
		CHECK_OK(runtime_cleanup(plan));
		plan_free(plan);
		CHECK(access("/sys/fs/cgroup/pids/hoy-test-sweep", F_OK) < 0 && access("/sys/fs/cgroup/hoy-test-sweep", F_OK) < 0);
	}
}
