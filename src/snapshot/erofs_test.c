/* erofs_test.c - images are what archives say: read back by a reader of our own, mounted, and beside what
 * extraction makes. */
#include "snapshot/driver.h"
#include "snapshot/erofs.h"
#include "snapshot/tree_text_test.h"
#include <sys/wait.h>

static int scratch(const char *name)
{
	int fd = sys_openat(t_tmpdir(), name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0);
	return fd;
}

static void read_all(int fd, struct buf *out)
{
	struct stat st;

	CHECK(sys_fstat(fd, &st) == 0);
	*out = BUF(1 << 30);
	CHECK(buf_room(out, (size_t)st.st_size));
	CHECK_INT(sys_pread(fd, out->data, (size_t)st.st_size, 0), st.st_size);
	out->n = (size_t)st.st_size;
}

/* ---- the three of them ---- */

static struct err *index_of(const struct buf *tar, int fd, uint64_t *size)
{
	struct bytes in = { tar->data, tar->n, 0 };

	return erofs_index((struct zip_source){ take, &in }, fd, size);
}

/* The text of what the image says; mounted too, where that is possible. */
static void image_text(const struct buf *tar, int image_fd, struct buf *out)
{
	auto_fd int tar_fd = scratch("image.tar"), mount_fd = -1;
	auto_buf struct buf image = { 0 }, mounted = BUF(1 << 28);
	struct eimage m;

	read_all(image_fd, &image);
	CHECK(eopen(&m, image.data, image.n, tar->data, tar->n));
	etree_text_of(&m, out);
	if (m.bad)
		t_fail(__FILE__, __LINE__, "image: %s", m.bad);
	CHECK(sys_write_all(tar_fd, tar->data, tar->n) >= 0);
	mount_fd = erofs_mount(image_fd, tar_fd);
	if (mount_fd == -ENOTBLK || mount_fd == -ENODEV || mount_fd == -EPERM)
		return;
	CHECK(mount_fd >= 0);
	text_of(mount_fd, ".", "", &mounted);
	CHECK_STR(buf_text(&mounted), buf_text(out));
}

static void extracted_text(const struct buf *tar, struct buf *out, struct err **error)
{
	auto_fd int dir = -1;
	struct bytes in = { tar->data, tar->n, 0 };
	uint64_t size;

	CHECK(fs_remove_tree(t_tmpdir(), "tree") == 0 && sys_mkdir(t_tmpdir(), "tree", 0755) == 0);
	dir = sys_openat(t_tmpdir(), "tree", O_RDONLY | O_DIRECTORY, 0);
	*error = extract_tar(dir, (struct zip_source){ take, &in }, true, &size);
	text_of(dir, ".", "", out);
}

/* Drops the root's time: no entry may have named it. */
static const char *behind_root(const struct buf *b)
{
	const char *line = strchr(buf_text(b), '\n');

	return line ? line + 1 : "";
}

static void same_as_extracted(const struct buf *tar)
{
	auto_buf struct buf indexed = BUF(1 << 28), extracted = BUF(1 << 28);
	auto_fd int fd = scratch("image");
	struct err *error;
	uint64_t size = 0;

	CHECK_OK(index_of(tar, fd, &size));
	image_text(tar, fd, &indexed);
	extracted_text(tar, &extracted, &error);
	CHECK_OK(error);
	CHECK_STR(behind_root(&indexed), behind_root(&extracted));
}

