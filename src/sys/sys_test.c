#include "base/own.h"
#include "harness/t.h"
#include "sys/self.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

TEST(beneath_refuses_every_way_out)
{
	auto_fd int fd = -1;

	CHECK(sys_mkdir(t_tmpdir(), "d", 0755) == 0);
	CHECK(sys_symlink("/etc", t_tmpdir(), "d/link") == 0);
	t_file_write(t_tmpdir(), "d/file", "x");
	CHECK(sys_open_beneath(t_tmpdir(), "../x", O_RDONLY, 0) == -EXDEV);
	CHECK(sys_open_beneath(t_tmpdir(), "/etc/passwd", O_RDONLY, 0) == -EXDEV);
	CHECK(sys_open_beneath(t_tmpdir(), "d/link/passwd", O_RDONLY, 0) == -ELOOP);
	fd = sys_open_beneath(t_tmpdir(), "d/file", O_RDONLY, 0);
	CHECK(fd >= 0);
}

TEST(in_root_resolves_links_as_in_a_chroot)
{
	auto_fd int fd = -1;

	CHECK(sys_mkdir(t_tmpdir(), "etc", 0755) == 0);
	t_file_write(t_tmpdir(), "etc/name", "inside");
	CHECK(sys_symlink("/etc/name", t_tmpdir(), "abs") == 0);
	CHECK(sys_symlink("../../../etc/name", t_tmpdir(), "rel") == 0);
	fd = sys_open_in_root(t_tmpdir(), "abs", O_RDONLY, 0);
	CHECK(fd >= 0);
	own_close(&fd);
	fd = sys_open_in_root(t_tmpdir(), "rel", O_RDONLY, 0);
	CHECK(fd >= 0);
}

TEST(fds_travel_over_a_socket)
{
	int pair[2], got[2] = { -1, -1 };
	size_t n = 0;
	char byte = 0;

	CHECK(sys_socketpair(SOCK_SEQPACKET, pair) == 0);
	CHECK(sys_send_fds(pair[0], "x", 1, pair, 2) == 1);
	CHECK(sys_recv_fds(pair[1], &byte, 1, got, 1, &n) == 1);
	CHECK(byte == 'x' && n == 1 && got[0] >= 0);
	CHECK(fcntl(got[0], F_GETFD) == FD_CLOEXEC);
	CHECK(sys_close(got[0]) == 0 && sys_close(pair[0]) == 0 && sys_close(pair[1]) == 0);
}

TEST(an_injected_fault_is_returned)
{
	FAULT_SWEEP (EIO) {
		int fd;

		t_sweep_on();
		fd = sys_openat(t_tmpdir(), "x", O_WRONLY | O_CREAT, 0600);
		t_sweep_off();
		CHECK(t_sweep_fired() ? fd == -EIO : fd >= 0);
		own_close(&fd);
	}
}

TEST(many_descriptors_are_closed_whatever_their_order)
{
	int fds[6] = { -1 };

	for (int i = 1; i < 6; i++)
		CHECK((fds[i] = sys_open("/dev/null", O_RDONLY, 0)) >= 0);
	sys_close_all((const int[]){ fds[4], -1, fds[1], fds[2], fds[5], fds[3] }, 6);
	for (int i = 1; i < 6; i++)
		CHECK(fcntl(fds[i], F_GETFD) < 0);
	sys_close_all(fds, 0);
}

/* ---- our file out of reach while we run ---- */

static int written = 1, calls_left;

static int veto(const char *call)
{
	(void)call;
	return --calls_left == 0 ? EPERM : 0;
}

/* With the n-th call refused. 0: done; 1: refused, and nothing has changed; 2: wrong; 3: this program is of another kind. */
static int move_with_fault(void *n)
{
	char *argv[] = { program_invocation_name, NULL };
	int r;

	memcpy(&calls_left, n, sizeof calls_left);
	written = 7;
	sys_fault = veto;
	r = sys_shield_in_place(argv);
	sys_fault = NULL;
	if (r == -ENOEXEC)
		return 3;
	if (written != 7 || sys_self_is_shielded() != (r == 0))
		return 2;
	return calls_left > 0 ? (r == 0 ? 0 : 2) : r == -EPERM ? 1 : 2;
}

TEST(a_running_program_moves_to_a_read_only_mount)
{
	int n = 0, r = 1;

	CHECK(sys_self_is_shielded() == 0);
	while (r == 1 && n < 64) {
		n++;
		r = sys_spawn_call(move_with_fault, &n);
	}
	if (r == 3)
		t_skip("needs a program without an address sanitizer");
	CHECK(r == 0 && n > 8);
	CHECK(written == 1 && sys_self_is_shielded() == 0); /* of those children only */
}
