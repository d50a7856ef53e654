/*
 * solve.c - from instructions to stages, from stages to an image.
 *
 *	parse ─▶ check everything ─▶ cut into stages ─▶ build the target, and what it copies from, on demand ─▶ name the image
 *
 * The content lock is held shared all the time, so that no sweep takes a layer that nothing names yet.
 */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "build/context.h"
#include "build/expand.h"
#include "build/stage.h"
#include "engine/image.h"
#include "engine/step.h"
#include "image/config.h"
#include "image/platform.h"
#include "image/ref.h"
#include "image/shortname.h"
#include <strings.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define SECOND	     INT64_C(1000000000)

enum { NAME_MAX_BYTES = 1 << 16 };

/* ---- names ---- */

static bool is_index(const char *name, size_t *out)
{
	uint64_t n = 0;
	struct err *e = num_parse(sv_of(name), 10, 0, 100000, &n);

	err_free(e);
	*out = (size_t)n;
	return !e;
}

struct stage *stage_find(const struct stage *s, const char *name)
{
	size_t index;

	for (size_t i = s->index; i-- > 0;)
		if (s->b->stages[i].name && strcasecmp(s->b->stages[i].name, name) == 0)
			return &s->b->stages[i];
	if (is_index(name, &index) && index < s->index)
		return &s->b->stages[index];
	return NULL;
}

char *instr_line(const struct instr *i)
{
	auto_buf struct buf b = BUF(DOCKERFILE_MAX);

	buf_str(&b, instr_name(i->kind));
	for (size_t k = 0; k < i->n_flags; k++)
		buf_fmt(&b, " --%s%s%s", i->flags[k].name, i->flags[k].value ? "=" : "",
			i->flags[k].value ? i->flags[k].value : "");
	buf_fmt(&b, " %s", i->text);
	return buf_take(&b);
}

char *stage_title(struct stage *s, const char *text)
{
	s->step++;
	if (s->b->n_stages == 1)
		return xasprintf("[%u/%u] %s", s->step, s->steps, text);
	if (s->name)
		return xasprintf("[%s %u/%u] %s", s->name, s->step, s->steps, text);
	return xasprintf("[stage-%zu %u/%u] %s", s->index, s->step, s->steps, text);
}

/* ---- FROM ---- */

static json_t *new_config(void)
{
	struct platform host;

	platform_host(&host);
	return json_pack("{s:s, s:s, s:s, s:{s:[s], s:s}, s:{s:s, s:[]}, s:[]}", "created", "", "architecture", host.arch, "os",
			 host.os, "config", "Env", DEFAULT_PATH, "WorkingDir", "/", "rootfs", "type", "layers", "diff_ids",
			 "history");
}

/* What the child has of its base: platform, config, layers, history; not author, not times, not what only the base's builder knew. */
static void inherit(struct stage *s, const json_t *base)
{
	json_t *config = json_deep_copy(json_object_get(base, "config")), *history = json_object_get(base, "history");
	static const char *const keys[] = { "architecture", "os", "variant", "os.version" };

	s->config = new_config();
	for (size_t i = 0; i < LEN(keys); i++)
		if (json_object_get(base, keys[i]))
			(void)json_object_set(s->config, keys[i], json_object_get(base, keys[i]));
	if (json_is_object(config)) {
		(void)json_object_set_new(s->config, "config", config);
	} else {
		json_decref(config);
		(void)json_object_set_new(s->config, "config", json_object());
	}
	(void)json_object_set_new(json_object_get(s->config, "rootfs"), "diff_ids",
				  json_deep_copy(json_at(base, "rootfs.diff_ids")));
	if (json_is_array(history))
		(void)json_object_set_new(s->config, "history", json_deep_copy(history));
}

static void add_default_path(struct stage *s)
{
	json_t *env = json_object_get(stage_config(s), "Env");

	if (stage_var(s, "PATH"))
		return;
	if (!json_is_array(env)) {
		env = json_array();
		(void)json_object_set_new(stage_config(s), "Env", env);
	}
	(void)json_array_append_new(env, json_string(DEFAULT_PATH));
}

/* Triggers of the base are ours to run and not our children's. */
static FALLIBLE take_onbuild(struct stage *s)
{
	TRY(json_list_at(stage_config(s), "OnBuild", &s->onbuild));
	(void)json_object_del(stage_config(s), "OnBuild");
	return NULL;
}

