/*
 * sweep_test.c - every system call of a creation, start, exec and delete fails once, or its process ends there: in the parent,
 * and in the child between clone and execve. Afterwards either the container is what was asked for, to the last capability
 * and mount, or there is one clear error; and nothing is left: cgroup, process, descriptor, state. Needs root.
 *
 * T_SWEEP=all takes every errno of the list; without it each sweep takes one or two.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "harness/t.h"
#include "runtime/cgroup.h"
#include "runtime/oci.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { PARENT, CHILD, END = -1 /* instead of an errno: the process ends */ };
/* Not ENOENT, and not EACCES on what is to be masked: a lie of "there is none" is the truth for who hears it. */
static const int every_errno[] = { EIO, ENOMEM, ENOSYS, EPERM, EMFILE, ENOSPC, EBUSY, EINVAL, END, 0 };

/* ---- failing the n-th call of one side ---- */

static struct sweep {
	pid_t parent;
	int side, at, os, n;
	bool fired;
	char call[64];
} *sweep; /* shared with the children */

static int hook(const char *call)
{
	/* the first process of a pid namespace is 1, everyone below the parent is somebody else */
	if ((getpid() != sweep->parent) != sweep->side || ++sweep->n != sweep->at)
		return 0;
	sweep->fired = true;
	(void)snprintf(sweep->call, sizeof sweep->call, "%s", call);
	if (sweep->os == END)
		_exit(99);
	return sweep->os;
}

static void sweep_start(int side, int os)
{
	sweep = mmap(NULL, sizeof *sweep, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(sweep != MAP_FAILED);
	*sweep = (struct sweep){ .side = side, .os = os };
}

static unsigned faults;

/* false: the last round was the one without a failure. */
static bool sweep_next(void)
{
	faults += sweep->fired;
	if (sweep->at && !sweep->fired)
		return false;
	sweep->at++;
	sweep->n = 0;
	sweep->fired = false;
	sweep->call[0] = 0;
	return true;
}

static void sweep_on(void)
{
	sweep->parent = getpid();
	sys_fault = hook;
}

/* The list, or with a short run what stands for it. */
static const int *errnos(const int *few)
{
	const char *all = getenv("T_SWEEP");

	return all && strcmp(all, "all") == 0 ? every_errno : few;
}

#define SWEEP_CHECK(cond, ...)                                                                                        \
	((cond) ? (void)0 :                                                                                           \
		  (fprintf(stderr, "%s side, call %d (%s), errno %d: ", sweep->side ? "child" : "parent", sweep->at,      \
			   sweep->call, sweep->os),                                                                       \
		   t_fail(__FILE__, __LINE__, __VA_ARGS__)))

/* ---- a bundle ---- */

static const char spec_text[] =
	"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"root\"},\"hostname\":\"box\","
	"\"process\":{\"cwd\":\"/tmp\",\"args\":[\"sh\",\"-c\",\"%s\"],\"env\":[\"PATH=/bin\"%s],\"user\":{\"uid\":0,\"gid\":0},"
	"\"noNewPrivileges\":true,\"oomScoreAdj\":100,\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":0}],"
	"\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_KILL\"],\"effective\":[\"CAP_CHOWN\"],\"permitted\":[\"CAP_CHOWN\"]}},"
	"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"mode=755\"]},"
	"{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"newinstance\",\"ptmxmode=0666\"]},"
	"{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\",\"options\":[\"ro\",\"nosuid\"]},"
	"{\"destination\":\"/data\",\"type\":\"bind\",\"source\":\"/usr\",\"options\":[\"rbind\",\"ro\",\"nodev\"]},"
	"{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\",\"options\":[\"ro\"]}],"
	"\"linux\":{\"maskedPaths\":[\"/proc/keys\",\"/sys/firmware\"],\"readonlyPaths\":[\"/proc/sys\"],"
	"\"sysctl\":{\"kernel.shm_rmid_forced\":\"1\"},"
	"\"resources\":{\"pids\":{\"limit\":50},\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]},"
	"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"network\"},"
	"{\"type\":\"cgroup\"}],\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mount\"],"
	"\"action\":\"SCMP_ACT_ERRNO\"}]}}}";
