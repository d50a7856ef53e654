/*
 * sweep_late_test.c - the same as sweep_test.c for what is done to a container that runs: update, pause, resume, events, mounts,
 * checkpoint and restore (with a program that answers as criu does), and for the dialogue with systemd. After each fault the
 * container is as before or as it was asked for, and the same command without a fault succeeds. Needs root.
 *
 * Only every few calls fail; with T_SWEEP (=all: with every errno) each does.
 */
#include "base/mem.h"
#include "base/own.h"
#include "runtime/oci.h"
#include "runtime/oci_dbus.h"
#include "runtime/oci_systemd.h"
#include "runtime/runtime.h"
#include "runtime/sweep_rig_test.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

/* ---- one container, many faults ---- */

static void begin(void)
{
	CHECK_INT(rig_command(false, "create", "--bundle", t_tmppath(), GROUP, NULL), 0);
	CHECK_INT(rig_command(false, "start", GROUP, NULL), 0);
}

static pid_t first_process(void)
{
	auto_free char *path = xasprintf("state/%s/status", GROUP);
	auto_fd int fd = openat(t_tmpdir(), path, O_RDONLY | O_CLOEXEC);
	auto_json json_t *state = NULL;

	CHECK(fd >= 0);
	CHECK_OK(json_read(fd, "status", 65536, &state));
	return (pid_t)json_int_at(state, "pid", 0);
}

static bool frozen(void)
{
	bool is = false;

	CHECK_OK(runtime_frozen(GROUP, &is));
	return is;
}

struct late {
	void (*before)(void); /* may be NULL */
	int (*command)(void); /* with faults */
	void (*after)(int code, int os);
	bool is_gone; /* the container may be away afterwards: after() sees to it */
};

static void sweep_late(const struct late *l, int side, int stride, const int *few)
{
	rig_bundle();
	begin();
	for (const int *os = rig_errnos(few); *os; os++)
		for (rig_start(side, *os), rig_stride(stride); rig_next();) {
			int code;

			if (l->before)
				l->before();
			code = l->command();
			sys_fault = NULL;
			if (code && !sweep->fired)
				rig_show_said();
			SWEEP_CHECK(code == 0 || sweep->fired, "failed by itself with %d", code);
			SWEEP_CHECK(code == 0 || *os == END || rig_said_something(), "no message");
			l->after(code, *os);
			if (!l->is_gone)
				SWEEP_CHECK(kill(first_process(), 0) == 0, "the container is gone");
		}
	CHECK(sweep->at > 5);
	rig_clear();
	if (getenv("T_SWEEP"))
		fprintf(stderr, "%u faults\n", faults);
}

/* Undisturbed. */
#define QUIET(...)                                                                                           \
	do {                                                                                                 \
		int quiet_code_ = rig_command(false, __VA_ARGS__, NULL);                                     \
		if (quiet_code_)                                                                             \
			rig_show_said();                                                                     \
		SWEEP_CHECK(quiet_code_ == 0, "without a fault it fails, too (%d)", quiet_code_);            \
	} while (0)

/* ---- update ---- */

static int update(void)
{
	return rig_command(true, "update", "--pids-limit", "40", "--cpu-share", "300", GROUP, NULL);
}

static void after_update(int code, int os)
{
	struct runtime_stats s;

	(void)os;
	CHECK_OK(runtime_stats(GROUP, &s));
	SWEEP_CHECK(code != 0 || s.pids_limit == 40, "silently not done");
	SWEEP_CHECK(s.pids_limit == 40 || s.pids_limit == 50, "a limit that nobody asked for");
	QUIET("update", "--pids-limit", "50", "--cpu-share", "1024", GROUP);
	CHECK_OK(runtime_stats(GROUP, &s));
	SWEEP_CHECK(s.pids_limit == 50, "not as before");
}

TEST(update_fails_or_ends_at_every_call)
{
	sweep_late(&(struct late){ NULL, update, after_update, false }, PARENT, 1, (const int[]){ EIO, END, 0 });
}

/* ---- pause, resume, events ---- */

static int pause_it(void)
{
	return rig_command(true, "pause", GROUP, NULL);
}

static void after_pause(int code, int os)
{
	(void)os;
	SWEEP_CHECK(code != 0 || frozen(), "silently not done");
	if (!frozen())
		QUIET("pause", GROUP);
	QUIET("resume", GROUP);
	SWEEP_CHECK(!frozen(), "still paused");
}

