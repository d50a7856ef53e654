#include "engine/stubs.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/stat.h>

/* Whether name in the upper directory is nothing but an empty copy of what the lower layers have at path. */
static bool is_mere_copy(int view_fd, int dir_fd, const char *name, const char *path)
{
	auto_fd int below = sys_open_in_root(view_fd, path, O_PATH | O_NOFOLLOW, 0);
	struct stat a, b;
	char opaque;

	if (fs_xattr_get(dir_fd, name, fs_mark_key(FS_MARK_OPAQUE), &opaque, 1) > 0)
		return false;
	if (below < 0)
		return true; /* made on the way to the mount point */
	return sys_fstat(below, &a) == 0 && sys_fstatat(dir_fd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid;
}

/* Removes an empty file or directory, then the directories above it that are there only because of it. */
static void remove_one(int upper_fd, int view_fd, char *path)
{
	bool is_first = true;

	while (*path) {
		char *slash = strrchr(path, '/');
		const char *name = slash ? slash + 1 : path;
		auto_free char *dir = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
		auto_fd int dir_fd = sys_open_beneath(upper_fd, dir, O_RDONLY | O_DIRECTORY, 0);
		struct stat st;

		if (dir_fd < 0 || sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return;
		if (is_first && S_ISREG(st.st_mode) && st.st_size == 0) {
			if (sys_unlink(dir_fd, name) < 0)
				return;
		} else if (!S_ISDIR(st.st_mode) || !is_mere_copy(view_fd, dir_fd, name, path) || sys_rmdir(dir_fd, name) < 0) {
			return;
		}
		if (!slash)
			return;
		*slash = 0;
		is_first = false;
	}
}

void stubs_remove(int upper_fd, int view_fd, char *const *targets)
{
	for (size_t i = 0; targets && targets[i]; i++) {
		auto_free char *path = xstrdup(targets[i] + strspn(targets[i], "/"));

		remove_one(upper_fd, view_fd, path);
	}
}

/* ---- without changing anything ---- */

/* *out_names: what the directory at path in upper_fd holds, owned; NULL when it is no directory. -errno, 0. */
static int names_in(int upper_fd, const char *path, char ***out_names)
{
	auto_fd int fd = sys_open_beneath(upper_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	int r = fd < 0 ? fd : fs_list(fd, out_names);

	return r == -ENOTDIR || r == -ENOENT || r == -ELOOP ? 0 : r < 0 ? r : 0;
}

/* An empty file or directory that the layers below do not have. */
static FALLIBLE is_stub(int upper_fd, int view_fd, const char *path, bool *out_is)
{
	auto_fd int fd = sys_open_beneath(upper_fd, path, O_PATH | O_NOFOLLOW, 0), below = sys_open_in_root(view_fd, path, O_PATH | O_NOFOLLOW, 0);
	auto_list char **names = NULL;
	struct stat st;
	int r = 0;

	*out_is = false;
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || below >= 0)
		return NULL;
	if (fd < 0 || (r = sys_fstat(fd, &st)) < 0)
		return FAIL_OS(fd < 0 ? -fd : -r, "look at /%s", path);
	if (S_ISDIR(st.st_mode) && (r = names_in(upper_fd, path, &names)) < 0)
		return FAIL_OS(-r, "list /%s", path);
	*out_is = S_ISDIR(st.st_mode) ? names && !names[0] : S_ISREG(st.st_mode) && st.st_size == 0;
	return NULL;
}

/* dir instead of what is in it, where that is nothing but stubs and it was made, or copied from below, only for them. */
static FALLIBLE whole_directory(int upper_fd, int view_fd, const char *dir, char *const *stubs, bool *out_is)
{
	auto_list char **names = NULL;
	int r = names_in(upper_fd, dir, &names);

	*out_is = false;
	if (r < 0)
		return FAIL_OS(-r, "list /%s", dir);
	for (size_t i = 0; names && names[i]; i++) {
		auto_free char *path = xasprintf("%s/%s", dir, names[i]);

		if (!text_list_has(stubs, path))
			return NULL;
		*out_is = true;
	}
	*out_is = *out_is && is_mere_copy(view_fd, upper_fd, dir, dir);
	return NULL;
}

static FALLIBLE find(int upper_fd, int view_fd, char ***out_paths)
{
	static const char *const targets[] = { "dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sbin/docker-init", "sys" },
				 *const dirs[] = { "etc", "sbin" };
	auto_list char **found = NULL;
	bool is;

	for (size_t i = 0; i < LEN(targets); i++) {
		TRY(is_stub(upper_fd, view_fd, targets[i], &is));
		if (is)
			text_list_add(&found, targets[i]);
	}
	for (size_t i = 0; found && i < LEN(dirs); i++) {
		TRY(whole_directory(upper_fd, view_fd, dirs[i], found, &is));
		if (is)
			text_list_add(&found, dirs[i]);
	}
	*out_paths = TAKE(found);
	return NULL;
}

FALLIBLE stubs_of(const struct rootfs *r, char ***out_paths, int *out_view_fd)
{
	const struct rootfs lower = { .lower = r->lower, .is_user = r->is_user };
	auto_fd int upper = sys_open_dir(r->upper), view = -1;

	if (upper < 0)
		return FAIL_OS(-upper, "open %s", r->upper);
	TRY(rootfs_view(&lower, &view));
	TRY(find(upper, view, out_paths));
	*out_view_fd = TAKE_FD(view);
	return NULL;
}
