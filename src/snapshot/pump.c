/*
 * pump.c - a ring of SLOTS buffers filled by one thread, hashed by a second and consumed by a third.
 * `filled`, `hashed` and `eaten` only grow; a slot belongs to the pump again when both of the others have
 * passed it. Decompressing, hashing and making files, which is the kernel's time, so overlap.
 */
#include "snapshot/pump.h"
#include "base/mem.h"
#include "base/own.h"
#include "sys/proc.h"
#include <pthread.h>
#include <stdbool.h>

enum { SLOTS = 4, SLOT_BYTES = 1 << 19 };

struct pump {
	pthread_mutex_t lock; /* guards the counters and flags */
	pthread_cond_t moved;
	unsigned long filled, hashed, eaten;
	bool ended;  /* no slot comes after `filled` */
	bool failed; /* … because source failed */
	bool left;   /* the consumer wants no more */
	char *slots[SLOTS];
	size_t n[SLOTS];
	size_t at; /* the consumer's place in the slot `eaten` */
	struct digest_state *digest;
	const struct pump_job *job;
	struct err *consumed; /* what it said */
};

static void pump_lock(struct pump *u)
{
	(void)pthread_mutex_lock(&u->lock);
}

static void pump_unlock(struct pump *u)
{
	(void)pthread_cond_broadcast(&u->moved);
	(void)pthread_mutex_unlock(&u->lock);
}

static bool is_full(const struct pump *u)
{
	return u->filled - u->hashed == SLOTS || (!u->left && u->filled - u->eaten == SLOTS);
}

/* One more is hashed or eaten, which is only waited for while the ring is full. */
static void pass(struct pump *u, unsigned long *counter)
{
	bool was_full;

	pump_lock(u);
	was_full = is_full(u);
	++*counter;
	if (was_full && !is_full(u))
		(void)pthread_cond_broadcast(&u->moved);
	(void)pthread_mutex_unlock(&u->lock);
}

/* Waits until slot number `mine` is filled. False: it never will be. */
static bool wait_filled(struct pump *u, unsigned long mine, bool *out_failed)
{
	bool is_there;

	pump_lock(u);
	while (u->filled == mine && !u->ended)
		(void)pthread_cond_wait(&u->moved, &u->lock);
	is_there = u->filled != mine;
	*out_failed = u->failed;
	(void)pthread_mutex_unlock(&u->lock);
	return is_there;
}

/* The rest of the consumer's slot, copied when it is new. *out_n 0: the end. */
static struct err *rest_of_slot(struct pump *u, char **out_p, size_t *out_n)
{
	unsigned slot = u->eaten % SLOTS; /* only this thread writes it */
	bool failed;

	*out_n = 0;
	if (u->at == 0 && !wait_filled(u, u->eaten, &failed))
		return failed ? FAIL(ERR_CANCELLED, "the source failed") : NULL;
	if (u->at == 0 && u->job->copy.write)
		TRY(u->job->copy.write(u->job->copy.ctx, u->slots[slot], u->n[slot]));
	*out_p = u->slots[slot] + u->at;
	*out_n = u->n[slot] - u->at;
	return NULL;
}

static void eat(struct pump *u, size_t n)
{
	u->at += n;
	if (u->at == u->n[u->eaten % SLOTS]) {
		u->at = 0;
		pass(u, &u->eaten);
	}
}

/* The consumer's side of zip_source. */
static struct err *pump_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct pump *u = ctx;
	char *from = NULL;
	size_t there;

	TRY(rest_of_slot(u, &from, &there));
	*out_n = n < there ? n : there;
	if (*out_n) {
		memcpy(p, from, *out_n);
		eat(u, *out_n);
	}
	return NULL;
}

static struct err *pump_skip(void *ctx, uint64_t n, uint64_t *out_n)
{
	struct pump *u = ctx;
	char *from;
	size_t there;

	TRY(rest_of_slot(u, &from, &there));
	*out_n = n < there ? n : there;
	if (*out_n)
		eat(u, (size_t)*out_n);
	return NULL;
}

static struct err *consume(const struct pump_job *job, struct zip_source tar)
{
	uint64_t n = 0;

	TRY(job->consume(job->ctx, tar));
	return job->copy.write ? zip_skip(&tar, UINT64_MAX, &n) : NULL;
}

static void *consumer(void *ctx)
{
	struct pump *u = ctx;

	u->consumed = consume(u->job, (struct zip_source){ pump_read, u, pump_skip });
	pump_lock(u);
	u->left = true;
	pump_unlock(u);
	return NULL;
}

static void *hasher(void *ctx)
{
	struct pump *u = ctx;
	bool failed;

	while (wait_filled(u, u->hashed, &failed)) { /* only this thread writes it */
		digest_add(u->digest, u->slots[u->hashed % SLOTS], u->n[u->hashed % SLOTS]);
		pass(u, &u->hashed);
	}
	return NULL;
}

