#include "engine/health.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "state/record.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define OUTPUT_MAX     4096u
#define LOG_MAX	       5u
#define STATE_MAX      (256u << 10)
#define SECOND	       INT64_C(1000000000)
#define MILLISECOND    INT64_C(1000000)
#define INTERVAL_NS    (30 * SECOND)
#define TIMEOUT_NS     (30 * SECOND)
#define START_EVERY_NS (5 * SECOND)
#define RETRIES	       3
#define MS_MAX	       INT64_C(1000000000000) /* 30 years */

static const char *kind_of(const json_t *healthcheck)
{
	const char *kind = json_string_value(json_array_get(json_object_get(healthcheck, "Test"), 0));

	return kind ? kind : "";
}

/* Whether there is something to run. */
static bool is_wanted(const json_t *healthcheck)
{
	const char *kind = kind_of(healthcheck);

	return *kind && strcmp(kind, "NONE") != 0;
}

FALLIBLE health_check(const json_t *healthcheck)
{
	static const char *const times[] = { "Interval", "Timeout", "StartPeriod", "StartInterval" };
	const json_t *test = json_object_get(healthcheck, "Test");
	const char *kind = kind_of(healthcheck);

	if (!healthcheck || json_is_null(healthcheck))
		return NULL;
	if (json_array_size(test) && strcmp(kind, "NONE") != 0 && strcmp(kind, "CMD") != 0 && strcmp(kind, "CMD-SHELL") != 0)
		return FAIL(ERR_INVALID, "Unknown healthcheck type '%.100s' (expected 'CMD')", kind);
	for (size_t i = 0; i < json_array_size(test); i++)
		if (!json_is_string(json_array_get(test, i)))
			return FAIL(ERR_INVALID, "the health check is not a list of strings");
	if ((strcmp(kind, "CMD") == 0 || strcmp(kind, "CMD-SHELL") == 0) && json_array_size(test) < 2)
		return FAIL(ERR_INVALID, "Missing command after HEALTHCHECK %s", kind);
	for (size_t i = 0; i < LEN(times); i++) {
		int64_t ns = json_int_at(healthcheck, times[i], 0);

		if (ns < 0 || (ns && ns < MILLISECOND))
			return FAIL(ERR_INVALID, "%s in Healthcheck cannot be less than 1ms", times[i]);
	}
	if (json_int_at(healthcheck, "Retries", 0) < 0)
		return FAIL(ERR_INVALID, "Retries in Healthcheck cannot be negative");
	return NULL;
}

json_t *health_merge(const json_t *own, const json_t *image)
{
	json_t *merged = json_is_object(image) ? json_deep_copy(image) : json_object();
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)own, key, value)
		if (json_array_size(value) || (json_is_integer(value) && json_integer_value(value)))
			(void)json_object_set(merged, key, value);
	if (json_object_size(merged))
		return merged;
	json_decref(merged);
	return NULL;
}

static int64_t time_of(const json_t *healthcheck, const char *key, int64_t usual_ns)
{
	int64_t ns = json_int_at(healthcheck, key, 0);

	return ns > 0 ? ns : usual_ns;
}

static uint64_t ms_of(int64_t ns)
{
	int64_t ms = (ns + MILLISECOND - 1) / MILLISECOND;

	return (uint64_t)(ms < MS_MAX ? ms : MS_MAX);
}

void health_conf(const json_t *healthcheck, struct keeper_conf *c)
{
	if (!is_wanted(healthcheck))
		return;
	c->health_ms = ms_of(time_of(healthcheck, "Interval", INTERVAL_NS));
	c->health_start_ms = ms_of(time_of(healthcheck, "StartInterval", START_EVERY_NS));
	c->health_period_ms = ms_of(time_of(healthcheck, "StartPeriod", 0));
}

static json_t *load(struct engine *e, const char *id)
{
	auto_fd int run = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	auto_free char *text = NULL;
	json_t *state = NULL;
	struct err *err = NULL;
	size_t n = 0;

	err = run < 0 ? FAIL(ERR_NOT_FOUND, "it does not run") : record_read(run, "health", &text, &n);
	if (!err)
		err = json_parse(sv_from(text, n), "health", STATE_MAX, &state);
	err_free(err);
	return state ? state : json_pack("{s:s, s:i, s:[]}", "Status", "starting", "FailingStreak", 0, "Log");
}

json_t *health_of(struct engine *e, const char *id, const json_t *doc, bool is_running)
{
	json_t *state;

	if (!is_wanted(json_at(doc, "Config.Healthcheck")))
		return NULL;
	state = load(e, id);
	if (!is_running)
		(void)json_object_set_new(state, "Status", json_string("unhealthy"));
	return state;
}

/* The failing streak counts once the start period is over, or a check has passed. */
static void judge(json_t *health, const json_t *healthcheck, const struct health_result *r)
{
	const char *status = json_str_at(health, "Status", "starting");
	int64_t streak = json_int_at(health, "FailingStreak", 0), retries = json_int_at(healthcheck, "Retries", 0);

	if (r->exit_code == 0) {
		(void)json_object_set_new(health, "Status", json_string("healthy"));
		(void)json_object_set_new(health, "FailingStreak", json_integer(0));
		return;
	}
	if (strcmp(status, "starting") == 0 && r->since_start_ns < json_int_at(healthcheck, "StartPeriod", 0))
		return;
	streak++;
	(void)json_object_set_new(health, "FailingStreak", json_integer(streak));
	if (streak >= (retries > 0 ? retries : RETRIES))
		(void)json_object_set_new(health, "Status", json_string("unhealthy"));
}

