/*
 * create.c - a create body (Docker API) becomes a record: checked, merged with the image's configuration, named.
 *
 * Order: everything is checked; the directory is made and locked; one transaction names the container. A directory without
 * a record and without a lock is what a crash left; reconcile removes it.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "engine/container.h"
#include "engine/create_check.h"
#include "engine/ctr.h"
#include "engine/endpoint.h"
#include "engine/health.h"
#include "engine/mounts.h"
#include "engine/names.h"
#include "engine/volume_work.h"
#include "state/db.h"
#include "sys/entropy.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

/* ---- what we know how to do; anything else that asks for something is refused ---- */

static const char *const body_keys[] = { "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr",
					 "ExposedPorts", "Tty", "OpenStdin", "StdinOnce", "Env", "Cmd", "Image", "Volumes",
					 "WorkingDir", "Entrypoint", "OnBuild", "Labels", "StopSignal",
					 "StopTimeout", "HostConfig", "NetworkingConfig", "ArgsEscaped", "Platform", "Healthcheck", NULL };
static const char *const host_keys[] = {
	"Binds", "VolumesFrom", "VolumeDriver", "ContainerIDFile", "LogConfig", "NetworkMode", "PortBindings", "RestartPolicy", "AutoRemove", "ConsoleSize",
	"CapAdd", "CapDrop", "CgroupnsMode", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "IpcMode",
	"OomScoreAdj", "PidMode", "Privileged", "PublishAllPorts", "ReadonlyRootfs", "SecurityOpt", "Tmpfs", "UTSMode",
	"UsernsMode", "ShmSize", "Sysctls", "Mounts", "Init", "CpuShares", "Memory", "NanoCpus", "BlkioWeight",
	"CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems", "Devices", "MemoryReservation", "MemorySwap", "MemorySwappiness",
	"OomKillDisable", "PidsLimit", "Ulimits", "HoyHostCA", "HoyUmask", "CpuRealtimePeriod", "CpuRealtimeRuntime",
	"DeviceCgroupRules", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps",
	"BlkioDeviceWriteIOps", "Annotations", "MaskedPaths", "ReadonlyPaths", "Isolation", "Runtime", NULL
};

static bool asks_for_nothing(const json_t *v)
{
	return json_is_null(v) || json_is_false(v) || (json_is_string(v) && !json_string_length(v)) ||
	       (json_is_number(v) && json_number_value(v) == 0) || (json_is_array(v) && !json_array_size(v)) ||
	       (json_is_object(v) && !json_object_size(v));
}

static FALLIBLE check_keys(const json_t *object, const char *const *known, const char *where)
{
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)object, key, v) {
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i] && !asks_for_nothing(v))
			return FAIL(ERR_UNSUPPORTED, "%s%s is not supported", where, key);
	}
	return NULL;
}

/* The network of NetworkMode may be named again, with an address and aliases (endpoint.h); further networks are not to be had. */
static FALLIBLE check_endpoints(const json_t *body)
{
	static const char *const endpoint_keys[] = { "IPAMConfig", "Aliases", "MacAddress", NULL }, *const ipam_keys[] = { "IPv4Address", NULL };
	const char *mode = json_str_at(body, "HostConfig.NetworkMode", "bridge"), *name;
	json_t *endpoint;

	json_object_foreach (json_at(body, "NetworkingConfig.EndpointsConfig"), name, endpoint) {
		char where[512];

		if (strcmp(name, strcmp(mode, "default") == 0 || !*mode ? "bridge" : mode) != 0)
			return FAIL(ERR_UNSUPPORTED, "a container on a second network (%s) is not supported", name);
		(void)snprintf(where, sizeof where, "NetworkingConfig.EndpointsConfig.%.200s.", name);
		TRY(check_keys(endpoint, endpoint_keys, where));
		(void)snprintf(where, sizeof where, "NetworkingConfig.EndpointsConfig.%.200s.IPAMConfig.", name);
		TRY(check_keys(json_object_get(endpoint, "IPAMConfig"), ipam_keys, where));
	}
	return NULL;
}

static bool is_one_of(const char *text, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(*list, text) == 0)
			return true;
	return false;
}

