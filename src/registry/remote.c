#include "registry/remote.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/json.h"
#include "http/url.h"
#include "image/manifest.h"
#include "registry/fault.h"
#include <string.h>

#define TAGS_MAX      100000u
#define TAGS_MAX_BODY (8u << 20)
#define PAGES_MAX     1000u

const char *const remote_accept[] = { "Accept: " MEDIA_MANIFEST ", " MEDIA_INDEX ", " MEDIA_DOCKER
				      ", " MEDIA_DOCKER_LIST ", */*;q=0.1",
				      NULL };

void remote_doc_fini(struct remote_doc *d)
{
	free(d->body);
	free(d->media_type);
	free(d->limits);
	*d = (struct remote_doc){ 0 };
}

struct err *remote_refusal(const struct ref *ref, const struct http_response *answer, const char *reference)
{
	auto_free char *code = fault_code(answer), *repository = ref_familiar_repo(ref),
		       *name = ref_familiar(ref);
	struct err *e = fault_of(answer);

	if (answer->status == 404 && strcmp(code, "NAME_UNKNOWN") == 0)
		return err_ctx(e, "repository %s not found", repository);
	if (answer->status == 404)
		return strcmp(code, "MANIFEST_UNKNOWN") == 0
			   ? err_ctx(e, "manifest for %s not found", name)
			   : err_ctx(e, "manifest for %s not found: manifest unknown", name);
	if (e->kind == ERR_DENIED)
		return err_ctx(
		    e,
		    "pull access denied for %s, repository does not exist or may require authorization (see "
		    "hoy login)",
		    repository);
	return err_ctx(e, "manifest %s of %s", reference, repository);
}

struct err *remote_ask(struct registry *r, const char *what, struct http_response *out_answer)
{
	auto_free char *url = registry_url(r, what);

	return registry_ask(r, NULL,
			    (struct http_request){ .method = "GET",
						   .url = url,
						   .headers = remote_accept,
						   .redirects = 5,
						   .max_body = MANIFEST_MAX },
			    out_answer);
}

struct err *remote_get(struct registry *r, const struct ref *ref, const char *reference, const char *want,
		       struct remote_doc *out_doc)
{
	auto_response struct http_response answer = { 0 };
	auto_free char *what = xasprintf("manifests/%s", reference), *repository = ref_familiar_repo(ref);
	auto_remote_doc struct remote_doc doc = { 0 };
	const char *type;

	TRY(remote_ask(r, what, &answer));
	if (answer.status != 200)
		return remote_refusal(ref, &answer, reference);
	type = http_header(&answer, "Content-Type", 0);
	doc.media_type = xstrdup(type ? type : "");
	doc.limits = fault_limits(&answer);
	doc.n = answer.body.n;
	doc.body = buf_take(&answer.body);
	digest_of(doc.body, doc.n, doc.digest);
	if (want && strcmp(want, doc.digest) != 0)
		return FAIL(ERR_CORRUPT, "manifest of %s: digest mismatch: wanted %s, got %s", repository,
			    want, doc.digest);
	*out_doc = doc;
	doc = (struct remote_doc){ 0 };
	return NULL;
}

struct err *remote_digest(struct registry *r, const struct ref *ref, const char *tag,
			  char out_digest[DIGEST_MAX])
{
	auto_response struct http_response answer = { 0 };
	auto_free char *what = xasprintf("manifests/%s", tag), *url = registry_url(r, what);
	auto_remote_doc struct remote_doc doc = { 0 };
	const char *digest;

	TRY(registry_ask(
	    r, NULL,
	    (struct http_request){ .method = "HEAD", .url = url, .headers = remote_accept, .redirects = 5 },
	    &answer));
	digest = answer.status == 200 ? http_header(&answer, "Docker-Content-Digest", 0) : NULL;
	if (digest && digest_is_valid(sv_of(digest))) {
		memcpy(out_digest, digest, DIGEST_MAX);
		return NULL;
	}
	TRY(remote_get(r, ref, tag, NULL, &doc));
	memcpy(out_digest, doc.digest, DIGEST_MAX);
	return NULL;
}

/* The URL of rel="next" in a Link header, owned; NULL when there is none. RFC 8288. */
static char *next_link(const struct http_response *answer)
{
	const char *link = http_header(answer, "Link", 0), *end;

	if (!link || *link != '<' || !(end = strchr(link, '>')) || !strstr(end, "rel=\"next\""))
		return NULL;
	return xstrndup(link + 1, (size_t)(end - link - 1));
}

/* SECURITY: the next page is where this one was, or credentials would not go along anyhow: registry_call sees
 * to it. */
static struct err *one_page(struct registry *r, const struct ref *ref, char **url, struct map *seen)
{
	auto_response struct http_response answer = { 0 };
	auto_free char *repository = ref_familiar_repo(ref), *next = NULL, *full = NULL;
	auto_json json_t *doc = NULL;
	const json_t *list;
	json_t *tag;
	size_t i;

	TRY(registry_ask(
	    r, NULL,
	    (struct http_request){ .method = "GET", .url = *url, .redirects = 5, .max_body = TAGS_MAX_BODY },
	    &answer));
	if (answer.status != 200)
		return answer.status == 404
			   ? err_ctx(fault_of(&answer), "repository %s not found", repository)
			   : remote_refusal(ref, &answer, "tags");
	TRY(json_parse(sv_from(buf_text(&answer.body), answer.body.n), "list of tags", TAGS_MAX_BODY, &doc));
	list = json_object_get(doc, "tags");
	if (list && !json_is_array(list) && !json_is_null(list))
		return FAIL(ERR_INVALID, "list of tags of %s: \"tags\" is no list", repository);
	json_array_foreach((json_t *)(uintptr_t)list, i, tag)
	{
		const char *text = json_string_value(tag);

		if (!text || !ref_tag_is_valid(sv_of(text)))
			return FAIL(ERR_INVALID, "list of tags of %s: entry %zu is no tag", repository, i);
		if (map_get(seen, text))
			continue;
		if (seen->n == TAGS_MAX)
			return FAIL(ERR_LIMIT, "list of tags of %s: more than %u", repository, TAGS_MAX);
		*map_put(seen, text) = seen;
	}
	next = next_link(&answer);
	if (next)
		TRY(url_resolve(*url, next, &full));
	free(*url);
	*url = TAKE(full);
	return NULL;
}

struct err *remote_tags(struct registry *r, const struct ref *ref, char ***out_tags)
{
	auto_free char *url = registry_url(r, "tags/list");
	auto_map struct map seen = { 0 };
	char **tags;

	for (unsigned page = 0; url; page++) {
		size_t before = seen.n;

		if (page == PAGES_MAX)
			return FAIL(ERR_LIMIT, "list of tags: more than %u pages", PAGES_MAX);
		TRY(one_page(r, ref, &url, &seen));
		if (url && page && seen.n == before)
			return FAIL(ERR_INVALID,
				    "list of tags: the registry gives the same page again and again");
	}
	tags = xcalloc(seen.n + 1, sizeof *tags);
	for (size_t i = 0; i < seen.n; i++)
		tags[i] = xstrdup(seen.entries[i].key);
	*out_tags = tags;
	return NULL;
}