TEST(an_image_shows_what_the_archive_says)
{
	static const char cap[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
	static const char acl[] = "\2\0\0\0\1\0\6\0\377\377\377\377\2\0\4\0\7\0\0\0\4\0\4\0\377\377\377\377"
				  "\20\0\4\0\377\377\377\377 \0\4\0\377\377\377\377";
	static const struct tar_xattr file[] = { { "security.capability", cap, 20 },
						 { "user.note", "x", 1 },
						 { "trusted.k", "", 0 },
						 { "system.posix_acl_access", acl, sizeof acl - 1 },
						 { "trusted.overlay.opaque", "y", 1 },
						 { "user.note", "later", 5 } };
	static const struct tar_xattr dir[] = { { "system.posix_acl_default", acl, sizeof acl - 1 } };
	static const struct tar_entry e[] = {
		{ .name = "d",
		  .type = '5',
		  .mode = 02711,
		  .uid = 70000,
		  .gid = 4,
		  .mtime_ns = INT64_C(5000000001),
		  .xattrs = dir,
		  .n_xattrs = 1 },
		{ .name = "d/f", .type = '0', .mode = 04755, .uid = 1, .gid = 200000, .mtime_ns = 7 },
		{ .name = "d/hard", .type = '1', .link = "d/f" },
		{ .name = "hard", .type = '1', .link = "d/hard" },
		{ .name = "soft", .type = '2', .link = "/d/f", .mtime_ns = 9 },
		{ .name = "null", .type = '3', .mode = 0666, .dev_major = 1, .dev_minor = 3 },
		{ .name = "big", .type = '4', .mode = 0660, .dev_major = 259, .dev_minor = 70000 },
		{ .name = "pipe", .type = '6', .mode = 0600 },
		{ .name = "!first", .type = '0', .mode = 0 },
		{ .name = "..a", .type = '0', .mode = 01777 },
		{ .name = "deep/er/file",
		  .type = '0',
		  .mode = 0644,
		  .xattrs = file,
		  .n_xattrs = 6,
		  .mtime_ns = 99 },
		{ .name = "gone/.wh.old", .type = '0', .mtime_ns = 0 },
		{ .name = "gone/.wh..wh..opq", .type = '0' },
		{ .name = "lib", .type = '2', .link = "usr/lib" },
		{ .name = "lib/made", .type = '0', .mode = 0600 },
	};
	auto_buf struct buf tar = BUF(1 << 20), text = BUF(1 << 20);
	auto_fd int fd = scratch("image");
	uint64_t size = 0;

	make_tar(e, LEN(e), &tar);
	CHECK_OK(index_of(&tar, fd, &size));
	CHECK_INT(size, 15);
	image_text(&tar, fd, &text);
	CHECK(strstr(buf_text(&text), "/deep/er/file 100644 0:0 0.000000099 1 3 "));
	CHECK(strstr(buf_text(&text), " user.note=6c61746572\n") &&
	      !strstr(buf_text(&text), "/deep/er/file overlay.opaque"));
	CHECK(strstr(buf_text(&text),
		     "/gone 40755 0:0 0.000000000 2 trusted.overlay.opaque=79 trusted.overlay.origin=\n"));
	CHECK(strstr(buf_text(&text), "/gone/old 20000 0:0 0.000000000 1 dev 0\n"));
	CHECK(strstr(buf_text(&text), "/usr/lib/made 100600 "));
}

/* What mknod would refuse here, and whiteouts, whose time is that of their making, are compared above. */
TEST(an_image_is_what_extraction_makes)
{
	static const struct tar_entry e[] = {
		{ .name = "d",
		  .type = '5',
		  .mode = 02711,
		  .uid = 70000,
		  .gid = 4,
		  .mtime_ns = INT64_C(5000000001) },
		{ .name = "d/f", .type = '0', .mode = 04755, .uid = 1, .gid = 200000, .mtime_ns = 7 },
		{ .name = "d/hard", .type = '1', .link = "d/f" },
		{ .name = "soft", .type = '2', .link = "/d/f", .mtime_ns = 9 },
		{ .name = "null", .type = '3', .mode = 0666, .dev_major = 1, .dev_minor = 3 },
		{ .name = "pipe", .type = '6', .mode = 0600 },
		{ .name = "deep/er/file", .type = '0', .mode = 0644, .mtime_ns = 99 },
		{ .name = "lib", .type = '2', .link = "usr/lib" },
		{ .name = "lib/made", .type = '0', .mode = 0600 },
		{ .name = "deep", .type = '5', .mode = 0700, .mtime_ns = 3 },
		{ .name = "d/f", .type = '5', .mode = 0701, .mtime_ns = 4 },
		{ .name = "pipe", .type = '2', .link = "x" },
	};
	auto_buf struct buf tar = BUF(1 << 20);

	make_tar(e, LEN(e), &tar);
	same_as_extracted(&tar);
}

/* Names of any bytes, links to links, names that change what they are. */
TEST(unusual_is_not_wrong)
{
	char longest[256] = "";
	const struct tar_entry e[] = {
		{ .name = "\xff\xfe", .type = '0', .mode = 0644, .mtime_ns = 5 },
		{ .name = "a\nb", .type = '0', .mode = 0644, .mtime_ns = 5 },
		{ .name = "\x01", .type = '2', .link = "a\nb", .mtime_ns = 5 },
		{ .name = " ", .type = '5', .mode = 0755, .mtime_ns = 5 },
		{ .name = " / ", .type = '0', .mode = 0600, .mtime_ns = 5 },
		{ .name = "...", .type = '5', .mode = 0755, .mtime_ns = 5 },
		{ .name = ".../..x", .type = '0', .mode = 0600, .mtime_ns = 5 },
		{ .name = "%s\\x", .type = '6', .mode = 0600, .mtime_ns = 5 },
		{ .name = "%n", .type = '1', .link = "%s\\x" },
		{ .name = "e\xcc\x81", .type = '0', .mode = 0600, .mtime_ns = 5 },
		{ .name = "\xc3\xa9", .type = '0', .mode = 0600, .mtime_ns = 5 },
		{ .name = longest, .type = '0', .mode = 0600, .mtime_ns = 5 },
		{ .name = "nowhere", .type = '2', .link = "/no/such", .mtime_ns = 5 },
		{ .name = "nowhere too", .type = '1', .link = "nowhere" },
		{ .name = "zero", .type = '3', .mode = 0666, .dev_major = 1, .dev_minor = 5, .mtime_ns = 5 },
		{ .name = "zero too", .type = '1', .link = "zero" },
		{ .name = "changed", .type = '5', .mode = 0711, .mtime_ns = 5 },
		{ .name = "changed/x", .type = '0', .mode = 0600, .mtime_ns = 5 },
		{ .name = "kept", .type = '1', .link = "changed/x" },
		{ .name = "changed", .type = '2', .link = "kept", .mtime_ns = 5 },
		{ .name = "kept", .type = '5', .mode = 0755, .mtime_ns = 5 },
		{ .name = "changed/y", .type = '0', .mode = 0600, .mtime_ns = 5 },
		{ .name = "lib", .type = '2', .link = "usr/lib", .mtime_ns = 5 },
		{ .name = "lib/x", .type = '0', .mode = 0600, .mtime_ns = 5 },
		{ .name = "usr/lib/x", .type = '1', .link = "lib/x" },
		{ .name = "y", .type = '1', .link = "lib/x" },
		{ .name = "usr/lib/x", .type = '0', .mode = 0640, .mtime_ns = 5 },
	};
	auto_buf struct buf tar = BUF(1 << 20);

	memset(longest, '\xf0', 255);
	make_tar(e, LEN(e) - 3, &tar); /* up to where a file would link to itself */
	same_as_extracted(&tar);
	buf_reset(&tar);
	{
		struct tar_entry rest[LEN(e)];
		size_t n = 0;

		for (size_t i = 0; i < LEN(e); i++)
			if (strcmp(e[i].name, "usr/lib/x") != 0 || e[i].type == '0')
				rest[n++] = e[i];
		make_tar(rest, n, &tar);
	}
	same_as_extracted(&tar);
}

/* The second entry replaces the link through which it was reached: the third means the new directory. */
TEST(a_way_that_an_entry_changes)
{
	static const struct tar_entry e[] = {
		{ .name = "c", .type = '2', .link = "/", .mtime_ns = 5 },
		{ .name = "c/c", .type = '5', .mode = 0755, .mtime_ns = 5 },
		{ .name = "c/c", .type = '0', .mode = 0600, .mtime_ns = 5 },
	};
	auto_buf struct buf tar = BUF(1 << 20), indexed = BUF(1 << 20), extracted = BUF(1 << 20);
	auto_fd int fd = scratch("image");
	struct err *error;
	uint64_t size;

	make_tar(e, LEN(e), &tar);
	CHECK_OK(index_of(&tar, fd, &size));
	image_text(&tar, fd, &indexed);
	extracted_text(&tar, &extracted, &error);
	CHECK_OK(error);
	CHECK(strstr(buf_text(&indexed), "/c/c 100600 ") && strstr(buf_text(&extracted), "/c/c 100600 "));
}

static bool line_has(const struct buf *text, const char *begin, const char *part)
{
	const char *line = strstr(buf_text(text), begin), *end = line ? strchr(line + 1, '\n') : NULL,
		   *at = line ? strstr(line, part) : NULL;

	return at && at < end;
}

/* Where overlayfs will look for them: in the directory itself, by whichever name or link an entry reached it.
 */
TEST(whiteouts_by_many_ways)
{
	static const struct tar_entry e[] = {
		{ .name = "usr/lib", .type = '5', .mode = 0755 },
		{ .name = "lib", .type = '2', .link = "usr/lib" },
		{ .name = "lib/.wh..wh..opq", .type = '0' },
		{ .name = "lib/.wh.old", .type = '0' },
		{ .name = "./lib/../usr/lib/.wh.older", .type = '0' },
		{ .name = "d/.wh.sub", .type = '0' },
		{ .name = "d/sub", .type = '5', .mode = 0755 }, /* the whiteout speaks of what is below */
		{ .name = "d/sub/f", .type = '0', .mode = 0600 },
		{ .name = "hard", .type = '1', .link = "d/sub/f" },
		{ .name = ".wh.hard", .type = '0' }, /* and this layer has the name itself */
		{ .name = "w", .type = '5', .mode = 0755 },
		{ .name = "w/.wh.x", .type = '0' },
		{ .name = "w/y", .type = '1', .link = "w/x" }, /* a hard link to a whiteout */
		{ .name = "dir", .type = '0', .mode = 0600 },
		{ .name = ".wh.dir", .type = '0' },
		{ .name = "dir", .type = '5', .mode = 0750 },
		{ .name = ".wh.dir", .type = '0' },
	};
	auto_buf struct buf tar = BUF(1 << 20), text = BUF(1 << 20);
	auto_fd int fd = scratch("image");
	uint64_t size = 0;

	make_tar(e, LEN(e), &tar);
	CHECK_OK(index_of(&tar, fd, &size));
	image_text(&tar, fd, &text);
	CHECK(line_has(&text, "/usr/lib 40755", "trusted.overlay.opaque=79"));
	CHECK(strstr(buf_text(&text), "/usr/lib/old 20000") &&
	      strstr(buf_text(&text), "/usr/lib/older 20000"));
	CHECK(line_has(&text, "/d/sub 40755", "trusted.overlay.opaque=79"));
	CHECK(line_has(&text, "/d/sub/f 100600", " 2 3 ") && line_has(&text, "/hard 100600", " 2 3 "));
	CHECK(strstr(buf_text(&text), "/w/x 20000 0:0 0.000000000 2 dev 0\n") &&
	      strstr(buf_text(&text), "/w/y 20000"));
	CHECK(line_has(&text, "/dir 40750", "trusted.overlay.opaque=79"));
	CHECK(!strstr(buf_text(&text), ".wh."));
}

/* 64 KiB is what the kernel takes, and what a directory of a few blocks more has room for. */
TEST(attributes_long_and_many)
{
	enum { LONG = UINT16_MAX, MANY = 3 };
	auto_free char *value = xmalloc(LONG + 1);
	struct tar_xattr xattrs[5];
	auto_buf struct buf tar = BUF(4 << 20), text = BUF(4 << 20);
	auto_fd int fd = scratch("image");
	struct tar_entry e = { .name = "f", .type = '0', .mode = 0600, .xattrs = xattrs, .n_xattrs = MANY };
	static const char *const names[] = { "user.a", "user.b", "user.c", "user.d", "user.e" };
	uint64_t size = 0;

	memset(value, 'v', LONG + 1);
	for (size_t i = 0; i < LEN(xattrs); i++)
		xattrs[i] = (struct tar_xattr){ names[i], value, LONG };
	make_tar(&e, 1, &tar);
	CHECK_OK(index_of(&tar, fd, &size));
	image_text(&tar, fd, &text);
	CHECK(text.n > 2 * MANY * LONG && strstr(buf_text(&text), " user.c=7676"));
	xattrs[1].n = LONG + 1;
	buf_reset(&tar);
	make_tar(&e, 1, &tar);
	CHECK_ERR(ERR_LIMIT, index_of(&tar, fd, &size));
	xattrs[1].n = LONG;
	e.n_xattrs = LEN(xattrs); /* 320 KiB on one file */
	buf_reset(&tar);
	make_tar(&e, 1, &tar);
	CHECK_ERR(ERR_LIMIT, index_of(&tar, fd, &size));
}

/* ---- mixtures ---- */

static uint32_t seed;

static uint32_t pick(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 9) % below;
}

