/* layers.c - the layers that another process mounted become ours; see runtime.h. */
#include "base/own.h"
#include "runtime/plan.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

static bool is_made(const char *lower)
{
	return strncmp(lower, FS_LOWER_EROFS, sizeof FS_LOWER_EROFS - 1) == 0;
}

/*
 * *source becomes the i-th copy. One that is described is mounted for each start, which uses it up; the one before kept the devices
 * until now.
 */
static FALLIBLE hold(struct plan *p, const char **source, size_t i, bool is_held)
{
	bool is_new = !is_held || is_made(*source);
	auto_fd int copy = is_new ? fs_lower_mount(*source) : -1;
	char path[40];
	int at = RUNTIME_LAYER_FD + (int)i, r;

	if (copy < 0 && is_new)
		return FAIL_OS(-copy, "copy the mount of a layer");
	if (is_new && ((r = sys_dup2(copy, at)) < 0 || (r = sys_cloexec(at, 1)) < 0))
		return FAIL_OS(-r, "keep the mount of a layer");
	(void)snprintf(path, sizeof path, "%s%d", is_made(*source) ? FS_LOWER_FD : "/proc/self/fd/", at);
	*source = plan_text(p, path);
	return *source ? NULL : FAIL(ERR_LIMIT, "too many layers");
}

FALLIBLE runtime_hold_layers(struct plan *p, bool is_held)
{
	for (size_t i = 0; i < p->n_lower; i++)
		if (strncmp(p->lower[i], "/proc/", 6) == 0 || is_made(p->lower[i]))
			TRY(hold(p, &p->lower[i], i, is_held));
	for (size_t i = 0, n = p->n_lower; i < p->mounts.n; i++)
		if (p->mounts.p[i].is_held)
			TRY(hold(p, &p->mounts.p[i].source, n++, is_held));
	return NULL;
}
