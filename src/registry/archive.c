#include "registry/archive.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/tar.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

#define CHUNK_BYTES (1u << 18)
#define FILES_MAX   65536u
#define LINKS_MAX   8

struct entry {
	char *link; /* owned; another name of the archive; NULL: a file */
	uint64_t at, size;
	bool is_double, is_sparse;
};
struct archive {
	int fd;
	char *path;
	struct map files; /* name: struct entry, owned */
};

void archive_close(struct archive *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->files.n; i++) {
		struct entry *e = a->files.entries[i].value;

		free(e->link);
		free(e);
	}
	map_fini(&a->files);
	own_close(&a->fd);
	free(a->path);
	free(a);
}

/* base's directory joined with a relative target, "." and ".." taken out; what leads above the archive's root is
 * at its root. Owned. */
static char *resolve(const char *base, const char *target)
{
	const char *slash = strrchr(base, '/');
	auto_free char *text =
	    xasprintf("%.*s/%s", slash && *target != '/' ? (int)(slash - base) : 0, base, target);
	struct sv rest = sv_of(text);
	char *out = xcalloc(1, strlen(text) + 2), *end = out;

	while (rest.n) {
		struct sv part = sv_cut(&rest, '/');

		if (sv_is(part, "..")) {
			while (end > out && *--end != '/')
				;
		} else if (part.n && !sv_is(part, ".")) {
			if (end > out)
				*end++ = '/';
			memcpy(end, part.p, part.n);
			end += part.n;
		}
		*end = '\0';
	}
	return out;
}

static struct err *add_entry(struct archive *a, const struct tar_entry *t)
{
	bool is_link = t->type == '1' || t->type == '2';
	struct entry *e;
	void **slot;

	if (!is_link && t->type != '0')
		return NULL;
	if (a->files.n >= FILES_MAX)
		return FAIL(ERR_LIMIT, "more than %u files", FILES_MAX);
	slot = map_put(&a->files, t->name);
	if (*slot) {
		((struct entry *)*slot)->is_double = true;
		return NULL;
	}
	e = xnew(struct entry);
	*e = (struct entry){ .at = t->data_at, .size = t->size, .is_sparse = t->is_sparse };
	if (is_link) /* hard links name a file from the archive's root */
		e->link = resolve(t->type == '2' ? t->name : "", t->link);
	*slot = e;
	return NULL;
}

static struct err *read_index(struct archive *a)
{
	auto_tar_reader struct tar_reader *tar = NULL;
	const struct tar_entry *entry;

	if (sys_lseek(a->fd, 0, SEEK_SET) < 0)
		return FAIL(ERR_INTERNAL, "seek");
	TRY(tar_reader_new(zip_source_file(&a->fd), &tar));
	for (;;) {
		TRY(tar_next(tar, &entry));
		if (!entry)
			return NULL;
		TRY(add_entry(a, entry));
	}
}

/* Into an unnamed file, which becomes the archive's. */
static struct err *unpack(struct archive *a, int root_fd)
{
	auto_free char *chunk = xmalloc(CHUNK_BYTES);
	auto_fd int dir_fd = sys_open_beneath(root_fd, "tmp", O_RDONLY | O_DIRECTORY, 0), fd = -1;
	auto_unzip struct unzip *u = NULL;
	char name[64]; /* one that the next store_open sweeps, should this process die right here */
	size_t n;
	int r;

	(void)snprintf(name, sizeof name, "ingest-archive-%d", (int)getpid());
	fd = dir_fd < 0 ? dir_fd : sys_openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return FAIL_OS(-fd, "create a temporary file");
	(void)sys_unlink(dir_fd, name);
	TRY(unzip_open_any(zip_source_fd(&a->fd), &u));
	for (;;) {
		TRY(unzip_read(u, chunk, CHUNK_BYTES, &n));
		if (!n)
			break;
		r = sys_write_all(fd, chunk, n);
		if (r < 0)
			return FAIL_OS(-r, "write a temporary file");
	}
	own_close(&a->fd);
	a->fd = fd;
	fd = -1;
	return NULL;
}

