/* snapshot_test.h - what the tests of this folder share: archives from tables, layers made of them. */
#pragma once
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/tar.h"
#include "harness/t.h"
#include "snapshot/snapshot.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* Of tests that look into trees; driver_test.c holds for every driver. */
static const struct snapshotter_opts on_overlay = { .driver = "overlay" };

struct bytes {
	const char *p;
	size_t n, at;
};

static inline struct err *take(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct bytes *b = ctx;

	*out_n = n < b->n - b->at ? n : b->n - b->at;
	memcpy(p, b->p + b->at, *out_n);
	b->at += *out_n;
	return NULL;
}

static inline struct err *give(void *ctx, const void *p, size_t n)
{
	buf_add(ctx, p, n);
	return NULL;
}

static inline void make_tar(const struct tar_entry *e, size_t n, struct buf *out)
{
	struct tar_writer *w;

	CHECK_OK(tar_writer_new((struct zip_sink){ give, out }, &w));
	for (size_t i = 0; i < n; i++) {
		struct tar_entry one = e[i];

		if (!one.link)
			one.link = "";
		one.size = one.type == '0' ? 3 : 0;
		CHECK_OK(tar_add(w, &one));
		if (one.size)
			CHECK_OK(tar_write(w, "abc", 3));
	}
	CHECK_OK(tar_finish(w));
	tar_writer_free(w);
}

static inline struct err *apply(struct snapshotter *s, const struct tar_entry *e, size_t n, char *diff_id)
{
	auto_buf struct buf b = BUF(1 << 20);
	struct bytes in;

	make_tar(e, n, &b);
	in = (struct bytes){ b.data, b.n, 0 };
	return layer_apply(s, (struct zip_source){ take, &in }, NULL, diff_id);
}

static inline char *tree_path(const char *diff_id, const char *name)
{
	return xasprintf("%s/layers/%s/tree/%s", t_tmppath(), digest_hex(diff_id), name);
}

static inline bool is_empty(const char *dir)
{
	auto_fd int fd = sys_openat(t_tmpdir(), dir, O_RDONLY | O_DIRECTORY, 0);

	return t_entries(fd) == 0;
}

/* st_nlink 0: absent. */
static inline struct stat look(const char *diff_id, const char *name)
{
	auto_free char *path = tree_path(diff_id, name);
	struct stat st;

	return lstat(path, &st) == 0 ? st : (struct stat){ 0 };
}