static void mixture(struct tar_entry *e)
{
	static const char *const names[] = { "a",
					     "b",
					     "a/b",
					     "b/a",
					     "a/b/c",
					     "a/../b",
					     "/a",
					     ".",
					     "a/..",
					     ".wh.a",
					     "a/.wh.b",
					     "a/.wh..wh..opq",
					     "b/.wh..wh.aufs",
					     "a/a/a/a",
					     "c",
					     "c/x",
					     "b/x",
					     "../a",
					     ".wh..",
					     "a/c",
					     "c/c" };
	static const char *const links[] = { "..",   "/",    ".", "../..", "a",   "b", "a/b",
					     "../b", "/a/b", "x", "a/b/c", "c/c", "",  "c" };
	static const struct tar_xattr xattrs[] = { { "user.a", "1", 1 },
						   { "trusted.b", "\0\377", 2 },
						   { "security.selinux", "x", 1 } };

	*e = (struct tar_entry){ .name = names[pick(LEN(names))],
				 .type = "00001122233455555556"[pick(20)],
				 .link = links[pick(LEN(links))],
				 .mode = pick(010000),
				 .uid = pick(3) * 50000,
				 .gid = pick(3) * 50000,
				 .mtime_ns = 5000000000,
				 .dev_major = pick(3),
				 .dev_minor = pick(300),
				 .xattrs = xattrs,
				 .n_xattrs = pick(4) };
	if (e->type == '5')
		e->mode &=
		    ~(mode_t)S_ISGID; /* extraction gives it late, perhaps to what has the name by then */
	if (e->type == '2' && !e->link[0])
		e->link = "c"; /* no writer makes such */
}

