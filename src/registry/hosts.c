#include "registry/hosts.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/toml.h"
#include "http/url.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <string.h>

#define FILE_MAX_BYTES (1u << 20)

struct hosts {
	const struct ref *ref;
	struct places *places;
	char *dir, *path; /* of the file */
};

/* A string or a list of strings; each made absolute below dir when dir is given. Owned list, NULL when
 * absent. */
static struct err *texts(const struct hosts *h, const json_t *v, const char *name, bool is_file,
			 char ***out_list)
{
	auto_json json_t *one = NULL;

	if (json_is_string(v)) {
		one = json_pack("[O]", v);
		v = one;
	}
	for (size_t i = 0; i < json_array_size(v); i++) {
		const char *text = json_string_value(json_array_get(v, i));
		auto_free char *full =
		    text && is_file && *text != '/' ? xasprintf("%s/%s", h->dir, text) : NULL;

		if (!text)
			return FAIL(ERR_INVALID, "%s: %s is not text", h->path, name);
		text_list_add(out_list, full ? full : text);
	}
	return v && !json_is_array(v) ? FAIL(ERR_INVALID, "%s: %s is not text or a list of it", h->path, name)
				      : NULL;
}

static struct err *read_capabilities(const struct hosts *h, const json_t *conf, struct place *x)
{
	auto_list char **list = NULL;

	if (!json_object_get(conf, "capabilities"))
		return NULL;
	TRY(texts(h, json_object_get(conf, "capabilities"), "capabilities", false, &list));
	x->can_pull = x->can_resolve = x->can_push = false;
	for (char **word = list; word && *word; word++) {
		if (strcmp(*word, "pull") == 0)
			x->can_pull = true;
		else if (strcmp(*word, "resolve") == 0)
			x->can_resolve = true;
		else if (strcmp(*word, "push") == 0)
			x->can_push = true;
		else if (strcmp(*word, "dial") != 0) /* containerd's of old, without effect */
			return FAIL(ERR_INVALID, "%s: unknown capability \"%.40s\" (pull, resolve, push)",
				    h->path, *word);
	}
	return NULL;
}

/* "file" with both, or [["cert", "key"]]; we have one pair. */
static struct err *read_client(const struct hosts *h, const json_t *v, struct place *x)
{
	auto_list char **files = NULL;

	if (json_is_array(json_array_get(v, 0)))
		v = json_array_get(v, 0);
	TRY(texts(h, v, "client", true, &files));
	if (!files)
		return NULL;
	x->cert = xstrdup(files[0]);
	x->key = xstrdup(files[1] ? files[1] : files[0]);
	return NULL;
}

static struct err *read_headers(const struct hosts *h, const json_t *v, struct place *x)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)v, name, value)
	{
		auto_list char **list = NULL;

		TRY(texts(h, value, "header", false, &list));
		for (char **text = list; text && *text; text++) {
			auto_free char *line = xasprintf("%s: %s", name, *text);

			if (strpbrk(line, "\r\n") || strchr(name, ':') || !*name)
				return FAIL(ERR_INVALID, "%s: bad header \"%.60s\"", h->path, name);
			text_list_add(&x->headers, line);
		}
	}
	return NULL;
}

/* What is not known has no effect, and is told of: a newer containerd may have it. */
static void tell_unknown(const struct hosts *h, const char *url, const json_t *conf)
{
	static const char *const known[] = { "capabilities", "ca",     "client",
					     "skip_verify",  "header", "override_path",
					     "dial_timeout", "server", "host" };
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)conf, name, value)
	{
		size_t i = 0;

		while (i < LEN(known) - (url ? 2 : 0) && strcmp(known[i], name) != 0)
			i++;
		if (i == LEN(known) - (url ? 2 : 0))
			log_warn("%s: %s%s\"%.100s\" is not known to hoy and has no effect", h->path,
				 url ? url : "", url ? ": " : "", name);
	}
}

static struct err *check_bool(const struct hosts *h, const json_t *conf, const char *name)
{
	const json_t *v = json_object_get(conf, name);

	return !v || json_is_boolean(v) ? NULL
					: FAIL(ERR_INVALID, "%s: %s is not true or false", h->path, name);
}

static struct err *read_options(const struct hosts *h, const json_t *conf, struct place *x)
{
	int64_t ns = 0;

	TRY(check_bool(h, conf, "skip_verify"));
	TRY(check_bool(h, conf, "override_path"));
	x->is_insecure = json_bool_at(conf, "skip_verify", false);
	if (*json_str_at(conf, "dial_timeout", "")) {
		struct err *e = num_parse_duration(sv_of(json_str_at(conf, "dial_timeout", "")), &ns);

		if (e)
			return err_ctx(e, "%s: dial_timeout", h->path);
		x->connect_ms = ns > 0 ? (unsigned)(ns / 1000000 > 600000 ? 600000 : ns / 1000000) : 0;
	}
	TRY(read_capabilities(h, conf, x));
	TRY(texts(h, json_object_get(conf, "ca"), "ca", true, &x->ca));
	TRY(read_client(h, json_object_get(conf, "client"), x));
	return read_headers(h, json_object_get(conf, "header"), x);
}

