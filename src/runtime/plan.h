/*
 * plan.h - the inside of struct plan: everything the child does, in order, as plain data in one arena.
 *
 * Filled by plan*.c, read by child.c (which allocates nothing), cgroup.c and create.c. Layer: runtime, private.
 */
#pragma once
#include "base/mem.h"
#include "base/vec.h"
#include "runtime/caps.h"
#include "runtime/runtime.h"
#include "runtime/words.h"
#include "sys/sched.h"
#include <linux/filter.h>
#include <string.h>
#include <sys/resource.h>

struct plan_idmap {
	uint32_t inside, outside, count;
};
struct plan_idset {
	const struct plan_idmap *p;
	size_t n;
};
struct plan_mount {
	const char *source, *target, *type; /* type NULL: bind */
	const char **data;		    /* NULL-terminated "key=value" or "flag" for the file system */
	const char **super;		    /* the same: "sync", "lazytime" …, known to the kernel for every file system */
	uint64_t attr_set, attr_clear;	    /* MOUNT_ATTR_* */
	uint64_t rec_set, rec_clear;	    /* the same, recursively (rro …) */
	uint64_t propagation;		    /* MS_PRIVATE … or 0 */
	const char **lower, *upper, *work;  /* of an overlay given layer by layer (lowerdir+=), topmost first; else NULL */
	size_t n_lower;
	const char *subpath;		    /* NULL, or what of it is mounted; links do not lead out */
	struct plan_idset uids, gids;	    /* with idmap: what is inside on the file system is seen as outside */
	bool recursive, is_cgroup, copy_up, copy_link, source_nofollow, target_nofollow, remount, idmap, idmap_tree;
	bool is_held; /* its source is a mount of another process that we copy: runtime_hold_layers */
	bool by_parent; /* it is made whole by sources.c: the child could not open it, or not so safely */
};
struct plan_device {
	const char *path;
	mode_t mode; /* with type bits */
	unsigned major, minor;
	uid_t uid;
	gid_t gid;
};
struct plan_pair {
	const char *key, *value; /* value NULL (limits): what this control group version cannot do, key says what */
};
struct plan_limit {
	int resource;
	struct rlimit limit;
};
enum { PLAN_NEWTIME = 0x80 }; /* CLONE_NEWTIME, which glibc 2.36 has not */
struct plan_bits {
	unsigned long *p;
	size_t n; /* longs; 0: not given */
};
struct plan_ns {
	int kind;	  /* CLONE_NEW* */
	const char *path; /* NULL: a new one */
};
struct plan_netdev {
	const char *host, *name; /* name: in the container, perhaps with "%d" */
};
struct plan_cgroup_rule {
	bool allow;
	char type; /* a b c */
	int64_t major, minor; /* -1: any */
	const char *access;
};
struct plan_rdt {
	bool on, is_own, monitor;  /* is_own: the class is this container's alone */
	const char *clos;          /* the class's directory; "/": the root */
	const char **lines;        /* of schemata, in order */
	size_t n_lines, n_checked; /* the first n_checked must be there when the class is */
};
struct plan_hook {
	const char *path;
	char **args, **env; /* env NULL: not given */
	int timeout_s;
	bool is_inside; /* runs in the container */
	const char *dir; /* its working directory: the bundle; NULL: as it is */
};
enum hook_kind { HOOK_PRESTART, HOOK_CREATE_RUNTIME, HOOK_CREATE_CONTAINER, HOOK_START_CONTAINER, HOOK_POSTSTART,
		 HOOK_POSTSTOP, HOOK_KINDS };