/*
 * One thing differs and may: the time of directories that were replaced and made again.
 */
static char *plain(const struct buf *text)
{
	auto_buf struct buf out = BUF(1 << 24);
	struct sv rest = sv_of(behind_root(text));

	while (rest.n) {
		struct sv line = sv_cut(&rest, '\n'), path = sv_cut(&line, ' '), mode = sv_cut(&line, ' '),
			  owner = sv_cut(&line, ' ');
		struct sv time = sv_cut(&line, ' ');
		bool is_dir = sv_starts(mode, SV("4"));

		buf_fmt(&out, SV_FMT " " SV_FMT, SV_ARG(path), SV_ARG(mode));
		buf_fmt(&out, " " SV_FMT " " SV_FMT " " SV_FMT "\n", SV_ARG(owner),
			SV_ARG(is_dir ? SV("-") : time), SV_ARG(line));
	}
	return buf_take(&out);
}

/* For whatever extraction takes, the image mounted is the same tree; for what it refuses, nothing worse than
 * a tree. HOY_MIXTURES: how many, for a night. */
TEST(mount_of_index_equals_extraction)
{
	enum { ENTRIES = 14 };
	const char *many = getenv("HOY_MIXTURES");
	const long rounds = many ? strtol(many, NULL, 10) : 400;
	long good = 0;

	seed = 7;
	for (long round = 0; round < rounds; round++) {
		auto_buf struct buf tar = BUF(1 << 20), indexed = BUF(1 << 24), extracted = BUF(1 << 24);
		struct tar_entry e[ENTRIES];
		auto_fd int fd = scratch("image");
		struct err *error, *other;
		uint64_t size;

		for (int i = 0; i < ENTRIES; i++)
			mixture(&e[i]);
		make_tar(e, (size_t)(round % ENTRIES) + 1, &tar);
		other = index_of(&tar, fd, &size);
		extracted_text(&tar, &extracted, &error);
		if (!error && other)
			t_fail(__FILE__, __LINE__, "round %ld: only the index refuses: %s", round,
			       other->msg);
		if (error && other)
			if (other->kind != error->kind &&
			    error->os != EACCES) /* sysctl fs.protected_symlinks */
				t_fail(__FILE__, __LINE__, "round %ld: %s; extraction: %s", round, other->msg,
				       error->msg);
		if (!other)
			image_text(&tar, fd, &indexed);
		if (!error) {
			auto_free char *got = plain(&indexed), *want = plain(&extracted);

			if (strcmp(got, want) != 0)
				for (long i = 0; i <= round % ENTRIES; i++)
					printf("%s %c %s\n", e[i].name, e[i].type, e[i].link);
			CHECK_STR(got, want);
			good++;
		}
		err_free(error);
		err_free(other);
	}
	CHECK(good > rounds / 10 && good < rounds);
}

