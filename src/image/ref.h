/*
 * ref.h - image references, normalised as docker does: "debian" -> docker.io/library/debian:latest.
 *
 * Grammar: distribution/reference (docs of CNCF distribution); a 64-hex name is refused as ambiguous with an id.
 * Layer: image.  Pure.  Limits: 255 bytes of repository path, 128 of tag.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include <stdbool.h>

struct ref {
	char *domain; /* "docker.io", "localhost:5000" */
	char *path;   /* "library/debian" */
	char *tag;    /* "latest"; NULL when only a digest was given */
	char *digest; /* "sha256:…" or NULL */
};
/* Owned fields (ref_fini). ERR_INVALID "invalid reference format: …". Default tag "latest" when neither tag nor digest. */
FALLIBLE ref_parse(const char *text, struct ref *out_ref);
void ref_fini(struct ref *r);
bool ref_tag_is_valid(struct sv tag);
bool ref_is_short(const char *text); /* a name without a registry: "debian", "team/app:1" */
char *ref_full(const struct ref *r);	 /* "docker.io/library/debian:latest" (+ "@sha256:…"), owned: the key in DB_IMAGE */
char *ref_familiar(const struct ref *r); /* "debian:latest", owned */
char *ref_familiar_repo(const struct ref *r); /* "debian", "localhost:5000/x", owned */
