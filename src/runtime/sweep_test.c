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
#include "runtime/sweep_rig_test.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

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
	rig_on();
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

	rig_root();
	v = rig_spec(TELL);
	CHECK_OK(plan_compile(v, &o, &plan));
	rig_start(side, 0);
	CHECK_OK(run_once(plan, want, sizeof want));
	CHECK(strstr(want, "CapBnd:\t0000000000000021") && strstr(want, "Seccomp:\t2"));
	for (const int *os = rig_errnos(few); *os; os++) {
		if (side == PARENT && *os == END)
			continue;
		for (rig_start(side, *os); rig_next();) {
			struct err *e = run_once(plan, got, sizeof got);

			SWEEP_CHECK(e || (*os == END && !got[0]) || strcmp(got, want) == 0, "silently different:\n%s\nwanted:\n%s", got, want);
			SWEEP_CHECK(!e || sweep->fired, "failed by itself: %s", e->msg);
			SWEEP_CHECK(!e || strlen(e->msg) > 8, "no clear error: %s", e->msg);
			err_free(e);
			rig_nothing_left();
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
	rig_on();
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

/* is_traced: the container has CAP_SYS_PTRACE, and the program of exec is born last. */
static void sweep_exec(int side, const int *few, bool is_traced)
{
	auto_json json_t *v = NULL, *process = NULL;
	struct plan_opts o = { .id = GROUP, .cgroup_path = GROUP, .bundle = t_tmppath() };
	struct runtime_stdio io = { .fd = { -1, -1, -1 } };
	struct runtime_proc box;
	struct plan *plan, *inner;
	char want[16384], got[16384];

	rig_root();
	v = rig_spec("exec sleep 1000");
	if (is_traced)
		(void)json_array_append_new(json_object_get(json_at(v, "process.capabilities"), "bounding"),
					    json_string("CAP_SYS_PTRACE"));
	CHECK_OK(plan_compile(v, &o, &plan));
	CHECK_OK(runtime_create(plan, &io, -1, &box));
	CHECK_OK(runtime_start(&box));
	process = json_deep_copy(json_at(v, "process"));
	(void)json_object_set_new(process, "args", json_pack("[s,s,s]", "sh", "-c", TELL));
	CHECK_OK(plan_compile_exec(process, &o, box.pid, &inner));
	rig_start(side, 0);
	CHECK_OK(exec_once(inner, box.pid, want, sizeof want));
	for (const int *os = rig_errnos(few); *os; os++) {
		if (side == PARENT && *os == END)
			continue;
		for (rig_start(side, *os); rig_next();) {
			struct err *e = exec_once(inner, box.pid, got, sizeof got);
			auto_free pid_t *pids = NULL;
			size_t n;

			SWEEP_CHECK(e || (*os == END && !got[0]) || strcmp(got, want) == 0, "silently different:\n%s\nwanted:\n%s", got, want);
			SWEEP_CHECK(!e || sweep->fired, "failed by itself: %s", e->msg);
			SWEEP_CHECK(!e || strlen(e->msg) > 8, "no clear error: %s", e->msg);
			err_free(e);
			SWEEP_CHECK(waitpid(-1, NULL, WNOHANG) == 0, "a process of ours is left or the container is gone");
			CHECK_OK(runtime_pids(GROUP, &pids, &n));
			for (int i = 0; n > 1 && i < 60000; i++) { /* what a program that ran already has begun ends by itself */
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
	rig_nothing_left();
	plan_free(plan);
	plan_free(inner);
	if (getenv("T_SWEEP"))
		fprintf(stderr, "%u faults\n", faults);
}

TEST(a_call_of_exec_s_parent_that_fails_is_told_or_got_round)
{
	sweep_exec(PARENT, (const int[]){ ENOMEM, ENOSYS, 0 }, false);
}

TEST(a_call_of_exec_s_child_that_fails_is_told_or_got_round)
{
	sweep_exec(CHILD, (const int[]){ EIO, ENOSYS, 0 }, false);
}

TEST(exec_s_child_ends_at_every_call)
{
	sweep_exec(CHILD, (const int[]){ END, 0 }, false);
}

TEST(a_call_of_the_parent_fails_when_exec_s_program_is_born_last)
{
	sweep_exec(PARENT, (const int[]){ ENOMEM, 0 }, true);
}

TEST(a_call_of_the_child_fails_when_exec_s_program_is_born_last)
{
	sweep_exec(CHILD, (const int[]){ EIO, END, 0 }, true);
}

/* ---- the command line ---- */

/* The failing (or dying) command is step `which` of create, start, exec, delete; the steps before it are undisturbed. */
static void sweep_commands(int which, const int *few)
{
	const char *bundle = t_tmppath();

	rig_bundle();
	for (const int *os = rig_errnos(few); *os; os++)
		for (rig_start(PARENT, *os); rig_next();) {
			int code = rig_command(which == 0, "create", "--bundle", bundle, GROUP, NULL);

			if (which >= 1) {
				CHECK_INT(code, 0);
				code = rig_command(which == 1, "start", GROUP, NULL);
			}
			if (which >= 2) {
				CHECK_INT(code, 0);
				code = which == 2 ? rig_command(true, "exec", GROUP, "sh", "-c", "exit 0", NULL) :
						    rig_command(true, "delete", "--force", GROUP, NULL);
			}
			SWEEP_CHECK(code == 0 || sweep->fired, "failed by itself with %d", code);
			SWEEP_CHECK(code == 0 || *os == END || rig_said_something(), "no message");
			if (code && which == 0 && *os != END)
				rig_state_empty();
			rig_clear();
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
