/*
 * hosts.c - names of other containers, without a name server: on networks of the user's, /etc/hosts of every container has
 * one block of ours with all names, rewritten in place when somebody comes or goes. The rest of the file is the container's.
 * One lock file serialises the writers, and what is written is read under it, so the last writer writes the truth.
 */
#include "base/buf.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/ctr.h"
#include "network/network.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

#define BLOCK_BEGIN "# containers on the same network, kept by hoy\n"
#define BLOCK_END   "# end of containers\n"
enum { HOSTS_BYTES = 1 << 20 }; /* SECURITY: the container can write this file; a larger one is left alone */

/* old without our block, then the block. */
static void replace_block(struct sv old, const char *names, struct buf *out)
{
	const char *begin = old.n ? memmem(old.p, old.n, BLOCK_BEGIN, sizeof BLOCK_BEGIN - 1) : NULL;
	const char *end = begin ? memmem(begin, old.n - (size_t)(begin - old.p), BLOCK_END, sizeof BLOCK_END - 1) : NULL;

	if (end) {
		end += sizeof BLOCK_END - 1;
		buf_add(out, old.p, (size_t)(begin - old.p));
		buf_add(out, end, old.n - (size_t)(end - old.p));
	} else {
		buf_sv(out, old);
	}
	if (*names)
		buf_fmt(out, BLOCK_BEGIN "%s" BLOCK_END, names);
}

static FALLIBLE rewrite(int fd, const char *names, const char *id)
{
	auto_buf struct buf old = BUF(HOSTS_BYTES + 1), out = BUF(2 * HOSTS_BYTES);
	char *at = buf_room(&old, HOSTS_BYTES);
	ssize_t n = at ? sys_read_full(fd, at, HOSTS_BYTES) : -ENOMEM;
	int r;

	if (n == HOSTS_BYTES)
		return NULL;
	if (n >= 0)
		replace_block(sv_from(at, (size_t)n), names, &out);
	TRY(buf_check(&out, "hosts file"));
	r = n < 0 ? (int)n : sys_pwrite_all(fd, buf_text(&out), out.n, 0);
	if (r >= 0)
		r = sys_ftruncate(fd, (off_t)out.n);
	return r < 0 ? FAIL_OS(-r, "write hosts of container %.12s", id) : NULL;
}

static FALLIBLE refresh_one(struct engine *e, struct network *n, const char *id)
{
	auto_free char *names = NULL;
	auto_fd int fd = -1;
	char path[96];

	TRY(network_hosts(n, id, &names));
	(void)snprintf(path, sizeof path, "containers/%.64s/hosts", id);
	fd = sys_open_beneath(engine_root_fd(e), path, O_RDWR, 0);
	if (fd == -ENOENT) /* removed meanwhile */
		return NULL;
	return fd < 0 ? FAIL_OS(-fd, "open hosts of container %.12s", id) : rewrite(fd, names, id);
}

FALLIBLE ctr_hosts_refresh(struct engine *e, char *const *ids)
{
	auto_fd int lock = -1;
	struct network *n;
	int r;

	if (text_list_len(ids) == 0)
		return NULL;
	TRY(engine_network(e, &n));
	lock = sys_openat(engine_run_fd(e), "hosts.lock", O_RDWR | O_CREAT, 0600);
	r = lock < 0 ? lock : sys_flock(lock, LOCK_EX);
	if (r < 0)
		return FAIL_OS(-r, "lock %s/hosts.lock", engine_run(e));
	for (; *ids; ids++)
		TRY(refresh_one(e, n, *ids));
	return NULL;
}
