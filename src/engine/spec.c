/* spec.c - a container's record as an OCI runtime specification; see spec.h. */
#include "engine/spec.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/ctr.h"
#include "runtime/caps.h"
#include <stdio.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define CA_INSIDE    "/dev/hoy-ca.crt" /* on the container's own /dev, so nothing of it stays in the image */

const char *const spec_ca_variables[] = { "SSL_CERT_FILE",	 "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT",
					  "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO",	 "AWS_CA_BUNDLE",
					  NULL };

static const char *const default_caps[] = { "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD",    "NET_RAW",	  "SETGID",
					    "SETUID", "SETFCAP",     "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL",
					    "AUDIT_WRITE" };

/* ---- capabilities ---- */

static bool names_cap(const json_t *list, int number, bool *out_all, struct err **out_err)
{
	bool found = false;
	size_t i;
	json_t *item;

	json_array_foreach (list, i, item) {
		const char *name = json_is_string(item) ? json_string_value(item) : "";

		if (strcasecmp(name, "ALL") == 0) {
			*out_all = true;
		} else if (runtime_cap_number(name) < 0) {
			*out_err = FAIL(ERR_INVALID, "invalid capability \"%s\"", name);
			return false;
		} else if (runtime_cap_number(name) == number) {
			found = true;
		}
	}
	return found;
}

static bool is_default_cap(int number)
{
	for (size_t i = 0; i < LEN(default_caps); i++)
		if (runtime_cap_number(default_caps[i]) == number)
			return true;
	return false;
}

FALLIBLE spec_caps(const json_t *add, const json_t *drop, bool privileged, json_t **out_caps)
{
	auto_json json_t *list = json_array();
	uint64_t have = runtime_caps_bounding();

	for (int i = 0; runtime_cap_name(i); i++) {
		bool add_all = false, drop_all = false, added, dropped;
		struct err *e = NULL;

		added = names_cap(add, i, &add_all, &e);
		TRY(e);
		dropped = names_cap(drop, i, &drop_all, &e);
		TRY(e);
		if (!(have >> i & 1))
			continue; /* what we do not have we cannot give: "privileged" is all of ours */
		if (added || (!dropped && (privileged || add_all || (!drop_all && is_default_cap(i)))))
			(void)json_array_append_new(list, json_string(runtime_cap_name(i)));
	}
	*out_caps = json_pack("{s:O, s:O, s:O, s:[]}", "bounding", list, "effective", list, "permitted", list, "inheritable");
	return NULL;
}

/* ---- fixed parts ---- */

json_t *spec_default_mounts(bool rw_sys, int64_t shm_bytes)
{
	char shm[40];
	const char *sys = rw_sys ? "rw" : "ro";

	(void)snprintf(shm, sizeof shm, "size=%lld", (long long)(shm_bytes > 0 ? shm_bytes : 64 << 20));
	return json_pack("[{s:s,s:s,s:s,s:[sss]}, {s:s,s:s,s:s,s:[ssss]}, {s:s,s:s,s:s,s:[ssssss]}, {s:s,s:s,s:s,s:[ssss]},"
			 " {s:s,s:s,s:s,s:[ssss]}, {s:s,s:s,s:s,s:[sss]}, {s:s,s:s,s:s,s:[sssss]}]",
			 "destination", "/proc", "type", "proc", "source", "proc", "options", "nosuid", "noexec", "nodev",
			 "destination", "/dev", "type", "tmpfs", "source", "tmpfs", "options", "nosuid", "strictatime", "mode=755",
			 "size=65536k", "destination", "/dev/pts", "type", "devpts", "source", "devpts", "options", "nosuid",
			 "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", "destination", "/sys", "type", "sysfs",
			 "source", "sysfs", "options", "nosuid", "noexec", "nodev", sys, "destination", "/sys/fs/cgroup", "type",
			 "cgroup", "source", "cgroup", "options", sys, "nosuid", "noexec", "nodev", "destination", "/dev/mqueue",
			 "type", "mqueue", "source", "mqueue", "options", "nosuid", "noexec", "nodev", "destination", "/dev/shm",
			 "type", "tmpfs", "source", "shm", "options", "nosuid", "noexec", "nodev", "mode=1777", shm);
}

static json_t *from_array(const char *const *list, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(a, json_string(list[i]));
	return a;
}