/* The path of the API below a host's URL: it ends in /v2, unless override_path says that it is whole. */
static char *root_of(const char *url, bool is_whole)
{
	const char *path = strstr(url, "://");
	auto_free char *text = NULL;
	size_t n;

	path = path ? strchr(path + 3, '/') : NULL;
	n = path ? strcspn(path, "?#") : 0;
	while (n && path[n - 1] == '/')
		n--;
	text = xstrndup(path ? path : "", n);
	if (is_whole || (n >= 3 && strcmp(text + n - 3, "/v2") == 0))
		return xstrdup(text);
	return xasprintf("%s/v2", text);
}

/* text: "https://host", or without a scheme. */
static struct err *add_host(const struct hosts *h, const char *text, const json_t *conf, bool is_server)
{
	auto_free char *full = strstr(text, "://") ? xstrdup(text) : xasprintf("https://%s", text),
		       *host = NULL;
	auto_url struct url u = { 0 };
	struct err *e = url_parse(full, &u);
	struct place *x;
	bool is_self;

	if (e)
		return err_ctx(e, "%s", h->path);
	host = u.has_port ? xasprintf("%s:%s", u.host, u.port) : xstrdup(u.host);
	is_self = strcmp(host, h->ref->domain) == 0 ||
		  (strcmp(h->ref->domain, "docker.io") == 0 && strcmp(host, "registry-1.docker.io") == 0);
	x = places_add(h->places, is_self ? h->ref->domain : host, h->ref->path);
	x->scheme = strstr(text, "://") ? xstrdup(u.scheme) : NULL;
	free(x->root);
	x->root = root_of(full, json_bool_at(conf, "override_path", false));
	x->ns = is_self ? NULL : xstrdup(h->ref->domain);
	x->is_mirror = !is_server;
	TRY(read_options(h, conf, x));
	if (is_server) /* the last resort */
		x->can_pull = x->can_resolve = true;
	return NULL;
}

static struct err *read_doc(const struct hosts *h, const json_t *doc)
{
	const char *server = json_str_at(doc, "server", h->ref->domain), *url;
	json_t *conf;

	tell_unknown(h, NULL, doc);
	json_object_foreach(json_object_get(doc, "host"), url, conf)
	{
		tell_unknown(h, url, conf);
		TRY(add_host(h, url, conf, false));
	}
	return add_host(h, server, doc, true);
}

static struct err *read_file(struct hosts *h, bool *out_found)
{
	auto_fd int fd = sys_open(h->path, O_RDONLY, 0);
	auto_buf struct buf text = BUF(FILE_MAX_BYTES + 1);
	auto_json json_t *doc = NULL;
	ssize_t n;

	*out_found = fd >= 0;
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -EACCES)
		return NULL;
	if (fd < 0 || !buf_room(&text, FILE_MAX_BYTES))
		return FAIL_OS(fd < 0 ? -fd : ENOMEM, "%s", h->path);
	n = sys_read_full(fd, text.data, FILE_MAX_BYTES);
	if (n < 0)
		return FAIL_OS((int)-n, "%s", h->path);
	TRY(toml_parse(sv_from(text.data, (size_t)n), h->path, FILE_MAX_BYTES - 1, &doc));
	return read_doc(h, doc);
}

/* The names a registry's directory may have; owned list. */
static char **directory_names(const char *domain)
{
	const char *colon = strrchr(domain, ':');
	char **list = NULL;

	text_list_add(&list, domain);
	if (colon && !strchr(colon, ']')) {
		auto_free char *other = xasprintf("%.*s_%s_", (int)(colon - domain), domain, colon + 1);

		text_list_add(&list, other);
	}
	text_list_add(&list, "_default");
	return list;
}

struct err *hosts_find(const struct ref *ref, struct places *p)
{
	const char *home = getenv("HOME");
	auto_free char *own = home && *home ? xasprintf("%s/.config/containerd/certs.d", home) : NULL;
	const char *const bases[] = { own, "/etc/containerd/certs.d", "/etc/docker/certs.d" };
	auto_list char **names = directory_names(ref->domain);

	for (size_t i = 0; i < LEN(bases); i++) {
		for (char **name = names; bases[i] && *name; name++) {
			auto_free char *dir = xasprintf("%s/%s", bases[i], *name),
				       *path = xasprintf("%s/hosts.toml", dir);
			struct hosts h = { .ref = ref, .places = p, .dir = dir, .path = path };
			bool is_found;

			TRY(read_file(&h, &is_found));
			if (is_found)
				return NULL;
		}
	}
	return NULL;
}
