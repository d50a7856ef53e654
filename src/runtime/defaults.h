/*
 * defaults.h - what docker gives a container unless told otherwise, as data: capabilities, mounts, masks, seccomp.
 *
 * Source: moby oci/defaults.go facts (names and values); runtime-spec config-linux.md. Layer: runtime. Pure.
 */
#pragma once
#include "codec/json.h"

extern const char *const default_caps[];	   /* "CAP_CHOWN" …; NULL-terminated, as all here */
extern const char *const default_masked_paths[];
extern const char *const default_readonly_paths[];
extern const char *const default_env_path;	   /* "PATH=…" */
/* OCI mounts array: /proc /dev /dev/pts /sys /sys/fs/cgroup /dev/mqueue /dev/shm. Owned. */
json_t *default_mounts(uint64_t shm_bytes);
/* OCI device cgroup rules: deny all, then what every container may use. Owned. */
json_t *default_device_rules(void);
/* docker's default seccomp profile as OCI seccomp JSON, for a process with these capabilities. Owned. */
json_t *default_seccomp(const char *const *caps);
/* All capabilities the kernel and our bounding set have, as names; owned list (text_list_free). */
char **all_caps(void);
