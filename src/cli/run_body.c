/* run_body.c - see run.h. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/run.h"
#include "engine/signals.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

extern char **environ;

static void set_str(json_t *o, const char *key, const char *value)
{
	if (value && *value)
		(void)json_object_set_new(o, key, json_string(value));
}

static void set_bool(json_t *o, const char *key, bool value)
{
	if (value)
		(void)json_object_set_new(o, key, json_true());
}

static void set_int(json_t *o, const char *key, int64_t value)
{
	if (value)
		(void)json_object_set_new(o, key, json_integer(value));
}

static void set_list(json_t *o, const char *key, char *const *list)
{
	if (list)
		(void)json_object_set_new(o, key, json_from_list(list));
}

static FALLIBLE read_file(const char *path, char **out_text)
{
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	auto_buf struct buf b = BUF(4u << 20);
	ssize_t n = 1;

	if (fd < 0)
		return FAIL_OS(-fd, "open %s", path);
	while (n > 0) {
		char *p = buf_room(&b, 65536);

		if (!p)
			return FAIL(ERR_LIMIT, "%s is too large", path);
		if ((n = sys_read(fd, p, 65536)) < 0)
			return FAIL_OS((int)-n, "read %s", path);
		b.n += (size_t)n;
	}
	*out_text = buf_take(&b);
	return NULL;
}

/* ---- environment and labels ---- */

static FALLIBLE add_env(char ***env, const char *entry)
{
	const char *eq = strchr(entry, '='), *value;

	if (!*entry || eq == entry)
		return FAIL(ERR_INVALID, "invalid environment variable: %s", *entry ? entry : "\"\"");
	if (eq) {
		text_env_set(env, entry);
	} else if ((value = getenv(entry))) { /* the caller's own, when it has one */
		auto_free char *both = xasprintf("%s=%s", entry, value);

		text_env_set(env, both);
	}
	return NULL;
}

/* Lines of NAME=VALUE, NAME or # comments. */
static FALLIBLE each_line(const char *path, struct err *(*line)(void *ctx, const char *text), void *ctx)
{
	auto_free char *text = NULL;
	struct sv rest;

	TRY(read_file(path, &text));
	rest = sv_of(text);
	while (rest.n) {
		struct sv one = sv_cut(&rest, '\n');
		auto_free char *copy = NULL;

		if (one.n && one.p[one.n - 1] == '\r')
			one.n--;
		while (one.n && (one.p[0] == ' ' || one.p[0] == '\t'))
			one = sv_skip(one, 1);
		if (!one.n || one.p[0] == '#')
			continue;
		copy = xstrndup(one.p, one.n);
		TRY(line(ctx, copy));
	}
	return NULL;
}

static FALLIBLE env_line(void *ctx, const char *text)
{
	const char *eq = strchr(text, '=');

	for (const char *c = text; *c && c != eq; c++)
		if (*c == ' ' || *c == '\t')
			return FAIL(ERR_INVALID, "variable '%s' contains whitespaces", text);
	return add_env(ctx, text);
}

static FALLIBLE label_line(void *ctx, const char *text)
{
	const char *eq = strchr(text, '=');
	auto_free char *key = xstrndup(text, eq ? (size_t)(eq - text) : strlen(text));

	if (!*key)
		return FAIL(ERR_INVALID, "invalid label: %s", text);
	(void)json_object_set_new(ctx, key, json_string(eq ? eq + 1 : ""));
	return NULL;
}

static FALLIBLE environment(const struct run_conf *c, json_t *body)
{
	auto_list char **env = NULL;
	json_t *labels = json_object();

	(void)json_object_set_new(body, "Labels", labels);
	for (size_t i = 0; c->env_file && c->env_file[i]; i++)
		TRY(each_line(c->env_file[i], env_line, &env));
	for (size_t i = 0; c->env && c->env[i]; i++)
		TRY(add_env(&env, c->env[i]));
	set_list(body, "Env", env);
	for (size_t i = 0; c->label_file && c->label_file[i]; i++)
		TRY(each_line(c->label_file[i], label_line, labels));
	for (size_t i = 0; c->label && c->label[i]; i++)
		TRY(label_line(labels, c->label[i]));
	return NULL;
}

