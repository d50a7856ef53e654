#include "sys/entropy.h"
#include "base/text.h"
#include <stdlib.h>
#include <sys/random.h>

static void fill(void *p, size_t n)
{
	if (getrandom(p, n, 0) != (ssize_t)n)
		abort();
}

void sys_random_hex(char *out, size_t bytes)
{
	unsigned char raw[64];

	fill(raw, bytes);
	text_hex(raw, bytes, out);
}

unsigned sys_random_below(unsigned limit)
{
	unsigned v;

	fill(&v, sizeof v);
	return v % limit;
}
