/* prune.c - the cache forgotten: its entries, and the directories that RUN kept. */
#include "base/own.h"
#include "base/text.h"
#include "build/build.h"
#include "engine/image.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/file.h>

/* Directories of RUN --mount=type=cache that no step uses now. */
static FALLIBLE remove_mounts(struct engine *e)
{
	auto_fd int caches = sys_open_beneath(engine_root_fd(e), "cache", O_RDONLY | O_DIRECTORY, 0);
	auto_list char **names = NULL;
	int r = caches < 0 ? caches : fs_list(caches, &names);

	if (caches == -ENOENT)
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "list %s/cache", engine_root(e));
	for (size_t i = 0; names[i]; i++) {
		auto_fd int fd = sys_openat(caches, names[i], O_RDONLY | O_DIRECTORY, 0);

		if (fd >= 0 && sys_flock(fd, LOCK_EX | LOCK_NB) == 0 && (r = fs_remove_tree(caches, names[i])) < 0)
			return FAIL_OS(-r, "remove %s/cache/%s", engine_root(e), names[i]);
	}
	return NULL;
}

FALLIBLE build_prune(struct engine *e, char ***out_keys, uint64_t *out_bytes)
{
	TRY(remove_mounts(e));
	return engine_cache_prune(e, out_keys, out_bytes);
}
