#include "codec/digest.h"
#include "base/mem.h"
#include "base/text.h"
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct digest_state {
	EVP_MD_CTX *ctx;
};

static void begin(struct digest_state *d)
{
	if (EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1)
		abort(); /* only without memory */
}

struct digest_state *digest_new(void)
{
	struct digest_state *d = xnew(struct digest_state);

	d->ctx = EVP_MD_CTX_new();
	if (!d->ctx)
		abort();
	begin(d);
	return d;
}

void digest_free(struct digest_state *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

void digest_add(struct digest_state *d, const void *p, size_t n)
{
	(void)EVP_DigestUpdate(d->ctx, p, n);
}

static void print(const unsigned char sum[32], char out[DIGEST_MAX])
{
	memcpy(out, "sha256:", 7);
	text_hex(sum, 32, out + 7);
}

void digest_end(struct digest_state *d, char out[DIGEST_MAX])
{
	unsigned char sum[32];

	(void)EVP_DigestFinal_ex(d->ctx, sum, NULL);
	print(sum, out);
	begin(d);
}

void digest_of(const void *p, size_t n, char out[DIGEST_MAX])
{
	unsigned char sum[32];

	(void)EVP_Digest(p, n, sum, NULL, EVP_sha256(), NULL);
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
