#include "runtime/pid.h"
#include "base/own.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

int pid_text(pid_t pid, const char *name, char *out, size_t size)
{
	char path[64];
	auto_fd int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	fd = sys_open(path, O_RDONLY, 0);
	n = fd < 0 ? fd : sys_read(fd, out, size - 1);
	out[n > 0 ? n : 0] = 0;
	return n < 0 ? (int)n : 0;
}

int pid_stat(pid_t pid, struct pid_stat *out)
{
	enum { STATE = 3, START = 22, IGNORED = 33 }; /* numbers of fields */
	char text[1024], *at;
	int r = pid_text(pid, "stat", text, sizeof text);

	if (r < 0)
		return r;
	at = strrchr(text, ')'); /* the end of field 2, a name of any bytes */
	for (int field = STATE; field <= IGNORED; field++) {
		at = at ? strchr(at + 1, ' ') : NULL;
		if (!at)
			return -EINVAL;
		if (field == STATE)
			out->state = at[1];
		if (field == START)
			out->start = strtoull(at + 1, NULL, 10);
		if (field == IGNORED)
			out->ignored = strtoull(at + 1, NULL, 10);
	}
	return 0;
}
