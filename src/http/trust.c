/*
 * trust.c - curl takes one file and one directory of authorities. The directory is the host's own; files that
 * the caller names become one with the system's, in memory.
 */
#include "http/trust.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <strings.h>

#define DOCKER_DIR "/etc/docker/certs.d"
#define CA_MAX     (4u << 20)

struct trust {
	struct http_trust own;
	bool is_insecure;
	char **dirs; /* owned list */
	int ca_fd;   /* the system's authorities and own.ca, once it is needed; or -1 */
};

static const char *const system_files[] = { "/etc/ssl/certs/ca-certificates.crt",
					    "/etc/pki/tls/certs/ca-bundle.crt" };

/* Where hosts have directories with certificates; owned list. */
static char **host_dirs(const char *only)
{
	const char *home = getenv("HOME");
	auto_free char *own = home && *home ? xasprintf("%s/.config/containers/certs.d", home) : NULL;
	char **list = NULL;

	if (own && !only)
		text_list_add(&list, own);
	if (!only)
		text_list_add(&list, "/etc/containers/certs.d");
	text_list_add(&list, only ? only : DOCKER_DIR);
	if (!only)
		text_list_add(&list, "/etc/containerd/certs.d");
	return list;
}

struct trust *trust_new(const struct http_conf *conf)
{
	struct trust *t = xnew(struct trust);

	*t = (struct trust){ .own = conf->trust,
			     .is_insecure = conf->is_insecure,
			     .dirs = host_dirs(conf->certs_dir),
			     .ca_fd = -1 };
	return t;
}

void trust_free(struct trust *t)
{
	if (!t)
		return;
	text_list_free(t->dirs);
	own_close(&t->ca_fd);
	free(t);
}

static char *host_dir(const char *base, const struct url *u)
{
	return u->has_port ? xasprintf("%s/%s:%s", base, u->host, u->port)
			   : xasprintf("%s/%s", base, u->host);
}

char *trust_place(const struct trust *t, const struct url *u)
{
	return host_dir(text_list_len(t->dirs) == 1 ? t->dirs[0] : DOCKER_DIR, u);
}

struct client_pair {
	char *cert, *key;
	bool has_ca;
};

/* Of several, the one whose name sorts first: directories have no order. */
static void keep_first(char **slot, const char *name)
{
	if (*slot && strcmp(*slot, name) <= 0)
		return;
	free(*slot);
	*slot = xstrdup(name);
}

static void pair_fini(struct client_pair *p)
{
	free(p->cert);
	free(p->key);
}

/* x.cert and x.key belong together; half of it is a mistake that the server would only answer by hanging up. */
static struct err *check_pair(const struct client_pair *p, const char *path)
{
	size_t n = p->cert ? strlen(p->cert) - strlen(".cert") : 0;

	if (p->cert && (!p->key || strncmp(p->cert, p->key, n) != 0 || strcmp(p->key + n, ".key") != 0))
		return FAIL(ERR_INVALID, "%s: missing key %.*s.key for client certificate %s (CA certificates end in .crt)", path, (int)n,
			    p->cert, p->cert);
	if (p->key && !p->cert)
		return FAIL(ERR_INVALID, "%s: missing client certificate for key %s (its name ends in .cert)", path, p->key);
	return NULL;
}

static int see_cert_file(void *ctx, const char *name)
{
	struct client_pair *pair = ctx;

	if (sv_ends(sv_of(name), SV(".cert")))
		keep_first(&pair->cert, name);
	if (sv_ends(sv_of(name), SV(".key")))
		keep_first(&pair->key, name);
	pair->has_ca = pair->has_ca || sv_ends(sv_of(name), SV(".crt"));
	return 0;
}

/* Authorities and the client's pair of one directory, which must be there or may be missing; GnuTLS loads every
 * certificate there and skips what is none. */
static struct err *apply_dir(CURL *curl, const char *path, bool must, bool with_pair, bool *out_has_some)
{
	CLEANUP(pair_fini) struct client_pair pair = { 0 };
	auto_fd int fd = sys_open_dir(path);

	*out_has_some = false;
	if (fd < 0)
		return must ? FAIL_OS(-fd, "certificates in %s", path) : NULL;
	(void)sys_each_entry(fd, see_cert_file, &pair);
	TRY(check_pair(&pair, path));
	if (pair.has_ca)
		(void)curl_easy_setopt(curl, CURLOPT_CAPATH, path);
	if (pair.cert && with_pair) {
		auto_free char *cert = xasprintf("%s/%s", path, pair.cert),
			       *key = xasprintf("%s/%s", path, pair.key);

		(void)curl_easy_setopt(curl, CURLOPT_SSLCERT, cert);
		(void)curl_easy_setopt(curl, CURLOPT_SSLKEY, key);
	}
	*out_has_some = pair.has_ca || pair.cert;
	return NULL;
}

