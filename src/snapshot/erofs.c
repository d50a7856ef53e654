/*
 * erofs.c - the driver that unpacks nothing: ROOT/layers/<hex>/layer.tar, the plain tar, and layer.erofs, the
 * metadata that makes a file system of it.
 */
#include "snapshot/erofs.h"
#include "base/own.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

/* Options are at most 255 bytes: so files are named by fd. */
static int set_file(int fs, const char *key, int fd)
{
	char path[40];

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, path);
}

int erofs_mount(int image_fd, int tar_fd)
{
	auto_fd int fs = sys_fsopen("erofs");
	int r = fs < 0 ? fs : set_file(fs, "source", image_fd);

	if (r >= 0)
		r = set_file(fs, "device", tar_fd);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
	return r < 0 ? r : sys_fsmount(fs, MOUNT_ATTR_RDONLY);
}
