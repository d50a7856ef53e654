/*
 * copy.c - down from what the source is about: parts of an index first, blobs of a manifest in parallel, then
 * the document itself, so at no moment the destination names what it has not got. A document is written anew only
 * when something in it must change (--format, layers that are compressed on their way).
 */
#include "registry/copy.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "image/manifest.h"
#include "registry/end.h"
#include "registry/format.h"
#include <stdio.h>
#include <string.h>

#define NESTING_MAX 4u

struct copy {
	const struct copy_conf *conf;
	struct end *from, *to;
	bool is_squeezing; /* plain layers are compressed on their way */
	uint64_t bytes;    /* of what was copied */
	struct map placed; /* documents that were: digest to owned struct placed */
};
struct parts { /* the blobs of one manifest */
	struct copy *c;
	const struct descriptor **list; /* each digest once */
	struct descriptor *sent;        /* what goes for each; media_type owned, NULL: as it is */
	size_t n;
};
struct placed { /* what stands at the destination for a document */
	char digest[DIGEST_MAX];
	size_t n;
	char *media_type; /* owned */
};

static void parts_fini(struct parts *p)
{
	for (size_t i = 0; p->sent && i < p->n; i++)
		free(p->sent[i].media_type);
	free(p->sent);
	free(p->list);
}

static void placed_fini(struct placed *p)
{
	free(p->media_type);
}

static void copy_fini(struct copy *c)
{
	for (size_t i = 0; i < c->placed.n; i++) {
		placed_fini(c->placed.entries[i].value);
		free(c->placed.entries[i].value);
	}
	map_fini(&c->placed);
}

void end_close(struct end *end)
{
	if (end)
		end->ops->close(end);
}

static struct err *open_archive(const struct copy_conf *conf, const char *text, bool is_docker,
				bool is_source, struct end **out_end)
{
	return is_source ? end_open_archive(conf, text, is_docker, out_end)
			 : end_make_archive(conf, text, is_docker, out_end);
}

struct err *end_open(const struct copy_conf *conf, const char *text, const struct end *source,
		     struct end **out_end)
{
	struct sv s = sv_of(text);

	if (sv_starts(s, SV("docker://")))
		return end_open_registry(conf, text + strlen("docker://"), source, out_end);
	if (sv_starts(s, SV("oci:")))
		return end_open_oci(conf, text + strlen("oci:"), !source, out_end);
	if (sv_starts(s, SV("dir:")))
		return end_open_dir(conf, text + strlen("dir:"), !source, out_end);
	if (sv_starts(s, SV("oci-archive:")))
		return open_archive(conf, text + strlen("oci-archive:"), false, !source, out_end);
	if (sv_starts(s, SV("docker-archive:")))
		return open_archive(conf, text + strlen("docker-archive:"), true, !source, out_end);
	if (sv_starts(s, SV("containers-storage:")) || sv_starts(s, SV("docker-daemon:")))
		return FAIL(ERR_UNSUPPORTED,
			    "%s: the stores of other programs are not read; use their save and hoy load",
			    text);
	return end_open_registry(conf, text, source, out_end);
}

/* Compressed on its way, and put in that form; one that gets no smaller goes as it is. */
static struct err *put_squeezed(struct copy *c, struct http_client *http, const struct descriptor *plain,
				struct descriptor *sent)
{
	const struct transfer *t = &c->conf->t;
	struct archive_file file;

	TRY(c->from->ops->stream(c->from, plain, &file));
	TRY(compress_stream(t->store, t->report, t->compress, plain, archive_source(&file), sent));
	return c->to->ops->put(c->to, http, sent, c->from);
}

static struct err *blob_job(void *ctx, struct http_client *http, size_t index)
{
	struct parts *p = ctx;
	struct copy *c = p->c;

	if (c->is_squeezing && compress_applies(p->list[index]->media_type))
		return put_squeezed(c, http, p->list[index], &p->sent[index]);
	return c->to->ops->put(c->to, http, p->list[index], c->from);
}

/* Layers that must not be distributed stay where their urls say (image-spec layer.md). */
static bool is_foreign(const struct descriptor *d)
{
	return strstr(d->media_type, ".foreign.") || strstr(d->media_type, ".nondistributable.");
}

