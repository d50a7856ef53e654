/* tree.c - which entries a layer gets; see tree.h. Contents are read in tree_out.c. */
#include "build/tree.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/zip.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>

enum { LINKS_MAX = 40, DEPTH_MAX = 1024, CAPABILITY_MAX = 256 };

void tree_init(struct tree *t, int base_fd, int64_t mtime_ns)
{
	*t = (struct tree){ .base_fd = base_fd, .mtime_ns = mtime_ns };
}

static void entry_fini(struct tree_entry *e)
{
	free(e->path);
	free(e->link);
	free(e->source);
	free(e->capability);
}

void tree_fini(struct tree *t)
{
	for (size_t i = 0; i < t->v.n; i++)
		entry_fini(&t->v.p[i]);
	vec_fini(&t->v);
	for (size_t i = 0; i < t->real.n; i++)
		free(t->real.entries[i].value);
	map_fini(&t->real);
	map_fini(&t->index);
}

bool tree_has_archive(const struct tree *t)
{
	for (size_t i = 0; i < t->v.n; i++)
		if (t->v.p[i].type == 'A')
			return true;
	return false;
}

/* ---- modes ---- */

static mode_t permission(mode_t who, const char **p, mode_t mode, bool is_dir)
{
	mode_t bits = 0;

	for (;; ++*p) {
		switch (**p) {
		case 'r':
			bits |= 0444 & who;
			break;
		case 'w':
			bits |= 0222 & who;
			break;
		case 'x':
			bits |= 0111 & who;
			break;
		case 'X':
			bits |= is_dir || (mode & 0111) ? 0111 & who : 0;
			break;
		case 's':
			bits |= 06000 & who;
			break;
		case 't':
			bits |= 01000;
			break;
		case 'u':
			bits |= ((mode >> 6 & 7) * 0111) & who;
			break;
		case 'g':
			bits |= ((mode >> 3 & 7) * 0111) & who;
			break;
		case 'o':
			bits |= ((mode & 7) * 0111) & who;
			break;
		default:
			return bits;
		}
	}
}

/* One clause "[ugoa…]op[perms]…"; false: malformed. */
static bool clause(const char **p, mode_t *mode, bool is_dir)
{
	mode_t who = 0, bits;
	char op;

	for (; **p && strchr("ugoa", **p); ++*p)
		who |= **p == 'u' ? 04700 : **p == 'g' ? 02070 : **p == 'o' ? 01007 : 07777;
	if (!who)
		who = 07777;
	if (!**p || !strchr("+-=", **p))
		return false;
	while (**p && strchr("+-=", **p)) {
		op = *(*p)++;
		bits = permission(who, p, *mode, is_dir);
		*mode = op == '+' ? *mode | bits : op == '-' ? *mode & ~bits : (*mode & ~(who & 07777)) | bits;
	}
	return true;
}

FALLIBLE mode_apply(const char *chmod, mode_t mode, bool is_dir, mode_t *out_mode)
{
	const char *p = chmod;

	if (!chmod) {
		*out_mode = mode;
		return NULL;
	}
	if (*p >= '0' && *p <= '7' && strspn(p, "01234567") == strlen(p) && strlen(p) <= 5) {
		unsigned long value = strtoul(p, NULL, 8);

		if (value <= 07777) {
			*out_mode = (mode_t)value;
			return NULL;
		}
	} else if (*p && (*p < '0' || *p > '9')) {
		mode_t m = mode;
		bool ok = clause(&p, &m, is_dir);

		while (ok && *p == ',') {
			p++;
			ok = clause(&p, &m, is_dir);
		}
		if (ok && !*p) {
			*out_mode = m;
			return NULL;
		}
	}
	return FAIL(ERR_INVALID, "invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777", chmod);
}

/* ---- paths in the stage ---- */

/* Attributes of path (absolute, no link above it) in the stage; false: not there. */
static bool base_stat(const struct tree *t, const char *path, struct stat *out)
{
	auto_fd int fd = t->base_fd < 0 ? -1 : sys_open_in_root(t->base_fd, path, O_PATH | O_NOFOLLOW, 0);

	return fd >= 0 && sys_fstat(fd, out) == 0;
}

bool tree_base_is_dir(const struct tree *t, const char *path)
{
	auto_fd int fd = t->base_fd < 0 ? -1 : sys_open_in_root(t->base_fd, path, O_PATH | O_DIRECTORY, 0);

	return fd >= 0 || strcmp(path, "/") == 0;
}

