/* copy.c - COPY, ADD and the directory of WORKDIR: a tree is planned, looked up by what it holds, written when it is new. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "build/expand.h"
#include "build/mounts.h"
#include "build/stage.h"
#include "build/tree.h"
#include "codec/zip.h"
#include "content/store.h"
#include "engine/spec.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>

enum { HEREDOC_MAX = 1 << 20 };

/* A read-only view of layers; owned fd. */
static FALLIBLE view_of(struct build *b, char *const *diff_ids, int *out_fd)
{
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };

	TRY(rootfs_prepare(engine_snapshotter(b->e), diff_ids, NULL, &r));
	return rootfs_view(&r, out_fd);
}

/* The view of the stage so far; -1 while it is empty. */
static FALLIBLE stage_view(const struct stage *s, int *out_fd)
{
	*out_fd = -1;
	return text_list_len(s->diff_ids) ? view_of(s->b, s->diff_ids, out_fd) : NULL;
}

/* ---- layer ---- */

static FALLIBLE make_layer(struct stage *s, const struct tree *t, const char *want, char out_diff_id[DIGEST_MAX])
{
	struct store *store = engine_store(s->b->e);
	auto_ingest struct ingest *in = NULL;
	auto_fd int blob = -1;

	TRY(ingest_begin(store, &in));
	TRY(tree_write(t, want, in));
	TRY(ingest_commit(in, NULL, 0, out_diff_id));
	if (layer_exists(engine_snapshotter(s->b->e), out_diff_id))
		return NULL;
	TRY(store_blob_open(store, out_diff_id, 0, &blob));
	return layer_adopt(engine_snapshotter(s->b->e), blob, NULL, -1, out_diff_id);
}

/* The layer of a tree, from the cache when it is there. */
static FALLIBLE tree_layer(struct stage *s, const struct tree *t, const char *what, bool *out_cached,
			   char out_diff_id[DIGEST_MAX])
{
	auto_digest struct digest_state *key = cache_key(s, "tree", tree_has_archive(t));
	char content[DIGEST_MAX], text[DIGEST_MAX];

	TRY(tree_hash(t, content));
	cache_add(key, content);
	digest_end(key, text);
	TRY(cache_get(s->b, text, out_diff_id, out_cached));
	if (*out_cached)
		return NULL;
	TRY(make_layer(s, t, content, out_diff_id));
	return cache_put(s->b, text, out_diff_id, what);
}

/* The same as the stage's next layer. */
static FALLIBLE commit_tree(struct stage *s, const struct tree *t, const char *history, bool *out_cached)
{
	char diff_id[DIGEST_MAX];

	TRY(tree_layer(s, t, history, out_cached, diff_id));
	stage_history(s, history, diff_id);
	return NULL;
}

/* ---- owner and mode ---- */

static bool is_number(const char *s)
{
	return *s && strspn(s, "0123456789") == strlen(s);
}

static FALLIBLE owner(const struct stage *s, const struct at *at, int base_fd, struct tree_attrs *out)
{
	const char *flag = instr_flag(at->i, "chown");
	auto_free char *text = NULL, *both = NULL;
	struct spec_user u;
	struct err *e;

	if (!flag)
		return NULL;
	TRY(stage_expand(s, at, flag, &text));
	both = is_number(text) ? xasprintf("%s:%s", text, text) : xstrdup(text);
	e = spec_user_find(base_fd, both, &u);
	if (e)
		return at_error(at, flag, err_ctx(e, "invalid chown flag \"%s\"", text));
	out->has_owner = true;
	out->uid = u.uid;
	out->gid = u.gid;
	return NULL;
}

static FALLIBLE mode(const struct stage *s, const struct at *at, char **out_chmod)
{
	const char *flag = instr_flag(at->i, "chmod");
	mode_t ignored;
	struct err *e;

	if (!flag)
		return NULL;
	TRY(stage_expand(s, at, flag, out_chmod));
	e = mode_apply(*out_chmod, 0644, false, &ignored);
	return e ? at_error(at, flag, e) : NULL;
}

/* ---- sources ---- */

struct copy {
	struct stage *s;
	const struct at *at;
	struct tree tree;
	struct tree_source src;
	struct ignore exclude;
	char *dest;	   /* absolute */
	bool dest_is_dir;
	size_t n_sources;
	char **texts;	   /* of heredocs, expanded; the tree borrows them */
};

