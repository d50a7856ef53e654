/* end_registry.c - a registry as an end of a copy. Blobs come through the store only when the other side has
 * not got them. */
#include "base/mem.h"
#include "base/own.h"
#include "registry/download.h"
#include "registry/end.h"
#include "registry/upload.h"
#include <string.h>

struct registry_end {
	struct end base;
	struct ref ref;
	struct places places;
	char *repository; /* as the user knows it */
	const char *mount_from;
	struct end *source;
};
struct wanted { /* the bytes of a blob that is being uploaded */
	struct end *source;
	struct http_client *http; /* of the source, once it was used */
	const struct descriptor *d;
};

static struct err *registry_document(struct end *end, const char *digest, struct remote_doc *out_doc)
{
	const struct ref *ref = end->ref;
	const char *want = digest ? digest : ref->digest;

	return remote_get(end->registry, ref, want ? want : ref->tag, want, out_doc);
}

static struct err *registry_fetch(struct end *end, struct http_client *http, const struct descriptor *d)
{
	const struct download_conf conf = {
		.registry = end->registry, .store = end->conf->t.store, .d = d, .is_shown = true
	};

	(void)http; /* of the other registry */
	return download_all(&conf);
}

static struct err *bring(void *ctx)
{
	struct wanted *w = ctx;

	return w->source->ops->fetch(w->source, NULL, w->d);
}

static struct err *registry_put(struct end *end, struct http_client *http, const struct descriptor *d,
				struct end *source)
{
	struct registry_end *r = (struct registry_end *)end;
	struct wanted wanted = { .source = source, .d = d };
	const struct upload_conf conf = { .registry = end->registry,
					  .store = end->conf->t.store,
					  .repository = r->repository,
					  .d = d,
					  .shown_digest = d->digest,
					  .mount_from = r->mount_from,
					  .bring = bring,
					  .ctx = &wanted };

	return upload_blob(&conf, end->registry ? http : NULL);
}

static struct err *registry_put_document(struct end *end, const struct remote_doc *doc,
					 const char *media_type, bool is_top)
{
	struct registry_end *r = (struct registry_end *)end;
	const char *reference = is_top && r->ref.tag ? r->ref.tag : doc->digest;

	if (is_top && r->ref.digest && strcmp(r->ref.digest, doc->digest) != 0)
		return FAIL(ERR_INVALID, "%s: what is copied has the digest %s", end->text, doc->digest);
	return upload_manifest(end->registry, r->repository, reference, sv_from(doc->body, doc->n),
			       media_type);
}

static void registry_end_close(struct end *end)
{
	struct registry_end *r = (struct registry_end *)end;

	registry_close(end->registry);
	places_fini(&r->places);
	ref_fini(&r->ref);
	free(r->repository);
	free(r);
}

static const struct end_ops registry_ops = {
	.document = registry_document,
	.fetch = registry_fetch,
	.put = registry_put,
	.put_document = registry_put_document,
	.close = registry_end_close,
};

/* Mirrors are asked in order who is there at all and has it; then all comes from the same. */
static struct err *open_source(struct registry_end *r)
{
	const struct transfer *t = &r->base.conf->t;
	struct err *e = NULL;

	for (size_t i = 0; i < r->places.v.n; i++) {
		const struct place *place = &r->places.v.p[i];
		struct registry_conf conf = { .report = t->report,
					      .place = place,
					      .actions = "pull",
					      .patience = t->patience,
					      .daemon = t->daemon,
					      .access = &r->base.conf->source };
		auto_remote_doc struct remote_doc doc = { 0 };

		if (!place->can_pull || (!place->can_resolve && !r->ref.digest))
			continue;
		err_free(e);
		e = registry_open(&conf, &r->base.registry);
		if (!e && i + 1 < r->places.v.n)
			e = registry_document(&r->base, NULL, &doc);
		if (!e || e->kind == ERR_CANCELLED)
			return e;
		registry_close(TAKE(r->base.registry));
	}
	return e ? e
		 : FAIL(ERR_DENIED, "hosts.toml of %s names nobody to pull from (capabilities)",
			r->ref.domain);
}

static struct err *open_destination(struct registry_end *r, const struct end *source)
{
	const struct transfer *t = &r->base.conf->t;
	char *from[2] = { NULL, NULL };
	struct registry_conf conf = { .report = t->report,
				      .actions = "pull,push",
				      .patience = t->patience,
				      .daemon = t->daemon,
				      .access = &r->base.conf->destination,
				      .pull_from = from };

	TRY(places_for_push(&r->places, r->ref.domain, &conf.place));
	if (source->registry && strcmp(registry_place(source->registry)->host, conf.place->host) == 0 &&
	    strcmp(registry_place(source->registry)->repository, conf.place->repository) != 0) {
		r->mount_from = registry_place(source->registry)->repository;
		from[0] = registry_place(source->registry)->repository;
	}
	return registry_open(&conf, &r->base.registry);
}

struct err *end_open_registry(const struct copy_conf *conf, const char *name, const struct end *source,
			      struct end **out_end)
{
	struct registry_end *r = xnew(struct registry_end);
	auto_end struct end *owned = &r->base;
	struct err *e;

	r->base = (struct end){ .ops = &registry_ops, .conf = conf, .text = name };
	TRY(ref_parse(name, &r->ref));
	r->base.ref = &r->ref;
	r->repository = ref_familiar_repo(&r->ref);
	TRY(places_find(&r->ref, conf->t.daemon,
			source ? &conf->destination : &conf->source, &r->places));
	e = source ? open_destination(r, source) : open_source(r);
	if (e)
		return e;
	*out_end = TAKE(owned);
	return NULL;
}
