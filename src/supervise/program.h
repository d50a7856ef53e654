/*
 * program.h - what a keeper leaves to the big program: `hoy --root … --run … COMMAND ID`, a child of the keeper.
 *
 * Layer: supervise.  Allocates nothing.
 */
#pragma once
#include "supervise/conf.h"
#include <sys/types.h>

/* in_fd (borrowed; -1: /dev/null): its standard input. Its pid, for the keeper to wait for, or -errno. */
pid_t program_run(const struct keeper_conf *c, const char *command, int in_fd);
