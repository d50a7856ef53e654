/*
 * pump.c - a ring of SLOTS buffers between two threads. `filled` and `emptied` only grow; a slot between them belongs to the
 * consumer, the others to the pump. Decompressing and hashing one layer so overlap with making its files, which is the
 * kernel's time.
 */
#include "snapshot/pump.h"
#include "base/mem.h"
#include "base/own.h"
#include "sys/proc.h"
#include <pthread.h>
#include <stdbool.h>

enum { SLOTS = 4, SLOT_BYTES = 1 << 18 };

struct pump {
	pthread_mutex_t lock; /* guards filled, emptied, ended, failed, left */
	pthread_cond_t moved;
	unsigned long filled, emptied;
	bool ended;  /* no slot comes after `filled` */
	bool failed; /* … because source failed */
	bool left;   /* the consumer wants no more */
	char *slots[SLOTS];
	size_t n[SLOTS];
	size_t at; /* the consumer's place in the slot `emptied` */
	struct err *(*consume)(void *ctx, struct zip_source tar);
	void *ctx;
	struct err *consumed; /* what consume said */
};

/* The consumer's side of zip_source. */
static struct err *pump_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct pump *u = ctx;
	unsigned slot = u->emptied % SLOTS; /* only this thread writes it */
	bool is_end, failed;

	if (u->at == 0) {
		(void)pthread_mutex_lock(&u->lock);
		while (u->filled == u->emptied && !u->ended)
			(void)pthread_cond_wait(&u->moved, &u->lock);
		is_end = u->filled == u->emptied;
		failed = u->failed;
		(void)pthread_mutex_unlock(&u->lock);
		if (is_end) {
			*out_n = 0;
			return failed ? FAIL(ERR_CANCELLED, "the source failed") : NULL;
		}
	}
	if (n > u->n[slot] - u->at)
		n = u->n[slot] - u->at;
	memcpy(p, u->slots[slot] + u->at, n);
	u->at += n;
	*out_n = n;
	if (u->at == u->n[slot]) {
		u->at = 0;
		(void)pthread_mutex_lock(&u->lock);
		u->emptied++;
		(void)pthread_cond_signal(&u->moved);
		(void)pthread_mutex_unlock(&u->lock);
	}
	return NULL;
}

static void *consumer(void *ctx)
{
	struct pump *u = ctx;

	u->consumed = u->consume(u->ctx, (struct zip_source){ pump_read, u });
	(void)pthread_mutex_lock(&u->lock);
	u->left = true;
	(void)pthread_cond_signal(&u->moved);
	(void)pthread_mutex_unlock(&u->lock);
	return NULL;
}

/* Waits for a free slot; *out_left when the consumer has gone: then any slot will do. */
static unsigned next_slot(struct pump *u, bool *out_left)
{
	unsigned slot;

	(void)pthread_mutex_lock(&u->lock);
	while (u->filled - u->emptied == SLOTS && !u->left)
		(void)pthread_cond_wait(&u->moved, &u->lock);
	slot = u->filled % SLOTS;
	*out_left = u->left;
	(void)pthread_mutex_unlock(&u->lock);
	return slot;
}

static void publish(struct pump *u, bool ended, bool failed)
{
	(void)pthread_mutex_lock(&u->lock);
	if (ended)
		u->ended = true;
	else
		u->filled++;
	u->failed = failed;
	(void)pthread_cond_signal(&u->moved);
	(void)pthread_mutex_unlock(&u->lock);
}

static struct err *fill_slot(struct zip_source source, struct digest_state *digest, char *p, size_t *out_n)
{
	size_t n = 0;

	while (n < SLOT_BYTES) {
		size_t step = 0;

		TRY(source.read(source.ctx, p + n, SLOT_BYTES - n, &step));
		if (step == 0)
			break;
		n += step;
	}
	digest_add(digest, p, n);
	*out_n = n;
	return NULL;
}

/* Reads source to its end, or until the consumer failed. */
static struct err *pump_all(struct pump *u, struct zip_source source, struct digest_state *digest)
{
	for (;;) {
		bool left = false;
		unsigned slot = next_slot(u, &left);
		struct err *e;

		if (left && u->consumed)
			return NULL;
		e = fill_slot(source, digest, u->slots[slot], &u->n[slot]);
		if (e || u->n[slot] == 0) {
			publish(u, true, e != NULL);
			return e;
		}
		if (!left)
			publish(u, false, false);
	}
}

static void pump_fini(struct pump *u)
{
	for (unsigned i = 0; i < SLOTS; i++)
		free(u->slots[i]);
	(void)pthread_cond_destroy(&u->moved);
	(void)pthread_mutex_destroy(&u->lock);
}

struct err *pump_threads(struct zip_source source, struct err *(*consume)(void *ctx, struct zip_source tar), void *ctx,
			 char out_digest[DIGEST_MAX])
{
	auto_digest struct digest_state *digest = digest_new();
	CLEANUP(pump_fini) struct pump u = { .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER };
	pthread_t thread;
	struct err *e;
	int r;

	u.consume = consume;
	u.ctx = ctx;
	for (unsigned i = 0; i < SLOTS; i++)
		u.slots[i] = xmalloc(SLOT_BYTES);
	if ((r = pthread_create(&thread, NULL, consumer, &u)) != 0)
		return FAIL_OS(r, "start a thread");
	e = pump_all(&u, source, digest);
	(void)pthread_join(thread, NULL);
	if (e) {
		err_free(u.consumed);
		return e;
	}
	digest_end(digest, out_digest);
	return u.consumed;
}

/* ---- one thread ---- */

struct alone {
	struct zip_source source;
	struct digest_state *digest;
	char *slot;
	size_t n, at;
	struct err *failed; /* what source said */
};

static struct err *alone_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct alone *a = ctx;

	if (a->at == a->n && !a->failed) {
		a->at = a->n = 0;
		a->failed = fill_slot(a->source, a->digest, a->slot, &a->n);
	}
	if (a->failed)
		return FAIL(ERR_CANCELLED, "the source failed");
	n = n < a->n - a->at ? n : a->n - a->at;
	memcpy(p, a->slot + a->at, n);
	a->at += n;
	*out_n = n;
	return NULL;
}

static void alone_fini(struct alone *a)
{
	free(a->slot);
	err_free(a->failed);
}

struct err *pump_alone(struct zip_source source, struct err *(*consume)(void *ctx, struct zip_source tar), void *ctx,
		       char out_digest[DIGEST_MAX])
{
	auto_digest struct digest_state *digest = digest_new();
	CLEANUP(alone_fini) struct alone a = { .source = source, .digest = digest, .slot = xmalloc(SLOT_BYTES) };
	struct err *e = consume(ctx, (struct zip_source){ alone_read, &a });

	for (a.n = 1; !e && !a.failed && a.n > 0;)
		a.failed = fill_slot(source, digest, a.slot, &a.n);
	if (a.failed) {
		err_free(e);
		return TAKE(a.failed);
	}
	digest_end(digest, out_digest);
	return e;
}

struct err *pump_run(struct zip_source source, struct err *(*consume)(void *ctx, struct zip_source tar), void *ctx,
		     char out_digest[DIGEST_MAX])
{
	int cpus = sys_cpus();

	if (cpus < 0)
		return FAIL_OS(-cpus, "count the processors");
	return (cpus == 1 ? pump_alone : pump_threads)(source, consume, ctx, out_digest);
}