/* Archives of other programs, of every form (tests/corpus/make.sh). */
TEST(the_corpus_is_what_extraction_makes)
{
	static const char *const names[] = { "posix",       "gnu",           "ustar",         "sparse-gnu",
					     "sparse-0.1",  "sparse-1.0",    "replaced",      "through-links",
					     "whiteouts",   "escapes",       "loops",         "nothing",
					     "device-zero", "cut-in-header", "cut-in-content" };
	size_t good = 0;

	for (size_t i = 0; i < LEN(names); i++) {
		auto_free char *path = xasprintf("tests/corpus/tar/%s.tar", names[i]);
		struct buf tar = { 0 };
		auto_buf struct buf text = BUF(1 << 24), extracted = BUF(1 << 24);
		auto_fd int fd = scratch("image");
		auto_err struct err *error = NULL, *other = NULL;
		uint64_t size;

		tar.data = t_source_file(path, &tar.n);
		other = index_of(&tar, fd, &size);
		extracted_text(&tar, &extracted, &error);
		if (!error != !other || (error && error->kind != other->kind))
			t_fail(__FILE__, __LINE__, "%s: %s; extraction: %s", names[i],
			       other ? other->msg : "good", error ? error->msg : "good");
		if (!error) {
			auto_free char *got = NULL, *want = plain(&extracted);

			image_text(&tar, fd, &text);
			got = plain(&text);
			if (strcmp(got, want) != 0)
				t_fail(__FILE__, __LINE__, "%s: got\n%swant\n%s", names[i], got, want);
			good++;
		}
		free(tar.data);
	}
	CHECK_INT(good, 11); /* the others are refused by both */
}

