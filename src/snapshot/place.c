/*
 * place.c - a chain of open directories. Entries of an archive come directory by directory, so the parent of
 * the next one is mostly the same, one step down or a few up. A step down opens one component without
 * following links; only where that is a link, the kernel resolves the whole path inside the root (openat2
 * RESOLVE_IN_ROOT).
 */
#include "snapshot/place.h"
#include "base/own.h"
#include "base/sv.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

enum { LINK_PARTS_MAX = 128 };

struct err *place_escapes(const char *name)
{
	return FAIL(ERR_INVALID, "%s escapes the layer", name);
}

bool place_clean(const char *name, char out[PLACE_NAME_MAX])
{
	struct sv rest = sv_of(name);
	size_t n = 0;

	while (rest.n) {
		struct sv part = sv_cut(&rest, '/');

		if (part.n == 0 || sv_is(part, "."))
			continue;
		if (sv_is(part, "..")) {
			if (n == 0)
				return false;
			while (n > 0 && out[--n] != '/')
				;
			continue;
		}
		if (n + part.n + 2 > PLACE_NAME_MAX)
			return false;
		if (n)
			out[n++] = '/';
		memcpy(out + n, part.p, part.n);
		n += part.n;
	}
	out[n] = '\0';
	return true;
}

static struct err *push(struct place *p, int fd, size_t len, const char *path)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r < 0) {
		own_close(&fd);
		return FAIL_OS(-r, "look at %.*s", (int)len, path);
	}
	if (p->n == PLACE_DEPTH) { /* the upper half will be opened again if needed */
		for (size_t i = 1; i < PLACE_DEPTH / 2; i++)
			own_close(&p->chain[i].fd);
		p->n = 1 + PLACE_DEPTH / 2;
		memmove(&p->chain[1], &p->chain[PLACE_DEPTH / 2], PLACE_DEPTH / 2 * sizeof *p->chain);
	}
	p->chain[p->n++] = (struct place_dir){ .fd = fd, .len = len, .gid = st.st_gid };
	return NULL;
}

static void pop(struct place *p)
{
	own_close(&p->chain[--p->n].fd);
}

struct err *place_init(struct place *p, int root_fd)
{
	int fd = sys_openat(root_fd, ".", O_PATH | O_DIRECTORY, 0);

	p->root_fd = root_fd;
	p->n = 0;
	p->give_way = NULL;
	p->is_stale = false;
	p->path[0] = '\0';
	return fd < 0 ? FAIL_OS(-fd, "open the layer's root") : push(p, fd, 0, "/");
}

void place_fini(struct place *p)
{
	while (p->n)
		pop(p);
	for (size_t i = 0; i < p->made.n; i++)
		free(p->made.p[i].path);
	vec_fini(&p->made);
}

void place_forget(struct place *p)
{
	p->is_stale = true;
}

static void note_made(struct place *p, const char *path, int64_t mtime_ns)
{
	*vec_push(&p->made) = (struct place_made){ xstrdup(path), mtime_ns };
}

static struct err *wrong(int r, const char *path)
{
	if (r == -ECANCELED)
		return FAIL(ERR_CANCELLED, "%s is of no interest", path);
	if (r == -EXDEV || r == -ELOOP)
		return place_escapes(path);
	if (r == -ENOTDIR)
		return FAIL(ERR_INVALID, "%s is not a directory, but has entries below it", path);
	return FAIL_OS(-r, "open directory %s", path);
}

/* 1, or -errno. */
static int make_dir(int dir_fd, const char *name)
{
	int r = sys_mkdir(dir_fd, name, 0755);

	return r < 0 ? r : 1;
}

/* r: of opening it as a directory. 1: it is one now; 0: it stands there as before. */
static int clear_way(const struct place *p, int r, int dir_fd, const char *name)
{
	return r == -ENOTDIR && p->give_way ? p->give_way(dir_fd, name) : 0;
}

/*
 * Opens path inside the root, links followed, and makes what is missing. Only for links that point to nothing
 * yet, so it may start at the root for each part.
 */
static struct err *open_made(struct place *p, const char *path, int64_t mtime_ns, int *out_fd)
{
	auto_fd int fd = -1;
	int parts = 0;