static FALLIBLE check_modes(const json_t *h)
{
	static const char *const ns[] = { "", "private", "host", NULL };
	static const char *const ipc[] = { "", "private", "shareable", "none", "host", NULL };
	static const char *const userns[] = { "", "host", NULL };
	static const char *const restart[] = { "", "no", "always", "on-failure", "unless-stopped", NULL };
	static const char *const drivers[] = { "", "json-file", "none", NULL };
	static const char *const keys[] = { "IpcMode", "PidMode", "UTSMode", "CgroupnsMode" };
	const char *policy = json_str_at(h, "RestartPolicy.Name", ""), *driver = json_str_at(h, "LogConfig.Type", "");

	for (size_t i = 0; i < LEN(keys); i++) {
		const char *mode = json_str_at(h, keys[i], "");

		if (!is_one_of(mode, i == 0 ? ipc : ns) && !(i < 2 && strncmp(mode, "container:", 10) == 0))
			return FAIL(ERR_INVALID, "invalid %s: %s", keys[i], mode);
	}
	if (!is_one_of(json_str_at(h, "UsernsMode", ""), userns))
		return FAIL(ERR_INVALID, "invalid UsernsMode: %s", json_str_at(h, "UsernsMode", ""));
	if (!is_one_of(policy, restart))
		return FAIL(ERR_INVALID, "invalid restart policy '%s'", policy);
	if (json_int_at(h, "RestartPolicy.MaximumRetryCount", 0) && strcmp(policy, "on-failure") != 0)
		return FAIL(ERR_INVALID, "maximum retry count cannot be used with restart policy '%s'", policy);
	if (json_bool_at(h, "AutoRemove", false) && *policy && strcmp(policy, "no") != 0)
		return FAIL(ERR_CONFLICT, "can't create 'AutoRemove' container with restart policy");
	if (!is_one_of(driver, drivers))
		return FAIL(ERR_UNSUPPORTED, "logger: no log driver named '%s' is registered", driver);
	return NULL;
}

static FALLIBLE check_limits(const json_t *h)
{
	int64_t memory = json_int_at(h, "Memory", 0), swap = json_int_at(h, "MemorySwap", 0);
	int64_t reservation = json_int_at(h, "MemoryReservation", 0);

	if (memory < 0 || (memory > 0 && memory < 6 << 20))
		return FAIL(ERR_INVALID, "Minimum memory limit allowed is 6MB");
	if (swap > 0 && memory == 0)
		return FAIL(ERR_INVALID, "You should always set the Memory limit when using Memoryswap limit, see usage");
	if (swap > 0 && swap < memory)
		return FAIL(ERR_INVALID, "Minimum memoryswap limit should be larger than memory limit, see usage");
	if (reservation && memory && reservation > memory)
		return FAIL(ERR_INVALID, "Minimum memory limit can not be less than memory reservation limit, see usage");
	if (json_int_at(h, "NanoCpus", 0) && (json_int_at(h, "CpuQuota", 0) || json_int_at(h, "CpuPeriod", 0)))
		return FAIL(ERR_INVALID, "Conflicting options: Nano CPUs and CPU Period cannot both be set");
	if (json_int_at(h, "NanoCpus", 0) > sysconf(_SC_NPROCESSORS_ONLN) * INT64_C(1000000000))
		return FAIL(ERR_INVALID, "Range of CPUs is from 0.01 to %ld.00, as there are only %ld CPUs available",
			    sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_NPROCESSORS_ONLN));
	return NULL;
}

static FALLIBLE check_body(const json_t *body)
{
	const json_t *h = json_object_get(body, "HostConfig");
	auto_json json_t *caps = NULL;

	if (!json_is_object(body) || (h && !json_is_object(h)))
		return FAIL(ERR_INVALID, "config cannot be empty in order to create a container");
	TRY(check_keys(body, body_keys, ""));
	TRY(check_keys(h, host_keys, "HostConfig."));
	TRY(check_endpoints(body));
	TRY(check_modes(h));
	TRY(check_limits(h));
	TRY(create_check(body, h));
	if (*json_str_at(body, "WorkingDir", "/") && json_str_at(body, "WorkingDir", "/")[0] != '/')
		return FAIL(ERR_INVALID, "the working directory '%s' is invalid, it needs to be an absolute path",
			    json_str_at(body, "WorkingDir", ""));
	return spec_caps(json_object_get(h, "CapAdd"), json_object_get(h, "CapDrop"), json_bool_at(h, "Privileged", false), &caps);
}

