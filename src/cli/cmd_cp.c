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

struct cp_conf {
	bool archive, follow, quiet;
};
static const struct opt cp_opts[] = {
	{ OPT_FLAG, 'a', "archive", NULL, offsetof(struct cp_conf, archive), 0, "Keep owners and groups" },
	{ OPT_FLAG, 'L', "follow-link", NULL, offsetof(struct cp_conf, follow), 0, "Follow a link that SRC is" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct cp_conf, quiet), 0, "Print nothing" },
	{ 0 },
};

/* One end of the copy: a path below root_fd. On the host root_fd is /, and paths were made absolute. */
struct end {
	int root_fd;
	char *path;	  /* without leading slash; "" is the root */
	const char *said; /* as the user wrote it */
	bool in_container, wants_content; /* "dir/." */
};

static void end_fini(struct end *x)
{
	own_close(&x->root_fd);
	free(x->path);
}

static int open_end(const struct end *x, const char *path, int flags)
{
	if (!*path)
		path = ".";
	if (x->in_container)
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
	auto_free char *name = NULL;
	const char *path = text;
	char cwd[PATH_MAX] = "";
	size_t n;

	x->said = text;
	x->in_container = splits(text, &name, &path);
	if (x->in_container)
		TRY(container_root(e, name, writable, &x->root_fd));
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

/* Where the source goes: a directory fd and the name in it; name "" means into the directory itself. */
static FALLIBLE find_target(const struct end *dst, const char *base, bool src_is_dir, bool content, int *out_dir, char **out_name)
{
	bool slash = dst->said[strlen(dst->said) - 1] == '/' || dst->wants_content;
	auto_free char *path = xstrdup(dst->path), *parent = NULL;
	const char *last;
	int fd;

	strip_end(path);
	fd = open_end(dst, path, O_RDONLY | O_DIRECTORY);
	if (fd >= 0) { /* an existing directory: into it */
		*out_dir = fd;
		*out_name = xstrdup(src_is_dir && content ? "" : base);
		return NULL;
	}
	if (fd == -ENOTDIR && src_is_dir)
		return FAIL(ERR_INVALID, "cannot copy directory to file: %s", dst->said);
	if (fd == -ENOENT && slash && !src_is_dir)
		return FAIL(ERR_NOT_FOUND, "the destination directory %s does not exist", dst->said);
	last = strrchr(path, '/');
	parent = xstrndup(path, last ? (size_t)(last - path) : 0);
	fd = open_end(dst, parent, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return FAIL_OS(-fd, "the destination of %s", dst->said);
	*out_dir = fd;
	*out_name = xstrdup(last ? last + 1 : path);
	return NULL;
}

static int copy_file(int from, int to_dir, const char *name, const struct stat *st)
{
	auto_free char *part = xasprintf(".%s.hoy-cp", name);
	auto_fd int to = -1;
	struct stat there;
	ssize_t n;
	int r;

	if (sys_fstatat(to_dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(there.st_mode))
		return -EISDIR;
	(void)sys_unlink(to_dir, part);
	if ((to = sys_openat(to_dir, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600)) < 0)
		return to;
	do
		n = sys_copy_range(from, to, 1 << 22);
	while (n > 0);
	r = (int)n;
	if (r >= 0)
		r = sys_fchmod(to, st->st_mode & 07777);
	if (r >= 0) {
		const struct timespec t[2] = { st->st_atim, st->st_mtim };

		r = sys_utimens(to_dir, part, t, AT_SYMLINK_NOFOLLOW);
	}
	if (r >= 0)
		r = sys_rename(to_dir, part, name);
	if (r < 0)
		(void)sys_unlink(to_dir, part);
	return r;
}

static FALLIBLE copy_tree(int from, int dir, const char *name, const struct stat *st, const char *said)
{
	auto_fd int to = -1;
	int r = *name ? sys_mkdir(dir, name, 0755) : 0;

	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "make directory %s", name);
	to = sys_openat(dir, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (to < 0)
		return FAIL_OS(-to, "open directory %s", name);
	if ((r = fs_copy_over(from, to)) < 0)
		return FAIL_OS(-r, "copy %s", said);
	if (*name)
		(void)sys_fchmod(to, st->st_mode & 07777);
	return NULL;
}

/* Without -a what arrives belongs to who receives: root in a container, the caller on the host. */
static void own_tree(int dir, const char *name, uid_t uid, gid_t gid)
{
	auto_fd int fd = sys_openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	auto_list char **names = NULL;

	(void)sys_fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW);
	if (fd < 0 || fs_list(fd, &names) < 0)
		return;
	for (size_t i = 0; names[i]; i++)
		own_tree(fd, names[i], uid, gid);
}

static FALLIBLE copy(const struct end *src, const struct end *dst, const struct cp_conf *c)
{
	auto_free char *path = xstrdup(src->path), *name = NULL;
	auto_fd int from = -1, dir = -1;
	const char *base;
	struct stat st;
	int r;

	strip_end(path);
	from = open_end(src, path, O_RDONLY | O_NONBLOCK);
	if (from < 0)
		return from == -ENOENT ? FAIL(ERR_NOT_FOUND, "Could not find the file %s", src->said) :
					 FAIL_OS(-from, "open %s", src->said);
	if ((r = sys_fstat(from, &st)) < 0)
		return FAIL_OS(-r, "look at %s", src->said);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return FAIL(ERR_UNSUPPORTED, "%s is neither a file nor a directory", src->said);
	base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	TRY(find_target(dst, base, S_ISDIR(st.st_mode), src->wants_content, &dir, &name));
	if (S_ISDIR(st.st_mode))
		TRY(copy_tree(from, dir, name, &st, src->said));
	else if ((r = copy_file(from, dir, name, &st)) < 0)
		return FAIL_OS(-r, "copy %s to %s", src->said, dst->said);
	if (!c->archive && *name)
		own_tree(dir, name, dst->in_container ? 0 : getuid(), dst->in_container ? 0 : getgid());
	return NULL;
}

/* "-": a tar on standard output, or one on standard input that is unpacked. */
static FALLIBLE to_stdout(const struct end *src)
{
	static const int out = STDOUT_FILENO;
	auto_free char *path = xstrdup(src->path), *proc = NULL;
	auto_fd int from = -1;

	strip_end(path);
	if ((from = open_end(src, path, O_RDONLY | O_DIRECTORY)) < 0)
		return FAIL_OS(-from, "open directory %s", src->said);
	proc = xasprintf("/proc/self/fd/%d", from);
	return rootfs_diff(proc, NULL, -1, zip_sink_fd(&out));
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
		return to_stdout(&src);
	return strcmp(args[0], "-") == 0 ? from_stdin(&dst) : copy(&src, &dst, conf);
}
const struct cmd cmd_cp = { "cp",    "CONTAINER:SRC DEST|-  or  SRC|- CONTAINER:DEST", "Copy files between a container and the host",
			    cp_opts, sizeof(struct cp_conf), 2, 2, false, 0, false, run_cp, NULL, NULL };
