/* proto.c - the wire format of Protocol Buffers; see proto.h. */
#include "codec/proto.h"

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5, VARINT_MAX = 10 };

static void varint(struct buf *out, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		buf_ch(out, (char)(v | 0x80));
	buf_ch(out, (char)v);
}

void proto_number(struct buf *out, unsigned field, uint64_t value)
{
	varint(out, (uint64_t)field << 3 | VARINT);
	varint(out, value);
}

void proto_bytes(struct buf *out, unsigned field, struct sv value)
{
	varint(out, (uint64_t)field << 3 | BYTES);
	varint(out, value.n);
	buf_sv(out, value);
}

static FALLIBLE read_varint(struct sv *rest, const char *what, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < VARINT_MAX; i++) {
		unsigned char c;

		if (i >= rest->n)
			return FAIL(ERR_INVALID, "%s: cut off in a number", what);
		c = (unsigned char)rest->p[i];
		v |= (uint64_t)(c & 0x7f) << (7 * i);
		if (c < 0x80) {
			*rest = sv_skip(*rest, i + 1);
			*out = v;
			return NULL;
		}
	}
	return FAIL(ERR_INVALID, "%s: a number of more than %d bytes", what, VARINT_MAX);
}

static FALLIBLE take(struct sv *rest, const char *what, uint64_t n, struct sv *out)
{
	if (n > rest->n)
		return FAIL(ERR_INVALID, "%s: cut off: %llu bytes wanted, %zu there", what,
			    (unsigned long long)n, rest->n);
	*out = sv_from(rest->p, (size_t)n);
	*rest = sv_skip(*rest, (size_t)n);
	return NULL;
}

static uint64_t little_endian(struct sv s)
{
	uint64_t v = 0;

	for (size_t i = s.n; i-- > 0;)
		v = v << 8 | (unsigned char)s.p[i];
	return v;
}

FALLIBLE proto_next(struct sv *rest, const char *what, struct proto_field *out_field, bool *out_more)
{
	struct proto_field f = { 0 };
	uint64_t tag, n;

	*out_more = rest->n > 0;
	if (!rest->n)
		return NULL;
	TRY(read_varint(rest, what, &tag));
	if (tag >> 3 == 0 || tag >> 3 > (1u << 29) - 1)
		return FAIL(ERR_INVALID, "%s: field number %llu", what, (unsigned long long)(tag >> 3));
	f.number = (unsigned)(tag >> 3);
	switch (tag & 7) {
	case VARINT:
		TRY(read_varint(rest, what, &f.value));
		break;
	case BYTES:
		f.is_bytes = true;
		TRY(read_varint(rest, what, &n));
		TRY(take(rest, what, n, &f.bytes));
		break;
	case FIXED64:
	case FIXED32: {
		struct sv fixed;

		TRY(take(rest, what, (tag & 7) == FIXED64 ? 8 : 4, &fixed));
		f.value = little_endian(fixed);
		break;
	}
	default:
		return FAIL(ERR_INVALID, "%s: field %u of type %u, which is none", what, f.number,
			    (unsigned)(tag & 7));
	}
	*out_field = f;
	return NULL;
}
