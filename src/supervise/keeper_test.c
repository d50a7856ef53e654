/*
 * keeper_test.c - a keeper from birth to end, while each of its system calls fails once, or it ends there: the starter hears
 * "started", an error or the end of the socket and never waits for ever; the container does not outlive the keeper; what a
 * killed keeper leaves, one removal of the control group takes away. Needs root.
 */
#include "supervise/keeper.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "runtime/runtime.h"
#include "supervise/conf.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { END = -1, WAIT_MS = 60000 };

static struct {
	int conf, run, home;
	char cgroup[64];
} box;
static struct sweep {
	pid_t keeper;
	int at, os, n;
	bool fired;
	char call[64];
} *sweep;

static int hook(const char *call)
{
	if (getpid() != sweep->keeper || ++sweep->n != sweep->at)
		return 0;
	sweep->fired = true;
	(void)snprintf(sweep->call, sizeof sweep->call, "%s", call);
	if (sweep->os == END)
		_exit(99);
	return sweep->os;
}

#define SWEEP_CHECK(cond, what)                                                                               \
	((cond) ? (void)0                                                                                     \
		: t_fail(__FILE__, __LINE__, "call %d (%s), errno %d: %s", sweep->at, sweep->call, sweep->os, what))

static json_t *make_spec(void)
{
	const char *tunables = getenv("GLIBC_TUNABLES");
	auto_fd int from = open("/bin/busybox", O_RDONLY | O_CLOEXEC), to = -1;
	json_t *v;

	if (geteuid() != 0)
		t_skip("needs root");
	if (from < 0)
		t_skip("needs busybox-static");
	CHECK(mkdirat(t_tmpdir(), "root", 0755) == 0 && mkdirat(t_tmpdir(), "root/bin", 0755) == 0);
	CHECK(symlinkat("busybox", t_tmpdir(), "root/bin/sh") == 0);
	CHECK((to = openat(t_tmpdir(), "root/bin/busybox", O_CREAT | O_WRONLY | O_CLOEXEC, 0755)) >= 0);
	while (sys_copy_range(from, to, 1 << 20) > 0)
		;
	v = json_pack("{s:s, s:{s:s}, s:{s:s, s:[s,s,s], s:[s]}, s:{s:[{s:s},{s:s}]}}", "ociVersion", "1.0.2", "root", "path",
		      "root", "process", "cwd", "/", "args", "sh", "-c", "echo out; exit 3", "env", "PATH=/bin", "linux",
		      "namespaces", "type", "pid", "type", "mount");
	CHECK(v);
	if (tunables) { /* tests/v2 keeps programs off registers its guest does not save */
		auto_free char *entry = xasprintf("GLIBC_TUNABLES=%s", tunables);

		(void)json_array_append_new(json_at(v, "process.env"), json_string(entry));
	}
	return v;
}

static void make_box(const char *hoy)
{
	auto_json json_t *spec = make_spec();
	struct plan_opts o = { .id = "t", .bundle = t_tmppath(), .cgroup_path = box.cgroup, .die_with_parent = true };
	struct keeper_conf c = { .is_rm = true, .want_log = true, .log_files = 1, .id = "t" };
	auto_buf struct buf plan_text = BUF(1 << 20), all = BUF(1 << 20);
	struct plan *plan;

	(void)snprintf(box.cgroup, sizeof box.cgroup, "hoy-keeper-test-%d", (int)getpid());
	(void)snprintf(c.cgroup, sizeof c.cgroup, "%s", box.cgroup);
	(void)snprintf(c.hoy, sizeof c.hoy, "%s", hoy);
	CHECK_OK(plan_compile(spec, &o, &plan));
	plan_pack(plan, &plan_text);
	plan_free(plan);
	keeper_conf_pack(&c, &plan_text, &all);
	CHECK((box.conf = sys_memfd("conf")) >= 0 && sys_write_all(box.conf, all.data, all.n) == 0);
	CHECK(mkdirat(t_tmpdir(), "run", 0700) == 0 && mkdirat(t_tmpdir(), "home", 0700) == 0);
	box.run = openat(t_tmpdir(), "run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	box.home = openat(t_tmpdir(), "home", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(box.run >= 0 && box.home >= 0);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); /* orphans of a killed keeper come to us */
	sweep = mmap(NULL, sizeof *sweep, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(sweep != MAP_FAILED);
}

static _Noreturn void become_keeper(int sock)
{
	const int from[] = { box.conf, sock, box.run, box.home };
	int high[4];

	for (int i = 0; i < 4; i++)
		high[i] = fcntl(from[i], F_DUPFD, 64);
	for (int i = 0; i < 4; i++)
		(void)dup2(high[i], KEEPER_FD_CONF + i);
	(void)close_range(KEEPER_FDS, ~0u, 0);
	sweep->keeper = getpid();
	sys_fault = hook;
	_exit(keeper_main());
}

/* The type of the keeper's next message; 0: the socket ended. */
static char hear(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	static struct start_error m;
	int fds[4];
	size_t n_fds = 0;
	ssize_t n;

	SWEEP_CHECK(poll(&p, 1, WAIT_MS) == 1, "the keeper says nothing");
	n = sys_recv_fds(sock, &m, sizeof m, fds, 4, &n_fds);
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
	if (n > 0 && m.type == START_ERROR)
		SWEEP_CHECK(strlen(m.msg) > 8, "no clear error");
	return n > 0 ? (char)m.type : 0;
}

/* Everybody that was born in this round has ended, in bounded time. */
static int reap_all(pid_t keeper)
{
	int code = -1, status;

	for (int i = 0; i < WAIT_MS; i++) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid < 0)
			return code;
		if (pid == keeper)
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (pid == 0)
			(void)usleep(1000);
	}
	SWEEP_CHECK(false, "a process is left");
	return code;
}

