/* oci_io.c - descriptors, files, sockets and the terminal of the OCI command line's callers; see oci.h. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "runtime/oci.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/sysmacros.h>

enum { PRESERVE_MAX = 1024, JSON_MAX = 4 << 20, PRINT_MAX = 16 << 20 };

FALLIBLE oci_print(const json_t *v)
{
	auto_buf struct buf b = BUF(PRINT_MAX);

	json_print_indent(v, 2, &b);
	TRY(buf_check(&b, "output"));
	(void)printf("%s\n", buf_text(&b));
	return NULL;
}

FALLIBLE oci_read_json(const char *path, const char *what, json_t **out)
{
	auto_fd int fd = -1;

	if (strcmp(path, "-") == 0)
		return json_read(0, what, JSON_MAX, out);
	if ((fd = sys_open(path, O_RDONLY, 0)) < 0)
		return FAIL_OS(-fd, "open %s", path);
	return json_read(fd, what, JSON_MAX, out);
}

/* ---- what callers hand over ---- */

static FALLIBLE count(const char *what, const char *text, uint64_t *out)
{
	struct err *e;

	*out = 0;
	if (!text || !*text)
		return NULL;
	e = num_parse(sv_of(text), 10, 0, PRESERVE_MAX, out);
	return e ? err_ctx(e, "%s", what) : NULL;
}

FALLIBLE oci_preserve(const char *text, unsigned *out_n)
{
	uint64_t n, sockets;

	TRY(count("--preserve-fds", text, &n));
	TRY(count("LISTEN_FDS", getenv("LISTEN_FDS"), &sockets));
	*out_n = (unsigned)(n + sockets);
	/* SECURITY: a number that is free now may become one of ours, which is born close-on-exec and stays
	 * so */
	for (unsigned i = 0; i < *out_n; i++)
		(void)sys_cloexec(3 + (int)i, 0);
	return NULL;
}

unsigned oci_null_streams(void)
{
	struct stat st;
	unsigned found = 0;

	for (int i = 0; i < 3; i++)
		if (sys_fstat(i, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
			found |= 1u << i;
	return found;
}

FALLIBLE oci_listen_env(json_t *process, bool *changed)
{
	auto_list char **env = NULL;
	uint64_t n;

	TRY(count("LISTEN_FDS", getenv("LISTEN_FDS"), &n));
	if (!n)
		return NULL;
	TRY(json_list_at(process, "env", &env));
	{
		auto_free char *fds = xasprintf("LISTEN_FDS=%u", (unsigned)n);

		text_env_set(&env, fds);
		text_env_set(&env, "LISTEN_PID=1");
	}
	(void)json_object_set_new(process, "env", json_from_list(env));
	*changed = true;
	return NULL;
}

FALLIBLE oci_write_pid(const char *path, pid_t pid)
{
	auto_free char *part = NULL;
	auto_fd int fd = -1;
	char text[16];
	int n = snprintf(text, sizeof text, "%d", (int)pid), r;

	if (!path)
		return NULL;
	part = xasprintf("%s.part", path);
	fd = sys_open(part, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	r = fd < 0 ? fd : sys_write_all(fd, text, (size_t)n);
	if (r >= 0)
		r = sys_rename(AT_FDCWD, part, path);
	return r < 0 ? FAIL_OS(-r, "write %s", path) : NULL;
}

FALLIBLE oci_send_fd(const char *path, const char *text, int fd)
{
	auto_fd int sock = sys_unix_connect_stream(path);
	ssize_t n;

	if (sock < 0)
		return FAIL_OS(-sock, "connect to socket %s", path);
	n = sys_send_fds(sock, text, strlen(text), &fd, 1);
	return n < 0 ? FAIL_OS((int)-n, "send a descriptor to %s", path) : NULL;
}

/* ---- the foreground ---- */

static const int forwarded[] = { SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM, SIGUSR1,
				 SIGUSR2, SIGCONT, SIGWINCH, SIGCHLD, 0 };

static bool move(int from, int to)
{
	static char p[65536];
	ssize_t n = sys_read(from, p, sizeof p);

	if (n > 0)
		(void)sys_write_all(to, p, (size_t)n);
	return n > 0 || n == -EAGAIN;
}

static void on_signal(const struct runtime_proc *proc, int sig_fd)
{
	int signo = sys_signal_read(sig_fd);
	unsigned rows, cols;

	if (signo == SIGWINCH && proc->tty_fd >= 0) {
		if (sys_tty_size(0, &rows, &cols) == 0)
			(void)sys_tty_resize(proc->tty_fd, rows, cols);
	} else if (signo > 0 && signo != SIGCHLD) {
		(void)sys_pid_fd_kill(proc->pid_fd, signo);
	}
}

static struct sys_tty *enter_raw(const struct runtime_proc *proc)
{
	struct sys_tty *saved = NULL;
	unsigned rows, cols;

	if (proc->tty_fd < 0)
		return NULL;
	if (sys_tty_size(0, &rows, &cols) == 0 && rows && cols)
		(void)sys_tty_resize(proc->tty_fd, rows, cols);
	(void)sys_tty_raw(0, &saved);
	return saved;
}

int oci_signals(void)
{
	return sys_signal_fd(forwarded);
}

FALLIBLE oci_wait(struct runtime_proc *proc, int sig_fd, const struct oci_notify *notify, int *out_exit)
{
	struct sys_tty *saved = enter_raw(proc);
	bool in_open = true, ended = false, ready;
	int code = -EAGAIN;

	while (!ended || proc->tty_fd >= 0) {
		struct pollfd f[5] = { { ended ? -1 : proc->pid_fd, POLLIN, 0 },
				       { sig_fd, POLLIN, 0 },
				       { proc->tty_fd, POLLIN, 0 },
				       { proc->tty_fd >= 0 && in_open ? 0 : -1, POLLIN, 0 },
				       { notify ? notify->fd : -1, POLLIN, 0 } };

		if (sys_poll(f, LEN(f), -1) < 0)
			break;
		if (f[1].revents)
			on_signal(proc, sig_fd);
		if (f[4].revents)
			err_free(oci_notify_pass(notify, &ready)); /* systemd gone: the container goes on */
		if (f[3].revents)
			in_open = move(0, proc->tty_fd);
		if (f[2].revents && !move(proc->tty_fd, 1)) {
			own_close(&proc->tty_fd);
			proc->tty_fd = -1;
		}
		if (f[0].revents) {
			code = sys_pid_fd_wait(proc->pid_fd, true, NULL);
			ended = code != -EAGAIN;
		}
	}
	if (saved)
		sys_tty_restore(saved);
	if (code < 0)
		return FAIL_OS(-code, "wait for the container");
	*out_exit = code;
	return NULL;
}