static FALLIBLE destination(struct copy *c)
{
	const struct instr *i = c->at->i;
	auto_free char *text = NULL;
	size_t n;

	TRY(stage_expand(c->s, c->at, i->args[i->n_args - 1], &text));
	n = strlen(text);
	if (!n)
		return at_error(c->at, NULL, FAIL(ERR_INVALID, "the destination is empty after expansion"));
	c->dest = path_join(stage_workdir(c->s), text);
	c->dest_is_dir = text[n - 1] == '/' || strcmp(text, ".") == 0 || strcmp(text, "..") == 0 ||
			 (n > 1 && strcmp(text + n - 2, "/.") == 0) || (n > 2 && strcmp(text + n - 3, "/..") == 0) ||
			 tree_base_is_dir(&c->tree, c->dest);
	c->src.unpack_to = c->at->i->kind == INSTR_ADD ? c->dest : NULL;
	return NULL;
}

static char *target_of(const struct copy *c, const char *name)
{
	return c->dest_is_dir ? path_join(c->dest, name + strspn(name, "/")) : xstrdup(c->dest);
}

static FALLIBLE add_path(struct copy *c, const char *path)
{
	auto_fd int dir = sys_open_in_root(c->src.root_fd, path, O_PATH | O_DIRECTORY, 0);
	auto_free char *to = dir >= 0 ? xstrdup(c->dest) : target_of(c, strrchr(path, '/') + 1);

	return tree_add_source(&c->tree, &c->src, path, to);
}

static FALLIBLE add_sources(struct copy *c, const char *word)
{
	auto_free char *text = NULL, *path = NULL;
	auto_list char **found = NULL;

	TRY(stage_expand(c->s, c->at, word, &text));
	if (strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0 || strncmp(text, "git@", 4) == 0)
		return c->src.unpack_to ?
			       FAIL(ERR_UNSUPPORTED, "ADD of a URL is not supported; use RUN with curl, or COPY a file: %s", text) :
			       FAIL(ERR_INVALID, "source can't be a URL for COPY: %s", text);
	path = path_clean(sv_of(text));
	if (pattern_is_literal(path)) {
		c->n_sources++;
		return add_path(c, path);
	}
	TRY(tree_glob(&c->src, path, &found));
	if (text_list_len(found) > 1 && !c->dest_is_dir)
		return FAIL(ERR_INVALID,
			    "When using %s with more than one source file, the destination must be a directory and end with a /",
			    instr_name(c->at->i->kind));
	c->n_sources += text_list_len(found);
	for (size_t k = 0; found && found[k]; k++)
		TRY(add_path(c, found[k]));
	return NULL;
}

static FALLIBLE add_heredoc(struct copy *c, const struct heredoc *h)
{
	auto_buf struct buf text = BUF(HEREDOC_MAX);
	auto_free char *to = target_of(c, h->name);
	struct expand x = { .escape = '\\', .get = stage_var, .ctx = c->s, .keep_quotes = true };

	if (h->is_quoted)
		buf_str(&text, h->text);
	else
		TRY(expand_word(&x, sv_of(h->text), &text));
	text_list_add(&c->texts, buf_text(&text));
	return tree_add_text(&c->tree, to, c->texts[text_list_len(c->texts) - 1], 0644);
}

static FALLIBLE exclusions(struct copy *c)
{
	const struct instr *i = c->at->i;

	for (size_t k = 0; k < i->n_flags; k++) {
		auto_free char *pattern = NULL;
		struct err *e;

		if (strcmp(i->flags[k].name, "exclude") != 0)
			continue;
		TRY(stage_expand(c->s, c->at, i->flags[k].value ? i->flags[k].value : "", &pattern));
		e = ignore_add(&c->exclude, sv_of(pattern));
		if (e)
			return at_error(c->at, i->flags[k].value, e);
	}
	c->src.exclude = &c->exclude;
	return NULL;
}

static FALLIBLE plan(struct copy *c)
{
	const struct instr *i = c->at->i;
	size_t heredoc = 0;

	TRY(destination(c));
	TRY(exclusions(c));
	for (size_t k = 0; k + 1 < i->n_args; k++) {
		struct err *e;

		if (!i->is_json && heredoc < i->n_heredocs && strstr(i->args[k], "<<"))
			e = add_heredoc(c, &i->heredocs[heredoc++]);
		else
			e = add_sources(c, i->args[k]);
		if (e)
			return strstr(e->msg, "\n") ? e : at_error(c->at, i->args[k], e);
	}
	return NULL;
}

static FALLIBLE run_copy(struct copy *c, int base_fd, bool *out_cached)
{
	auto_free char *chmod = NULL, *line = NULL, *history = NULL;

	TRY(mode(c->s, c->at, &chmod));
	TRY(owner(c->s, c->at, base_fd, &c->tree.attrs));
	c->tree.attrs.chmod = chmod;
	TRY(plan(c));
	line = instr_line(c->at->i);
	history = xasprintf("%s # buildkit", line);
	return commit_tree(c->s, &c->tree, history, out_cached);
}

static void copy_fini(struct copy *c)
{
	tree_fini(&c->tree);
	ignore_fini(&c->exclude);
	free(c->dest);
	text_list_free(c->texts);
}

