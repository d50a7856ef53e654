/*
 * digest.c - libcrypto's plain SHA-256. Not its EVP layer: the first EVP call of a process reads openssl.cnf and sets up
 * the providers, 1 ms of CPU time that every `hoy run` paid for two small files; the code that hashes is the same.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "codec/digest.h"
#include "base/mem.h"
#include "base/text.h"
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

struct digest_state {
	SHA256_CTX sha;
};

struct digest_state *digest_new(void)
{
	struct digest_state *d = xnew(struct digest_state);

	(void)SHA256_Init(&d->sha);
	return d;
}

void digest_free(struct digest_state *d)
{
	free(d);
}

void digest_add(struct digest_state *d, const void *p, size_t n)
{
	(void)SHA256_Update(&d->sha, p, n);
}

static void print(const unsigned char sum[32], char out[DIGEST_MAX])
{
	memcpy(out, "sha256:", 7);
	text_hex(sum, 32, out + 7);
}

void digest_end(struct digest_state *d, char out[DIGEST_MAX])
{
	unsigned char sum[32];

	(void)SHA256_Final(sum, &d->sha);
	print(sum, out);
	(void)SHA256_Init(&d->sha);
}

void digest_of(const void *p, size_t n, char out[DIGEST_MAX])
{
	unsigned char sum[32];
	SHA256_CTX sha;

	(void)SHA256_Init(&sha); /* SHA256() would go by EVP */
	(void)SHA256_Update(&sha, p, n);
	(void)SHA256_Final(sum, &sha);
	print(sum, out);
}

bool digest_is_valid(struct sv text)
{
	return text.n == DIGEST_TEXT && sv_starts(text, SV("sha256:")) && text_is_hex(sv_skip(text, 7));
}

struct err *digest_check(struct sv text)
{
	if (!digest_is_valid(text))
		return FAIL(ERR_INVALID, "invalid digest \"%.*s\" (expected sha256: and 64 hex digits)",
			    (int)(text.n < 100 ? text.n : 100), text.p);
	return NULL;
}
