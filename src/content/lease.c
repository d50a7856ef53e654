#include "content/lease.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/text.h"
#include "content/temp.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>

enum { LINE_BYTES = DIGEST_TEXT + 1, ROOM_BYTES = 1 << 15 };

struct lease {
	pthread_mutex_t lock; /* guards all; the same thread may take it again */
	int gate_fd, tmp_fd;  /* content.lock; ROOT/tmp */
	int fd;               /* the lease itself; -1: it could not be made */
	char name[48];        /* "": the other end removes it */
	bool keeps_gate;      /* what is held is not all written: instead nobody can stop us */
	bool has_stopped;     /* we have stopped all leases, and decide: what is looked at meanwhile is not held */
	struct map held;
};

static struct err *open_gate(int root_fd, int *out_fd)
{
	int fd = sys_openat(root_fd, "content.lock", O_RDWR | O_CREAT, 0600);

	*out_fd = fd;
	return fd < 0 ? FAIL_OS(-fd, "open the store's lock") : NULL;
}

static struct err *lease_new(int root_fd, struct lease **out_lease)
{
	auto_lease struct lease *l = xnew(struct lease);
	pthread_mutexattr_t again;

	l->fd = l->gate_fd = l->tmp_fd = -1;
	(void)pthread_mutexattr_init(&again);
	(void)pthread_mutexattr_settype(&again, PTHREAD_MUTEX_RECURSIVE);
	(void)pthread_mutex_init(&l->lock, &again);
	(void)pthread_mutexattr_destroy(&again);
	TRY(open_gate(root_fd, &l->gate_fd));
	l->tmp_fd = sys_open_beneath(root_fd, "tmp", O_RDONLY | O_DIRECTORY, 0);
	if (l->tmp_fd < 0)
		return FAIL_OS(-l->tmp_fd, "open the store's tmp");
	*out_lease = TAKE(l);
	return NULL;
}

/* Shared with other leases, alone against whoever would stop them. */
static struct err *keep_gate(struct lease *l)
{
	int r = l->keeps_gate ? 0 : sys_flock(l->gate_fd, LOCK_SH);

	l->keeps_gate = r >= 0;
	return r < 0 ? FAIL_OS(-r, "lock the store") : NULL;
}

struct err *lease_begin(int root_fd, struct lease **out_lease)
{
	static atomic_uint serial;
	auto_lease struct lease *l = NULL;
	struct err *e = lease_new(root_fd, &l);

	if (e && e->os == EROFS) {
		err_free(e);
		*out_lease = NULL;
		return NULL;
	}
	TRY(e);
	(void)snprintf(l->name, sizeof l->name, "lease-%d-%u", (int)getpid(), atomic_fetch_add(&serial, 1));
	l->fd = temp_create(l->tmp_fd, l->name, O_APPEND);
	/* room for some hundred lines now, so that a disk that others fill breaks nothing */
	if (l->fd < 0 || sys_reserve(l->fd, ROOM_BYTES) == -ENOSPC)
		TRY(keep_gate(l));
	*out_lease = TAKE(l);
	return NULL;
}

struct err *lease_join(int root_fd, int fd, struct lease **out_lease)
{
	struct err *e = lease_new(root_fd, out_lease);

	if (e)
		own_close(&fd);
	else
		(*out_lease)->fd = fd;
	return e;
}

int lease_fd(const struct lease *l)
{
	return l->fd;
}

/* Whether it is held now, by a line or by the gate. */
static bool write_line(struct lease *l, const char *digest)
{
	bool is_shared = sys_flock(l->gate_fd, LOCK_SH) >= 0, is_written;
	char line[LINE_BYTES + 1];

	(void)snprintf(line, sizeof line, "%s\n", digest);
	is_written = sys_write_all(l->fd, line, LINE_BYTES) >= 0;
	l->keeps_gate = is_shared && !is_written;
	if (is_shared && is_written)
		(void)sys_flock(l->gate_fd, LOCK_UN);
	return is_written || is_shared;
}

