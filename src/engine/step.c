/*
 * step.c - one process in a root file system, waited for; see step.h.
 *
 *	RUN/<id> locked, with resolv.conf … in it ─▶ network namespace ─▶ create ─▶ start ─▶ wait ─▶ all of it swept
 *
 * RUN/<id> looks like that of a container whose keeper died, so what a kill -9 leaves (cgroup, lease, directory) is ended by the
 * reconciliation at the next open. The process itself dies with us.
 */
#include "engine/step.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/ctr.h"
#include "engine/mounts.h"
#include "engine/stubs.h"
#include "network/network.h"
#include "runtime/runtime.h"
#include "sys/entropy.h"
#include "sys/event.h"
#include "sys/fs.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

#define STEP_HOST "hoy-build" /* the same in every build: it can end up in what the step writes */

/* RUN/<id>, locked. */
struct home {
	struct engine *e;
	char id[CTR_ID_MAX];
	char *path;
	int fd;
};
struct step_net {
	struct home home;
	int net_fd;
};
struct run {
	struct engine *e;
	const struct step *s;
	struct home home;
	struct step_net *own_net;
	int net_fd;	/* of its own or the shared one */
	int view_fd;	/* the lower layers alone */
	char **stubs;	/* mount points that the lower layers do not have */
	struct plan *plan;
};

static void run_fini(struct run *r)
{
	own_close(&r->view_fd);
	text_list_free(r->stubs);
	plan_free(r->plan);
}

