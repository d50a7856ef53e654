/* fs_test.c - trees: listing, removing, copying, attributes, both ways to mount an overlay. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "harness/t.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int make(const char *name)
{
	CHECK(mkdirat(t_tmpdir(), name, 0755) == 0);
	return openat(t_tmpdir(), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What a second process removes at that moment: the whole tree, before the n-th call of ours. */
static int others_at, others_count;

static int remove_at(const char *call)
{
	(void)call;
	if (++others_count == others_at) {
		sys_fault = NULL;
		CHECK_INT(fs_remove_tree(t_tmpdir(), "shared"), 0);
	}
	return 0;
}

TEST(two_may_remove_the_same_tree)
{
	auto_free char *make_it = xasprintf("cd %s && mkdir -p shared/a/b shared/c && touch shared/a/b/f shared/c/f shared/f",
					    t_tmppath());

	for (others_at = 1, others_count = 1; others_count >= others_at - 1; others_at++) {
		others_count = 0;
		t_shell(make_it);
		sys_fault = remove_at;
		CHECK_INT(fs_remove_tree(t_tmpdir(), "shared"), 0);
		sys_fault = NULL;
		CHECK_INT(faccessat(t_tmpdir(), "shared", F_OK, 0), -1);
	}
	CHECK(others_at > 10);
}

static int remove_d_at(const char *call)
{
	(void)call;
	if (++others_count == others_at) {
		sys_fault = NULL;
		CHECK_INT(fs_remove_tree(t_tmpdir(), "from/d"), 0);
	}
	return 0;
}

