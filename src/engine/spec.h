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
	const char *net_path;  /* network namespace to join (container mode); NULL: by NetworkMode */
	pid_t join_pid[2];     /* pid and ipc namespaces of another container, 0: own */
	const char *shm_path;  /* /dev/shm that is shared with other containers: a mount for the keeper to copy; NULL: own */
	const json_t *mounts;  /* the user's, in the specification's words; NULL: none */
	const json_t *seccomp; /* a profile of the user's; NULL: none in the specification */
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
/* Appends a bind to a mounts array. */
void spec_add_bind(json_t *mounts, const char *source, const char *target, bool read_only);
/* Makes the CA bundle readable on the container's own /dev and names it in the variables that programs look at. */
void spec_add_ca(json_t *mounts, char ***env, const char *ca_path);
/* Appends the record's devices (and for a privileged container the host's) and their cgroup rules. ERR_NOT_FOUND, ERR_INVALID. */
FALLIBLE spec_devices(const json_t *doc, bool privileged, json_t *devices, json_t *rules);
/* Weights and rates of block devices (resources.blockIO); owned object, empty when none is wanted. ERR_NOT_FOUND no such device. */
FALLIBLE spec_block_io(const json_t *doc, json_t **out_object);
/* The variables that name a CA bundle: NULL-terminated. */
extern const char *const spec_ca_variables[];
/* The host's bundle, or NULL. */
const char *spec_host_ca(void);
