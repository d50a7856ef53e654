/* own.h - scope-bound ownership: an auto_* variable owns what it holds until TAKE moves it out. */
#pragma once
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* unused: an owner that is only there for its end (a lock) is no mistake. */
#define CLEANUP(fn) __attribute__((cleanup(fn), unused))
#define auto_free   CLEANUP(own_free)
#define auto_fd	    CLEANUP(own_close)
#define TAKE(p)                         \
	({                              \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;             \
		taken_;                 \
	})
#define TAKE_FD(fd)               \
	({                        \
		int taken_ = (fd); \
		(fd) = -1;        \
		taken_;           \
	})

/* Defines the cleanup function own_<name> for variables of type T whose destructor is fn(T). */
#define OWN_DEFINE(T, name, fn)                   \
	static inline void own_##name(T *slot)    \
	{                                         \
		fn(*slot);                        \
	}

static inline void own_free(void *slot)
{
	void *p;
	memcpy(&p, slot, sizeof p);
	free(p);
}

/* Never retried: after EINTR Linux has already freed the number. Keeps errno. */
static inline void own_close(const int *fd)
{
	int saved = errno;
	if (*fd >= 0)
		(void)close(*fd);
	errno = saved;
}