static bool has_group(void)
{
	pid_t *pids = NULL;
	size_t n;
	struct err *e = runtime_pids(box.cgroup, &pids, &n);
	bool there = !e;

	err_free(e);
	free(pids);
	return there;
}

/* A keeper in a process of its own, and our end of its socket. */
static pid_t begin_keeper(int *out_sock)
{
	int pair[2];
	pid_t pid;

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		become_keeper(pair[1]);
	close(pair[1]);
	*out_sock = pair[0];
	return pid;
}

static void one_life(void)
{
	int sock, code;
	const char go = START_GO;
	pid_t pid = begin_keeper(&sock);
	char word = hear(sock);

	SWEEP_CHECK(word == START_READY || sweep->fired, "not ready");
	if (word == START_READY) {
		(void)send(sock, &go, 1, MSG_NOSIGNAL);
		word = hear(sock);
		SWEEP_CHECK(word == START_STARTED || sweep->fired, "not started");
	}
	close(sock);
	code = reap_all(pid);
	SWEEP_CHECK(sweep->fired || t_file_is(t_tmpdir(), "home/t-json.log", "") == false, "no log");
	if (code != 99) /* it ended by itself */
		SWEEP_CHECK(word == START_STARTED || !has_group(), "a control group is left after an error");
	CHECK_OK(runtime_cgroup_remove(box.cgroup));
	SWEEP_CHECK(!has_group(), "a control group is left");
}

static void sweep_life(int os)
{
	*sweep = (struct sweep){ .os = os };
	do {
		sweep->at++;
		sweep->n = 0;
		sweep->fired = false;
		sweep->call[0] = 0;
		one_life();
	} while (sweep->fired);
	CHECK(sweep->at > 60);
}

TEST(a_keeper_s_life_with_every_call_failing)
{
	make_box("/bin/true");
	sweep_life(EIO);
	sweep_life(ENOMEM);
	close(box.conf);
	close(box.run);
	close(box.home);
}

TEST(a_keeper_ends_at_every_call)
{
	make_box("/bin/true");
	sweep_life(END);
	close(box.conf);
	close(box.run);
	close(box.home);
}

/* Who asks a keeper that waits to go, or goes away itself; whether `hoy keeper-exit` was called. */
static bool is_reaped_after(const char *word)
{
	int sock;
	pid_t pid;

	*sweep = (struct sweep){ .at = -1 };
	pid = begin_keeper(&sock);
	CHECK_INT(hear(sock), START_READY);
	CHECK(!word || send(sock, word, 1, MSG_NOSIGNAL) == 1);
	close(sock);
	CHECK_INT(reap_all(pid), 1);
	CHECK(!has_group());
	return unlinkat(t_tmpdir(), "called", 0) == 0;
}

/* A starter that failed holds the container's lock, for which keeper-exit would wait. */
TEST(a_starter_that_says_no_cleans_up_itself)
{
	auto_free char *hoy = xasprintf("%s/hoy", t_tmppath());
	auto_free char *script = xasprintf("#!/bin/busybox sh\necho \"$@\" >>%s/called\n", t_tmppath());

	t_file_write(t_tmpdir(), "hoy", script);
	CHECK(fchmodat(t_tmpdir(), "hoy", 0755, 0) == 0);
	make_box(hoy);
	CHECK(is_reaped_after(NULL));
	CHECK(!is_reaped_after(&(const char){ START_NOT }));
	close(box.conf);
	close(box.run);
	close(box.home);
}
