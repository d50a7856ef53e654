/*
 * drop.c - pages that nobody reads again. Of a file that goes: a part of it for each processor, since that takes long. Of one
 * that is read once: a stretch at a time, so that the next ones get the same memory.
 */
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <pthread.h>
#include <stdbool.h>
#include <sys/stat.h>

enum { PARTS_MAX = 8, PART_MIN = 16 << 20, STRETCH = 64 << 20 };

struct part {
	int fd;
	off_t at, n;
	pthread_t thread;
	bool runs;
};

static void *drop(void *ctx)
{
	const struct part *p = ctx;

	(void)sys_drop_pages(p->fd, p->at, p->n);
	return NULL;
}

void fs_drop_pages(int fd)
{
	struct part parts[PARTS_MAX];
	struct stat st;
	off_t n = sys_cpus(), step;

	if (sys_fstat(fd, &st) < 0 || st.st_size < 2 * PART_MIN || n < 2)
		return;
	n = n < PARTS_MAX ? n : PARTS_MAX;
	step = st.st_size / n > PART_MIN ? st.st_size / n : PART_MIN;
	step += -step & (PART_MIN / 16 - 1); /* no page cache folio lies across two parts */
	n = (st.st_size + step - 1) / step;
	for (off_t i = 0; i < n; i++) {
		parts[i] = (struct part){ .fd = fd, .at = i * step, .n = step };
		parts[i].runs = i + 1 < n && pthread_create(&parts[i].thread, NULL, drop, &parts[i]) == 0;
		if (!parts[i].runs)
			(void)drop(&parts[i]);
	}
	for (off_t i = 0; i < n; i++)
		if (parts[i].runs)
			(void)pthread_join(parts[i].thread, NULL);
}

ssize_t fs_pass_read(struct fs_pass *p, void *out, size_t n)
{
	ssize_t got = sys_pread(p->fd, out, n, (off_t)p->at);

	if (got <= 0)
		return got;
	p->at += (uint64_t)got;
	if (p->at - p->dropped >= STRETCH) {
		(void)sys_drop_pages(p->fd, (off_t)p->dropped, (off_t)(p->at - p->dropped));
		p->dropped = p->at;
	}
	return got;
}

void fs_pass_end(const struct fs_pass *p)
{
	if (p->dropped)
		(void)sys_drop_pages(p->fd, 0, (off_t)p->at);
}
