/*
 * image_transfer.c - pull and push through hoy-transfer, which moves blobs between the store and a registry. Layers are applied
 * and names given here.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/helper.h"
#include "engine/image_ahead.h"
#include "engine/image_store.h"
#include "image/ref.h"
#include "image/shortname.h"
#include "sys/sys.h"
#include <limits.h>
#include <stdio.h>

static void add_word(char ***words, const char *option, const char *value)
{
	if (!value)
		return;
	text_list_add(words, option);
	text_list_add(words, value);
}

/* side: "src" or "dest", of hoy-transfer's options. */
static void add_access(char ***words, const char *side, const struct engine_access *a)
{
	auto_free char *insecure = xasprintf("--%s-insecure", side), *authfile = xasprintf("--%s-authfile", side),
		       *cert_dir = xasprintf("--%s-cert-dir", side), *strict = xasprintf("--%s-strict", side);

	if (a->insecure)
		text_list_add(words, insecure);
	else if (a->strict)
		text_list_add(words, strict);
	add_word(words, authfile, a->authfile);
	add_word(words, cert_dir, a->cert_dir);
}

static void add_creds(json_t *doc, const char *side, const struct engine_access *a)
{
	if (a && (a->creds || a->no_creds))
		(void)json_object_set_new(doc, side, json_string(a->no_creds ? "" : a->creds));
}

/* Credentials as a pipe to read from: arguments are for all to see. One side may be NULL. *out_fd -1: nothing; else args say so. */
static FALLIBLE creds_fd(const struct engine_access *source, const struct engine_access *destination, char ***args, int *out_fd)
{
	auto_json json_t *doc = json_object();
	auto_buf struct buf b = BUF(32768);
	int p[2], r;

	add_creds(doc, "src", source);
	add_creds(doc, "dest", destination);
	if (!json_object_size(doc))
		return NULL;
	text_list_add(args, "--creds");
	json_print(doc, &b);
	TRY(buf_check(&b, "credentials"));
	if ((r = sys_pipe(p)) < 0)
		return FAIL_OS(-r, "make a pipe");
	r = sys_write_all(p[1], b.data, b.n); /* less than a pipe holds */
	explicit_bzero(b.data, b.n);
	(void)sys_close(p[1]);
	*out_fd = p[0];
	return r < 0 ? FAIL_OS(-r, "hand over credentials") : NULL;
}

FALLIBLE engine_transfer_run(char *const *args, int in_fd, const struct engine_transfer_opts *o, json_t **out_result)
{
	auto_helper struct helper h = HELPER(.progress = o->progress);
	auto_list char **all = NULL;
	auto_fd int fd = -1;

	add_access(&all, "src", &o->access);
	if (in_fd < 0)
		TRY(creds_fd(&o->access, NULL, &all, &fd));
	for (; *args; args++)
		text_list_add(&all, *args);
	return helper_run(&h, all, in_fd < 0 ? fd : in_fd, out_result);
}

/* digest: what is pushed; NULL: a pull. */
static FALLIBLE run_for(struct helper *h, const char *full, const char *digest, const struct engine_transfer_opts *o, json_t **out_result)
{
	const struct engine_access *access = &o->access;
	auto_list char **args = NULL;
	auto_fd int fd = -1;

	text_list_add(&args, "--root");
	text_list_add(&args, engine_root(h->e));
	text_list_add(&args, digest ? "push" : "pull");
	add_word(&args, "--platform", o->platform);
	add_access(&args, digest ? "dest" : "src", access);
	TRY(creds_fd(digest ? NULL : access, digest ? access : NULL, &args, &fd));
	if (digest) {
		add_word(&args, "--compression-format", o->compression);
		add_word(&args, "--compression-level", o->compression_level);
	}
	text_list_add(&args, full);
	if (digest)
		text_list_add(&args, digest);
	return helper_run(h, args, fd, out_result);
}

/* Layers that have come are applied while others come. */
static FALLIBLE fetch(struct engine *e, const char *full, const struct engine_transfer_opts *o, json_t **out_result)
{
	auto_helper struct helper h = HELPER(.e = e, .progress = o->progress, .ahead = image_ahead_new(e));
	struct err *err = run_for(&h, full, NULL, o, out_result);

	if (!err && o->progress.line)
		o->progress.line(o->progress.ctx, "", "Extracting", 0, 0);
	image_ahead_end(h.ahead, err != NULL);
	return err;
}

