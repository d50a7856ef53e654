/*
 * self.h - our own executable, out of reach of the containers that our processes enter (CVE-2019-5736).
 *
 * From setns or clone until execve a process of ours is in the container with /proc/PID/exe leading to our file; a program
 * named /proc/self/exe even runs it. Root of a container without a user namespace may write what it can name, so the
 * executable runs from a read-only mount of its own or, where that is refused, from a sealed copy in memory. A running
 * program moves there without a new execve where the kernel lets it. Why: docs/why/own-binary.md. Layer: sys. Threads: any.
 */
#pragma once
#include <stdbool.h>

/* 1: nobody can write through /proc/self/exe; 0: somebody with the rights could; -errno. */
int sys_self_is_shielded(void);
/*
 * Puts the read-only mount's file in the place of ours while we run: every page is mapped from there, what was written has been
 * copied, and /proc/PID/exe leads there. For the start of a program: one thread, argv and environ as execve left them. 0; or
 * -errno (no rights, a kernel without CONFIG_CHECKPOINT_RESTORE; -ENOEXEC: an address sanitizer watches our data): then nothing is protected, and the fd of sys_shield must be
 * executed.
 */
int sys_shield_in_place(char *argv[]);
enum { SHIELD_FD_MIN = 64 }; /* out of the way of descriptors that a new program is given */
/* Owned fd >= SHIELD_FD_MIN to execute path by: the file on a detached read-only mount, else a sealed copy. */
int sys_shield(const char *path);
int sys_shield_copy(const char *path); /* the sealed copy */
/* Executes it with our environment and that name; returns only -errno. */
int sys_shield_exec(int fd, char *const argv[]);