static void pull_line(void *ctx, const char *id, const char *status, int64_t current, int64_t total)
{
	struct build *b = ctx;

	(void)current;
	(void)total;
	if (!b->o->quiet && !*id)
		(void)fprintf(stderr, "%s\n", status);
}

/* SECURITY: credentials are those of one registry. A second one that has to be asked is an error, not somebody who learns them. */
static FALLIBLE check_creds(struct build *b, const char *ref)
{
	auto_shortname struct shortname s = { 0 };
	CLEANUP(ref_fini) struct ref r = { 0 };

	TRY(shortname_resolve(ref, &s));
	TRY(ref_parse(s.names[0], &r));
	if (b->creds_host && strcmp(b->creds_host, r.domain) != 0)
		return FAIL(ERR_INVALID, "--creds went to %s and are not told to %s: use --authfile", b->creds_host, r.domain);
	if (!b->creds_host)
		b->creds_host = xstrdup(r.domain);
	return NULL;
}

static FALLIBLE ensure_image(struct build *b, const char *ref, const struct engine_transfer_opts *o, struct engine_image *out)
{
	enum pull_policy policy = b->o->pull ? PULL_ALWAYS : PULL_MISSING;

	if (o->access.creds && !b->o->pull) {
		struct err *e = engine_image_ensure(b->e, ref, PULL_NEVER, o, out);

		if (!e || e->kind != ERR_NOT_FOUND)
			return e;
		err_free(e);
	}
	if (o->access.creds)
		TRY(check_creds(b, ref));
	return engine_image_ensure(b->e, ref, policy, o, out);
}

static FALLIBLE get_image(struct build *b, const char *ref, const char *platform, struct engine_image *out)
{
	struct engine_transfer_opts o = { .platform = platform, .access = b->o->access, .quiet = b->o->quiet, .progress = { pull_line, b } };
	struct err *e;

	(void)pthread_mutex_lock(&b->outside); /* two stages of one base pull it once */
	e = ensure_image(b, ref, &o, out);
	(void)pthread_mutex_unlock(&b->outside);
	return e;
}

static FALLIBLE from_image(struct stage *s, const struct at *at, const char *ref, const char *platform)
{
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };
	struct err *e = get_image(s->b, ref, platform, &image);

	if (e)
		return at_error(at, at->i->args[0], err_ctx(e, "failed to resolve source metadata for %s", ref));
	inherit(s, image.config);
	s->diff_ids = text_list_dup(image.diff_ids);
	s->clamp_ns = s->b->epoch_ns >= 0 ? s->b->epoch_ns : config_created(image.config) / SECOND * SECOND;
	if (s->clamp_ns < 0)
		s->clamp_ns = 0;
	return take_onbuild(s);
}

static FALLIBLE from_stage(struct stage *s, const struct stage *base)
{
	s->config = json_deep_copy(base->config);
	s->diff_ids = text_list_dup(base->diff_ids);
	s->args = text_list_dup(base->args);
	s->clamp_ns = base->clamp_ns;
	return take_onbuild(s);
}

static FALLIBLE expand_global(struct build *b, const struct at *at, const char *word, char **out_text)
{
	auto_buf struct buf out = BUF(NAME_MAX_BYTES);
	struct expand x = { .escape = at->file->escape, .get = build_var, .ctx = b };
	struct err *e = expand_word(&x, sv_of(word), &out);

	if (e)
		return at_error(at, word, e);
	*out_text = buf_take(&out);
	return NULL;
}

struct stage *stage_base(const struct stage *s)
{
	auto_free char *base = NULL;
	struct err *e = expand_global(s->b, &(struct at){ &s->b->file, s->from }, s->from->args[0], &base);

	err_free(e); /* told when the stage begins */
	return base && !(*base >= '0' && *base <= '9') ? stage_find(s, base) : NULL;
}

