/*
 * keeper.c - one epoll loop over: the ends of its children (the container, helpers, and what those left), the container's
 * output, its input when something waits for it, the control socket and its clients.
 *
 * After the exit the loop goes on until all output was read and taken by the clients (`is_draining`). Then the order is:
 * status, "exited" to the clients, cgroup removed, exit record, reaping (by the client that offered to, else by
 * `hoy keeper-exit`), end. A restart keeps the network namespace, the sockets and the log.
 */
#include "supervise/keeper.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "runtime/runtime.h"
#include "state/record.h"
#include "supervise/client.h"
#include "supervise/health.h"
#include "supervise/program.h"
#include "supervise/jsonlog.h"
#include "supervise/restart.h"
#include "sys/event.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

enum key { KEY_LISTEN, KEY_START, KEY_CHILD, KEY_OUT, KEY_ERR, KEY_IN, KEY_CLIENT };

struct keeper {
	struct keeper_conf conf;
	struct plan *plan; /* NULL while the container runs, see rest */
	bool has_layers;
	int ep, listen_fd, child_fd, net_fd;
	struct runtime_proc proc;
	bool is_alive, is_draining, is_stopped, is_done, has_oom, was_timed_out;
	int out_fd[2]; /* container's stdout and stderr, or the pty master as [0] */
	int in_fd;     /* write end of its stdin, or a copy of the pty master */
	bool in_close; /* once `in` is written */
	bool is_reading;
	size_t in_n, in_at;
	int exit_code;
	int64_t started_ns, finished_ns, restart_at_ns;
	struct restart restart;
	struct health health;
	struct clients clients;
	struct jsonlog log;
	char in[KEEPER_PACKET], packet[KEEPER_PACKET + 1], chunk[KEEPER_PACKET]; /* last: untouched, they take no memory */
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)sys_close(*fd);
	*fd = -1;
}

static void write_status(struct keeper *k, const char *state)
{
	char text[512], from[TIME_TEXT_MAX] = "", to[TIME_TEXT_MAX] = "";
	int n;

	if (k->started_ns)
		(void)time_format(k->started_ns, from);
	if (k->finished_ns)
		(void)time_format(k->finished_ns, to);
	n = snprintf(text, sizeof text,
		     "{\"Status\":\"%s\",\"Pid\":%d,\"Keeper\":%d,\"ExitCode\":%d,\"OOMKilled\":%s,\"RestartCount\":%u,"
		     "\"StartedAt\":\"%s\",\"FinishedAt\":\"%s\"}\n",
		     state, k->is_alive ? (int)k->proc.pid : 0, (int)getpid(), k->exit_code,
		     k->has_oom ? "true" : "false", k->restart.count, from, to);
	err_free(record_write_volatile(KEEPER_FD_RUN, "status", text, (size_t)n)); /* a full /run: readers see the old one */
}

/* ---- input ---- */

static void input_push(struct keeper *k)
{
	while (k->in_fd >= 0 && k->in_at < k->in_n) {
		ssize_t r = sys_write(k->in_fd, k->in + k->in_at, k->in_n - k->in_at);

		if (r == -EAGAIN) {
			(void)sys_epoll_set(k->ep, EPOLL_CTL_ADD, k->in_fd, EPOLLOUT, KEY_IN);
			clients_hold_input(&k->clients, true);
			return;
		}
		if (r < 0)
			break; /* it reads no more: the rest has no reader */
		k->in_at += (size_t)r;
	}
	k->in_n = k->in_at = 0;
	if (k->in_fd >= 0)
		(void)sys_epoll_set(k->ep, EPOLL_CTL_DEL, k->in_fd, 0, 0);
	if (k->in_close)
		close_fd(&k->in_fd);
	clients_hold_input(&k->clients, false);
}

static void input_end(struct keeper *k)
{
	if (k->conf.tty || k->in_fd < 0)
		return;
	k->in_close = true;
	if (k->in_n == 0)
		close_fd(&k->in_fd);
}

/* ---- output ---- */

