/* image_change.c - tag and remove. */
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/ctr.h"
#include "engine/image_store.h"
#include "engine/mounts.h"
#include "image/ref.h"
#include "state/db.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

FALLIBLE engine_image_tag(struct engine *e, const char *source, const char *target)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *ref = NULL, *full = NULL;
	char manifest[DIGEST_MAX], digest[DIGEST_MAX];
	auto_fd int lease = -1;

	TRY(ref_parse(target, &r));
	if (r.digest)
		return FAIL(ERR_INVALID, "refusing to create a tag with a digest reference");
	TRY(image_find_leased(e, source, manifest, &ref, &lease));
	memcpy(digest, manifest, DIGEST_MAX);
	TRY(image_names_load(e, &names));
	for (size_t i = 0; ref && i < names.v.n; i++)
		if (strcmp(names.v.p[i].ref, ref) == 0)
			memcpy(digest, names.v.p[i].digest, DIGEST_MAX);
	full = ref_full(&r);
	return image_name_set(e, full, digest, manifest);
}

/* ---- removal ---- */

struct user_search {
	struct engine *e;
	const char *image;
	char stopped[65], running[65]; /* a container each, or "" */
};

static struct err *find_user(void *ctx, struct sv key, struct sv value)
{
	struct user_search *u = ctx;
	auto_json json_t *doc = NULL;
	auto_list char **images = NULL;
	char id[65];

	TRY(json_parse(value, "container record", 1u << 20, &doc));
	mounts_images(doc, NULL, &images);
	if (strcmp(json_str_at(doc, "Image", ""), u->image) != 0 && !(images && text_list_has(images, u->image)))
		return NULL;
	(void)snprintf(id, sizeof id, "%.*s", SV_ARG(key));
	memcpy(ctr_runs(u->e, id) ? u->running : u->stopped, id, sizeof id);
	return NULL;
}

static FALLIBLE find_users(struct engine *e, const char *image, struct user_search *out_users)
{
	auto_txn struct db_txn *txn = NULL;

	*out_users = (struct user_search){ .e = e, .image = image };
	TRY(db_begin_read(engine_db(e), &txn));
	return db_scan(txn, DB_CONTAINER, "", find_user, out_users);
}

/* Once: a repository's digest goes with several records. */
static void tell_untagged(json_t *events, const char *text)
{
	size_t i;
	json_t *v;

	json_array_foreach (events, i, v)
		if (strcmp(json_str_at(v, "Untagged", ""), text) == 0)
			return;
	(void)json_array_append_new(events, json_pack("{s:s}", "Untagged", text));
}

static FALLIBLE untag(struct engine *e, const char *full, bool keep, json_t *events)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *familiar = NULL;

	TRY(image_name_delete(e, full, keep));
	if (image_name_is_none(full))
		return NULL;
	TRY(ref_parse(full, &r));
	familiar = ref_familiar(&r);
	tell_untagged(events, familiar);
	return NULL;
}

struct removal {
	struct engine *e;
	const char *text;
	bool force;
	char *digest; /* of the name it was given by, or NULL */
	char manifest[DIGEST_MAX], id[DIGEST_MAX];
	char *ref; /* the name it was given by, or NULL: by id */
	struct image_names names; /* of this image, in whatever compression */
	struct user_search users;
	struct image_docs docs; /* empty when damaged */
	json_t *events;
};

static void removal_fini(struct removal *r)
{
	free(r->ref);
	free(r->digest);
	image_names_fini(&r->names);
	image_docs_fini(&r->docs);
	json_decref(r->events);
}

static FALLIBLE load_names(struct removal *r)
{
	size_t n = 0;

	TRY(image_names_load(r->e, &r->names));
	for (size_t i = 0; i < r->names.v.n; i++) {
		struct image_name *name = &r->names.v.p[i];
		char id[DIGEST_MAX];

		image_config_of(r->e, name->manifest, id);
		if (strcmp(name->manifest, r->manifest) == 0 || strcmp(id, r->id) == 0)
			r->names.v.p[n++] = *name;
		else
			free(name->ref);
	}
	r->names.v.n = n;
	return NULL;
}

/* "docker.io/library/a" of a name's record. */
static struct sv repo_of(const char *full)
{
	const char *slash = strrchr(full, '/');

	return sv_from(full, strcspn(slash ? slash : full, ":@") + (slash ? (size_t)(slash - full) : 0));
}

static bool is_digest(const struct image_name *n)
{
	return strchr(n->ref, '@') != NULL;
}

static size_t tags_in(const struct removal *r, struct sv repo)
{
	size_t n = 0;

	for (size_t i = 0; i < r->names.v.n; i++)
		n += !is_digest(&r->names.v.p[i]) && sv_eq(repo_of(r->names.v.p[i].ref), repo);
	return n;
}

/* Tags, and repositories of which only a digest is known: what docker counts as references to an image. */
static size_t references(const struct removal *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->names.v.n; i++) {
		const struct image_name *name = &r->names.v.p[i];
		struct sv repo = repo_of(name->ref);
		bool is_first = true;

		if (image_name_is_none(name->ref))
			continue;
		for (size_t k = 0; k < i; k++)
			is_first = is_first && !(is_digest(&r->names.v.p[k]) && sv_eq(repo_of(r->names.v.p[k].ref), repo));
		n += !is_digest(name) || (is_first && tags_in(r, repo) == 0);
	}
	return n;
}

/*
 * docker's rules: a tag and a digest of its repository are two references, of which one can go alone; but with a repository's
 * last tag its digests go, too. Of a record without a name it is asked when all that have one are known to go.
 */
