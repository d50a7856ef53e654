/*
 * quota.h - project quotas of ext4 and xfs: a directory's tree belongs to a project, the project has a limit.
 *
 * Layer: sys.  Results: >= 0 or -errno.  Kernel: quotactl_fd 5.14; -ESRCH, -ENOSYS, -EOPNOTSUPP, -ENOTTY: no
 * such quota here.
 */
#pragma once
#include <stdint.h>

/* Directory fd and what is made below it from now on belongs to the project. */
int sys_project_set(int dir_fd, uint32_t project);
/* Limit of the project on the file system of dir_fd, in bytes; 0: none. */
int sys_quota_set(int dir_fd, uint32_t project, uint64_t bytes);
/* 1: limits of projects are enforced on this file system; 0: they are only counted. */
int sys_quota_is_enforced(int dir_fd);
