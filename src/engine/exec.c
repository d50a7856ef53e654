/*
 * exec.c - a further process in a running container, and its streams.
 *
 * The process never gets a descriptor of ours: pipes or a terminal of the container's, pumped here, so nothing inside can
 * reach the user's terminal or files.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/stream.h"
#include "runtime/runtime.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

struct exec {
	struct engine *e;
	const struct container_stdio *io;
	json_t *doc, *process;
	pid_t target;
	bool tty, detach;
	struct runtime_proc proc;
	int in, out, err; /* our ends; out is the pty master when tty */
};
#define EXEC(engine, stdio)                                                                                   \
	{                                                                                                     \
		.e = (engine), .io = (stdio), .in = -1, .out = -1, .err = -1,                                 \
		.proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 }                                           \
	}
enum { BODY_MAX = 8 << 20 };

static FALLIBLE home_env(const struct spec_user *u, char ***env)
{
	auto_free char *home = xasprintf("HOME=%s", u->home);

	if (!text_env_get(*env, "HOME"))
		text_list_add(env, home);
	return NULL;
}

static FALLIBLE build_env(const struct exec *x, const json_t *body, const struct spec_user *u, char ***out_env)
{
	auto_list char **env = NULL, **own = NULL, **base = NULL;
	auto_free char *host = xasprintf("HOSTNAME=%s", json_str_at(x->doc, "Config.Hostname", ""));

	text_list_add(&env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	text_list_add(&env, host);
	if (x->tty)
		text_list_add(&env, "TERM=xterm");
	TRY(json_list_at(x->doc, "Config.Env", &base));
	TRY(json_list_at(body, "Env", &own));
	for (size_t i = 0; base && base[i]; i++)
		text_env_set(&env, base[i]);
	for (size_t i = 0; own && own[i]; i++)
		text_env_set(&env, own[i]);
	TRY(home_env(u, &env));
	*out_env = TAKE(env);
	return NULL;
}

static FALLIBLE build_process(struct exec *x, const json_t *body)
{
	auto_fd int root = -1;
	auto_free char *path = xasprintf("/proc/%d/root", (int)x->target);
	auto_list char **env = NULL;
	auto_json json_t *caps = NULL;
	const char *user = json_str_at(body, "User", ""), *cwd = json_str_at(body, "WorkingDir", "");
	bool privileged = json_bool_at(body, "Privileged", false) || json_bool_at(x->doc, "HostConfig.Privileged", false);
	struct spec_user u;

	if (!json_array_size(json_object_get(body, "Cmd")))
		return FAIL(ERR_INVALID, "No exec command specified");
	if ((root = sys_open_dir(path)) < 0)
		return FAIL_OS(-root, "open the root of the container");
	TRY(spec_user_find(root, *user ? user : json_str_at(x->doc, "Config.User", ""), &u));
	TRY(build_env(x, body, &u, &env));
	TRY(spec_caps(json_at(x->doc, "HostConfig.CapAdd"), json_at(x->doc, "HostConfig.CapDrop"), privileged, &caps));
	if (!*cwd)
		cwd = json_str_at(x->doc, "Config.WorkingDir", "");
	x->process = json_pack("{s:b, s:o, s:O, s:o, s:s, s:O, s:i}", "terminal", x->tty, "user", spec_user_json(&u), "args",
			       json_object_get(body, "Cmd"), "env", json_from_list(env), "cwd", *cwd ? cwd : "/", "capabilities",
			       caps, "oomScoreAdj", (int)json_int_at(x->doc, "HostConfig.OomScoreAdj", 0));
	return NULL;
}

static FALLIBLE pipes(struct exec *x, struct runtime_stdio *io)
{
	int p[2], r = 0;

	if (x->tty || x->detach)
		return NULL;
	if (x->io->in >= 0 && (r = sys_pipe(p)) == 0) {
		io->fd[0] = p[0];
		x->in = p[1];
	}
	if (r == 0 && (r = sys_pipe(p)) == 0) {
		x->out = p[0];
		io->fd[1] = p[1];
	}
	if (r == 0 && (r = sys_pipe(p)) == 0) {
		x->err = p[0];
		io->fd[2] = p[1];
	}
	return r < 0 ? FAIL_OS(-r, "make pipes") : NULL;
}

static FALLIBLE launch(struct exec *x, const char *id)
{
	struct runtime_stdio io = { .fd = { -1, -1, -1 } };
	struct plan_opts o = { .id = id, .default_seccomp = !json_bool_at(x->doc, "HostConfig.Privileged", false) };
	struct plan *plan = NULL;
	char cgroup[80];
	struct err *e;
	size_t i;
	json_t *opt;

	json_array_foreach (json_at(x->doc, "HostConfig.SecurityOpt"), i, opt)
		if (strncmp(json_string_value(opt), "seccomp", 7) == 0 && strstr(json_string_value(opt), "unconfined"))
			o.default_seccomp = false;
	ctr_cgroup(id, cgroup);
	o.cgroup_path = cgroup;
	TRY(plan_compile_exec(x->process, &o, x->target, &plan));
	e = pipes(x, &io);
	if (!e)
		e = runtime_exec(plan, x->target, &io, &x->proc);
	plan_free(plan);
	for (int k = 0; k < 3; k++)
		own_close(&io.fd[k]);
	if (!e && x->tty)
		x->out = TAKE_FD(x->proc.tty_fd);
	return e;
}

/* Passes one chunk of output on; false at the end. */
static bool pump(int from, int to)
{
	static char p[STREAM_CHUNK];
	ssize_t n = sys_read(from, p, sizeof p);

	if (n <= 0)
		return n == -EAGAIN;
	return to < 0 || stream_write(to, p, (size_t)n); /* nobody reads ours: nobody reads its either, as in a pipeline */
}

static void resize(struct exec *x)
{
	unsigned rows, cols;

	if (x->tty && x->io->in >= 0 && sys_tty_size(x->io->in, &rows, &cols) == 0 && rows && cols)
		(void)sys_tty_resize(x->out, rows, cols);
}

static void drop(int *fd)
{
	own_close(fd);
	*fd = -1;
}

/* Until both outputs ended. Its input never blocks us: what it does not take yet waits in `pending`. */
static void converse(struct exec *x, int sig_fd)
{
	static struct stream_pending pending;
	int *to_in = x->tty ? &x->out : &x->in;
	bool in_open = x->io->in >= 0 && *to_in >= 0;

	if (in_open && sys_nonblock(*to_in, true) < 0)
		in_open = false;
	while (x->out >= 0 || x->err >= 0) {
		struct pollfd f[5] = { { x->out, POLLIN, 0 },
				       { x->err, POLLIN, 0 },
				       { in_open && !pending.n ? x->io->in : -1, POLLIN, 0 },
				       { sig_fd, POLLIN, 0 },
				       { pending.n ? *to_in : -1, POLLOUT, 0 } };

		if (sys_poll(f, 5, -1) < 0)
			return;
		if (f[0].revents && !pump(x->out, x->io->out))
			drop(&x->out);
		if (f[1].revents && !pump(x->err, x->io->err))
			drop(&x->err);
		if (f[3].revents && sys_signal_read(sig_fd) == SIGWINCH && x->out >= 0)
			resize(x);
		if (f[4].revents)
			stream_flush(&pending, *to_in);
		if (f[2].revents && !stream_feed(&pending, x->io->in, *to_in))
			in_open = false;
		if (!in_open && !pending.n && !x->tty)
			drop(&x->in);
	}
}

static void exec_fini(struct exec *x)
{
	json_decref(x->doc);
	json_decref(x->process);
	own_close(&x->in);
	own_close(&x->out);
	own_close(&x->err);
	runtime_proc_fini(&x->proc);
}

static FALLIBLE foreground(struct exec *x, int *out_code)
{
	auto_fd int sig_fd = sys_signal_fd((const int[]){ SIGWINCH, 0 });
	struct sys_tty *saved = NULL;
	int code;

	(void)signal(SIGPIPE, SIG_IGN);
	resize(x);
	if (x->tty && x->io->in >= 0 && isatty(x->io->in))
		(void)sys_tty_raw(x->io->in, &saved);
	converse(x, sig_fd);
	code = sys_pid_fd_wait(x->proc.pid_fd, false, NULL);
	if (saved)
		sys_tty_restore(saved);
	if (code < 0)
		return FAIL_OS(-code, "wait for the process");
	*out_code = code;
	return NULL;
}

/* What is there now of one output; false at its end. */
static bool collect(int *fd, size_t max_bytes, struct buf *out)
{
	char p[4096];
	ssize_t n = sys_read(*fd, p, sizeof p);

	if (n > 0)
		buf_add(out, p, (size_t)n < max_bytes - out->n ? (size_t)n : max_bytes - out->n);
	if (n == 0 || (n < 0 && n != -EAGAIN))
		drop(fd);
	return n > 0;
}

/* Until the process ended; what it left running may hold its outputs: they are not waited for. */
static FALLIBLE collect_all(struct exec *x, int64_t timeout_ns, size_t max_bytes, struct buf *out, int *out_code, bool *out_late)
{
	int64_t until = time_monotonic_ns() + timeout_ns;
	struct pollfd f[3] = { { x->proc.pid_fd, POLLIN, 0 } };
	int code;

	(void)sys_nonblock(x->out, true);
	(void)sys_nonblock(x->err, true);
	while (!f[0].revents && !*out_late) {
		int64_t left = (until - time_monotonic_ns() + 999999) / 1000000;

		f[1] = (struct pollfd){ x->out, POLLIN, 0 };
		f[2] = (struct pollfd){ x->err, POLLIN, 0 };
		if (left > 0 && sys_poll(f, 3, left < INT32_MAX ? (int)left : INT32_MAX) < 0)
			break;
		*out_late = left <= 0;
		if (f[1].revents)
			(void)collect(&x->out, max_bytes, out);
		if (f[2].revents)
			(void)collect(&x->err, max_bytes, out);
	}
	if (*out_late)
		(void)sys_pid_fd_kill(x->proc.pid_fd, SIGKILL);
	code = sys_pid_fd_wait(x->proc.pid_fd, false, NULL);
	while (x->out >= 0 && collect(&x->out, max_bytes, out))
		;
	while (x->err >= 0 && collect(&x->err, max_bytes, out))
		;
	*out_code = code;
	return code < 0 ? FAIL_OS(-code, "wait for the process") : NULL;
}

static FALLIBLE open_exec(struct exec *x, const char *text, const json_t *body, char id[CTR_ID_MAX])
{
	auto_json json_t *status = NULL;

	TRY(ctr_find(x->e, text, id, &x->doc));
	if (!ctr_live(x->e, id, &status) || json_int_at(status, "Pid", 0) <= 0)
		return FAIL(ERR_CONFLICT, "Container %s is not running", id);
	if (ctr_is_paused(id))
		return FAIL(ERR_CONFLICT, "Container %s is paused, unpause the container before exec", text);
	x->target = (pid_t)json_int_at(status, "Pid", 0);
	x->tty = json_bool_at(body, "Tty", false);
	x->detach = json_bool_at(body, "Detach", false);
	return NULL;
}

static FALLIBLE begin(struct exec *x, const json_t *body, const char *id)
{
	TRY(build_process(x, body));
	return launch(x, id);
}

/* ---- detached: a child of the keeper's, which reaps it; pid 1 of the host, whose child it would be else, may not ---- */

static FALLIBLE send_body(int sock, const json_t *body)
{
	auto_buf struct buf text = BUF(BODY_MAX);
	auto_fd int mem = sys_memfd("hoy-exec");
	const char go = START_GO;
	ssize_t r = mem;

	json_print(body, &text);
	TRY(buf_check(&text, "exec"));
	if (r >= 0 && (r = sys_write_all(mem, text.data, text.n)) >= 0)
		r = sys_send_fds(sock, &go, 1, &mem, 1);
	return r < 0 ? FAIL_OS((int)-r, "hand the command to the keeper") : NULL;
}

static FALLIBLE recv_body(int sock, json_t **out_body)
{
	auto_free char *text = xmalloc(BODY_MAX);
	auto_fd int mem = -1;
	size_t n_fds;
	ssize_t n;
	char go;

	n = sys_recv_fds(sock, &go, 1, &mem, 1, &n_fds);
	if (n > 0 && n_fds)
		n = sys_pread(mem, text, BODY_MAX, 0);
	if (n <= 0 || !n_fds)
		return FAIL(ERR_INVALID, "no command came from who wants it executed");
	return json_parse((struct sv){ text, (size_t)n }, "exec", BODY_MAX, out_body);
}

static FALLIBLE by_keeper(struct engine *e, const char *id, const json_t *body)
{
	auto_fd int ours = -1, theirs = -1, ctl = -1;
	int pair[2], r = sys_socketpair(SOCK_SEQPACKET, pair);
	struct start_error m = { 0 };
	const char ask = CTL_EXEC;

	if (r < 0)
		return FAIL_OS(-r, "make a socket pair");
	ours = pair[0];
	theirs = pair[1];
	TRY(send_body(ours, body));
	TRY(ctr_connect(e, id, &ctl));
	r = (int)sys_send_fds(ctl, &ask, 1, &theirs, 1);
	drop(&theirs);
	if (r >= 0 && sys_unix_recv(ours, &m, sizeof m) > 0)
		return m.type == START_ERROR ? start_error_unpack(&m) : NULL;
	if (!ctr_runs(e, id))
		return FAIL(ERR_CONFLICT, "Container %s is not running", id);
	return FAIL(ERR_INTERNAL, "the keeper of container %.12s could not execute a process", id);
}

FALLIBLE container_exec_detached(struct engine *e, const char *id, int sock)
{
	static const struct container_stdio none = { .in = -1, .out = -1, .err = -1 };
	CLEANUP(exec_fini) struct exec x = EXEC(e, &none);
	struct start_error m = { .type = START_STARTED };
	const struct iovec iov = { &m, sizeof m };
	auto_json json_t *body = NULL;
	char full[CTR_ID_MAX];
	struct err *err = recv_body(sock, &body);
	bool runs;
	int code;

	if (!err)
		err = open_exec(&x, id, body, full);
	if (!err)
		err = begin(&x, body, full);
	runs = !err;
	if (err)
		start_error_pack(err, &m);
	err_free(err);
	(void)sys_unix_send(sock, &iov, 1); /* whether somebody waits for it still or not */
	return runs && x.tty ? foreground(&x, &code) : NULL; /* its terminal is there as long as we are */
}

/* ---- attached ---- */

FALLIBLE container_exec_capture(struct engine *e, const char *text, const json_t *body, int64_t timeout_ns, size_t max_bytes,
				struct buf *out, int *out_code, bool *out_late)
{
	static const struct container_stdio none = { .in = -1, .out = -1, .err = -1 };
	CLEANUP(exec_fini) struct exec x = EXEC(e, &none);
	char id[CTR_ID_MAX];

	TRY(open_exec(&x, text, body, id));
	TRY(begin(&x, body, id));
	*out_late = false;
	return collect_all(&x, timeout_ns, max_bytes, out, out_code, out_late);
}

FALLIBLE container_exec(struct engine *e, const char *text, const json_t *body, const struct container_stdio *io,
			int *out_code)
{
	CLEANUP(exec_fini) struct exec x = EXEC(e, io);
	char id[CTR_ID_MAX];

	*out_code = 0;
	TRY(open_exec(&x, text, body, id));
	if (x.detach)
		return by_keeper(e, id, body);
	TRY(begin(&x, body, id));
	return foreground(&x, out_code);
}
