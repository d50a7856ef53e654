/*
 * patch.c - a damaged plain tar, made again with the help of the tree that it was extracted to. Headers are read as far as they
 * can be; what they call the content of a file comes from the tree, when that has a file of this size there; all other bytes are
 * as they are. Most bytes of a layer are content, so most damage can be undone, whoever wrote the tar.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/vec.h"
#include "codec/tar.h"
#include "snapshot/driver.h"
#include "snapshot/place.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/stat.h>

enum { CHUNK = 1 << 18 };

struct range { /* content of a file */
	uint64_t at, size;
	char *path; /* owned */
};
struct patch {
	int tree_fd, tar_fd; /* borrowed */
	uint64_t at, size;   /* bytes written; of the whole */
	struct zip_sink sink;
	VEC(struct range) ranges; /* in the order of the tar */
	char *chunk;
};

static void patch_fini(struct patch *p)
{
	for (size_t i = 0; i < p->ranges.n; i++)
		free(p->ranges.p[i].path);
	vec_fini(&p->ranges);
	free(p->chunk);
}

static void note_range(struct patch *p, const struct tar_entry *e)
{
	char path[PLACE_NAME_MAX];

	if (e->type != '0' || e->is_sparse || !e->size || !place_clean(e->name, path) || !path[0] || e->data_at > p->size ||
	    e->size > p->size - e->data_at)
		return;
	*vec_push(&p->ranges) = (struct range){ e->data_at, e->size, xstrdup(path) };
}

/* Until a header cannot be read any more. */
static FALLIBLE list_ranges(struct patch *p)
{
	auto_tar_reader struct tar_reader *tar = NULL;
	const struct tar_entry *e = NULL;
	struct err *err;
	off_t r = sys_lseek(p->tar_fd, 0, SEEK_SET);

	if (r < 0)
		return FAIL_OS((int)-r, "read a damaged tar");
	TRY(tar_reader_new(zip_source_file(&p->tar_fd), &tar));
	while (!(err = tar_next(tar, &e)) && e)
		note_range(p, e);
	err_free(err);
	return NULL;
}

/* n bytes of a file from byte from on; zeros behind its end. */
static FALLIBLE copy(struct patch *p, int fd, uint64_t from, uint64_t n)
{
	while (n) {
		size_t step = n < CHUNK ? (size_t)n : CHUNK;
		ssize_t got = sys_pread(fd, p->chunk, step, (off_t)from);

		if (got < 0)
			return FAIL_OS((int)-got, "read");
		if (got == 0)
			memset(p->chunk, 0, step);
		step = got ? (size_t)got : step;
		TRY(p->sink.write(p->sink.ctx, p->chunk, step));
		from += step;
		p->at += step;
		n -= step;
	}
	return NULL;
}

static FALLIBLE copy_range(struct patch *p, const struct range *r)
{
	/* a fifo that a later entry put in its place must not hold us up */
	auto_fd int fd = sys_open_in_root(p->tree_fd, r->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0 || sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != r->size)
		return NULL;
	TRY(copy(p, p->tar_fd, p->at, r->at - p->at));
	return copy(p, fd, 0, r->size);
}

FALLIBLE patch_tar(int tree_fd, int tar_fd, uint64_t size, struct zip_sink sink)
{
	CLEANUP(patch_fini)
	struct patch p = { .tree_fd = tree_fd, .tar_fd = tar_fd, .size = size, .sink = sink, .chunk = xmalloc(CHUNK) };
	struct stat st;
	int r = sys_fstat(tar_fd, &st);

	if (r < 0)
		return FAIL_OS(-r, "look at a damaged tar");
	if (!p.size)
		p.size = (uint64_t)st.st_size;
	TRY(list_ranges(&p));
	for (size_t i = 0; i < p.ranges.n; i++)
		if (p.ranges.p[i].at >= p.at)
			TRY(copy_range(&p, &p.ranges.p[i]));
	return copy(&p, tar_fd, p.at, p.size - p.at);
}