enum fate { STAYS, LOSES_DIGEST, GOES };

static enum fate fate_of(const struct removal *r, const struct image_name *n, bool is_last)
{
	if (!r->ref)
		return GOES;
	if (image_name_is_none(n->ref))
		return is_last ? GOES : STAYS;
	if (!sv_eq(repo_of(n->ref), repo_of(r->ref)))
		return STAYS;
	if (!r->digest)
		return strcmp(n->ref, r->ref) == 0 || (is_digest(n) && tags_in(r, repo_of(r->ref)) == 1) ? GOES : STAYS;
	if (n->has_no_digest || (strcmp(n->digest, r->digest) != 0 && strcmp(n->manifest, r->digest) != 0))
		return STAYS;
	return is_digest(n) ? GOES : LOSES_DIGEST;
}

/* Whether no name stays; manifest NULL: of any form of the image. */
static bool is_last_of(const struct removal *r, const char *manifest)
{
	for (size_t i = 0; i < r->names.v.n; i++)
		if ((!manifest || strcmp(r->names.v.p[i].manifest, manifest) == 0) && !image_name_is_none(r->names.v.p[i].ref) &&
		    fate_of(r, &r->names.v.p[i], false) != GOES)
			return false;
	return true;
}

static FALLIBLE removal_open(struct removal *r)
{
	CLEANUP(ref_fini) struct ref given = { 0 };
	struct err *err;

	TRY(image_find(r->e, r->text, r->manifest, &r->ref));
	err_free(ref_parse(r->text, &given)); /* an id is none */
	r->digest = TAKE(given.digest);
	err = image_docs_load(r->e, r->manifest, &r->docs);
	if (err && !image_is_damage(err))
		return err;
	memcpy(r->id, err ? r->manifest : r->docs.manifest.config.digest, DIGEST_MAX);
	err_free(err);
	TRY(load_names(r));
	return find_users(r->e, r->id, &r->users);
}

static FALLIBLE refuse(const struct removal *r, bool can_force, const char *why, const char *container)
{
	return FAIL(ERR_CONFLICT, "conflict: unable to delete %.12s (%s be forced) - image is %s%.12s", r->id + 7,
		    can_force ? "must" : "cannot", why, container);
}

/* As moby's daemon/images/image_delete.go: what may go by which kind of name. */
static FALLIBLE removal_check(const struct removal *r)
{
	const char *user = r->users.running[0] ? r->users.running : r->users.stopped;
	size_t n = references(r);

	if (r->ref) {
		if (n > 1 || r->force || !*user)
			return NULL;
		return FAIL(ERR_CONFLICT,
			    "conflict: unable to remove repository reference \"%s\" (must force) - container %.12s is using its "
			    "referenced image %.12s",
			    r->text, user, r->id + 7);
	}
	if (r->users.running[0])
		return refuse(r, false, "being used by running container ", user);
	if (n > 1 && !r->force)
		return refuse(r, true, "referenced in multiple repositories", "");
	if (*user && !r->force)
		return refuse(r, true, "being used by stopped container ", user);
	return NULL;
}

static FALLIBLE hide_digest(struct removal *r, const struct image_name *n)
{
	CLEANUP(ref_fini) struct ref name = { 0 };
	auto_free char *repo = NULL, *text = NULL;

	TRY(image_name_hide_digest(r->e, n->ref));
	TRY(ref_parse(n->ref, &name));
	repo = ref_familiar_repo(&name);
	text = xasprintf("%s@%s", repo, r->digest);
	tell_untagged(r->events, text);
	return NULL;
}

/* Layers that others need stay, and one may come twice in an image: told is what was there before and is not after. */
static FALLIBLE sweep_and_tell(struct removal *r)
{
	const struct snapshotter *s = engine_snapshotter(r->e);
	auto_list char **there = NULL;

	for (size_t i = r->docs.diff_ids ? text_list_len(r->docs.diff_ids) : 0; i-- > 0;)
		if (layer_exists(s, r->docs.diff_ids[i]) && !text_list_has(there, r->docs.diff_ids[i]))
			text_list_add(&there, r->docs.diff_ids[i]);
	TRY(image_sweep(r->e));
	for (size_t i = 0; there && there[i]; i++)
		if (!layer_exists(s, there[i]))
			(void)json_array_append_new(r->events, json_pack("{s:s}", "Deleted", there[i]));
	return NULL;
}

static FALLIBLE removal_run(struct removal *r)
{
	bool is_last = is_last_of(r, NULL), is_form_last = is_last_of(r, r->manifest);
	bool keep = r->users.running[0] != 0; /* forced away from under a running container: it stays without a name */

	for (size_t i = 0; i < r->names.v.n; i++) {
		const struct image_name *n = &r->names.v.p[i];
		enum fate fate = fate_of(r, n, is_last);

		if (fate == GOES)
			TRY(untag(r->e, n->ref, keep, r->events));
		if (fate == LOSES_DIGEST)
			TRY(hide_digest(r, n));
	}
	if (keep || !is_last)
		return keep || !is_form_last ? NULL : image_sweep(r->e); /* it lives on in another compression */
	(void)json_array_append_new(r->events, json_pack("{s:s}", "Deleted", r->id));
	return sweep_and_tell(r);
}

FALLIBLE engine_image_remove(struct engine *e, const char *text, bool force, json_t **out_events)
{
	CLEANUP(removal_fini) struct removal r = { .e = e, .text = text, .force = force, .events = json_array() };

	TRY(removal_open(&r));
	TRY(removal_check(&r));
	TRY(removal_run(&r));
	*out_events = TAKE(r.events);
	return NULL;
}
