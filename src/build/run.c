/*
 * run.c - RUN: the command in a sandbox over the stage's layers, what it changed as the next layer.
 *
 * The upper directory is the layer: its tar is made for the digest and the store, the directory itself is renamed into place.
 * The overlay is volatile: nothing of a step that was cut short is ever used, and a finished layer is synced once.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "build/mounts.h"
#include "build/stage.h"
#include "content/store.h"
#include "engine/step.h"
#include "sys/sys.h"
#include <fcntl.h>

enum { SCRIPT_MAX = 1 << 20 };

struct runner {
	struct stage *s;
	const struct at *at;
	char **args, **env;
	struct run_mounts mounts;
	const char *network; /* NULL: bridge */
	char *dir;	     /* private: upper, work, scripts */
};

static void runner_fini(struct runner *r)
{
	text_list_free(r->args);
	text_list_free(r->env);
	run_mounts_fini(&r->mounts);
	free(r->dir);
}

/* ---- what runs ---- */

static FALLIBLE need_dir(struct runner *r)
{
	return r->dir ? NULL : build_dir(r->s->b, &r->dir);
}

/* A heredoc that begins with #! is a program: a file beside the layer, bound at /dev/pipes/NAME. */
static FALLIBLE script(struct runner *r, const struct heredoc *h)
{
	auto_free char *path = NULL;
	auto_fd int fd = -1;
	struct run_mount *m;
	int n;

	TRY(need_dir(r));
	path = xasprintf("%s/script", r->dir);
	fd = sys_open(path, O_WRONLY | O_CREAT | O_EXCL, 0755);
	n = fd < 0 ? fd : sys_write_all(fd, h->text, strlen(h->text));
	if (n < 0 || (n = sys_fchmod(fd, 0755)) < 0)
		return FAIL_OS(-n, "write %s", path);
	m = vec_push(&r->mounts.v);
	*m = (struct run_mount){ .target = xasprintf("/dev/pipes/%s", h->name), .source = TAKE(path), .lock_fd = -1,
				 .read_only = true };
	text_list_add(&r->args, m->target);
	return NULL;
}

static bool is_lone_heredoc(const struct instr *i)
{
	return i->n_heredocs == 1 && !strpbrk(i->text, " \t");
}

static FALLIBLE command(struct runner *r)
{
	const struct instr *i = r->at->i;
	auto_buf struct buf text = BUF(SCRIPT_MAX);

	if (i->is_json) {
		for (size_t k = 0; k < i->n_args; k++)
			text_list_add(&r->args, i->args[k]);
		return i->n_args ? NULL : at_error(r->at, NULL, FAIL(ERR_INVALID, "RUN with an empty list of arguments"));
	}
	if (is_lone_heredoc(i) && strncmp(i->heredocs[0].text, "#!", 2) == 0)
		return script(r, &i->heredocs[0]);
	TRY(stage_shell(r->s, &r->args));
	if (is_lone_heredoc(i)) {
		buf_str(&text, i->heredocs[0].text);
	} else { /* the shell reads its heredocs itself */
		buf_str(&text, i->text);
		for (size_t k = 0; k < i->n_heredocs; k++)
			buf_fmt(&text, "\n%s%s", i->heredocs[k].text, i->heredocs[k].name);
	}
	TRY(buf_check(&text, "RUN"));
	text_list_add(&r->args, buf_text(&text));
	return NULL;
}

/* ENV, then ARGs that ENV does not name. proxies: also what needs no ARG and stands in no key. */
static FALLIBLE environment(const struct stage *s, bool proxies, char ***out_env)
{
	auto_list char **env = NULL;

	TRY(json_list_at(stage_config(s), "Env", &env));
	for (size_t i = 0; s->args && s->args[i]; i++) {
		auto_free char *name = xstrndup(s->args[i], strcspn(s->args[i], "="));

		if (strchr(s->args[i], '=') && !text_env_get(env, name) && (proxies || !is_proxy_arg(name)))
			text_list_add(&env, s->args[i]);
	}
	for (size_t i = 0; proxies && s->b->args && s->b->args[i]; i++) {
		auto_free char *name = xstrndup(s->b->args[i], strcspn(s->b->args[i], "="));

		if (is_proxy_arg(name) && !text_env_get(env, name))
			text_list_add(&env, s->b->args[i]);
	}
	if (!text_env_get(env, "SOURCE_DATE_EPOCH")) { /* compilers and packers take it instead of now */
		auto_free char *epoch = xasprintf("SOURCE_DATE_EPOCH=%lld", (long long)(s->clamp_ns / 1000000000));

		text_list_add(&env, epoch);
	}
	*out_env = TAKE(env);
	return NULL;
}