/* ---- ports ---- */

static FALLIBLE port_range(struct sv text, const char *what, const char *whole, unsigned out[2])
{
	struct sv rest = text, first = sv_cut(&rest, '-');
	uint64_t a, b;
	struct err *e = num_parse(first, 10, 0, 65535, &a);

	b = a;
	if (!e && rest.n)
		e = num_parse(rest, 10, 0, 65535, &b);
	if (e || b < a) {
		err_free(e);
		return FAIL(ERR_INVALID, "invalid %s: " SV_FMT " (in \"%s\")", what, SV_ARG(text), whole);
	}
	out[0] = (unsigned)a;
	out[1] = (unsigned)b;
	return NULL;
}

static void add_binding(json_t *body, json_t *host, unsigned port, struct sv proto, const char *ip, const char *host_port)
{
	char key[32];
	json_t *bindings = json_object_get(host, "PortBindings");

	(void)snprintf(key, sizeof key, "%u/%.*s", port, SV_ARG(proto));
	(void)json_object_set_new(json_object_get(body, "ExposedPorts"), key, json_object());
	if (!host_port)
		return;
	if (!json_object_get(bindings, key))
		(void)json_object_set_new(bindings, key, json_array());
	(void)json_array_append_new(json_object_get(bindings, key), json_pack("{s:s, s:s}", "HostIp", ip, "HostPort", host_port));
}

/* [[ip:]host:]container[/proto]; host and container may be ranges of the same length */
static FALLIBLE publish(const char *text, json_t *body, json_t *host)
{
	struct sv rest = sv_of(text), ports = sv_cut(&rest, '/'), proto = rest.n ? rest : SV("tcp"), part[4];
	unsigned inside[2], outside[2] = { 0, 0 };
	char ip[64] = "", number[16];
	size_t n = 0;

	if (ports.n && ports.p[0] == '[') {
		const char *end = memchr(ports.p, ']', ports.n);

		return FAIL(ERR_UNSUPPORTED, "IPv6 addresses can't be published on yet: %.*s", end ? (int)(end - ports.p + 1) : 1,
			    ports.p);
	}
	while (ports.n && n < 4)
		part[n++] = sv_cut(&ports, ':');
	if (n == 0 || n > 3 || ports.n || (text[0] && text[strlen(text) - 1] == ':'))
		return FAIL(ERR_INVALID, "invalid publish specification: %s", text);
	if (!sv_is(proto, "tcp") && !sv_is(proto, "udp"))
		return FAIL(ERR_INVALID, "invalid proto: " SV_FMT, SV_ARG(proto));
	TRY(port_range(part[n - 1], "containerPort", text, inside));
	if (inside[0] == 0)
		return FAIL(ERR_INVALID, "invalid containerPort: 0 (in \"%s\")", text);
	if (n > 1 && part[n - 2].n)
		TRY(port_range(part[n - 2], "hostPort", text, outside));
	if (n == 3)
		(void)snprintf(ip, sizeof ip, "%.*s", SV_ARG(part[0]));
	if (outside[0] && outside[1] - outside[0] != inside[1] - inside[0])
		return FAIL(ERR_INVALID, "invalid ranges specified for container and host Ports: %s", text);
	for (unsigned i = 0; i <= inside[1] - inside[0]; i++) {
		number[0] = 0;
		if (outside[0])
			(void)snprintf(number, sizeof number, "%u", outside[0] + i);
		add_binding(body, host, inside[0] + i, proto, ip, number);
	}
	return NULL;
}

static FALLIBLE expose(const char *text, json_t *body, json_t *host)
{
	struct sv rest = sv_of(text), ports = sv_cut(&rest, '/');
	unsigned range[2];

	TRY(port_range(ports, "port for --expose", text, range));
	for (unsigned p = range[0]; p <= range[1]; p++)
		add_binding(body, host, p, rest.n ? rest : SV("tcp"), "", NULL);
	return NULL;
}

/* ---- security, devices, limits ---- */