static FALLIBLE begin_stage(struct stage *s, const struct at *at)
{
	auto_free char *base = NULL, *platform = NULL, *title = NULL, *line = NULL;
	const char *flag = instr_flag(at->i, "platform");
	auto_told struct told *told = NULL;
	struct stage *other;

	TRY(expand_global(s->b, at, at->i->args[0], &base));
	if (flag)
		TRY(expand_global(s->b, at, flag, &platform));
	if (!*base)
		return at_error(at, at->i->args[0], FAIL(ERR_INVALID, "base name (%s) should not be blank", at->i->args[0]));
	other = stage_base(s);
	if (other)
		TRY(stage_build(other));
	line = xasprintf("FROM %s", base);
	title = stage_title(s, line);
	told = teller_begin(s->b->teller, title);
	if (other) {
		TRY(from_stage(s, other));
	} else if (strcasecmp(base, "scratch") == 0) {
		s->config = new_config();
		s->clamp_ns = s->b->epoch_ns >= 0 ? s->b->epoch_ns : 0;
	} else {
		TRY(from_image(s, at, base, platform && *platform ? platform : NULL));
	}
	add_default_path(s);
	told_done(TAKE(told), false);
	return NULL;
}

FALLIBLE from_layers(struct stage *s, const struct at *at, const char *name, char ***out_diff_ids)
{
	struct stage *other = stage_find(s, name);
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };
	size_t index;
	struct err *e;

	if (other) {
		TRY(stage_build(other));
		*out_diff_ids = text_list_dup(other->diff_ids);
	} else {
		if (is_index(name, &index))
			return at_error(at, name, FAIL(ERR_INVALID, "invalid from flag value %s: no earlier stage has that number", name));
		e = get_image(s->b, name, NULL, &image);
		if (e)
			return at_error(at, name, err_ctx(e, "%s is neither a stage nor an image we can get", name));
		*out_diff_ids = text_list_dup(image.diff_ids);
	}
	if (!*out_diff_ids)
		*out_diff_ids = xcalloc(1, sizeof **out_diff_ids);
	return NULL;
}

/* ---- one stage ---- */

static FALLIBLE one_instruction(struct stage *s, const struct at *at)
{
	enum instr_kind kind = at->i->kind;

	if (build_is_cancelled(s->b))
		return FAIL(ERR_CANCELLED, "another stage failed");
	if (kind == INSTR_RUN)
		return step_run_instr(s, at);
	if (kind == INSTR_COPY || kind == INSTR_ADD)
		return step_copy_instr(s, at);
	return kind == INSTR_WORKDIR ? step_workdir(s, at) : stage_metadata(s, at);
}

static FALLIBLE run_triggers(struct stage *s)
{
	for (size_t i = 0; s->onbuild && s->onbuild[i]; i++) {
		struct dockerfile trigger;
		struct err *e = NULL;

		TRY(dockerfile_parse("ONBUILD", sv_of(s->onbuild[i]), &trigger));
		for (size_t k = 0; !e && k < trigger.n; k++) {
			struct at at = { &trigger, &trigger.instrs[k] };

			e = instr_check(&at);
			if (!e)
				e = one_instruction(s, &at);
		}
		dockerfile_fini(&trigger);
		TRY(e);
	}
	return NULL;
}

static bool is_step(enum instr_kind kind)
{
	return kind == INSTR_RUN || kind == INSTR_COPY || kind == INSTR_ADD || kind == INSTR_WORKDIR;
}

FALLIBLE stage_run(struct stage *s)
{
	const struct dockerfile *file = &s->b->file;

	s->steps = 1;
	for (size_t i = s->first; i < s->end; i++)
		s->steps += is_step(file->instrs[i].kind);
	TRY(begin_stage(s, &(struct at){ file, s->from }));
	for (size_t i = 0; s->onbuild && s->onbuild[i]; i++)
		s->steps += strncasecmp(s->onbuild[i], "RUN", 3) == 0 || strncasecmp(s->onbuild[i], "COPY", 4) == 0 ||
			    strncasecmp(s->onbuild[i], "ADD", 3) == 0 || strncasecmp(s->onbuild[i], "WORKDIR", 7) == 0;
	TRY(run_triggers(s));
	for (size_t i = s->first; i < s->end; i++)
		TRY(one_instruction(s, &(struct at){ file, &file->instrs[i] }));
	return NULL;
}

/* ---- stages of the file ---- */

static bool is_stage_name(const char *name)
{
	if (!((*name | 32) >= 'a' && (*name | 32) <= 'z'))
		return false;
	for (; *name; name++)
		if (!((*name | 32) >= 'a' && (*name | 32) <= 'z') && !strchr("0123456789-_.", *name))
			return false;
	return true;
}