/* ---- flags ---- */

static FALLIBLE flags(struct runner *r)
{
	const char *network = instr_flag(r->at->i, "network"), *security = instr_flag(r->at->i, "security");

	for (size_t k = 0; k < r->at->i->n_flags; k++) {
		const struct instr_flag *f = &r->at->i->flags[k];
		struct err *e;

		if (strcmp(f->name, "mount") != 0)
			continue;
		e = run_mount_add(r->s, r->at, f->value ? f->value : "", &r->mounts);
		if (e)
			return strchr(e->msg, '\n') ? e : at_error(r->at, f->value, e);
	}
	if (security && strcmp(security, "sandbox") != 0)
		return at_error(r->at, security, FAIL(ERR_UNSUPPORTED, "RUN --security=%s is not supported", security));
	if (network && strcmp(network, "default") != 0 && strcmp(network, "none") != 0 && strcmp(network, "host") != 0)
		return at_error(r->at, network, FAIL(ERR_INVALID, "invalid network mode \"%s\"", network));
	r->network = network && strcmp(network, "default") != 0 ? network : NULL;
	return NULL;
}

/* ---- running and keeping ---- */

static FALLIBLE failed(const struct runner *r, int code)
{
	auto_buf struct buf text = BUF(SCRIPT_MAX);
	struct err *e;

	for (size_t k = 0; r->args[k]; k++)
		buf_fmt(&text, "%s%s", k ? " " : "", r->args[k]);
	e = FAIL(ERR_INVALID, "process \"%s\" did not complete successfully: exit code: %d", buf_text(&text), code);
	return at_error(r->at, NULL, e);
}

static FALLIBLE execute(struct runner *r, const struct rootfs *root, int out_fd)
{
	auto_free struct step_mount *mounts = xcalloc(r->mounts.v.n + 1, sizeof *mounts);
	struct step step = { .rootfs = root, .args = r->args, .cwd = stage_workdir(r->s),
			     .user = json_str_at(stage_config(r->s), "User", ""), .network = r->network, .mounts = mounts,
			     .n_mounts = r->mounts.v.n, .host_ca = r->s->b->o->host_ca, .stdio = { -1, out_fd, out_fd } };
	struct err *e;
	int code = 0;

	if (!r->network)
		TRY(stage_net(r->s, &step.net));
	for (size_t i = 0; i < r->mounts.v.n; i++) {
		const struct run_mount *m = &r->mounts.v.p[i];

		mounts[i] = (struct step_mount){ m->source, m->target, m->read_only, m->text, m->mode, m->uid, m->gid };
	}
	for (size_t i = 0; r->mounts.env && r->mounts.env[i]; i++)
		text_env_set(&r->env, r->mounts.env[i]);
	step.env = r->env;
	step.cancel_fd = r->s->b->cancel[0];
	e = step_run(r->s->b->e, &step, &code);
	if (!e && code && build_is_cancelled(r->s->b))
		return FAIL(ERR_CANCELLED, "another stage failed");
	if (e)
		return at_error(r->at, NULL, e);
	return code ? failed(r, code) : NULL;
}

static struct err *to_ingest(void *ctx, const void *p, size_t n)
{
	return ingest_write(ctx, p, n);
}

static FALLIBLE keep(struct runner *r, const struct rootfs *root, char out_diff_id[DIGEST_MAX])
{
	auto_ingest struct ingest *in = NULL;
	auto_fd int blob = -1;
	struct build *b = r->s->b;

	TRY(ingest_begin(engine_store(b->e), &in));
	TRY(rootfs_diff(root->upper, NULL, r->s->clamp_ns, (struct zip_sink){ to_ingest, in }));
	TRY(ingest_commit(in, NULL, 0, out_diff_id));
	if (layer_exists(engine_snapshotter(b->e), out_diff_id))
		return NULL;
	TRY(store_blob_open(engine_store(b->e), out_diff_id, 0, &blob));
	return layer_adopt(engine_snapshotter(b->e), blob, root->upper, r->s->clamp_ns, out_diff_id);
}