FALLIBLE image_refetch(struct engine *e, const char *full, const struct engine_transfer_opts *o, char out_manifest[DIGEST_MAX])
{
	auto_json json_t *result = NULL;
	const char *manifest;

	TRY(fetch(e, full, o, &result));
	manifest = json_str_at(result, "manifest", "");
	TRY(digest_check(sv_of(manifest)));
	memcpy(out_manifest, manifest, DIGEST_MAX);
	return NULL;
}

/* Blobs of an image that are not what their names say go, so that the next transfer brings them again. */
static FALLIBLE drop_damaged(struct engine *e, const char *manifest, bool *out_dropped)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_free char *body = NULL;
	auto_list char **blobs = NULL;
	size_t n = 0;
	struct err *err = store_blob_read(engine_store(e), manifest, MANIFEST_MAX, &body, &n);

	if (!err)
		err = manifest_parse(sv_from(body, n), NULL, &m);
	text_list_add(&blobs, manifest);
	if (!err && !m.is_index)
		text_list_add(&blobs, m.config.digest);
	for (size_t i = 0; !err && i < m.n; i++)
		text_list_add(&blobs, m.parts[i].digest);
	err_free(err);
	for (size_t i = 0; blobs[i]; i++) {
		err = store_blob_verify(engine_store(e), blobs[i]);
		if (!err)
			continue;
		if (!image_is_damage(err))
			return err;
		err_free(err);
		*out_dropped = true;
		TRY(store_blob_delete(engine_store(e), blobs[i]));
	}
	return NULL;
}

static FALLIBLE make_ready(struct engine *e, const char *manifest)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };

	TRY(image_docs_load(e, manifest, &d));
	TRY(image_apply(e, &d));
	return image_check_layers(e, &d);
}

/* repaired: what was damaged in the store has been dropped once; a second time it is the registry's content. */
static FALLIBLE pull(struct engine *e, const char *full, const struct engine_transfer_opts *o, bool repaired,
		     char **out_digest, int *out_lease)
{
	auto_json json_t *result = NULL;
	const char *digest, *manifest;
	bool dropped = false;
	struct err *err;

	TRY(fetch(e, full, o, &result));
	digest = json_str_at(result, "digest", "");
	manifest = json_str_at(result, "manifest", digest);
	TRY(digest_check(sv_of(digest)));
	TRY(digest_check(sv_of(manifest)));
	err = make_ready(e, manifest);
	if (!repaired && image_is_damage(err)) {
		struct err *drop = drop_damaged(e, manifest, &dropped);

		if (drop || dropped)
			err_free(err);
		TRY(drop);
		if (dropped)
			return pull(e, full, o, true, out_digest, out_lease);
	}
	TRY(err);
	TRY(image_lease(e, manifest, false, out_lease));
	TRY(image_name_set(e, full, digest, manifest));
	*out_digest = xstrdup(digest);
	return NULL;
}

/* After these the same command can succeed: what came so far waits for it. The next removal of an image sweeps it. */
static bool is_passing(enum err_kind kind)
{
	return kind == ERR_UNAVAILABLE || kind == ERR_TIMEOUT || kind == ERR_CANCELLED;
}

/* full: a whole reference. */
static FALLIBLE pull_leased(struct engine *e, const char *full, const struct engine_transfer_opts *o, char **out_digest,
			    int *out_lease)
{
	auto_leased struct engine *leased = NULL;
	struct err *err;

	TRY(engine_lease_begin(e, &leased));
	err = pull(e, full, o, false, out_digest, out_lease);
	engine_lease_end(TAKE(leased));
	if (err && !is_passing(err->kind))
		err_free(image_sweep(e));
	return err;
}

/* Of several registries one is chosen, all are tried in order, or it is an error; s->names is what shall be tried. */
static FALLIBLE choose(const char *text, const struct engine_transfer_opts *o, struct shortname *s, bool *out_is_chosen)
{
	size_t index = 0;

	if (!s->is_open || (!o->choose && !s->is_strict))
		return NULL;
	if (!o->choose)
		return FAIL(ERR_INVALID,
			    "%s can be of several registries (registries.conf: short-name-mode = \"enforcing\") and there is no "
			    "terminal to ask at: write %s",
			    text, s->names[0]);
	TRY(o->choose(o->choose_ctx, text, s->names, &index));
	for (size_t i = 0; s->names[i]; i++)
		if (i != index)
			free(s->names[i]);
	s->names[0] = s->names[index];
	s->names[1] = NULL;
	*out_is_chosen = true;
	return NULL;
}

