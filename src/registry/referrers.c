#include "registry/referrers.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "image/manifest.h"
#include "registry/remote.h"
#include "registry/upload.h"
#include <string.h>

/* What the list says of a document: its type is the artifact's, else the configuration's. Owned. */
static json_t *describe(const json_t *doc, struct sv body, const char *media_type)
{
	const char *type = json_str_at(doc, "artifactType", json_str_at(doc, "config.mediaType", ""));
	char digest[DIGEST_MAX];
	json_t *entry;

	digest_of(body.p, body.n, digest);
	entry = json_pack("{s:s, s:s, s:I}", "mediaType", media_type, "digest", digest, "size",
			  (json_int_t)body.n);
	if (*type)
		(void)json_object_set_new(entry, "artifactType", json_string(type));
	if (json_is_object(json_object_get(doc, "annotations")))
		(void)json_object_set(entry, "annotations", json_object_get(doc, "annotations"));
	return entry;
}

/* The list that is there, or an empty one; owned. */
static struct err *load_list(struct registry *r, const char *tag, json_t **out_list)
{
	auto_free char *what = xasprintf("manifests/%s", tag);
	auto_response struct http_response answer = { 0 };

	TRY(remote_ask(r, what, &answer));
	if (answer.status == 200) {
		TRY(json_parse(sv_from(buf_text(&answer.body), answer.body.n), tag, MANIFEST_MAX, out_list));
		return json_is_array(json_object_get(*out_list, "manifests"))
			   ? NULL
			   : FAIL(ERR_INVALID, "%s is no index", tag);
	}
	*out_list = json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2, "mediaType", MEDIA_INDEX, "manifests");
	return answer.status == 404 ? NULL : upload_refusal(tag, &answer, what);
}

static struct err *add(struct registry *r, const char *repository, const char *tag, json_t *entry)
{
	auto_json json_t *list = NULL;
	auto_buf struct buf text = BUF(MANIFEST_MAX);
	json_t *old;
	size_t i;

	TRY(load_list(r, tag, &list));
	json_array_foreach(json_object_get(list, "manifests"), i,
			   old) if (strcmp(json_str_at(old, "digest", ""),
					   json_str_at(entry, "digest", "")) == 0) return NULL;
	(void)json_array_append(json_object_get(list, "manifests"), entry);
	json_print(list, &text);
	TRY(buf_check(&text, tag));
	return upload_manifest(r, repository, tag, sv_from(text.data, text.n), MEDIA_INDEX);
}

struct err *referrers_note(struct registry *r, const char *repository, struct sv body, const char *media_type)
{
	auto_json json_t *doc = NULL, *entry = NULL;
	auto_free char *tag = NULL;
	const char *subject;
	struct err *e;

	TRY(json_parse(body, "manifest", MANIFEST_MAX, &doc));
	subject = json_str_at(doc, "subject.digest", NULL);
	if (!subject)
		return NULL;
	TRY(digest_check(sv_of(subject)));
	tag = xasprintf("sha256-%s", digest_hex(subject));
	entry = describe(doc, body, media_type);
	e = add(r, repository, tag, entry);
	return e ? err_ctx(e, "list of what refers to %s", subject) : NULL;
}