static FALLIBLE run_and_keep(struct runner *r, struct told *told, char out_diff_id[DIGEST_MAX])
{
	CLEANUP(rootfs_fini) struct rootfs root = { 0 };
	struct err *e;
	int out_fd;

	TRY(need_dir(r));
	TRY(rootfs_prepare(engine_snapshotter(r->s->b->e), r->s->diff_ids ? r->s->diff_ids : (char *[]){ NULL }, r->dir, &root));
	root.is_volatile = true;
	TRY(told_output_open(told, &out_fd));
	e = execute(r, &root, out_fd);
	told_output_close(told, e != NULL);
	TRY(e);
	return keep(r, &root, out_diff_id);
}

/* ---- the instruction ---- */

static FALLIBLE run_key(const struct runner *r, char out[DIGEST_MAX])
{
	auto_digest struct digest_state *key = cache_key(r->s, "run", true);
	auto_list char **env = NULL;
	char clamp[32];

	TRY(environment(r->s, false, &env));
	for (size_t i = 0; r->args[i]; i++)
		cache_add(key, r->args[i]);
	cache_add(key, "");
	for (size_t i = 0; env[i]; i++)
		cache_add(key, env[i]);
	cache_add(key, "");
	for (size_t i = 0; i < r->at->i->n_flags; i++) {
		cache_add(key, r->at->i->flags[i].name);
		cache_add(key, r->at->i->flags[i].value ? r->at->i->flags[i].value : "");
	}
	for (size_t i = 0; i < r->at->i->n_heredocs; i++)
		cache_add(key, r->at->i->heredocs[i].text);
	for (size_t i = 0; i < r->mounts.v.n; i++)
		cache_add(key, r->mounts.v.p[i].content);
	cache_add(key, json_str_at(stage_config(r->s), "User", ""));
	cache_add(key, stage_workdir(r->s));
	(void)snprintf(clamp, sizeof clamp, "%lld", (long long)r->s->clamp_ns);
	cache_add(key, clamp);
	digest_end(key, out);
	return NULL;
}

/* "RUN |1 X=v /bin/sh -c make # buildkit", as docker history knows it. */
static char *history(const struct runner *r)
{
	auto_buf struct buf b = BUF(SCRIPT_MAX);
	size_t n = 0;

	buf_str(&b, "RUN ");
	for (size_t i = 0; r->s->args && r->s->args[i]; i++)
		n += strchr(r->s->args[i], '=') != NULL;
	if (n)
		buf_fmt(&b, "|%zu ", n);
	for (size_t i = 0; n && r->s->args[i]; i++)
		if (strchr(r->s->args[i], '='))
			buf_fmt(&b, "%s ", r->s->args[i]);
	for (size_t i = 0; r->args[i]; i++)
		buf_fmt(&b, "%s ", r->args[i]);
	buf_str(&b, "# buildkit");
	return buf_take(&b);
}

FALLIBLE step_run_instr(struct stage *s, const struct at *at)
{
	CLEANUP(runner_fini) struct runner r = { .s = s, .at = at };
	auto_free char *line = instr_line(at->i), *title = NULL, *text = NULL;
	char key[DIGEST_MAX], diff_id[DIGEST_MAX];
	auto_told struct told *told = NULL;
	bool cached;

	TRY(flags(&r)); /* stages that are mounted are built, and told of, before */
	title = stage_title(s, line);
	told = teller_begin(s->b->teller, title);
	TRY(command(&r));
	TRY(environment(s, true, &r.env));
	TRY(run_key(&r, key));
	text = history(&r);
	TRY(cache_get(s->b, key, diff_id, &cached));
	if (!cached) {
		TRY(run_and_keep(&r, told, diff_id));
		TRY(cache_put(s->b, key, diff_id, text));
	}
	stage_history(s, text, diff_id);
	told_done(TAKE(told), cached);
	return NULL;
}