/* Waits for a free slot. False: the consumer failed, no more is needed. */
static bool next_slot(struct pump *u, unsigned *out_slot)
{
	bool is_wanted;

	pump_lock(u);
	while (is_full(u) && !(u->left && u->consumed))
		(void)pthread_cond_wait(&u->moved, &u->lock);
	*out_slot = u->filled % SLOTS;
	is_wanted = !(u->left && u->consumed);
	(void)pthread_mutex_unlock(&u->lock);
	return is_wanted;
}

static void publish(struct pump *u, bool ended, bool failed)
{
	pump_lock(u);
	if (ended)
		u->ended = true;
	else
		u->filled++;
	u->failed = failed;
	pump_unlock(u);
}

static struct err *fill_slot(const struct zip_source *source, char *p, size_t *out_n)
{
	size_t n = 0;

	while (n < SLOT_BYTES) {
		size_t step = 0;

		TRY(source->read(source->ctx, p + n, SLOT_BYTES - n, &step));
		if (step == 0)
			break;
		n += step;
	}
	*out_n = n;
	return NULL;
}

/* Reads source to its end, or until the consumer failed. */
static struct err *pump_all(struct pump *u, struct zip_source source)
{
	struct err *e = NULL;
	unsigned slot = 0;

	while (next_slot(u, &slot)) {
		e = fill_slot(&source, u->slots[slot], &u->n[slot]);
		if (e || u->n[slot] == 0)
			break;
		publish(u, false, false);
	}
	publish(u, true, e != NULL);
	return e;
}

static void pump_fini(struct pump *u)
{
	for (unsigned i = 0; i < SLOTS; i++)
		free(u->slots[i]);
	digest_free(u->digest);
	(void)pthread_cond_destroy(&u->moved);
	(void)pthread_mutex_destroy(&u->lock);
}

struct err *pump_threads(struct zip_source source, const struct pump_job *job, char out_digest[DIGEST_MAX])
{
	CLEANUP(pump_fini)
	struct pump u = { .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER };
	pthread_t hash, eat;
	struct err *e;
	int r;

	u.job = job;
	u.digest = digest_new();
	for (unsigned i = 0; i < SLOTS; i++)
		u.slots[i] = xmalloc(SLOT_BYTES);
	if ((r = pthread_create(&hash, NULL, hasher, &u)) != 0)
		return FAIL_OS(r, "start a thread");
	if ((r = pthread_create(&eat, NULL, consumer, &u)) != 0) {
		publish(&u, true, true);
		(void)pthread_join(hash, NULL);
		return FAIL_OS(r, "start a thread");
	}
	e = pump_all(&u, source);
	(void)pthread_join(eat, NULL);
	(void)pthread_join(hash, NULL);
	if (e) {
		err_free(u.consumed);
		return e;
	}
	digest_end(u.digest, out_digest);
	return u.consumed;
}

/* ---- one thread ---- */

struct alone {
	struct zip_source source;
	const struct pump_job *job;
	struct digest_state *digest;
	char *slot;
	size_t n, at;
	struct err *failed; /* what source said */
};

static struct err *alone_fill(struct alone *a)
{
	if (a->at < a->n || a->failed)
		return a->failed ? FAIL(ERR_CANCELLED, "the source failed") : NULL;
	a->at = a->n = 0;
	a->failed = fill_slot(&a->source, a->slot, &a->n);
	if (a->failed)
		return FAIL(ERR_CANCELLED, "the source failed");
	digest_add(a->digest, a->slot, a->n);
	return a->n && a->job->copy.write ? a->job->copy.write(a->job->copy.ctx, a->slot, a->n) : NULL;
}

static struct err *alone_skip(void *ctx, uint64_t n, uint64_t *out_n)
{
	struct alone *a = ctx;

	TRY(alone_fill(a));
	*out_n = n < a->n - a->at ? n : a->n - a->at;
	a->at += (size_t)*out_n;
	return NULL;
}

static struct err *alone_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct alone *a = ctx;
	uint64_t step = 0;

	TRY(alone_skip(a, n, &step));
	*out_n = (size_t)step;
	memcpy(p, a->slot + a->at - step, *out_n);
	return NULL;
}

static void alone_fini(struct alone *a)
{
	free(a->slot);
	err_free(a->failed);
}

struct err *pump_alone(struct zip_source source, const struct pump_job *job, char out_digest[DIGEST_MAX])
{
	auto_digest struct digest_state *digest = digest_new();
	CLEANUP(alone_fini)
	struct alone a = { .source = source, .job = job, .digest = digest, .slot = xmalloc(SLOT_BYTES) };
	struct zip_source tar = { alone_read, &a, alone_skip };
	struct err *e = consume(job, tar);
	uint64_t n;

	if (!e)
		e = zip_skip(&tar, UINT64_MAX, &n); /* for the digest */
	if (a.failed) {
		err_free(e);
		return TAKE(a.failed);
	}
	digest_end(digest, out_digest);
	return e;
}

struct err *pump_run(struct zip_source source, const struct pump_job *job, char out_digest[DIGEST_MAX])
{
	int cpus = sys_cpus();

	if (cpus < 0)
		return FAIL_OS(-cpus, "count the processors");
	return (cpus == 1 ? pump_alone : pump_threads)(source, job, out_digest);
}
