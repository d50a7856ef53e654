/* config.h - what crun's tests/init.c asks its build about. */
#define HAVE_ERROR_H 1
#define HAVE_LINUX_IOPRIO_H 1
#define HAVE_SECCOMP 1
