/*
 * cmd_cp.c - cp between a container and the host. The container's side is only reached below its root by openat2, so a
 * link inside leads nowhere else.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/cmds.h"
#include "codec/tar.h"
#include "engine/container.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>

enum { LINKS_MAX = 40, STAGES_MAX = 1000 };

struct cp_conf {
	bool archive, follow, quiet;
};
static const struct opt cp_opts[] = {
	{ OPT_FLAG, 'a', "archive", NULL, offsetof(struct cp_conf, archive), 0, "Keep owners, groups, set-id bits and capabilities" },
	{ OPT_FLAG, 'L', "follow-link", NULL, offsetof(struct cp_conf, follow), 0, "Follow a link that SRC is" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct cp_conf, quiet), 0, "Print nothing" },
	{ 0 },
};

/* One end of the copy: a path below root_fd. On the host root_fd is /, and paths were made absolute. */
struct end {
	int root_fd;
	char *path;	  /* without leading slash; "" is the root */
	char *container;  /* its name, or NULL: the host */
	struct engine *e;
	const char *said; /* as the user wrote it */
	bool wants_content; /* "dir/." */
};

static void end_fini(struct end *x)
{
	own_close(&x->root_fd);
	free(x->path);
	free(x->container);
}

static int open_end(const struct end *x, const char *path, int flags)
{
	if (!*path)
		path = ".";
	if (x->container)
		return sys_open_in_root(x->root_fd, path, flags, 0);
	{
		auto_free char *whole = xasprintf("/%s", path);

		return sys_open(whole, flags, 0);
	}
}

/* "container:path" unless what stands before the colon is a path. */
static bool splits(const char *text, char **out_name, const char **out_path)
{
	const char *colon = strchr(text, ':');

	if (!colon || text[0] == '/' || text[0] == '.' || memchr(text, '/', (size_t)(colon - text)))
		return false;
	*out_name = xstrndup(text, (size_t)(colon - text));
	*out_path = colon + 1;
	return true;
}

static FALLIBLE parse_end(struct engine *e, const char *text, bool writable, struct end *x)
{
	const char *path = text;
	char cwd[PATH_MAX] = "";
	size_t n;

	x->said = text;
	x->e = e;
	if (splits(text, &x->container, &path))
		TRY(container_root(e, x->container, writable, &x->root_fd));
	else if (path[0] != '/' && !getcwd(cwd, sizeof cwd))
		return FAIL_OS(errno, "find the current directory");
	n = strlen(path);
	x->wants_content = n >= 2 && strcmp(path + n - 2, "/.") == 0;
	x->path = xasprintf("%s/%s", cwd, path);
	for (n = strspn(x->path, "/"); n; n = 0)
		memmove(x->path, x->path + n, strlen(x->path + n) + 1);
	return NULL;
}

static void strip_end(char *path)
{
	size_t n = strlen(path);

	while (n && (path[n - 1] == '/' || (n >= 2 && path[n - 1] == '.' && path[n - 2] == '/')))
		path[--n] = 0;
	if (strcmp(path, ".") == 0)
		path[0] = 0;
}

/* Where the last component of *path leads; the links before it are the kernel's business. */
static FALLIBLE follow(const struct end *x, char **path)
{
	for (int i = 0; i < LINKS_MAX; i++) {
		auto_fd int fd = open_end(x, *path, O_PATH | O_NOFOLLOW);
		char target[PATH_MAX] = "", *next;
		const char *slash = strrchr(*path, '/');
		struct stat st;

		if (fd < 0 || sys_fstat(fd, &st) < 0 || !S_ISLNK(st.st_mode) || sys_readlink(fd, "", target, sizeof target) < 0)
			return NULL; /* whoever opens it says what is wrong */
		next = target[0] == '/' ? xstrdup(target + strspn(target, "/")) :
					  xasprintf("%.*s%s", slash ? (int)(slash - *path) + 1 : 0, *path, target);
		free(*path);
		*path = next;
		strip_end(*path);
	}
	return FAIL(ERR_INVALID, "%s: too many links", x->said);
}

