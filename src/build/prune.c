/* prune.c - the cache forgotten: its entries, and the directories that RUN kept. */
#include "base/own.h"
#include "base/text.h"
#include "build/build.h"
#include "engine/prune.h"
#include "engine/usage.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/file.h>

/* Directories of RUN --mount=type=cache that no step uses now. */
static FALLIBLE remove_mounts(struct engine *e, uint64_t *bytes)
{
	auto_fd int caches = sys_open_beneath(engine_root_fd(e), "cache", O_RDONLY | O_DIRECTORY, 0);
	auto_usage struct usage u = { 0 };
	auto_list char **names = NULL;
	int r = caches < 0 ? caches : fs_list(caches, &names);

	if (caches == -ENOENT)
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "list %s/cache", engine_root(e));
	for (size_t i = 0; names[i]; i++) {
		auto_fd int fd = sys_openat(caches, names[i], O_RDONLY | O_DIRECTORY, 0);

		if (fd < 0 || sys_flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		TRY(usage_add(&u, caches, names[i]));
		if ((r = fs_remove_tree(caches, names[i])) < 0)
			return FAIL_OS(-r, "remove %s/cache/%s", engine_root(e), names[i]);
	}
	*bytes += u.freed;
	return NULL;
}

FALLIBLE build_prune(struct engine *e, bool all, const json_t *filters, char ***out_keys, uint64_t *out_bytes)
{
	uint64_t mounts = 0;

	TRY(engine_cache_prune(e, all, filters, out_keys, out_bytes)); /* refuses what is no filter before anything goes */
	if (!json_object_size(filters))
		TRY(remove_mounts(e, &mounts));
	*out_bytes += mounts;
	return NULL;
}
