/*
 * sys.h - every system call we make, one thin function each: >= 0 or -errno, no policy, no messages.
 *
 * sys_fault (NULL outside tests) may veto a call by returning an errno; FAULT_SWEEP vetoes each in turn.
 * Every fd is born close-on-exec. Calls are retried after EINTR where that is safe.
 * This header holds files and fds; mount.h ns.h cgroup.h proc.h netlink.h … hold the rest, by subject.
 * Layer: sys.  Threads: any.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

extern int (*sys_fault)(const char *call);

/* First line of every wrapper: returns the injected error, if any. */
#define SYS_FAULT(call)                                   \
	do {                                              \
		int fault_ = sys_fault ? sys_fault(call) : 0; \
		if (fault_)                               \
			return -fault_;                   \
	} while (0)
/* Turns a libc result into >= 0 or -errno. */
int sys_ret(long r);

int sys_open(const char *path, int flags, mode_t mode); /* a path the user or we named: symlinks allowed. Owned fd */
int sys_open_dir(const char *path);			/* the same for a directory. Owned fd */
int sys_openat(int dir_fd, const char *name, int flags, mode_t mode); /* one component of our own, no symlink. Owned fd */
int sys_open_beneath(int dir_fd, const char *path, int flags, mode_t mode); /* openat2, no links at all. Owned fd */
int sys_open_same_mount(int dir_fd, const char *name, int flags); /* no link, and -EXDEV where something is mounted. Owned fd */
int sys_open_in_root(int dir_fd, const char *path, int flags, mode_t mode); /* links resolved as in a chroot. Owned fd */
/* openat2 in a procfs without crossing a mount: -EXDEV when something is mounted over a part of path. Owned fd */
int sys_open_in_proc(int proc_fd, const char *path, int flags);
ssize_t sys_read(int fd, void *p, size_t n);
ssize_t sys_write(int fd, const void *p, size_t n);
ssize_t sys_pread(int fd, void *p, size_t n, off_t at);
int sys_write_all(int fd, const void *p, size_t n);
int sys_pwrite_all(int fd, const void *p, size_t n, off_t at);
ssize_t sys_read_full(int fd, void *p, size_t n); /* until n bytes or the end; returns how many */
/* Closes them, in one call for each run of consecutive numbers; negative ones are skipped. */
void sys_close_all(const int *fds, size_t n);
int sys_close(int fd);				  /* only where the result matters; never retried */
int sys_fsync(int fd);
int sys_fdatasync(int fd);
int sys_syncfs(int fd);
/* Has the kernel begin to write these bytes to disk, without waiting for it: a later sync has less to do. Only a hint. */
int sys_write_behind(int fd, off_t at, off_t n);
/* The pages of these bytes that are on disk leave memory. Only a hint. */
int sys_drop_pages(int fd, off_t at, off_t n);
/* Room on disk for the first n bytes of a file, whose size stays. -EOPNOTSUPP: the file system has no such thing. */
int sys_reserve(int fd, off_t n);
int sys_ftruncate(int fd, off_t size);
off_t sys_lseek(int fd, off_t at, int whence);
int sys_rename(int dir_fd, const char *from, const char *to);
int sys_renameat(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int sys_link(int from_fd, const char *from, int to_fd, const char *to);
int sys_link_fd(int fd, int to_fd, const char *to); /* a name for the open file itself */
int sys_symlink(const char *target, int dir_fd, const char *name);
int sys_unlink(int dir_fd, const char *name);
int sys_rmdir(int dir_fd, const char *name);
int sys_mkdir(int dir_fd, const char *name, mode_t mode);
int sys_mknod(int dir_fd, const char *name, mode_t mode, dev_t dev);
int sys_fchmod(int fd, mode_t mode);
int sys_chmodat(int dir_fd, const char *name, mode_t mode); /* follows a link: for what is known to be none */
int sys_fchown(int fd, uid_t uid, gid_t gid);
int sys_fchownat(int dir_fd, const char *name, uid_t uid, gid_t gid, int flags);
int sys_utimens(int dir_fd, const char *name, const struct timespec times[2], int flags);
int sys_fstat(int fd, struct stat *out_st);
int sys_fstatat(int dir_fd, const char *name, struct stat *out_st, int flags);
bool sys_is_mount(int dir_fd, const char *name); /* something is mounted there, in any namespace; before Linux 5.8 never */
/* Bytes of its file system: free for who may not use the reserve, and in all (NULL: not asked). 0 or -errno. */
int sys_room(int fd, uint64_t *out_free, uint64_t *out_size);
ssize_t sys_readlink(int dir_fd, const char *name, char *out, size_t size); /* terminated; -ENAMETOOLONG if cut */
int sys_dup(int fd);							    /* owned fd */
int sys_pipe(int out_fds[2]);						    /* owned fds, close-on-exec */
int sys_socketpair(int type, int out_fds[2]);				    /* AF_UNIX; owned fds */
int sys_memfd(const char *name);					    /* owned fd */
int sys_flock(int fd, int operation);
/* The POSIX lock of a file's first byte, for writing. -EAGAIN: process *out_pid has it. Goes with any close of the file by us. */
int sys_lock_byte(int fd, pid_t *out_pid);
/* From now on a memory fault at [from, to) ends the process: message (borrowed) to stderr, exit code 125. Others do what they did. */
void sys_on_memory_fault(uintptr_t from, uintptr_t to, const char *message);
int sys_cloexec(int fd, int on);
ssize_t sys_copy_range(int in_fd, int out_fd, size_t n); /* kernel-side copy at the file positions; 0 at the end */
/* Sends or receives bytes with up to max_fds descriptors (SCM_RIGHTS). Received fds are owned and close-on-exec. */
ssize_t sys_send_fds(int sock, const void *p, size_t n, const int *fds, size_t n_fds);
ssize_t sys_recv_fds(int sock, void *p, size_t n, int *out_fds, size_t max_fds, size_t *out_n_fds);