TEST(what_extraction_refuses_the_index_refuses)
{
	static const struct {
		struct tar_entry e[2];
		enum err_kind kind;
	} bad[] = {
		{ { { .name = "../out", .type = '0' } }, ERR_INVALID },
		{ { { .name = "x", .type = '1', .link = "../../out" } }, ERR_INVALID },
		{ { { .name = "x", .type = '1', .link = "nothing" } }, ERR_NOT_FOUND },
		{ { { .name = "x", .type = '1', .link = "x" } }, ERR_NOT_FOUND },
		{ { { .name = "d", .type = '5' }, { .name = "x", .type = '1', .link = "d" } }, ERR_DENIED },
		{ { { .name = "f", .type = '0' }, { .name = "f/x", .type = '0' } }, ERR_INVALID },
		{ { { .name = "l", .type = '2', .link = "l" }, { .name = "l/x", .type = '0' } },
		  ERR_INVALID },
		{ { { .name = "l/..", .type = '0' } }, ERR_INVALID },
		{ { { .name = ".wh...", .type = '0' } }, ERR_INVALID },
		{ { { .name = "dev", .type = '3', .dev_major = 5000 } }, ERR_INVALID },
	};

	for (size_t i = 0; i < LEN(bad); i++) {
		auto_buf struct buf tar = BUF(1 << 20), text = BUF(1 << 20);
		auto_fd int fd = scratch("image");
		struct err *error;
		uint64_t size;

		make_tar(bad[i].e, bad[i].e[1].name ? 2 : 1, &tar);
		extracted_text(&tar, &text, &error);
		CHECK_ERR(bad[i].kind, error);
		CHECK_ERR(bad[i].kind, index_of(&tar, fd, &size));
	}
}

/* ---- sizes ---- */

TEST(names_long_and_many)
{
	enum { MANY = 100000 };
	auto_buf struct buf tar = BUF(1 << 28), text = BUF(1 << 28), again = { 0 }, first = { 0 };
	auto_free struct tar_entry *e = xcalloc(MANY + 2, sizeof *e);
	auto_free char *names = xcalloc(MANY, 16);
	char long_name[256] = "", long_link[4000] = "";
	auto_fd int fd = scratch("first"), fd2 = scratch("second");
	struct err *error;
	uint64_t size;

	memset(long_name, 'n', 255);
	memset(long_link, 'l', sizeof long_link - 1);
	for (uint32_t i = 0; i < MANY; i++) {
		(void)snprintf(names + 16 * i, 16, "big/%x", i * 2654435761u);
		e[i] = (struct tar_entry){ .name = names + 16 * i,
					   .type = i % 7 ? '1' : '6',
					   .link = names + 16 * (i - i % 7),
					   .mode = 0640,
					   .mtime_ns = 1 };
	}
	e[MANY] = (struct tar_entry){ .name = long_name, .type = '2', .link = long_link, .mtime_ns = 1 };
	e[MANY + 1] = (struct tar_entry){
		.name = "five hundred", .type = '2', .link = long_link + 3999 - 500, .mtime_ns = 1
	};
	make_tar(e, MANY + 2, &tar);
	CHECK_OK(index_of(&tar, fd, &size));
	CHECK_OK(index_of(&tar, fd2, &size));
	read_all(fd, &first);
	read_all(fd2, &again);
	CHECK(first.n == again.n && memcmp(first.data, again.data, first.n) == 0); /* whatever the seed */
	image_text(&tar, fd, &text);
	for (uint32_t i = 0; i < MANY; i += 999) {
		auto_free char *line = xasprintf("\n/%s 10640 0:0 0.000000001 7\n", names + 16 * i);

		CHECK(i + 7 > MANY || strstr(buf_text(&text), line));
	}
	CHECK(strstr(buf_text(&text), long_link) && strstr(buf_text(&text), long_name));
	memset(long_name, 'n', 255);
	{
		char over[257] = "";
		struct tar_entry one = { .name = over, .type = '0' };
		auto_buf struct buf t = BUF(1 << 20);

		memset(over, 'n', 256);
		make_tar(&one, 1, &t);
		extracted_text(&t, &text, &error);
		CHECK_ERR(ERR_INVALID, error);
		CHECK_ERR(ERR_INVALID, index_of(&t, fd, &size));
	}
}

