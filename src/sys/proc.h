/*
 * proc.h - processes, namespaces, credentials, seccomp, terminals: >= 0 or -errno, no policy.
 *
 * Everything here is safe between clone and execve: no malloc, no locks. Layer: sys.
 */
#pragma once
#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* clone3 with these namespace flags, fork-like. 0 in the child. out_pid_fd owned. cgroup_fd >= 0: born in that v2 cgroup. */
pid_t sys_clone(uint64_t flags, int cgroup_fd, int *out_pid_fd);
/*
 * The last birth of a process that is to be born with nothing its program may not have: a child of our parent, whose number (in
 * our pid namespace) the kernel writes to *out_pid before either returns. 0 in the child, which begins in the pid namespace that
 * setns gave us for children. clone(2), because profiles of seccomp know its flags and not those of clone3.
 */
pid_t sys_clone_sibling(int *out_pid);
/* Zeroed memory that children share; NULL: none to be had. */
void *sys_shared_new(size_t n);
void sys_shared_free(void *p, size_t n); /* p may be NULL */
int sys_setns(int fd, int kind);
int sys_unshare(int flags);
int sys_pidfd_open(pid_t pid);
int sys_pidfd_kill(int pid_fd, int signo);
int sys_kill(pid_t pid, int signo);
/* Waits for the child; *out_status as from waitpid. */
int sys_wait(pid_t pid, int *out_status, int options);
int sys_setsid(void);
int sys_dup2(int from, int to);
int sys_close_range(int first, int last); /* closes them all; the last may be INT_MAX */
int sys_close_from(int first); /* marks all fds >= first close-on-exec */
int sys_execve(const char *path, char *const args[], char *const env[]);
int sys_sethostname(const char *name, size_t n);
int sys_setdomainname(const char *name, size_t n);
int sys_setrlimit(int resource, const struct rlimit *limit);
int sys_setgroups(size_t n, const gid_t *groups);
int sys_setresgid(gid_t gid);
int sys_setresuid(uid_t uid);
int sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c);
/* capget/capset with 64-bit sets. */
int sys_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable);
int sys_capget(uint64_t *out_effective, uint64_t *out_permitted);
int sys_seccomp(const struct sock_fprog *program, unsigned flags);
/*
 * The same with a listener for SECCOMP_RET_USER_NOTIF, whose fd goes with a message over the stream socket
 * sock. A thread that was there before the filter sends it, so no call of the sender can be caught by what it
 * is to report; we wait without any call. The thread is gone with the next execve. flags: without TSYNC.
 */
int sys_seccomp_listener(const struct sock_fprog *program, unsigned flags, int sock, const void *message,
			 size_t n);
int sys_ioctl(int fd, unsigned long request, void *arg);
int sys_ioctl_int(int fd, unsigned long request, int arg);
int sys_join_keyring(const char *name); /* a new session keyring */
int sys_cpus(void); /* how many processors we may run on */
int sys_getdents(int dir_fd, void *entries, size_t size); /* struct dirent64s; 0 at the end */
int sys_bpf_prog_load(const void *insns, size_t n_insns, const char *license); /* BPF_PROG_TYPE_CGROUP_DEVICE; owned fd */
int sys_bpf_attach_device(int cgroup_fd, int prog_fd);
/* For who waits long: gives back free heap, and the pages of the stack below the caller that earlier calls used. */
void sys_memory_trim(void);
