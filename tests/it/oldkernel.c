/*
 * oldkernel.c - runs a program as a 5.15 kernel would, as far as a filter can tell: every system call that is newer answers
 * ENOSYS, and flags that came later what an older kernel says to them. (What stands behind a pointer no filter sees: for that
 * tests/v2 runs on a 6.1 kernel.)
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define FAIL(os)    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (os))
#define OK	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* Of this call, argument i has one of these bits. */
#define REJECT(number, i, bits, os)                                                                             \
	LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3), LOAD(args[i]),                             \
	    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1), FAIL(os)

int main(int argc, char *argv[])
{
	struct sock_filter code[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 449 /* futex_waitv, 5.16 */, 0, 1),
		FAIL(ENOSYS),
		REJECT(SYS_memfd_create, 1, 0x18, EINVAL), /* MFD_EXEC, MFD_NOEXEC_SEAL: 6.3 */
		REJECT(SYS_seccomp, 1, 0x20, EINVAL),	   /* WAIT_KILLABLE_RECV: 5.19 */
		REJECT(429, 4, 0x200, EINVAL),		   /* move_mount, BENEATH: 6.5 */
		REJECT(434, 1, 0x80, EINVAL),		   /* pidfd_open, PIDFD_THREAD: 6.9 */
		REJECT(424, 3, ~0u, EINVAL),		   /* pidfd_send_signal, any flag: 6.9 */
		REJECT(431, 1, 8, EOPNOTSUPP),		   /* fsconfig, CREATE_EXCL: 6.6 */
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
		LOAD(args[1]),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xff00, 0, 1), /* of a pidfd: 6.11 */
		FAIL(ENOTTY),
		OK,
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };

	if (argc < 2 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 99;
	execv(argv[1], argv + 1);
	return 98;
}
