/*
 * record.c - write beside, sync, rename over, sync the directory. Each step must succeed before the next begins: renamed
 * before its data is synced, a record can be empty after a power cut (delayed allocation).
 */
#include "state/record.h"
#include "base/buf.h"
#include "base/own.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>

struct beside {
	int dir_fd;
	const char *name; /* NULL once it was renamed into place */
};

static void beside_drop(struct beside *b)
{
	if (b->name)
		(void)sys_unlink(b->dir_fd, b->name);
}

static struct err *check_name(const char *name)
{
	size_t n = strlen(name);

	if (!n || n > RECORD_NAME_MAX || name[0] == '.' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != n)
		return FAIL(ERR_INVALID, "bad record name \"%.*s\"", RECORD_NAME_MAX, name);
	return NULL;
}

static struct err *put(int dir_fd, const char *name, struct sv body, bool durable)
{
	char tmp[RECORD_NAME_MAX + sizeof ".new-"];
	CLEANUP(beside_drop) struct beside beside = { .dir_fd = dir_fd };
	auto_fd int fd = -1;
	int r;

	TRY(check_name(name));
	if (body.n > RECORD_BODY_MAX)
		return FAIL(ERR_LIMIT, "record %s: %zu bytes, limit %u", name, body.n, RECORD_BODY_MAX);
	(void)snprintf(tmp, sizeof tmp, ".new-%s", name);
	fd = sys_open_beneath(dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return FAIL_OS(-fd, "record %s: create", name);
	beside.name = tmp;
	if ((r = sys_write_all(fd, body.p, body.n)) < 0)
		return FAIL_OS(-r, "record %s: write %zu bytes", name, body.n);
	if (durable && (r = sys_fsync(fd)) < 0)
		return FAIL_OS(-r, "record %s: sync", name);
	if ((r = sys_rename(dir_fd, tmp, name)) < 0)
		return FAIL_OS(-r, "record %s: rename", name);
	beside.name = NULL;
	if (durable && (r = sys_fsync(dir_fd)) < 0)
		return FAIL_OS(-r, "record %s: sync directory", name);
	return NULL;
}

struct err *record_write(int dir_fd, const char *name, const void *body, size_t len)
{
	return put(dir_fd, name, sv_from(body, len), true);
}

struct err *record_write_volatile(int dir_fd, const char *name, const void *body, size_t len)
{
	return put(dir_fd, name, sv_from(body, len), false);
}

struct err *record_read(int dir_fd, const char *name, char **out_body, size_t *out_len)
{
	auto_buf struct buf b = BUF(RECORD_BODY_MAX);
	auto_fd int fd = -1;

	TRY(check_name(name));
	fd = sys_open_beneath(dir_fd, name, O_RDONLY, 0);
	if (fd < 0)
		return FAIL_OS(-fd, "record %s: open", name);
	for (;;) {
		char *at = buf_room(&b, 4096 < RECORD_BODY_MAX - b.n ? 4096 : RECORD_BODY_MAX - b.n);
		ssize_t n = at ? sys_read(fd, at, b.max - b.n < 4096 ? b.max - b.n : 4096) : 0;

		if (n < 0)
			return FAIL_OS((int)-n, "record %s: read", name);
		if (n == 0)
			break;
		b.n += (size_t)n;
		b.data[b.n] = '\0';
	}
	if (out_len)
		*out_len = b.n;
	*out_body = buf_take(&b);
	return NULL;
}
