#include "sys/proc.h"
#include "sys/sys.h"
#include <errno.h>
#include <grp.h>
#include <malloc.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t clone_args(struct clone_args *a, int *out_pid_fd)
{
	int fd = -1;
	long r;

	a->flags |= CLONE_PIDFD;
	a->pidfd = (uint64_t)(uintptr_t)&fd;
	r = syscall(SYS_clone3, a, sizeof *a);
	if (r < 0)
		return -errno;
	if (r > 0)
		*out_pid_fd = fd;
	return (pid_t)r;
}

pid_t sys_clone(uint64_t flags, int cgroup_fd, int *out_pid_fd)
{
	struct clone_args a = { .flags = flags, .exit_signal = SIGCHLD };

	SYS_FAULT("clone3");
	if (cgroup_fd >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (unsigned)cgroup_fd;
	}
	return clone_args(&a, out_pid_fd);
}

pid_t sys_clone_sibling(int *out_pid)
{
	SYS_FAULT("clone");
	return sys_ret((int)syscall(SYS_clone, CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, NULL, out_pid, NULL, NULL));
}

void *sys_shared_new(size_t n)
{
	void *p;

	if (sys_fault && sys_fault("mmap"))
		return NULL;
	p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

void sys_shared_free(void *p, size_t n)
{
	if (p)
		(void)munmap(p, n);
}

int sys_setns(int fd, int kind)
{
	SYS_FAULT("setns");
	return sys_ret(setns(fd, kind));
}

int sys_unshare(int flags)
{
	SYS_FAULT("unshare");
	return sys_ret(unshare(flags));
}

int sys_pidfd_open(pid_t pid)
{
	SYS_FAULT("pidfd_open");
	return sys_ret(syscall(SYS_pidfd_open, pid, 0));
}

int sys_pidfd_kill(int pid_fd, int signo)
{
	SYS_FAULT("pidfd_send_signal");
	return sys_ret(syscall(SYS_pidfd_send_signal, pid_fd, signo, NULL, 0));
}

int sys_kill(pid_t pid, int signo)
{
	SYS_FAULT("kill");
	return sys_ret(kill(pid, signo));
}

int sys_wait(pid_t pid, int *out_status, int options)
{
	pid_t r;

	SYS_FAULT("waitpid");
	do
		r = waitpid(pid, out_status, options | __WALL);
	while (r < 0 && errno == EINTR);
	return sys_ret(r);
}

int sys_setsid(void)
{
	SYS_FAULT("setsid");
	return sys_ret(setsid());
}

int sys_dup2(int from, int to)
{
	SYS_FAULT("dup2");
	return sys_ret(dup2(from, to));
}

int sys_close_range(int first, int last)
{
	SYS_FAULT("close_range");
	return sys_ret(syscall(SYS_close_range, first, last, 0));
}

int sys_close_from(int first)
{
	SYS_FAULT("close_range");
	return sys_ret(syscall(SYS_close_range, first, ~0u, CLOSE_RANGE_CLOEXEC));
}

int sys_execve(const char *path, char *const args[], char *const env[])
{
	SYS_FAULT("execve");
	return sys_ret(execve(path, args, env));
}

int sys_sethostname(const char *name, size_t n)
{
	SYS_FAULT("sethostname");
	return sys_ret(sethostname(name, n));
}

int sys_setdomainname(const char *name, size_t n)
{
	SYS_FAULT("setdomainname");
	return sys_ret(setdomainname(name, n));
}

int sys_setrlimit(int resource, const struct rlimit *limit)
{
	SYS_FAULT("setrlimit");
	return sys_ret(setrlimit((unsigned)resource, limit));
}

/* Raw calls: glibc's broadcast to all threads, which takes locks. The child has one thread. */
int sys_setgroups(size_t n, const gid_t *groups)
{
	SYS_FAULT("setgroups");
	return sys_ret(syscall(SYS_setgroups, n, groups));
}

int sys_setresgid(gid_t gid)
{
	SYS_FAULT("setresgid");
	return sys_ret(syscall(SYS_setresgid, gid, gid, gid));
}

int sys_setresuid(uid_t uid)
{
	SYS_FAULT("setresuid");
	return sys_ret(syscall(SYS_setresuid, uid, uid, uid));
}

int sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c)
{
	SYS_FAULT("prctl");
	return sys_ret(prctl(option, a, b, c, 0));
}

int sys_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
		{ (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
	};

	SYS_FAULT("capset");
	return sys_ret(syscall(SYS_capset, &h, d));
}