static FALLIBLE security(const struct run_conf *c, json_t *host)
{
	json_t *list = json_array();

	(void)json_object_set_new(host, "SecurityOpt", list);
	for (size_t i = 0; c->security_opt && c->security_opt[i]; i++) {
		const char *text = c->security_opt[i], *file = strpbrk(text, "=:");
		auto_free char *profile = NULL, *whole = NULL;

		if (strncmp(text, "seccomp", 7) == 0 && file && strcmp(file + 1, "unconfined") != 0 &&
		    strcmp(file + 1, "builtin") != 0) {
			struct err *e = read_file(file + 1, &profile);

			if (e)
				return err_ctx(e, "opening seccomp profile");
			whole = xasprintf("seccomp=%s", profile);
			text = whole;
		}
		if (strcmp(text, "systempaths=unconfined") == 0 || strcmp(text, "systempaths:unconfined") == 0) {
			(void)json_object_set_new(host, "MaskedPaths", json_array()); /* where the API has it */
			(void)json_object_set_new(host, "ReadonlyPaths", json_array());
			continue;
		}
		(void)json_array_append_new(list, json_string(text));
	}
	return NULL;
}

static FALLIBLE device_spec(const char *text, json_t *list)
{
	struct sv rest = sv_of(text), host = sv_cut(&rest, ':'), inside = sv_cut(&rest, ':'), mode = rest;

	if (inside.n && !mode.n && inside.p[0] != '/') {
		mode = inside;
		inside = host;
	}
	if (!host.n || host.p[0] != '/')
		return FAIL(ERR_INVALID, "invalid device specification: %s", text);
	(void)json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "PathOnHost", json_stringn(host.p, host.n), "PathInContainer",
						    inside.n ? json_stringn(inside.p, inside.n) : json_stringn(host.p, host.n),
						    "CgroupPermissions", mode.n ? json_stringn(mode.p, mode.n) : json_string("rwm")));
	return NULL;
}

static FALLIBLE limit_value(struct sv text, int64_t *out)
{
	uint64_t v;

	if (sv_is(text, "-1") || sv_is(text, "unlimited")) {
		*out = -1;
		return NULL;
	}
	TRY(num_parse(text, 10, 0, INT64_MAX, &v));
	*out = (int64_t)v;
	return NULL;
}

static FALLIBLE ulimit_spec(const char *text, json_t *list)
{
	static const char *const names[] = { "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
					     "rss", "rtprio", "rttime", "sigpending", "stack", "as" };
	struct sv rest = sv_of(text), name = sv_cut(&rest, '='), soft = sv_cut(&rest, ':');
	int64_t s, h;
	size_t i = 0;

	while (i < LEN(names) && !sv_is(name, names[i]))
		i++;
	if (i == LEN(names))
		return FAIL(ERR_INVALID, "invalid ulimit type: " SV_FMT, SV_ARG(name));
	TRY(limit_value(soft, &s));
	h = s;
	if (rest.n)
		TRY(limit_value(rest, &h));
	if (h != -1 && (s == -1 || s > h))
		return FAIL(ERR_INVALID, "ulimit soft limit must be less than or equal to hard limit: %s", text);
	(void)json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "Name", names[i], "Soft", (json_int_t)s, "Hard", (json_int_t)h));
	return NULL;
}

static FALLIBLE pairs(char *const *list, const char *flag, json_t *object)
{
	for (; list && *list; list++) {
		const char *eq = strchr(*list, '=');
		auto_free char *key = xstrndup(*list, eq ? (size_t)(eq - *list) : 0);

		if (!eq || eq == *list)
			return FAIL(ERR_INVALID, "invalid argument \"%s\" for \"%s\" flag: must be formatted as key=value", *list, flag);
		(void)json_object_set_new(object, key, json_string(eq + 1));
	}
	return NULL;
}

static FALLIBLE restart_policy(const char *text, json_t *host)
{
	const char *colon = strchr(text, ':');
	auto_free char *name = xstrndup(text, colon ? (size_t)(colon - text) : strlen(text));
	uint64_t n = 0;

	if (colon)
		TRY(num_parse(sv_of(colon + 1), 10, 0, INT32_MAX, &n));
	(void)json_object_set_new(host, "RestartPolicy", json_pack("{s:s, s:I}", "Name", name, "MaximumRetryCount", (json_int_t)n));
	return NULL;
}