void lease_hold(struct lease *l, const char *digest)
{
	if (!l || !digest_is_valid(sv_of(digest)))
		return;
	(void)pthread_mutex_lock(&l->lock);
	if (!l->keeps_gate && !l->has_stopped && !map_get(&l->held, digest) && write_line(l, digest))
		*map_put(&l->held, digest) = l;
	(void)pthread_mutex_unlock(&l->lock);
}

void lease_end(struct lease *l)
{
	if (!l)
		return;
	if (l->fd >= 0 && l->name[0])
		(void)sys_unlink(l->tmp_fd, l->name);
	own_close(&l->fd);
	own_close(&l->gate_fd);
	own_close(&l->tmp_fd);
	map_fini(&l->held);
	(void)pthread_mutex_destroy(&l->lock);
	free(l);
}

/* ---- the other side ---- */

struct err *leases_stop(int root_fd, struct lease *own, struct leases_stop *out_stop)
{
	auto_fd int fd = -1;
	int r;

	*out_stop = (struct leases_stop)LEASES_GOING;
	if (own && own->keeps_gate)
		return FAIL(ERR_CONFLICT, "content is being added");
	if (own)
		(void)pthread_mutex_lock(&own->lock);
	else
		TRY(open_gate(root_fd, &fd));
	r = sys_flock(own ? own->gate_fd : fd, LOCK_EX);
	if (r < 0 && own)
		(void)pthread_mutex_unlock(&own->lock);
	if (r < 0)
		return FAIL_OS(-r, "lock the store");
	if (own)
		own->has_stopped = true;
	*out_stop = (struct leases_stop){ .fd = own ? own->gate_fd : TAKE_FD(fd), .own = own };
	return NULL;
}

void leases_go(struct leases_stop *stop)
{
	if (stop->own) {
		stop->own->has_stopped = false;
		(void)sys_flock(stop->fd, stop->own->keeps_gate ? LOCK_SH : LOCK_UN);
		(void)pthread_mutex_unlock(&stop->own->lock);
	} else {
		own_close(&stop->fd);
	}
	*stop = (struct leases_stop)LEASES_GOING;
}

/* Calls each for every lease whose owner lives, and removes the others. */
static struct err *each_living(int root_fd, struct err *(*each)(void *ctx, int fd), void *ctx)
{
	auto_fd int tmp = sys_open_beneath(root_fd, "tmp", O_RDONLY | O_DIRECTORY, 0);
	auto_list char **names = NULL;
	int r = tmp < 0 ? tmp : fs_list(tmp, &names);

	if (r < 0)
		return FAIL_OS(-r, "list the store's tmp");
	for (size_t i = 0; names[i]; i++) {
		auto_fd int fd = -1;

		if (strncmp(names[i], "lease-", 6) != 0)
			continue;
		fd = sys_openat(tmp, names[i], O_RDONLY, 0);
		if (fd == -ENOENT)
			continue;
		if (fd < 0)
			return FAIL_OS(-fd, "open %s", names[i]);
		r = sys_flock(fd, LOCK_EX | LOCK_NB);
		if (r >= 0)
			(void)sys_unlink(tmp, names[i]);
		else if (r == -EWOULDBLOCK)
			TRY(each(ctx, fd));
		else
			return FAIL_OS(-r, "lock %s", names[i]);
	}
	return NULL;
}

struct reader {
	struct err *(*each)(void *ctx, const char *digest);
	void *ctx;
};

static struct err *read_lease(void *ctx, int fd)
{
	const struct reader *r = ctx;
	char line[LINE_BYTES];
	ssize_t n;

	while ((n = sys_read_full(fd, line, sizeof line)) == LINE_BYTES) {
		line[DIGEST_TEXT] = '\0';
		TRY(r->each(r->ctx, line));
	}
	return n < 0 ? FAIL_OS((int)-n, "read a lease") : NULL;
}

struct err *leases_each(int root_fd, struct err *(*each)(void *ctx, const char *digest), void *ctx)
{
	return each_living(root_fd, read_lease, &(struct reader){ each, ctx });
}

static struct err *note_any(void *ctx, int fd)
{
	(void)fd;
	*(bool *)ctx = true;
	return NULL;
}

struct err *leases_any(int root_fd, bool *out_any)
{
	*out_any = false;
	return each_living(root_fd, note_any, out_any);
}