/* The target of a link at path in the stage, or NULL. Owned. */
static char *base_link(const struct tree *t, const char *path)
{
	auto_fd int fd = t->base_fd < 0 ? -1 : sys_open_in_root(t->base_fd, path, O_PATH | O_NOFOLLOW, 0);
	char target[PATH_MAX];
	struct stat st;

	if (fd < 0 || sys_fstat(fd, &st) < 0 || !S_ISLNK(st.st_mode) || sys_readlink(fd, "", target, sizeof target) < 0)
		return NULL;
	return xstrdup(target);
}

FALLIBLE tree_real_dir(const struct tree *t, const char *path, char **out_real)
{
	auto_free char *rest = xstrdup(path), *done = xstrdup("");
	unsigned links = 0;

	while (rest[strspn(rest, "/")]) {
		const char *from = rest + strspn(rest, "/");
		size_t n = strcspn(from, "/");
		auto_free char *next = xasprintf("%s/%.*s", done, (int)n, from), *tail = xstrdup(from + n);
		auto_free char *target = base_link(t, next);

		if (target) {
			auto_free char *joined = NULL;

			if (++links > LINKS_MAX)
				return FAIL(ERR_INVALID, "%s: too many symbolic links", path);
			joined = path_join(*done ? done : "/", target);
			free(rest);
			rest = xasprintf("%s%s", joined, tail);
			free(done);
			done = xstrdup("");
		} else {
			free(rest);
			rest = TAKE(tail);
			free(done);
			done = TAKE(next);
		}
	}
	*out_real = xstrdup(*done ? done : "/");
	return NULL;
}

/* The same, remembered; borrowed from the tree. The stage is read-only meanwhile. */
static FALLIBLE real_dir(struct tree *t, const char *path, const char **out_real)
{
	void **slot = map_get(&t->real, path);
	char *real;

	if (!slot) {
		TRY(tree_real_dir(t, path, &real));
		slot = map_put(&t->real, path);
		*slot = real;
	}
	*out_real = *slot;
	return NULL;
}

/* path with the links of its directory followed; owned. */
static FALLIBLE real_path(struct tree *t, const char *path, char **out_path)
{
	const char *slash = strrchr(path, '/'), *real;
	auto_free char *dir = slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));

	TRY(real_dir(t, dir, &real));
	*out_path = xasprintf("%s/%s", strcmp(real, "/") == 0 ? "" : real, slash + 1);
	return NULL;
}

/* ---- the list ---- */

static bool is_listed(const struct tree *t, const char *path)
{
	void **slot = map_get(&t->index, path);

	return slot && *slot;
}

/* A slot for path (absolute, resolved): what an earlier source put there goes. */
static struct tree_entry *list_entry(struct tree *t, const char *path, char type)
{
	void **slot = map_put(&t->index, path);
	uintptr_t at = (uintptr_t)*slot;
	struct tree_entry *e;

	if (at && t->v.p[at - 1].type != '5') {
		e = &t->v.p[at - 1]; /* the place in the list stays: its parents are before it */
		entry_fini(e);
		*e = (struct tree_entry){ 0 };
	} else {
		e = vec_push(&t->v);
		*slot = (void *)(uintptr_t)t->v.n; /* NOLINT: an index kept in a pointer */
	}
	e->path = xstrdup(path + 1);
	e->type = type;
	e->source_fd = -1;
	return e;
}

/* Directories above path (absolute, resolved), as the stage has them or new. */
static FALLIBLE add_parents(struct tree *t, const char *path)
{
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		auto_free char *dir = xstrndup(path, (size_t)(slash - path));
		struct tree_entry *e;
		struct stat st;
		bool exists;

		if (is_listed(t, dir))
			continue;
		exists = base_stat(t, dir, &st);
		if (exists && !S_ISDIR(st.st_mode))
			return FAIL(ERR_INVALID, "cannot copy to non-directory: %s", dir);
		e = list_entry(t, dir, '5');
		e->mode = exists ? st.st_mode & 07777 : 0755;
		e->uid = exists ? st.st_uid : t->attrs.has_owner ? t->attrs.uid : 0;
		e->gid = exists ? st.st_gid : t->attrs.has_owner ? t->attrs.gid : 0;
	}
	return NULL;
}

