/*
 * sys.c - files and fds. One idea: a wrapper is its fault hook, the call, and sys_ret. close is never retried
 * (after EINTR Linux has already freed the number); reads and writes are.
 */
#include "sys/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

int (*sys_fault)(const char *call);

int sys_ret(long r)
{
	return r < 0 ? -errno : (int)r;
}

#define RETRY(call)                                   \
	({                                            \
		long r_;                              \
		do                                    \
			r_ = (long)(call);            \
		while (r_ < 0 && errno == EINTR);     \
		r_;                                   \
	})

int sys_open(const char *path, int flags, mode_t mode)
{
	SYS_FAULT("open");
	return sys_ret(RETRY(open(path, flags | O_CLOEXEC, mode)));
}

int sys_open_dir(const char *path)
{
	return sys_open(path, O_RDONLY | O_DIRECTORY, 0);
}

int sys_openat(int dir_fd, const char *name, int flags, mode_t mode)
{
	SYS_FAULT("openat");
	return sys_ret(RETRY(openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW, mode)));
}

static int open_how(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = { .flags = (unsigned)(flags | O_CLOEXEC), .resolve = resolve };
	long r;
	int tries = 0;

	if (flags & (O_CREAT | __O_TMPFILE))
		how.mode = mode;
	/* EAGAIN: a rename raced with the walk and the kernel cannot vouch for it; the next try usually can */
	do
		r = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
	while (r < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 64)));
	return sys_ret(r);
}