static void watch_output(struct keeper *k, bool want)
{
	if (want == k->is_reading)
		return;
	k->is_reading = want;
	for (int i = 0; i < 2; i++)
		if (k->out_fd[i] >= 0)
			(void)sys_epoll_set(k->ep, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, k->out_fd[i], EPOLLIN,
					    (uint64_t)(KEY_OUT + i));
}

/* Reads one chunk and passes it on; false when there was nothing (the fd is closed at its end). */
static bool output_read(struct keeper *k, int i)
{
	ssize_t n;

	if (k->out_fd[i] < 0 || k->clients.todo)
		return false;
	n = sys_read(k->out_fd[i], k->chunk, sizeof k->chunk);
	if (n == -EAGAIN)
		return false;
	if (n <= 0) { /* a pty master reads EIO when the last slave is closed */
		close_fd(&k->out_fd[i]);
		return false;
	}
	jsonlog_write(&k->log, i + 1, k->chunk, (size_t)n);
	clients_broadcast(&k->clients, (uint8_t)(i == 0 ? CTL_STDOUT : CTL_STDERR), (size_t)n);
	if (k->clients.todo)
		watch_output(k, false);
	return true;
}

/* ---- the container ---- */

static int output_pipe(int *out_read, int *out_write)
{
	int p[2], r = sys_pipe(p);

	if (r < 0)
		return r;
	*out_read = p[0];
	*out_write = p[1];
	return sys_nonblock(p[0], true);
}

static FALLIBLE open_stdio(struct keeper *k, struct runtime_stdio *io)
{
	int r = 0, in[2];

	*io = (struct runtime_stdio){ { -1, -1, -1 } };
	if (k->conf.tty)
		return NULL;
	for (int i = 0; i < 2 && r >= 0; i++)
		r = output_pipe(&k->out_fd[i], &io->fd[1 + i]);
	if (r >= 0 && k->conf.open_stdin && (r = sys_pipe(in)) >= 0) {
		io->fd[0] = in[0];
		k->in_fd = in[1];
		r = sys_nonblock(k->in_fd, true);
	}
	return r < 0 ? FAIL_OS(-r, "make pipes for the container") : NULL;
}

static void close_streams(struct keeper *k)
{
	watch_output(k, false);
	close_fd(&k->out_fd[0]);
	close_fd(&k->out_fd[1]);
	if (k->in_fd >= 0 && k->in_n)
		(void)sys_epoll_set(k->ep, EPOLL_CTL_DEL, k->in_fd, 0, 0);
	close_fd(&k->in_fd);
	k->in_n = k->in_at = 0;
	k->in_close = false;
	clients_hold_input(&k->clients, false);
}

static FALLIBLE adopt_tty(struct keeper *k)
{
	int r;

	k->out_fd[0] = TAKE_FD(k->proc.tty_fd);
	if ((r = sys_nonblock(k->out_fd[0], true)) < 0 || (r = sys_dup(k->out_fd[0])) < 0)
		return FAIL_OS(-r, "set up the terminal");
	k->in_fd = r;
	return NULL;
}

/* The whole configuration, mapped; *out_n is its length. */
static FALLIBLE map_conf(void **out_map, size_t *out_n)
{
	struct stat st;
	int r = sys_fstat(KEEPER_FD_CONF, &st);
	void *map;

	if (r < 0)
		return FAIL_OS(-r, "keeper: no configuration");
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, KEEPER_FD_CONF, 0);
	if (map == MAP_FAILED)
		return FAIL_OS(errno, "keeper: map the configuration");
	*out_map = map;
	*out_n = (size_t)st.st_size;
	return NULL;
}

/* At the start, and again after a rest: the memfd keeps the text. */
static FALLIBLE need_plan(struct keeper *k)
{
	const struct keeper_conf *conf;
	const void *packed;
	struct err *e;
	size_t n;
	void *map;

	if (k->plan)
		return NULL;
	TRY(map_conf(&map, &n));
	e = keeper_conf_unpack(map, n, &conf, &packed);
	if (!e)
		k->conf = *conf;
	if (!e)
		e = plan_unpack(packed, conf->plan_bytes, &k->plan);
	if (!e)
		e = runtime_hold_layers(k->plan, k->has_layers);
	k->has_layers = !e;
	(void)munmap(map, n);
	return e;
}