static struct err *open_archive(struct archive *a, int root_fd)
{
	char head[6] = { 0 };
	struct stat st;
	int r;

	a->fd = sys_open(a->path, O_RDONLY, 0);
	if (a->fd < 0)
		return FAIL_OS(-a->fd, "open");
	r = sys_fstat(a->fd, &st);
	if (r < 0)
		return FAIL_OS(-r, "stat");
	if (S_ISDIR(st.st_mode))
		return FAIL(ERR_INVALID, "it is a directory (oci:PATH and dir:PATH take those)");
	if (!S_ISREG(st.st_mode) ||
	    zip_sniff_any(head, (size_t)sys_pread(a->fd, head, sizeof head, 0)) != ZIP_NONE)
		TRY(unpack(a, root_fd));
	return read_index(a);
}

struct err *archive_open(int root_fd, const char *path, struct archive **out_archive)
{
	auto_archive struct archive *a = xnew(struct archive);
	struct err *e;

	*a = (struct archive){ .fd = -1, .path = xstrdup(path) };
	e = open_archive(a, root_fd);
	if (e)
		return err_ctx(e, "archive %s", path);
	*out_archive = TAKE(a);
	return NULL;
}

struct err *archive_find(const struct archive *a, const char *name, struct archive_file *out_file)
{
	const char *at = name;

	for (int hops = 0; hops <= LINKS_MAX; hops++) {
		void **slot = map_get(&a->files, at);
		const struct entry *e = slot ? *slot : NULL;

		if (!e)
			return FAIL(ERR_NOT_FOUND, "archive %s: \"%.300s\" is missing", a->path, name);
		if (e->is_double)
			return FAIL(ERR_INVALID, "archive %s: \"%.300s\" stands there twice", a->path, at);
		if (e->is_sparse)
			return FAIL(ERR_INVALID, "archive %s: \"%.300s\" has holes", a->path, at);
		if (!e->link) {
			*out_file = (struct archive_file){ .archive = a, .at = e->at, .size = e->size };
			return NULL;
		}
		at = e->link;
	}
	return FAIL(ERR_INVALID, "archive %s: \"%.300s\" is a circle of links", a->path, name);
}

static struct err *read_file(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct archive_file *f = ctx;
	uint64_t left = f->size - f->done;
	ssize_t got = sys_pread(f->archive->fd, p, left < n ? (size_t)left : n, (off_t)(f->at + f->done));

	if (got < 0)
		return FAIL_OS((int)-got, "read archive %s", f->archive->path);
	if (!got && left && n)
		return FAIL(ERR_CORRUPT, "archive %s is truncated", f->archive->path);
	f->done += (uint64_t)got;
	*out_n = (size_t)got;
	return NULL;
}

struct zip_source archive_source(struct archive_file *file)
{
	return (struct zip_source){ .read = read_file, .ctx = file };
}

struct err *archive_text(const struct archive *a, const char *name, size_t max_bytes, char **out_body,
			 size_t *out_n)
{
	auto_buf struct buf b = BUF(max_bytes + 1);
	struct archive_file f;
	size_t n = 1;

	TRY(archive_find(a, name, &f));
	if (f.size > max_bytes || !buf_room(&b, (size_t)f.size + 1))
		return FAIL(ERR_LIMIT, "archive %s: \"%.300s\" has %llu bytes, at most %zu are taken",
			    a->path, name, (unsigned long long)f.size, max_bytes);
	while (n && b.n < f.size) {
		TRY(read_file(&f, b.data + b.n, (size_t)f.size - b.n, &n));
		b.n += n;
	}
	b.data[b.n] = '\0';
	*out_n = b.n;
	*out_body = buf_take(&b);
	return NULL;
}
