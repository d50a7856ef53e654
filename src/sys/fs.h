/*
 * fs.h - trees of files by directory fds: listing, removing, extended attributes, overlay mounts.
 *
 * Nothing here resolves a path of more than one component below dir_fd, so no link of the tree leads out of it.
 * Layer: sys.  Results: >= 0 or -errno.  Names are single components.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Names in dir_fd (borrowed) in byte order, without . and ..; owned list (text_list_free). Returns how many. */
int fs_list(int dir_fd, char ***out_names);
/*
 * rm -rf of name in dir_fd; absent is no error. Any depth with few fds; allocates nothing. What is mounted below name is somebody
 * else's: -EBUSY, and nothing of it is removed.
 */
int fs_remove_tree(int dir_fd, const char *name);
int fs_remove_content(int dir_fd); /* the same for all that is in it */
/*
 * Takes a file that is about to be removed out of memory, on all processors: the kernel, which does it on the last close, does it
 * on one. Only a hint, and only worth its threads for large files; a small one is left alone.
 */
void fs_drop_pages(int fd);
/*
 * A large file that is read once from front to back, and whose pages leave memory behind the reader. Those that the disk did not
 * have by then go with fs_pass_end. fd: borrowed.
 */
struct fs_pass {
	int fd;
	uint64_t at, dropped; /* bytes; 0 to begin with */
};
ssize_t fs_pass_read(struct fs_pass *p, void *out, size_t n); /* as sys_pread */
void fs_pass_end(const struct fs_pass *p);
/*
 * Copies what directory from_fd holds into directory to_fd (both borrowed): owners, modes, times, extended attributes, hard
 * links, devices, holes. Nothing that exists in to_fd is replaced (-EEXIST). -ELOOP: deeper than 256 directories.
 */
int fs_copy_tree(int from_fd, int to_fd);
/* Whom the copies belong to instead; files lose their set-id bits and capabilities then. NULL: all as in the source. */
struct fs_owner {
	uid_t uid;
	gid_t gid;
};
/* The same over what is there: files replaced, directories merged. */
int fs_copy_over(int from_fd, int to_fd, const struct fs_owner *owner);
/* One entry of a directory with all below it, into another directory; a socket is passed over. */
int fs_copy_entry(int from_fd, const char *name, int to_fd, const struct fs_owner *owner);
/* Only what is in an open file, into another in place of what is there; both at their start. */
int fs_copy_content(int from_fd, int to_fd);
/* Only owner, mode, attributes and times, of one directory to another. */
int fs_copy_attrs(int from_fd, int to_fd);
int fs_copy_attrs_to(int from_fd, int to_fd, const struct fs_owner *owner);
/*
 * Moves what directory from_fd holds into to_fd on the same file system; directories are merged, to_fd itself gets from's
 * attributes. replace: over what is there; else what is there stays, and what is in its way is left in from_fd. -ELOOP as above.
 */
int fs_merge_tree(int from_fd, int to_fd, bool replace);
/* The file or directory and all below it get this owner; links themselves, mounts below too. -ELOOP: deeper than 1024. */
int fs_chown_tree(int fd, uid_t uid, gid_t gid);

/* Of name in dir_fd itself, also when it is a link by now (then -EOPNOTSUPP): for trees that others may change. */
int fs_chmod(int dir_fd, const char *name, mode_t mode);

/* Of name in dir_fd itself, never of what a link points to. get, list: -ERANGE when out is too small. */
int fs_xattr_set(int dir_fd, const char *name, const char *key, const void *value, size_t n);
ssize_t fs_xattr_get(int dir_fd, const char *name, const char *key, void *out, size_t size);
ssize_t fs_xattr_get_fd(int fd, const char *key, void *out, size_t size); /* of the open file itself */
ssize_t fs_xattr_list(int dir_fd, const char *name, char *out, size_t size); /* NUL-separated */

/* Sets the umask of the calling thread alone and returns the old one; its working directory is its own then, too. */
int fs_own_umask(mode_t mask);

/*
 * What overlayfs notes at files and directories: attributes "trusted.overlay.…", which only the first user namespace can set; in
 * another one "user.overlay.…", of overlays that are mounted so (userxattr). Linux Documentation/filesystems/overlayfs.rst.
 */
enum fs_mark { FS_MARK_OPAQUE, FS_MARK_ORIGIN, FS_MARK_REDIRECT, FS_MARK_METACOPY };
int fs_marks_ask(void); /* finds out which, once per process; before, the first one is taken for granted */
bool fs_marks_are_user(void);
const char *fs_mark_key(enum fs_mark mark); /* where we are; static */

/* An overlay as a detached mount; allocates nothing, so also for use between clone and execve. */
struct fs_overlay {
	const char *const *lower; /* topmost first */
	size_t n_lower;
	const char *upper, *work; /* NULL: read-only; then at least two lowers */
	bool is_volatile;
	bool is_user; /* marks are user attributes: fs_marks_are_user() of whoever made the layers */
	bool is_apart; /* our mount namespace is our own: for lowers that are described it can be used */
};
/*
 * Owned mount fd. attrs: MOUNT_ATTR_*. Kernels before 6.5 have no lowerdir+: there the calling thread gets a working
 * directory of its own (unshare(CLONE_FS)), and more than FS_OVERLAY_OLD_MAX lowers are -E2BIG.
 */
/*
 * A lower can be described instead of being there: "erofs:/dev/loop1:/dev/loop2", an EROFS image and its device, is mounted for the
 * overlay; whoever describes it holds a mount of it (fs_lower_mount), so that the devices stay. "fd:7" is a detached mount that is used
 * up, for where devices cannot be opened (a container's control group). At most FS_OVERLAY_OLD_MAX lowers then.
 */
#define FS_LOWER_EROFS "erofs:"
#define FS_LOWER_FD    "fd:"
int fs_overlay_mount(const struct fs_overlay *o, unsigned attrs);
int fs_lower_mount(const char *lower);			       /* one lower as a detached mount of its own; owned fd */
int fs_erofs_mount(const char *source, const char *device); /* owned fd of a detached mount */
#define FS_OVERLAY_OLD_MAX 127
int fs_overlay_mount_old(const struct fs_overlay *o, unsigned attrs); /* the way for old kernels, which new ones know too */
