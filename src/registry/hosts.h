/*
 * hosts.h - containerd's hosts.toml: mirrors of one registry, what each may be asked for, and whom to trust.
 *
 * Format: containerd docs/hosts.md. Looked for in certs.d below ~/.config/containerd, /etc/containerd and
 * /etc/docker, there in HOST[:PORT], HOST_PORT_ and _default; the first one found is used, and read anew each
 * time. Layer: registry.  Limits: 1 MiB.
 */
#pragma once
#include "base/err.h"
#include "image/ref.h"
#include "registry/place.h"

/* Adds places for ref->domain; none when there is no such file. ERR_INVALID names the file. */
FALLIBLE hosts_find(const struct ref *ref, struct places *p);
