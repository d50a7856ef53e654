/* pump_test.c - the two ends of the pump, and what each says when the other fails. */
#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "snapshot/pump.h"
#include "sys/proc.h"
#include <string.h>

enum { TOTAL = 3000017 };

struct counter {
	size_t at, fail_at, step;
	bool reads_on;
};

static char byte_at(size_t i)
{
	return (char)(i * 2654435761u >> 13);
}

static struct err *count(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct counter *c = ctx;

	if (c->at >= c->fail_at)
		return FAIL(ERR_UNAVAILABLE, "the line is dead");
	n = n > TOTAL - c->at ? TOTAL - c->at : n;
	n = c->step && n > c->step ? c->step : n;
	for (size_t i = 0; i < n; i++)
		((char *)p)[i] = byte_at(c->at + i);
	c->at += n;
	*out_n = n;
	return NULL;
}

struct eater {
	size_t most, chunk, got;
	bool fails;
	struct zip_sink copy;
};

static struct err *eat(void *ctx, struct zip_source tar)
{
	const struct zip_source *source = &tar;
	struct eater *e = ctx;
	auto_free char *p = xmalloc(e->chunk);

	while (e->got < e->most) {
		size_t n = 0;

		TRY(source->read(source->ctx, p, e->chunk, &n));
		if (n == 0)
			break;
		for (size_t i = 0; i < n; i++)
			if (p[i] != byte_at(e->got + i))
				return FAIL(ERR_CORRUPT, "byte %zu is wrong", e->got + i);
		e->got += n;
	}
	return e->fails ? FAIL(ERR_LIMIT, "enough") : NULL;
}

typedef struct err *pump_fn(struct zip_source source, const struct pump_job *job,
			    char out_digest[DIGEST_MAX]);
static pump_fn *pump;

static struct err *run(struct counter *c, struct eater *e, char digest[DIGEST_MAX])
{
	return pump((struct zip_source){ count, c }, &(struct pump_job){ eat, e, e->copy }, digest);
}

static void all_bytes(void)
{
	static const size_t steps[] = { 0, 777, 65536 }, chunks[] = { 512, 262144, 1000000 };
	auto_free char *all = xmalloc(TOTAL);
	char want[DIGEST_MAX], got[DIGEST_MAX];

	for (size_t i = 0; i < TOTAL; i++)
		all[i] = byte_at(i);
	digest_of(all, TOTAL, want);
	for (size_t i = 0; i < 9; i++) {
		struct counter c = { .fail_at = SIZE_MAX, .step = steps[i / 3] };
		struct eater e = { .most = SIZE_MAX, .chunk = chunks[i % 3] };

		CHECK_OK(run(&c, &e, got));
		CHECK_STR(got, want);
		CHECK_INT(e.got, TOTAL);
	}
	for (size_t most = 0; most <= TOTAL;
	     most += TOTAL / 3) { /* a consumer that leaves early: the digest is of everything */
		struct counter c = { .fail_at = SIZE_MAX };
		struct eater e = { .most = most, .chunk = 4096 };

		CHECK_OK(run(&c, &e, got));
		CHECK_STR(got, want);
	}
}

static void failing_source(void)
{
	for (size_t at = 0; at < TOTAL; at += 500000) {
		struct counter c = { .fail_at = at };
		struct eater e = { .most = SIZE_MAX, .chunk = 4096 };

		CHECK_ERR(ERR_UNAVAILABLE, run(&c, &e, (char[DIGEST_MAX]){ 0 }));
	}
}

static void failing_consumer(void)
{
	struct counter c = { .fail_at = SIZE_MAX, .step = 100 };
	struct eater e = { .most = 1000, .chunk = 1000, .fails = true };

	CHECK_ERR(ERR_LIMIT, run(&c, &e, (char[DIGEST_MAX]){ 0 }));
	CHECK(c.at < TOTAL);
}

TEST(one_thread)
{
	pump = pump_alone;
	all_bytes();
	failing_source();
	failing_consumer();
}

TEST(two_threads)
{
	if (sys_cpus() == 1)
		t_skip("needs two processors");
	pump = pump_threads;
	all_bytes();
	failing_source();
	failing_consumer();
}
