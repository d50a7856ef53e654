#include "registry/place.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "http/url.h"
#include "image/registries.h"
#include "registry/hosts.h"
#include <string.h>

void places_fini(struct places *p)
{
	for (size_t i = 0; i < p->v.n; i++) {
		struct place *x = &p->v.p[i];

		free(x->scheme);
		free(x->host);
		free(x->root);
		free(x->repository);
		free(x->ns);
		text_list_free(x->headers);
		text_list_free(x->ca);
		free(x->cert);
		free(x->key);
	}
	vec_fini(&p->v);
}

struct place *places_add(struct places *p, const char *host, const char *repository)
{
	struct place *x = vec_push(&p->v);

	*x = (struct place){ .host = xstrdup(host),
			     .root = xstrdup("/v2"),
			     .repository = xstrdup(repository),
			     .can_pull = true,
			     .can_resolve = true,
			     .can_push = true };
	return x;
}

/* A prefix that takes all of the name leaves none for a location that is only a host. ref without a path: of a login. */
static struct err *check_rewritten(const struct ref *ref, const char *name, const char *from)
{
	CLEANUP(ref_fini) struct ref as = { 0 };
	struct err *e;

	if (!*ref->path || strstr(name, "://"))
		return NULL;
	e = strchr(name, '/') ? ref_parse(name, &as) : FAIL(ERR_INVALID, "no repository is left");
	return e ? err_ctx(e, "%s makes \"%.200s\" of %s/%s", from, name, ref->domain, ref->path) : NULL;
}

/* "host[:port]/path" of registries.conf. */
static struct err *add_location(struct places *p, const struct ref *ref, const json_t *entry,
				const json_t *of, bool is_mirror)
{
	const char *location = json_str_at(of, "location", NULL), *from = json_str_at(entry, "from", "");
	auto_free char *name = registries_rewrite(ref, json_str_at(entry, "prefix", ""), location);
	struct sv path = sv_of(name), host = sv_cut(&path, '/');
	auto_free char *host_text = xstrndup(host.p, host.n), *path_text = xstrndup(path.p, path.n);
	struct place *x;

	TRY(check_rewritten(ref, name, from));
	if (!host.n || strchr(host_text, '@') || strstr(name, "://"))
		return FAIL(ERR_INVALID, "%s: bad location \"%s\" (wanted HOST[:PORT][/PATH])", from,
			    location ? location : "");
	x = places_add(p, host_text, path_text);
	x->is_insecure = json_bool_at(of, "insecure", false);
	x->is_mirror = is_mirror;
	x->can_push = !is_mirror;
	return NULL;
}

static bool may_use_mirror(const struct ref *ref, const json_t *entry, const json_t *mirror)
{
	const char *when = json_str_at(mirror, "pull-from-mirror", "all");

	if (json_bool_at(entry, "mirror-by-digest-only", false) || strcmp(when, "digest-only") == 0)
		return ref->digest != NULL;
	return strcmp(when, "tag-only") != 0 || !ref->digest;
}

static struct err *from_registries(const struct ref *ref, struct places *p)
{
	auto_registries struct registries conf = { 0 };
	const json_t *entry;
	json_t *mirror;
	size_t i;

	TRY(registries_load(&conf));
	for (char **line = conf.ignored; line && *line; line++)
		log_warn("%s", *line);
	entry = registries_match(&conf, ref);
	if (!entry)
		return NULL;
	if (json_bool_at(entry, "blocked", false))
		return FAIL(ERR_DENIED, "registry %s is blocked in %s", json_str_at(entry, "prefix", ""),
			    json_str_at(entry, "from", ""));
	json_array_foreach(json_object_get(entry, "mirror"), i,
			   mirror) if (may_use_mirror(ref, entry, mirror))
	    TRY(add_location(p, ref, entry, mirror, true));
	return add_location(p, ref, entry, entry, false);
}

/* daemon.json's mirrors are URLs; docker's daemon does not start with one that is none. */
static struct err *from_daemon(const struct ref *ref, const struct daemon_conf *daemon, struct places *p)
{
	if (strcmp(ref->domain, "docker.io") != 0)
		return NULL;
	for (char **mirror = daemon->mirrors; mirror && *mirror; mirror++) {
		auto_url struct url u = { 0 };
		struct err *e = url_parse(*mirror, &u);
		auto_free char *host = NULL;
		struct place *x;

		if (e)
			return err_ctx(e, "registry-mirrors of docker's daemon.json");
		host = u.has_port ? xasprintf("%s:%s", u.host, u.port) : xstrdup(u.host);
		x = places_add(p, host, ref->path);
		x->scheme = xstrdup(u.scheme);
		x->is_mirror = true;
		x->can_push = false;
	}
	return NULL;
}

static bool is_loopback(const char *host)
{
	auto_free char *text = xasprintf("http://%s/", host);
	auto_url struct url u = { 0 };
	auto_err struct err *e = url_parse(text, &u);

	return !e && url_host_is_loopback(u.host);
}

static struct err *judge(struct place *x, const struct daemon_conf *daemon, const struct access *access)
{
	bool is_said = access && !x->is_mirror, is_strict = is_said && access->is_strict;

	if (is_strict && x->scheme && strcmp(x->scheme, "http") == 0)
		return FAIL(ERR_INVALID, "hosts.toml of %s says http://, where nothing can be verified (--tls-verify)", x->host);
	x->is_insecure = !is_strict && (x->is_insecure || (is_said && access->is_insecure) || is_loopback(x->host) ||
					daemon_is_insecure(daemon, x->host));
	return NULL;
}

struct err *places_find(const struct ref *ref, const struct daemon_conf *daemon, const struct access *access,
			struct places *out)
{
	auto_places struct places p = { 0 };

	TRY(from_registries(ref, &p));
	if (!p.v.n)
		TRY(hosts_find(ref, &p));
	if (!p.v.n) {
		TRY(from_daemon(ref, daemon, &p));
		(void)places_add(&p, ref->domain, ref->path);
	}
	for (size_t i = 0; i < p.v.n; i++)
		TRY(judge(&p.v.p[i], daemon, access));
	*out = p;
	p = (struct places){ 0 };
	return NULL;
}

struct err *places_for_push(const struct places *p, const char *domain, const struct place **out_place)
{
	for (size_t i = 0; i < p->v.n; i++) {
		if (p->v.p[i].can_push) {
			*out_place = &p->v.p[i];
			return NULL;
		}
	}
	return FAIL(ERR_DENIED, "hosts.toml of %s names nobody who takes pushes (capabilities)", domain);
}