/* The failures of several registries as one; kind: not found only when all say so. */
static FALLIBLE all_failed(const char *text, char *const *names, struct err *const *errs)
{
	auto_buf struct buf b = BUF(65536);
	enum err_kind kind = ERR_NOT_FOUND;

	for (size_t i = 0; names[i]; i++) {
		buf_fmt(&b, "%s%s: %s", i ? "; " : "", names[i], errs[i]->msg);
		if (errs[i]->kind != ERR_NOT_FOUND && kind == ERR_NOT_FOUND)
			kind = errs[i]->kind;
	}
	return FAIL(kind, "no registry gave %s: %s", text, buf_text(&b));
}

/* From the first registry that has it. */
static FALLIBLE pull_any(struct engine *e, const char *text, char *const *names, const struct engine_transfer_opts *o,
			 char **out_full, char **out_digest, int *out_lease)
{
	auto_free struct err **errs = xcalloc(text_list_len(names), sizeof *errs);
	struct err *last = NULL;
	size_t i = 0;

	do {
		last = errs[i] = pull_leased(e, names[i], o, out_digest, out_lease);
		if (!last)
			*out_full = xstrdup(names[i]);
	} while (last && last->kind != ERR_CANCELLED && names[++i]);
	if (last && last->kind != ERR_CANCELLED && names[1])
		last = all_failed(text, names, errs);
	for (i = 0; names[i]; i++)
		if (errs[i] != last)
			err_free(errs[i]);
	return last;
}

static FALLIBLE pull_name(struct engine *e, const char *text, const struct engine_transfer_opts *o, char **out_full,
			  char **out_digest, int *out_lease)
{
	auto_shortname struct shortname s = { 0 };
	bool is_chosen = false;
	struct platform p;

	if (o->platform)
		TRY(platform_parse(o->platform, &p));
	TRY(shortname_resolve(text, &s));
	TRY(choose(text, o, &s, &is_chosen));
	if (o->access.creds && s.names[1])
		return FAIL(ERR_INVALID, "%s can be of several registries: credentials go to one, write %s", text, s.names[0]);
	TRY(pull_any(e, text, s.names, o, out_full, out_digest, out_lease));
	return is_chosen ? shortname_remember(text, *out_full) : NULL;
}

FALLIBLE engine_image_pull(struct engine *e, const char *ref, const struct engine_transfer_opts *o, char **out_full,
			   char **out_digest)
{
	auto_fd int lease = -1;

	return pull_name(e, ref, o, out_full, out_digest, &lease);
}

/* As the registry knows it: repository@digest finds it from now on. Not if the name has gone, or to another image, meanwhile. */
static FALLIBLE name_pushed(struct engine *e, const struct image_name *n, const char *digest)
{
	struct image_name now = { 0 };
	bool found = false;
	struct err *err;

	TRY(digest_check(sv_of(digest)));
	if (strcmp(digest, n->digest) == 0)
		return NULL;
	err = image_name_get(e, n->ref, &now, &found);
	free(now.ref);
	return err || !found || strcmp(now.manifest, n->manifest) != 0 ? err : image_name_set(e, n->ref, digest, n->manifest);
}

/* Under a lease: what is pushed is compressed into the store before. */
static FALLIBLE push_leased(struct engine *e, const char *ref, const struct engine_transfer_opts *o, char **out_digest,
			    uint64_t *out_bytes)
{
	auto_free char *own = NULL, *to = NULL;
	auto_json json_t *result = NULL;
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_helper struct helper h = HELPER(.e = e, .progress = o->progress);
	struct image_name n = { 0 };
	const char *digest;
	bool found;

	TRY(image_name_held(e, ref, &n, &found));
	if (!found)
		return FAIL(ERR_NOT_FOUND, "An image does not exist locally with the tag: %s", ref);
	own = n.ref;
	if (o->to)
		TRY(ref_parse(o->to, &r));
	to = o->to ? ref_full(&r) : xstrdup(own);
	/* the part of our platform: of an index the other parts are seldom here */
	TRY(run_for(&h, to, o->all_platforms ? n.digest : n.manifest, o, &result));
	digest = json_str_at(result, "digest", n.manifest);
	if (!o->to)
		TRY(name_pushed(e, &n, digest));
	*out_digest = xstrdup(digest);
	*out_bytes = (uint64_t)json_int_at(result, "size", 0);
	return NULL;
}

