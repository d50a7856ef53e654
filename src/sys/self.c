#include "sys/self.h"
#include "base/own.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <link.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* 6.3 */
#endif
enum {
	ALL_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
	MOUNTED_READ_ONLY = 1 /* ST_RDONLY */
};

extern char **environ;

int sys_self_is_shielded(void)
{
	auto_fd int fd = -1;
	struct statfs s;
	int seals;

	SYS_FAULT("statfs");
	if (statfs("/proc/self/exe", &s) < 0)
		return -errno;
	if (s.f_flags & MOUNTED_READ_ONLY)
		return 1;
	if (s.f_type != TMPFS_MAGIC) /* where a memfd is */
		return 0;
	fd = sys_open("/proc/self/exe", O_RDONLY, 0);
	if (fd < 0)
		return fd;
	seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && (seals & F_SEAL_WRITE) != 0;
}

static int read_only_clone(const char *path)
{
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	auto_fd int fd = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
	int r = fd < 0 ? fd : sys_mount_setattr(fd, "", 0, &ro);

	return r < 0 ? r : TAKE_FD(fd);
}

static int exec_memfd(void)
{
	int fd;

	SYS_FAULT("memfd_create");
	fd = sys_ret(memfd_create("hoy", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
	return fd == -EINVAL ? sys_ret(memfd_create("hoy", MFD_CLOEXEC | MFD_ALLOW_SEALING)) : fd;
}

int sys_shield_copy(const char *path)
{
	auto_fd int from = sys_open(path, O_RDONLY, 0), to = from < 0 ? -1 : exec_memfd();
	ssize_t n;

	if (from < 0 || to < 0)
		return from < 0 ? from : to;
	do
		n = sys_copy_range(from, to, 1 << 24);
	while (n > 0);
	if (n < 0)
		return (int)n;
	if (fcntl(to, F_ADD_SEALS, ALL_SEALS) < 0)
		return -errno;
	return TAKE_FD(to);
}

int sys_shield(const char *path)
{
	auto_fd int fd = read_only_clone(path);

	/* no rights for mounts, or a kernel or filter without these calls */
	if (fd == -EPERM || fd == -ENOSYS || fd == -EINVAL)
		fd = sys_shield_copy(path);
	return fd < 0 ? fd : sys_ret(fcntl(fd, F_DUPFD_CLOEXEC, SHIELD_FD_MIN));
}

/* ---- without beginning again ---- */

enum { PAGE = 4096 };
#if defined(__SANITIZE_ADDRESS__)
enum { IS_WATCHED = 1 };
#elif defined(__has_feature)
enum { IS_WATCHED = __has_feature(address_sanitizer) };
#else
enum { IS_WATCHED = 0 };
#endif

/* Of our program in memory. */
struct part {
	char *at;
	size_t n;
	off_t in_file;
	int prot;
};

/* That many bytes from a file that is the same, in place of those of the first: the kernel exchanges them in
 * one step. */
static int map_again(const struct part *p, int fd)
{
	SYS_FAULT("mmap");
	return mmap(p->at, p->n, p->prot, MAP_PRIVATE | MAP_FIXED, fd, p->in_file) == MAP_FAILED ? -errno : 0;
}

/* What has been written is copied and belongs to no file afterwards. */
static int copy_data(const struct part *p)
{
	void *copy;
	int r = 0;

	SYS_FAULT("mmap");
	copy = mmap(NULL, p->n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return -errno;
	memcpy(copy, p->at, p->n);
	if (mremap(copy, p->n, p->n, MREMAP_MAYMOVE | MREMAP_FIXED, p->at) == MAP_FAILED) {
		r = -errno;
		(void)munmap(copy, p->n);
	}
	return r;
}

/* The part of data that is constant after the start is so again. */
static int protect(const struct part *p)
{
	SYS_FAULT("mprotect");
	return p->n ? sys_ret(mprotect(p->at, p->n, PROT_READ)) : 0;
}

/* n bytes of memory at address, whole pages: rounded up as for a mapping, or down as for a protection. */
static struct part pages(uintptr_t address, size_t n, bool up, const ElfW(Phdr) * h)
{
	uintptr_t from = address & ~(uintptr_t)(PAGE - 1),
		  to = (address + n + (up ? PAGE - 1 : 0)) & ~(uintptr_t)(PAGE - 1);

	return (struct part){ .at = (char *)from,
			      .n = to - from,
			      .in_file = (off_t)(h->p_offset - (address - from)),
			      .prot =
				  (h->p_flags & PF_R ? PROT_READ : 0) | (h->p_flags & PF_X ? PROT_EXEC : 0) };
}

/* Nothing of ours is mapped from where we were executed afterwards. *map learns where code and data are, as
 * execve tells it. */
static int leave_file(int fd, struct prctl_mm_map *map)
{
	const ElfW(Phdr) *h = (const ElfW(Phdr) *)getauxval(AT_PHDR);
	const size_t n = getauxval(AT_PHNUM);
	uintptr_t bias = 0;
	int r = h && n ? 0 : -ENOEXEC;

	for (size_t i = 0; i < n; i++)
		if (h[i].p_type == PT_PHDR)
			bias = (uintptr_t)h - h[i].p_vaddr;
	for (size_t i = 0; i < n && r == 0; i++) {
		uintptr_t from = bias + h[i].p_vaddr, to = from + h[i].p_filesz;
		struct part p = pages(from, h[i].p_filesz, true, &h[i]);

		if (h[i].p_type != PT_LOAD || !p.n)
			continue;
		r = h[i].p_flags & PF_W ? copy_data(&p) : map_again(&p, fd);
		map->start_code = map->start_code && map->start_code < from ? map->start_code : from;
		map->end_code = h[i].p_flags & PF_X && map->end_code < to ? to : map->end_code;
		map->start_data = map->start_data < from ? from : map->start_data;
		map->end_data = map->end_data < to ? to : map->end_data;
	}
	for (size_t i = 0; i < n && r == 0; i++) {
		struct part p = pages(bias + h[i].p_vaddr, h[i].p_memsz, false, &h[i]);

		if (h[i].p_type == PT_GNU_RELRO)
			r = protect(&p);
	}
	return r;
}

/* The first and the end of the last of texts that lie one behind the other. */
static void extent(char *const *list, __u64 *from, __u64 *to)
{
	*from = *to;
	for (size_t i = 0; list[i]; i++) {
		*from = i ? *from : (uintptr_t)list[i];
		*to = (uintptr_t)list[i] + strlen(list[i]) + 1;
	}
}

/*
 * PR_SET_MM_MAP and not PR_SET_MM_EXE_FILE: it wants the rights of a mount, which we needed already, the
 * other one CAP_SYS_RESOURCE. It sets everything that the kernel remembers of execve; all stays as it is, but
 * the heap begins where it ends now, for libc does not tell where it began.
 */
static int set_file(int fd, struct prctl_mm_map *map, char *argv[])
{
	map->exe_fd = (uint32_t)fd;
	map->start_stack = (uintptr_t)argv - sizeof(long) /* argc */;
	map->start_brk = map->brk = (uintptr_t)sbrk(0);
	extent(argv, &map->arg_start, &map->arg_end);
	map->env_end = map->arg_end;
	extent(environ, &map->env_start, &map->env_end);
	SYS_FAULT("prctl");
	return sys_ret(prctl(PR_SET_MM, PR_SET_MM_MAP, map, sizeof *map, 0));
}

int sys_shield_in_place(char *argv[])
{
	auto_fd int mount = read_only_clone("/proc/self/exe"), fd = -1;
	struct prctl_mm_map map = { 0 };
	char path[32];
	int r;

	if (IS_WATCHED) /* its data has guards in it that must not be touched */
		return -ENOEXEC;
	if (mount < 0)
		return mount;
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", mount);
	if ((fd = sys_open(path, O_RDONLY, 0)) < 0)
		return fd;
	r = leave_file(fd, &map);
	return r < 0 ? r : set_file(fd, &map, argv);
}

int sys_shield_exec(int fd, char *const argv[])
{
	SYS_FAULT("execveat");
	return sys_ret(syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH));
}
