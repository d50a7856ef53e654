/*
 * rdt.h - linux.intelRdt: the container's class of service and monitoring group in the resctrl file system.
 *
 * Layer: runtime, private.  Source: runtime-spec 1.3 config-linux.md#intelrdt, the kernel's
 * filesystems/resctrl.rst.
 */
#pragma once
#include "runtime/plan.h"

/* root_fd (borrowed): where resctrl is mounted. On error what it made is gone again. */
FALLIBLE rdt_apply_in(int root_fd, const struct plan *p, pid_t pid);
/* The plan's schemata into the class, which is there. */
FALLIBLE rdt_update_in(int root_fd, const struct plan *p);
void rdt_remove_in(int root_fd, const struct plan *p);

/* The same in the mounted resctrl. ERR_UNSUPPORTED: there is none. Nothing to do without p->rdt.on. */
FALLIBLE rdt_apply(const struct plan *p, pid_t pid);
FALLIBLE rdt_update(const struct plan *p);
void rdt_remove(const struct plan *p); /* what apply made for this container alone */