/* All that the configuration wants, as the program sees it. (Devices may be bound where mknod is refused.) */
#define TELL                                                                                                        \
	"grep -E 'Cap|Seccomp:|NoNew|^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f5,6 /proc/self/mountinfo |"      \
	"grep -vE '^/dev/(null|zero|full|u?random|tty) '; ls /dev; pwd; umask; hostname; ulimit -c;"                \
	"cat /proc/self/oom_score_adj /proc/sys/kernel/shm_rmid_forced; ls -l /proc/self/fd | wc -l;"               \
	"cat /proc/keys | wc -c; ls /sys/firmware | wc -l; cut -d: -f3 /proc/self/cgroup"

static void make_root(void)
{
	static const char *const dirs[] = { "root", "root/bin", "root/proc", "root/sys", "root/tmp", "root/dev", "root/data" };
	static const char *const names[] = { "sh", "cat", "ls", "sleep", "wc", "hostname", "grep", "cut" };
	auto_fd int from = open("/bin/busybox", O_RDONLY | O_CLOEXEC), to = -1;

	if (geteuid() != 0)
		t_skip("needs root");
	if (from < 0)
		t_skip("needs busybox-static");
	for (size_t i = 0; i < LEN(dirs); i++)
		CHECK(mkdirat(t_tmpdir(), dirs[i], 0755) == 0);
	for (size_t i = 0; i < LEN(names); i++) {
		auto_free char *path = xasprintf("root/bin/%s", names[i]);

		CHECK(symlinkat("busybox", t_tmpdir(), path) == 0);
	}
	CHECK((to = openat(t_tmpdir(), "root/bin/busybox", O_CREAT | O_WRONLY | O_CLOEXEC, 0755)) >= 0);
	while (sys_copy_range(from, to, 1 << 20) > 0)
		;
}

/* tests/v2 keeps programs off registers its guest does not save. */
static void spec_print(const char *script, char out[sizeof spec_text + 2048])
{
	const char *tunables = getenv("GLIBC_TUNABLES");
	char more[512] = "";

	if (tunables)
		(void)snprintf(more, sizeof more, ",\"GLIBC_TUNABLES=%s\"", tunables);
	(void)snprintf(out, sizeof spec_text + 2048, spec_text, script, more);
}

static void write_spec(const char *script)
{
	char text[sizeof spec_text + 2048];

	spec_print(script, text);
	t_file_write(t_tmpdir(), "config.json", text);
}

static json_t *spec(const char *script)
{
	char text[sizeof spec_text + 2048];
	json_t *v;

	spec_print(script, text);
	CHECK_OK(json_parse(sv_of(text), "spec", 65536, &v));
	return v;
}

/* ---- what is left ---- */

/* The container's name and control group: one per test process. */
static const char *group(void)
{
	static char name[40];

	if (!name[0])
		(void)snprintf(name, sizeof name, "hoy-sweep-%d", (int)getpid());
	return name;
}
#define GROUP group()

static int groups_left(void)
{
	struct cgroup_set s;
	int n = 0;

	CHECK_OK(cgroup_set_find(&s));
	for (size_t i = 0; i < s.n; i++) {
		char name[CGROUP_PATH];
		struct stat st;

		CHECK(cgroup_name(&s.h[i], GROUP, "", name) == 0);
		n += stat(name, &st) == 0;
	}
	return n;
}

static void check_nothing_left(void)
{
	int status;

	sys_fault = NULL;
	SWEEP_CHECK(waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD, "a process is left");
	SWEEP_CHECK(groups_left() == 0, "control groups are left");
}

/* ---- the library: create and start ---- */

