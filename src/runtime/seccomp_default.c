/*
 * seccomp_default.c - the built-in profile: docker's (moby/profiles, June 2026), as tables of numbers.
 *
 * An allow list; what it does not name answers EPERM, what is newer than it ENOSYS. Groups are added by capabilities of
 * the bounding set. Three differences, all stricter: arguments the kernel takes as 32 bits are compared as 32 bits (a
 * 64-bit comparison lets socket(1 << 32 | AF_ALG) through), x32 calls are refused, other architectures too.
 */
#include "runtime/filter.h"
#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>

enum {
#define S(name, x86_64, i386) X86_64_##name = (x86_64), I386_##name = (i386),
#include "runtime/syscalls.inc"
#undef S
};
#define N(name) { X86_64_##name, I386_##name }

static const int16_t always[][ABI_KINDS] = {
	N(_llseek), N(_newselect), N(accept), N(accept4), N(access), N(adjtimex), N(alarm), N(arch_prctl),
	N(bind), N(brk), N(cachestat), N(capget), N(capset), N(chdir), N(chmod), N(chown), N(chown32),
	N(clock_adjtime), N(clock_adjtime64), N(clock_getres), N(clock_getres_time64), N(clock_gettime),
	N(clock_gettime64), N(clock_nanosleep), N(clock_nanosleep_time64), N(close), N(close_range),
	N(connect), N(copy_file_range), N(creat), N(dup), N(dup2), N(dup3), N(epoll_create),
	N(epoll_create1), N(epoll_ctl), N(epoll_ctl_old), N(epoll_pwait), N(epoll_pwait2), N(epoll_wait),
	N(epoll_wait_old), N(eventfd), N(eventfd2), N(execve), N(execveat), N(exit), N(exit_group),
	N(faccessat), N(faccessat2), N(fadvise64), N(fadvise64_64), N(fallocate), N(fanotify_mark),
	N(fchdir), N(fchmod), N(fchmodat), N(fchmodat2), N(fchown), N(fchown32), N(fchownat), N(fcntl),
	N(fcntl64), N(fdatasync), N(fgetxattr), N(flistxattr), N(flock), N(fork), N(fremovexattr),
	N(fsetxattr), N(fstat), N(fstat64), N(fstatat64), N(fstatfs), N(fstatfs64), N(fsync), N(ftruncate),
	N(ftruncate64), N(futex), N(futex_requeue), N(futex_time64), N(futex_wait), N(futex_waitv),
	N(futex_wake), N(futimesat), N(get_robust_list), N(get_thread_area), N(getcpu), N(getcwd),
	N(getdents), N(getdents64), N(getegid), N(getegid32), N(geteuid), N(geteuid32), N(getgid),
	N(getgid32), N(getgroups), N(getgroups32), N(getitimer), N(getpeername), N(getpgid), N(getpgrp),
	N(getpid), N(getppid), N(getpriority), N(getrandom), N(getresgid), N(getresgid32), N(getresuid),
	N(getresuid32), N(getrlimit), N(getrusage), N(getsid), N(getsockname), N(getsockopt), N(gettid),
	N(gettimeofday), N(getuid), N(getuid32), N(getxattr), N(getxattrat), N(inotify_add_watch),
	N(inotify_init), N(inotify_init1), N(inotify_rm_watch), N(io_cancel), N(io_destroy),
	N(io_getevents), N(io_pgetevents), N(io_pgetevents_time64), N(io_setup), N(io_submit), N(ioctl),
	N(ioprio_get), N(ioprio_set), N(ipc), N(kill), N(landlock_add_rule), N(landlock_create_ruleset),
	N(landlock_restrict_self), N(lchown), N(lchown32), N(lgetxattr), N(link), N(linkat), N(listen),
	N(listmount), N(listxattr), N(listxattrat), N(llistxattr), N(lremovexattr), N(lseek), N(lsetxattr),
	N(lstat), N(lstat64), N(madvise), N(map_shadow_stack), N(membarrier), N(memfd_create),
	N(memfd_secret), N(mincore), N(mkdir), N(mkdirat), N(mknod), N(mknodat), N(mlock), N(mlock2),
	N(mlockall), N(mmap), N(mmap2), N(modify_ldt), N(mprotect), N(mq_getsetattr), N(mq_notify),
	N(mq_open), N(mq_timedreceive), N(mq_timedreceive_time64), N(mq_timedsend), N(mq_timedsend_time64),
	N(mq_unlink), N(mremap), N(mseal), N(msgctl), N(msgget), N(msgrcv), N(msgsnd), N(msync), N(munlock),
	N(munlockall), N(munmap), N(name_to_handle_at), N(nanosleep), N(newfstatat), N(open), N(openat),
	N(openat2), N(pause), N(pidfd_open), N(pidfd_send_signal), N(pipe), N(pipe2), N(pkey_alloc),
	N(pkey_free), N(pkey_mprotect), N(poll), N(ppoll), N(ppoll_time64), N(prctl), N(pread64), N(preadv),
	N(preadv2), N(prlimit64), N(process_mrelease), N(process_vm_readv), N(process_vm_writev),
	N(pselect6), N(pselect6_time64), N(ptrace), N(pwrite64), N(pwritev), N(pwritev2), N(read),
	N(readahead), N(readlink), N(readlinkat), N(readv), N(recvfrom), N(recvmmsg), N(recvmmsg_time64),
	N(recvmsg), N(remap_file_pages), N(removexattr), N(removexattrat), N(rename), N(renameat),
	N(renameat2), N(restart_syscall), N(rmdir), N(rseq), N(rt_sigaction), N(rt_sigpending),
	N(rt_sigprocmask), N(rt_sigqueueinfo), N(rt_sigreturn), N(rt_sigsuspend), N(rt_sigtimedwait),
	N(rt_sigtimedwait_time64), N(rt_tgsigqueueinfo), N(sched_get_priority_max),
	N(sched_get_priority_min), N(sched_getaffinity), N(sched_getattr), N(sched_getparam),
	N(sched_getscheduler), N(sched_rr_get_interval), N(sched_rr_get_interval_time64),
	N(sched_setaffinity), N(sched_setattr), N(sched_setparam), N(sched_setscheduler), N(sched_yield),
	N(seccomp), N(select), N(semctl), N(semget), N(semop), N(semtimedop), N(semtimedop_time64),
	N(sendfile), N(sendfile64), N(sendmmsg), N(sendmsg), N(sendto), N(set_robust_list),
	N(set_thread_area), N(set_tid_address), N(setfsgid), N(setfsgid32), N(setfsuid), N(setfsuid32),
	N(setgid), N(setgid32), N(setgroups), N(setgroups32), N(setitimer), N(setpgid), N(setpriority),
	N(setregid), N(setregid32), N(setresgid), N(setresgid32), N(setresuid), N(setresuid32), N(setreuid),
	N(setreuid32), N(setrlimit), N(setsid), N(setsockopt), N(setuid), N(setuid32), N(setxattr),
	N(setxattrat), N(shmat), N(shmctl), N(shmdt), N(shmget), N(shutdown), N(sigaltstack), N(signalfd),
	N(signalfd4), N(sigprocmask), N(sigreturn), N(socketcall), N(socketpair), N(splice), N(stat),
	N(stat64), N(statfs), N(statfs64), N(statmount), N(statx), N(symlink), N(symlinkat), N(sync),
	N(sync_file_range), N(syncfs), N(sysinfo), N(tee), N(tgkill), N(time), N(timer_create),
	N(timer_delete), N(timer_getoverrun), N(timer_gettime), N(timer_gettime64), N(timer_settime),
	N(timer_settime64), N(timerfd_create), N(timerfd_gettime), N(timerfd_gettime64), N(timerfd_settime),
	N(timerfd_settime64), N(times), N(tkill), N(truncate), N(truncate64), N(ugetrlimit), N(umask),
	N(uname), N(unlink), N(unlinkat), N(uretprobe), N(utime), N(utimensat), N(utimensat_time64),
	N(utimes), N(vfork), N(vmsplice), N(wait4), N(waitid), N(waitpid), N(write), N(writev),
};

