#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "base/vec.h"
#include "harness/t.h"
#include <errno.h>
#include <stdio.h>
#include <time.h>

TEST(errors_carry_context_outermost_first)
{
	auto_err struct err *e = err_ctx(FAIL_OS(EACCES, "mount %s", "/data"), "start %s", "web");

	CHECK_STR(e->msg, "start web: mount /data: Permission denied");
	CHECK(e->kind == ERR_DENIED && e->os == EACCES);
}

TEST(a_buffer_keeps_its_maximum)
{
	auto_buf struct buf b = BUF(10);

	buf_str(&b, "12345");
	buf_fmt(&b, "%s", "67890");
	CHECK_OK(buf_check(&b, "b"));
	buf_ch(&b, 'x');
	CHECK_STR(buf_text(&b), "1234567890");
	CHECK_ERR(ERR_LIMIT, buf_check(&b, "b"));
}

TEST(an_arena_keeps_its_maximum)
{
	struct arena a;

	arena_init(&a, 64);
	CHECK(arena_alloc(&a, 48));
	CHECK(!arena_alloc(&a, 32));
	CHECK_STR(arena_strdup(&a, "fits"), "fits");
	arena_fini(&a);
}

TEST(a_map_finds_what_was_put_and_keeps_the_order)
{
	auto_map struct map m = { 0 };
	static int values[1000];
	char key[16];

	for (int i = 0; i < 1000; i++) {
		(void)snprintf(key, sizeof key, "k%d", i);
		*map_put(&m, key) = &values[i];
	}
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(key, sizeof key, "k%d", i);
		CHECK(*map_get(&m, key) == &values[i]);
		CHECK_STR(m.entries[i].key, key);
	}
	CHECK(!map_get(&m, "k1000"));
}

TEST(numbers_refuse_what_is_not_a_number)
{
	static const char *const bad[] = { "", " 1", "1 ", "-1", "+1", "0x1", "1e3", "99999999999999999999999" };
	uint64_t v = 0;

	for (size_t i = 0; i < LEN(bad); i++)
		CHECK_ERR(ERR_INVALID, num_parse(sv_of(bad[i]), 10, 0, UINT64_MAX - 1, &v));
	CHECK_OK(num_parse(SV("0755"), 8, 0, 07777, &v));
	CHECK_INT(v, 0755);
	CHECK_ERR(ERR_INVALID, num_parse(SV("65536"), 10, 0, 65535, &v));
}

TEST(sizes_and_durations_read_as_docker_writes_them)
{
	uint64_t v = 0;
	int64_t ns = 0;

	CHECK_OK(num_parse_bytes(SV("1.5g"), &v));
	CHECK_INT(v, 1610612736);
	CHECK_OK(num_parse_bytes(SV("64MiB"), &v));
	CHECK_INT(v, 64 << 20);
	CHECK_ERR(ERR_INVALID, num_parse_bytes(SV("64x"), &v));
	CHECK_ERR(ERR_INVALID, num_parse_bytes(SV("-1"), &v));
	CHECK_OK(num_parse_cpus(SV("0.25"), &v));
	CHECK_INT(v, 250000000);
	CHECK_OK(num_parse_duration(SV("1m30.5s"), &ns));
	CHECK_INT(ns, 90500000000);
	CHECK_ERR(ERR_INVALID, num_parse_duration(SV("90"), &ns));
}

TEST(times_survive_a_round_trip)
{
	static const int64_t ns[] = { 0, 1, 1764000000000000000, 1764000000123456000 };
	static const char *const local[] = { "2026-01-31", "2026-01-31T00", "2026-01-31T00:00", "2026-01-31T00:00:00", "2026-01-31T00:00:00.000" };
	char text[TIME_TEXT_MAX];
	int64_t back = -1, then = 0;

	for (size_t i = 0; i < LEN(ns); i++) {
		CHECK_OK(time_parse(sv_of(time_format(ns[i], text)), &back));
		CHECK_INT(back, ns[i]);
	}
	CHECK_OK(time_parse(SV("2026-01-01T02:00:00+02:00"), &back));
	CHECK_STR(time_format(back, text), "2026-01-01T00:00:00Z");
	CHECK_ERR(ERR_INVALID, time_parse(SV("2026-13-01T00:00:00Z"), &back));
	CHECK(setenv("TZ", "UTC-2", 1) == 0); /* two hours before UTC */
	CHECK_OK(time_parse(SV("2026-01-30T22:00:00Z"), &then));
	for (size_t i = 0; i < LEN(local); i++) {
		CHECK_OK(time_parse_moment(sv_of(local[i]), &back));
		CHECK_INT(back, then);
	}
	CHECK_ERR(ERR_INVALID, time_parse_moment(SV("2026-01-31T"), &back));
	CHECK_ERR(ERR_INVALID, time_parse_moment(SV("2026-01-31T00:00:00 "), &back));
}

TEST(dates_are_those_of_the_c_library)
{
	for (time_t day = -100000; day < 106000; day += 1 + labs(day) % 7) { /* 1696 … 2260 */
		char text[TIME_TEXT_MAX], want[TIME_TEXT_MAX];
		time_t s = day * 86400 + (labs(day) * 7919) % 86400;
		struct tm tm;

		CHECK(strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&s, &tm)) > 0);
		CHECK_STR(time_format((int64_t)s * 1000000000, text), want);
	}
}

TEST(an_environment_replaces_by_key)
{
	auto_list char **env = NULL;

	text_env_set(&env, "A=1");
	text_env_set(&env, "AB=2");
	text_env_set(&env, "A=3");
	CHECK_INT(text_list_len(env), 2);
	CHECK_STR(text_env_get(env, "A"), "3");
	CHECK(!text_env_get(env, "B"));
}

TEST(text_is_cut_and_trimmed)
{
	struct sv rest = SV("a=b=c"), head = sv_cut(&rest, '=');

	CHECK(sv_is(head, "a") && sv_is(rest, "b=c"));
	CHECK(sv_is(sv_trim(SV(" \tx y\n")), "x y"));
	CHECK(text_is_name(SV("web-1.x")) && !text_is_name(SV("-web")) && !text_is_name(SV("a/b")));
}