json_t *spec_masked_paths(void)
{
	static const char *const paths[] = { "/proc/asound",	 "/proc/acpi",	      "/proc/interrupts", "/proc/kcore",
					     "/proc/keys",	 "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
					     "/proc/sched_debug", "/proc/scsi",	      "/sys/firmware",
					     "/sys/devices/virtual/powercap" };

	return from_array(paths, LEN(paths));
}

json_t *spec_readonly_paths(void)
{
	static const char *const paths[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };

	return from_array(paths, LEN(paths));
}

static void add_rule(json_t *list, bool allow, const char *type, int major, int minor)
{
	json_t *r = json_pack("{s:b, s:s, s:s}", "allow", allow, "type", type, "access", "rwm");

	if (major >= 0)
		(void)json_object_set_new(r, "major", json_integer(major));
	if (minor >= 0)
		(void)json_object_set_new(r, "minor", json_integer(minor));
	(void)json_array_append_new(list, r);
}

/* Deny all; making any node; using the standard ones, terminals, and the pty multiplexer. */
static json_t *device_rules(bool privileged)
{
	static const int allowed[][2] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 }, { 5, 0 }, { 5, 1 }, { 5, 2 }, { 136, -1 } };
	json_t *list = json_array();

	add_rule(list, privileged, "a", -1, -1);
	if (privileged)
		return list;
	(void)json_array_append_new(list, json_pack("{s:b, s:s, s:s}", "allow", true, "type", "c", "access", "m"));
	(void)json_array_append_new(list, json_pack("{s:b, s:s, s:s}", "allow", true, "type", "b", "access", "m"));
	for (size_t i = 0; i < LEN(allowed); i++)
		add_rule(list, true, "c", allowed[i][0], allowed[i][1]);
	return list;
}

const char *spec_host_ca(void)
{
	static const char *const paths[] = { "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
					     "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem" };
	const char *given = getenv("SSL_CERT_FILE");

	if (given && access(given, R_OK) == 0)
		return given;
	for (size_t i = 0; i < LEN(paths); i++)
		if (access(paths[i], R_OK) == 0)
			return paths[i];
	return NULL;
}

void spec_add_bind(json_t *mounts, const char *source, const char *target, bool read_only)
{
	(void)json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:[s, s, s]}", "destination", target, "type", "bind",
						      "source", source, "options", "rbind", "rprivate", read_only ? "ro" : "rw"));
}

void spec_add_ca(json_t *mounts, char ***env, const char *ca_path)
{
	spec_add_bind(mounts, ca_path, CA_INSIDE, true);
	for (const char *const *v = spec_ca_variables; *v; v++) {
		auto_free char *entry = xasprintf("%s=%s", *v, CA_INSIDE);

		if (!text_env_get(*env, *v))
			text_env_set(env, entry);
	}
}

/* ---- process ---- */

static FALLIBLE environment(const struct spec_in *in, const struct spec_user *u, char ***out_env)
{
	auto_list char **given = NULL, **env = NULL;
	const char *hostname = json_str_at(in->doc, "Config.Hostname", "");
	auto_free char *home = xasprintf("HOME=%s", u->home), *host = xasprintf("HOSTNAME=%s", hostname);

	TRY(json_list_at(in->doc, "Config.Env", &given));
	text_list_add(&env, DEFAULT_PATH);
	if (*hostname)
		text_list_add(&env, host);
	if (json_bool_at(in->doc, "Config.Tty", false))
		text_list_add(&env, "TERM=xterm");
	for (size_t i = 0; given && given[i]; i++)
		text_env_set(&env, given[i]);
	if (!text_env_get(env, "HOME"))
		text_list_add(&env, home);
	*out_env = TAKE(env);
	return NULL;
}

static FALLIBLE add_groups(const struct spec_in *in, struct spec_user *u)
{
	const json_t *list = json_at(in->doc, "HostConfig.GroupAdd");
	size_t i;
	json_t *item;

	json_array_foreach (list, i, item) {
		auto_free char *text = xasprintf("0:%s", json_string_value(item));
		struct spec_user extra;

		TRY(spec_user_find(in->root_fd, text, &extra));
		if (u->n_groups < SPEC_GROUPS)
			u->groups[u->n_groups++] = extra.gid;
	}
	return NULL;
}

