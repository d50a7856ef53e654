/* oci_features.c - features (runtime-spec features.md) and spec: what we can do, and a configuration to begin
 * with. */
#include "base/own.h"
#include "runtime/oci.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static struct err *run_features(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_json json_t *v = runtime_features();

	(void)o;
	(void)conf;
	(void)args;
	(void)out_exit;
	return oci_print(v);
}

/* ---- spec ---- */

static const char spec_text[] =
    "{\"ociVersion\":\"1.3.0\",\"process\":{\"terminal\":true,\"user\":{\"uid\":0,\"gid\":0},\"args\":["
    "\"sh\"],\"env\":["
    "\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\"TERM=xterm\"],\"cwd\":\"/"
    "\",\"capabilities\":{"
    "\"bounding\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"],\"effective\":[\"CAP_AUDIT_"
    "WRITE\",\"CAP_KILL\","
    "\"CAP_NET_BIND_SERVICE\"],\"permitted\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"]},"
    "\"rlimits\":[{"
    "\"type\":\"RLIMIT_NOFILE\",\"hard\":1024,\"soft\":1024}],\"noNewPrivileges\":true},\"root\":{\"path\":"
    "\"rootfs\","
    "\"readonly\":true},\"hostname\":\"hoy\",\"mounts\":[{\"destination\":\"/"
    "proc\",\"type\":\"proc\",\"source\":\"proc\"},{"
    "\"destination\":\"/"
    "dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"strictatime\",\"mode=755\","
    "\"size=65536k\"]},{\"destination\":\"/dev/"
    "pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"nosuid\","
    "\"noexec\",\"newinstance\",\"ptmxmode=0666\",\"mode=0620\",\"gid=5\"]},{\"destination\":\"/dev/"
    "shm\",\"type\":\"tmpfs\","
    "\"source\":\"shm\",\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"mode=1777\",\"size=65536k\"]},{"
    "\"destination\":"
    "\"/dev/"
    "mqueue\",\"type\":\"mqueue\",\"source\":\"mqueue\",\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},{"
    "\"destination\":"
    "\"/"
    "sys\",\"type\":\"sysfs\",\"source\":\"sysfs\",\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"ro\"]},{"
    "\"destination\":"
    "\"/sys/fs/"
    "cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\",\"options\":[\"nosuid\",\"noexec\",\"nodev\","
    "\"relatime\","
    "\"ro\"]}],\"linux\":{\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]},\"namespaces\":["
    "{\"type\":\"pid\"},{"
    "\"type\":\"network\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"mount\"},{\"type\":\"cgroup\"}],"
    "\"maskedPaths\":["
    "\"/proc/acpi\",\"/proc/asound\",\"/proc/kcore\",\"/proc/keys\",\"/proc/latency_stats\",\"/proc/"
    "timer_list\","
    "\"/proc/timer_stats\",\"/proc/sched_debug\",\"/proc/scsi\",\"/sys/firmware\",\"/sys/devices/virtual/"
    "powercap\"],"
    "\"readonlyPaths\":[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\",\"/proc/sys\",\"/proc/sysrq-trigger\"]}}";

/* What a user without rights can have: a user namespace around it, the host's network and /sys, no limits. */
static void make_rootless(json_t *spec)
{
	json_t *linux_part = json_object_get(spec, "linux"), *ns = json_object_get(linux_part, "namespaces"),
	       *m;
	size_t i;

	(void)json_object_del(linux_part, "resources");
	(void)json_object_set_new(
	    linux_part, "uidMappings",
	    json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID", (json_int_t)geteuid(), "size", 1));
	(void)json_object_set_new(
	    linux_part, "gidMappings",
	    json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID", (json_int_t)getegid(), "size", 1));
	for (i = json_array_size(ns); i-- > 0;)
		if (strcmp(json_str_at(json_array_get(ns, i), "type", ""), "network") == 0)
			(void)json_array_remove(ns, i);
	(void)json_array_append_new(ns, json_pack("{s:s}", "type", "user"));
	json_array_foreach(json_object_get(spec, "mounts"), i, m)
	{
		const char *at = json_str_at(m, "destination", "");
		json_t *options = json_object_get(m, "options");

		if (strcmp(at, "/sys") == 0) {
			(void)json_object_set_new(m, "type", json_string("none"));
			(void)json_object_set_new(m, "source", json_string("/sys"));
			(void)json_array_insert_new(options, 0, json_string("rbind"));
		} else if (strcmp(at, "/dev/pts") == 0) { /* group 5 has no mapping */
			(void)json_array_remove(options, json_array_size(options) - 1);
		}
	}
}

struct spec_conf {
	const char *bundle, *file;
	bool rootless;
};
static const struct oci_opt spec_opts[] = {
	{ OCI_STR, 'b', "bundle", "DIR", offsetof(struct spec_conf, bundle),
	  "where to write it (default: the working directory)" },
	{ OCI_STR, 'f', "file", "FILE", offsetof(struct spec_conf, file), "under this name (config.json)" },
	{ OCI_FLAG, 0, "rootless", NULL, offsetof(struct spec_conf, rootless),
	  "for a user without root rights" },
	{ .kind = OCI_END },
};

static struct err *run_spec(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	const struct spec_conf *c = conf;
	const char *name = c->file ? c->file : "config.json";
	auto_fd int dir = sys_open_dir(c->bundle ? c->bundle : "."), fd = -1;
	auto_json json_t *spec = NULL;
	auto_buf struct buf b = BUF(1 << 20);
	int r;

	(void)o;
	(void)args;
	(void)out_exit;
	if (dir < 0)
		return FAIL_OS(-dir, "bundle %s", c->bundle ? c->bundle : ".");
	TRY(json_parse(sv_of(spec_text), "spec", sizeof spec_text, &spec));
	if (c->rootless)
		make_rootless(spec);
	json_print_indent(spec, 4, &b);
	buf_ch(&b, '\n');
	TRY(buf_check(&b, "spec"));
	fd = sys_openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd == -EEXIST)
		return FAIL(ERR_EXISTS, "file %s exists. Remove it first", name);
	if (fd < 0)
		return FAIL_OS(-fd, "make %s", name);
	r = sys_write_all(fd, buf_text(&b), b.n);
	return r < 0 ? FAIL_OS(-r, "write %s", name) : NULL;
}

const struct oci_cmd oci_cmd_features = {
	.name = "features",
	.args = "",
	.summary = "Tell what this runtime can do, as JSON",
	.min_args = 0,
	.max_args = 0,
	.run = run_features,
};
const struct oci_cmd oci_cmd_spec = {
	.name = "spec",
	.args = "",
	.summary = "Write a configuration to begin with",
	.opts = spec_opts,
	.conf_size = sizeof(struct spec_conf),
	.min_args = 0,
	.max_args = 0,
	.run = run_spec,
};
