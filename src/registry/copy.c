/*
 * copy.c - down from what the source is about: parts of an index first, blobs of a manifest in parallel, then
 * the document itself, so at no moment the destination names what it has not got.
 */
#include "registry/copy.h"
#include "base/mem.h"
#include "base/own.h"
#include "image/manifest.h"
#include "registry/end.h"
#include <stdio.h>
#include <string.h>

#define NESTING_MAX 4u

struct copy {
	const struct copy_conf *conf;
	struct end *from, *to;
	uint64_t bytes; /* of what was copied */
};
struct parts { /* the blobs of one manifest */
	struct copy *c;
	const struct descriptor **list; /* each digest once */
	size_t n;
};

void end_close(struct end *end)
{
	if (end)
		end->ops->close(end);
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
	if (sv_starts(s, SV("docker-archive:")) || sv_starts(s, SV("oci-archive:")))
		return FAIL(ERR_UNSUPPORTED, "%s: archives are written by hoy save and read by hoy load",
			    text);
	if (sv_starts(s, SV("containers-storage:")) || sv_starts(s, SV("docker-daemon:")))
		return FAIL(ERR_UNSUPPORTED,
			    "%s: the stores of other programs are not read; use their save and hoy load",
			    text);
	return end_open_registry(conf, text, source, out_end);
}

static struct err *blob_job(void *ctx, struct http_client *http, size_t index)
{
	struct parts *p = ctx;

	return p->c->to->ops->put(p->c->to, http, p->list[index], p->c->from);
}

/* Layers that must not be distributed stay where their urls say (image-spec layer.md). */
static bool is_foreign(const struct descriptor *d)
{
	return strstr(d->media_type, ".foreign.") || strstr(d->media_type, ".nondistributable.");
}

static struct err *copy_blobs(struct copy *c, const struct manifest *m)
{
	auto_free const struct descriptor **list = xcalloc(m->n + 1, sizeof *list);
	struct parts p = { .c = c, .list = list };
	struct registry *r = c->to->registry ? c->to->registry : c->from->registry;
	uint64_t bytes = 0;

	for (size_t i = 0; i <= m->n; i++) {
		const struct descriptor *d = i < m->n ? &m->parts[i] : &m->config;
		size_t k = 0;

		while (k < p.n && strcmp(list[k]->digest, d->digest) != 0)
			k++;
		if (k < p.n || is_foreign(d))
			continue;
		list[p.n++] = d;
		bytes += d->size;
	}
	c->bytes += bytes;
	if (r)
		return registry_each(r, p.n, bytes, blob_job, &p);
	for (size_t i = 0; i < p.n; i++)
		TRY(blob_job(&p, NULL, i));
	return NULL;
}

static struct err *copy_document(struct copy *c, const struct descriptor *d, bool is_top, unsigned depth,
				 char out_digest[DIGEST_MAX]);

/* Of an index: all of its parts and itself, or the one of our platform in its place. */
static struct err *copy_index(struct copy *c, const struct remote_doc *doc, const struct manifest *m,
			      bool is_top, unsigned depth, char out_digest[DIGEST_MAX])
{
	const struct descriptor *part = NULL;
	struct platform host;
	struct err *e;

	if (depth == NESTING_MAX)
		return FAIL(ERR_INVALID, "%s: more than %u indexes inside each other", c->conf->from,
			    NESTING_MAX);
	for (size_t i = 0; c->conf->is_all && i < m->n; i++) {
		char digest[DIGEST_MAX];

		TRY(copy_document(c, &m->parts[i], false, depth + 1, digest));
	}
	if (c->conf->is_all) {
		memcpy(out_digest, doc->digest, DIGEST_MAX);
		return c->to->ops->put_document(c->to, doc, m->media_type, is_top);
	}
	platform_host(&host);
	e = manifest_choose(m, c->conf->t.platform ? c->conf->t.platform : &host, &part);
	if (e)
		return err_ctx(e, "%s (--all copies it whole)", c->conf->from);
	return copy_document(c, part, is_top, depth + 1, out_digest);
}

/* d: NULL for what the source is about. */
static struct err *copy_document(struct copy *c, const struct descriptor *d, bool is_top, unsigned depth,
				 char out_digest[DIGEST_MAX])
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_remote_doc struct remote_doc doc = { 0 };
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
		return copy_index(c, &doc, &m, is_top, depth, out_digest);
	TRY(copy_blobs(c, &m));
	memcpy(out_digest, doc.digest, DIGEST_MAX);
	return c->to->ops->put_document(c->to, &doc, m.media_type, is_top);
}

struct err *transfer_copy(const struct copy_conf *conf, struct transfer_result *out_result)
{
	auto_end struct end *from = NULL, *to = NULL;
	struct copy c = { .conf = conf };

	TRY(end_open(conf, conf->from, NULL, &from));
	TRY(end_open(conf, conf->to, from, &to));
	c.from = from;
	c.to = to;
	TRY(copy_document(&c, NULL, true, 0, out_result->digest));
	memcpy(out_result->manifest, out_result->digest, DIGEST_MAX);
	out_result->size_bytes = c.bytes;
	return NULL;
}