FALLIBLE engine_image_push(struct engine *e, const char *ref, const struct engine_transfer_opts *o, char **out_digest,
			   uint64_t *out_bytes)
{
	auto_leased struct engine *leased = NULL;
	struct err *err;

	TRY(engine_lease_begin(e, &leased));
	err = push_leased(e, ref, o, out_digest, out_bytes);
	engine_lease_end(TAKE(leased));
	err_free(image_sweep(e)); /* what was compressed goes again */
	return err;
}

static char **copy_words(struct engine *e, const struct engine_copy *c, const struct engine_transfer_opts *o)
{
	char **words = NULL;

	add_word(&words, "--root", engine_root(e));
	text_list_add(&words, "copy");
	if (c->all)
		text_list_add(&words, "--all");
	if (c->preserve_digests)
		text_list_add(&words, "--preserve-digests");
	add_access(&words, "src", &c->source);
	add_access(&words, "dest", &c->destination);
	add_word(&words, "--format", c->format);
	add_word(&words, "--platform", o->platform);
	return words;
}

FALLIBLE engine_image_copy(struct engine *e, const struct engine_copy *c, const struct engine_transfer_opts *o,
			   char **out_digest)
{
	auto_list char **args = copy_words(e, c, o);
	bool is_piped = strstr(c->from, ":/dev/stdin") != NULL;
	auto_leased struct engine *leased = NULL;
	auto_fd int in_fd = -1;
	auto_json json_t *result = NULL;
	auto_helper struct helper h = HELPER(.e = e, .progress = o->progress);
	struct err *err;

	TRY(creds_fd(&c->source, &c->destination, &args, &in_fd));
	if (in_fd >= 0 && is_piped)
		return FAIL(ERR_INVALID, "credentials and an archive cannot both come through standard input: use an authfile");
	text_list_add(&args, c->from);
	text_list_add(&args, c->to);
	TRY(engine_lease_begin(e, &leased));
	err = helper_run(&h, args, is_piped ? 0 : in_fd, &result);
	engine_lease_end(TAKE(leased));
	if (!err || !is_passing(err->kind))
		err_free(image_sweep(e)); /* what passed through */
	TRY(err);
	*out_digest = xstrdup(json_str_at(result, "digest", ""));
	return NULL;
}

static void tell_missing(const char *ref, const struct engine_transfer_opts *o)
{
	const char *slash = strrchr(ref, '/');
	auto_free char *text = NULL;

	if (!o->progress.line)
		return;
	text = xasprintf("Unable to find image '%s%s' locally", ref,
			 strchr(slash ? slash : ref, ':') || strchr(ref, '@') ? "" : ":latest");
	o->progress.line(o->progress.ctx, "", text, 0, 0);
}

/* An image for another platform than was asked for is as good as none; one for an older machine (worst: platform_rank) only when the
 * registry has none better. */
static FALLIBLE check_platform(const char *ref, const char *platform, int worst, const struct engine_image *image)
{
	const char *os = json_str_at(image->config, "os", "linux"), *arch = json_str_at(image->config, "architecture", "");
	struct platform want;
	int rank;

	TRY(platform_parse(platform, &want));
	rank = platform_config_rank(&want, os, arch, json_str_at(image->config, "variant", ""));
	if (rank >= 0 && rank <= worst)
		return NULL;
	return FAIL(ERR_NOT_FOUND, "image %s was found but its platform (%s/%s) does not match the wanted platform (%s)", ref, os,
		    arch, platform);
}

static FALLIBLE get_local(struct engine *e, const char *ref, const char *platform, int worst, struct engine_image *out_image)
{
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };

	TRY(engine_image_get(e, ref, &image));
	if (platform)
		TRY(check_platform(ref, platform, worst, &image));
	*out_image = image;
	image = (struct engine_image){ 0 };
	return NULL;
}

FALLIBLE engine_image_ensure(struct engine *e, const char *ref, enum pull_policy policy,
			     const struct engine_transfer_opts *o, struct engine_image *out_image)
{
	auto_free char *digest = NULL, *full = NULL;
	auto_fd int lease = -1; /* no prune between the name and whoever asked for it */
	struct err *err;

	if (policy != PULL_ALWAYS) {
		err = get_local(e, ref, o->platform, 0, out_image);
		if (!err || err->kind != ERR_NOT_FOUND || policy == PULL_NEVER)
			return err;
		err_free(err);
	}
	if (policy == PULL_MISSING)
		tell_missing(ref, o);
	TRY(pull_name(e, ref, o, &full, &digest, &lease));
	return get_local(e, full, o->platform, INT_MAX, out_image);
}