/* An archive with one file of zeros, whose bytes are skipped, not made. */
struct zeros {
	struct buf head;
	uint64_t size, at;
};

static struct err *zeros_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct zeros *z = ctx;

	*out_n = z->at >= z->size ? 0 : n < z->size - z->at ? n : (size_t)(z->size - z->at);
	memset(p, 0, *out_n);
	if (z->at < z->head.n)
		memcpy(p, z->head.data + z->at,
		       z->head.n - z->at < *out_n ? z->head.n - (size_t)z->at : *out_n);
	z->at += *out_n;
	return NULL;
}

static struct err *zeros_skip(void *ctx, uint64_t n, uint64_t *out_n)
{
	struct zeros *z = ctx;

	*out_n = n < z->size - z->at ? n : z->size - z->at;
	z->at += *out_n;
	return NULL;
}

TEST(a_file_of_more_than_4_gib)
{
	const uint64_t size = UINT64_C(5) << 30;
	struct zeros z = { .head = BUF(1 << 20) };
	struct tar_entry e = { .name = "big", .type = '0', .mode = 0600, .link = "" };
	struct tar_writer *w;
	auto_fd int fd = scratch("image"), tar = scratch("tar"), mount_fd = -1;
	uint64_t got = 0;
	struct stat st;
	char last;

	e.size = size;
	CHECK_OK(tar_writer_new((struct zip_sink){ give, &z.head }, &w));
	CHECK_OK(tar_add(w, &e));
	tar_writer_free(w);
	z.size = z.head.n + size + 1024;
	CHECK_OK(erofs_index((struct zip_source){ zeros_read, &z, zeros_skip }, fd, &got));
	CHECK(got == size);
	CHECK(sys_ftruncate(tar, (off_t)z.size) == 0 &&
	      sys_pwrite_all(tar, "x", 1, (off_t)(z.head.n + size - 1)) >= 0);
	mount_fd = erofs_mount(fd, tar);
	if (mount_fd >= 0) {
		auto_fd int file = sys_openat(mount_fd, "big", O_RDONLY, 0);

		CHECK(sys_fstat(file, &st) == 0 && (uint64_t)st.st_size == size);
		CHECK(sys_pread(file, &last, 1, (off_t)size - 1) == 1 && last == 'x');
	}
	buf_fini(&z.head);
}

/* ---- GNU tar ---- */