static FALLIBLE swap(const char *text, json_t *host)
{
	uint64_t v;

	if (strcmp(text, "-1") == 0) {
		set_int(host, "MemorySwap", -1);
		return NULL;
	}
	TRY(num_parse_bytes(sv_of(text), &v));
	set_int(host, "MemorySwap", (int64_t)v);
	return NULL;
}

static FALLIBLE limits(const struct run_conf *c, json_t *host)
{
	json_t *devices = json_array(), *ulimits = json_array(), *sysctls = json_object();

	(void)json_object_set_new(host, "Devices", devices);
	(void)json_object_set_new(host, "Ulimits", ulimits);
	(void)json_object_set_new(host, "Sysctls", sysctls);
	for (size_t i = 0; c->device && c->device[i]; i++)
		TRY(device_spec(c->device[i], devices));
	for (size_t i = 0; c->ulimit && c->ulimit[i]; i++)
		TRY(ulimit_spec(c->ulimit[i], ulimits));
	TRY(pairs(c->sysctl, "--sysctl", sysctls));
	set_int(host, "Memory", (int64_t)c->memory);
	set_int(host, "MemoryReservation", (int64_t)c->memory_reservation);
	if (c->memory_swap)
		TRY(swap(c->memory_swap, host));
	set_int(host, "MemorySwappiness", c->memory_swappiness);
	set_int(host, "NanoCpus", (int64_t)c->cpus);
	set_int(host, "CpuShares", c->cpu_shares);
	set_int(host, "CpuQuota", c->cpu_quota);
	set_int(host, "CpuPeriod", c->cpu_period);
	set_int(host, "PidsLimit", c->pids_limit);
	set_int(host, "BlkioWeight", c->blkio_weight);
	set_int(host, "ShmSize", (int64_t)c->shm_size);
	set_int(host, "OomScoreAdj", c->oom_score_adj);
	set_bool(host, "OomKillDisable", c->oom_kill_disable);
	set_str(host, "CpusetCpus", c->cpuset_cpus);
	set_str(host, "CpusetMems", c->cpuset_mems);
	set_int(host, "CpuRealtimePeriod", c->cpu_rt_period);
	set_int(host, "CpuRealtimeRuntime", c->cpu_rt_runtime);
	return NULL;
}

static FALLIBLE annotations(const struct run_conf *c, json_t *host)
{
	json_t *map = json_object();

	(void)json_object_set_new(host, "Annotations", map);
	return pairs(c->annotation, "--annotation", map);
}

/* HOST:IP or HOST=IP, the address perhaps in [ ] (docker: opts/hosts.go). */
static FALLIBLE extra_hosts(const struct run_conf *c, json_t *host)
{
	json_t *list = json_array();

	(void)json_object_set_new(host, "ExtraHosts", list);
	for (size_t i = 0; c->add_host && c->add_host[i]; i++) {
		const char *text = c->add_host[i], *cut = text + strcspn(text, "=:");
		struct sv ip = sv_of(*cut ? cut + 1 : "");
		auto_free char *entry = NULL;

		if (cut == text || !ip.n)
			return FAIL(ERR_INVALID, "bad format for add-host: \"%s\"", text);
		if (ip.n > 2 && ip.p[0] == '[' && ip.p[ip.n - 1] == ']')
			ip = sv_from(ip.p + 1, ip.n - 2);
		entry = xasprintf("%.*s:" SV_FMT, (int)(cut - text), text, SV_ARG(ip));
		(void)json_array_append_new(list, json_string(entry));
	}
	return NULL;
}

