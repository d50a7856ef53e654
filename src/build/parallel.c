/*
 * parallel.c - the stages that a target needs, each in its own thread; who needs one that runs waits for it.
 *
 * A stage needs only earlier ones, so nobody waits in a circle. The first failure stops the others: their steps are killed, and what
 * they return is not told.
 */
#include "base/own.h"
#include "build/stage.h"
#include "engine/engine.h"
#include "engine/step.h"
#include "sys/event.h"
#include "sys/sys.h"

enum { THREADS_MAX = 64 }; /* further stages are built by whoever needs them */

bool build_is_cancelled(struct build *b)
{
	bool is;

	(void)pthread_mutex_lock(&b->lock);
	is = b->failure != NULL;
	(void)pthread_mutex_unlock(&b->lock);
	return is;
}

/* Consumes e. is_cause: not just because something else failed. */
static void note_failure(struct build *b, struct err *e, bool is_cause)
{
	(void)pthread_mutex_lock(&b->lock);
	if (!b->failure && is_cause) {
		b->failure = e;
		e = NULL;
		own_close(&b->cancel[1]);
		b->cancel[1] = -1;
	}
	(void)pthread_mutex_unlock(&b->lock);
	err_free(e);
}

/* ---- networks ---- */

FALLIBLE stage_net(struct stage *s, struct step_net **out_net)
{
	struct build *b = s->b;
	struct err *e = NULL;

	if (!s->net) {
		(void)pthread_mutex_lock(&b->outside);
		s->net = b->spare;
		b->spare = NULL;
		if (!s->net)
			e = step_net_open(b->e, &s->net);
		(void)pthread_mutex_unlock(&b->outside);
	}
	*out_net = s->net;
	return e;
}

static void give_back_net(struct stage *s)
{
	struct build *b = s->b;

	(void)pthread_mutex_lock(&b->outside);
	if (b->spare)
		step_net_close(s->net);
	else
		b->spare = s->net;
	s->net = NULL;
	(void)pthread_mutex_unlock(&b->outside);
}

/* ---- stages ---- */

FALLIBLE stage_build(struct stage *s)
{
	struct build *b = s->b;
	struct err *e = NULL;
	enum stage_state state;

	(void)pthread_mutex_lock(&b->lock);
	while (s->state == STAGE_RUNS)
		(void)pthread_cond_wait(&b->changed, &b->lock);
	state = s->state;
	if (state == STAGE_WAITS)
		s->state = STAGE_RUNS;
	(void)pthread_mutex_unlock(&b->lock);
	if (state == STAGE_DONE)
		return NULL;
	if (state == STAGE_FAILED)
		return FAIL(ERR_CANCELLED, "a stage that is needed failed");

	e = stage_run(s);
	if (s->net)
		give_back_net(s);
	if (e) { /* noted before anybody who waits can go on and fail because of it */
		note_failure(b, e, e->kind != ERR_CANCELLED);
		e = FAIL(ERR_CANCELLED, "the stage failed");
	}
	(void)pthread_mutex_lock(&b->lock);
	s->state = e ? STAGE_FAILED : STAGE_DONE;
	(void)pthread_cond_broadcast(&b->changed);
	(void)pthread_mutex_unlock(&b->lock);
	return e;
}

static void *stage_thread(void *arg)
{
	err_free(stage_build(arg)); /* what failed is noted */
	return NULL;
}

static void need(struct stage *s);

/* from= of one --mount. */
static void need_mount(struct stage *s, const char *flag)
{
	struct sv rest = sv_of(flag);

	while (rest.n) {
		struct sv value = sv_cut(&rest, ','), key = sv_cut(&value, '=');
		char name[256];
		struct stage *other;

		if (!sv_is(key, "from") || value.n >= sizeof name)
			continue;
		memcpy(name, value.p, value.n);
		name[value.n] = 0;
		other = stage_find(s, name);
		if (other)
			need(other);
	}
}

static void need(struct stage *s)
{
	struct stage *base;

	if (s->is_needed)
		return;
	s->is_needed = true;
	base = stage_base(s);
	if (base)
		need(base);
	for (size_t i = s->first; i < s->end; i++) {
		const struct instr *in = &s->b->file.instrs[i];

		for (size_t f = 0; f < in->n_flags; f++) {
			const char *name = in->flags[f].name, *value = in->flags[f].value ? in->flags[f].value : "";
			struct stage *other = in->kind == INSTR_COPY && strcmp(name, "from") == 0 ? stage_find(s, value) : NULL;

			if (other)
				need(other);
			else if (in->kind == INSTR_RUN && strcmp(name, "mount") == 0)
				need_mount(s, value);
		}
	}
}

static void start_threads(struct build *b, const struct stage *target)
{
	size_t n = 0;

	for (size_t i = 0; i < target->index && n < THREADS_MAX; i++) {
		struct stage *s = &b->stages[i];

		if (!s->is_needed)
			continue;
		s->has_thread = pthread_create(&s->thread, NULL, stage_thread, s) == 0; /* else it is built on demand */
		n += s->has_thread;
	}
}

static void *watch(void *arg)
{
	struct build *b = arg;
	struct pollfd fds[] = { { .fd = b->finished[0], .events = POLLIN }, { .fd = b->o->cancel_fd, .events = POLLIN } };

	while (!fds[0].revents)
		if (sys_poll(fds, 2, -1) < 0 || fds[1].revents) {
			note_failure(b, FAIL(ERR_CANCELLED, "the build was cancelled"), true);
			break;
		}
	return NULL;
}

FALLIBLE build_all(struct build *b, struct stage *target)
{
	pthread_t watcher;
	bool has_watcher;
	struct err *e;
	int r = sys_pipe(b->cancel);

	if (r < 0 || (r = sys_pipe(b->finished)) < 0)
		return FAIL_OS(-r, "make a pipe");
	/* made at first use, which is now, before there are threads */
	(void)engine_store(b->e);
	(void)engine_snapshotter(b->e);
	(void)build_var(b, "TARGETPLATFORM");
	need(target);
	has_watcher = b->o->cancel_fd > 0 && pthread_create(&watcher, NULL, watch, b) == 0;
	start_threads(b, target);
	e = stage_build(target);
	for (size_t i = 0; i < b->n_stages; i++)
		if (b->stages[i].has_thread)
			(void)pthread_join(b->stages[i].thread, NULL);
	own_close(&b->finished[1]);
	b->finished[1] = -1;
	if (has_watcher)
		(void)pthread_join(watcher, NULL);
	if (!b->failure)
		return e;
	err_free(e);
	return TAKE(b->failure);
}