static FALLIBLE stage_name(const struct at *at, const char **out_name)
{
	const struct instr *i = at->i;

	*out_name = NULL;
	if (i->n_args == 1)
		return NULL;
	if (strcasecmp(i->args[1], "AS") != 0)
		return at_error(at, i->args[1], FAIL(ERR_INVALID, "second argument to FROM must be \"AS\""));
	if (!is_stage_name(i->args[2]) || strcasecmp(i->args[2], "scratch") == 0)
		return at_error(at, i->args[2], FAIL(ERR_INVALID, "invalid name for build stage: \"%s\"", i->args[2]));
	*out_name = i->args[2];
	return NULL;
}

static FALLIBLE cut_stages(struct build *b)
{
	const struct dockerfile *f = &b->file;
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++)
		n += f->instrs[i].kind == INSTR_FROM;
	b->stages = xcalloc(n + 1, sizeof *b->stages);
	for (size_t i = 0; i < f->n; i++) {
		struct at at = { f, &f->instrs[i] };
		struct stage *s;

		TRY(instr_check(&at));
		if (at.i->kind == INSTR_FROM) {
			s = &b->stages[b->n_stages];
			*s = (struct stage){ .b = b, .index = b->n_stages++, .from = at.i, .first = i + 1, .end = i + 1 };
			TRY(stage_name(&at, &s->name));
		} else if (b->n_stages) {
			b->stages[b->n_stages - 1].end = i + 1;
		} else if (at.i->kind == INSTR_ARG) {
			TRY(stage_arg(b, NULL, &at));
		} else {
			return at_error(&at, NULL, FAIL(ERR_INVALID, "no build stage in current context: the first instruction must be FROM"));
		}
	}
	return n ? NULL : FAIL(ERR_INVALID, "%s: no build stage: FROM is missing", f->name);
}

static FALLIBLE find_target(struct build *b, struct stage **out_stage)
{
	size_t index;

	*out_stage = &b->stages[b->n_stages - 1];
	if (!b->o->target || !*b->o->target)
		return NULL;
	for (size_t i = b->n_stages; i-- > 0;)
		if (b->stages[i].name && strcasecmp(b->stages[i].name, b->o->target) == 0) {
			*out_stage = &b->stages[i];
			return NULL;
		}
	if (!is_index(b->o->target, &index) || index >= b->n_stages)
		return FAIL(ERR_NOT_FOUND, "target stage \"%s\" could not be found", b->o->target);
	*out_stage = &b->stages[index];
	return NULL;
}

/* ---- options ---- */

static FALLIBLE take_args(struct build *b)
{
	const char *epoch;
	uint64_t seconds;

	for (char *const *a = b->o->build_args; a && *a; a++) {
		if (strchr(*a, '=')) {
			text_env_set(&b->args, *a);
		} else if (getenv(*a)) {
			auto_free char *entry = xasprintf("%s=%s", *a, getenv(*a));

			text_env_set(&b->args, entry);
		}
	}
	epoch = build_given(b, "SOURCE_DATE_EPOCH");
	if (!epoch)
		epoch = getenv("SOURCE_DATE_EPOCH");
	b->epoch_ns = -1;
	if (!epoch || !*epoch)
		return NULL;
	TRY(num_parse(sv_of(epoch), 10, 0, INT64_MAX / SECOND, &seconds));
	b->epoch_ns = (int64_t)seconds * SECOND;
	return NULL;
}

static FALLIBLE check_tags(const struct build_opts *o)
{
	for (char *const *t = o->tags; t && *t; t++) {
		CLEANUP(ref_fini) struct ref r = { 0 };
		struct err *e = ref_parse(*t, &r);

		if (e)
			return err_ctx(e, "invalid tag \"%s\"", *t);
	}
	return NULL;
}

static void warn_unused(const struct build *b)
{
	for (size_t i = 0; b->args && b->args[i]; i++) {
		auto_free char *name = xstrndup(b->args[i], strcspn(b->args[i], "="));
		bool is_used = is_proxy_arg(name) || strncmp(name, "BUILDKIT_", 9) == 0;

		for (size_t k = 0; b->used_args && b->used_args[k]; k++)
			is_used = is_used || strcmp(b->used_args[k], name) == 0;
		if (!is_used)
			teller_warn(b->teller, "One or more build-args [%s] were not consumed", name);
	}
}

/* ---- the image ---- */