static bool no_new_privileges(const json_t *doc)
{
	size_t i;
	json_t *item;

	json_array_foreach (json_at(doc, "HostConfig.SecurityOpt"), i, item) {
		const char *s = json_string_value(item);

		if (!strcmp(s, "no-new-privileges") || !strcmp(s, "no-new-privileges:true") || !strcmp(s, "no-new-privileges=true"))
			return true;
	}
	return false;
}

static json_t *rlimits(const json_t *doc)
{
	json_t *list = json_array(), *item;
	size_t i;

	json_array_foreach (json_at(doc, "HostConfig.Ulimits"), i, item) {
		char name[64] = "RLIMIT_";
		size_t n = strlen(name);

		for (const char *s = json_str_at(item, "Name", ""); *s && n + 1 < sizeof name; s++)
			name[n++] = (char)(*s >= 'a' && *s <= 'z' ? *s - 32 : *s);
		name[n] = 0;
		(void)json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "type", name, "soft",
							    (json_int_t)json_int_at(item, "Soft", -1), "hard",
							    (json_int_t)json_int_at(item, "Hard", -1)));
	}
	return list;
}

static FALLIBLE process(const struct spec_in *in, json_t *mounts, json_t **out_process)
{
	const json_t *doc = in->doc;
	bool privileged = json_bool_at(doc, "HostConfig.Privileged", false);
	auto_list char **env = NULL, **args = NULL, **rest = NULL;
	auto_json json_t *caps = NULL;
	const char *cwd = json_str_at(doc, "Config.WorkingDir", "");
	struct spec_user u;

	TRY(spec_user_find(in->root_fd, json_str_at(doc, "Config.User", ""), &u));
	TRY(add_groups(in, &u));
	TRY(environment(in, &u, &env));
	if (in->ca_path)
		spec_add_ca(mounts, &env, in->ca_path);
	TRY(spec_caps(json_at(doc, "HostConfig.CapAdd"), json_at(doc, "HostConfig.CapDrop"), privileged, &caps));
	if (in->init_path) {
		spec_add_bind(mounts, in->init_path, "/sbin/docker-init", true);
		text_list_add(&args, "/sbin/docker-init");
		text_list_add(&args, "--");
	}
	text_list_add(&args, json_str_at(doc, "Path", ""));
	TRY(json_list_at(doc, "Args", &rest));
	for (size_t i = 0; rest && rest[i]; i++)
		text_list_add(&args, rest[i]);
	*out_process = json_pack("{s:b, s:o, s:o, s:o, s:s, s:O, s:o, s:b, s:I}", "terminal",
				 json_bool_at(doc, "Config.Tty", false), "user", spec_user_json(&u), "args", json_from_list(args),
				 "env", json_from_list(env), "cwd", *cwd ? cwd : "/", "capabilities", caps, "rlimits",
				 rlimits(doc), "noNewPrivileges", no_new_privileges(doc), "oomScoreAdj",
				 (json_int_t)json_int_at(doc, "HostConfig.OomScoreAdj", 0));
	if (json_array_size(json_at(doc, "HostConfig.ConsoleSize")) == 2) {
		const json_t *size = json_at(doc, "HostConfig.ConsoleSize");

		(void)json_object_set_new(*out_process, "consoleSize",
					  json_pack("{s:I, s:I}", "height", json_integer_value(json_array_get(size, 0)), "width",
						    json_integer_value(json_array_get(size, 1))));
	}
	return NULL;
}

/* ---- mounts ---- */

static bool is_mounted(const json_t *doc, const char *target)
{
	size_t i;
	json_t *m;

	json_array_foreach (json_at(doc, "Mounts"), i, m)
		if (strcmp(json_str_at(m, "Destination", ""), target) == 0)
			return true;
	return false;
}

static void own_files(const struct spec_in *in, json_t *mounts)
{
	static const char *const files[] = { "resolv.conf", "hostname", "hosts" };

	for (size_t i = 0; i < LEN(files); i++) {
		auto_free char *source = xasprintf("%s/%s", in->home, files[i]), *target = xasprintf("/etc/%s", files[i]);

		if (!is_mounted(in->doc, target) && access(source, F_OK) == 0)
			spec_add_bind(mounts, source, target, false);
	}
}

/* What the user mounts at a place of ours replaces it. */
static void drop_replaced(json_t *mounts, const json_t *doc)
{
	for (size_t i = json_array_size(mounts); i-- > 0;)
		if (is_mounted(doc, json_str_at(json_array_get(mounts, i), "destination", "")))
			(void)json_array_remove(mounts, i);
}