static const struct {
	int cap;
	int16_t number[ABI_KINDS];
} with_cap[] = {
	{ CAP_DAC_READ_SEARCH, N(open_by_handle_at) }, { CAP_SYS_ADMIN, N(bpf) },
	{ CAP_SYS_ADMIN, N(clone) }, { CAP_SYS_ADMIN, N(clone3) }, { CAP_SYS_ADMIN, N(fanotify_init) },
	{ CAP_SYS_ADMIN, N(fsconfig) }, { CAP_SYS_ADMIN, N(fsmount) }, { CAP_SYS_ADMIN, N(fsopen) },
	{ CAP_SYS_ADMIN, N(fspick) }, { CAP_SYS_ADMIN, N(lookup_dcookie) },
	{ CAP_SYS_ADMIN, N(lsm_get_self_attr) }, { CAP_SYS_ADMIN, N(lsm_list_modules) },
	{ CAP_SYS_ADMIN, N(lsm_set_self_attr) }, { CAP_SYS_ADMIN, N(mount) },
	{ CAP_SYS_ADMIN, N(mount_setattr) }, { CAP_SYS_ADMIN, N(move_mount) },
	{ CAP_SYS_ADMIN, N(open_tree) }, { CAP_SYS_ADMIN, N(perf_event_open) },
	{ CAP_SYS_ADMIN, N(quotactl) }, { CAP_SYS_ADMIN, N(quotactl_fd) },
	{ CAP_SYS_ADMIN, N(setdomainname) }, { CAP_SYS_ADMIN, N(sethostname) }, { CAP_SYS_ADMIN, N(setns) },
	{ CAP_SYS_ADMIN, N(syslog) }, { CAP_SYS_ADMIN, N(umount) }, { CAP_SYS_ADMIN, N(umount2) },
	{ CAP_SYS_ADMIN, N(unshare) }, { CAP_SYS_BOOT, N(reboot) }, { CAP_SYS_CHROOT, N(chroot) },
	{ CAP_SYS_MODULE, N(delete_module) }, { CAP_SYS_MODULE, N(init_module) },
	{ CAP_SYS_MODULE, N(finit_module) }, { CAP_SYS_PACCT, N(acct) }, { CAP_SYS_PTRACE, N(kcmp) },
	{ CAP_SYS_PTRACE, N(pidfd_getfd) }, { CAP_SYS_PTRACE, N(process_madvise) },
	{ CAP_SYS_RAWIO, N(iopl) }, { CAP_SYS_RAWIO, N(ioperm) }, { CAP_SYS_TIME, N(settimeofday) },
	{ CAP_SYS_TIME, N(stime) }, { CAP_SYS_TIME, N(clock_settime) },
	{ CAP_SYS_TIME, N(clock_settime64) }, { CAP_SYS_TTY_CONFIG, N(vhangup) },
	{ CAP_SYS_NICE, N(get_mempolicy) }, { CAP_SYS_NICE, N(mbind) }, { CAP_SYS_NICE, N(set_mempolicy) },
	{ CAP_SYS_NICE, N(set_mempolicy_home_node) }, { CAP_SYSLOG, N(syslog) }, { CAP_BPF, N(bpf) },
	{ CAP_PERFMON, N(perf_event_open) },
};