static bool ends_in_slash(const struct end *x)
{
	size_t n = strlen(x->said);

	return n && x->said[n - 1] == '/';
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_name(const char *base)
{
	return *base && strcmp(base, ".") != 0 && strcmp(base, "..") != 0;
}

static int open_parent(const struct end *x, const char *path)
{
	auto_free char *parent = xstrndup(path, (size_t)(base_of(path) - path));

	return open_end(x, parent, O_RDONLY | O_DIRECTORY);
}

/* What is copied. */
struct source {
	int dir_fd;	  /* owned: the directory it is in */
	char *path;	  /* owned; its last part is its name in dir_fd, or "": dir_fd itself */
	const char *base; /* borrowed from said: what it is called where it arrives */
	bool whole;	  /* a directory of which only the content is meant */
	struct stat st;
};

static void source_fini(struct source *s)
{
	own_close(&s->dir_fd);
	free(s->path);
}

/* The root of a running container has the kernel's files in it, which are nobody's to copy. */
static FALLIBLE all_of(const struct end *src, int *dir_fd)
{
	struct stat root, st;

	if (!src->container || sys_fstat(src->root_fd, &root) < 0 || sys_fstat(*dir_fd, &st) < 0 || root.st_dev != st.st_dev ||
	    root.st_ino != st.st_ino)
		return NULL;
	own_close(dir_fd);
	*dir_fd = -1;
	return container_files(src->e, src->container, dir_fd);
}

static FALLIBLE find_source(const struct end *src, const struct cp_conf *c, char *name, struct source *out)
{
	auto_fd int fd = -1;
	int r;

	strip_end(name);
	out->base = base_of(name);
	out->path = xstrdup(name);
	if (c->follow || src->wants_content || ends_in_slash(src))
		TRY(follow(src, &out->path));
	fd = open_end(src, out->path, O_PATH | O_NOFOLLOW);
	if (fd == -ENOENT)
		return FAIL(ERR_NOT_FOUND, "Could not find the file %s", src->said);
	if (fd < 0 || (r = sys_fstat(fd, &out->st)) < 0)
		return FAIL_OS(fd < 0 ? -fd : -r, "open %s", src->said);
	if ((src->wants_content || ends_in_slash(src)) && !S_ISDIR(out->st.st_mode))
		return FAIL(ERR_INVALID, "%s is not a directory", src->said);
	if (S_ISSOCK(out->st.st_mode))
		return FAIL(ERR_UNSUPPORTED, "%s is a socket: nothing that can be copied", src->said);
	out->whole = S_ISDIR(out->st.st_mode) && (src->wants_content || !is_name(out->base));
	/* SECURITY: ".." of the root leads out when it is not the kernel that resolves the whole path */
	if (is_name(base_of(out->path)))
		out->dir_fd = open_parent(src, out->path);
	else if ((out->dir_fd = open_end(src, out->path, O_RDONLY | O_DIRECTORY)) >= 0)
		out->path[0] = 0;
	if (out->dir_fd < 0)
		return FAIL_OS(-out->dir_fd, "open the directory of %s", src->said);
	return *out->path ? NULL : all_of(src, &out->dir_fd);
}

/* Where the source goes: a directory fd and the name in it; name "" means into the directory itself. */
static FALLIBLE find_target(const struct end *dst, const struct source *s, int *out_dir, char **out_name)
{
	bool slash = ends_in_slash(dst) || dst->wants_content, is_dir = S_ISDIR(s->st.st_mode);
	auto_free char *path = xstrdup(dst->path);
	int fd;

	strip_end(path);
	TRY(follow(dst, &path));
	fd = open_end(dst, path, O_RDONLY | O_DIRECTORY);
	if (fd >= 0) { /* an existing directory: into it */
		*out_dir = fd;
		*out_name = xstrdup(s->whole ? "" : s->base);
		return NULL;
	}
	if (fd == -ENOTDIR && is_dir)
		return FAIL(ERR_INVALID, "cannot copy directory to file: %s", dst->said);
	if (fd == -ENOTDIR && slash)
		return FAIL(ERR_INVALID, "%s is not a directory", dst->said);
	if (fd == -ENOENT && slash && !is_dir)
		return FAIL(ERR_NOT_FOUND, "the destination directory %s does not exist", dst->said);
	if ((fd = open_parent(dst, path)) < 0)
		return FAIL_OS(-fd, "the destination of %s", dst->said);
	*out_dir = fd;
	*out_name = xstrdup(base_of(path));
	return NULL;
}

/* A file that is mounted there (/etc/hosts, a bound file) cannot be replaced by another. */
static int write_into(const struct source *s, int dir, const char *name)
{
	auto_fd int from = sys_openat(s->dir_fd, base_of(s->path), O_RDONLY | O_NONBLOCK, 0);
	auto_fd int to = from < 0 ? from : sys_openat(dir, name, O_WRONLY | O_NONBLOCK, 0);

	return to < 0 ? to : fs_copy_content(from, to);
}

/*
 * A directory in dir that is ours while we hold its fd (owned): others that copy to the same place have another one, and
 * what a killed one left is taken over.
 */
static int open_stage(int dir, char name[32])
{
	for (unsigned i = 0; i < STAGES_MAX; i++) {
		auto_fd int fd = -1;
		struct stat st;
		int r;

		(void)snprintf(name, 32, ".hoy-cp-%u", i);
		if ((r = sys_mkdir(dir, name, 0700)) < 0 && r != -EEXIST)
			return r;
		fd = sys_openat(dir, name, O_RDONLY | O_DIRECTORY, 0);
		if (fd >= 0 && sys_flock(fd, LOCK_EX | LOCK_NB) >= 0 && sys_fstat(fd, &st) >= 0 && st.st_nlink)
			return TAKE_FD(fd);
	}
	return -EBUSY;
}

/* Copied beside its place, then renamed: nobody sees a half. */
static int replace(const struct source *s, int dir, const char *name, const struct fs_owner *owner)
{
	const char *base = base_of(s->path);
	char stage[32];
	auto_fd int fd = open_stage(dir, stage);
	int r = fd < 0 ? fd : fs_remove_tree(fd, base);

	if (r >= 0)
		r = fs_copy_entry(s->dir_fd, base, fd, owner);
	if (r >= 0)
		r = sys_renameat(fd, base, dir, name, 0);
	if (fd >= 0)
		(void)fs_remove_tree(dir, stage);
	return r;
}

static int copy_file(const struct source *s, int dir, const char *name, const struct fs_owner *owner)
{
	struct stat there;

	if (sys_fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW) < 0)
		return replace(s, dir, name, owner);
	if (S_ISDIR(there.st_mode))
		return -EISDIR;
	if (S_ISREG(there.st_mode) && S_ISREG(s->st.st_mode) && sys_is_mount(dir, name))
		return write_into(s, dir, name);
	return replace(s, dir, name, owner);
}

