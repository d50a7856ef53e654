#include "sys/quota.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/syscall.h>
#include <unistd.h>

#define QUOTA_CMD(cmd) ((unsigned)QCMD(cmd, PRJQUOTA))

int sys_project_set(int dir_fd, uint32_t project)
{
	struct fsxattr x;
	int r = sys_ioctl(dir_fd, FS_IOC_FSGETXATTR, &x);

	if (r < 0)
		return r;
	x.fsx_projid = project;
	x.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	return sys_ioctl(dir_fd, FS_IOC_FSSETXATTR, &x);
}

static int quotactl_fd(int fd, unsigned cmd, uint32_t id, void *arg)
{
	SYS_FAULT("quotactl_fd");
	return sys_ret(syscall(SYS_quotactl_fd, fd, cmd, id, arg));
}

int sys_quota_set(int dir_fd, uint32_t project, uint64_t bytes)
{
	struct if_dqblk limit = { .dqb_valid = QIF_BLIMITS };

	limit.dqb_bhardlimit = limit.dqb_bsoftlimit = (bytes + 1023) / 1024; /* units of QIF_DQBLKSIZE */
	return quotactl_fd(dir_fd, QUOTA_CMD(Q_SETQUOTA), project, &limit);
}

int sys_quota_is_enforced(int dir_fd)
{
	struct fs_quota_statv state = { .qs_version = FS_QSTATV_VERSION1 };
	int r = quotactl_fd(dir_fd, QUOTA_CMD(Q_XGETQSTATV), 0, &state);

	return r < 0 ? r : (state.qs_flags & FS_QUOTA_PDQ_ENFD) != 0;
}