TEST(pause_fails_or_ends_at_every_call)
{
	sweep_late(&(struct late){ NULL, pause_it, after_pause, false }, PARENT, 1, (const int[]){ EIO, END, 0 });
}

static void paused(void)
{
	QUIET("pause", GROUP);
}

static int resume(void)
{
	return rig_command(true, "resume", GROUP, NULL);
}

static void after_resume(int code, int os)
{
	(void)os;
	SWEEP_CHECK(code != 0 || !frozen(), "silently not done");
	if (frozen())
		QUIET("resume", GROUP);
	SWEEP_CHECK(!frozen(), "still paused");
}

TEST(resume_fails_or_ends_at_every_call)
{
	sweep_late(&(struct late){ paused, resume, after_resume, false }, PARENT, 1, (const int[]){ EIO, END, 0 });
}

static int events(void)
{
	return rig_command(true, "events", "--stats", GROUP, NULL);
}

static void after_events(int code, int os)
{
	(void)code;
	(void)os;
	QUIET("events", "--stats", GROUP);
}

TEST(events_fails_or_ends_at_every_call)
{
	sweep_late(&(struct late){ NULL, events, after_events, false }, PARENT, 3, (const int[]){ EIO, END, 0 });
}

/* ---- mounts ---- */

#define ONE "{\"destination\":\"/tmp/one\",\"type\":\"bind\",\"source\":\"/usr\",\"options\":[\"rbind\",\"ro\"]}"
#define TWO "{\"destination\":\"/tmp/two\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"size=1m\"]}"

static void write_mounts(void)
{
	t_file_write(t_tmpdir(), "both", "[" ONE "," TWO "]");
	t_file_write(t_tmpdir(), "one", "[" ONE "]");
	t_file_write(t_tmpdir(), "two", "[" TWO "]");
}

static const char *file(const char *name)
{
	static char path[4096];

	(void)snprintf(path, sizeof path, "%s/%s", t_tmppath(), name);
	return path;
}

/* How many of the two are there. */
static int mounted(void)
{
	auto_free char *path = xasprintf("/proc/%d/mountinfo", (int)first_process()), *text = xcalloc(1, 65536);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	int n = 0;

	CHECK(fd >= 0 && sys_read_full(fd, text, 65535) > 0);
	n += strstr(text, " /tmp/one ") != NULL;
	n += strstr(text, " /tmp/two ") != NULL;
	return n;
}

static int add(void)
{
	return rig_command(true, "mounts", "add", GROUP, file("both"), NULL);
}

static int take(void)
{
	return rig_command(true, "mounts", "remove", GROUP, file("both"), NULL);
}

static void added(void)
{
	QUIET("mounts", "add", GROUP, file("both"));
	SWEEP_CHECK(mounted() == 2, "%d mounts of two", mounted());
}

/* Whichever are there; what the dead left is not in the configuration, and goes all the same. */
static void without(void)
{
	for (int i = 0; i < 4 && mounted(); i++) {
		(void)rig_command(false, "mounts", "remove", GROUP, file("two"), NULL);
		(void)rig_command(false, "mounts", "remove", GROUP, file("one"), NULL);
	}
	SWEEP_CHECK(mounted() == 0, "%d mounts cannot be removed", mounted());
}

static void after_add(int code, int os)
{
	int n = mounted();

	SWEEP_CHECK(code != 0 || n == 2, "silently not done: %d mounts of two", n);
	SWEEP_CHECK(code == 0 || n == 0 || os == END, "half done: %d mounts", n);
	without();
}

static void after_take(int code, int os)
{
	(void)os;
	SWEEP_CHECK(code != 0 || mounted() == 0, "silently not done: %d mounts are left", mounted());
	without();
}

TEST(mounts_add_fails_or_ends_at_every_call)
{
	write_mounts();
	sweep_late(&(struct late){ NULL, add, after_add, false }, PARENT, 2, (const int[]){ EIO, END, 0 });
}

TEST(mounts_add_s_child_fails_or_ends_at_every_call)
{
	write_mounts();
	sweep_late(&(struct late){ NULL, add, after_add, false }, CHILD, 1, (const int[]){ EIO, ENOSYS, END, 0 });
}

TEST(mounts_remove_fails_or_ends_at_every_call)
{
	write_mounts();
	sweep_late(&(struct late){ added, take, after_take, false }, PARENT, 2, (const int[]){ EIO, END, 0 });
}

TEST(mounts_remove_s_child_fails_or_ends_at_every_call)
{
	write_mounts();
	sweep_late(&(struct late){ added, take, after_take, false }, CHILD, 1, (const int[]){ EIO, END, 0 });
}

