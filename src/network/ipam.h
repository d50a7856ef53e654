/*
 * ipam.h - IPv4 addresses and subnets as numbers: text, overlap, which subnet and which address come next. Pure.
 *
 * Addresses are in host order here. Layer: network.  Limits: prefixes /8 to /30.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct subnet {
	uint32_t base;
	unsigned prefix_len;
};

const char *ip_text(uint32_t ip, char out[16]);
FALLIBLE ip_parse(struct sv text, uint32_t *out_ip);
/* "10.1.0.0/16". ERR_INVALID also when bits beyond the prefix are set, or the prefix is not /8 to /30. */
FALLIBLE subnet_parse(struct sv text, struct subnet *out_subnet);
const char *subnet_text(struct subnet s, char out[20]);
static inline uint32_t subnet_mask(struct subnet s)
{
	return s.prefix_len ? ~0u << (32 - s.prefix_len) : 0;
}
static inline uint32_t subnet_last(struct subnet s) /* the broadcast address */
{
	return s.base | ~subnet_mask(s);
}
static inline bool subnet_has(struct subnet s, uint32_t ip)
{
	return (ip & subnet_mask(s)) == s.base;
}
bool subnet_overlaps(struct subnet a, struct subnet b);
/*
 * The first of our pools that overlaps none of taken: 172.27.0.0/16 … 172.31.0.0/16, then 10.89.0.0/24 and following.
 * ERR_UNAVAILABLE when none is left.
 */
FALLIBLE subnet_choose(const struct subnet *taken, size_t n, struct subnet *out_subnet);
/*
 * A free host address of s, searched from after `last` on and around: one that was just freed is not given out again at
 * once. used: sorted ascending. ERR_UNAVAILABLE when the subnet is full.
 */
FALLIBLE ip_choose(struct subnet s, const uint32_t *used, size_t n, uint32_t last, uint32_t *out_ip);