static int copy_tree(const struct source *s, int dir, const char *name, const struct fs_owner *owner)
{
	const char *base = base_of(s->path);
	auto_fd int from = sys_openat(s->dir_fd, *base ? base : ".", O_RDONLY | O_DIRECTORY, 0), to = -1;
	int r = from < 0 ? from : *name ? sys_mkdir(dir, name, 0755) : 0;

	if (r < 0 && r != -EEXIST)
		return r;
	if ((to = sys_openat(dir, *name ? name : ".", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return to;
	if ((r = fs_copy_over(from, to, owner)) < 0 || !*name)
		return r;
	return fs_copy_attrs_to(from, to, owner);
}

/* Without -a what arrives belongs to who receives: root in a container, the caller on the host. */
static FALLIBLE copy(const struct end *src, const struct end *dst, const struct cp_conf *c)
{
	CLEANUP(source_fini) struct source s = { .dir_fd = -1 };
	auto_free char *path = xstrdup(src->path), *name = NULL;
	const struct fs_owner owner = { dst->container ? 0 : getuid(), dst->container ? 0 : getgid() };
	auto_fd int dir = -1;
	int r;

	TRY(find_source(src, c, path, &s));
	TRY(find_target(dst, &s, &dir, &name));
	r = (S_ISDIR(s.st.st_mode) ? copy_tree : copy_file)(&s, dir, name, c->archive ? NULL : &owner);
	return r < 0 ? FAIL_OS(-r, "copy %s to %s", src->said, dst->said) : NULL;
}

/* "-": a tar on standard output, or one on standard input that is unpacked. */
static FALLIBLE to_stdout(const struct end *src, const struct cp_conf *c)
{
	static const int out = STDOUT_FILENO;
	CLEANUP(source_fini) struct source s = { .dir_fd = -1 };
	auto_free char *path = xstrdup(src->path);
	auto_fd int from = -1;
	const char *base;

	if (isatty(out))
		return FAIL(ERR_INVALID, "an archive is not written to a terminal");
	TRY(find_source(src, c, path, &s));
	base = base_of(s.path);
	if (!s.whole)
		return snapshot_archive_entry(s.dir_fd, base, zip_sink_fd(&out));
	if ((from = sys_openat(s.dir_fd, *base ? base : ".", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(-from, "open directory %s", src->said);
	return snapshot_archive(from, zip_sink_fd(&out));
}

static FALLIBLE from_stdin(const struct end *dst)
{
	static const int in = STDIN_FILENO;
	auto_free char *path = xstrdup(dst->path);
	auto_fd int to = -1;

	strip_end(path);
	if ((to = open_end(dst, path, O_RDONLY | O_DIRECTORY)) < 0)
		return FAIL_OS(-to, "open directory %s", dst->said);
	return snapshot_extract(to, zip_source_fd(&in));
}

static FALLIBLE run_cp(const void *conf, char *const args[], int *out_exit)
{
	CLEANUP(end_fini) struct end src = { .root_fd = -1 }, dst = { .root_fd = -1 };
	auto_free char *a = NULL, *b = NULL;
	const char *rest;
	bool from = splits(args[0], &a, &rest), to = splits(args[1], &b, &rest);
	struct engine *e;

	(void)out_exit;
	if (from && to)
		return FAIL(ERR_UNSUPPORTED, "copying between containers is not supported");
	if (!from && !to)
		return FAIL(ERR_INVALID, "must specify at least one container source");
	TRY(cmd_engine(&e));
	if (strcmp(args[0], "-") != 0)
		TRY(parse_end(e, args[0], false, &src));
	if (strcmp(args[1], "-") != 0)
		TRY(parse_end(e, args[1], true, &dst));
	if (strcmp(args[1], "-") == 0)
		return to_stdout(&src, conf);
	return strcmp(args[0], "-") == 0 ? from_stdin(&dst) : copy(&src, &dst, conf);
}
const struct cmd cmd_cp = { "cp",    "CONTAINER:SRC DEST|-  or  SRC|- CONTAINER:DEST", "Copy files between a container and the host",
			    cp_opts, sizeof(struct cp_conf), 2, 2, false, 0, false, run_cp, NULL, NULL };
