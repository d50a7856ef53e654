/*
 * start.c - from a record to a running keeper.
 *
 *	RUN/<id> locked ─▶ keeper spawned ─▶ ready (+ its network namespace) ─▶ network ─▶ go ─▶ started
 *
 * The lock on RUN/<id> is of the open file that the keeper inherits, so it lives exactly as long as the keeper. Whatever
 * fails before "started" closes the start socket, the keeper goes, and what was made is swept here.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "base/vec.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/endpoint.h"
#include "engine/health.h"
#include "engine/mounts.h"
#include "engine/share.h"
#include "network/network.h"
#include "runtime/runtime.h"
#include "state/record.h"
#include "sys/event.h"
#include "sys/self.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>

struct start {
	struct engine *e;
	const char *id;
	json_t *doc;
	int run_fd, home_fd, sock, net_fd, conf_fd;
	bool is_marked; /* RUN/<id> is ours to sweep */
	struct rootfs rootfs; /* the keeper copies its mounts while we live */
	struct mounts_hold views; /* the same */
	int shm;		  /* the same, of a shareable container; -1 */
	int keeper;
};

static void start_fini(struct start *s)
{
	own_close(&s->run_fd);
	own_close(&s->home_fd);
	own_close(&s->sock);
	own_close(&s->net_fd);
	own_close(&s->conf_fd);
	rootfs_fini(&s->rootfs);
	mounts_hold_fini(&s->views);
	own_close(&s->shm);
}

static FALLIBLE open_run(struct start *s)
{
	auto_free char *home = ctr_path(s->e, s->id, NULL);
	int r = sys_mkdir(engine_run_fd(s->e), s->id, 0700);

	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "make %s/%s", engine_run(s->e), s->id);
	s->is_marked = true;
	s->run_fd = sys_openat(engine_run_fd(s->e), s->id, O_RDONLY | O_DIRECTORY, 0);
	s->home_fd = sys_open_dir(home);
	if (s->run_fd < 0 || s->home_fd < 0)
		return FAIL_OS(s->run_fd < 0 ? -s->run_fd : -s->home_fd, "open the directories of container %.12s", s->id);
	r = sys_flock(s->run_fd, LOCK_EX | LOCK_NB);
	if (r < 0)
		s->is_marked = false;
	return r < 0 ? FAIL(ERR_CONFLICT, "container %.12s is already running", s->id) : NULL;
}

/* ---- the files of ours that are bound in ---- */