static const char *named_bundle(void)
{
	const char *file = getenv("SSL_CERT_FILE");

	if (!file || !*file)
		file = getenv("CURL_CA_BUNDLE");
	return file && *file ? file : NULL;
}

static struct err *append(int out, const char *path, bool must)
{
	auto_buf struct buf text = BUF(CA_MAX + 1);
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	ssize_t n;

	if (fd < 0)
		return must ? FAIL_OS(-fd, "authorities in %s", path) : NULL;
	if (!buf_room(&text, CA_MAX))
		return FAIL_OS(ENOMEM, "authorities in %s", path);
	n = sys_read_full(fd, text.data, CA_MAX);
	if (n == CA_MAX)
		return FAIL(ERR_LIMIT, "authorities in %s: larger than %u bytes", path, CA_MAX);
	text.n = n > 0 ? (size_t)n : 0;
	buf_ch(&text, '\n');
	if (n >= 0)
		n = sys_write_all(out, text.data, text.n);
	return n < 0 ? FAIL_OS((int)-n, "authorities in %s", path) : NULL;
}

static struct err *join_authorities(struct trust *t)
{
	auto_fd int fd = sys_memfd("authorities");
	const char *named = named_bundle();

	if (fd < 0)
		return FAIL_OS(-fd, "authorities");
	if (named)
		TRY(append(fd, named, true));
	for (size_t i = 0; !named && i < LEN(system_files); i++)
		TRY(append(fd, system_files[i], false));
	for (char *const *file = t->own.ca; *file; file++)
		TRY(append(fd, *file, true));
	t->ca_fd = fd;
	fd = -1;
	return NULL;
}

static bool is_own(const struct trust *t, const struct url *u)
{
	auto_free char *host = u->has_port ? xasprintf("%s:%s", u->host, u->port) : xstrdup(u->host);

	return t->own.host && strcasecmp(host, t->own.host) == 0;
}

/* The first directory that says something of the host. */
static struct err *apply_dirs(struct trust *t, CURL *curl, const struct url *u)
{
	bool has_some = false;

	if (t->own.dir && is_own(t, u))
		return apply_dir(curl, t->own.dir, true, true, &has_some);
	for (char **base = t->dirs; *base && !has_some; base++) {
		auto_free char *path = host_dir(*base, u);

		TRY(apply_dir(curl, path, false, true, &has_some));
	}
	return t->own.dir && !has_some ? apply_dir(curl, t->own.dir, true, false, &has_some) : NULL;
}

/* What the caller says of its host. */
static struct err *apply_own(struct trust *t, CURL *curl, const struct url *u)
{
	auto_free char *path = NULL;

	if (!is_own(t, u))
		return NULL;
	if (t->own.ca && !t->is_insecure) {
		if (t->ca_fd < 0)
			TRY(join_authorities(t));
		path = xasprintf("/proc/self/fd/%d", t->ca_fd);
		(void)curl_easy_setopt(curl, CURLOPT_CAINFO, path);
	}
	if (t->own.cert) {
		(void)curl_easy_setopt(curl, CURLOPT_SSLCERT, t->own.cert);
		(void)curl_easy_setopt(curl, CURLOPT_SSLKEY, t->own.key);
	}
	return NULL;
}

struct err *trust_apply(struct trust *t, CURL *curl, const struct url *u)
{
	const char *file = named_bundle(), *dir = getenv("SSL_CERT_DIR");

	if (file)
		(void)curl_easy_setopt(curl, CURLOPT_PROXY_CAINFO, file);
	if (dir && *dir)
		(void)curl_easy_setopt(curl, CURLOPT_PROXY_CAPATH, dir);
	if (t->is_insecure) {
		(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
		(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
		(void)curl_easy_setopt(curl, CURLOPT_CAINFO, NULL); /* not read then: 10 ms */
		(void)curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	} else {
		if (file)
			(void)curl_easy_setopt(curl, CURLOPT_CAINFO, file);
		if (dir && *dir)
			(void)curl_easy_setopt(curl, CURLOPT_CAPATH, dir);
	}
	TRY(apply_dirs(t, curl, u));
	return apply_own(t, curl, u);
}
