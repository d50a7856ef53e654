/*
 * registries.h - containers' registries.conf: which registry answers for a name, what mirrors it has, what is
 * blocked, and what a name without a registry means.
 *
 * Format: containers-registries.conf(5), version 2. The file: $CONTAINERS_REGISTRIES_CONF, else
 * ~/.config/containers/registries.conf, else /etc/containers/registries.conf; then the .conf files of FILE.d
 * by name, of the system's and the user's, each over the ones before. Absent files are empty. A member that is
 * not known is told of, never an error (podman's next version may have it); one of the wrong type is an error.
 * Layer: image.  Limits: 1 MiB a file.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "image/ref.h"
#include <stdbool.h>

enum short_mode { SHORT_PERMISSIVE, SHORT_ENFORCING, SHORT_DISABLED };
struct registries {
	json_t *list;    /* [[registry]] objects, each with "prefix" and "from" (the file); owned */
	json_t *aliases; /* short name: "registry/repository"; owned */
	char **search;   /* unqualified-search-registries; owned; NULL: none */
	char **helpers;  /* credential-helpers; owned; NULL: none */
	char **ignored;  /* a sentence for each member that has no effect; owned; NULL: none */
	enum short_mode mode;
};
/* ERR_INVALID names the file; ERR_UNSUPPORTED one of version 1. */
FALLIBLE registries_load(struct registries *out);
void registries_fini(struct registries *r);
/* The entry with the longest prefix that fits the name, borrowed, or NULL. */
const json_t *registries_match(const struct registries *r, const struct ref *ref);
/* "domain/path" where prefix is replaced by location ("" or NULL: as it is); owned. */
char *registries_rewrite(const struct ref *ref, const char *prefix, const char *location);

#define auto_registries __attribute__((cleanup(registries_fini)))