/* ---- the whole ---- */

static json_t *namespaces(const struct spec_in *in)
{
	const json_t *doc = in->doc;
	json_t *list = json_pack("[{s:s}]", "type", "mount");
	const struct {
		const char *type, *mode;
	} all[] = { { "pid", json_str_at(doc, "HostConfig.PidMode", "") },
		    { "ipc", json_str_at(doc, "HostConfig.IpcMode", "") },
		    { "uts", json_str_at(doc, "HostConfig.UTSMode", "") },
		    { "cgroup", json_str_at(doc, "HostConfig.CgroupnsMode", "") } };
	static const char *const files[] = { "pid", "ipc" };

	for (size_t i = 0; i < LEN(all); i++) {
		pid_t other = i < 2 ? in->join_pid[i] : 0;

		if (strcmp(all[i].mode, "host") == 0)
			continue;
		if (other) {
			auto_free char *path = xasprintf("/proc/%d/ns/%s", (int)other, files[i]);

			(void)json_array_append_new(list, json_pack("{s:s, s:s}", "type", all[i].type, "path", path));
		} else {
			(void)json_array_append_new(list, json_pack("{s:s}", "type", all[i].type));
		}
	}
	if (in->net_path)
		(void)json_array_append_new(list, json_pack("{s:s, s:s}", "type", "network", "path", in->net_path));
	else if (ctr_wants_netns(doc))
		(void)json_array_append_new(list, json_pack("{s:s}", "type", "network"));
	return list;
}

static void set_if(json_t *object, const char *key, int64_t value)
{
	if (value)
		(void)json_object_set_new(object, key, json_integer(value));
}

static json_t *resources(const json_t *doc, json_t *rules, json_t *blk)
{
	const json_t *h = json_object_get(doc, "HostConfig");
	json_t *memory = json_object(), *cpu = json_object(), *pids = json_object();
	int64_t nano = json_int_at(h, "NanoCpus", 0);
	static const char *const cpusets[][2] = { { "CpusetCpus", "cpus" }, { "CpusetMems", "mems" } };

	set_if(memory, "limit", json_int_at(h, "Memory", 0));
	set_if(memory, "reservation", json_int_at(h, "MemoryReservation", 0));
	set_if(memory, "swap", json_int_at(h, "MemorySwap", 0));
	if (json_is_integer(json_object_get(h, "MemorySwappiness")) && json_int_at(h, "MemorySwappiness", -1) >= 0)
		(void)json_object_set_new(memory, "swappiness", json_integer(json_int_at(h, "MemorySwappiness", 0)));
	if (json_bool_at(h, "OomKillDisable", false))
		(void)json_object_set_new(memory, "disableOOMKiller", json_true());
	set_if(cpu, "shares", json_int_at(h, "CpuShares", 0));
	set_if(cpu, "quota", nano ? nano / 10000 : json_int_at(h, "CpuQuota", 0));
	set_if(cpu, "period", nano ? 100000 : json_int_at(h, "CpuPeriod", 0));
	set_if(cpu, "realtimePeriod", json_int_at(h, "CpuRealtimePeriod", 0));
	set_if(cpu, "realtimeRuntime", json_int_at(h, "CpuRealtimeRuntime", 0));
	for (size_t i = 0; i < LEN(cpusets); i++)
		if (*json_str_at(h, cpusets[i][0], ""))
			(void)json_object_set_new(cpu, cpusets[i][1], json_string(json_str_at(h, cpusets[i][0], "")));
	if (json_int_at(h, "PidsLimit", 0) != 0)
		(void)json_object_set_new(pids, "limit", json_integer(json_int_at(h, "PidsLimit", 0)));
	return json_pack("{s:o, s:o*, s:o*, s:o*, s:O*}", "devices", rules, "memory", memory, "cpu", cpu, "pids",
			 json_object_size(pids) ? pids : (json_decref(pids), NULL), "blockIO",
			 json_object_size(blk) ? blk : NULL);
}

static FALLIBLE set_umask(json_t *process_part, const char *text)
{
	uint64_t n;

	TRY(num_parse(sv_of(text), 8, 0, 0777, &n));
	(void)json_object_set_new(json_object_get(process_part, "user"), "umask", json_integer((json_int_t)n));
	return NULL;
}

