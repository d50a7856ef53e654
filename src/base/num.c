#include "base/num.h"
#include "base/mem.h"
#include <stdio.h>
#include <strings.h>

struct err *num_parse(struct sv text, unsigned base, uint64_t min, uint64_t max, uint64_t *out_value)
{
	bool fits = true;
	uint64_t v = 0;

	if (text.n == 0)
		return FAIL(ERR_INVALID, "empty number");
	for (size_t i = 0; i < text.n; i++) {
		unsigned d = (unsigned)(unsigned char)text.p[i] - '0';

		if (d >= base || d > 9)
			return FAIL(ERR_INVALID, "\"" SV_FMT "\" is not a number", SV_ARG(text));
		fits = fits && !__builtin_mul_overflow(v, (uint64_t)base, &v) && !__builtin_add_overflow(v, (uint64_t)d, &v);
	}
	if (!fits || v < min || v > max)
		return FAIL(ERR_INVALID, "\"" SV_FMT "\" is out of range (%llu to %llu)", SV_ARG(text),
			    (unsigned long long)min, (unsigned long long)max);
	*out_value = v;
	return NULL;
}

struct err *num_parse_signed(struct sv text, int64_t min, int64_t max, int64_t *out_value)
{
	bool neg = text.n && text.p[0] == '-';
	uint64_t v = 0;
	int64_t s;

	TRY(num_parse(neg ? sv_skip(text, 1) : text, 10, 0, INT64_MAX, &v));
	s = neg ? -(int64_t)v : (int64_t)v;
	if (s < min || s > max)
		return FAIL(ERR_INVALID, "\"" SV_FMT "\" is out of range (%lld to %lld)", SV_ARG(text),
			    (long long)min, (long long)max);
	*out_value = s;
	return NULL;
}

/* A decimal fraction times scale, rounded down; no exponent, no sign. *rest is what follows the digits. */
static bool scaled(struct sv text, uint64_t scale, uint64_t *out_value, struct sv *rest)
{
	uint64_t whole = 0, frac = 0, unit = 1;
	size_t i = 0, digits = 0;

	for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++, digits++)
		if (__builtin_mul_overflow(whole, (uint64_t)10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(text.p[i] - '0'), &whole))
			return false;
	if (i < text.n && text.p[i] == '.') {
		for (i++; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++, digits++) {
			if (unit >= UINT64_C(1000000000000000000))
				continue; /* past 18 digits a fraction changes nothing */
			unit *= 10;
			frac = frac * 10 + (uint64_t)(text.p[i] - '0');
		}
	}
	frac = (uint64_t)((unsigned __int128)frac * scale / unit);
	if (!digits || __builtin_mul_overflow(whole, scale, &whole) || __builtin_add_overflow(whole, frac, out_value))
		return false;
	*rest = sv_skip(text, i);
	return true;
}

struct err *num_parse_bytes(struct sv text, uint64_t *out_bytes)
{
	static const struct {
		const char *name;
		unsigned shift;
	} units[] = { { "", 0 },    { "b", 0 },	   { "k", 10 },	   { "kb", 10 },  { "kib", 10 }, { "m", 20 },
		      { "mb", 20 }, { "mib", 20 }, { "g", 30 },	   { "gb", 30 },  { "gib", 30 }, { "t", 40 },
		      { "tb", 40 }, { "tib", 40 }, { "p", 50 },	   { "pb", 50 },  { "pib", 50 } };
	struct sv rest = { 0 };
	uint64_t probe;

	if (scaled(text, 1, &probe, &rest)) {
		rest = sv_trim(rest);
		for (size_t i = 0; i < LEN(units); i++) {
			struct sv ignored;
			uint64_t v;

			if (rest.n != strlen(units[i].name) || strncasecmp(rest.p, units[i].name, rest.n) != 0)
				continue;
			if (!scaled(text, UINT64_C(1) << units[i].shift, &v, &ignored) || v > INT64_MAX)
				break;
			*out_bytes = v;
			return NULL;
		}
	}
	return FAIL(ERR_INVALID, "\"" SV_FMT "\" is not a size (expected for example 512m or 1.5g)", SV_ARG(text));
}

struct err *num_parse_cpus(struct sv text, uint64_t *out_nano)
{
	struct sv rest;
	uint64_t v;

	if (!scaled(text, UINT64_C(1000000000), &v, &rest) || rest.n)
		return FAIL(ERR_INVALID, "\"" SV_FMT "\" is not a number of CPUs (expected for example 1.5)",
			    SV_ARG(text));
	*out_nano = v;
	return NULL;
}

struct err *num_parse_duration(struct sv text, int64_t *out_ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = { { "ns", 1 },
		      { "us", 1000 },
		      { "ms", 1000000 },
		      { "s", UINT64_C(1000000000) },
		      { "m", UINT64_C(60000000000) },
		      { "h", UINT64_C(3600000000000) } };
	struct sv left = text, rest;
	uint64_t sum = 0;
	bool ok = text.n > 0;

	if (sv_is(text, "0")) {
		*out_ns = 0;
		return NULL;
	}
	while (ok && left.n) {
		uint64_t probe = 0;
		size_t len = 0, i;

		if (!(ok = scaled(left, 1, &probe, &rest)))
			break;
		while (len < rest.n && rest.p[len] >= 'a' && rest.p[len] <= 'z')
			len++;
		for (i = 0; i < LEN(units); i++)
			if (sv_is(sv_from(rest.p, len), units[i].name))
				break;
		ok = i < LEN(units) && scaled(left, units[i].ns, &probe, &rest) &&
		     !__builtin_add_overflow(sum, probe, &sum) && sum <= INT64_MAX;
		left = sv_skip(rest, len);
	}
	if (!ok)
		return FAIL(ERR_INVALID, "\"" SV_FMT "\" is not a duration (expected for example 30s or 1m30s)",
			    SV_ARG(text));
	*out_ns = (int64_t)sum;
	return NULL;
}

/* As docker prints them: 3 significant digits in decimal units, 4 in binary ones, no trailing zeros. */
static const char *human(uint64_t bytes, double step, int digits, const char *const units[], char out[16])
{
	double v = (double)bytes;
	size_t u = 0;

	while (v >= step && u < 5) {
		v /= step;
		u++;
	}
	if (u == 0)
		(void)snprintf(out, 16, "%llu%s", (unsigned long long)bytes, units[0]);
	else
		(void)snprintf(out, 16, "%.*g%s", v >= 999.5 ? 4 : digits, v, units[u]);
	return out;
}

static const char *const decimal_units[] = { "B", "kB", "MB", "GB", "TB", "PB" };

const char *num_human(uint64_t bytes, char out[16])
{
	return human(bytes, 1000, 3, decimal_units, out);
}

const char *num_human4(uint64_t bytes, char out[16])
{
	return human(bytes, 1000, 4, decimal_units, out);
}

const char *num_human_iec(uint64_t bytes, char out[16])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };

	return human(bytes, 1024, 4, units, out);
}
