#include "base/time.h"
#include "base/num.h"
#include <stdio.h>
#include <time.h>

#define SECOND INT64_C(1000000000)

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * SECOND + ts.tv_nsec;
}

int64_t time_now_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t time_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* The date of a day number (0: 1970-01-01), proleptic Gregorian, in years that begin in March. Not gmtime_r, whose first call
 * reads /etc/localtime. */
static void civil(int64_t day, int *out_year, int *out_month, int *out_day)
{
	int64_t z = day + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097, yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), m = (5 * doy + 2) / 153;

	*out_day = (int)(doy - (153 * m + 2) / 5 + 1);
	*out_month = (int)(m < 10 ? m + 3 : m - 9);
	*out_year = (int)(yoe + era * 400 + (m >= 10));
}

const char *time_format(int64_t ns, char out[TIME_TEXT_MAX])
{
	int64_t s = ns / SECOND, days;
	long frac = (long)(ns % SECOND);
	int year, month, day, clock;
	size_t n;

	if (frac < 0) {
		frac += SECOND;
		s--;
	}
	days = s >= 0 ? s / 86400 : (s - 86399) / 86400;
	clock = (int)(s - days * 86400);
	civil(days, &year, &month, &day);
	n = (size_t)snprintf(out, TIME_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d", year, month, day, clock / 3600,
			     clock / 60 % 60, clock % 60);
	if (frac) {
		n += (size_t)snprintf(out + n, TIME_TEXT_MAX - n, ".%09ld", frac);
		while (out[n - 1] == '0')
			n--;
	}
	(void)snprintf(out + n, TIME_TEXT_MAX - n, "Z");
	return out;
}

static bool field(struct sv *rest, size_t digits, uint64_t min, uint64_t max, int *out_value)
{
	uint64_t v = 0;
	struct err *e;

	if (rest->n < digits)
		return false;
	e = num_parse(sv_from(rest->p, digits), 10, min, max, &v);
	err_free(e);
	*rest = sv_skip(*rest, digits);
	*out_value = (int)v;
	return !e;
}

static bool literal(struct sv *rest, char a, char b)
{
	bool ok = rest->n && (rest->p[0] == a || rest->p[0] == b);

	*rest = sv_skip(*rest, 1);
	return ok;
}

static int64_t fraction(struct sv *rest)
{
	int64_t unit = SECOND, ns = 0;

	*rest = sv_skip(*rest, 1);
	while (rest->n && rest->p[0] >= '0' && rest->p[0] <= '9') {
		unit /= 10;
		ns += unit * (rest->p[0] - '0');
		*rest = sv_skip(*rest, 1);
	}
	return ns;
}

struct err *time_parse(struct sv text, int64_t *out_ns)
{
	struct sv r = text;
	struct tm tm = { 0 };
	int64_t ns = 0;
	int hh = 0, mm = 0, sign = 0;
	bool ok = field(&r, 4, 1970, 2261, &tm.tm_year) && literal(&r, '-', '-') && field(&r, 2, 1, 12, &tm.tm_mon) &&
		  literal(&r, '-', '-') && field(&r, 2, 1, 31, &tm.tm_mday) && literal(&r, 'T', 't') &&
		  field(&r, 2, 0, 23, &tm.tm_hour) && literal(&r, ':', ':') && field(&r, 2, 0, 59, &tm.tm_min) &&
		  literal(&r, ':', ':') && field(&r, 2, 0, 60, &tm.tm_sec);

	if (ok && r.n && r.p[0] == '.')
		ns = fraction(&r);
	if (ok && r.n && (r.p[0] == '+' || r.p[0] == '-')) {
		sign = r.p[0] == '+' ? 1 : -1;
		r = sv_skip(r, 1);
		ok = field(&r, 2, 0, 23, &hh) && literal(&r, ':', ':') && field(&r, 2, 0, 59, &mm);
	} else if (ok) {
		ok = literal(&r, 'Z', 'z');
	}
	if (!ok || r.n)
		return FAIL(ERR_INVALID, "\"" SV_FMT "\" is not a time (expected for example 2026-01-31T12:00:00Z)",
			    SV_ARG(text));
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*out_ns = ((int64_t)timegm(&tm) - sign * (hh * 3600 + mm * 60)) * SECOND + ns;
	return NULL;
}

const char *time_human(int64_t ns, char out[TIME_TEXT_MAX])
{
	int64_t s = ns / SECOND, m = s / 60, h = (m + 30) / 60;

	if (s < 1)
		(void)snprintf(out, TIME_TEXT_MAX, "Less than a second");
	else if (s == 1)
		(void)snprintf(out, TIME_TEXT_MAX, "1 second");
	else if (s < 60)
		(void)snprintf(out, TIME_TEXT_MAX, "%lld seconds", (long long)s);
	else if (m == 1)
		(void)snprintf(out, TIME_TEXT_MAX, "About a minute");
	else if (m < 60)
		(void)snprintf(out, TIME_TEXT_MAX, "%lld minutes", (long long)m);
	else if (h == 1)
		(void)snprintf(out, TIME_TEXT_MAX, "About an hour");
	else if (h < 48)
		(void)snprintf(out, TIME_TEXT_MAX, "%lld hours", (long long)h);
	else if (h < 24 * 14)
		(void)snprintf(out, TIME_TEXT_MAX, "%lld days", (long long)(h / 24));
	else if (h < 24 * 60)
		(void)snprintf(out, TIME_TEXT_MAX, "%lld weeks", (long long)(h / 24 / 7));
	else if (h < 24 * 365 * 2)
		(void)snprintf(out, TIME_TEXT_MAX, "%lld months", (long long)(h / 24 / 30));
	else
		(void)snprintf(out, TIME_TEXT_MAX, "%lld years", (long long)(h / 24 / 365));
	return out;
}

/* A day, perhaps with hour, minute and second: local time, as docker has it. */
static bool parse_local(struct sv r, int64_t *out_ns)
{
	struct tm tm = { .tm_isdst = -1 };
	int64_t ns = 0;
	bool ok = field(&r, 4, 1970, 2261, &tm.tm_year) && literal(&r, '-', '-') && field(&r, 2, 1, 12, &tm.tm_mon) &&
		  literal(&r, '-', '-') && field(&r, 2, 1, 31, &tm.tm_mday);

	if (ok && r.n)
		ok = literal(&r, 'T', 't') && field(&r, 2, 0, 23, &tm.tm_hour);
	if (ok && r.n)
		ok = literal(&r, ':', ':') && field(&r, 2, 0, 59, &tm.tm_min);
	if (ok && r.n)
		ok = literal(&r, ':', ':') && field(&r, 2, 0, 60, &tm.tm_sec);
	if (ok && r.n && r.p[0] == '.')
		ns = fraction(&r);
	if (!ok || r.n)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*out_ns = (int64_t)mktime(&tm) * SECOND + ns;
	return true;
}

FALLIBLE time_parse_moment(struct sv text, int64_t *out_ns)
{
	uint64_t seconds;
	int64_t before;
	struct err *e = num_parse(text, 10, 0, INT32_MAX, &seconds);

	if (!e) {
		*out_ns = (int64_t)seconds * 1000000000;
		return NULL;
	}
	err_free(e);
	e = num_parse_duration(text, &before);
	if (!e) {
		*out_ns = time_now_ns() - before;
		return NULL;
	}
	err_free(e);
	return parse_local(text, out_ns) ? NULL : time_parse(text, out_ns);
}