void health_note(json_t *health, const json_t *healthcheck, const struct health_result *r)
{
	json_t *log = json_object_get(health, "Log");
	char from[TIME_TEXT_MAX], to[TIME_TEXT_MAX];

	if (!json_is_array(log)) {
		log = json_array();
		(void)json_object_set_new(health, "Log", log);
	}
	judge(health, healthcheck, r);
	while (json_array_size(log) >= LOG_MAX)
		(void)json_array_remove(log, 0);
	(void)json_array_append_new(log, json_pack("{s:s, s:s, s:i, s:s}", "Start", time_format(r->start_ns, from), "End",
						   time_format(r->end_ns, to), "ExitCode", r->exit_code, "Output", r->output));
}

/* ---- one check ---- */

/* What runs, as an exec body; owned. */
static json_t *exec_body(const json_t *doc)
{
	const json_t *test = json_at(doc, "Config.Healthcheck.Test"), *shell = json_at(doc, "Config.Shell");
	json_t *cmd = json_array();

	if (strcmp(kind_of(json_at(doc, "Config.Healthcheck")), "CMD-SHELL") == 0) {
		if (json_array_size(shell))
			(void)json_array_extend(cmd, (json_t *)(uintptr_t)shell);
		else
			(void)json_array_extend(cmd, json_pack("[s, s]", "/bin/sh", "-c"));
	}
	for (size_t i = 1; i < json_array_size(test); i++)
		(void)json_array_append(cmd, json_array_get(test, i));
	return json_pack("{s:o}", "Cmd", cmd);
}

/* Go's text of a duration: "1m30s", "500ms". */
static void duration_text(int64_t ns, char out[64])
{
	int64_t s = ns / SECOND, ms = ns % SECOND / MILLISECOND;
	char frac[8] = "";

	if (!s) {
		(void)snprintf(out, 64, "%lldms", (long long)ms);
		return;
	}
	if (ms)
		(void)snprintf(frac, sizeof frac, ".%03lld", (long long)ms);
	if (s >= 3600)
		(void)snprintf(out, 64, "%lldh%lldm%lld%ss", (long long)(s / 3600), (long long)(s / 60 % 60), (long long)(s % 60),
			       frac);
	else if (s >= 60)
		(void)snprintf(out, 64, "%lldm%lld%ss", (long long)(s / 60), (long long)(s % 60), frac);
	else
		(void)snprintf(out, 64, "%lld%ss", (long long)s, frac);
}

/* Bytes that JSON takes; each other one a question mark. */
static void make_text(char *p)
{
	auto_json json_t *whole = json_string(p);

	for (; !whole && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
}

static FALLIBLE run_check(struct engine *e, const char *id, const json_t *doc, struct health_result *r, struct buf *text)
{
	int64_t timeout_ns = time_of(json_at(doc, "Config.Healthcheck"), "Timeout", TIMEOUT_NS);
	auto_json json_t *body = exec_body(doc);
	auto_buf struct buf out = BUF(OUTPUT_MAX + 1);
	bool is_late = false;
	struct err *err;
	char limit[64];

	err = container_exec_capture(e, id, body, timeout_ns, OUTPUT_MAX, &out, &r->exit_code, &is_late);
	if (err && err->kind == ERR_CONFLICT) /* it stopped or was paused meanwhile */
		return err;
	if (err || is_late)
		r->exit_code = -1;
	duration_text(timeout_ns, limit);
	if (err)
		buf_fmt(text, "%s", err->msg);
	else if (is_late)
		buf_fmt(text, "Health check exceeded timeout (%s)%s%s", limit, out.n ? ": " : "", buf_text(&out));
	else
		buf_str(text, buf_text(&out));
	err_free(err);
	return NULL;
}

FALLIBLE container_probe(struct engine *e, const char *id, bool *out_is_starting)
{
	auto_json json_t *doc = NULL, *status = NULL, *state = NULL;
	auto_buf struct buf text = BUF(2 * OUTPUT_MAX), body = BUF(STATE_MAX);
	struct health_result r = { .start_ns = time_now_ns() };
	auto_fd int run = -1;
	int64_t started = 0;

	TRY(ctr_load(e, id, &doc));
	if (!ctr_live(e, id, &status) || !is_wanted(json_at(doc, "Config.Healthcheck")))
		return FAIL(ERR_CONFLICT, "container %s is not running, or has no health check", id);
	state = load(e, id);
	err_free(time_parse(sv_of(json_str_at(status, "StartedAt", "")), &started));
	r.since_start_ns = r.start_ns - started;
	TRY(run_check(e, id, doc, &r, &text));
	make_text(text.data ? text.data : (char[]){ "" });
	r.output = buf_text(&text);
	r.end_ns = time_now_ns();
	health_note(state, json_at(doc, "Config.Healthcheck"), &r);
	*out_is_starting = strcmp(json_str_at(state, "Status", ""), "starting") == 0;
	json_print(state, &body);
	TRY(buf_check(&body, "health"));
	run = sys_openat(engine_run_fd(e), id, O_RDONLY | O_DIRECTORY, 0);
	return run < 0 ? FAIL_OS(-run, "%s/%s", engine_run(e), id) : record_write_volatile(run, "health", body.data, body.n);
}
