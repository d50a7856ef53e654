#include "base/mem.h"
#include "base/own.h"
#include "registry/client.h"
#include "registry/fault.h"
#include "registry/transfer.h"

/* "https://index.docker.io/v1/", "https://h:5000", "h:5000": the domain, owned. */
static char *domain_of(const char *server)
{
	struct sv s = sv_of(server);

	if (sv_starts(s, SV("https://")))
		s = sv_skip(s, 8);
	else if (sv_starts(s, SV("http://")))
		s = sv_skip(s, 7);
	s = sv_cut(&s, '/');
	return sv_is(s, "index.docker.io") || sv_is(s, "registry-1.docker.io") || s.n == 0
		   ? xstrdup("docker.io")
		   : xstrndup(s.p, s.n);
}

static struct err *file_of(const char *auth_file, char **out_file)
{
	if (!auth_file)
		return cred_file(out_file);
	*out_file = xstrdup(auth_file);
	return NULL;
}

/* A file that is not there yet has nothing. */
static struct err *load_stored(const char *auth_file, const char *file, const struct cred_for *who,
			       struct cred *out_cred)
{
	struct err *e = auth_file ? cred_load_file(auth_file, who, out_cred) : cred_load(file, who, out_cred);

	if (e && e->kind == ERR_NOT_FOUND) {
		err_free(e);
		return NULL;
	}
	return e;
}

struct err *transfer_login(struct report *report, const char *server, const struct access *access,
			   const struct daemon_conf *daemon)
{
	auto_free char *domain = domain_of(server), *file = NULL, *url = NULL;
	const struct cred_for who = { domain, NULL, report_ctx_is_cancelled, report };
	auto_cred struct cred stored = { 0 };
	struct access with = *access;
	struct ref ref = { .domain = domain, .path = (char[]){ "" } };
	struct registry_conf conf = { .report = report, .access = &with, .daemon = daemon };
	auto_places struct places places = { 0 };
	auto_registry struct registry *r = NULL;
	auto_response struct http_response answer = { 0 };

	TRY(file_of(access->auth_file, &file));
	if (!access->cred) {
		TRY(load_stored(access->auth_file, file, &who, &stored));
		if (cred_is_empty(&stored))
			return FAIL(ERR_NOT_FOUND, "nothing is stored for %s", domain);
		with.cred = &stored;
	} else if (!*access->cred->user || strchr(access->cred->user, ':')) {
		return FAIL(ERR_INVALID, "bad user name: it must not be empty or contain ':'");
	}
	TRY(places_find(&ref, daemon, access, &places));
	conf.place = &places.v.p[places.v.n - 1];
	TRY(registry_open(&conf, &r));
	url = registry_root_url(r);
	TRY(registry_call(r, NULL, (struct http_request){ .method = "GET", .url = url, .max_body = 1 << 20 },
			  &answer));
	if (answer.status == 401)
		return err_ctx(fault_of(&answer), "login to %s: incorrect user name or password", domain);
	if (answer.status != 200)
		return err_ctx(fault_of(&answer), "login to %s", domain);
	return access->cred ? cred_store(file, domain, access->cred) : NULL;
}

struct err *transfer_who(const char *server, const char *auth_file, char **out_user)
{
	auto_free char *domain = domain_of(server), *file = NULL;
	const struct cred_for who = { .domain = domain };
	auto_cred struct cred stored = { 0 };

	TRY(file_of(auth_file, &file));
	TRY(load_stored(auth_file, file, &who, &stored));
	if (cred_is_empty(&stored))
		return FAIL(ERR_NOT_FOUND, "not logged in to %s", domain);
	*out_user = xstrdup(stored.user ? stored.user : "<token>");
	return NULL;
}

struct err *transfer_logout(const char *server, const char *auth_file, bool *out_found)
{
	auto_free char *domain = server ? domain_of(server) : NULL, *file = NULL;

	TRY(file_of(auth_file, &file));
	return cred_erase(file, domain, out_found);
}