static FALLIBLE write_own(struct start *s, const char *name, const char *text)
{
	auto_fd int fd = sys_openat(s->home_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int r = fd < 0 ? fd : sys_write_all(fd, text, strlen(text));

	return r < 0 ? FAIL_OS(-r, "write %s of container %.12s", name, s->id) : NULL;
}

static FALLIBLE write_names(struct start *s)
{
	auto_list char **dns = NULL, **search = NULL, **options = NULL;
	auto_free char *resolv = NULL, *hostname = NULL;
	const char *host = json_str_at(s->doc, "Config.Hostname", "");

	TRY(json_list_at(s->doc, "HostConfig.Dns", &dns));
	TRY(json_list_at(s->doc, "HostConfig.DnsSearch", &search));
	TRY(json_list_at(s->doc, "HostConfig.DnsOptions", &options));
	TRY(network_resolv_conf(dns, search, options, &resolv));
	TRY(write_own(s, "resolv.conf", resolv));
	hostname = xasprintf("%s\n", host);
	return write_own(s, "hostname", hostname);
}

/* ip "" when the container has no address of its own. */
static FALLIBLE write_hosts(struct start *s, const char *ip, const char *gateway)
{
	const char *host = json_str_at(s->doc, "Config.Hostname", ""), *domain = json_str_at(s->doc, "Config.Domainname", "");
	auto_buf struct buf b = BUF(65536);
	size_t i;
	json_t *item;

	buf_str(&b, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	json_array_foreach (json_at(s->doc, "HostConfig.ExtraHosts"), i, item) {
		struct sv rest = sv_of(json_string_value(item)), name = sv_cut(&rest, ':');

		if (sv_is(rest, "host-gateway"))
			rest = sv_of(gateway);
		buf_fmt(&b, SV_FMT "\t" SV_FMT "\n", SV_ARG(rest), SV_ARG(name));
	}
	if (*ip && *domain)
		buf_fmt(&b, "%s\t%s.%s %s\n", ip, host, domain, host);
	else if (*ip)
		buf_fmt(&b, "%s\t%s\n", ip, host);
	TRY(buf_check(&b, "hosts file"));
	return write_own(s, "hosts", buf_text(&b));
}

/* ---- the plan ---- */

/* The namespaces and the shared memory of other containers. *out_net owned. */
static FALLIBLE join_others(struct start *s, struct spec_in *in, char **out_net, char **out_shm)
{
	const char *ipc = json_str_at(s->doc, "HostConfig.IpcMode", "");
	pid_t pid;

	TRY(share_target(s->e, json_str_at(s->doc, "HostConfig.NetworkMode", ""), "network", &pid));
	in->net_path = *out_net = pid ? xasprintf("/proc/%d/ns/net", (int)pid) : NULL;
	TRY(share_target(s->e, json_str_at(s->doc, "HostConfig.PidMode", ""), "PID", &in->join_pid[0]));
	TRY(share_target(s->e, ipc, "IPC", &in->join_pid[1]));
	if (strcmp(ipc, "shareable") == 0 && !mounts_at(s->doc, "/dev/shm")) {
		TRY(share_shm_make(json_int_at(s->doc, "HostConfig.ShmSize", 0), &s->shm));
		in->shm_path = *out_shm = xasprintf("/proc/%d/fd/%d", (int)getpid(), s->shm);
	}
	if (!in->join_pid[1])
		return NULL;
	TRY(share_check_ipc(s->e, ipc));
	TRY(share_shm_find(s->e, ipc, out_shm));
	in->shm_path = *out_shm;
	return NULL;
}

/* seccomp=unconfined, or a profile of the user's as JSON text (the command line reads the file). */
static FALLIBLE security(const json_t *doc, bool *out_default, json_t **out_profile)
{
	size_t i;
	json_t *item;

	*out_default = !json_bool_at(doc, "HostConfig.Privileged", false);
	json_array_foreach (json_at(doc, "HostConfig.SecurityOpt"), i, item) {
		const char *text = json_string_value(item), *profile;

		if (!text || (strncmp(text, "seccomp=", 8) != 0 && strncmp(text, "seccomp:", 8) != 0))
			continue; /* others were looked at by the creation, or are the specification's */
		profile = text + 8;
		*out_default = false;
		if (strcmp(profile, "unconfined") == 0)
			continue;
		if (strcmp(profile, "builtin") == 0)
			*out_default = true;
		else
			TRY(json_parse(sv_of(profile), "seccomp profile", 1u << 20, out_profile));
	}
	return NULL;
}

/* Where users are looked up: the image, or the container's own files when it changed /etc. */
static FALLIBLE user_root(const struct rootfs *r, int *out_fd)
{
	auto_free char *etc = xasprintf("%s/etc", r->upper);
	struct rootfs image = { .lower = r->lower };
	struct stat st;

	return rootfs_view_read(sys_fstatat(AT_FDCWD, etc, &st, 0) == 0 ? r : &image, out_fd);
}

static FALLIBLE build_plan(struct start *s, struct plan **out_plan)
{
	auto_json json_t *spec = NULL, *profile = NULL, *mounts = NULL;
	auto_list char **lower = NULL;
	auto_free char *home = ctr_path(s->e, s->id, NULL), *net = NULL, *shm = NULL, *init = NULL;
	auto_fd int root = -1;
	struct spec_in in = { .doc = s->doc, .home = home };
	struct plan_opts o = { .id = s->id, .bundle = home, .die_with_parent = true };
	char cgroup[80];

	TRY(security(s->doc, &o.default_seccomp, &profile));
	TRY(ctr_rootfs(s->e, s->id, s->doc, &s->rootfs));
	TRY(user_root(&s->rootfs, &root));
	in.root_fd = root;
	TRY(mounts_spec(s->e, s->doc, root, &s->views, &mounts));
	in.mounts = mounts;
	in.seccomp = profile;
	TRY(join_others(s, &in, &net, &shm));
	if (json_bool_at(s->doc, "HostConfig.Init", false))
		TRY(engine_program("hoy-keeper", &init));
	in.init_path = init;
	if (json_bool_at(s->doc, "HostConfig.HoyHostCA", false) && !(in.ca_path = spec_host_ca()))
		return FAIL(ERR_NOT_FOUND, "--host-ca: this host has no CA bundle (looked at /etc/ssl, /etc/pki, $SSL_CERT_FILE)");
	TRY(spec_build(&in, &spec));
	ctr_cgroup(s->id, cgroup);
	lower = rootfs_lower_of(&s->rootfs, (int)getpid());
	o.lower = (const char *const *)lower;
	o.upper = s->rootfs.upper;
	o.work = s->rootfs.work;
	o.is_volatile = s->rootfs.is_volatile;
	o.is_user = s->rootfs.is_user;
	o.cgroup_path = cgroup;
	return plan_compile(spec, &o, out_plan);
}

/* ---- the keeper's configuration ---- */

static FALLIBLE log_options(const json_t *doc, struct keeper_conf *c)
{
	const char *size = json_str_at(doc, "HostConfig.LogConfig.Config.max-size", "");
	const char *files = json_str_at(doc, "HostConfig.LogConfig.Config.max-file", "");
	uint64_t n = 1;

	c->want_log = strcmp(json_str_at(doc, "HostConfig.LogConfig.Type", ""), "none") != 0;
	if (*size)
		TRY(num_parse_bytes(sv_of(size), &c->log_max_bytes));
	if (*files)
		TRY(num_parse(sv_of(files), 10, 1, 1000, &n));
	c->log_files = (uint32_t)n;
	return NULL;
}

static enum restart_policy policy(const char *name)
{
	return strcmp(name, "always") == 0	     ? RESTART_ALWAYS :
	       strcmp(name, "on-failure") == 0	     ? RESTART_ON_FAILURE :
	       strcmp(name, "unless-stopped") == 0 ? RESTART_UNLESS_STOPPED :
						       RESTART_NO;
}

static FALLIBLE pack_conf(struct start *s, const struct plan *plan)
{
	struct keeper_conf c = { .version = KEEPER_VERSION };
	auto_buf struct buf p = BUF(8u << 20), b = BUF(16u << 20);
	auto_free char *hoy = NULL;
	int r;

	TRY(engine_program("hoy", &hoy));
	TRY(keeper_conf_text(c.id, sizeof c.id, s->id));
	TRY(keeper_conf_text(c.hoy, sizeof c.hoy, hoy));
	TRY(keeper_conf_text(c.root, sizeof c.root, engine_root(s->e)));
	TRY(keeper_conf_text(c.run, sizeof c.run, engine_run(s->e)));
	ctr_cgroup(s->id, c.cgroup);
	c.tty = json_bool_at(s->doc, "Config.Tty", false);
	c.open_stdin = json_bool_at(s->doc, "Config.OpenStdin", false);
	c.stdin_once = json_bool_at(s->doc, "Config.StdinOnce", false);
	c.want_netns = ctr_wants_netns(s->doc);
	c.is_rm = json_bool_at(s->doc, "HostConfig.AutoRemove", false);
	c.restart = (uint8_t)policy(json_str_at(s->doc, "HostConfig.RestartPolicy.Name", ""));
	c.restart_max = (uint32_t)json_int_at(s->doc, "HostConfig.RestartPolicy.MaximumRetryCount", 0);
	TRY(log_options(s->doc, &c));
	health_conf(json_at(s->doc, "Config.Healthcheck"), &c);
	plan_pack(plan, &p);
	TRY(buf_check(&p, "plan"));
	keeper_conf_pack(&c, &p, &b);
	TRY(buf_check(&b, "keeper configuration"));
	if ((s->conf_fd = sys_memfd("hoy-keeper")) < 0 || (r = sys_write_all(s->conf_fd, b.data, b.n)) < 0)
		return FAIL_OS(s->conf_fd < 0 ? -s->conf_fd : -r, "hand the configuration to the keeper");
	return NULL;
}

static FALLIBLE spawn(struct start *s)
{
	auto_free char *path = NULL;
	auto_fd int theirs = -1, program = -1;
	char by_fd[32];
	int pair[2], r = sys_socketpair(SOCK_SEQPACKET, pair);
	char arg0[] = "hoy-keeper", short_id[13], *argv[] = { arg0, short_id, NULL };

	if (r < 0)
		return FAIL_OS(-r, "make a socket pair");
	s->sock = pair[0];
	theirs = pair[1];
	(void)snprintf(short_id, sizeof short_id, "%.12s", s->id);
	TRY(engine_program("hoy-keeper", &path));
	/* SECURITY: the keeper's child is in the container under this program until it executes (CVE-2019-5736) */
	if ((program = sys_shield(path)) < 0)
		return FAIL_OS(-program, "protect %s from the container", path);
	(void)snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d", program);
	{
		const int fds[KEEPER_FDS] = { -1, -1, -1, s->conf_fd, theirs, s->run_fd, s->home_fd };

		r = s->keeper = sys_spawn_run(&(struct sys_spawn){ by_fd, argv, NULL, fds, KEEPER_FDS, true }, NULL);
	}
	return r < 0 ? FAIL_OS(-r, "start %s", path) : NULL;
}

/* The keeper's next word; START_ERROR becomes the error it carries. */
static FALLIBLE hear(struct start *s, enum start_msg want, int *out_fd)
{
	struct start_error m = { 0 };
	size_t n_fds = 0;
	int fd = -1;
	ssize_t n = sys_recv_fds(s->sock, &m, sizeof m, &fd, 1, &n_fds);

	if (n_fds && out_fd)
		*out_fd = fd;
	else if (n_fds)
		own_close(&fd);
	if (n <= 0)
		return FAIL(ERR_INTERNAL, "the keeper of container %.12s ended before the container was started", s->id);
	if (m.type == START_ERROR)
		return start_error_unpack(&m);
	return m.type == want ? NULL : FAIL(ERR_INTERNAL, "the keeper said something unexpected");
}

/* ---- network ---- */

struct ports {
	VEC(struct net_port) v;
};

static void ports_fini(struct ports *p)
{
	vec_fini(&p->v);
}

static FALLIBLE one_port(const char *key, const json_t *binding, struct ports *out)
{
	struct sv rest = sv_of(key), number = sv_cut(&rest, '/');
	const char *ip = json_str_at(binding, "HostIp", ""), *host = json_str_at(binding, "HostPort", "");
	struct net_port p = { .proto = IPPROTO_TCP };
	uint64_t n, h = 0;

	TRY(num_parse(number, 10, 1, 65535, &n));
	if (sv_is(rest, "udp"))
		p.proto = IPPROTO_UDP;
	else if (rest.n && !sv_is(rest, "tcp"))
		return FAIL(ERR_UNSUPPORTED, "invalid proto: " SV_FMT, SV_ARG(rest));
	if (*host)
		TRY(num_parse(sv_of(host), 10, 0, 65535, &h));
	if (*ip && inet_pton(AF_INET, ip, &p.host_ip) != 1)
		return FAIL(ERR_INVALID, "invalid IP address to publish on: %s", ip);
	p.port = (uint16_t)n;
	p.host_port = (uint16_t)h;
	*vec_push(&out->v) = p;
	return NULL;
}

static FALLIBLE wanted_ports(const json_t *doc, struct ports *out)
{
	const char *key;
	json_t *list, *binding;
	size_t i;

	json_object_foreach (json_at(doc, "HostConfig.PortBindings"), key, list)
		json_array_foreach (list, i, binding)
			TRY(one_port(key, binding, out));
	return NULL;
}

static json_t *ports_json(const json_t *doc, const struct ports *ports)
{
	json_t *map = json_object(), *v;
	const char *exposed;

	for (size_t i = 0; i < ports->v.n; i++) {
		const struct net_port *p = &ports->v.p[i];
		char key[16], ip[INET_ADDRSTRLEN], host[8];

		(void)snprintf(key, sizeof key, "%u/%s", p->port, p->proto == IPPROTO_UDP ? "udp" : "tcp");
		(void)snprintf(host, sizeof host, "%u", p->host_port);
		(void)inet_ntop(AF_INET, &p->host_ip, ip, sizeof ip);
		if (!json_object_get(map, key))
			(void)json_object_set_new(map, key, json_array());
		(void)json_array_append_new(json_object_get(map, key), json_pack("{s:s, s:s}", "HostIp", ip, "HostPort", host));
	}
	json_object_foreach (json_at(doc, "Config.ExposedPorts"), exposed, v)
		if (!json_object_get(map, exposed))
			(void)json_object_set_new(map, exposed, json_null());
	return map;
}

static void record_network(struct start *s, const char *name, const struct net_result *r, const struct ports *ports)
{
	json_t *settings = json_pack("{s:o, s:s, s:s, s:i, s:s, s:s, s:{s:{s:s, s:s, s:s, s:i, s:s}}}", "Ports",
				     ports_json(s->doc, ports), "IPAddress", r->ip, "Gateway", r->gateway, "IPPrefixLen",
				     (int)r->prefix_len, "MacAddress", r->mac, "Bridge", "", "Networks", name, "NetworkID",
				     r->network_id, "IPAddress", r->ip, "Gateway", r->gateway, "IPPrefixLen", (int)r->prefix_len,
				     "MacAddress", r->mac);

	endpoint_carry(s->doc, name, json_object_get(json_object_get(settings, "Networks"), name));
	(void)json_object_set_new(s->doc, "NetworkSettings", settings);
}

static FALLIBLE attach_network(struct start *s)
{
	CLEANUP(ports_fini) struct ports ports = { 0 };
	const char *name = ctr_network(s->doc);
	struct net_result result = { 0 };
	struct net_attach a = { .container = s->id, .network = name, .net_fd = s->net_fd };
	auto_list char **peers = NULL, **names = NULL;
	char short_id[13];
	struct network *n;

	(void)snprintf(short_id, sizeof short_id, "%.12s", s->id);
	if (!ctr_wants_netns(s->doc))
		return write_hosts(s, "", "127.0.0.1");
	if (strcmp(name, "none") == 0) {
		TRY(network_loopback(s->net_fd));
		return write_hosts(s, "", "");
	}
	text_list_add(&names, json_str_at(s->doc, "Name", "/") + 1);
	text_list_add(&names, short_id);
	endpoint_wishes(s->doc, name, &a.want_ip, a.want_mac, &names);
	a.names = names;
	TRY(wanted_ports(s->doc, &ports));
	a.ports = ports.v.p;
	a.n_ports = ports.v.n;
	TRY(engine_network(s->e, &n));
	TRY(network_attach(n, &a, &result));
	record_network(s, name, &result, &ports);
	TRY(write_hosts(s, result.ip, result.gateway));
	TRY(network_peers(n, s->id, &peers));
	return ctr_hosts_refresh(s->e, peers);
}

/* ---- all of it ---- */

static void set_state(json_t *doc, const char *status, bool running, const char *error, int exit_code)
{
	json_t *state = json_object_get(doc, "State");
	char now[TIME_TEXT_MAX];

	(void)json_object_set_new(state, "Status", json_string(status));
	(void)json_object_set_new(state, "Running", json_boolean(running));
	(void)json_object_set_new(state, "Paused", json_false());
	(void)json_object_set_new(state, "Error", json_string(error));
	(void)json_object_set_new(state, "ExitCode", json_integer(exit_code));
	if (running)
		(void)json_object_set_new(state, "StartedAt", json_string(time_format(time_now_ns(), now)));
}

static FALLIBLE launch(struct start *s, struct err *(*on_ready)(void *ctx), void *ctx)
{
	const char go = START_GO;
	const struct iovec iov = { &(char){ go }, 1 };
	struct plan *plan = NULL;
	struct err *e;

	TRY(open_run(s));
	(void)sys_unlink(s->home_fd, "exit"); /* of the run before */
	TRY(write_names(s));
	TRY(write_hosts(s, "", "")); /* it must exist for the plan to bind it; the address comes later */
	TRY(build_plan(s, &plan));
	e = pack_conf(s, plan);
	plan_free(plan);
	TRY(e);
	TRY(spawn(s));
	if (s->shm >= 0) /* the first that the keeper holds behind the layers */
		TRY(share_shm_tell(s->run_fd, s->keeper, RUNTIME_LAYER_FD + (int)text_list_len(s->rootfs.lower)));
	own_close(&s->run_fd); /* the keeper has the lock now */
	s->run_fd = -1;
	TRY(hear(s, START_READY, &s->net_fd));
	TRY(attach_network(s));
	if (on_ready)
		TRY(on_ready(ctx));
	if (sys_unix_send(s->sock, &iov, 1) < 0)
		return FAIL(ERR_INTERNAL, "the keeper of container %.12s is gone", s->id);
	TRY(hear(s, START_STARTED, NULL));
	rootfs_share(engine_snapshotter(s->e), &s->rootfs, s->keeper, RUNTIME_LAYER_FD);
	return NULL;
}

static int exit_code_of(const struct err *e)
{
	return e->kind == ERR_NOT_FOUND ? 127 : e->kind == ERR_DENIED ? 126 : 128;
}

FALLIBLE ctr_start(struct engine *e, const char *id, json_t *doc, struct err *(*on_ready)(void *ctx), void *ctx)
{
	CLEANUP(start_fini) struct start s = {
		.e = e, .id = id, .doc = doc, .run_fd = -1, .home_fd = -1, .sock = -1, .net_fd = -1, .conf_fd = -1, .keeper = -1, .shm = -1
	};
	bool is_rm = json_bool_at(doc, "HostConfig.AutoRemove", false);
	struct err *err;

	if (ctr_state_of(json_str_at(doc, "State.Status", "")) == CTR_RUNNING) /* and RUN knows nothing of it */
		TRY(ctr_sweep(e, id, doc));
	err = launch(&s, on_ready, ctx);
	if (!err) {
		set_state(doc, "running", true, "", 0);
		/* what only lives as long as the container needs no disk: it stands beside the keeper's status */
		return is_rm ? ctr_save_live(e, id, doc) : ctr_save(e, id, doc);
	}
	if (!s.is_marked)
		return err;
	/* Else it would start who waits for our lock, and we for it. */
	if (s.sock >= 0)
		(void)sys_unix_send(s.sock, &(const struct iovec){ &(char){ START_NOT }, 1 }, 1);
	own_close(&s.sock);
	s.sock = -1;
	own_close(&s.run_fd);
	s.run_fd = -1;
	(void)ctr_wait_gone(e, id, 5000);
	err_free(ctr_sweep(e, id, doc));
	err_free(ctr_unmark(e, id));
	set_state(doc, "created", false, err->msg, exit_code_of(err));
	if (!is_rm)
		err_free(ctr_save(e, id, doc));
	return err;
}

FALLIBLE container_start(struct engine *e, const char *text)
{
	auto_json json_t *doc = NULL;
	auto_fd int lock = -1;
	char id[CTR_ID_MAX];
	struct err *err;

	TRY(ctr_resolve(e, text, id));
	err = ctr_lock_settled(e, id, &lock);
	if (err && err->kind == ERR_NOT_FOUND) {
		bool exists = false;

		err_free(ctr_exists(e, id, &exists));
		if (!exists) /* --rm was faster */
			return err;
		err_free(err);
		return FAIL(ERR_NOT_FOUND, "container %s has lost its files: 'hoy rm %s' removes the rest", text, text);
	}
	TRY(err);
	if (ctr_live(e, id, NULL))
		return NULL; /* started already: nothing to do, as docker has it */
	TRY(ctr_load(e, id, &doc));
	return ctr_start(e, id, doc, NULL, NULL);
}