struct plan {
	struct arena arena;
	json_t *source; /* what this was compiled from, for plan_pack; NULL: exec */
	const char *id, *cgroup, *bundle;
	const char *state_head,
	    *state_tail; /* the state document (JSON) but for status and pid, which stand between */
	/* root */
	const char *root;	    /* absolute; the overlay is mounted over it when n_lower */
	const char **lower;
	size_t n_lower;
	const char *upper, *work;
	bool is_volatile, is_user, root_readonly, no_pivot, no_keyring;
	unsigned long root_propagation;
	const char *hostname, *domainname;
	VEC(struct plan_ns) ns;
	VEC(struct plan_idmap) uid_map;
	VEC(struct plan_idmap) gid_map;
	VEC(struct plan_netdev) netdevs;
	VEC(struct plan_mount) mounts;
	VEC(struct plan_device) devices;
	VEC(struct plan_pair) sysctls;
	const char **masked, **readonly;
	/* process */
	bool terminal, no_new_privs, is_exec;
	unsigned rows, cols;
	char **args, **env;
	const char *cwd;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t n_groups;
	bool keep_groups; /* those of the caller stay */
	int umask; /* -1: 022 */
	uint64_t caps[5]; /* bounding effective permitted inheritable ambient */
	bool has_caps;
	VEC(struct plan_limit) limits;
	bool has_oom_score;
	int oom_score;
	bool die_with_parent;
	/* how the kernel is to treat it */
	bool has_scheduler;
	struct sys_sched scheduler;
	int io_priority; /* class << 13 | level; -1: untouched */
	struct plan_bits cpus_initial,
	    cpus_final;   /* exec only: before and after it joins the control group */
	long personality; /* -1: untouched */
	int memory_mode;  /* mode | flags of set_mempolicy(2); -1: untouched */
	struct plan_bits memory_nodes;
	const char *time_offsets;   /* the text for timens_offsets; NULL: none */
	struct sock_filter *filter; /* NULL: none */
	size_t n_filter;
	unsigned filter_flags;
	const char *raw_filter; /* base64 of a program that takes the place of linux.seccomp; NULL: none */
	bool fail_unknown_calls;
	/* SCMP_ACT_NOTIFY: the socket of the agent, and what is sent to it with the listener; NULL: none */
	const char *listener, *listener_head, *listener_metadata;
	char *listener_text; /* room for the whole message, which the child writes */
	size_t listener_room;
	/* cgroup */
	VEC(struct plan_pair) cgroup_v1; /* "memory/memory.limit_in_bytes" -> value */
	VEC(struct plan_pair) cgroup_v2; /* "memory.max" -> value */
	VEC(struct plan_cgroup_rule) device_rules;
	struct plan_rdt rdt;
	const char *mount_label, *mount_context; /* of new file systems, under SELinux: label (NULL: none), name of the option */
	const char *apparmor, *selinux; /* what the program runs as; NULL: untouched */
	VEC(struct plan_hook) hooks[HOOK_KINDS];
	const char *hook_out, *hook_err; /* files for what hooks print; NULL: where we print */
};

/* plan_*.c, each a part of the specification */
FALLIBLE plan_mounts(struct plan *p, const json_t *spec, const char *bundle);
/* What an option is called in a message: a password stays where it is. */
static inline const char *plan_option_name(const char *option)
{
	return strncmp(option, "pass", 4) == 0 ? "password=…" : option;
}
FALLIBLE plan_process(struct plan *p, const json_t *process);
FALLIBLE plan_scheduling(struct plan *p, const json_t *process);
FALLIBLE
plan_policy(
    struct plan *p,
    const json_t *linux_part); /* personality, memoryPolicy, intelRdt, timeOffsets; after the namespaces */
extern const struct word plan_namespaces[]; /* CLONE_NEW* */
extern const char *const plan_hook_names[HOOK_KINDS];
extern const struct word plan_memory_modes[], plan_memory_flags[];
FALLIBLE plan_annotations(struct plan *p, const json_t *annotations);
FALLIBLE plan_resources(struct plan *p, const json_t *resources);
extern const struct word plan_seccomp_actions[], plan_seccomp_ops[], plan_seccomp_flags[], plan_seccomp_arches[];
FALLIBLE plan_seccomp(struct plan *p, const json_t *seccomp);
FALLIBLE plan_seccomp_raw(struct plan *p);     /* p->raw_filter */
FALLIBLE plan_seccomp_default(struct plan *p); /* docker's profile, shaped by p->caps[0] */
const char *plan_text(struct plan *p, const char *s); /* a copy in the arena (NULL stays NULL) */
char **plan_list(struct plan *p, const json_t *array, const char *what, struct err **out_err);