/*
 * From now on a keeper waits, for days perhaps, and there are as many of them as containers: what only the start needed goes.
 * 200 KiB of memory of its own become 60; the program's pages are shared by all keepers.
 */
static void rest(struct keeper *k)
{
	plan_free(k->plan);
	k->plan = NULL;
	json_region_drop();
	sys_memory_trim();
}

static FALLIBLE container_run(struct keeper *k)
{
	struct runtime_stdio io;
	struct err *e;

	TRY(need_plan(k));
	e = open_stdio(k, &io);
	if (!e)
		e = runtime_create(k->plan, &io, k->net_fd, &k->proc);
	for (int i = 0; i < 3; i++)
		close_fd(&io.fd[i]);
	if (e) {
		close_streams(k);
		return e;
	}
	if (k->conf.tty)
		e = adopt_tty(k);
	if (!e)
		e = runtime_start(&k->proc);
	if (e) {
		(void)sys_pid_fd_kill(k->proc.pid_fd, SIGKILL);
		(void)sys_pid_fd_wait(k->proc.pid_fd, false, NULL);
		runtime_proc_fini(&k->proc);
		close_streams(k);
		err_free(runtime_cleanup(k->plan));
		return e;
	}
	k->is_alive = true;
	k->has_oom = k->was_timed_out = false;
	k->exit_code = 0;
	k->started_ns = time_now_ns();
	k->finished_ns = 0;
	watch_output(k, true);
	health_begin(&k->health, &k->conf, time_monotonic_ns());
	write_status(k, "running");
	return NULL;
}

