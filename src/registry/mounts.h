/*
 * mounts.h - which repositories of a registry have a blob, by what we pulled from or pushed to them: a push
 * into a neighbour repository need not send it again.
 *
 * Source: the names in DB_IMAGE of ROOT/meta and their manifests in the store. Only a hint: a registry that
 * has not got the blob there asks for an upload. Layer: registry.  Threads: read only after mounts_load.
 */
#pragma once
#include "base/err.h"
#include "content/store.h"

struct mounts;
/* root: the path of ROOT. Images of domain in other repositories than own. Without a database: none. Owned.
 */
FALLIBLE mounts_load(const char *root, const struct store *store, const char *domain, const char *own,
		     struct mounts **out_mounts);
/* A repository that has the blob, or NULL; borrowed. */
const char *mounts_find(const struct mounts *m, const char *digest);
void mounts_free(struct mounts *m);
