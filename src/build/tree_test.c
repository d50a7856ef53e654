/* Layers that COPY makes, as data: entries, modes, what the hash depends on. */
#include "build/tree.h"
#include "base/buf.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/tar.h"
#include "harness/t.h"
#include <fcntl.h>
#include <sys/stat.h>

TEST(modes_octal_and_symbolic)
{
	static const struct {
		const char *chmod;
		mode_t in, want;
		bool is_dir;
	} t[] = {
		{ "644", 0777, 0644, false },	 { "4755", 0644, 04755, false },   { "0", 0777, 0, false },
		{ "u+x", 0644, 0744, false },	 { "+x", 0644, 0755, false },	   { "a-w", 0666, 0444, false },
		{ "go=", 0755, 0700, false },	 { "u=rwX,go=rX", 0600, 0644, false }, { "u=rwX,go=rX", 0700, 0755, false },
		{ "u=rwX,go=rX", 0600, 0755, true }, { "g=u", 0640, 0660, false },   { "u+s,+t", 0755, 05755, false },
		{ NULL, 0640, 0640, false },	 { "o-rwx", 0777, 0770, false },   { "u+rw-x", 0500, 0600, false },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		mode_t got = 0;

		CHECK_OK(mode_apply(t[i].chmod, t[i].in, t[i].is_dir, &got));
		CHECK_INT(got, t[i].want);
	}
}

TEST(wrong_modes_are_refused)
{
	static const char *const bad[] = { "", "999", "77777", "u", "u+", "rw", "u~x", "u+x,", "u+q", "8" };
	mode_t got;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (strcmp(bad[i], "u+") != 0)
			CHECK_ERR(ERR_INVALID, mode_apply(bad[i], 0644, false, &got));
}

static void list(const struct tree *t, struct buf *out)
{
	for (size_t i = 0; i < t->v.n; i++) {
		const struct tree_entry *e = &t->v.p[i];

		buf_fmt(out, "%c %s %o %u:%u%s%s\n", e->type, e->path, e->mode, e->uid, e->gid, e->link ? " -> " : "",
			e->link ? e->link : "");
	}
}