/* ---- merge with the image ---- */

static bool is_given(const json_t *v)
{
	return v && !asks_for_nothing(v);
}

static void merge_env(json_t *config, const json_t *image)
{
	auto_list char **env = NULL, **own = NULL;

	err_free(json_list_at(image, "Env", &env));
	err_free(json_list_at(config, "Env", &own));
	for (size_t i = 0; own && own[i]; i++)
		text_env_set(&env, own[i]);
	(void)json_object_set_new(config, "Env", json_from_list(env));
}

static void merge_map(json_t *config, const json_t *image, const char *key)
{
	json_t *map = json_object();

	(void)json_object_update(map, json_object_get(image, key));
	(void)json_object_update(map, json_object_get(config, key));
	(void)json_object_set_new(config, key, map);
}

/* An entrypoint of the user's puts the image's command away; [""] resets it. */
static void merge_command(json_t *config, const json_t *image)
{
	const json_t *entry = json_object_get(config, "Entrypoint");
	bool reset = json_array_size(entry) == 1 && !*json_string_value(json_array_get(entry, 0));

	if (!json_array_size(entry)) {
		if (!is_given(json_object_get(config, "Cmd")) && json_object_get(image, "Cmd"))
			(void)json_object_set_new(config, "Cmd", json_deep_copy(json_object_get(image, "Cmd")));
		if (json_object_get(image, "Entrypoint"))
			(void)json_object_set_new(config, "Entrypoint", json_deep_copy(json_object_get(image, "Entrypoint")));
	}
	if (reset)
		(void)json_object_set_new(config, "Entrypoint", json_null());
}

static json_t *merged_config(const json_t *body, const json_t *image, const char *id)
{
	static const char *const texts[] = { "User", "WorkingDir", "StopSignal" };
	json_t *config = json_deep_copy(body), *health;
	char hostname[13];

	(void)json_object_del(config, "HostConfig");
	(void)json_object_del(config, "NetworkingConfig");
	(void)json_object_del(config, "Platform");
	merge_env(config, image);
	merge_map(config, image, "Labels");
	merge_map(config, image, "Volumes");
	merge_map(config, image, "ExposedPorts");
	for (size_t i = 0; i < LEN(texts); i++)
		if (!is_given(json_object_get(config, texts[i])))
			(void)json_object_set_new(config, texts[i], json_string(json_str_at(image, texts[i], "")));
	merge_command(config, image);
	health = health_merge(json_object_get(config, "Healthcheck"), json_object_get(image, "Healthcheck"));
	if (health)
		(void)json_object_set_new(config, "Healthcheck", health);
	else
		(void)json_object_del(config, "Healthcheck");
	if (json_array_size(json_object_get(image, "Shell")))
		(void)json_object_set(config, "Shell", json_object_get(image, "Shell"));
	(void)snprintf(hostname, sizeof hostname, "%.12s", id);
	if (!is_given(json_object_get(config, "Hostname")))
		(void)json_object_set_new(config, "Hostname", json_string(hostname));
	return config;
}

static FALLIBLE command(const json_t *config, json_t **out_args)
{
	auto_json json_t *all = json_array();

	(void)json_array_extend(all, json_object_get(config, "Entrypoint"));
	(void)json_array_extend(all, json_object_get(config, "Cmd"));
	for (size_t i = 0; i < json_array_size(all); i++)
		if (!json_is_string(json_array_get(all, i)))
			return FAIL(ERR_INVALID, "the command is not a list of strings");
	if (json_array_size(all) == 0)
		return FAIL(ERR_INVALID, "no command specified");
	*out_args = TAKE(all);
	return NULL;
}

/* ---- ports ---- */

/* {"80/tcp": [{HostIp, HostPort}]}: what the start publishes; -P adds every exposed port. */
static void publish_all(json_t *host, const json_t *config)
{
	json_t *bindings = json_object_get(host, "PortBindings");
	const char *port;
	json_t *v;

	if (!json_bool_at(host, "PublishAllPorts", false))
		return;
	json_object_foreach (json_object_get(config, "ExposedPorts"), port, v)
		if (!json_object_get(bindings, port))
			(void)json_object_set_new(bindings, port, json_pack("[{s:s, s:s}]", "HostIp", "", "HostPort", ""));
}