/* ---- checkpoint, restore ---- */

/* criu's answers; what it restores is a program in the container's groups. */
static const char stand_in[] =
	"#!/bin/sh\n"
	"set -- $(dd bs=1048576 count=1 <&3 2>/dev/null | od -An -tu1 -N2)\n"
	"[ $2 = 2 ] || { printf '\\010\\00'$2'\\020\\001' >&3; exit; }\n"
	"in=\n" /* a runtime that was killed and whose groups are gone already gets no process any more */
	"for f in /sys/fs/cgroup/*/@/tasks /sys/fs/cgroup/@/cgroup.procs; do [ -e $f ] || continue; echo $$ >$f && in=1 || exit 1; done\n"
	"[ $in ] || exit 1\n"
	"sleep 1000 >/dev/null 2>&1 3>&- &\n"
	"n=$! t=\n"
	"while [ $n -gt 127 ]; do t=$t\\\\$(printf %03o $((n & 127 | 128))); n=$((n >> 7)); done\n"
	"t=$t\\\\$(printf %03o $n)\n"
	"printf \"\\\\010\\\\002\\\\020\\\\001\\\\042\\\\00$((1 + ${#t} / 4))\\\\010$t\" >&3\n";

static void write_stand_in(void)
{
	auto_free char *text = xstrdup(stand_in);
	auto_buf struct buf b = BUF(4096);

	for (const char *c = text; *c; c++)
		if (*c == '@')
			buf_str(&b, GROUP);
		else
			buf_ch(&b, *c);
	t_file_write(t_tmpdir(), "criu", buf_text(&b));
	CHECK(fchmodat(t_tmpdir(), "criu", 0755, 0) == 0);
}

static int criu(int with_fault, const char *what, const char *flag)
{
	auto_free char *program = xstrdup(file("criu")), *image = xstrdup(file("image"));

	if (!strcmp(what, "restore"))
		return rig_command(with_fault, "--criu", program, what, flag, "--bundle", t_tmppath(), "--image-path", image, GROUP, NULL);
	return rig_command(with_fault, "--criu", program, what, "--image-path", image, flag, GROUP, NULL);
}

static int checkpoint(void)
{
	return criu(true, "checkpoint", "--leave-running");
}

static void after_checkpoint(int code, int os)
{
	(void)code;
	(void)os;
	CHECK_INT(criu(false, "checkpoint", "--leave-running"), 0);
}

TEST(checkpoint_fails_or_ends_at_every_call)
{
	write_stand_in();
	sweep_late(&(struct late){ NULL, checkpoint, after_checkpoint, false }, PARENT, 3, (const int[]){ EIO, END, 0 });
}

static void dumped(void)
{
	CHECK_INT(criu(false, "checkpoint", "--leave-running"), 0);
	rig_clear();
}

static int restore(void)
{
	return criu(true, "restore", "-d");
}

static void after_restore(int code, int os)
{
	if (code && os != END)
		rig_state_empty();
	rig_clear();
	begin();
}

TEST(restore_fails_or_ends_at_every_call)
{
	write_stand_in();
	sweep_late(&(struct late){ dumped, restore, after_restore, false }, PARENT, 4, (const int[]){ EIO, END, 0 });
}

/* ---- systemd, played by a process that answers everything with yes ---- */

static size_t budget; /* bytes that it says before it hangs up */

static void say(int fd, const void *p, size_t n)
{
	if (n > budget)
		n = budget;
	budget -= n;
	(void)!write(fd, p, n);
	if (!budget)
		_exit(0);
}

