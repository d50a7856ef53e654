/*
 * cgroup.h - the mounted control group hierarchies, found once per operation. Layer: runtime, private.
 *
 * v1: one hierarchy per line of fstype cgroup in /proc/self/mountinfo; v2: exactly one, with the empty name.
 * A group's path is relative to every hierarchy's mount point: "hoy/<id>". No component may be "." or "..".
 */
#pragma once
#include "base/err.h"
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_OURS "hoy" /* the parent of the engine's groups: made when needed, removed when empty */
#define CGROUP_PATH PATH_MAX

enum { CGROUP_HIERARCHIES = 24 };

struct cgroup_hier {
	char name[56]; /* "memory", "cpu,cpuacct", "systemd" (a named one), "" (v2) */
	char dir[136]; /* mount point */
};
struct cgroup_set {
	bool v2;
	size_t n;
	struct cgroup_hier h[CGROUP_HIERARCHIES];
};
/* ERR_UNSUPPORTED when nothing is mounted. */
FALLIBLE cgroup_set_find(struct cgroup_set *out_set);
/* The hierarchy with this controller; v2: the one there is. NULL: not mounted. */
const struct cgroup_hier *cgroup_find(const struct cgroup_set *s, const char *controller);
/* The hierarchy whose cgroup.procs tells a container's processes: freezer if there. */
const struct cgroup_hier *cgroup_procs_hier(const struct cgroup_set *s);
/* ERR_INVALID: empty, or a component that is empty, "." or "..". */
FALLIBLE cgroup_check_path(const char *path);

/* DIR/path/file as out; file may be "". -ENAMETOOLONG. */
int cgroup_name(const struct cgroup_hier *h, const char *path, const char *file, char out[CGROUP_PATH]);
/* Small files of a group. Both return >= 0 or -errno; read terminates out and returns the length. */
int cgroup_write(const struct cgroup_hier *h, const char *path, const char *file, const char *value);
ssize_t cgroup_read(const struct cgroup_hier *h, const char *path, const char *file, char *out, size_t size);
/* Calls each(ctx, sub) for path and every group below it, parents first; stops at the first result < 0 and
 * returns it. */
int cgroup_walk(const struct cgroup_hier *h, const char *path, int (*each)(void *ctx, const char *sub),
		void *ctx);

struct plan;
/* With its limits and device rules; ERR_CONFLICT: someone lives there. On error nothing is left. */
FALLIBLE cgroup_create(const struct cgroup_set *s, const struct plan *p);
/* The same, but it may be there already with our process in it. */
FALLIBLE cgroup_adopt(const struct cgroup_set *s, const struct plan *p);
/* The first process joins. On v1 a process does that faster by itself, see child_join. */
FALLIBLE cgroup_enter(const struct cgroup_set *s, const char *path, pid_t pid);
FALLIBLE cgroup_join(const char *path, pid_t pid); /* a further one */
/* Kills, then removes; absent is no error. */
FALLIBLE cgroup_remove(const struct cgroup_set *s, const char *path);
/* v2: owned fd of the group for sys_clone; -EOPNOTSUPP on v1; else -errno. */
int cgroup_fd(const struct cgroup_set *s, const char *path);

/* device_bpf.c: rules as an eBPF program of type CGROUP_DEVICE. */
struct device_insn {        /* struct bpf_insn without its bit fields */
	uint8_t code, regs; /* source << 4 | destination */
	int16_t off;
	int32_t imm;
};
struct plan_cgroup_rule;
bool device_rule_is_all(const struct plan_cgroup_rule *r); /* every device, every access */
size_t device_program(const struct plan *p, struct device_insn *out,
		      size_t max); /* 0: more than max instructions */
