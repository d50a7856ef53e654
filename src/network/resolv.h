/* resolv.h - the text of a container's resolv.conf, from texts. Pure. Layer: network.  Format: resolv.conf(5). */
#pragma once
#include "base/buf.h"

struct resolv {
	char *const *dns, *const *search, *const *options; /* what the user said replaces the host's; NULL or empty: nothing */
};
/*
 * Servers at loopback addresses are of no use to a container: they are left out. Returns false when the host named servers
 * but none is left; then the caller may try another file.
 */
bool resolv_text(struct sv host, const struct resolv *wish, struct buf *out);
