/* health_test.c - docker's rules of health: what counts when, what is merged, what is refused, how often the keeper looks. */
#include "engine/health.h"
#include "base/own.h"
#include "harness/t.h"
#include "supervise/health.h"
#include <string.h>

#define SECOND INT64_C(1000000000)

static json_t *parse(const char *text)
{
	json_t *v = NULL;

	CHECK_OK(json_parse(sv_of(text), "test", 65536, &v));
	return v;
}

static const char *after(json_t *state, const json_t *conf, int code, int64_t since_start_ns)
{
	const struct health_result r = { .since_start_ns = since_start_ns, .exit_code = code, .output = "out" };

	health_note(state, conf, &r);
	return json_str_at(state, "Status", "");
}

TEST(three_failures_in_a_row_make_it_unhealthy_and_one_success_healthy)
{
	auto_json json_t *state = parse("{\"Status\":\"starting\",\"FailingStreak\":0,\"Log\":[]}"), *conf = parse("{}");

	CHECK_STR(after(state, conf, 1, 0), "starting");
	CHECK_STR(after(state, conf, 1, 0), "starting");
	CHECK_STR(after(state, conf, 1, 0), "unhealthy");
	CHECK_INT(json_int_at(state, "FailingStreak", 0), 3);
	CHECK_STR(after(state, conf, 0, 0), "healthy");
	CHECK_INT(json_int_at(state, "FailingStreak", -1), 0);
	CHECK_STR(after(state, conf, -1, 0), "healthy");
	CHECK_STR(after(state, conf, 0, 0), "healthy");
	CHECK_INT(json_array_size(json_object_get(state, "Log")), 5);
	CHECK_INT(json_int_at(json_array_get(json_object_get(state, "Log"), 3), "ExitCode", 9), -1);
}

TEST(failures_of_the_start_period_do_not_count_until_one_passed)
{
	auto_json json_t *state = parse("{\"Status\":\"starting\",\"FailingStreak\":0,\"Log\":[]}"),
			 *conf = parse("{\"StartPeriod\":5000000000,\"Retries\":1}");

	CHECK_STR(after(state, conf, 1, SECOND), "starting");
	CHECK_INT(json_int_at(state, "FailingStreak", -1), 0);
	CHECK_STR(after(state, conf, 0, 2 * SECOND), "healthy");
	CHECK_STR(after(state, conf, 1, 3 * SECOND), "unhealthy");
	CHECK_STR(after(state, conf, 1, 6 * SECOND), "unhealthy");
	CHECK_INT(json_int_at(state, "FailingStreak", -1), 2);
}

TEST(the_user_s_members_go_before_the_image_s)
{
	auto_json json_t *own = parse("{\"Interval\":2000000000,\"Retries\":0}"),
			 *image = parse("{\"Test\":[\"CMD\",\"x\"],\"Interval\":1000000000,\"Retries\":7}");
	auto_json json_t *both = health_merge(own, image), *none = health_merge(NULL, NULL);

	CHECK(!none);
	CHECK_INT(json_int_at(both, "Interval", 0), 2 * SECOND);
	CHECK_INT(json_int_at(both, "Retries", 0), 7);
	CHECK_INT(json_array_size(json_object_get(both, "Test")), 2);
}

TEST(what_is_no_health_check)
{
	static const char *const bad[] = { "{\"Test\":[\"SHELL\",\"x\"]}",	  "{\"Test\":[\"CMD\"]}",
					   "{\"Test\":[\"CMD-SHELL\",7]}", "{\"Interval\":5}",
					   "{\"Timeout\":-1}",		  "{\"Retries\":-1}" };
	static const char *const good[] = { "{}", "{\"Test\":[]}", "{\"Test\":[\"NONE\"]}", "{\"Test\":[\"CMD\",\"a\",\"b\"]}" };

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		auto_json json_t *v = parse(bad[i]);

		CHECK_ERR(ERR_INVALID, health_check(v));
	}
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		auto_json json_t *v = parse(good[i]);

		CHECK_OK(health_check(v));
	}
	CHECK_OK(health_check(NULL));
}

TEST(what_the_keeper_is_told)
{
	auto_json json_t *none = parse("{\"Test\":[\"NONE\"],\"Interval\":1000000000}"),
			 *usual = parse("{\"Test\":[\"CMD\",\"x\"],\"StartPeriod\":10000000000}");
	struct keeper_conf c = { 0 };
	struct health h = { .started_ns = 100 };

	health_conf(NULL, &c);
	health_conf(none, &c);
	CHECK_INT(c.health_ms, 0);
	CHECK_INT(health_left(&h, 5), -1);
	health_conf(usual, &c);
	CHECK_INT(c.health_ms, 30000);
	CHECK_INT(c.health_start_ms, 5000);
	CHECK_INT(c.health_period_ms, 10000);
	CHECK_INT(health_pause(&h, &c, 100 + SECOND), 5 * SECOND);
	CHECK_INT(health_pause(&h, &c, 100 + 10 * SECOND), 30 * SECOND);
	h.has_passed = true;
	CHECK_INT(health_pause(&h, &c, 100 + SECOND), 30 * SECOND);
	h.due_ns = 50;
	CHECK_INT(health_left(&h, 20), 30);
	CHECK_INT(health_left(&h, 70), 0);
}
