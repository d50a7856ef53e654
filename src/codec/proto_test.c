#include "codec/proto.h"
#include "harness/t.h"

static const uint64_t numbers[] = { 0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX };

TEST(the_example_of_the_encoding_page)
{
	auto_buf struct buf b = BUF(64);

	proto_number(&b, 1, 150);
	proto_bytes(&b, 2, SV("testing"));
	CHECK(sv_eq(sv_from(b.data, b.n), SV("\x08\x96\x01\x12\x07testing")));
}

TEST(what_is_written_is_read)
{
	auto_buf struct buf b = BUF(4096);
	struct proto_field f;
	struct sv rest;
	bool more;

	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		proto_number(&b, (unsigned)i + 1, numbers[i]);
		proto_bytes(&b, (1u << 29) - 1, i ? SV("some text") : SV(""));
	}
	buf_sv(&b, SV("\x0d\x01\x02\x03\x04\x09\x01\0\0\0\0\0\0\x80")); /* fixed32, fixed64 */
	rest = sv_from(b.data, b.n);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		CHECK_OK(proto_next(&rest, "t", &f, &more));
		CHECK(more && f.number == i + 1 && !f.is_bytes && f.value == numbers[i]);
		CHECK_OK(proto_next(&rest, "t", &f, &more));
		CHECK(more && f.number == (1u << 29) - 1 && f.is_bytes &&
		      sv_eq(f.bytes, i ? SV("some text") : SV("")));
	}
	CHECK_OK(proto_next(&rest, "t", &f, &more));
	CHECK(more && f.number == 1 && f.value == 0x04030201);
	CHECK_OK(proto_next(&rest, "t", &f, &more));
	CHECK(more && f.number == 1 && f.value == 0x8000000000000001);
	CHECK_OK(proto_next(&rest, "t", &f, &more));
	CHECK(!more);
}

TEST(what_is_no_message_is_an_error)
{
	static const struct sv bad[] = {
		SV("\x08"),
		SV("\x08\x80"),
		SV("\x12\x05tes"),
		SV("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
		SV("\x00\x01"),
		SV("\x0b"),
		SV("\x0f\x01"),
		SV("\x0d\x01\x02"),
		SV("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
		SV("\xf8\xff\xff\xff\xff\x01\x01"),
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct sv rest = bad[i];
		struct proto_field f;
		bool more;

		CHECK_ERR(ERR_INVALID, proto_next(&rest, "t", &f, &more));
	}
}