/* ---- the record ---- */

static void set_default(json_t *object, const char *key, json_t *value)
{
	if (!is_given(json_object_get(object, key)))
		(void)json_object_set_new(object, key, value);
	else
		json_decref(value);
}

static json_t *host_config(const json_t *body, const json_t *config)
{
	json_t *h = json_object_get(body, "HostConfig") ? json_deep_copy(json_object_get(body, "HostConfig")) : json_object();

	set_default(h, "NetworkMode", json_string("bridge"));
	if (strcmp(json_str_at(h, "NetworkMode", ""), "default") == 0)
		(void)json_object_set_new(h, "NetworkMode", json_string("bridge"));
	set_default(h, "PortBindings", json_object());
	set_default(h, "RestartPolicy", json_pack("{s:s, s:i}", "Name", "no", "MaximumRetryCount", 0));
	set_default(h, "LogConfig", json_pack("{s:s, s:{}}", "Type", "json-file", "Config"));
	if (!*json_str_at(h, "LogConfig.Type", ""))
		(void)json_object_set_new(json_object_get(h, "LogConfig"), "Type", json_string("json-file"));
	set_default(h, "ShmSize", json_integer(64 << 20));
	set_default(h, "IpcMode", json_string("private"));
	set_default(h, "CgroupnsMode", json_string("private"));
	publish_all(h, config);
	return h;
}

static json_t *state_created(void)
{
	return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:i, s:i, s:s, s:s, s:s}", "Status", "created", "Running", false, "Paused",
			 false, "Restarting", false, "OOMKilled", false, "Dead", false, "Pid", 0, "ExitCode", 0, "Error", "",
			 "StartedAt", "0001-01-01T00:00:00Z", "FinishedAt", "0001-01-01T00:00:00Z");
}

static json_t *record(struct engine *e, const char *id, const struct engine_image *image, json_t *config, json_t *host)
{
	auto_free char *home = ctr_path(e, id, NULL);
	char now[TIME_TEXT_MAX], path[4][512];
	static const char *const files[] = { "resolv.conf", "hostname", "hosts" };

	for (size_t i = 0; i < LEN(files); i++)
		(void)snprintf(path[i], sizeof path[i], "%s/%s", home, files[i]);
	(void)snprintf(path[3], sizeof path[3], "%s/%s-json.log", home, id);
	return json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:o, s:o, s:{s:{}, s:s, s:s, s:i, s:s, s:{}},"
			 " s:{s:o}}",
			 "Id", id, "Created", time_format(time_now_ns(), now), "State", state_created(), "Image", image->id,
			 "ResolvConfPath", path[0], "HostnamePath", path[1], "HostsPath", path[2], "LogPath", path[3],
			 "RestartCount", 0, "Driver", "overlay2", "Platform", "linux", "HostConfig", host, "Config", config,
			 "NetworkSettings", "Ports", "IPAddress", "", "Gateway", "", "IPPrefixLen", 0, "MacAddress", "",
			 "Networks", "Hoy", "Layers", json_from_list(image->diff_ids));
}

static FALLIBLE build_record(struct engine *e, const char *id, const json_t *body, const struct engine_image *image,
			     json_t **out_doc)
{
	const json_t *image_config = json_object_get(image->config, "config");
	auto_json json_t *args = NULL;
	json_t *config = merged_config(body, image_config, id), *host, *doc;
	struct err *err = command(config, &args);

	if (err) {
		json_decref(config);
		return err;
	}
	host = host_config(body, config);
	doc = record(e, id, image, config, host);
	(void)json_object_set_new(doc, "Driver", json_string(engine_image_driver(e, image->diff_ids)));
	err = endpoint_keep(body, doc);
	if (err) {
		json_decref(doc);
		return err;
	}
	(void)json_object_set(doc, "Path", json_array_get(args, 0));
	(void)json_array_remove(args, 0);
	(void)json_object_set(doc, "Args", args);
	*out_doc = doc;
	return NULL;
}

/* ---- the name ---- */

struct naming {
	struct engine *e;
	const char *id, *wanted; /* NULL: make one up */
	json_t *doc;
};