/* DEV:N … as {Path, name of the number} */
static FALLIBLE device_numbers(char *const *list, const char *flag, bool is_bytes, json_t *host, const char *key)
{
	const char *what = strcmp(flag, "--blkio-weight-device") == 0 ? "Weight" : "Rate";
	json_t *all = json_array();

	if (list)
		(void)json_object_set(host, key, all);
	for (; list && *list; list++) {
		const char *colon = strrchr(*list, ':');
		auto_free char *path = xstrndup(*list, colon ? (size_t)(colon - *list) : 0);
		uint64_t n = 0;
		struct err *e = NULL;

		if (colon)
			e = is_bytes ? num_parse_bytes(sv_of(colon + 1), &n) : num_parse(sv_of(colon + 1), 10, 0, INT64_MAX, &n);
		if (!colon || e || strncmp(path, "/dev/", 5) != 0) {
			err_free(e);
			json_decref(all);
			return FAIL(ERR_INVALID, "invalid argument \"%s\" for \"%s\" flag: bad format: must be /dev/NAME:NUMBER", *list,
				    flag);
		}
		(void)json_array_append_new(all, json_pack("{s:s, s:I}", "Path", path, what, (json_int_t)n));
	}
	json_decref(all);
	return NULL;
}

static FALLIBLE device_limits(const struct run_conf *c, json_t *host)
{
	set_list(host, "DeviceCgroupRules", c->device_cgroup_rule);
	TRY(device_numbers(c->blkio_weight_device, "--blkio-weight-device", false, host, "BlkioWeightDevice"));
	TRY(device_numbers(c->device_read_bps, "--device-read-bps", true, host, "BlkioDeviceReadBps"));
	TRY(device_numbers(c->device_write_bps, "--device-write-bps", true, host, "BlkioDeviceWriteBps"));
	TRY(device_numbers(c->device_read_iops, "--device-read-iops", false, host, "BlkioDeviceReadIOps"));
	return device_numbers(c->device_write_iops, "--device-write-iops", false, host, "BlkioDeviceWriteIOps");
}

static FALLIBLE host_part(const struct run_conf *c, json_t *body, json_t *host)
{
	json_t *log = json_object();

	(void)json_object_set_new(host, "LogConfig", json_pack("{s:s, s:o}", "Type", c->log_driver ? c->log_driver : "json-file",
							       "Config", log));
	TRY(pairs(c->log_opt, "--log-opt", log));
	TRY(run_mounts(c, body, host));
	TRY(security(c, host));
	TRY(limits(c, host));
	TRY(device_limits(c, host));
	TRY(annotations(c, host));
	if (c->restart && c->rm && strcmp(c->restart, "no") != 0)
		return FAIL(ERR_INVALID, "conflicting options: cannot specify both --restart and --rm");
	if (c->restart)
		TRY(restart_policy(c->restart, host));
	for (size_t i = 0; c->publish && c->publish[i]; i++)
		TRY(publish(c->publish[i], body, host));
	for (size_t i = 0; c->expose && c->expose[i]; i++)
		TRY(expose(c->expose[i], body, host));
	TRY(extra_hosts(c, host));
	set_list(host, "Dns", c->dns);
	set_list(host, "DnsSearch", c->dns_search);
	set_list(host, "DnsOptions", c->dns_option);
	set_list(host, "CapAdd", c->cap_add);
	set_list(host, "CapDrop", c->cap_drop);
	set_list(host, "GroupAdd", c->group_add);
	set_str(host, "NetworkMode", c->network);
	set_str(host, "IpcMode", c->ipc);
	set_str(host, "PidMode", c->pid);
	set_str(host, "UTSMode", c->uts);
	set_str(host, "UsernsMode", c->userns);
	set_str(host, "CgroupnsMode", c->cgroupns);
	set_bool(host, "AutoRemove", c->rm);
	set_bool(host, "Privileged", c->privileged);
	set_bool(host, "ReadonlyRootfs", c->read_only);
	set_bool(host, "PublishAllPorts", c->publish_all);
	set_bool(host, "Init", c->init);
	set_bool(host, "HoyHostCA", c->host_ca);
	set_str(host, "Isolation", c->isolation);
	set_str(host, "Runtime", c->runtime);
	set_str(host, "HoyUmask", c->umask);
	return NULL;
}

