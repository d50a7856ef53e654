/*
 * spec.h - a container's record (inspect shape) as an OCI runtime specification.
 *
 * Pure but for the look into /etc/passwd and /etc/group of the image, through root_fd.
 * Layer: engine (internal).  Specification: runtime-spec 1.2 config.md, config-linux.md; docker's defaults.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include <stdbool.h>
#include <sys/types.h>

struct spec_in {
	const json_t *doc;
	const char *home;      /* ROOT/containers/<id>: hostname, hosts, resolv.conf */
	int root_fd;	       /* the root to look users up in (borrowed; -1: numeric users only) */
	const char *init_path; /* our docker-init on the host; NULL: HostConfig.Init is off */
	const char *ca_path;   /* the host's CA bundle; NULL: not wanted */
};
FALLIBLE spec_build(const struct spec_in *in, json_t **out_spec);

#define SPEC_GROUPS 64
struct spec_user {
	uid_t uid;
	gid_t gid;
	gid_t groups[SPEC_GROUPS];
	size_t n_groups;
	char home[256]; /* "/" when unknown */
};
/* text as in USER: name|uid[:group|gid]; "" is root. ERR_NOT_FOUND "unable to find user …: no matching entries in passwd file" */
FALLIBLE spec_user_find(int root_fd, const char *text, struct spec_user *out_user);
/* process JSON for exec or a step: user, capabilities, env, cwd. caps NULL: none given up. */
json_t *spec_user_json(const struct spec_user *u);
/* The capability sets of docker's default, with add/drop lists (may be NULL); privileged: all. ERR_INVALID unknown name. */
FALLIBLE spec_caps(const json_t *add, const json_t *drop, bool privileged, json_t **out_caps);
/* The default masks, devices and cgroup device rules, mounts; owned. */
json_t *spec_default_mounts(bool rw_sys, int64_t shm_bytes);
json_t *spec_masked_paths(void);
json_t *spec_readonly_paths(void);
/* Where programs look for the CA bundle, and the variables that name it: NULL-terminated. */
extern const char *const spec_ca_paths[];
extern const char *const spec_ca_variables[];
/* The host's bundle, or NULL. */
const char *spec_host_ca(void);