static void container_exited(struct keeper *k)
{
	struct runtime_stats stats = { 0 };
	struct err *e;
	int code = sys_pid_fd_wait(k->proc.pid_fd, false, NULL);

	k->exit_code = code < 0 ? 255 : code;
	k->finished_ns = time_now_ns();
	if (code == 128 + SIGKILL) { /* only then it can have been the OOM killer */
		e = runtime_stats(k->conf.cgroup, &stats);
		k->has_oom = !e && stats.oom_killed;
		err_free(e);
	}
	runtime_proc_fini(&k->proc);
	k->proc = (struct runtime_proc){ .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	k->is_alive = false;
	health_stop(&k->health);
	k->is_draining = true;
}

/*
 * Whoever ended is reaped at once, also what helpers leave us as their subreaper: a process of `exec -d`, or of a health check
 * that was killed. The kernel ends no pid namespace, and so no container, before the last of its processes was reaped.
 */
static void children(struct keeper *k)
{
	pid_t pid;

	while (sys_signal_read(k->child_fd) >= 0)
		;
	while ((pid = sys_ended_child()) != 0) { /* an error is none that lasts */
		if (k->is_alive && pid == k->proc.pid)
			container_exited(k);
		else if (pid == k->health.pid)
			health_ended(&k->health, &k->conf, time_monotonic_ns());
		else if (pid > 0)
			(void)sys_pid_wait(pid);
	}
}

/* ---- the end ---- */

static void tell_exit(struct keeper *k)
{
	char msg[5] = { CTL_EXITED };
	int32_t code = k->exit_code;

	memcpy(msg + 1, &code, 4);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (k->clients.c[i].fd >= 0) {
			(void)sys_nonblock(k->clients.c[i].fd, false);
			clients_tell(&k->clients, i, msg, sizeof msg);
		}
}

static bool reaped_by_client(struct keeper *k)
{
	int i = clients_reaper(&k->clients);
	ssize_t n;

	if (i < 0)
		return false;
	do
		n = sys_unix_recv(k->clients.c[i].fd, k->packet, sizeof k->packet);
	while (n > 0 && k->packet[0] != CTL_REAPED);
	return n > 0;
}

static void reap_by_program(struct keeper *k)
{
	pid_t pid = program_run(&k->conf, "keeper-exit", -1);

	if (pid > 0)
		(void)sys_pid_wait(pid);
}

static void finish(struct keeper *k)
{
	char text[128];
	int n;

	k->is_done = true;
	jsonlog_close(&k->log);
	write_status(k, "exited");
	tell_exit(k);
	err_free(runtime_cgroup_remove(k->conf.cgroup));
	if (!k->conf.is_rm) {
		n = snprintf(text, sizeof text, "{\"ExitCode\":%d,\"OOMKilled\":%s}\n", k->exit_code,
			     k->has_oom ? "true" : "false");
		err_free(record_write(KEEPER_FD_HOME, "exit", text, (size_t)n));
	}
	if (!reaped_by_client(k))
		reap_by_program(k);
}

static void drained(struct keeper *k)
{
	int delay;

	k->is_draining = false;
	jsonlog_flush(&k->log);
	close_streams(k);
	delay = restart_next(&k->conf, &k->restart, k->exit_code, k->finished_ns - k->started_ns, k->is_stopped);
	if (delay < 0) {
		finish(k);
		return;
	}
	write_status(k, "restarting");
	err_free(runtime_cgroup_remove(k->conf.cgroup));
	k->restart_at_ns = time_monotonic_ns() + (int64_t)delay * 1000000;
}

static void drain(struct keeper *k)
{
	bool more = true;

	while (more && !k->clients.todo) {
		more = output_read(k, 0);
		more = output_read(k, 1) || more;
	}
	if (!k->clients.todo)
		drained(k);
}

static void restart_due(struct keeper *k)
{
	struct err *e;

	if (k->is_stopped) {
		k->restart_at_ns = 0;
		finish(k);
		return;
	}
	if (time_monotonic_ns() < k->restart_at_ns)
		return;
	k->restart_at_ns = 0;
	e = container_run(k);
	if (!e) {
		rest(k);
		return;
	}
	err_free(e); /* could not start again: that counts as a failed run */
	k->exit_code = 127;
	k->started_ns = k->finished_ns = time_now_ns();
	drained(k);
}

/* ---- clients ---- */

static void client_kill(struct keeper *k, unsigned i, const struct ctl_kill *msg)
{
	char answer[5] = { CTL_KILLED };
	int32_t r = 0;

	if (msg->no_restart)
		k->is_stopped = true;
	if (msg->signo)
		r = k->is_alive ? sys_pid_fd_kill(k->proc.pid_fd, msg->signo) : -ESRCH;
	memcpy(answer + 1, &r, 4);
	clients_tell(&k->clients, i, answer, sizeof answer);
}

static void client_gone(struct keeper *k, unsigned i)
{
	uint8_t flags = k->clients.c[i].flags;

	clients_drop(&k->clients, i);
	if ((flags & CTL_IN) && k->conf.stdin_once)
		input_end(k);
	if (!k->clients.todo && !k->is_draining)
		watch_output(k, true);
}

static void client_message(struct keeper *k, unsigned i)
{
	char *p = k->packet; /* not on the stack, whose pages would stay */
	auto_fd int fd = -1;
	size_t n_fds = 0;
	ssize_t n = sys_recv_fds(k->clients.c[i].fd, p, sizeof k->packet, &fd, 1, &n_fds);
	struct ctl_resize size;
	struct ctl_kill kill;

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		client_gone(k, i);
		return;
	}
	switch (p[0]) {
	case CTL_ATTACH:
		k->clients.c[i].flags = n > 1 ? (uint8_t)p[1] : 0;
		p[0] = CTL_ATTACHED;
		clients_tell(&k->clients, i, p, 1);
		break;
	case CTL_STDIN:
		if (k->in_fd < 0 || k->in_n)
			break;
		memcpy(k->in, p + 1, (size_t)n - 1);
		k->in_n = (size_t)n - 1;
		input_push(k);
		break;
	case CTL_STDIN_CLOSE:
		input_end(k);
		break;
	case CTL_RESIZE:
		memcpy(&size, p, sizeof size);
		if ((size_t)n >= sizeof size && k->conf.tty && k->out_fd[0] >= 0)
			(void)sys_tty_resize(k->out_fd[0], size.rows, size.cols);
		break;
	case CTL_KILL:
		memcpy(&kill, p, sizeof kill);
		if ((size_t)n >= sizeof kill)
			client_kill(k, i, &kill);
		break;
	case CTL_EXEC:
		if (k->is_alive && fd >= 0)
			(void)program_run(&k->conf, "keeper-exec", fd); /* reaped as every child; without it the socket ends */
		break;
	default:
		break; /* unknown: of another version; harmless */
	}
}