/* docker's, unless others are given; a privileged container sees all. */
static void hidden_paths(const json_t *doc, bool privileged, json_t *linux_part)
{
	json_t *masked = json_at(doc, "HostConfig.MaskedPaths"), *readonly = json_at(doc, "HostConfig.ReadonlyPaths");

	if (privileged)
		return;
	(void)json_object_set_new(linux_part, "maskedPaths", json_is_array(masked) ? json_deep_copy(masked) : spec_masked_paths());
	(void)json_object_set_new(linux_part, "readonlyPaths",
				  json_is_array(readonly) ? json_deep_copy(readonly) : spec_readonly_paths());
}

/* /dev/shm belongs to the IPC namespace: the host's with the host's, another container's with its, none with none. */
static void shared_memory(const struct spec_in *in, json_t *mounts)
{
	const json_t *doc = in->doc;
	const char *ipc = json_str_at(doc, "HostConfig.IpcMode", "");
	bool host = strcmp(ipc, "host") == 0;

	if ((!host && !in->shm_path && strcmp(ipc, "none") != 0) || is_mounted(doc, "/dev/shm"))
		return;
	for (size_t i = json_array_size(mounts); i-- > 0;)
		if (strcmp(json_str_at(json_array_get(mounts, i), "destination", ""), "/dev/shm") == 0)
			(void)json_array_remove(mounts, i);
	if (host)
		spec_add_bind(mounts, "/dev/shm", "/dev/shm", false);
	if (in->shm_path)
		(void)json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:[s, s, s, s, s, s]}", "destination", "/dev/shm", "type",
							      "bind", "source", in->shm_path, "options", "bind", "hoy.held", "nosuid",
							      "noexec", "nodev", "rprivate"));
}

FALLIBLE spec_build(const struct spec_in *in, json_t **out_spec)
{
	const json_t *doc = in->doc, *sysctls = json_at(doc, "HostConfig.Sysctls");
	bool privileged = json_bool_at(doc, "HostConfig.Privileged", false);
	auto_json json_t *mounts = spec_default_mounts(privileged, json_int_at(doc, "HostConfig.ShmSize", 0));
	auto_json json_t *process_part = NULL, *linux_part = NULL, *rules = device_rules(privileged), *devices = json_array(), *blk = NULL;
	bool host_uts = strcmp(json_str_at(doc, "HostConfig.UTSMode", ""), "host") == 0;

	drop_replaced(mounts, doc);
	shared_memory(in, mounts);
	TRY(process(in, mounts, &process_part));
	(void)json_array_extend(mounts, (json_t *)(uintptr_t)in->mounts);
	own_files(in, mounts); /* they stand also in an /etc of the user's */
	TRY(spec_devices(doc, privileged, devices, rules));
	TRY(spec_block_io(doc, &blk));
	linux_part = json_pack("{s:o, s:o, s:O}", "namespaces", namespaces(in), "resources", resources(doc, json_incref(rules), blk),
			       "devices", devices);
	hidden_paths(doc, privileged, linux_part);
	if (json_object_size(sysctls))
		(void)json_object_set_new(linux_part, "sysctl", json_deep_copy(sysctls));
	if (*json_str_at(doc, "HostConfig.HoyUmask", ""))
		TRY(set_umask(process_part, json_str_at(doc, "HostConfig.HoyUmask", "")));
	if (in->seccomp)
		(void)json_object_set_new(linux_part, "seccomp", json_deep_copy(in->seccomp));
	*out_spec = json_pack("{s:s, s:{s:s, s:b}, s:O, s:O, s:O}", "ociVersion", "1.0.2", "root", "path", "rootfs", "readonly",
			      json_bool_at(doc, "HostConfig.ReadonlyRootfs", false), "mounts", mounts, "process", process_part,
			      "linux", linux_part);
	if (json_object_size(json_at(doc, "HostConfig.Annotations")))
		(void)json_object_set(*out_spec, "annotations", json_at(doc, "HostConfig.Annotations"));
	if (!host_uts && *json_str_at(doc, "Config.Hostname", ""))
		(void)json_object_set_new(*out_spec, "hostname", json_string(json_str_at(doc, "Config.Hostname", "")));
	if (!host_uts && *json_str_at(doc, "Config.Domainname", ""))
		(void)json_object_set_new(*out_spec, "domainname", json_string(json_str_at(doc, "Config.Domainname", "")));
	return NULL;
}