/* After its last word ("execve comes next") the child's death is the program's: nobody can tell them apart. */
static void ended(const struct runtime_proc *proc, char *out)
{
	int code = sys_pid_fd_wait(proc->pid_fd, false, NULL);

	if (code == 99 && sweep->os == END && sweep->fired)
		out[0] = 0;
	else
		SWEEP_CHECK(code == 0, "the program failed with %d: %s", code, out);
}

/* One run of the plan; returns the error or what the program told. */
static struct err *run_once(const struct plan *p, char *out, size_t size)
{
	struct runtime_stdio io = { .fd = { -1, -1, -1 } };
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	int pipe[2];
	struct err *e;
	ssize_t n;

	CHECK(sys_pipe(pipe) == 0);
	io.fd[1] = io.fd[2] = pipe[1];
	sweep_on();
	e = runtime_create(p, &io, -1, &proc);
	if (!e && (e = runtime_start(&proc))) {
		sys_fault = NULL;
		(void)sys_pid_fd_kill(proc.pid_fd, SIGKILL);
		(void)sys_pid_fd_wait(proc.pid_fd, false, NULL);
		CHECK_OK(runtime_cleanup(p));
	}
	sys_fault = NULL;
	close(pipe[1]);
	n = sys_read_full(pipe[0], out, size - 1);
	out[n > 0 ? n : 0] = 0;
	close(pipe[0]);
	if (!e) {
		ended(&proc, out);
		CHECK_OK(runtime_cleanup(p));
	}
	runtime_proc_fini(&proc);
	return e;
}

/*
 * An error of the parent's own calls names what failed. What a failing call changes without an error is a bug, so the
 * program's words are compared with those of an undisturbed run.
 */
static void sweep_create(int side, const int *few)
{
	auto_json json_t *v = NULL;
	struct plan_opts o = { .id = GROUP, .cgroup_path = GROUP, .bundle = t_tmppath() };
	char want[16384], got[16384];
	struct plan *plan;

	make_root();
	v = spec(TELL);
	CHECK_OK(plan_compile(v, &o, &plan));
	sweep_start(side, 0);
	CHECK_OK(run_once(plan, want, sizeof want));
	CHECK(strstr(want, "CapBnd:\t0000000000000021") && strstr(want, "Seccomp:\t2"));
	for (const int *os = errnos(few); *os; os++) {
		if (side == PARENT && *os == END)
			continue;
		for (sweep_start(side, *os); sweep_next();) {
			struct err *e = run_once(plan, got, sizeof got);

			SWEEP_CHECK(e || (*os == END && !got[0]) || strcmp(got, want) == 0, "silently different:\n%s\nwanted:\n%s", got, want);
			SWEEP_CHECK(!e || sweep->fired, "failed by itself: %s", e->msg);
			SWEEP_CHECK(!e || strlen(e->msg) > 8, "no clear error: %s", e->msg);
			err_free(e);
			check_nothing_left();
		}
		CHECK(sweep->at > 10);
	}
	plan_free(plan);
	if (getenv("T_SWEEP"))
		fprintf(stderr, "%u faults\n", faults);
}

TEST(a_call_of_the_parent_that_fails_is_told_or_got_round)
{
	sweep_create(PARENT, (const int[]){ ENOMEM, 0 });
}

TEST(a_call_of_the_child_that_fails_is_told_or_got_round)
{
	sweep_create(CHILD, (const int[]){ EIO, 0 });
}

TEST(a_call_of_the_child_the_kernel_does_not_know)
{
	sweep_create(CHILD, (const int[]){ ENOSYS, 0 });
}

TEST(the_child_ends_at_every_call)
{
	sweep_create(CHILD, (const int[]){ END, 0 });
}

/* ---- the library: exec ---- */

static struct err *exec_once(const struct plan *p, pid_t pid, char *out, size_t size)
{
	struct runtime_stdio io = { .fd = { -1, -1, -1 } };
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	int pipe[2];
	struct err *e;
	ssize_t n;

