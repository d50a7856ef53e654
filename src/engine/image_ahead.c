/*
 * image_ahead.c - see image_ahead.h. A worker takes a layer as soon as its bytes begin to come, and reads the
 * file that another process writes as far as that says it may. What it says is only believed for speed: the
 * layer is named when its digest is the configuration's, and what the blob holds is remembered, before that,
 * when the blob is whole and verified. What somebody else is making is left to image_apply, which waits for it.
 */
#include "engine/image_ahead.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/vec.h"
#include "content/store.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <pthread.h>
#include <stdio.h>

#define AHEAD_THREADS  4
#define UNPROVEN_BYTES (UINT64_C(64) << 20) /* as much more than UNPROVEN_RATIO times what has come … */
#define UNPROVEN_RATIO 32u                  /* … may be made of it before the blob is verified */

struct ahead_layer {
	char media_type[128], digest[DIGEST_MAX], diff_id[DIGEST_MAX];
	uint64_t size;
	int fd;           /* what has arrived of it; -1: only the blob is of use */
	uint64_t arrived; /* bytes in fd */
	bool is_whole;    /* the blob is in the store */
	bool is_spoilt;   /* fd: it began again */
	bool is_taken;
};
struct image_ahead {
	struct engine *e;
	pthread_t threads[AHEAD_THREADS];
	size_t n_threads;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	VEC(struct ahead_layer) layers;
	bool is_closed;  /* no line comes any more */
	bool is_dropped; /* nothing new shall be begun */
};

struct image_ahead *image_ahead_new(struct engine *e)
{
	struct image_ahead *a = xnew(struct image_ahead);

	a->e = e;
	(void)pthread_mutex_init(&a->lock, NULL);
	(void)pthread_cond_init(&a->wake, NULL);
	return a;
}

/* ---- a layer that is on its way, as a source ---- */

struct arriving {
	struct image_ahead *a;
	size_t nth;
	const struct ahead_layer *layer; /* borrowed, a copy */
	struct fs_pass file; /* what has arrived; how far it is read */
	uint64_t size;
	struct unzip *unzip; /* what reads it */
	uint64_t unpacked;   /* bytes that came out */
};

/* How many bytes may be read; 0: no more will come. */
static uint64_t wait_bytes(const struct arriving *in)
{
	struct image_ahead *a = in->a;
	const struct ahead_layer *l;
	uint64_t n;

	(void)pthread_mutex_lock(&a->lock);
	while (l = &a->layers.p[in->nth], !a->is_closed && !l->is_spoilt && l->arrived <= in->file.at)
		(void)pthread_cond_wait(&a->wake, &a->lock);
	n = l->is_spoilt || l->arrived <= in->file.at ? 0 : l->arrived - in->file.at;
	(void)pthread_mutex_unlock(&a->lock);
	return n;
}

static struct err *arriving_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct arriving *in = ctx;
	uint64_t there;
	ssize_t got;

	*out_n = 0;
	if (in->file.at == in->size)
		return NULL;
	there = wait_bytes(in);
	if (!there)
		return FAIL(ERR_CANCELLED, "the layer does not come");
	got = fs_pass_read(&in->file, p, n < there ? n : (size_t)there);
	if (got <= 0)
		return got < 0 ? FAIL_OS((int)-got, "read what has arrived")
			       : FAIL(ERR_CANCELLED, "the layer begins again");
	*out_n = (size_t)got;
	return NULL;
}

/* SECURITY: who sends other bytes than the manifest names must not fill the disk with what they unpack to. */
static struct err *unpacked_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct arriving *in = ctx;

	TRY(unzip_read(in->unzip, p, n, out_n));
	in->unpacked += *out_n;
	if (in->unpacked > UNPROVEN_BYTES && (in->unpacked - UNPROVEN_BYTES) / UNPROVEN_RATIO > in->file.at)
		return FAIL(ERR_CANCELLED,
			    "the layer unpacks to so much that its blob has to be verified before");
	return NULL;
}

/* Whether the blob became what it should be. */
static bool wait_whole(struct image_ahead *a, size_t nth)
{
	bool is_whole;

	(void)pthread_mutex_lock(&a->lock);
	while (!a->is_closed && !a->layers.p[nth].is_whole)
		(void)pthread_cond_wait(&a->wake, &a->lock);
	is_whole = a->layers.p[nth].is_whole;
	(void)pthread_mutex_unlock(&a->lock);
	return is_whole;
}

/* The layer is what its digest says, whatever the blob becomes. */
static struct err *remember(void *ctx)
{
	const struct arriving *in = ctx;
	bool is_whole = wait_whole(in->a, in->nth);

	fs_pass_end(&in->file);
	return is_whole ? image_blob_remember(in->a->e, in->layer->digest, in->layer->diff_id) : NULL;
}

/* l: a copy. */
static FALLIBLE apply_arriving(struct image_ahead *a, size_t nth, const struct ahead_layer *l)
{
	struct arriving in = { .a = a, .nth = nth, .layer = l, .file.fd = l->fd, .size = l->size };
	const struct layer_want want = { .diff_id = l->diff_id, .is_ahead = true, .proven = remember, .ctx = &in };
	auto_unzip struct unzip *u = NULL;

	TRY(unzip_open((struct zip_source){ arriving_read, &in }, &u));
	in.unzip = u;
	return layer_apply(engine_snapshotter(a->e), (struct zip_source){ unpacked_read, &in }, &want, NULL);
}