static int shell(const char *command)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void gnu_tar_agrees(const char *format, const char *sparse)
{
	auto_free char *command = xasprintf(
	    "cd %s && rm -rf real && mkdir -p real/deep && cp -a /usr/share/perl5 /usr/lib/ssl real/ && cd "
	    "real && "
	    "truncate -s 3M hole && printf end >>hole && printf begin | dd of=hole conv=notrunc bs=1 "
	    "seek=1000001 2>/dev/null && "
	    "truncate -s 300M huge && printf x | dd of=huge conv=notrunc bs=1 seek=100000001 2>/dev/null && "
	    "ln hole deep/hard && mkfifo pipe && touch -d @-5 old && touch -d 2200-01-01 late && chown "
	    "3000000:5 late && "
	    "n=$(printf %%0250d 1) && touch \"$n\" && ln -s \"$n/$n/$n\" deep/link && cd .. && "
	    "tar --format=%s %s --sort=name -cf real.tar -C real .",
	    t_tmppath(), format, sparse);
	auto_free char *compare = NULL;
	auto_fd int tar = -1, fd = scratch("image"), mount_fd = -1;
	uint64_t size;

	CHECK_INT(shell(command), 0);
	tar = sys_openat(t_tmpdir(), "real.tar", O_RDONLY, 0);
	CHECK_OK(erofs_index(zip_source_file(&tar), fd, &size));
	mount_fd = erofs_mount(fd, tar);
	if (mount_fd < 0)
		return;
	compare = xasprintf("cd %s && tar --compare -C /proc/%d/fd/%d -f real.tar", t_tmppath(),
			    (int)getpid(), mount_fd);
	CHECK_INT(shell(compare), 0);
}

TEST(gnu_tar_agrees_with_the_mounted_image)
{
	gnu_tar_agrees("posix", "--sparse --sparse-version=1.0 --xattrs --acls");
	gnu_tar_agrees("posix", "--sparse --sparse-version=0.1");
	gnu_tar_agrees("posix", "--sparse --sparse-version=0.0");
	gnu_tar_agrees("gnu", "--sparse");
	gnu_tar_agrees("gnu --exclude=./huge", "");
}

/* Its chunks grow with it, and bytes stand where they should beyond 32 bits. */
TEST(a_sparse_file_of_more_than_4_gib)
{
	auto_free char *command =
	    xasprintf("cd %s && truncate -s 9G big && printf abc | dd of=big conv=notrunc bs=1 "
		      "seek=5000000007 2>/dev/null && printf end >>big && tar --format=posix "
		      "--sparse -cf big.tar big && rm big",
		      t_tmppath());
	const uint64_t size = (UINT64_C(9) << 30) + 3;
	auto_fd int tar = -1, fd = scratch("image"), mount_fd = -1, file = -1;
	uint64_t got = 0;
	struct stat st;
	char text[5];

	CHECK_INT(shell(command), 0);
	tar = sys_openat(t_tmpdir(), "big.tar", O_RDONLY, 0);
	CHECK_OK(erofs_index(zip_source_file(&tar), fd, &got));
	CHECK(got == size && sys_fstat(fd, &st) == 0 && st.st_blocks * 512 < 4 << 20);
	mount_fd = erofs_mount(fd, tar);
	if (mount_fd < 0)
		return;
	file = sys_openat(mount_fd, "big", O_RDONLY, 0);
	CHECK(sys_fstat(file, &st) == 0 && (uint64_t)st.st_size == size);
	CHECK(sys_pread(file, text, 5, 5000000006) == 5 && memcmp(text, "\0abc", 5) == 0);
	CHECK(sys_pread(file, text, 5, (off_t)size - 4) == 4 && memcmp(text, "\0end", 4) == 0);
}

/* ---- failures ---- */

TEST(no_failing_call_is_swallowed)
{
	static const struct tar_entry e[] = { { .name = "a/b", .type = '0', .mode = 0644 },
					      { .name = "c", .type = '1', .link = "a/b" } };
	auto_buf struct buf tar = BUF(1 << 20);
	auto_fd int fd = scratch("image");
	char id[DIGEST_MAX], back[DIGEST_MAX];
	uint64_t size, count = 0;

	make_tar(e, LEN(e), &tar);
	digest_of(tar.data, tar.n, id);
	FAULT_SWEEP (ENOSPC) {
		struct err *error;

		t_sweep_on();
		error = index_of(&tar, fd, &size);
		if (!error)
			error = erofs_stamp(fd, id);
		t_sweep_off();
		CHECK(!error == !t_sweep_fired());
		CHECK(!error || error->kind == ERR_LIMIT);
		err_free(error);
	}
	CHECK_OK(erofs_look(fd, back, &count));
	CHECK_STR(back, id);
	CHECK_INT(count, 3);
	CHECK(sys_ftruncate(fd, 1100) == 0);
	CHECK_ERR(ERR_CORRUPT, erofs_look(fd, back, &count));
	for (size_t n = 1; n < tar.n - 1024; n += 100) { /* cut short */
		struct bytes in = { tar.data, n, 0 };

		CHECK_ERR(ERR_CORRUPT, erofs_index((struct zip_source){ take, &in }, fd, &size));
	}
}