	CHECK(sys_pipe(pipe) == 0);
	io.fd[1] = io.fd[2] = pipe[1];
	sweep_on();
	e = runtime_exec(p, pid, &io, &proc);
	sys_fault = NULL;
	close(pipe[1]);
	n = sys_read_full(pipe[0], out, size - 1);
	out[n > 0 ? n : 0] = 0;
	close(pipe[0]);
	if (!e)
		ended(&proc, out);
	runtime_proc_fini(&proc);
	return e;
}

static void sweep_exec(int side, const int *few)
{
	auto_json json_t *v = NULL, *process = NULL;
	struct plan_opts o = { .id = GROUP, .cgroup_path = GROUP, .bundle = t_tmppath() };
	struct runtime_stdio io = { .fd = { -1, -1, -1 } };
	struct runtime_proc box;
	struct plan *plan, *inner;
	char want[16384], got[16384];

	make_root();
	v = spec("exec sleep 1000");
	CHECK_OK(plan_compile(v, &o, &plan));
	CHECK_OK(runtime_create(plan, &io, -1, &box));
	CHECK_OK(runtime_start(&box));
	process = json_deep_copy(json_at(v, "process"));
	(void)json_object_set_new(process, "args", json_pack("[s,s,s]", "sh", "-c", TELL));
	CHECK_OK(plan_compile_exec(process, &o, box.pid, &inner));
	sweep_start(side, 0);
	CHECK_OK(exec_once(inner, box.pid, want, sizeof want));
	for (const int *os = errnos(few); *os; os++) {
		if (side == PARENT && *os == END)
			continue;
		for (sweep_start(side, *os); sweep_next();) {
			struct err *e = exec_once(inner, box.pid, got, sizeof got);
			auto_free pid_t *pids = NULL;
			size_t n;

			SWEEP_CHECK(e || (*os == END && !got[0]) || strcmp(got, want) == 0, "silently different:\n%s\nwanted:\n%s", got, want);
			SWEEP_CHECK(!e || sweep->fired, "failed by itself: %s", e->msg);
			SWEEP_CHECK(!e || strlen(e->msg) > 8, "no clear error: %s", e->msg);
			err_free(e);
			SWEEP_CHECK(waitpid(-1, NULL, WNOHANG) == 0, "a process of ours is left or the container is gone");
			CHECK_OK(runtime_pids(GROUP, &pids, &n));
			for (int i = 0; n > 1 && i < 2000; i++) { /* what a program that ran already has begun ends by itself */
				(void)usleep(1000);
				free(TAKE(pids));
				CHECK_OK(runtime_pids(GROUP, &pids, &n));
			}
			SWEEP_CHECK(n == 1, "%zu processes in the container", n);
		}
		CHECK(sweep->at > 10);
	}
	(void)sys_pid_fd_kill(box.pid_fd, SIGKILL);
	(void)sys_pid_fd_wait(box.pid_fd, false, NULL);
	runtime_proc_fini(&box);
	CHECK_OK(runtime_cleanup(plan));
	check_nothing_left();
	plan_free(plan);
	plan_free(inner);
	if (getenv("T_SWEEP"))
		fprintf(stderr, "%u faults\n", faults);
}

TEST(a_call_of_exec_s_parent_that_fails_is_told_or_got_round)
{
	sweep_exec(PARENT, (const int[]){ ENOMEM, ENOSYS, 0 });
}

TEST(a_call_of_exec_s_child_that_fails_is_told_or_got_round)
{
	sweep_exec(CHILD, (const int[]){ EIO, ENOSYS, 0 });
}

TEST(exec_s_child_ends_at_every_call)
{
	sweep_exec(CHILD, (const int[]){ END, 0 });
}

/* ---- the command line ---- */