#define CLONE_NAMESPACES 0x7e020000u /* every CLONE_NEW* but NEWTIME, which shares its bit with the exit signal */

/* Allowed with these arguments only. without_cap: not needed (the call is free) when the capability is there; -1: always */
static const struct {
	int16_t number[ABI_KINDS];
	int without_cap;
	struct filter_cond when;
} with_args[] = {
	/* all address families but AF_ALG (38) and AF_VSOCK (40) */
	{ N(socket), -1, { 0, OP_LT, true, 38, 0 } },
	{ N(socket), -1, { 0, OP_EQ, true, 39, 0 } },
	{ N(socket), -1, { 0, OP_GT, true, 40, 0 } },
	/* PER_LINUX, PER_LINUX32, both with UNAME26, and the question */
	{ N(personality), -1, { 0, OP_EQ, true, 0x0, 0 } },
	{ N(personality), -1, { 0, OP_EQ, true, 0x8, 0 } },
	{ N(personality), -1, { 0, OP_EQ, true, 0x20000, 0 } },
	{ N(personality), -1, { 0, OP_EQ, true, 0x20008, 0 } },
	{ N(personality), -1, { 0, OP_EQ, true, 0xffffffff, 0 } },
	{ N(clone), CAP_SYS_ADMIN, { 0, OP_MASKED_EQ, true, CLONE_NAMESPACES, 0 } },
};

static bool has(const struct plan *p, int cap)
{
	return cap >= 0 && (p->caps[0] >> cap & 1);
}

static void abi(struct filter_policy *f, const struct plan *p, enum filter_abi_kind k)
{
	for (size_t i = 0; i < LEN(always); i++)
		filter_set(f, k, always[i][k], SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < LEN(with_cap); i++) {
		if (has(p, with_cap[i].cap))
			filter_set(f, k, with_cap[i].number[k], SECCOMP_RET_ALLOW);
		else
			filter_name(f, k, with_cap[i].number[k]);
	}
	for (size_t i = 0; i < LEN(with_args); i++) {
		struct filter_rule r = { SECCOMP_RET_ALLOW, 1, { with_args[i].when } };

		if (!has(p, with_args[i].without_cap))
			filter_when(f, k, with_args[i].number[k], filter_rule(f, &r));
	}
	/* its flags lie in memory, where no filter sees them: the C library falls back to clone */
	if (!has(p, CAP_SYS_ADMIN))
		filter_set(f, k, k == ABI_I386 ? I386_clone3 : X86_64_clone3, SECCOMP_RET_ERRNO | ENOSYS);
}

struct err *plan_seccomp_default(struct plan *p)
{
	struct filter_policy f;
	struct err *e;

	filter_init(&f, SECCOMP_RET_ERRNO | EPERM);
	f.abi[ABI_I386].on = true;
	for (int k = 0; k < ABI_KINDS; k++)
		abi(&f, p, (enum filter_abi_kind)k);
	p->filter_flags = 0;
	e = filter_compile(&f, p);
	filter_fini(&f);
	return e;
}