static struct err *copy_blobs(struct copy *c, const struct manifest *m, struct parts *p)
{
	struct registry *r = c->to->registry ? c->to->registry : c->from->registry;
	uint64_t bytes = 0;

	p->list = xcalloc(m->n + 1, sizeof *p->list);
	p->sent = xcalloc(m->n + 1, sizeof *p->sent);
	for (size_t i = 0; i <= m->n; i++) {
		const struct descriptor *d = i < m->n ? &m->parts[i] : &m->config;
		size_t k = 0;

		while (k < p->n && strcmp(p->list[k]->digest, d->digest) != 0)
			k++;
		if (k < p->n || is_foreign(d))
			continue;
		p->list[p->n++] = d;
		bytes += d->size;
	}
	c->bytes += bytes;
	if (r)
		return registry_each(r, p->n, bytes, blob_job, p);
	for (size_t i = 0; i < p->n; i++)
		TRY(blob_job(p, NULL, i));
	return NULL;
}

/* doc's layers as they were sent; whether any is another. */
static bool name_sent(const struct parts *p, json_t *doc)
{
	bool is_other = false;
	json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(doc, "layers"), i, entry)
	{
		for (size_t k = 0; k < p->n; k++) {
			const struct descriptor *sent = &p->sent[k];

			if (!sent->media_type ||
			    strcmp(json_str_at(entry, "digest", ""), p->list[k]->digest) != 0)
				continue;
			(void)json_object_set_new(entry, "mediaType", json_string(sent->media_type));
			(void)json_object_set_new(entry, "digest", json_string(sent->digest));
			(void)json_object_set_new(entry, "size", json_integer((json_int_t)sent->size));
			is_other = true;
			break;
		}
	}
	return is_other;
}

/* The document as it came, or, when parts of it or its format are others now, as it must be. */
static struct err *put_document(struct copy *c, const struct remote_doc *doc, const struct manifest *m,
				json_t *changed, bool is_top, struct placed *out)
{
	auto_json json_t *copy = changed ? json_incref(changed) : json_deep_copy(m->doc);
	auto_remote_doc struct remote_doc other = { 0 };
	auto_buf struct buf text = BUF(MANIFEST_MAX);
	const struct remote_doc *put = doc;
	const char *type = m->media_type;

	TRY(format_apply(c->conf->format, m, copy, &type));
	if (changed || strcmp(type, m->media_type) != 0) {
		if (c->conf->keep_digests)
			return FAIL(ERR_INVALID, "--preserve-digests: %s cannot have its digest there",
				    doc->digest);
		json_print(copy, &text);
		TRY(buf_check(&text, "manifest"));
		other.n = text.n;
		other.body = buf_take(&text);
		digest_of(other.body, other.n, other.digest);
		put = &other;
	}
	memcpy(out->digest, put->digest, DIGEST_MAX);
	out->n = put->n;
	out->media_type = xstrdup(type);
	return c->to->ops->put_document(c->to, put, type, is_top);
}

static struct err *copy_document(struct copy *c, const struct descriptor *d, bool is_top, unsigned depth,
				 struct placed *out);

/* A part that an index names twice, or two of its indexes, is copied once. */
static struct err *copy_part(struct copy *c, const struct descriptor *d, unsigned depth,
			     const struct placed **out)
{
	CLEANUP(placed_fini) struct placed placed = { 0 };
	void **slot = map_get(&c->placed, d->digest);
	struct placed *kept;

	if (!slot) {
		TRY(copy_document(c, d, false, depth, &placed));
		kept = xnew(struct placed);
		*kept = placed;
		placed = (struct placed){ 0 };
		slot = map_put(&c->placed, d->digest);
		*slot = kept;
	}
	*out = *slot;
	return NULL;
}

/* All parts of an index; *out_changed (owned): the index with other parts, or NULL. */
static struct err *copy_parts(struct copy *c, const struct manifest *m, unsigned depth, json_t **out_changed)
{
	auto_json json_t *copy = json_deep_copy(m->doc);
	bool is_other = false;