/* src: f, d/x, d/sub/y, link -> f, drop.log; base: etc (700), lnk -> etc */
static void set_up(int *out_src, int *out_base)
{
	int top = t_tmpdir();

	umask(022);
	CHECK(mkdirat(top, "src", 0755) == 0 && mkdirat(top, "base", 0755) == 0);
	*out_src = openat(top, "src", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*out_base = openat(top, "base", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(mkdirat(*out_src, "d", 0750) == 0 && mkdirat(*out_src, "d/sub", 0755) == 0);
	t_file_write(*out_src, "f", "F");
	t_file_write(*out_src, "d/x", "X");
	t_file_write(*out_src, "d/sub/y", "Y");
	t_file_write(*out_src, "drop.log", "");
	CHECK(symlinkat("f", *out_src, "link") == 0);
	CHECK(mkdirat(*out_base, "etc", 0700) == 0 && symlinkat("etc", *out_base, "lnk") == 0);
}

TEST(entries_of_a_copied_context)
{
	struct ignore g = { 0 };
	struct tree_source src = { .ignore = &g, .is_context = true };
	auto_buf struct buf out = BUF(1 << 16);
	struct tree t;
	int base;

	set_up(&src.root_fd, &base);
	CHECK_OK(ignore_parse(SV("*.log\nd/sub\n"), &g));
	tree_init(&t, base, 5);
	CHECK_OK(tree_add_source(&t, &src, "/", "/lnk/new"));
	list(&t, &out);
	CHECK_STR(buf_text(&out), "5 etc 700 0:0\n5 etc/new 755 0:0\n5 etc/new/d 750 0:0\n0 etc/new/d/x 644 0:0\n0 etc/new/f 644 0:0\n"
				  "2 etc/new/link 777 0:0 -> f\n");
	tree_fini(&t);
	CHECK_ERR(ERR_NOT_FOUND, tree_add_source(&t, &src, "/drop.log", "/x"));
	CHECK_ERR(ERR_NOT_FOUND, tree_add_source(&t, &src, "/nope", "/x"));
	tree_fini(&t);
	ignore_fini(&g);
	close(base);
	close(src.root_fd);
}

TEST(a_later_source_replaces_an_earlier_one)
{
	struct tree_source src = { .is_context = true };
	auto_buf struct buf out = BUF(1 << 16);
	struct tree t;
	int base;

	set_up(&src.root_fd, &base);
	tree_init(&t, base, 5);
	t.attrs = (struct tree_attrs){ .has_owner = true, .uid = 3, .gid = 4, .chmod = "600" };
	CHECK_OK(tree_add_source(&t, &src, "/f", "/a/z"));
	CHECK_OK(tree_add_text(&t, "/a/z", "text", 0644));
	list(&t, &out);
	CHECK_STR(buf_text(&out), "5 a 755 3:4\n0 a/z 600 3:4\n");
	CHECK_INT(t.v.p[1].size, 4);
	CHECK(!t.v.p[1].source);
	tree_fini(&t);
	close(base);
	close(src.root_fd);
}

static void hash_of(const struct tree_source *src, const char *path, const char *dest, char out[DIGEST_MAX])
{
	struct tree t;

	tree_init(&t, -1, 5);
	CHECK_OK(tree_add_source(&t, src, path, dest));
	CHECK_OK(tree_hash(&t, out));
	tree_fini(&t);
}

TEST(the_hash_is_of_names_modes_and_bytes_not_of_times)
{
	struct tree_source src = { .is_context = true };
	const struct timespec old[2] = { { 1, 0 }, { 1, 0 } };
	char a[DIGEST_MAX], b[DIGEST_MAX];
	int base;

	set_up(&src.root_fd, &base);
	hash_of(&src, "/d", "/t", a);
	CHECK(utimensat(src.root_fd, "d/x", old, 0) == 0);
	hash_of(&src, "/d", "/t", b);
	CHECK_STR(b, a);
	hash_of(&src, "/d", "/u", b);
	CHECK(strcmp(a, b) != 0);
	CHECK(fchmodat(src.root_fd, "d/x", 0600, 0) == 0);
	hash_of(&src, "/d", "/t", b);
	CHECK(strcmp(a, b) != 0);
	CHECK(fchmodat(src.root_fd, "d/x", 0644, 0) == 0);
	t_file_write(src.root_fd, "d/x", "Z");
	hash_of(&src, "/d", "/t", b);
	CHECK(strcmp(a, b) != 0);
	close(base);
	close(src.root_fd);
}

TEST(a_file_that_changes_meanwhile_is_an_error)
{
	struct tree_source src = { .is_context = true };
	struct store *store;
	struct ingest *in;
	char hash[DIGEST_MAX], digest[DIGEST_MAX];
	struct tree t;
	int base;

	set_up(&src.root_fd, &base);
	CHECK_OK(store_open(t_tmpdir(), &store));
	tree_init(&t, -1, 5);
	CHECK_OK(tree_add_source(&t, &src, "/f", "/f"));
	CHECK_OK(tree_hash(&t, hash));
	CHECK_OK(ingest_begin(store, &in));
	CHECK_OK(tree_write(&t, hash, in));
	CHECK_OK(ingest_commit(in, NULL, 0, digest));
	ingest_free(in);
	t_file_write(src.root_fd, "f", "G");
	CHECK_OK(ingest_begin(store, &in));
	CHECK_ERR(ERR_CONFLICT, tree_write(&t, hash, in));
	ingest_free(in);
	t_file_write(src.root_fd, "f", "longer");
	CHECK_OK(ingest_begin(store, &in));
	CHECK_ERR(ERR_CONFLICT, tree_write(&t, hash, in));
	ingest_free(in);
	tree_fini(&t);
	store_close(store);
	close(base);
	close(src.root_fd);
}

TEST(patterns_find_names_in_the_source)
{
	struct ignore g = { 0 };
	struct tree_source src = { .ignore = &g };
	char **found = NULL;
	int base;

	set_up(&src.root_fd, &base);
	CHECK_OK(ignore_parse(SV("*.log\n"), &g));
	CHECK_OK(tree_glob(&src, "/d/*", &found));
	CHECK(text_list_len(found) == 2);
	CHECK_STR(found[0], "/d/sub");
	text_list_free(found);
	CHECK_OK(tree_glob(&src, "/*.log", &found));
	CHECK(text_list_len(found) == 0);
	text_list_free(found);
	CHECK_OK(tree_glob(&src, "/*/s*/?", &found));
	CHECK_STR(found[0], "/d/sub/y");
	text_list_free(found);
	ignore_fini(&g);
	close(base);
	close(src.root_fd);
}
