/* context.c - see context.h. The context is never copied: steps read it through its directory fd. */
#include "build/context.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "sys/sys.h"
#include <fcntl.h>

FALLIBLE context_open(const struct build_opts *o, int *out_fd)
{
	int fd = sys_open_dir(o->context_dir);

	if (fd == -ENOENT)
		return FAIL(ERR_NOT_FOUND, "unable to prepare context: path \"%s\" not found", o->context_dir);
	if (fd == -ENOTDIR)
		return FAIL(ERR_INVALID, "unable to prepare context: \"%s\" is not a directory", o->context_dir);
	if (fd < 0)
		return FAIL_OS(-fd, "unable to prepare context: open \"%s\"", o->context_dir);
	*out_fd = fd;
	return NULL;
}

static FALLIBLE read_all(int fd, const char *what, struct buf *out)
{
	char chunk[16384];
	ssize_t n;

	while ((n = sys_read(fd, chunk, sizeof chunk)) > 0)
		buf_add(out, chunk, (size_t)n);
	if (n < 0)
		return FAIL_OS((int)-n, "read %s", what);
	return buf_check(out, what);
}

/* The Dockerfile's own name in messages: as given, without the context's directory. */
FALLIBLE context_dockerfile(const struct build_opts *o, int context_fd, struct dockerfile *out_file)
{
	const char *name = o->dockerfile ? o->dockerfile : "Dockerfile";
	auto_buf struct buf text = BUF(DOCKERFILE_MAX);
	auto_fd int fd = -1;

	if (strcmp(name, "-") == 0) {
		name = "Dockerfile";
		TRY(read_all(STDIN_FILENO, "the Dockerfile from standard input", &text));
	} else {
		fd = o->dockerfile ? sys_open(name, O_RDONLY, 0) : sys_open_in_root(context_fd, name, O_RDONLY, 0);
		if (fd == -ENOENT)
			return FAIL(ERR_NOT_FOUND, "failed to read dockerfile: open %s: no such file or directory", name);
		if (fd < 0)
			return FAIL_OS(-fd, "failed to read dockerfile: open %s", name);
		TRY(read_all(fd, name, &text));
	}
	return dockerfile_parse(name, sv_from(buf_text(&text), text.n), out_file);
}

FALLIBLE context_ignore(const struct build_opts *o, int context_fd, struct ignore *out_rules)
{
	auto_buf struct buf text = BUF(DOCKERFILE_MAX);
	auto_free char *own = NULL;
	auto_fd int fd = -ENOENT;
	struct err *e;

	*out_rules = (struct ignore){ 0 };
	if (!o->dockerfile || strcmp(o->dockerfile, "-") != 0) {
		own = xasprintf("%s.dockerignore", o->dockerfile ? o->dockerfile : "Dockerfile");
		fd = o->dockerfile ? sys_open(own, O_RDONLY, 0) : sys_open_in_root(context_fd, own, O_RDONLY, 0);
	}
	if (fd < 0)
		fd = sys_open_in_root(context_fd, ".dockerignore", O_RDONLY, 0);
	if (fd == -ENOENT)
		return NULL;
	if (fd < 0)
		return FAIL_OS(-fd, "open .dockerignore");
	TRY(read_all(fd, ".dockerignore", &text));
	e = ignore_parse(sv_from(buf_text(&text), text.n), out_rules);
	return e ? err_ctx(e, ".dockerignore") : NULL;
}
