/*
 * features.c - what the runtime knows of the specification (runtime-spec features.md, features-linux.md).
 *
 * Lists come from the tables the configuration is read with; the mount options stand here, and a test reads
 * each of them.
 */
#include "codec/json.h"
#include "runtime/caps.h"
#include "runtime/plan.h"
#include "sys/proc.h"
#include <errno.h>
#include <linux/seccomp.h>

static const char *const mount_options[] = {
	"async", "atime", "bind", "copy-symlink", "defaults", "dest-nofollow", "dev", "diratime", "dirsync", "exec", "idmap", "iversion", "lazytime", "loud", "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "rasync", "ratime", "rbind", "rdev", "rdiratime", "rdirsync", "relatime", "remount", "rexec", "ridmap", "rmand", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnomand", "rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid", "rsymfollow", "rsync", "runbindable", "rw", "shared", "silent", "slave", "src-nofollow", "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable",
};

static json_t *words(const struct word *w)
{
	json_t *list = json_array();

	for (; w->name; w++)
		(void)json_array_append_new(list, json_string(w->name));
	return list;
}

static json_t *texts(const char *const *text, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(list, json_string(text[i]));
	return list;
}

/* Those that this kernel takes: without a program it complains about the program only when it knows the flag.
 */
static json_t *supported_flags(void)
{
	json_t *list = json_array();

	for (const struct word *w = plan_seccomp_flags; w->name; w++) {
		unsigned flags = (unsigned)w->value;

		if (flags == SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
			flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
		if (sys_seccomp(NULL, flags) == -EFAULT)
			(void)json_array_append_new(list, json_string(w->name));
	}
	return list;
}

static json_t *capability_names(void)
{
	json_t *list = json_array();

	for (int i = 0; runtime_cap_name(i); i++)
		(void)json_array_append_new(list, json_string(runtime_cap_name(i)));
	return list;
}

static json_t *linux_features(void)
{
	json_t *v = json_object();

	(void)json_object_set_new(v, "namespaces", words(plan_namespaces));
	(void)json_object_set_new(v, "capabilities", capability_names());
	(void)json_object_set_new(v, "cgroup",
				  json_pack("{s:b, s:b, s:b, s:b, s:b}", "v1", 1, "v2", 1, "systemd", 1,
					    "systemdUser", 1, "rdma", 1));
	(void)json_object_set_new(v, "seccomp",
				  json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "enabled", 1, "actions",
					    words(plan_seccomp_actions), "operators", words(plan_seccomp_ops),
					    "archs", words(plan_seccomp_arches), "knownFlags",
					    words(plan_seccomp_flags), "supportedFlags", supported_flags()));
	(void)json_object_set_new(v, "apparmor", json_pack("{s:b}", "enabled", 1));
	(void)json_object_set_new(v, "selinux", json_pack("{s:b}", "enabled", 1));
	(void)json_object_set_new(v, "intelRdt",
				  json_pack("{s:b, s:b, s:b}", "enabled", 1, "schemata", 1, "monitoring", 1));
	(void)json_object_set_new(
	    v, "memoryPolicy",
	    json_pack("{s:o, s:o}", "modes", words(plan_memory_modes), "flags", words(plan_memory_flags)));
	(void)json_object_set_new(v, "mountExtensions", json_pack("{s:{s:b}}", "idmap", "enabled", 1));
	(void)json_object_set_new(v, "netDevices", json_pack("{s:b}", "enabled", 1));
	return v;
}

json_t *runtime_features(void)
{
	static const char *const unsafe[] = { "run.oci.", "org.criu.", "org.systemd.property." };

	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s, s:s}, s:o}", "ociVersionMin", "1.0.0",
			 "ociVersionMax", RUNTIME_SPEC_VERSION, "hooks", texts(plan_hook_names, HOOK_KINDS),
			 "mountOptions", texts(mount_options, LEN(mount_options)), "linux", linux_features(),
			 "annotations", "org.opencontainers.runc.checkpoint.enabled", "true",
			 "run.oci.crun.checkpoint.enabled", "true", "potentiallyUnsafeConfigAnnotations",
			 texts(unsafe, LEN(unsafe)));
}
