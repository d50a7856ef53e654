/* image_ahead.c - see image_ahead.h. */
#include "engine/image_ahead.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/vec.h"
#include <pthread.h>
#include <stdio.h>

#define AHEAD_THREADS 4

struct ahead_layer {
	char media_type[128], digest[DIGEST_MAX], diff_id[DIGEST_MAX];
	uint64_t size;
};
struct image_ahead {
	struct engine *e;
	pthread_t threads[AHEAD_THREADS];
	size_t n_threads;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	VEC(struct ahead_layer) layers;
	size_t next;
	bool is_closed;
};

struct image_ahead *image_ahead_new(struct engine *e)
{
	struct image_ahead *a = xnew(struct image_ahead);

	a->e = e;
	(void)pthread_mutex_init(&a->lock, NULL);
	(void)pthread_cond_init(&a->wake, NULL);
	return a;
}

/* The next layer, copied; false: no more. With the lock held. */
static bool take(struct image_ahead *a, struct ahead_layer *out)
{
	while (a->next == a->layers.n && !a->is_closed)
		(void)pthread_cond_wait(&a->wake, &a->lock);
	if (a->next == a->layers.n)
		return false;
	*out = a->layers.p[a->next++];
	return true;
}

static void *work(void *arg)
{
	struct image_ahead *a = arg;
	struct ahead_layer l;

	(void)pthread_mutex_lock(&a->lock);
	while (take(a, &l)) {
		struct descriptor blob = { .media_type = l.media_type, .size = l.size };

		(void)pthread_mutex_unlock(&a->lock);
		memcpy(blob.digest, l.digest, DIGEST_MAX);
		err_free(image_apply_layer(a->e, &blob, l.diff_id));
		(void)pthread_mutex_lock(&a->lock);
	}
	(void)pthread_mutex_unlock(&a->lock);
	return NULL;
}

static bool is_known(const struct image_ahead *a, const char *diff_id)
{
	for (size_t i = 0; i < a->layers.n; i++)
		if (strcmp(a->layers.p[i].diff_id, diff_id) == 0)
			return true;
	return false;
}

void image_ahead_add(struct image_ahead *a, const json_t *line)
{
	const char *digest = json_str_at(line, "layer", ""), *diff_id = json_str_at(line, "diff_id", "");
	struct ahead_layer l = { .size = (uint64_t)json_int_at(line, "size", 0) };

	if (!digest_is_valid(sv_of(digest)) || !digest_is_valid(sv_of(diff_id)) ||
	    layer_exists(engine_snapshotter(a->e), diff_id)) /* opens it, too, before there are threads */
		return;
	(void)engine_store(a->e);
	(void)snprintf(l.media_type, sizeof l.media_type, "%s", json_str_at(line, "media_type", ""));
	(void)snprintf(l.digest, sizeof l.digest, "%s", digest);
	(void)snprintf(l.diff_id, sizeof l.diff_id, "%s", diff_id);
	(void)pthread_mutex_lock(&a->lock);
	if (!is_known(a, diff_id)) { /* one thread per layer */
		*vec_push(&a->layers) = l;
		(void)pthread_cond_signal(&a->wake);
	}
	(void)pthread_mutex_unlock(&a->lock);
	if (a->n_threads < AHEAD_THREADS && pthread_create(&a->threads[a->n_threads], NULL, work, a) == 0)
		a->n_threads++;
}

void image_ahead_end(struct image_ahead *a, bool drop)
{
	(void)pthread_mutex_lock(&a->lock);
	a->is_closed = true;
	if (drop)
		a->next = a->layers.n;
	(void)pthread_cond_broadcast(&a->wake);
	(void)pthread_mutex_unlock(&a->lock);
	for (size_t i = 0; i < a->n_threads; i++)
		(void)pthread_join(a->threads[i], NULL);
	(void)pthread_cond_destroy(&a->wake);
	(void)pthread_mutex_destroy(&a->lock);
	vec_fini(&a->layers);
	free(a);
}