/* Time as docker writes it, into nanoseconds. */
static FALLIBLE health_time(json_t *health, const char *key, const char *option, const char *text)
{
	int64_t ns = 0;
	struct err *e;

	if (text && *text == '-')
		return FAIL(ERR_INVALID, "--%s cannot be negative", option);
	e = text ? num_parse_duration(sv_of(text), &ns) : NULL;
	if (e)
		return err_ctx(e, "--%s", option);
	if (ns)
		(void)json_object_set_new(health, key, json_integer(ns));
	return NULL;
}

static FALLIBLE health_part(const struct run_conf *c, json_t *body)
{
	auto_json json_t *health = json_object();

	if (c->health_retries < 0)
		return FAIL(ERR_INVALID, "--health-retries cannot be negative");
	if (c->health_cmd && *c->health_cmd)
		(void)json_object_set_new(health, "Test", json_pack("[s, s]", "CMD-SHELL", c->health_cmd));
	TRY(health_time(health, "Interval", "health-interval", c->health_interval));
	TRY(health_time(health, "Timeout", "health-timeout", c->health_timeout));
	TRY(health_time(health, "StartPeriod", "health-start-period", c->health_start_period));
	TRY(health_time(health, "StartInterval", "health-start-interval", c->health_start_interval));
	set_int(health, "Retries", c->health_retries);
	if (c->no_healthcheck && json_object_size(health))
		return FAIL(ERR_INVALID, "--no-healthcheck conflicts with --health-* options");
	if (c->no_healthcheck)
		(void)json_object_set_new(health, "Test", json_pack("[s]", "NONE"));
	if (json_object_size(health))
		(void)json_object_set(body, "Healthcheck", health);
	return NULL;
}

static FALLIBLE process_part(const struct run_conf *c, char *const args[], json_t *body)
{
	(void)json_object_set_new(body, "Image", json_string(args[0]));
	if (args[1])
		(void)json_object_set_new(body, "Cmd", json_from_list(args + 1));
	if (c->entrypoint)
		(void)json_object_set_new(body, "Entrypoint", json_pack("[s]", c->entrypoint));
	if (c->workdir && c->workdir[0] != '/')
		return FAIL(ERR_INVALID, "the working directory '%s' is invalid, it needs to be an absolute path", c->workdir);
	if (c->stop_signal && signal_number(c->stop_signal) < 0)
		return FAIL(ERR_INVALID, "invalid signal: %s", c->stop_signal);
	set_str(body, "WorkingDir", c->workdir);
	set_str(body, "User", c->user);
	set_str(body, "Hostname", c->hostname);
	set_str(body, "Domainname", c->domainname);
	set_str(body, "StopSignal", c->stop_signal);
	set_int(body, "StopTimeout", c->stop_timeout);
	TRY(health_part(c, body));
	set_bool(body, "Tty", c->tty);
	set_bool(body, "OpenStdin", c->interactive);
	set_bool(body, "StdinOnce", c->interactive && !c->detach);
	set_bool(body, "AttachStdin", c->interactive && !c->detach);
	set_bool(body, "AttachStdout", !c->detach);
	set_bool(body, "AttachStderr", !c->detach);
	return environment(c, body);
}

/* What is wanted on the network, in docker's place for it. */
static void network_part(const struct run_conf *c, json_t *body)
{
	json_t *wish = json_object();

	if (c->ip)
		(void)json_object_set_new(wish, "IPAMConfig", json_pack("{s:s}", "IPv4Address", c->ip));
	set_list(wish, "Aliases", c->network_alias);
	set_str(wish, "MacAddress", c->mac_address);
	if (json_object_size(wish) == 0)
		json_decref(wish);
	else
		(void)json_object_set_new(body, "NetworkingConfig",
					  json_pack("{s:{s:o}}", "EndpointsConfig", c->network ? c->network : "bridge", wish));
}

FALLIBLE run_body(const struct run_conf *c, char *const args[], json_t **out_body)
{
	auto_json json_t *body = json_object();
	json_t *host = json_pack("{s:{}}", "PortBindings");

	(void)json_object_set_new(body, "HostConfig", host);
	(void)json_object_set_new(body, "ExposedPorts", json_object());
	TRY(process_part(c, args, body));
	TRY(host_part(c, body, host));
	network_part(c, body);
	*out_body = TAKE(body);
	return NULL;
}