FALLIBLE tree_add_dir(struct tree *t, const char *path)
{
	const char *real;
	auto_free char *below = NULL;

	TRY(real_dir(t, path, &real));
	below = xasprintf("%s/.", strcmp(real, "/") == 0 ? "" : real);
	return add_parents(t, below);
}

FALLIBLE tree_add_text(struct tree *t, const char *path, const char *text, mode_t mode)
{
	auto_free char *real = NULL;
	struct tree_entry *e;

	TRY(real_path(t, path, &real));
	TRY(add_parents(t, real));
	e = list_entry(t, real, '0');
	e->text = text;
	e->size = strlen(text);
	e->uid = t->attrs.has_owner ? t->attrs.uid : 0;
	e->gid = t->attrs.has_owner ? t->attrs.gid : 0;
	return mode_apply(t->attrs.chmod, mode, false, &e->mode);
}

/* ---- sources ---- */

static char type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return '0';
	case S_IFLNK:
		return '2';
	case S_IFCHR:
		return '3';
	case S_IFBLK:
		return '4';
	case S_IFDIR:
		return '5';
	case S_IFIFO:
		return '6';
	default:
		return 0;
	}
}

static FALLIBLE set_attrs(struct tree *t, const struct tree_source *src, const struct stat *st, struct tree_entry *e)
{
	mode_t mode = st->st_mode & 07777;

	if (!S_ISLNK(st->st_mode))
		TRY(mode_apply(t->attrs.chmod, mode, S_ISDIR(st->st_mode), &mode));
	else
		mode = 0777;
	e->mode = mode;
	e->uid = t->attrs.has_owner ? t->attrs.uid : src->is_context ? 0 : st->st_uid;
	e->gid = t->attrs.has_owner ? t->attrs.gid : src->is_context ? 0 : st->st_gid;
	e->major = major(st->st_rdev);
	e->minor = minor(st->st_rdev);
	return NULL;
}

struct file {
	int dir_fd;	      /* borrowed */
	const char *name;     /* in it */
	const char *source;   /* in the source's root */
	const struct stat *st;
	int fd;		      /* the file itself, or -1; borrowed */
};

static void take_capability(struct tree_entry *e, const struct file *f)
{
	char value[CAPABILITY_MAX];
	ssize_t n = f->fd >= 0 ? fs_xattr_get_fd(f->fd, "security.capability", value, sizeof value) :
				 fs_xattr_get(f->dir_fd, f->name, "security.capability", value, sizeof value);

	if (n <= 0)
		return;
	e->capability = xmalloc((size_t)n);
	memcpy(e->capability, value, (size_t)n);
	e->n_capability = (size_t)n;
}

/* Anything but a directory. dest: absolute. */
static FALLIBLE add_file(struct tree *t, const struct tree_source *src, const struct file *f, const char *dest)
{
	auto_free char *real = NULL;
	char type = type_of(f->st->st_mode), target[PATH_MAX];
	struct tree_entry *e;

	if (!type)
		return NULL; /* a socket */
	TRY(real_path(t, dest, &real));
	TRY(add_parents(t, real));
	e = list_entry(t, real, type);
	TRY(set_attrs(t, src, f->st, e));
	if (type == '2') {
		if (sys_readlink(f->dir_fd, f->name, target, sizeof target) < 0)
			return FAIL(ERR_CONFLICT, "%s changed while it was looked at", f->source);
		e->link = xstrdup(target);
	} else if (type == '0') {
		e->source = xstrdup(f->source);
		e->source_fd = src->root_fd;
		e->size = (uint64_t)f->st->st_size;
		take_capability(e, f);
	}
	return NULL;
}

/* A directory entry at dest (absolute); one that the stage or an earlier source has gets these attributes. */
static FALLIBLE add_dir(struct tree *t, const struct tree_source *src, const struct stat *st, const char *dest)
{
	auto_free char *real = NULL;
	struct tree_entry *e;
	struct stat below;
	void **slot;

	TRY(real_path(t, dest, &real));
	if (base_stat(t, real, &below) && S_ISLNK(below.st_mode) && tree_base_is_dir(t, real))
		return tree_add_dir(t, real); /* what it holds goes where the link leads */
	TRY(add_parents(t, real));
	slot = map_get(&t->index, real);
	e = slot && *slot ? &t->v.p[(uintptr_t)*slot - 1] : list_entry(t, real, '5');
	if (e->type != '5')
		return FAIL(ERR_INVALID, "cannot copy directory over file: %s", dest);
	return set_attrs(t, src, st, e);
}

