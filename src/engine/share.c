#include "engine/share.h"
#include "base/own.h"
#include "engine/ctr.h"
#include "state/record.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

#define SHM_BYTES (64 << 20)

FALLIBLE share_target(struct engine *e, const char *mode, const char *what, pid_t *out_pid)
{
	auto_json json_t *status = NULL;
	char id[CTR_ID_MAX];

	*out_pid = 0;
	if (strncmp(mode, "container:", 10) != 0)
		return NULL;
	TRY(ctr_resolve(e, mode + 10, id));
	if (!ctr_live(e, id, &status) || json_int_at(status, "Pid", 0) <= 0)
		return FAIL(ERR_CONFLICT, "cannot join %s of a non running container: %s", what, mode + 10);
	*out_pid = (pid_t)json_int_at(status, "Pid", 0);
	return NULL;
}

FALLIBLE share_check_ipc(struct engine *e, const char *mode)
{
	auto_json json_t *doc = NULL;
	char id[CTR_ID_MAX];
	const char *theirs;

	if (strncmp(mode, "container:", 10) != 0)
		return NULL;
	TRY(ctr_find(e, mode + 10, id, &doc));
	theirs = json_str_at(doc, "HostConfig.IpcMode", "");
	if (strcmp(theirs, "shareable") == 0)
		return NULL;
	return FAIL(ERR_CONFLICT, "cannot join IPC of container %s: it is \"%s\" (the other one needs --ipc shareable)", mode + 10,
		    theirs);
}

FALLIBLE share_shm_make(int64_t bytes, int *out_fd)
{
	auto_fd int fs = sys_fsopen("tmpfs");
	char size[32];
	int r = fs;

	(void)snprintf(size, sizeof size, "%lld", (long long)(bytes > 0 ? bytes : SHM_BYTES));
	if (r < 0 || (r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "shm")) < 0 ||
	    (r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", size)) < 0 ||
	    (r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "1777")) < 0 ||
	    (r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL)) < 0 ||
	    (r = sys_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)) < 0)
		return FAIL_OS(-r, "make /dev/shm");
	*out_fd = r;
	return NULL;
}

FALLIBLE share_shm_tell(int run_fd, int keeper, int fd)
{
	char text[64];
	int n = snprintf(text, sizeof text, "/proc/%d/fd/%d", keeper, fd);

	return record_write_volatile(run_fd, "shm", text, (size_t)n);
}

FALLIBLE share_shm_find(struct engine *e, const char *mode, char **out_path)
{
	auto_fd int run = -1;
	char id[CTR_ID_MAX];
	struct err *err;
	size_t n;

	TRY(ctr_resolve(e, mode + 10, id));
	run = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	err = run < 0 ? NULL : record_read(run, "shm", out_path, &n);
	if (err && err->kind == ERR_NOT_FOUND) {
		err_free(err);
		return NULL;
	}
	return err;
}
