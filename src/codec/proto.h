/*
 * proto.h - the wire format of Protocol Buffers: fields written and read one by one.
 *
 * Source: protobuf.dev, "Encoding": a tag (number << 3 | type) as varint, then a varint (type 0), eight bytes
 * (1), a length and bytes (2) or four bytes (5). Groups (3, 4) went out with version 2 and are refused. What
 * a number means is the caller's table; nobody needs a generator for a dozen fields. Layer: codec.  Pure.
 * Limits: those of the buffer; numbers of fields up to 2^29 - 1.
 */
#pragma once
#include "base/buf.h"
#include <stdint.h>

void proto_number(struct buf *out, unsigned field,
		  uint64_t value); /* bool, enum, (u)int32, (u)int64: type 0 */
void proto_bytes(struct buf *out, unsigned field,
		 struct sv value); /* string, bytes, a message written before: type 2 */

struct proto_field {
	unsigned number;
	bool is_bytes;   /* else value counts */
	uint64_t value;  /* of a fixed one: as it stands, little-endian */
	struct sv bytes; /* borrowed from the message */
};
/*
 * The next field of a message; *rest shrinks. *out_more false: there was none, the message is whole.
 * ERR_INVALID "what: …": cut off, a varint of more than ten bytes, a type that is none, field number 0.
 */
FALLIBLE proto_next(struct sv *rest, const char *what, struct proto_field *out_field, bool *out_more);