static void client_event(struct keeper *k, unsigned i, uint32_t events)
{
	if (k->clients.c[i].fd < 0)
		return;
	if (events & EPOLLOUT)
		clients_retry(&k->clients, i);
	if (k->clients.c[i].fd >= 0 && (events & EPOLLIN))
		client_message(k, i);
	else if (k->clients.c[i].fd >= 0 && (events & (EPOLLHUP | EPOLLERR)))
		client_gone(k, i);
	if (!k->clients.todo && k->is_alive)
		watch_output(k, true);
}

static void event(struct keeper *k, uint64_t key, uint32_t events)
{
	switch (key) {
	case KEY_LISTEN:
		clients_accept(&k->clients, k->listen_fd);
		break;
	case KEY_CHILD:
		children(k);
		break;
	case KEY_OUT:
	case KEY_ERR:
		(void)output_read(k, (int)(key - KEY_OUT));
		break;
	case KEY_IN:
		input_push(k);
		break;
	default:
		if (key >= KEY_CLIENT)
			client_event(k, (unsigned)(key - KEY_CLIENT), events);
		break;
	}
}

/* Until the container has had its time, -1: it may run for ever. */
static int64_t time_left(struct keeper *k)
{
	int64_t left;

	if (!k->is_alive || !k->conf.timeout_s || k->was_timed_out)
		return -1;
	left = k->started_ns + (int64_t)k->conf.timeout_s * 1000000000 - time_now_ns();
	if (left > 0)
		return left;
	k->was_timed_out = true;
	(void)sys_pid_fd_kill(k->proc.pid_fd, SIGKILL);
	return -1;
}

static int loop_timeout(struct keeper *k)
{
	int64_t left, check;

	if (k->restart_at_ns) {
		left = k->restart_at_ns - time_monotonic_ns();
		return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
	}
	left = time_left(k);
	check = health_left(&k->health, time_monotonic_ns());
	if (check >= 0 && (left < 0 || check < left))
		left = check;
	if (left > INT32_MAX * INT64_C(1000000)) /* a month: then it looks again */
		left = INT32_MAX * INT64_C(1000000);
	return left < 0 ? -1 : (int)((left + 999999) / 1000000);
}

static void loop(struct keeper *k)
{
	struct epoll_event ev[16];

	while (!k->is_done) {
		int n, timeout = loop_timeout(k);

		n = sys_epoll_wait(k->ep, ev, (int)LEN(ev), timeout);
		for (int i = 0; i < n && !k->is_done; i++)
			event(k, ev[i].data.u64, ev[i].events);
		if (health_left(&k->health, time_monotonic_ns()) == 0)
			health_run(&k->health, &k->conf, time_monotonic_ns());
		if (k->is_draining)
			drain(k);
		else if (k->restart_at_ns)
			restart_due(k);
		else if (!k->is_alive && !k->is_done)
			finish(k);
	}
	children(k); /* what the end of the container ended */
}

/* ---- birth ---- */

static void send_error(const struct err *e)
{
	struct start_error m;
	const struct iovec iov = { &m, sizeof m };

	start_error_pack(e, &m);
	(void)sys_unix_send(KEEPER_FD_START, &iov, 1);
}

