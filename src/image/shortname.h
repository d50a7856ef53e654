/*
 * shortname.h - what a name without a registry ("debian", "team/app:1") stands for.
 *
 * Where nothing is configured: docker.io, as docker has it. What podman's files say goes before: an alias
 * ([aliases] of registries.conf and its drop-ins; the answers that were remembered, over these), else
 * unqualified-search-registries. Source: containers-registries.conf(5) "short-name aliasing",
 * containers-image short-name-aliases.conf. Names that we give (build -t, tag, load) are always docker's.
 * Layer: image.  Limits: as registries.h.
 */
#pragma once
#include "base/err.h"
#include "image/registries.h"
#include <stdbool.h>

struct shortname {
	char **names;   /* full references, in the order in which registries are asked; at least one; owned */
	bool is_open;   /* of several none is preferred: who sits at a terminal is asked which */
	bool is_strict; /* without a terminal that is an error ("enforcing"), else all are tried */
};
/* Of any reference. ERR_INVALID no reference, or a broken file. */
FALLIBLE shortname_resolve(const char *text, struct shortname *out);
void shortname_fini(struct shortname *s);
/* full is what text shall stand for from now on: kept where podman keeps it. */
FALLIBLE shortname_remember(const char *text, const char *full);

#define auto_shortname __attribute__((cleanup(shortname_fini)))
