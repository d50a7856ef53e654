/*
 * run.h - the options of run and create as a Docker API create body.
 *
 * Layer: cli.  Errors: ERR_INVALID in docker's words.
 */
#pragma once
#include "base/err.h"
#include "cli/cmd.h"
#include "codec/json.h"
#include "engine/image.h"
#include <stdint.h>

struct run_conf {
	struct engine_access access;
	/* the process */
	bool interactive, tty, detach, init, read_only, privileged, host_ca, no_sig_proxy, disable_content_trust;
	char **attach, **env, **env_file, **label, **label_file, **group_add;
	const char *workdir, *user, *entrypoint, *hostname, *domainname, *stop_signal, *detach_keys, *umask;
	int stop_timeout, oom_score_adj;
	/* the container */
	bool rm, no_healthcheck, oom_kill_disable, publish_all, quiet;
	const char *name, *cidfile, *pull, *platform, *restart, *log_driver, *volume_driver, *isolation, *runtime, *network, *ip, *mac_address, *ipc, *pid, *uts, *userns, *cgroupns;
	char **log_opt, **volume, **volumes_from, **mount, **tmpfs, **publish, **expose, **add_host, **dns, **dns_search, **dns_option, **network_alias;
	char **cap_add, **cap_drop, **security_opt, **device, **ulimit, **sysctl, **annotation;
	/* the health check */
	const char *health_cmd, *health_interval, *health_timeout, *health_start_period, *health_start_interval;
	int health_retries;
	/* limits */
	uint64_t memory, memory_swap_bytes, memory_reservation, cpus, shm_size;
	const char *memory_swap, *cpuset_cpus, *cpuset_mems;
	int cpu_shares, cpu_quota, cpu_period, cpu_rt_period, cpu_rt_runtime, pids_limit, memory_swappiness, blkio_weight;
	char **device_cgroup_rule, **blkio_weight_device, **device_read_bps, **device_write_bps, **device_read_iops, **device_write_iops;
};
extern const struct opt run_opts[];
/* args: IMAGE [COMMAND…]. Owned body. */
FALLIBLE run_body(const struct run_conf *c, char *const args[], json_t **out_body);
/* run_mounts.c: Binds, Mounts, Tmpfs, VolumesFrom of host, Volumes of body. */
FALLIBLE run_mounts(const struct run_conf *c, json_t *body, json_t *host);
