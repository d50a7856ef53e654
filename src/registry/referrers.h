/*
 * referrers.h - manifests with a "subject" (signatures, SBOMs) at a registry that has no referrers API: they are listed
 * in an index under the tag "sha256-<hex of the subject>".
 *
 * Specification: distribution-spec "Unavailable Referrers API", "Referrers Tag Schema". Of two who add to one list at a
 * time one may be lost: the specification has nothing against that. Layer: registry.  Blocks: yes.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include "registry/client.h"

/* After body was stored and the registry did not say OCI-Subject. Nothing without a subject. repository: for messages. */
FALLIBLE referrers_note(struct registry *r, const char *repository, struct sv body, const char *media_type);