/* Locked before anybody can take it for dead; again when somebody did. */
static FALLIBLE home_open(struct engine *e, struct home *h)
{
	*h = (struct home){ .e = e, .fd = -1 };
	sys_random_hex(h->id, 32);
	h->path = xasprintf("%s/%s", engine_run(e), h->id);
	for (int tries = 0; tries < 100; tries++) {
		struct stat st;
		int f = sys_mkdir(engine_run_fd(e), h->id, 0700);

		if (f < 0 && f != -EEXIST)
			return FAIL_OS(-f, "make %s", h->path);
		own_close(&h->fd);
		h->fd = sys_openat(engine_run_fd(e), h->id, O_RDONLY | O_DIRECTORY, 0);
		if (h->fd < 0)
			continue;
		if ((f = sys_flock(h->fd, LOCK_EX)) < 0)
			return FAIL_OS(-f, "lock %s", h->path);
		if (sys_fstatat(engine_run_fd(e), h->id, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return NULL;
	}
	return FAIL(ERR_CONFLICT, "%s is removed again and again", h->path);
}

/* What stands under the id: cgroup, address (has_net), then the directory that says so. */
static FALLIBLE home_sweep(struct home *h, bool has_net)
{
	auto_json json_t *no_net = json_pack("{s:{s:s}}", "HostConfig", "NetworkMode", "none");
	struct err *e = ctr_sweep(h->e, h->id, has_net ? NULL : no_net);

	if (!e)
		e = ctr_unmark(h->e, h->id);
	own_close(&h->fd);
	h->fd = -1;
	free(h->path);
	h->path = NULL;
	return e;
}

static FALLIBLE write_own(struct run *r, const char *name, const char *text)
{
	auto_fd int fd = sys_openat(r->home.fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int n = fd < 0 ? fd : sys_write_all(fd, text, strlen(text));

	return n < 0 ? FAIL_OS(-n, "write %s/%s", r->home.path, name) : NULL;
}

/* ---- network ---- */

static FALLIBLE connect_net(struct engine *e, struct step_net *s)
{
	struct net_result result = { 0 };
	struct network *n;

	TRY(home_open(e, &s->home));
	if ((s->net_fd = sys_netns_new()) < 0)
		return FAIL_OS(-s->net_fd, "make a network namespace");
	TRY(engine_network(e, &n));
	return network_attach(n, &(struct net_attach){ .container = s->home.id, .network = "bridge", .net_fd = s->net_fd }, &result);
}

FALLIBLE step_net_open(struct engine *e, struct step_net **out_net)
{
	struct step_net *s = xnew(struct step_net);
	struct err *err;

	s->net_fd = -1;
	err = connect_net(e, s);
	if (err)
		step_net_close(s);
	else
		*out_net = s;
	return err;
}

void step_net_close(struct step_net *n)
{
	if (!n)
		return;
	own_close(&n->net_fd);
	if (n->home.fd >= 0)
		err_free(home_sweep(&n->home, true)); /* what could not be swept, the next open sweeps */
	free(n->home.path);
	free(n);
}

static bool is_network(const struct run *r, const char *name)
{
	return strcmp(r->s->network ? r->s->network : "bridge", name) == 0;
}

static FALLIBLE connect_network(struct run *r, int *out_own_fd)
{
	auto_free char *resolv = NULL;

	TRY(network_resolv_conf(NULL, NULL, NULL, &resolv));
	TRY(write_own(r, "resolv.conf", resolv));
	TRY(write_own(r, "hostname", STEP_HOST "\n"));
	TRY(write_own(r, "hosts", "127.0.0.1\tlocalhost " STEP_HOST "\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
	if (is_network(r, "host"))
		return NULL;
	if (is_network(r, "none")) {
		if ((r->net_fd = *out_own_fd = sys_netns_new()) < 0)
			return FAIL_OS(-r->net_fd, "make a network namespace");
		return network_loopback(r->net_fd);
	}
	if (!r->s->net)
		TRY(step_net_open(r->e, &r->own_net));
	r->net_fd = r->s->net ? r->s->net->net_fd : r->own_net->net_fd;
	return NULL;
}

/* ---- plan ---- */

/* RUN/<id>/text-<i>; owned. */
static char *text_path(const struct run *r, size_t i)
{
	return xasprintf("%s/text-%zu", r->home.path, i);
}

static FALLIBLE write_texts(struct run *r)
{
	for (size_t i = 0; i < r->s->n_mounts; i++) {
		const struct step_mount *m = &r->s->mounts[i];
		auto_free char *path = text_path(r, i);
		auto_fd int fd = -1;
		int n;

		if (m->source || !m->text)
			continue;
		fd = sys_open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
		if (fd < 0 || (n = sys_write_all(fd, m->text, strlen(m->text))) < 0 || (n = sys_fchown(fd, m->uid, m->gid)) < 0 ||
		    (n = sys_fchmod(fd, m->mode & 07777)) < 0)
			return FAIL_OS(fd < 0 ? -fd : -n, "write what is mounted at %s", m->target);
	}
	return NULL;
}

static json_t *mounts_json(const struct run *r)
{
	const struct step *s = r->s;
	json_t *list = json_array();

	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct step_mount *m = &s->mounts[i];
		bool is_bind = m->source || m->text;
		auto_free char *text = m->text ? text_path(r, i) : NULL;

		(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "Type", is_bind ? "bind" : "tmpfs", "Source",
							    m->source ? m->source : text ? text : "tmpfs", "Destination", m->target, "RW",
							    !m->read_only));
	}
	return list;
}

/* The step in the shape of a container's record, which is what specifications are built from. */
static json_t *record(const struct run *r)
{
	const struct step *s = r->s;
	json_t *args = json_array();

	for (size_t i = 1; s->args[0] && s->args[i]; i++)
		(void)json_array_append_new(args, json_string(s->args[i]));
	return json_pack("{s:s, s:o, s:o, s:{s:s, s:s, s:o, s:s}, s:{s:s, s:b}}", "Path", s->args[0], "Args", args, "Mounts",
			 mounts_json(r), "Config", "User", s->user ? s->user : "", "WorkingDir", s->cwd ? s->cwd : "", "Env",
			 json_from_list(s->env), "Hostname", STEP_HOST, "HostConfig", "NetworkMode",
			 s->network ? s->network : "bridge", "Privileged", s->privileged);
}

static bool is_there(int root_fd, const char *path)
{
	auto_fd int fd = sys_open_in_root(root_fd, path, O_PATH, 0);

	return fd >= 0;
}

/* Mount points that the runtime will have to make in the upper directory. */
static void find_stubs(struct run *r, const json_t *spec)
{
	size_t i;
	json_t *m;

	json_array_foreach(json_object_get(spec, "mounts"), i, m) {
		const char *target = json_str_at(m, "destination", "/");

		if (!is_there(r->view_fd, target) && strncmp(target, "/dev/", 5) != 0 && strncmp(target, "/sys/", 5) != 0)
			text_list_add(&r->stubs, target);
	}
}

static FALLIBLE compile(struct run *r)
{
	auto_json json_t *doc = record(r), *spec = NULL, *mounts = NULL;
	const struct rootfs *root = r->s->rootfs, lower = { .lower = root->lower, .is_user = root->is_user };
	auto_list char **once = rootfs_lower_once(root);
	char cgroup[80];
	CLEANUP(mounts_hold_fini) struct mounts_hold views = { 0 }; /* a step mounts no images */
	struct spec_in in = { .doc = doc, .home = r->home.path };
	struct plan_opts o = { .id = r->home.id, .bundle = r->home.path, .die_with_parent = true, .cgroup_path = cgroup };

	TRY(rootfs_view(&lower, &r->view_fd));
	in.root_fd = r->view_fd;
	if (r->s->host_ca && !(in.ca_path = spec_host_ca()))
		return FAIL(ERR_NOT_FOUND, "--host-ca: this host has no CA bundle (looked at /etc/ssl, /etc/pki, $SSL_CERT_FILE)");
	TRY(mounts_spec(r->e, doc, r->view_fd, &views, &mounts));
	in.mounts = mounts;
	TRY(spec_build(&in, &spec));
	find_stubs(r, spec);
	ctr_cgroup(r->home.id, cgroup);
	o.default_seccomp = !r->s->privileged;
	o.lower = (const char *const *)once;
	o.upper = root->upper;
	o.work = root->work;
	o.is_volatile = root->is_volatile;
	o.is_user = root->is_user;
	return plan_compile(spec, &o, &r->plan);
}

/* ---- all of it ---- */

static void remove_stubs(const struct run *r)
{
	auto_fd int upper = r->stubs ? sys_open_dir(r->s->rootfs->upper) : -1;

	if (upper >= 0)
		stubs_remove(upper, r->view_fd, r->stubs);
}

/* Until the process ends, or is to end. */
static int wait_for(const struct run *r, int pid_fd)
{
	struct pollfd fds[] = { { .fd = pid_fd, .events = POLLIN }, { .fd = r->s->cancel_fd, .events = POLLIN } };
	int signo = 0;

	while (r->s->cancel_fd > 0 && !fds[0].revents) {
		if (sys_poll(fds, 2, -1) < 0 || fds[1].revents) {
			(void)sys_pid_fd_kill(pid_fd, 9);
			break;
		}
	}
	return sys_pid_fd_wait(pid_fd, false, &signo);
}

static FALLIBLE execute(struct run *r, int *out_code)
{
	struct runtime_stdio io = { .fd = { r->s->stdio[0], r->s->stdio[1], r->s->stdio[2] } };
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	auto_fd int own_fd = -1;
	struct err *e;
	int code;

	TRY(connect_network(r, &own_fd));
	TRY(write_texts(r));
	TRY(compile(r));
	TRY(runtime_create(r->plan, &io, r->net_fd, &proc));
	e = runtime_start(&proc);
	if (e)
		(void)sys_pid_fd_kill(proc.pid_fd, 9);
	code = wait_for(r, proc.pid_fd);
	runtime_proc_fini(&proc);
	TRY(e);
	if (code < 0)
		return FAIL_OS(-code, "wait for the step");
	*out_code = code;
	return NULL;
}

FALLIBLE step_run(struct engine *e, const struct step *s, int *out_code)
{
	CLEANUP(run_fini) struct run r = { .e = e, .s = s, .net_fd = -1, .view_fd = -1 };
	struct err *err, *swept;

	err = home_open(e, &r.home);
	if (!err)
		err = execute(&r, out_code);
	remove_stubs(&r);
	swept = home_sweep(&r.home, false);
	step_net_close(r.own_net);
	if (!err)
		return swept;
	err_free(swept);
	return err;
}
