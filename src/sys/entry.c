/*
 * entry.c - the first instructions of a static program, before libc has begun; see entry.h.
 *
 * Nothing of libc may be used: no thread-local storage (so no stack protector), no memory functions (their variants are not
 * chosen yet), no errno. What fails is left to main, which tells the user: then the ordinary start goes on.
 */
#include "sys/entry.h"
#include <fcntl.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#define BARE __attribute__((no_stack_protector, no_sanitize("address"), no_sanitize("undefined")))

/* clang-format off */
__asm__(".pushsection .text\n"
	".globl sys_entry\n"
	".type sys_entry, @function\n"
	"sys_entry:\n"
	"	endbr64\n"
	"	xorl	%ebp, %ebp\n"
	"	movq	%rsp, %rbx\n"		/* argc, argv, environment */
	"	movq	%rdx, %r12\n"		/* for libc */
	"	movq	%rsp, %rdi\n"
	"	andq	$-16, %rsp\n"
	"	call	sys_entry_shield\n"
	"	movq	%rbx, %rsp\n"
	"	movq	%r12, %rdx\n"
	"	jmp	_start\n"
	".size sys_entry, .-sys_entry\n"
	".popsection\n");
/* clang-format on */

BARE static long call(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
}

BARE static bool is_same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

BARE static bool is_wanted(char *const argv[])
{
	for (size_t i = 1; argv[0] && argv[i]; i++)
		for (size_t k = 0; sys_entry_words[k]; k++)
			if (is_same(argv[i], sys_entry_words[k]))
				return true;
	return false;
}

void sys_entry_shield(long *stack);
BARE void sys_entry_shield(long *stack)
{
	static const char exe[] = "/proc/self/exe", none[] = "";
	char **argv = (char **)(stack + 1), **env = argv + *stack + 1;
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	struct statfs s;
	long fd;

	if (!is_wanted(argv) || call(SYS_statfs, (long)exe, (long)&s, 0, 0, 0) < 0 ||
	    s.f_flags & 1 /* ST_RDONLY */)
		return;
	fd = call(SYS_open_tree, AT_FDCWD, (long)exe, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, 0, 0);
	if (fd < 0)
		return;
	if (call(SYS_mount_setattr, fd, (long)none, AT_EMPTY_PATH, (long)&ro, sizeof ro) == 0)
		(void)call(SYS_execveat, fd, (long)none, (long)argv, (long)env, AT_EMPTY_PATH);
	(void)call(SYS_close, fd, 0, 0, 0, 0);
}
