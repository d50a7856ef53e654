#include "codec/enc.h"
#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void enc_base64(const void *p, size_t n, struct buf *out)
{
	const uint8_t *in = p;

	for (size_t i = 0; i < n; i += 3) {
		size_t left = n - i;
		uint32_t v = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
			     (left > 2 ? in[i + 2] : 0);

		buf_ch(out, alphabet[v >> 18]);
		buf_ch(out, alphabet[v >> 12 & 63]);
		buf_ch(out, left > 1 ? alphabet[v >> 6 & 63] : '=');
		buf_ch(out, left > 2 ? alphabet[v & 63] : '=');
	}
}

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

struct err *enc_base64_decode(struct sv text, struct buf *out)
{
	uint32_t v = 0;
	unsigned bits = 0;
	size_t padding = 0;

	while (text.n && text.p[text.n - 1] == '=' && padding < 2) {
		text.n--;
		padding++;
	}
	if (text.n % 4 == 1 || (padding && (text.n + padding) % 4 != 0))
		return FAIL(ERR_INVALID, "not base64: wrong length");
	for (size_t i = 0; i < text.n; i++) {
		int d = value_of(text.p[i]);

		if (d < 0)
			return FAIL(ERR_INVALID, "not base64: strange character at %zu", i);
		v = v << 6 | (uint32_t)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			buf_ch(out, (char)(v >> bits & 255));
		}
	}
	return v & ((1u << bits) - 1) ? FAIL(ERR_INVALID, "not base64: bits left over at the end") : NULL;
}

void enc_percent(struct sv text, struct buf *out)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
		    c == '.' || c == '_' || c == '~') {
			buf_ch(out, (char)c);
		} else {
			buf_ch(out, '%');
			buf_ch(out, hex[c >> 4]);
			buf_ch(out, hex[c & 15]);
		}
	}
}