struct walk {
	struct tree *t;
	const struct tree_source *src;
	size_t prefix; /* of a source path, up to what is below the directory that was named */
	unsigned depth;
};

static bool is_left_out(const struct walk *w, const char *source)
{
	return (w->src->ignore && ignore_excludes(w->src->ignore, source)) ||
	       (w->src->exclude && ignore_excludes(w->src->exclude, source + w->prefix));
}

/* Whether something below a directory that is left out may be wanted nevertheless. */
static bool may_want_below(const struct walk *w, const char *source)
{
	if (w->src->ignore && ignore_excludes(w->src->ignore, source) && !ignore_may_include_below(w->src->ignore, source))
		return false;
	return !w->src->exclude || !ignore_excludes(w->src->exclude, source + w->prefix) ||
	       ignore_may_include_below(w->src->exclude, source + w->prefix);
}

static FALLIBLE walk_dir(struct walk *w, int dir_fd, const char *source, const char *dest);

static void unlist_from(struct tree *t, size_t n)
{
	while (t->v.n > n) {
		struct tree_entry *e = &t->v.p[--t->v.n];
		auto_free char *path = xasprintf("/%s", e->path);

		*map_put(&t->index, path) = NULL;
		entry_fini(e);
	}
}

/* source: path in the source's root, without leading slash, as ignore rules want it. */
static FALLIBLE walk_entry(struct walk *w, int dir_fd, const char *name, const char *source, const char *dest)
{
	bool excluded = is_left_out(w, source);
	size_t before = w->t->v.n, with_dir;
	auto_fd int sub = -1;
	struct stat st;

	if (sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return FAIL(ERR_CONFLICT, "%s vanished while it was looked at", source);
	if (!S_ISDIR(st.st_mode)) {
		auto_free char *path = xasprintf("/%s", source);
		struct file f = { dir_fd, name, path, &st, -1 };

		return excluded ? NULL : add_file(w->t, w->src, &f, dest);
	}
	if (excluded && !may_want_below(w, source))
		return NULL;
	sub = sys_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (sub < 0)
		return FAIL_OS(-sub, "open directory %s", source);
	TRY(add_dir(w->t, w->src, &st, dest));
	with_dir = w->t->v.n;
	TRY(walk_dir(w, sub, source, dest));
	if (excluded && w->t->v.n == with_dir && with_dir == before + 1)
		unlist_from(w->t, before); /* nothing below was meant either */
	return NULL;
}

static FALLIBLE walk_dir(struct walk *w, int dir_fd, const char *source, const char *dest)
{
	auto_list char **names = NULL;
	int r = fs_list(dir_fd, &names);

	if (r < 0)
		return FAIL_OS(-r, "list directory %s", source);
	if (++w->depth > DEPTH_MAX)
		return FAIL(ERR_LIMIT, "%s: directories nested more than %d deep", source, DEPTH_MAX);
	for (size_t i = 0; names[i]; i++) {
		auto_free char *from = xasprintf("%s%s%s", source, *source ? "/" : "", names[i]);
		auto_free char *to = xasprintf("%s/%s", strcmp(dest, "/") == 0 ? "" : dest, names[i]);

		TRY(walk_entry(w, dir_fd, names[i], from, to));
	}
	w->depth--;
	return NULL;
}

/* Whether the open file is an archive that ADD unpacks. */
static FALLIBLE is_archive(int fd, bool *out_is)
{
	unsigned char head[512] = { 0 };
	ssize_t n = sys_pread(fd, head, sizeof head, 0);
	unsigned sum = 0, said = 0;

	*out_is = false;
	if (n < 16)
		return NULL;
	if (zip_sniff_any(head, (size_t)n) != ZIP_NONE) {
		auto_unzip struct unzip *u = NULL;
		size_t got = 0, part;

		if (sys_lseek(fd, 0, SEEK_SET) < 0)
			return NULL;
		TRY(unzip_open_any(zip_source_fd(&fd), &u));
		for (memset(head, 0, sizeof head); got < sizeof head; got += part) {
			struct err *e = unzip_read(u, head + got, sizeof head - got, &part);

			if (e) { /* damaged: copied as it is, like any other file */
				err_free(e);
				return NULL;
			}
			if (!part)
				break;
		}
		n = (ssize_t)got;
	}
	if (n < (ssize_t)sizeof head)
		return NULL;
	for (size_t i = 0; i < sizeof head; i++)
		sum += i >= 148 && i < 156 ? ' ' : head[i];
	for (size_t i = 148; i < 156; i++)
		if (head[i] >= '0' && head[i] <= '7')
			said = said * 8 + (head[i] - '0');
	*out_is = said == sum && sum > 8 * ' ';
	return NULL;
}

static FALLIBLE add_archive(struct tree *t, const struct tree_source *src, const char *path)
{
	const char *real;
	struct tree_entry *e;

	TRY(tree_add_dir(t, src->unpack_to));
	TRY(real_dir(t, src->unpack_to, &real));
	e = vec_push(&t->v);
	*e = (struct tree_entry){ .path = xstrdup(real + 1), .type = 'A', .source = xstrdup(path), .source_fd = src->root_fd };
	return NULL;
}

FALLIBLE tree_add_source(struct tree *t, const struct tree_source *src, const char *path, const char *dest)
{
	auto_fd int fd = sys_open_in_root(src->root_fd, path, O_PATH, 0), readable = -1;
	struct walk w = { .t = t, .src = src };
	struct stat st;
	bool archive = false;

	if (fd < 0 || sys_fstat(fd, &st) < 0)
		return FAIL(ERR_NOT_FOUND, "failed to compute cache key: \"%s\": not found", path);
	if (S_ISDIR(st.st_mode)) {
		if (strcmp(dest, "/") != 0 && !tree_base_is_dir(t, dest))
			TRY(add_dir(t, src, &st, dest));
		else
			TRY(tree_add_dir(t, dest));
		if ((readable = sys_open_in_root(src->root_fd, path, O_RDONLY | O_DIRECTORY, 0)) < 0)
			return FAIL_OS(-readable, "open directory %s", path);
		w.prefix = strcmp(path, "/") == 0 ? 0 : strlen(path);
		return walk_dir(&w, readable, path + 1, dest);
	}
	if (src->ignore && ignore_excludes(src->ignore, path + 1))
		return FAIL(ERR_NOT_FOUND, "failed to compute cache key: \"%s\": not found (.dockerignore leaves it out)", path);
	if (src->exclude && ignore_excludes(src->exclude, strrchr(path, '/') + 1))
		return NULL;
	if (S_ISREG(st.st_mode)) {
		if ((readable = sys_open_in_root(src->root_fd, path, O_RDONLY, 0)) < 0)
			return FAIL_OS(-readable, "open %s", path);
		if (src->unpack_to)
			TRY(is_archive(readable, &archive));
	}
	if (archive)
		return add_archive(t, src, path);
	return add_file(t, src, &(struct file){ -1, "", path, &st, readable }, dest);
}

/* ---- patterns ---- */

struct glob {
	const struct tree_source *src;
	char **found;
};

/* rest: pattern components still to match below dir (absolute, "" is the root). */
static FALLIBLE glob_below(struct glob *g, const char *dir, const char *rest)
{
	size_t n = strcspn(rest, "/");
	auto_free char *part = xstrndup(rest, n);
	auto_fd int fd = sys_open_in_root(g->src->root_fd, *dir ? dir : "/", O_RDONLY | O_DIRECTORY, 0);
	auto_list char **names = NULL;

	if (fd < 0 || fs_list(fd, &names) < 0)
		return NULL; /* not a directory: nothing matches below it */
	for (size_t i = 0; names[i]; i++) {
		auto_free char *path = xasprintf("%s/%s", dir, names[i]);

		if (!pattern_match(part, names[i]))
			continue;
		if (rest[n])
			TRY(glob_below(g, path, rest + n + 1));
		else if (!g->src->ignore || !ignore_excludes(g->src->ignore, path + 1))
			text_list_add(&g->found, path);
		else if (ignore_may_include_below(g->src->ignore, path + 1))
			text_list_add(&g->found, path);
	}
	return NULL;
}

FALLIBLE tree_glob(const struct tree_source *src, const char *pattern, char ***out_paths)
{
	struct glob g = { .src = src };
	struct err *e = glob_below(&g, "", pattern + 1);

	if (e) {
		text_list_free(g.found);
		return e;
	}
	*out_paths = g.found;
	return NULL;
}