static FALLIBLE add_labels(const struct build *b, const struct stage *s)
{
	for (char *const *l = b->o->labels; l && *l; l++) {
		size_t n = strcspn(*l, "=");
		auto_free char *key = xstrndup(*l, n);
		json_t *labels = json_object_get(stage_config(s), "Labels");

		if (!n)
			return FAIL(ERR_INVALID, "invalid label \"%s\": empty name", *l);
		if (!json_is_object(labels)) {
			labels = json_object();
			(void)json_object_set_new(stage_config(s), "Labels", labels);
		}
		(void)json_object_set_new(labels, key, json_string((*l)[n] ? *l + n + 1 : ""));
	}
	return NULL;
}

static FALLIBLE export_image(struct build *b, struct stage *s, char **out_id)
{
	auto_told struct told *told = teller_begin(b->teller, "exporting to image");
	char time[TIME_TEXT_MAX];
	char *const *tags = b->o->tags;
	auto_free char *id = NULL;

	TRY(add_labels(b, s));
	(void)json_object_set_new(s->config, "created", json_string(time_format(s->clamp_ns, time)));
	TRY(engine_image_create(b->e, s->config, tags ? tags[0] : NULL, &id));
	told_note(told, "writing image %s done", id);
	for (size_t i = 0; tags && tags[i]; i++) {
		CLEANUP(ref_fini) struct ref r = { 0 };
		auto_free char *full = NULL;

		if (i > 0)
			TRY(engine_image_tag(b->e, tags[0], tags[i]));
		TRY(ref_parse(tags[i], &r));
		full = ref_full(&r);
		told_note(told, "naming to %s done", full);
	}
	told_done(TAKE(told), false);
	*out_id = TAKE(id);
	return NULL;
}

static void build_fini(struct build *b)
{
	for (size_t i = 0; i < b->n_stages; i++) {
		json_decref(b->stages[i].config);
		text_list_free(b->stages[i].diff_ids);
		text_list_free(b->stages[i].args);
		text_list_free(b->stages[i].onbuild);
	}
	free(b->stages);
	dockerfile_fini(&b->file);
	ignore_fini(&b->ignore);
	text_list_free(b->args);
	text_list_free(b->used_args);
	text_list_free(b->globals);
	build_dirs_remove(b);
	step_net_close(b->spare);
	own_close(&b->cancel[0]);
	own_close(&b->cancel[1]);
	own_close(&b->finished[0]);
	own_close(&b->finished[1]);
	err_free(b->failure);
	(void)pthread_mutex_destroy(&b->lock);
	free(b->creds_host);
	(void)pthread_mutex_destroy(&b->outside);
	(void)pthread_cond_destroy(&b->changed);
	own_close(&b->dir_fd);
	own_close(&b->context_fd);
	teller_free(b->teller);
}

static FALLIBLE load(struct build *b)
{
	auto_told struct told *told = NULL;
	auto_free char *title = xasprintf("[internal] load build definition from %s",
					  b->o->dockerfile ? b->o->dockerfile : "Dockerfile");

	TRY(check_tags(b->o));
	TRY(take_args(b));
	TRY(context_open(b->o, &b->context_fd));
	told = teller_begin(b->teller, title);
	TRY(context_dockerfile(b->o, b->context_fd, &b->file));
	TRY(context_ignore(b->o, b->context_fd, &b->ignore));
	told_done(TAKE(told), false);
	return cut_stages(b);
}

FALLIBLE build_run(struct engine *e, const struct build_opts *o, char **out_image_id)
{
	CLEANUP(build_fini) struct build b = { .e = e, .o = o, .context_fd = -1, .dir_fd = -1, .cancel = { -1, -1 }, .finished = { -1, -1 } };
	auto_leased struct engine *leased = NULL;
	struct stage *target;

	(void)pthread_mutex_init(&b.lock, NULL);
	(void)pthread_mutex_init(&b.outside, NULL);
	(void)pthread_cond_init(&b.changed, NULL);
	b.teller = teller_new(o->progress, o->quiet);
	TRY(load(&b));
	TRY(find_target(&b, &target));
	TRY(engine_lease_begin(e, &leased));
	snapshotter_keep_mounts(engine_snapshotter(e)); /* each step stands on those of the one before */
	TRY(build_all(&b, target));
	warn_unused(&b);
	return export_image(&b, target, out_image_id);
}