	for (const char *end = path; *end;) {
		auto_free char *part = NULL;
		auto_fd int up = TAKE_FD(fd);
		const char *base;
		int r = 0;

		end += strspn(end, "/");
		base = end;
		end += strcspn(end, "/");
		if (end == base)
			break;
		part = xstrndup(path, (size_t)(end - path));
		if (++parts > LINK_PARTS_MAX)
			return FAIL(ERR_LIMIT, "%s: a link to nothing, with more than %d parts", path,
				    LINK_PARTS_MAX);
		fd = sys_open_in_root(p->root_fd, part, O_PATH | O_DIRECTORY, 0);
		r = fd == -ENOENT ? make_dir(up < 0 ? p->root_fd : up, part + (base - path))
				  : clear_way(p, fd, up < 0 ? p->root_fd : up, part + (base - path));
		if (r > 0) {
			char clean[PLACE_NAME_MAX];

			if (place_clean(part, clean))
				note_made(p, clean, mtime_ns);
			fd = sys_open_in_root(p->root_fd, part, O_PATH | O_DIRECTORY, 0);
		}
		if (fd < 0)
			return r == -EEXIST ? FAIL(ERR_INVALID, "%s: a link to a link to nothing", path)
					    : wrong(r < 0 ? r : fd, part);
	}
	if (fd < 0)
		return wrong(-ENOENT, path);
	*out_fd = TAKE_FD(fd);
	return NULL;
}

/* The directory that the link path[0..len) in dir_fd leads to. Owned fd. */
static struct err *follow(struct place *p, const char *path, int64_t mtime_ns, int *out_fd)
{
	char target[PLACE_NAME_MAX];
	const char *slash = strrchr(path, '/');
	int up = slash ? (int)(slash - path) : 0, fd, r;
	auto_free char *whole = NULL;

	fd = sys_open_in_root(p->root_fd, path, O_PATH | O_DIRECTORY, 0);
	if ((fd == -ENOENT || (fd == -ENOTDIR && p->give_way)) && mtime_ns != PLACE_FIND) {
		r = (int)sys_readlink(place_at(p)->fd, path + up + (slash != NULL), target, sizeof target);
		if (r < 0)
			return wrong(r == -EINVAL ? -ENOTDIR : r, path);
		whole = target[0] == '/' ? xstrdup(target) : xasprintf("%.*s/%s", up, path, target);
		return open_made(p, whole, mtime_ns, out_fd);
	}
	if (fd < 0)
		return wrong(fd, path);
	*out_fd = fd;
	return NULL;
}

/* One component further: path[at..len). */
static struct err *step_down(struct place *p, const char *path, size_t at, size_t len, int64_t mtime_ns)
{
	auto_free char *whole = xstrndup(path, len);
	const char *name = whole + at;
	int dir = place_at(p)->fd;
	int fd = sys_openat(dir, name, O_PATH | O_DIRECTORY, 0), r = 0;

	if (mtime_ns != PLACE_FIND)
		r = fd == -ENOENT ? make_dir(dir, name) : clear_way(p, fd, dir, name);
	if (r < 0)
		return r == -ECANCELED ? wrong(r, whole) : FAIL_OS(-r, "make directory %s", whole);
	if (r > 0) {
		note_made(p, whole, mtime_ns);
		fd = sys_openat(dir, name, O_PATH | O_DIRECTORY, 0);
	}
	if (fd == -ENOTDIR || fd == -ELOOP)
		TRY(follow(p, whole, mtime_ns, &fd));
	if (fd < 0)
		return wrong(fd, whole);
	return push(p, fd, len, path);
}

struct err *place_enter(struct place *p, const char *path, int64_t mtime_ns, const char **out_base)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	*out_base = slash ? slash + 1 : path;
	while (p->is_stale && p->n > 1)
		pop(p);
	p->is_stale = false;
	for (;;) { /* up to the last directory that is a prefix of the wanted one */
		size_t len = place_at(p)->len;

		if (len == 0 ||
		    (len <= n && memcmp(p->path, path, len) == 0 && (len == n || path[len] == '/')))
			break;
		pop(p);
	}
	while (place_at(p)->len < n) {
		size_t at = place_at(p)->len, end;

		at += at > 0;
		end = at + strcspn(path + at, "/");
		TRY(step_down(p, path, at, end, mtime_ns));
		memcpy(p->path, path, end);
	}
	return NULL;
}
