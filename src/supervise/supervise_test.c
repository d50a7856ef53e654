#include "base/own.h"
#include "harness/t.h"
#include "supervise/conf.h"
#include "supervise/jsonlog.h"
#include "supervise/restart.h"
#include "sys/sys.h"
#include <stdlib.h>
#include <string.h>

TEST(restart_table)
{
	static const struct {
		uint8_t policy;
		uint32_t max, count;
		int code;
		bool stopped;
		bool again;
	} rows[] = {
		{ RESTART_NO, 0, 0, 1, false, false },
		{ RESTART_ALWAYS, 0, 0, 0, false, true },
		{ RESTART_ALWAYS, 0, 0, 0, true, false },
		{ RESTART_UNLESS_STOPPED, 0, 9, 1, false, true },
		{ RESTART_UNLESS_STOPPED, 0, 9, 1, true, false },
		{ RESTART_ON_FAILURE, 0, 5, 0, false, false },
		{ RESTART_ON_FAILURE, 0, 5, 1, false, true },
		{ RESTART_ON_FAILURE, 3, 2, 1, false, true },
		{ RESTART_ON_FAILURE, 3, 3, 1, false, false },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct keeper_conf c = { .restart = rows[i].policy, .restart_max = rows[i].max };
		struct restart r = { .count = rows[i].count };

		CHECK_INT(restart_next(&c, &r, rows[i].code, 0, rows[i].stopped) >= 0, rows[i].again);
	}
}

TEST(restart_backs_off_and_resets)
{
	struct keeper_conf c = { .restart = RESTART_ALWAYS };
	struct restart r = { 0 };
	int delay = 0;

	CHECK_INT(restart_next(&c, &r, 1, 0, false), 100);
	CHECK_INT(restart_next(&c, &r, 1, 0, false), 200);
	for (int i = 0; i < 20; i++)
		delay = restart_next(&c, &r, 1, 0, false);
	CHECK_INT(delay, RESTART_LAST_MS);
	CHECK_INT(restart_next(&c, &r, 1, RESTART_RESET_NS, false), 100);
	CHECK_INT(r.count, 23);
}

TEST(conf_survives_packing_and_refuses_damage)
{
	struct keeper_conf c = { .log_files = 1, .restart = RESTART_ALWAYS };
	auto_buf struct buf plan = BUF(100), out = BUF(100000);
	const struct keeper_conf *got;
	const void *p;

	CHECK_OK(keeper_conf_text(c.id, sizeof c.id, "abc"));
	CHECK_ERR(ERR_LIMIT, keeper_conf_text(c.id, 3, "abc"));
	buf_str(&plan, "plan");
	keeper_conf_pack(&c, &plan, &out);
	CHECK_OK(keeper_conf_unpack(out.data, out.n, &got, &p));
	CHECK_STR(got->id, "abc");
	CHECK(memcmp(p, "plan", 4) == 0);
	CHECK_ERR(ERR_INVALID, keeper_conf_unpack(out.data, out.n - 1, &got, &p));
	CHECK_ERR(ERR_INVALID, keeper_conf_unpack(out.data, 10, &got, &p));
}

static struct jsonlog log_;

/* The log without its times. */
static char *log_text(const char *name)
{
	auto_fd int fd = sys_openat(t_tmpdir(), name, 0, 0);
	static char text[200000];
	ssize_t n = sys_read_full(fd, text, sizeof text - 1);
	char *to = text;

	CHECK(n >= 0);
	text[n] = 0;
	for (char *p = text; *p;) {
		if (strncmp(p, ",\"time\":\"", 9) == 0) {
			p = strchr(p + 9, '"') + 1;
			continue;
		}
		*to++ = *p++;
	}
	*to = 0;
	return text;
}

TEST(log_lines_parts_and_escapes)
{
	memset(&log_, 0, sizeof log_);
	CHECK_INT(jsonlog_open(&log_, t_tmpdir(), "log", 0, 1), 0);
	jsonlog_write(&log_, 1, "one\ntw", 6);
	jsonlog_write(&log_, 2, "err\xff\xc3\xa4\"\\\t\x01\n", 11);
	jsonlog_write(&log_, 1, "o\nrest", 6);
	jsonlog_close(&log_);
	CHECK_STR(log_text("log"), "{\"log\":\"one\\n\",\"stream\":\"stdout\"}\n"
				   "{\"log\":\"err\\ufffd\xc3\xa4\\\"\\\\\\t\\u0001\\n\",\"stream\":\"stderr\"}\n"
				   "{\"log\":\"two\\n\",\"stream\":\"stdout\"}\n"
				   "{\"log\":\"rest\",\"stream\":\"stdout\"}\n");
}

TEST(log_splits_long_lines_and_rotates)
{
	char line[JSONLOG_LINE + 11];

	memset(&log_, 0, sizeof log_);
	memset(line, 'x', sizeof line);
	line[sizeof line - 1] = '\n';
	CHECK_INT(jsonlog_open(&log_, t_tmpdir(), "log", 20000, 3), 0);
	for (int i = 0; i < 4; i++)
		jsonlog_write(&log_, 1, line, sizeof line);
	jsonlog_close(&log_);
	CHECK_INT(t_entries(t_tmpdir()), 3);
	CHECK(strstr(log_text("log"), "{\"log\":\"xxxxxxxxxx\\n\""));
	CHECK(strlen(log_text("log.1")) < 20000);
}