static FALLIBLE choose_name(struct db_txn *txn, const struct naming *n, char out_name[256])
{
	struct sv owner;
	bool taken = true;

	if (n->wanted) {
		(void)snprintf(out_name, 256, "%s", n->wanted);
		TRY(db_get(txn, DB_CONTAINER_NAME, out_name, &owner, &taken));
		return taken ? FAIL(ERR_CONFLICT,
				    "Conflict. The container name \"/%s\" is already in use by container \"%.*s\". You have to "
				    "remove (or rename) that container to be able to reuse that name.",
				    out_name, SV_ARG(owner)) :
			       NULL;
	}
	for (int i = 0; taken && i < 1000; i++) {
		names_random(out_name, i > 5);
		TRY(db_get(txn, DB_CONTAINER_NAME, out_name, &owner, &taken));
	}
	return taken ? FAIL(ERR_LIMIT, "no free container name found: give one") : NULL;
}

static FALLIBLE commit(const struct naming *n)
{
	auto_txn struct db_txn *txn = NULL;
	auto_buf struct buf b = BUF(1u << 20);
	auto_free char *slashed = NULL;
	char name[256];

	TRY((json_bool_at(n->doc, "HostConfig.AutoRemove", false) ? db_begin_passing : db_begin_write)(engine_db(n->e), &txn));
	TRY(choose_name(txn, n, name));
	slashed = xasprintf("/%s", name);
	(void)json_object_set_new(n->doc, "Name", json_string(slashed));
	json_print(n->doc, &b);
	TRY(buf_check(&b, "container record"));
	TRY(db_put(txn, DB_CONTAINER, n->id, sv_from(b.data, b.n)));
	TRY(db_put(txn, DB_CONTAINER_NAME, name, sv_of(n->id)));
	return db_commit(TAKE(txn));
}

/* ---- all of it ---- */

/* Made and locked. Between the two a command that reconciles may have taken it for a dead one's: then again. */
static int open_home(const char *path)
{
	for (int tries = 0; tries < 100; tries++) {
		int r = sys_mkdir(AT_FDCWD, path, 0710);
		auto_fd int fd = r < 0 ? r : sys_open_dir(path);
		struct stat st;

		if (fd == -ENOENT && r >= 0)
			continue;
		if (fd < 0 || (r = sys_flock(fd, LOCK_EX)) < 0 || (r = sys_fstat(fd, &st)) < 0)
			return fd < 0 ? fd : r;
		if (st.st_nlink)
			return TAKE_FD(fd);
	}
	return -EBUSY;
}

static FALLIBLE make_home(struct engine *e, const char *id, int *out_fd)
{
	auto_free char *path = ctr_path(e, id, NULL);
	int fd = open_home(path);

	if (fd < 0) {
		(void)sys_rmdir(AT_FDCWD, path);
		return FAIL_OS(-fd, "create %s", path);
	}
	*out_fd = fd;
	return NULL;
}

static FALLIBLE check_name(const char *name)
{
	if (name && *name == '/')
		name++;
	if (name && (strlen(name) > 200 || !text_is_name(sv_of(name))))
		return FAIL(ERR_INVALID, "Invalid container name (%.255s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
	return NULL;
}

FALLIBLE container_create(struct engine *e, const char *name, const json_t *body, char **out_id)
{
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };
	CLEANUP(mounts_hold_fini) struct mounts_hold hold = { .fds = { 0 } };
	auto_json json_t *doc = NULL;
	auto_fd int home = -1;
	char id[CTR_ID_MAX];
	struct err *err;

	TRY(check_name(name));
	TRY(check_body(body));
	TRY(engine_image_get(e, json_str_at(body, "Image", ""), &image));
	sys_random_hex(id, 32);
	TRY(build_record(e, id, body, &image, &doc));
	TRY(make_home(e, id, &home));
	err = mounts_plan(e, &image, doc, &hold);
	if (!err)
		err = commit(&(struct naming){ e, id, name && *name == '/' ? name + 1 : name, doc });
	if (err) {
		auto_free char *path = ctr_path(e, id, NULL);

		mounts_hold_fini(&hold);
		err_free(volume_forget_of(e, id));
		err_free(ctr_remove_tree(AT_FDCWD, path));
		return err;
	}
	*out_id = xstrdup(id);
	return NULL;
}
