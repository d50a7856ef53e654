#include "network/ipam.h"
#include "base/num.h"
#include <stdio.h>

enum { FIRST_16 = 27, LAST_16 = 31, POOLS_24 = 4096 };

const char *ip_text(uint32_t ip, char out[16])
{
	(void)snprintf(out, 16, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
	return out;
}

struct err *ip_parse(struct sv text, uint32_t *out_ip)
{
	struct sv rest = text;
	uint32_t ip = 0;

	for (int i = 0; i < 4; i++) {
		struct sv part = i < 3 ? sv_cut(&rest, '.') : rest;
		uint64_t v;
		struct err *e = part.n > 1 && part.p[0] == '0' ? FAIL(ERR_INVALID, "leading zero")
							       : num_parse(part, 10, 0, 255, &v);

		if (e) {
			err_free(e);
			return FAIL(ERR_INVALID, "\"" SV_FMT "\" is not an IPv4 address", SV_ARG(text));
		}
		ip = ip << 8 | (uint32_t)v;
	}
	*out_ip = ip;
	return NULL;
}

struct err *subnet_parse(struct sv text, struct subnet *out_subnet)
{
	struct sv rest = text, ip = sv_cut(&rest, '/');
	struct subnet s;
	uint64_t prefix;
	struct err *e;

	TRY(ip_parse(ip, &s.base));
	e = num_parse(rest, 10, 8, 30, &prefix);
	if (e)
		return err_ctx(e, "subnet " SV_FMT, SV_ARG(text));
	s.prefix_len = (unsigned)prefix;
	if (s.base & ~subnet_mask(s))
		return FAIL(ERR_INVALID, "subnet " SV_FMT ": bits beyond the prefix are set", SV_ARG(text));
	*out_subnet = s;
	return NULL;
}

const char *subnet_text(struct subnet s, char out[20])
{
	char ip[16];

	(void)snprintf(out, 20, "%s/%u", ip_text(s.base, ip), s.prefix_len);
	return out;
}

bool subnet_overlaps(struct subnet a, struct subnet b)
{
	return subnet_has(a, b.base) || subnet_has(b, a.base);
}

static struct subnet pool(unsigned i)
{
	if (i <= LAST_16 - FIRST_16)
		return (struct subnet){ 172u << 24 | (FIRST_16 + i) << 16, 16 };
	i -= LAST_16 - FIRST_16 + 1;
	return (struct subnet){ (10u << 24 | 89u << 16) + (i << 8), 24 };
}

struct err *subnet_choose(const struct subnet *taken, size_t n, struct subnet *out_subnet)
{
	for (unsigned i = 0; i < POOLS_24; i++) {
		struct subnet s = pool(i);
		size_t k = 0;

		while (k < n && !subnet_overlaps(s, taken[k]))
			k++;
		if (k == n) {
			*out_subnet = s;
			return NULL;
		}
	}
	return FAIL(ERR_UNAVAILABLE, "no free subnet: every pool overlaps a route of this host; name one with --subnet");
}

static bool is_used(const uint32_t *used, size_t n, uint32_t ip)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (used[mid] == ip)
			return true;
		if (used[mid] < ip)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

struct err *ip_choose(struct subnet s, const uint32_t *used, size_t n, uint32_t last, uint32_t *out_ip)
{
	const uint32_t first = s.base + 1, end = subnet_last(s); /* [first, end) */
	uint32_t ip = last >= first && last < end ? last : end - 1;
	char text[20];

	for (uint32_t tries = 0; tries <= n && tries < end - first; tries++) {
		ip = ip + 1 == end ? first : ip + 1;
		if (!is_used(used, n, ip)) {
			*out_ip = ip;
			return NULL;
		}
	}
	return FAIL(ERR_UNAVAILABLE, "subnet %s is full: %zu addresses in use", subnet_text(s, text), n);
}