/* oci_main with these words in a process of its own; what it says goes to the file "said". Returns its exit status. */
static int command(int with_fault, ...)
{
	char *argv[16] = { NULL };
	auto_free char *root = xasprintf("%s/state", t_tmppath());
	int n = 0, status;
	va_list ap;
	pid_t pid;

	va_start(ap, with_fault);
	argv[n++] = xstrdup("hoy-runtime");
	argv[n++] = xstrdup("--root");
	argv[n++] = xstrdup(root);
	for (const char *word; n < 15 && (word = va_arg(ap, const char *));)
		argv[n++] = xstrdup(word);
	va_end(ap);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		int said = openat(t_tmpdir(), "said", O_CREAT | O_TRUNC | O_WRONLY, 0600), null = open("/dev/null", O_RDWR);

		(void)dup2(null, 0);
		(void)dup2(null, 1);
		(void)dup2(said, 2);
		(void)close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
		if (with_fault)
			sweep_on();
		_exit(oci_main(n, argv));
	}
	for (pid_t got = 0; got != pid;) /* as init does: an unreaped process keeps its pid namespace from ending */
		CHECK((got = waitpid(-1, &status, 0)) > 0);
	for (int i = 0; i < n; i++)
		free(argv[i]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static bool said_something(void)
{
	struct stat st;

	return fstatat(t_tmpdir(), "said", &st, 0) == 0 && st.st_size > 20;
}

static void show_said(void)
{
	char text[512] = "";
	auto_fd int fd = openat(t_tmpdir(), "said", O_RDONLY | O_CLOEXEC);

	(void)!read(fd, text, sizeof text - 1);
	fprintf(stderr, "it said: %s\n", text);
}

/* Orphans of a killed runtime come to us. */
static void reap(void)
{
	for (int i = 0; i < 2000 && (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD); i++)
		(void)usleep(1000);
}

static void prepare_bundle(void)
{
	auto_free char *path = NULL;

	make_root();
	write_spec("exec sleep 1000");
	CHECK(mkdirat(t_tmpdir(), "state", 0700) == 0);
	(void)path;
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
}

static void check_state_empty(void)
{
	auto_fd int state = openat(t_tmpdir(), "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	reap();
	check_nothing_left();
	SWEEP_CHECK(t_entries(state) == 0, "the state directory is not empty");
}

/* Whatever happened: one forced deletion and all is as before. */
static void clear(void)
{
	sys_fault = NULL;
	if (command(false, "delete", "--force", GROUP, NULL) != 0) {
		show_said();
		SWEEP_CHECK(false, "delete --force failed");
	}
	check_state_empty();
}

/* The failing (or dying) command is step `which` of create, start, exec, delete; the steps before it are undisturbed. */
static void sweep_commands(int which, const int *few)
{
	const char *bundle = t_tmppath();

	prepare_bundle();
	for (const int *os = errnos(few); *os; os++)
		for (sweep_start(PARENT, *os); sweep_next();) {
			int code = command(which == 0, "create", "--bundle", bundle, GROUP, NULL);

			if (which >= 1) {
				CHECK_INT(code, 0);
				code = command(which == 1, "start", GROUP, NULL);
			}
			if (which >= 2) {
				CHECK_INT(code, 0);
				code = which == 2 ? command(true, "exec", GROUP, "sh", "-c", "exit 0", NULL) :
						    command(true, "delete", "--force", GROUP, NULL);
			}
			SWEEP_CHECK(code == 0 || sweep->fired, "failed by itself with %d", code);
			SWEEP_CHECK(code == 0 || *os == END || said_something(), "no message");
			if (code && which == 0 && *os != END)
				check_state_empty();
			clear();
		}
	CHECK(sweep->at > 10);
	if (getenv("T_SWEEP"))
		fprintf(stderr, "%u faults\n", faults);
}

TEST(create_fails_at_every_call)
{
	sweep_commands(0, (const int[]){ ENOSPC, 0 });
}

TEST(create_ends_at_every_call)
{
	sweep_commands(0, (const int[]){ END, 0 });
}

TEST(start_fails_or_ends_at_every_call)
{
	sweep_commands(1, (const int[]){ EIO, END, 0 });
}

TEST(exec_fails_or_ends_at_every_call)
{
	sweep_commands(2, (const int[]){ EIO, END, 0 });
}

TEST(delete_fails_or_ends_at_every_call)
{
	sweep_commands(3, (const int[]){ EIO, END, 0 });
}
