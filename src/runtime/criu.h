/*
 * criu.h - one order to the criu program in its RPC protocol, "criu swrk".
 *
 * Source: criu's images/rpc.proto. RPC and not criu's command line, because only by it the master of a restored terminal comes
 * to us, and what is restored is born as our child.
 * Layer: runtime, private.  Threads: one.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "runtime/runtime.h"

enum criu_kind { CRIU_DUMP = 1, CRIU_RESTORE = 2, CRIU_PRE_DUMP = 4 };

/* Number in criu_opts, name. */
#define CRIU_OPTS(X)                                                                                         \
	X(1, IMAGES_DIR_FD, "images_dir_fd")                                                                 \
	X(2, PID, "pid")                                                                                     \
	X(3, LEAVE_RUNNING, "leave_running")                                                                 \
	X(4, EXT_UNIX_SK, "ext_unix_sk")                                                                     \
	X(5, TCP_ESTABLISHED, "tcp_established")                                                             \
	X(7, SHELL_JOB, "shell_job")                                                                         \
	X(8, FILE_LOCKS, "file_locks")                                                                       \
	X(9, LOG_LEVEL, "log_level")                                                                         \
	X(10, LOG_FILE, "log_file")                                                                          \
	X(11, PAGE_SERVER, "ps")                                                                             \
	X(12, NOTIFY_SCRIPTS, "notify_scripts")                                                              \
	X(13, ROOT, "root")                                                                                  \
	X(14, PARENT_IMG, "parent_img")                                                                      \
	X(15, TRACK_MEM, "track_mem")                                                                        \
	X(16, AUTO_DEDUP, "auto_dedup")                                                                      \
	X(17, WORK_DIR_FD, "work_dir_fd")                                                                    \
	X(18, LINK_REMAP, "link_remap")                                                                      \
	X(24, MANAGE_CGROUPS, "manage_cgroups")                                                              \
	X(25, CG_ROOT, "cg_root")                                                                            \
	X(26, RST_SIBLING, "rst_sibling")                                                                    \
	X(27, INHERIT_FD, "inherit_fd")                                                                      \
	X(34, MANAGE_CGROUPS_MODE, "manage_cgroups_mode")                                                    \
	X(37, EXTERNAL, "external")                                                                          \
	X(38, EMPTY_NS, "empty_ns")                                                                          \
	X(39, JOIN_NS, "join_ns")                                                                            \
	X(43, CGROUP_DUMP_CONTROLLER, "cgroup_dump_controller")                                              \
	X(44, FREEZE_CGROUP, "freeze_cgroup")                                                                \
	X(46, TCP_SKIP_IN_FLIGHT, "tcp_skip_in_flight")                                                      \
	X(48, LAZY_PAGES, "lazy_pages")                                                                      \
	X(49, STATUS_FD, "status_fd")                                                                        \
	X(50, ORPHAN_PTS_MASTER, "orphan_pts_master")                                                        \
	X(51, CONFIG_FILE, "config_file")                                                                    \
	X(52, TCP_CLOSE, "tcp_close")                                                                        \
	X(53, LSM_PROFILE, "lsm_profile")                                                                    \
	X(56, LSM_MOUNT_CONTEXT, "lsm_mount_context")                                                        \
	X(57, NETWORK_LOCK, "network_lock")
#define CRIU_OPT_(number, id, name) CRIU_##id = (number),
enum criu_opt { CRIU_OPTS(CRIU_OPT_) };
#undef CRIU_OPT_

struct criu_order {
	enum criu_kind kind;
	struct buf opts; /* the encoded criu_opts */
	struct buf text; /* the same for people */
};
#define CRIU_ORDER(kind_) ((struct criu_order){ (kind_), BUF(1 << 20), BUF(1 << 20) })
#define auto_order	  CLEANUP(criu_order_fini)
void criu_order_fini(struct criu_order *o);
void criu_number(struct criu_order *o, enum criu_opt opt, uint64_t value);
void criu_text(struct criu_order *o, enum criu_opt opt, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Messages of two fields. a NULL: without the first. */
void criu_pair(struct criu_order *o, enum criu_opt opt, const char *a, const char *b);
void criu_pair_number(struct criu_order *o, enum criu_opt opt, const char *a, uint64_t b);

/*
 * Runs `program swrk` and waits for its answer. fds: what becomes descriptor CRIU_FDS, … of criu (borrowed); descriptors 0-2
 * are ours. *out_proc: of a restore, pid, pidfd and, when it has a terminal, its master (owned).
 * ERR_UNAVAILABLE "criu dump: …" when criu says no; as the kernel says when it cannot be run.
 */
enum { CRIU_FDS = 4 };
FALLIBLE criu_run(const char *program, const struct criu_order *o, const int *fds, size_t n_fds,
		  struct runtime_proc *out_proc);