	for (size_t i = 0; i < m->n; i++) {
		json_t *entry = json_array_get(json_object_get(copy, "manifests"), i);
		const struct placed *placed = NULL;

		TRY(copy_part(c, &m->parts[i], depth + 1, &placed));
		if (strcmp(placed->digest, m->parts[i].digest) == 0)
			continue;
		is_other = true;
		(void)json_object_set_new(entry, "mediaType", json_string(placed->media_type));
		(void)json_object_set_new(entry, "digest", json_string(placed->digest));
		(void)json_object_set_new(entry, "size", json_integer((json_int_t)placed->n));
	}
	*out_changed = is_other ? TAKE(copy) : NULL;
	return NULL;
}

/* Of an index: all of its parts and itself, or the one of our platform in its place. */
static struct err *copy_index(struct copy *c, const struct remote_doc *doc, const struct manifest *m,
			      bool is_top, unsigned depth, struct placed *out)
{
	const struct descriptor *part = NULL;
	auto_json json_t *changed = NULL;
	struct platform host;
	struct err *e;

	if (depth == NESTING_MAX)
		return FAIL(ERR_INVALID, "%s: more than %u indexes inside each other", c->conf->from,
			    NESTING_MAX);
	if (c->conf->is_all) {
		TRY(copy_parts(c, m, depth, &changed));
		return put_document(c, doc, m, changed, is_top, out);
	}
	platform_host(&host);
	e = manifest_choose(m, c->conf->t.platform ? c->conf->t.platform : &host, &part);
	if (e)
		return err_ctx(e, "%s (--all copies it whole)", c->conf->from);
	return copy_document(c, part, is_top, depth + 1, out);
}

/* d: NULL for what the source is about. */
static struct err *copy_document(struct copy *c, const struct descriptor *d, bool is_top, unsigned depth,
				 struct placed *out)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	CLEANUP(parts_fini) struct parts parts = { .c = c };
	auto_remote_doc struct remote_doc doc = { 0 };
	auto_json json_t *copy = NULL;
	struct err *e;

	TRY(c->from->ops->document(c->from, d ? d->digest : NULL, &doc));
	if (d && d->size != doc.n)
		return FAIL(ERR_CORRUPT, "manifest %s: size mismatch: wanted %llu bytes, got %zu", d->digest,
			    (unsigned long long)d->size, doc.n);
	e = manifest_parse(sv_from(doc.body, doc.n), *doc.media_type ? doc.media_type : NULL, &m);
	if (e)
		return err_ctx(e, "%s", d ? d->digest : c->conf->from);
	c->bytes += doc.n;
	if (m.is_index)
		return copy_index(c, &doc, &m, is_top, depth, out);
	TRY(copy_blobs(c, &m, &parts));
	copy = json_deep_copy(m.doc);
	return put_document(c, &doc, &m, name_sent(&parts, copy) ? copy : NULL, is_top, out);
}

struct err *transfer_copy(const struct copy_conf *conf, struct transfer_result *out_result)
{
	auto_end struct end *from = NULL, *to = NULL;
	CLEANUP(placed_fini) struct placed placed = { 0 };
	CLEANUP(copy_fini) struct copy c = { .conf = conf };
	bool is_docker = sv_starts(sv_of(conf->to), SV("docker-archive:"));

	if (is_docker && (conf->format == FORMAT_OCI || conf->keep_digests || conf->is_all))
		return FAIL(ERR_INVALID,
			    "docker-archive holds one image in docker's format, unpacked: without %s",
			    conf->is_all         ? "--all"
			    : conf->keep_digests ? "--preserve-digests"
						 : "--format oci");
	TRY(end_open(conf, conf->from, NULL, &from));
	TRY(end_open(conf, conf->to, from, &to));
	c.from = from;
	c.to = to;
	c.is_squeezing = from->is_plain && to->registry && !conf->keep_digests;
	TRY(copy_document(&c, NULL, true, 0, &placed));
	memcpy(out_result->digest, placed.digest, DIGEST_MAX);
	memcpy(out_result->manifest, placed.digest, DIGEST_MAX);
	out_result->size_bytes = c.bytes;
	return NULL;
}