/* ---- workers ---- */

/* The next layer, copied; false: no more. With the lock held. */
static bool take(struct image_ahead *a, struct ahead_layer *out, size_t *out_nth)
{
	for (;;) {
		for (size_t i = 0; i < a->layers.n && !a->is_dropped; i++) {
			struct ahead_layer *l = &a->layers.p[i];

			if (l->is_taken || (l->fd < 0 && !l->is_whole))
				continue;
			l->is_taken = true;
			*out = *l;
			*out_nth = i;
			return true;
		}
		if (a->is_closed)
			return false;
		(void)pthread_cond_wait(&a->wake, &a->lock);
	}
}

static void *work(void *arg)
{
	struct image_ahead *a = arg;
	struct ahead_layer l;
	size_t nth;

	(void)pthread_mutex_lock(&a->lock);
	while (take(a, &l, &nth)) {
		struct descriptor blob = { .media_type = l.media_type, .size = l.size };

		(void)pthread_mutex_unlock(&a->lock);
		memcpy(blob.digest, l.digest, DIGEST_MAX);
		err_free(l.is_whole ? image_apply_layer(a->e, &blob, l.diff_id, true) : apply_arriving(a, nth, &l));
		(void)pthread_mutex_lock(&a->lock);
	}
	(void)pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* ---- lines ---- */

/* By the blob or by what it holds: one thread per layer. NULL: unknown. With the lock held. */
static struct ahead_layer *find(const struct image_ahead *a, const char *digest, const char *diff_id)
{
	for (size_t i = 0; i < a->layers.n; i++)
		if (strcmp(a->layers.p[i].digest, digest) == 0 ||
		    strcmp(a->layers.p[i].diff_id, diff_id) == 0)
			return &a->layers.p[i];
	return NULL;
}

/* A plain tar becomes a layer as the blob that it is; what is no layer is told when it is asked for as one.
 */
static int open_arriving(struct image_ahead *a, const struct ahead_layer *l, const char *file)
{
	int fd = -1;

	if (*file && strcmp(l->digest, l->diff_id) != 0 && manifest_is_layer(l->media_type))
		err_free(store_ingest_open(engine_store(a->e), file, &fd));
	return fd;
}

static void add(struct image_ahead *a, const json_t *line, const char *digest, bool is_whole)
{
	const char *diff_id = json_str_at(line, "diff_id", "");
	struct ahead_layer l = { .size = (uint64_t)json_int_at(line, "size", 0),
				 .fd = -1,
				 .is_whole = is_whole },
			   *known;

	if (!digest_is_valid(sv_of(digest)) || !digest_is_valid(sv_of(diff_id)) ||
	    layer_exists(engine_snapshotter(a->e), diff_id)) /* opens it, too, before there are threads */
		return;
	(void)engine_store(a->e);
	(void)snprintf(l.media_type, sizeof l.media_type, "%s", json_str_at(line, "media_type", ""));
	(void)snprintf(l.digest, sizeof l.digest, "%s", digest);
	(void)snprintf(l.diff_id, sizeof l.diff_id, "%s", diff_id);
	if (!is_whole)
		l.fd = open_arriving(a, &l, json_str_at(line, "file", ""));
	(void)pthread_mutex_lock(&a->lock);
	known = find(a, digest, diff_id);
	if (!known)
		*vec_push(&a->layers) = l;
	else if (is_whole)
		known->is_whole = known->is_whole || strcmp(known->digest, digest) == 0;
	else /* from another place */
		known->is_spoilt = true;
	(void)pthread_cond_broadcast(&a->wake);
	(void)pthread_mutex_unlock(&a->lock);
	if (known)
		own_close(&l.fd);
	else if (a->n_threads < AHEAD_THREADS &&
		 pthread_create(&a->threads[a->n_threads], NULL, work, a) == 0)
		a->n_threads++;
}

static void arrived(struct image_ahead *a, const char *digest, uint64_t bytes)
{
	struct ahead_layer *l;

	(void)pthread_mutex_lock(&a->lock);
	l = find(a, digest, "");
	if (l && bytes < l->arrived)
		l->is_spoilt = true;
	else if (l && bytes <= l->size)
		l->arrived = bytes;
	(void)pthread_cond_broadcast(&a->wake);
	(void)pthread_mutex_unlock(&a->lock);
}

bool image_ahead_line(struct image_ahead *a, const json_t *line)
{
	const char *whole = json_str_at(line, "layer", NULL), *coming = json_str_at(line, "arriving", NULL),
		   *more = json_str_at(line, "arrived", NULL);

	if (a && (whole || coming))
		add(a, line, whole ? whole : coming, whole != NULL);
	else if (a && more)
		arrived(a, more, (uint64_t)json_int_at(line, "bytes", 0));
	return whole || coming || more;
}

void image_ahead_end(struct image_ahead *a, bool drop)
{
	(void)pthread_mutex_lock(&a->lock);
	a->is_closed = true;
	a->is_dropped = drop;
	(void)pthread_cond_broadcast(&a->wake);
	(void)pthread_mutex_unlock(&a->lock);
	for (size_t i = 0; i < a->n_threads; i++)
		(void)pthread_join(a->threads[i], NULL);
	(void)pthread_cond_destroy(&a->wake);
	(void)pthread_mutex_destroy(&a->lock);
	for (size_t i = 0; i < a->layers.n; i++)
		own_close(&a->layers.p[i].fd);
	vec_fini(&a->layers);
	free(a);
}
