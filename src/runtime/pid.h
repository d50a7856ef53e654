/* pid.h - what /proc/PID tells of a process (proc(5)). Layer: runtime, private. Threads: any. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pid_stat {
	char state;       /* 'Z', 'X': it has ended */
	uint64_t start;   /* clock ticks since boot: names it for good, with its pid */
	uint64_t ignored; /* signal n: bit n - 1 */
};
/* The beginning of /proc/PID/name, terminated; "" and -errno when it can't be read. */
int pid_text(pid_t pid, const char *name, char *out, size_t size);
/* 0 or -errno; -EINVAL: not understood. */
int pid_stat(pid_t pid, struct pid_stat *out);
