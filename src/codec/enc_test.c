#include "base/mem.h"
#include "codec/enc.h"
#include "harness/t.h"

TEST(base64_follows_rfc_4648)
{
	static const char *const pairs[][2] = { { "", "" },
						{ "f", "Zg==" },
						{ "fo", "Zm8=" },
						{ "foo", "Zm9v" },
						{ "foob", "Zm9vYg==" },
						{ "fooba", "Zm9vYmE=" },
						{ "foobar", "Zm9vYmFy" },
						{ "\xff\xfe", "//4=" } };

	for (size_t i = 0; i < LEN(pairs); i++) {
		auto_buf struct buf there = BUF(64), back = BUF(64);

		enc_base64(pairs[i][0], strlen(pairs[i][0]), &there);
		CHECK_STR(buf_text(&there), pairs[i][1]);
		CHECK_OK(enc_base64_decode(sv_of(pairs[i][1]), &back));
		CHECK_STR(buf_text(&back), pairs[i][0]);
	}
}

TEST(base64_decodes_the_url_alphabet_and_missing_padding)
{
	auto_buf struct buf b = BUF(64);

	CHECK_OK(enc_base64_decode(SV("__4"), &b));
	CHECK_STR(buf_text(&b), "\xff\xfe");
}

TEST(base64_refuses_what_is_not)
{
	static const char *const bad[] = { "A",    "AA=",   "A===",  "A A=", "Zg=a",
					   "Zh==", "Z\n==", "AAAA=", "====" };

	for (size_t i = 0; i < LEN(bad); i++) {
		auto_buf struct buf b = BUF(64);

		CHECK_ERR(ERR_INVALID, enc_base64_decode(sv_of(bad[i]), &b));
	}
}

TEST(percent_keeps_only_what_is_unreserved)
{
	auto_buf struct buf b = BUF(64);

	enc_percent(SV("sha256:a/b ~\xc3\xa9&x"), &b);
	CHECK_STR(buf_text(&b), "sha256%3Aa%2Fb%20~%C3%A9%26x");
}