TEST(what_goes_while_it_is_copied_is_passed_over)
{
	auto_free char *make_it = xasprintf("cd %s && rm -rf from to && mkdir -p from/d/e to && echo 1 > from/d/f && "
					    "ln from/d/f from/d/g && ln -s f from/d/l && touch from/d/e/f from/z",
					    t_tmppath());

	for (others_at = 1, others_count = 1; others_count >= others_at - 1; others_at++) {
		auto_fd int from = -1, to = -1;

		t_shell(make_it);
		from = openat(t_tmpdir(), "from", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		to = openat(t_tmpdir(), "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		others_count = 0;
		sys_fault = remove_d_at;
		CHECK_INT(fs_copy_tree(from, to), 0);
		sys_fault = NULL;
		CHECK_INT(faccessat(to, "z", F_OK, 0), 0);
	}
	CHECK(others_at > 20);
}

TEST(names_come_in_byte_order)
{
	static const char *const want[] = { "A", "a", "a b", "b\xff", "z" };
	auto_list char **names = NULL;
	auto_fd int fd = make("d");

	for (int i = 4; i >= 0; i--)
		t_file_write(fd, want[i], "");
	CHECK_INT(fs_list(fd, &names), 5);
	for (int i = 0; i < 5; i++)
		CHECK_STR(names[i], want[i]);
	CHECK(!names[5]);
}

/* Much deeper than a process may have fds, and than a path may be long. */
TEST(a_tree_of_any_depth_goes)
{
	enum { DEPTH = 3000 };
	int at = make("deep");

	for (int i = 0; i < DEPTH; i++) {
		auto_fd int up = at;

		CHECK(mkdirat(up, i % 2 ? "directory" : ".deep-0", 0755) == 0);
		t_file_write(up, "file", "x");
		CHECK(symlinkat("..", up, "link") == 0);
		at = openat(up, i % 2 ? "directory" : ".deep-0", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	close(at);
	t_file_write(t_tmpdir(), "stays", "");
	CHECK_INT(fs_remove_tree(t_tmpdir(), "deep"), 0);
	CHECK_INT(fs_remove_tree(t_tmpdir(), "absent"), 0);
	CHECK_INT(fs_remove_content(t_tmpdir()), 0);
	CHECK_INT(t_entries(t_tmpdir()), 0);
	t_file_write(t_tmpdir(), "stays", "");
	CHECK_INT(t_entries(t_tmpdir()), 1);
}

TEST(removal_does_not_follow_links)
{
	auto_fd int in = make("in"), out = make("out");

	t_file_write(out, "file", "x");
	CHECK(symlinkat("../out", in, "link") == 0);
	CHECK_INT(fs_remove_tree(t_tmpdir(), "in"), 0);
	CHECK(t_file_is(out, "file", "x"));
}

static void fill(int fd)
{
	struct timespec old[2] = { { 5, 6 }, { 7, 8 } };

	CHECK(mkdirat(fd, "d", 0750) == 0 && mkdirat(fd, "d/e", 02711) == 0);
	t_file_write(fd, "d/f", "content");
	CHECK(fchownat(fd, "d/f", 3, 4, 0) == 0 && fchmodat(fd, "d/f", 04755, 0) == 0);
	CHECK(linkat(fd, "d/f", fd, "d/e/hard", 0) == 0 && linkat(fd, "d/f", fd, "zz", 0) == 0);
	CHECK(symlinkat("d/f", fd, "soft") == 0 && mkfifoat(fd, "pipe", 0622) == 0 &&
	      fchmodat(fd, "pipe", 0622, 0) == 0);
	CHECK(mknodat(fd, "null", S_IFCHR | 0666, 0x103) == 0);
	CHECK_INT(fs_xattr_set(fd, "soft", "trusted.mine", "x", 1), 0);
	if (fs_xattr_set(fd, "d", "user.k", "value", 5) == -EOPNOTSUPP)
		t_skip("needs a file system with user attributes");
	CHECK(utimensat(fd, "d/f", old, 0) == 0 && utimensat(fd, "d", old, 0) == 0);
}

TEST(a_copy_keeps_everything)
{
	static const char *const names[] = { "d", "d/e", "d/f", "d/e/hard", "zz", "soft", "pipe", "null" };
	auto_fd int from = make("from"), to = make("to");
	struct stat a, b, first;
	char value[8] = "";

	fill(from);
	CHECK_INT(fs_copy_tree(from, to), 0);
	for (size_t i = 0; i < LEN(names); i++) {
		CHECK(fstatat(from, names[i], &a, AT_SYMLINK_NOFOLLOW) == 0);
		CHECK(fstatat(to, names[i], &b, AT_SYMLINK_NOFOLLOW) == 0);
		CHECK(a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid &&
		      a.st_rdev == b.st_rdev);
		CHECK(a.st_nlink == b.st_nlink && a.st_mtim.tv_sec == b.st_mtim.tv_sec);
		CHECK(a.st_mtim.tv_nsec == b.st_mtim.tv_nsec);
	}
	CHECK(t_file_is(to, "d/f", "content"));
	CHECK(fstatat(to, "d/f", &first, 0) == 0 && fstatat(to, "zz", &b, 0) == 0 &&
	      first.st_ino == b.st_ino);
	CHECK(fs_xattr_get(to, "d", "user.k", value, sizeof value) == 5 && strcmp(value, "value") == 0);
	CHECK_INT(fs_xattr_get(to, "soft", "trusted.mine", value, sizeof value), -ENODATA);
	CHECK_INT(fs_copy_tree(from, to), -EEXIST);
}

TEST(a_copy_that_fails_says_so)
{
	auto_fd int from = make("from");

	fill(from);
	FAULT_SWEEP (EIO) {
		auto_fd int to = make("to");
		int r;

		t_sweep_on();
		r = fs_copy_tree(from, to);
		t_sweep_off();
		CHECK_INT(r, t_sweep_fired() ? -EIO : 0);
		CHECK_INT(fs_remove_tree(t_tmpdir(), "to"), 0);
	}
}

static void mounts(int (*mount)(const struct fs_overlay *o, unsigned attrs), int n_lower, bool writable)
{
	auto_list char **lower = NULL;
	auto_free char *upper = xasprintf("%s/upper", t_tmppath()), *work = xasprintf("%s/work", t_tmppath());
	auto_fd int back = open(".", O_PATH | O_CLOEXEC), fd = -1;
	struct fs_overlay o = { .n_lower = (size_t)n_lower };
	struct stat a, b;

	for (int i = 0; i < n_lower; i++) {
		auto_free char *path = xasprintf("%s/layer-%0200d", t_tmppath(), i);
		char name[16];
		auto_fd int dir = -1;

		CHECK(mkdir(path, 0755) == 0);
		dir = sys_open_dir(path);
		(void)snprintf(name, sizeof name, "%d", i);
		t_file_write(dir, name, "x");
		t_file_write(dir, "top", name);
		text_list_add(&lower, path);
	}
	o.lower = (const char *const *)lower;
	if (writable) {
		CHECK(mkdir(upper, 0755) == 0 && mkdir(work, 0755) == 0);
		o.upper = upper;
		o.work = work;
	}
	fd = mount(&o, 0);
	if (fd == -E2BIG && n_lower > FS_OVERLAY_OLD_MAX)
		t_skip("needs lowerdir+ (kernel 6.7)");
	CHECK(fd >= 0);
	CHECK_INT(t_entries(fd), n_lower + 1);
	CHECK(t_file_is(fd, "top", "0"));
	CHECK_INT(mkdirat(fd, "new", 0755) == 0 ? 0 : errno, writable ? 0 : EROFS);
	CHECK(fstat(back, &a) == 0 && stat(".", &b) == 0 && a.st_ino == b.st_ino);
}

TEST(overlays_of_many_layers)
{
	mounts(fs_overlay_mount, 150, true);
}

TEST(overlays_read_only)
{
	mounts(fs_overlay_mount, 2, false);
}

TEST(overlays_the_old_way)
{
	mounts(fs_overlay_mount_old, FS_OVERLAY_OLD_MAX, true);
}

TEST(overlays_the_old_way_read_only)
{
	mounts(fs_overlay_mount_old, 2, false);
}

TEST(overlays_that_cannot_be)
{
	static const char *const none[] = { "/nonexistent/a", "/nonexistent/b" };
	struct fs_overlay o = { .lower = none, .n_lower = 2 };

	CHECK_INT(fs_overlay_mount(&o, 0), -ENOENT);
	CHECK_INT(fs_overlay_mount_old(&o, 0), -ENOENT);
	o.n_lower = FS_OVERLAY_OLD_MAX + 1;
	CHECK_INT(fs_overlay_mount_old(&o, 0), -E2BIG);
}

TEST(overlays_under_odd_names)
{
	static int (*const ways[])(const struct fs_overlay *, unsigned) = { fs_overlay_mount,
									    fs_overlay_mount_old };
	static const char *const odd[] = { "od:d,na\\me", "sp ace\nline", "\\:" };

	for (size_t i = 0; i < LEN(odd); i++) {
		auto_free char *a = xasprintf("%s/%s-a", t_tmppath(), odd[i]),
			       *b = xasprintf("%s/%s-b", t_tmppath(), odd[i]);
		auto_free char *up = xasprintf("%s/%s-u", t_tmppath(), odd[i]),
			       *work = xasprintf("%s/%s-w", t_tmppath(), odd[i]);
		const char *lower[] = { a, b };
		struct fs_overlay o = { lower, 2, up, work, false };

		CHECK(mkdir(a, 0755) == 0 && mkdir(b, 0755) == 0 && mkdir(up, 0755) == 0 &&
		      mkdir(work, 0755) == 0);
		for (size_t w = 0; w < LEN(ways); w++) {
			auto_fd int fd = ways[w](&o, 0);

			CHECK(fd >= 0);
		}
	}
}

TEST(a_copy_over_what_is_there)
{
	auto_fd int from = make("from"), to = make("to");
	struct stat st;

	fill(from);
	CHECK(mkdirat(to, "d", 0700) == 0 && symlinkat("/etc/passwd", to, "zz") == 0);
	t_file_write(to, "d/f", "old and longer");
	t_file_write(to, "d/stays", "x");
	t_file_write(to, "soft", "x");
	CHECK_INT(fs_copy_over(from, to, NULL), 0);
	CHECK(t_file_is(to, "d/f", "content") && t_file_is(to, "d/stays", "x") && t_file_is(to, "zz", "content"));
	CHECK(fstatat(to, "d", &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 07777) == 0750);
	CHECK(fstatat(to, "soft", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode));
	CHECK_INT(fs_copy_over(from, to, NULL), 0);
	CHECK(fs_remove_tree(to, "pipe") == 0 && mkdirat(to, "pipe", 0755) == 0);
	CHECK_INT(fs_copy_over(from, to, NULL), -EISDIR);
}

TEST(a_copy_keeps_holes)
{
	auto_fd int from = make("from"), to = make("to");
	auto_fd int fd = openat(from, "sparse", O_WRONLY | O_CREAT, 0600);
	struct stat st;

	CHECK(pwrite(fd, "x", 1, 64 << 20) == 1 && pwrite(fd, "y", 1, 4096) == 1 && ftruncate(fd, 128 << 20) == 0);
	CHECK_INT(fs_copy_tree(from, to), 0);
	CHECK(fstatat(to, "sparse", &st, 0) == 0 && st.st_size == 128 << 20);
	CHECK(st.st_blocks < 1000);
}

TEST(a_merge_replaces_or_does_not)
{
	static const bool ways[] = { false, true };

	for (size_t i = 0; i < LEN(ways); i++) {
		auto_free char *a = xasprintf("from%zu", i), *b = xasprintf("to%zu", i);
		auto_fd int from = make(a), to = make(b);
		struct stat st;

		CHECK(mkdirat(from, "d", 0700) == 0 && mkdirat(to, "d", 0755) == 0 && mkdirat(from, "x", 0755) == 0 &&
		      mkdirat(to, "y", 0755) == 0 && fchmod(from, 0750) == 0);
		t_file_write(from, "d/f", "new");
		t_file_write(to, "d/f", "old");
		t_file_write(to, "d/stays", "s");
		t_file_write(from, "d/comes", "c");
		t_file_write(to, "x", "file against directory");
		t_file_write(from, "y", "directory against file");
		CHECK_INT(fs_merge_tree(from, to, ways[i]), 0);
		CHECK(t_file_is(to, "d/f", ways[i] ? "new" : "old") && t_file_is(to, "d/stays", "s") &&
		      t_file_is(to, "d/comes", "c"));
		CHECK(fstatat(to, "x", &st, 0) == 0 && S_ISDIR(st.st_mode) == ways[i]);
		CHECK(fstatat(to, "y", &st, 0) == 0 && S_ISREG(st.st_mode) == ways[i]);
		CHECK(fstatat(to, "d", &st, 0) == 0 && (st.st_mode & 0777) == (ways[i] ? 0700 : 0755));
		CHECK(fstat(to, &st) == 0 && (st.st_mode & 0777) == 0750);
	}
}

TEST(a_tree_is_given_away_but_not_what_links_point_to)
{
	auto_fd int from = make("from"), out = make("out");
	struct stat st;

	if (geteuid() != 0)
		t_skip("needs root");
	fill(from);
	t_file_write(out, "f", "x");
	CHECK(symlinkat("../out/f", from, "away") == 0);
	CHECK_INT(fs_chown_tree(from, 7, 8), 0);
	CHECK(fstatat(from, "away", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid == 7 && st.st_gid == 8);
	CHECK(fstatat(from, "d/f", &st, 0) == 0 && st.st_uid == 7);
	CHECK(fstat(from, &st) == 0 && st.st_uid == 7);
	CHECK(fstatat(out, "f", &st, 0) == 0 && st.st_uid == 0);
}

enum { LARGE = 70 << 20 };

static int large_file(const char *name)
{
	auto_free char *bytes = xcalloc(1 << 20, 1);
	int fd = openat(t_tmpdir(), name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	memset(bytes, 'x', 1 << 20);
	for (int i = 0; i < LARGE >> 20; i++)
		CHECK_INT(sys_write_all(fd, bytes, 1 << 20), 0);
	CHECK_INT(fsync(fd), 0);
	return fd;
}

static size_t in_memory(int fd)
{
	static unsigned char pages[LARGE / 4096];
	void *p = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, fd, 0);
	size_t n = 0;

	CHECK(p != MAP_FAILED && mincore(p, LARGE, pages) == 0 && munmap(p, LARGE) == 0);
	for (size_t i = 0; i < LEN(pages); i++)
		n += pages[i] & 1;
	return n;
}

TEST(a_large_file_leaves_memory_whole)
{
	auto_fd int fd = large_file("ours"), plain = large_file("plain");

	CHECK_INT(posix_fadvise(plain, 0, 0, POSIX_FADV_DONTNEED), 0);
	fs_drop_pages(fd);
	CHECK(in_memory(fd) <= in_memory(plain) + 64); /* none where there is a disk; all on tmpfs. The kernel may hold some for a moment */
}

TEST(a_large_file_that_is_read_once_leaves_memory_behind_the_reader)
{
	auto_fd int fd = large_file("ours"), plain = large_file("plain");
	auto_free char *bytes = xmalloc(1 << 20);
	struct fs_pass pass = { .fd = fd };
	off_t n = 0;

	CHECK_INT(posix_fadvise(plain, 0, 0, POSIX_FADV_DONTNEED), 0);
	for (ssize_t got; (got = fs_pass_read(&pass, bytes, (1 << 20) - 1)) != 0; n += got)
		CHECK(got > 0 && bytes[0] == 'x' && bytes[got - 1] == 'x');
	CHECK_INT(n, LARGE);
	CHECK(in_memory(fd) <= in_memory(plain) + (LARGE - (64 << 20)) / 4096 + 512);
	fs_pass_end(&pass);
	CHECK(in_memory(fd) <= in_memory(plain) + 64);
}
