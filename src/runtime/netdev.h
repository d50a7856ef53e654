/*
 * netdev.h - linux.netDevices: existing network devices move into the container's network namespace, with
 * another name if wanted, keep their permanent global addresses, and are up there. Layer: runtime, private.
 *
 * They are never moved back: the kernel returns physical ones when the namespace ends and destroys virtual
 * ones. Source: runtime-spec 1.3 config-linux.md#network-devices, rtnetlink(7).
 */
#pragma once
#include "runtime/plan.h"

/* net_fd: the namespace (borrowed). A name that is taken there is ERR_EXISTS before anything of that device
 * was changed. */
FALLIBLE netdev_move_all(const struct plan *p, int net_fd);