int sys_open_beneath(int dir_fd, const char *path, int flags, mode_t mode)
{
	SYS_FAULT("openat2");
	return open_how(dir_fd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

int sys_open_same_mount(int dir_fd, const char *name, int flags)
{
	SYS_FAULT("openat2");
	return open_how(dir_fd, name, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

int sys_open_in_root(int dir_fd, const char *path, int flags, mode_t mode)
{
	SYS_FAULT("openat2");
	return open_how(dir_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int sys_open_in_proc(int proc_fd, const char *path, int flags)
{
	SYS_FAULT("openat2");
	return open_how(proc_fd, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

ssize_t sys_read(int fd, void *p, size_t n)
{
	ssize_t r;

	SYS_FAULT("read");
	r = RETRY(read(fd, p, n));
	return r < 0 ? -errno : r;
}

ssize_t sys_write(int fd, const void *p, size_t n)
{
	ssize_t r;

	SYS_FAULT("write");
	r = RETRY(write(fd, p, n));
	return r < 0 ? -errno : r;
}

ssize_t sys_pread(int fd, void *p, size_t n, off_t at)
{
	ssize_t r;

	SYS_FAULT("pread");
	r = RETRY(pread(fd, p, n, at));
	return r < 0 ? -errno : r;
}

int sys_write_all(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t r = sys_write(fd, at, n);

		if (r < 0)
			return (int)r;
		at += r;
		n -= (size_t)r;
	}
	return 0;
}

int sys_pwrite_all(int fd, const void *p, size_t n, off_t at)
{
	const char *from = p;

	SYS_FAULT("pwrite");
	while (n) {
		ssize_t r = RETRY(pwrite(fd, from, n, at));

		if (r < 0)
			return -errno;
		from += r;
		at += r;
		n -= (size_t)r;
	}
	return 0;
}

ssize_t sys_read_full(int fd, void *p, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = sys_read(fd, (char *)p + got, n - got);

		if (r < 0)
			return r;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

void sys_close_all(const int *fds, size_t n)
{
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; fds[i] >= 0 && end < n && fds[end] == fds[end - 1] + 1;)
			end++;
		if (fds[i] >= 0)
			(void)syscall(SYS_close_range, fds[i], fds[end - 1], 0);
	}
}

int sys_close(int fd)
{
	SYS_FAULT("close");
	return sys_ret(close(fd));
}

int sys_fsync(int fd)
{
	SYS_FAULT("fsync");
	return sys_ret(RETRY(fsync(fd)));
}

int sys_fdatasync(int fd)
{
	SYS_FAULT("fdatasync");
	return sys_ret(RETRY(fdatasync(fd)));
}

int sys_write_behind(int fd, off_t at, off_t n)
{
	SYS_FAULT("sync_file_range");
	return sys_ret(sync_file_range(fd, at, n, SYNC_FILE_RANGE_WRITE));
}

int sys_drop_pages(int fd, off_t at, off_t n)
{
	SYS_FAULT("fadvise64");
	return -posix_fadvise(fd, at, n, POSIX_FADV_DONTNEED);
}

int sys_reserve(int fd, off_t n)
{
	SYS_FAULT("fallocate");
	return sys_ret(RETRY(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, n)));
}

int sys_syncfs(int fd)
{
	SYS_FAULT("syncfs");
	return sys_ret(RETRY(syncfs(fd)));
}

int sys_ftruncate(int fd, off_t size)
{
	SYS_FAULT("ftruncate");
	return sys_ret(RETRY(ftruncate(fd, size)));
}

int sys_room(int fd, uint64_t *out_free, uint64_t *out_size)
{
	struct statvfs st;
	int r;

	SYS_FAULT("fstatvfs");
	r = sys_ret(fstatvfs(fd, &st));
	if (r < 0)
		return r;
	*out_free = (uint64_t)st.f_bavail * st.f_frsize;
	if (out_size)
		*out_size = (uint64_t)st.f_blocks * st.f_frsize;
	return 0;
}

off_t sys_lseek(int fd, off_t at, int whence)
{
	off_t r;

	SYS_FAULT("lseek");
	r = lseek(fd, at, whence);
	return r < 0 ? -errno : r;
}

int sys_rename(int dir_fd, const char *from, const char *to)
{
	return sys_renameat(dir_fd, from, dir_fd, to, 0);
}

int sys_renameat(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	SYS_FAULT("rename");
	return sys_ret(renameat2(from_fd, from, to_fd, to, flags));
}

int sys_link(int from_fd, const char *from, int to_fd, const char *to)
{
	SYS_FAULT("link");
	return sys_ret(linkat(from_fd, from, to_fd, to, 0));
}

int sys_link_fd(int fd, int to_fd, const char *to)
{
	char path[40];

	SYS_FAULT("link");
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return sys_ret(linkat(AT_FDCWD, path, to_fd, to, AT_SYMLINK_FOLLOW));
}

int sys_symlink(const char *target, int dir_fd, const char *name)
{
	SYS_FAULT("symlink");
	return sys_ret(symlinkat(target, dir_fd, name));
}

int sys_unlink(int dir_fd, const char *name)
{
	SYS_FAULT("unlink");
	return sys_ret(unlinkat(dir_fd, name, 0));
}

int sys_rmdir(int dir_fd, const char *name)
{
	SYS_FAULT("rmdir");
	return sys_ret(unlinkat(dir_fd, name, AT_REMOVEDIR));
}

int sys_mkdir(int dir_fd, const char *name, mode_t mode)
{
	SYS_FAULT("mkdir");
	return sys_ret(mkdirat(dir_fd, name, mode));
}

int sys_mknod(int dir_fd, const char *name, mode_t mode, dev_t dev)
{
	SYS_FAULT("mknod");
	return sys_ret(mknodat(dir_fd, name, mode, dev));
}

int sys_fchmod(int fd, mode_t mode)
{
	SYS_FAULT("fchmod");
	return sys_ret(fchmod(fd, mode));
}

int sys_fchown(int fd, uid_t uid, gid_t gid)
{
	SYS_FAULT("fchown");
	return sys_ret(fchown(fd, uid, gid));
}

int sys_chmodat(int dir_fd, const char *name, mode_t mode)
{
	SYS_FAULT("fchmodat");
	return sys_ret(fchmodat(dir_fd, name, mode, 0));
}

int sys_fchownat(int dir_fd, const char *name, uid_t uid, gid_t gid, int flags)
{
	SYS_FAULT("fchownat");
	return sys_ret(fchownat(dir_fd, name, uid, gid, flags));
}

int sys_utimens(int dir_fd, const char *name, const struct timespec times[2], int flags)
{
	SYS_FAULT("utimensat");
	return sys_ret(utimensat(dir_fd, name, times, flags));
}

int sys_fstat(int fd, struct stat *out_st)
{
	SYS_FAULT("fstat");
	return sys_ret(fstat(fd, out_st));
}

int sys_fstatat(int dir_fd, const char *name, struct stat *out_st, int flags)
{
	SYS_FAULT("fstatat");
	return sys_ret(fstatat(dir_fd, name, out_st, flags));
}

bool sys_is_mount(int dir_fd, const char *name)
{
	struct statx x;

	return statx(dir_fd, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &x) == 0 && x.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

ssize_t sys_readlink(int dir_fd, const char *name, char *out, size_t size)
{
	ssize_t r;

	SYS_FAULT("readlink");
	r = readlinkat(dir_fd, name, out, size);
	if (r < 0)
		return -errno;
	if ((size_t)r >= size)
		return -ENAMETOOLONG;
	out[r] = '\0';
	return r;
}

int sys_dup(int fd)
{
	SYS_FAULT("dup");
	return sys_ret(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

int sys_pipe(int out_fds[2])
{
	SYS_FAULT("pipe");
	return sys_ret(pipe2(out_fds, O_CLOEXEC));
}

int sys_socketpair(int type, int out_fds[2])
{
	SYS_FAULT("socketpair");
	return sys_ret(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, out_fds));
}

int sys_memfd(const char *name)
{
	SYS_FAULT("memfd_create");
	return sys_ret(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
}

int sys_flock(int fd, int operation)
{
	SYS_FAULT("flock");
	return sys_ret(RETRY(flock(fd, operation)));
}

int sys_lock_byte(int fd, pid_t *out_pid)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
	int r;

	SYS_FAULT("fcntl_setlk");
	r = sys_ret(fcntl(fd, F_SETLK, &l));
	if (r == -EACCES)
		r = -EAGAIN;
	*out_pid = r == -EAGAIN && fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK ? l.l_pid : 0;
	return r;
}

static struct {
	volatile uintptr_t from, to;
	const char *volatile message;
	volatile bool is_set;
} fault;

/* Only what is safe in a handler. A fault elsewhere comes again, and then ends us as it would have. */
static void on_memory_fault(int signo, siginfo_t *si, void *context)
{
	uintptr_t at = (uintptr_t)si->si_addr;

	(void)context;
	if (at < fault.from || at >= fault.to) {
		(void)signal(signo, SIG_DFL);
		return;
	}
	(void)!write(STDERR_FILENO, fault.message, strlen(fault.message));
	_exit(125);
}

void sys_on_memory_fault(uintptr_t from, uintptr_t to, const char *message)
{
	struct sigaction sa = { .sa_sigaction = on_memory_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };

	fault.message = message;
	fault.from = from;
	fault.to = to;
	if (fault.is_set)
		return;
	fault.is_set = true;
	(void)sigaction(SIGSEGV, &sa, NULL);
	(void)sigaction(SIGBUS, &sa, NULL);
}

int sys_cloexec(int fd, int on)
{
	SYS_FAULT("fcntl");
	return sys_ret(fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0));
}

ssize_t sys_copy_range(int in_fd, int out_fd, size_t n)
{
	ssize_t r;

	SYS_FAULT("copy_file_range");
	r = RETRY(copy_file_range(in_fd, NULL, out_fd, NULL, n, 0));
	if (r < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == EBADF))
		r = RETRY(sendfile(out_fd, in_fd, NULL, n));
	return r < 0 ? -errno : r;
}

#define FDS_MAX 32

ssize_t sys_send_fds(int sock, const void *p, size_t n, const int *fds, size_t n_fds)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t r;

	SYS_FAULT("sendmsg");
	if (n_fds > FDS_MAX)
		return -E2BIG;
	if (n_fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof control);
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	r = RETRY(sendmsg(sock, &msg, MSG_NOSIGNAL));
	return r < 0 ? -errno : r;
}

ssize_t sys_recv_fds(int sock, void *p, size_t n, int *out_fds, size_t max_fds, size_t *out_n_fds)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = p, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.space,
			      .msg_controllen = sizeof control.space };
	ssize_t r;

	SYS_FAULT("recvmsg");
	*out_n_fds = 0;
	r = RETRY(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC));
	if (r < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (*out_n_fds < max_fds)
				out_fds[(*out_n_fds)++] = fd;
			else
				(void)close(fd);
		}
	}
	return r;
}