FALLIBLE step_copy_instr(struct stage *s, const struct at *at)
{
	const char *from = instr_flag(at->i, "from");
	CLEANUP(copy_fini) struct copy c = { .s = s, .at = at };
	auto_fd int base = -1, source = -1;
	auto_list char **layers = NULL;
	auto_free char *line = instr_line(at->i), *title = NULL;
	auto_told struct told *told = NULL;
	bool cached = false;

	if (from) /* another stage is told of before this step */
		TRY(from_layers(s, at, from, &layers));
	title = stage_title(s, line);
	told = teller_begin(s->b->teller, title);
	TRY(stage_view(s, &base));
	tree_init(&c.tree, base, s->clamp_ns);
	c.src = (struct tree_source){ .root_fd = s->b->context_fd, .ignore = &s->b->ignore, .is_context = true };
	if (from) {
		TRY(view_of(s->b, layers, &source));
		c.src = (struct tree_source){ .root_fd = source };
	}
	TRY(run_copy(&c, base, &cached));
	told_done(TAKE(told), cached);
	return NULL;
}

/* A layer that is a mount without a place cannot be bound from: its content is copied into a directory of this build. */
static FALLIBLE mount_source(struct stage *s, const struct rootfs *r, struct run_mount *m)
{
	auto_fd int root = -1, from = -1, to = -1;
	auto_free char *dir = NULL;
	int e;

	if (r->mounts[0] < 0) {
		m->source = xasprintf("%s/mount", r->lower[0]);
		return NULL;
	}
	TRY(rootfs_view(r, &root));
	TRY(build_dir(s->b, &dir));
	if ((from = sys_open_in_root(root, ".", O_RDONLY | O_DIRECTORY, 0)) < 0 || (to = sys_open_dir(dir)) < 0)
		return FAIL_OS(from < 0 ? -from : -to, "open what is mounted");
	if ((e = fs_copy_tree(from, to)) < 0)
		return FAIL_OS(-e, "copy what is mounted");
	m->source = xasprintf("%s/mount", dir);
	return NULL;
}

FALLIBLE copy_for_mount(struct stage *s, const struct at *at, const char *from, const char *path, struct run_mount *m)
{
	CLEANUP(tree_fini) struct tree t = { 0 };
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };
	auto_list char **layers = NULL;
	auto_fd int root = -1, dir = -1;
	struct tree_source src = { .root_fd = s->b->context_fd, .ignore = &s->b->ignore, .is_context = true };
	bool cached;

	if (from) {
		TRY(from_layers(s, at, from, &layers));
		TRY(view_of(s->b, layers, &root));
		src = (struct tree_source){ .root_fd = root };
	}
	tree_init(&t, -1, s->clamp_ns);
	dir = sys_open_in_root(src.root_fd, path, O_PATH | O_DIRECTORY, 0);
	TRY(tree_add_source(&t, &src, path, "/mount"));
	if (dir >= 0)
		TRY(tree_add_dir(&t, "/mount")); /* also when nothing is in it */
	TRY(tree_layer(s, &t, "RUN --mount=type=bind", &cached, m->content));
	TRY(rootfs_prepare(engine_snapshotter(s->b->e), (char *[]){ m->content, NULL }, NULL, &r));
	return mount_source(s, &r, m);
}

/* ---- WORKDIR ---- */

FALLIBLE step_workdir(struct stage *s, const struct at *at)
{
	auto_free char *text = NULL, *dir = NULL, *line = NULL, *title = NULL, *history = NULL;
	CLEANUP(tree_fini) struct tree t = { 0 };
	auto_fd int base = -1;
	struct spec_user u = { 0 };
	auto_told struct told *told = NULL;
	bool cached = false;

	TRY(stage_expand(s, at, at->i->args[0], &text));
	if (!*text)
		return at_error(at, NULL, FAIL(ERR_INVALID, "WORKDIR is empty after expansion"));
	dir = path_join(stage_workdir(s), text);
	history = xasprintf("WORKDIR %s", dir);
	line = instr_line(at->i);
	title = stage_title(s, line);
	told = teller_begin(s->b->teller, title);
	TRY(stage_view(s, &base));
	(void)json_object_set_new(stage_config(s), "WorkingDir", json_string(dir));
	tree_init(&t, base, s->clamp_ns);
	if (tree_base_is_dir(&t, dir)) {
		stage_history(s, history, NULL);
	} else {
		struct err *e = spec_user_find(base, json_str_at(stage_config(s), "User", ""), &u);

		if (!e) /* a user that is not there yet owns nothing: root does */
			t.attrs = (struct tree_attrs){ .has_owner = true, .uid = u.uid, .gid = u.gid };
		err_free(e);
		TRY(tree_add_dir(&t, dir));
		TRY(commit_tree(s, &t, history, &cached));
	}
	told_done(TAKE(told), cached);
	return NULL;
}
