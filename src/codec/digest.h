/*
 * digest.h - SHA-256, streaming, and its text form "sha256:<64 hex>" (OCI image-spec descriptor.md#digests).
 *
 * Layer: codec.  Threads: one per state.  Implementation: libcrypto (SHA-NI).
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_TEXT 71	 /* strlen("sha256:") + 64 */
#define DIGEST_MAX  72	 /* with the terminator */

struct digest_state; /* opaque */
struct digest_state *digest_new(void); /* never NULL */
void digest_free(struct digest_state *d);
void digest_add(struct digest_state *d, const void *p, size_t n);
/* "sha256:<hex>"; the state is reset and can be used again. */
void digest_end(struct digest_state *d, char out[DIGEST_MAX]);
/* Of bytes at hand. */
void digest_of(const void *p, size_t n, char out[DIGEST_MAX]);
/* Whether text is a digest we accept: sha256 with 64 lower-case hex digits. */
bool digest_is_valid(struct sv text);
/* ERR_INVALID with the text and what was expected. */
FALLIBLE digest_check(struct sv text);
static inline const char *digest_hex(const char *digest)
{
	return digest + sizeof "sha256:" - 1;
}
static inline void own_digest(struct digest_state **slot)
{
	digest_free(*slot);
}
#define auto_digest __attribute__((cleanup(own_digest)))