static FALLIBLE prepare(struct keeper *k)
{
	char path[64], name[96];
	int r;

	TRY(need_plan(k));
	(void)sys_become_subreaper();
	if ((k->ep = sys_epoll_new()) < 0)
		return FAIL_OS(-k->ep, "keeper: epoll");
	clients_init(&k->clients, k->ep, KEY_CLIENT, k->chunk);
	if ((k->child_fd = sys_signal_fd((const int[]){ SIGCHLD, 0 })) < 0 ||
	    (r = sys_epoll_set(k->ep, EPOLL_CTL_ADD, k->child_fd, EPOLLIN, KEY_CHILD)) < 0)
		return FAIL_OS(k->child_fd < 0 ? -k->child_fd : -r, "keeper: watch its children");
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d/ctl", KEEPER_FD_RUN); /* short, whatever RUN is */
	if ((k->listen_fd = sys_unix_listen(path)) < 0)
		return FAIL_OS(-k->listen_fd, "keeper: listen on the control socket");
	if ((r = sys_epoll_set(k->ep, EPOLL_CTL_ADD, k->listen_fd, EPOLLIN, KEY_LISTEN)) < 0)
		return FAIL_OS(-r, "keeper: epoll");
	(void)snprintf(name, sizeof name, "%s-json.log", k->conf.id);
	if (k->conf.want_log &&
	    (r = jsonlog_open(&k->log, KEEPER_FD_HOME, name, k->conf.log_max_bytes, k->conf.log_files)) < 0)
		return FAIL_OS(-r, "open the container's log");
	if (k->conf.want_netns && (k->net_fd = sys_netns_new()) < 0)
		return FAIL_OS(-k->net_fd, "make a network namespace");
	return NULL;
}

/* Serves clients (who attach before the start) until the starter says something. 0: it is gone. */
static char wait_for_word(struct keeper *k)
{
	struct epoll_event ev[8];
	char word = 0;

	if (sys_epoll_set(k->ep, EPOLL_CTL_ADD, KEEPER_FD_START, EPOLLIN, KEY_START) < 0)
		return 0;
	while (word == 0) {
		int n = sys_epoll_wait(k->ep, ev, (int)LEN(ev), -1);

		/* The starter's word comes last: what its client sent before it is handled first. */
		for (int i = 0; i < n; i++)
			if (ev[i].data.u64 != KEY_START)
				event(k, ev[i].data.u64, ev[i].events);
		for (int i = 0; i < n; i++)
			if (ev[i].data.u64 == KEY_START && sys_unix_recv(KEEPER_FD_START, &word, 1) <= 0)
				return 0;
	}
	(void)sys_epoll_set(k->ep, EPOLL_CTL_DEL, KEEPER_FD_START, 0, 0);
	return word;
}

static int run(struct keeper *k)
{
	const char ready = START_READY, started = START_STARTED;
	auto_err struct err *e = prepare(k);
	char word;

	if (e) {
		send_error(e);
		return 1;
	}
	if (sys_send_fds(KEEPER_FD_START, &ready, 1, &k->net_fd, k->net_fd >= 0 ? 1 : 0) < 0)
		return 1; /* the starter is gone; the next command sweeps what it made */
	word = wait_for_word(k);
	if (word != START_GO) {
		if (word != START_NOT)
			reap_by_program(k);
		return 1;
	}
	e = container_run(k);
	if (e) {
		send_error(e);
		if (sys_unix_recv(KEEPER_FD_START, &(char){ 0 }, 1) < 0) /* the starter sweeps; we only see it off */
			return 1;
		return 1;
	}
	(void)sys_send_fds(KEEPER_FD_START, &started, 1, NULL, 0);
	(void)sys_close(KEEPER_FD_START);
	rest(k);
	loop(k);
	return 0;
}

int keeper_main(void)
{
	static struct keeper k; /* without an initialiser: its buffers take memory when they are used */
	auto_fd int oom = sys_open("/proc/self/oom_score_adj", O_WRONLY, 0);

	k.ep = k.listen_fd = k.net_fd = k.in_fd = k.log.fd = -1;
	k.out_fd[0] = k.out_fd[1] = k.child_fd = -1;
	k.proc = (struct runtime_proc){ .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	if (oom >= 0)
		(void)sys_write(oom, "-999", 4); /* without the capability: stays as it is */
	(void)signal(SIGPIPE, SIG_IGN);
	json_region_begin();
	return run(&k);
}