int sys_capget(uint64_t *out_effective, uint64_t *out_permitted)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { 0 };

	SYS_FAULT("capget");
	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	*out_effective = (uint64_t)d[1].effective << 32 | d[0].effective;
	*out_permitted = (uint64_t)d[1].permitted << 32 | d[0].permitted;
	return 0;
}

int sys_seccomp(const struct sock_fprog *program, unsigned flags)
{
	SYS_FAULT("seccomp");
	return sys_ret(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program));
}

enum { NOT_YET = -1000000 };

struct listener {
	_Atomic int fd;     /* from the filter's installer: NOT_YET, an fd, or -errno */
	_Atomic int result; /* from the sender: NOT_YET, >= 0 or -errno */
	int sock;
	const void *message;
	size_t n;
};

static int listener_thread(void *arg)
{
	const struct timespec moment = { .tv_nsec = 20000 };
	struct listener *l = arg;
	ssize_t r;
	int fd;

	while ((fd = l->fd) == NOT_YET)
		(void)syscall(SYS_nanosleep, &moment, NULL);
	r = fd < 0 ? fd : sys_send_fds(l->sock, l->message, l->n, &fd, 1);
	if (r >= 0 && (size_t)r < l->n)
		r = sys_write_all(l->sock, (const char *)l->message + r, l->n - (size_t)r);
	l->result = (int)(r < 0 ? r : 0);
	return 0;
}

int sys_seccomp_listener(const struct sock_fprog *program, unsigned flags, int sock, const void *message,
			 size_t n)
{
	static char stack[32768] __attribute__((aligned(64)));
	static struct listener l;
	long r;

	SYS_FAULT("seccomp");
	l = (struct listener){ .fd = NOT_YET, .result = NOT_YET, .sock = sock, .message = message, .n = n };
	if (clone(listener_thread, stack + sizeof stack,
		  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, &l) < 0)
		return -errno;
	r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_NEW_LISTENER, program);
	l.fd = r < 0 ? -errno : (int)r;
	while (l.result == NOT_YET)
		__asm__ volatile("" ::: "memory");
	return l.result;
}

int sys_ioctl(int fd, unsigned long request, void *arg)
{
	SYS_FAULT("ioctl");
	return sys_ret(ioctl(fd, request, arg));
}

int sys_ioctl_int(int fd, unsigned long request, int arg)
{
	SYS_FAULT("ioctl");
	return sys_ret(ioctl(fd, request, arg));
}

int sys_join_keyring(const char *name)
{
	SYS_FAULT("keyctl");
	return sys_ret(syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, name, 0, 0, 0));
}

int sys_cpus(void)
{
	cpu_set_t set;

	SYS_FAULT("sched_getaffinity");
	return sched_getaffinity(0, sizeof set, &set) < 0 ? -errno : CPU_COUNT(&set);
}

int sys_getdents(int dir_fd, void *entries, size_t size)
{
	SYS_FAULT("getdents64");
	return sys_ret(syscall(SYS_getdents64, dir_fd, entries, size));
}

int sys_bpf_prog_load(const void *insns, size_t n_insns, const char *license)
{
	union bpf_attr a;

	SYS_FAULT("bpf");
	memset(&a, 0, sizeof a);
	a.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	a.insns = (uint64_t)(uintptr_t)insns;
	a.insn_cnt = (uint32_t)n_insns;
	a.license = (uint64_t)(uintptr_t)license;
	return sys_ret(syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a));
}

int sys_bpf_attach_device(int cgroup_fd, int prog_fd)
{
	union bpf_attr a;

	SYS_FAULT("bpf");
	memset(&a, 0, sizeof a);
	a.target_fd = (uint32_t)cgroup_fd;
	a.attach_bpf_fd = (uint32_t)prog_fd;
	a.attach_type = BPF_CGROUP_DEVICE;
	a.attach_flags = BPF_F_ALLOW_MULTI;
	return sys_ret(syscall(SYS_bpf, BPF_PROG_ATTACH, &a, sizeof a));
}

void sys_memory_trim(void)
{
	const uintptr_t page = 4096, deepest = 512 * 1024, below = 2048; /* below: what the two calls here use themselves */
	volatile char here = 0;
	uintptr_t top = ((uintptr_t)&here - below) & ~(page - 1);

	(void)malloc_trim(0);
	/* part of it was never mapped, which the kernel tells after it has dropped the rest */
	(void)madvise((void *)(top - deepest), deepest, MADV_DONTNEED);
	(void)here;
}