static bool hear(int fd, void *p, size_t n)
{
	return recv(fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

static void header_field(struct dbus_out *o, char code, const char *type)
{
	dbus_align(o, 8);
	buf_ch(&o->b, code);
	dbus_put_sig(o, type);
}

/* type 2: a return with one object path; 4: the signal that the job is done. */
static void answer(int fd, char type, uint32_t serial)
{
	struct dbus_out o = { BUF(4096) }, body = { BUF(4096) };
	struct dbus_mark fields;

	if (type == 4)
		dbus_put_u32(&body, 7);
	dbus_put_str(&body, "/job/7");
	if (type == 4) {
		dbus_put_str(&body, "x.scope");
		dbus_put_str(&body, "done");
	}
	buf_ch(&o.b, 'l');
	buf_ch(&o.b, type);
	buf_add(&o.b, "\0\1", 2);
	dbus_put_u32(&o, (uint32_t)body.b.n);
	dbus_put_u32(&o, serial + 1000);
	fields = dbus_array(&o, 8);
	if (type == 4) {
		header_field(&o, 3, "s");
		dbus_put_str(&o, "JobRemoved");
	} else {
		header_field(&o, 5, "u");
		dbus_put_u32(&o, serial);
	}
	header_field(&o, 8, "g");
	dbus_put_sig(&o, type == 4 ? "uoss" : "o");
	dbus_array_end(&o, fields);
	dbus_align(&o, 8);
	buf_add(&o.b, body.b.data, body.b.n);
	say(fd, o.b.data, o.b.n);
	buf_fini(&o.b);
	buf_fini(&body.b);
}

static void serve(int fd)
{
	uint32_t head[4];
	char text[65536], *at = text;

	while (at < text + 200 && hear(fd, at, 1) && *at++ != '\n')
		;
	if (!hear(fd, text, 7)) /* BEGIN */
		return;
	say(fd, "OK 0123\r\n", 9);
	while (hear(fd, head, sizeof head)) {
		size_t n = ((head[3] + 7) & ~7u) + head[1];

		if (n > sizeof text || !hear(fd, text, n))
			return;
		if (memmem(text, n, "TransientUnit", 13)) /* before the answer, as it may come */
			answer(fd, 4, head[2]);
		answer(fd, 2, head[2]);
		if (memmem(text, n, "StopUnit", 8))
			answer(fd, 4, head[2]);
	}
}

/* A server of its own for each round: it ends with its budget or when it is killed. */
static pid_t systemd(size_t bytes)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/bus", t_tmppath());
	(void)unlink(a.sun_path);
	CHECK(sock >= 0 && bind(sock, (struct sockaddr *)&a, sizeof a) == 0 && listen(sock, 5) == 0);
	{
		auto_free char *address = xasprintf("unix:path=%s", a.sun_path);

		CHECK(setenv(geteuid() ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS", address, 1) == 0);
	}
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)signal(SIGPIPE, SIG_IGN);
		budget = bytes;
		for (;;) {
			int fd = accept(sock, NULL, NULL);

			serve(fd);
			close(fd);
		}
	}
	close(sock);
	return pid;
}

static void systemd_end(pid_t pid)
{
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
}

static struct err *dialogue(int which)
{
	static const char limits[] = "{\"memory\":{\"limit\":1048576},\"cpu\":{\"shares\":100},\"pids\":{\"limit\":7}}";
	auto_json json_t *resources = NULL;
	struct oci_unit u = { .name = "x.scope", .slice = "system.slice", .id = "x", .pid = 1 };

	CHECK_OK(json_parse(sv_of(limits), "limits", sizeof limits, &resources));
	u.resources = resources;
	return which == 0 ? oci_unit_start(&u) : which == 1 ? oci_unit_update("x.scope", resources) : oci_unit_stop("x.scope");
}

TEST(the_dialogue_with_systemd_fails_at_every_call)
{
	static const int os[] = { EIO, ENOMEM, EPIPE };
	pid_t pid = systemd(SIZE_MAX);

	for (int which = 0; which < 3; which++) {
		CHECK_OK(dialogue(which));
		for (size_t i = 0; i < LEN(os); i++)
			FAULT_SWEEP(os[i]) {
				struct err *e;

				t_sweep_on();
				e = dialogue(which);
				t_sweep_off();
				if (e && !t_sweep_fired())
					CHECK_STR(e->msg, "");
				/* a poll that fails is asked again; what is reset on the way out need not succeed */
				if (!e && t_sweep_fired() && strcmp(t_sweep_call(), "poll") != 0 && which != 2)
					CHECK_STR(t_sweep_call(), "told");
				CHECK(!e || strlen(e->msg) > 10);
				err_free(e);
			}
	}
	systemd_end(pid);
}

/* A systemd that goes away in the middle of whatever it says: an error, and no wait. */
TEST(the_dialogue_with_systemd_is_cut_off_at_every_byte)
{
	bool whole = false;

	for (size_t n = 1; !whole; n += getenv("T_SWEEP") ? 1 : 3) {
		pid_t pid = systemd(n);
		struct err *e = dialogue(0);

		whole = !e;
		CHECK(!e || strlen(e->msg) > 10);
		err_free(e);
		(void)kill(pid, SIGKILL);
		CHECK(waitpid(pid, NULL, 0) == pid);
		CHECK(n < 3000);
	}
}
