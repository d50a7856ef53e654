/*
 * cred.c - docker's credential file. Secrets never stand in messages: a broken entry is named by its key
 * only.
 */
#include "registry/cred.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "codec/enc.h"
#include "codec/json.h"
#include "image/registries.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#define FILE_MAX_BYTES   (1u << 20)
#define HELPER_MAX_BYTES (1u << 20)
#define HELPER_NS        INT64_C(60000000000)
#define HELPER_LOOK_MS   100 /* so often it is looked whether somebody still wants its answer */
#define HUB_KEY          "https://index.docker.io/v1/"

void cred_fini(struct cred *c)
{
	char *secrets[] = { c->user, c->password, c->identity_token, c->registry_token };

	for (size_t i = 0; i < LEN(secrets); i++) {
		if (secrets[i])
			explicit_bzero(secrets[i], strlen(secrets[i]));
		free(secrets[i]);
	}
	*c = (struct cred){ 0 };
}

bool cred_is_empty(const struct cred *c)
{
	return !c->user && !c->identity_token && !c->registry_token;
}

const char *cred_key(const char *domain)
{
	static const char *const hub[] = { "docker.io", "index.docker.io", "registry-1.docker.io" };

	for (size_t i = 0; i < LEN(hub); i++)
		if (strcmp(domain, hub[i]) == 0)
			return HUB_KEY;
	return domain;
}

struct err *cred_file(char **out_path)
{
	const char *config = getenv("DOCKER_CONFIG"), *home = getenv("HOME");

	if (config && *config)
		*out_path = xasprintf("%s/config.json", config);
	else if (home && *home)
		*out_path = xasprintf("%s/.docker/config.json", home);
	else
		return FAIL(ERR_INVALID, "no place for credentials: neither DOCKER_CONFIG nor HOME is set");
	return NULL;
}

/* An absent file is an empty document. */
static struct err *read_file(const char *path, json_t **out_doc)
{
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	auto_json json_t *doc = NULL;
	struct stat st = { 0 };
	const json_t *auths;
	int r;

	if (fd < 0 && fd != -ENOENT && fd != -ENOTDIR)
		return FAIL_OS(-fd, "%s", path);
	if (fd >= 0 && (r = sys_fstat(fd, &st)) < 0)
		return FAIL_OS(-r, "%s", path);
	if (st.st_size == 0) {
		*out_doc = json_object();
		return NULL;
	}
	TRY(json_read(fd, path, FILE_MAX_BYTES, &doc));
	if (!json_is_object(doc))
		return FAIL(ERR_INVALID, "%s: not an object", path);
	auths = json_object_get(doc, "auths");
	if (auths && !json_is_object(auths) && !json_is_null(auths))
		return FAIL(ERR_INVALID, "%s: \"auths\" is not an object", path);
	*out_doc = TAKE(doc);
	return NULL;
}

static struct err *write_file(const char *path, const json_t *doc)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	auto_free char *dir = slash ? xstrndup(path, (size_t)(slash - path) + (slash == path)) : xstrdup("."), *tmp = NULL;
	auto_buf struct buf text = BUF(2 * FILE_MAX_BYTES);
	auto_fd int dir_fd = -1, fd = -1;
	int r;

	json_print_indent(doc, 8, &text);
	buf_ch(&text, '\n');
	TRY(buf_check(&text, path));
	r = sys_mkdir(AT_FDCWD, dir, 0700);
	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "create %s", dir);
	dir_fd = sys_open_dir(dir);
	if (dir_fd < 0)
		return FAIL_OS(-dir_fd, "%s", dir);
	tmp = xasprintf("%s.%d-%lld", name, (int)getpid(), (long long)time_monotonic_ns());
	fd = sys_openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return FAIL_OS(-fd, "create %s/%s", dir, tmp);
	if ((r = sys_write_all(fd, text.data, text.n)) < 0 || (r = sys_fsync(fd)) < 0 ||
	    (r = sys_rename(dir_fd, tmp, name)) < 0) {
		(void)sys_unlink(dir_fd, tmp);
		return FAIL_OS(-r, "write %s", path);
	}
	if ((r = sys_fsync(dir_fd)) < 0)
		return FAIL_OS(-r, "sync %s", dir);
	return NULL;
}

/* "https://h:1/v1/" and "h:1" name the same registry. */
static struct sv host_of_key(const char *key)
{
	struct sv s = sv_of(key);

	if (sv_starts(s, SV("https://")))
		s = sv_skip(s, 8);
	else if (sv_starts(s, SV("http://")))
		s = sv_skip(s, 7);
	return sv_cut(&s, '/');
}

/* The member of auths for the domain: by its own key, else by any spelling. *out_key borrowed. */
static json_t *find_auth(json_t *doc, const char *domain, const char **out_key)
{
	json_t *auths = json_object_get(doc, "auths"), *entry;
	const char *want = cred_key(domain), *key;

	entry = json_object_get(auths, want);
	if (entry) {
		*out_key = want;
		return entry;
	}
	json_object_foreach(auths, key, entry)
	{
		struct sv host = host_of_key(key);
		auto_free char *name = xstrndup(host.p, host.n);

		if (strcmp(cred_key(name), want) == 0) {
			*out_key = key;
			return entry;
		}
	}
	return NULL;
}

static char *dup_or_null(const char *s)
{
	return s && *s ? xstrdup(s) : NULL;
}

static struct err *decode_entry(const json_t *entry, const char *key, struct cred *out_cred)
{
	const char *auth = json_str_at(entry, "auth", "");
	auto_cred struct cred c = { 0 };
	auto_buf struct buf plain = BUF(64u << 10);
	struct sv user, rest;
	struct err *e;

	c.identity_token = dup_or_null(json_str_at(entry, "identitytoken", ""));
	c.registry_token = dup_or_null(json_str_at(entry, "registrytoken", ""));
	if (json_object_get(entry, "auth") && !json_is_string(json_object_get(entry, "auth")))
		return FAIL(ERR_INVALID, "credentials of %s: \"auth\" is not text", key);
	if (*auth) {
		e = enc_base64_decode(sv_of(auth), &plain);
		if (e)
			return err_ctx(e, "credentials of %s (log in again)", key);
		while (plain.n && plain.data[plain.n - 1] == '\0') /* docker drops them, too */
			plain.n--;
		rest = sv_from(buf_text(&plain), plain.n);
		if (!memchr(rest.p, ':', rest.n) || memchr(rest.p, '\0', rest.n))
			return FAIL(ERR_INVALID, "credentials of %s: not user:password (log in again)", key);
		user = sv_cut(&rest, ':');
		c.user = xstrndup(user.p, user.n);
		c.password = xstrndup(rest.p, rest.n);
		explicit_bzero(plain.data, plain.n);
	} else if (*json_str_at(entry, "username", "")) {
		c.user = xstrdup(json_str_at(entry, "username", ""));
		c.password = xstrdup(json_str_at(entry, "password", ""));
	}
	*out_cred = c;
	c = (struct cred){ 0 };
	return NULL;
}

struct helper {
	const char *name;
	const struct cred_for *who;
	int fd, pid_fd; /* what it says; itself */
	int64_t until_ns;
};

/* Until it says something, has ended or may no longer think. */
static struct err *await_helper(const struct helper *h, bool *out_ended)
{
	struct pollfd p[] = { { .fd = h->fd, .events = POLLIN }, { .fd = h->pid_fd, .events = POLLIN } };

	while (sys_poll(p, 2, HELPER_LOOK_MS) <= 0) {
		if (time_monotonic_ns() > h->until_ns)
			return FAIL(ERR_TIMEOUT, "%s: no answer in a minute", h->name);
		if (h->who->is_cancelled && h->who->is_cancelled(h->who->ctx))
			return FAIL(ERR_CANCELLED, "%s: cancelled", h->name);
	}
	*out_ended = !p[0].revents; /* what it has started may keep the pipe */
	return NULL;
}

static struct err *read_helper(const struct helper *h, struct buf *out)
{
	for (bool ended = false;;) {
		char *room = buf_room(out, 4096);
		ssize_t n;

		if (!room)
			return FAIL(ERR_LIMIT, "%s: the answer is too long", h->name);
		TRY(await_helper(h, &ended));
		n = ended ? 0 : sys_read(h->fd, room, 4096);
		if (n <= 0)
			return NULL;
		out->n += (size_t)n;
		out->data[out->n] = '\0';
	}
}

/* Reads until the end, the limit or the time; then the helper must be gone. */
static struct err *collect_helper(const struct helper *h, struct buf *out, int *out_status)
{
	struct err *e = read_helper(h, out);

	if (e)
		(void)sys_pid_fd_kill(h->pid_fd, SIGKILL);
	*out_status = sys_pid_fd_wait(h->pid_fd, false, NULL);
	return e;
}

/* docker-credential-<helper> <verb>, with input on its stdin. */
static struct err *run_helper(const char *helper, const char *verb, const char *input,
			      const struct cred_for *who, struct buf *out, int *out_status)
{
	auto_free char *name = xasprintf("docker-credential-%s", helper);
	char *argv[] = { name, (char *)(uintptr_t)verb, NULL };
	auto_fd int in_fd = sys_memfd("credential"), read_fd = -1, write_fd = -1, pid_fd = -1;
	int pipe_fds[2], r;

	if (!*helper || strchr(helper, '/'))
		return FAIL(ERR_INVALID, "bad credential helper name \"%s\"", helper);
	if (in_fd < 0)
		return FAIL_OS(-in_fd, "%s", name);
	if ((r = sys_write_all(in_fd, input, strlen(input))) < 0 ||
	    (r = (int)sys_lseek(in_fd, 0, SEEK_SET)) < 0 || (r = sys_pipe(pipe_fds)) < 0)
		return FAIL_OS(-r, "%s", name);
	read_fd = pipe_fds[0];
	write_fd = pipe_fds[1];
	int fds[] = { in_fd, write_fd, 2 };
	struct sys_spawn s = { .path = name, .argv = argv, .fds = fds, .n_fds = 3 };

	r = sys_spawn_run(&s, &pid_fd);
	if (r == -ENOENT)
		return FAIL(ERR_INVALID,
			    "credential helper %s is not in PATH (install it, or remove it from config.json, "
			    "auth.json or "
			    "registries.conf)",
			    name);
	if (r < 0)
		return FAIL_OS(-r, "%s", name);
	own_close(&write_fd);
	write_fd = -1;
	return collect_helper(&(struct helper){ name, who, read_fd, pid_fd, time_monotonic_ns() + HELPER_NS },
			      out, out_status);
}

/* The helper in charge of a registry, or NULL; borrowed. An empty one in credHelpers: the file itself, not credsStore. */
static const char *helper_of(const json_t *doc, const char *domain)
{
	const json_t *helpers = json_object_get(doc, "credHelpers");
	const char *own = json_string_value(json_object_get(helpers, cred_key(domain)));

	if (!own)
		own = json_string_value(json_object_get(helpers, domain));
	if (!own)
		own = json_string_value(json_object_get(doc, "credsStore"));
	return own && *own ? own : NULL;
}

/* What a helper that failed printed: by the protocol its message, on standard output. */
static struct err *helper_failed(const char *helper, const char *verb, int status, const struct buf *out)
{
	auto_buf struct buf text = BUF(512);

	for (const char *p = buf_text(out); *p && text.n < 300; p++)
		buf_ch(&text, (unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f ? ' ' : *p);
	while (text.n && text.data[text.n - 1] == ' ')
		text.data[--text.n] = '\0';
	return FAIL(ERR_INVALID, "docker-credential-%s %s failed with status %d%s%s", helper, verb, status,
		    text.n ? ": " : "", buf_text(&text));
}

/* key: as whoever stored it called the registry. */
static struct err *ask_helper(const char *helper, const char *key, const struct cred_for *who,
			      struct cred *out_cred)
{
	auto_buf struct buf out = BUF(HELPER_MAX_BYTES);
	auto_json json_t *doc = NULL;
	const char *user, *secret;
	int status = 0;

	TRY(run_helper(helper, "get", key, who, &out, &status));
	if (status != 0) {
		if (strstr(buf_text(&out), "credentials not found"))
			return NULL;
		return helper_failed(helper, "get", status, &out);
	}
	TRY(json_parse(sv_from(buf_text(&out), out.n), "answer of the credential helper", HELPER_MAX_BYTES,
		       &doc));
	if (!json_is_object(doc))
		return FAIL(ERR_INVALID, "docker-credential-%s: the answer is not an object", helper);
	user = json_str_at(doc, "Username", "");
	secret = json_str_at(doc, "Secret", "");
	explicit_bzero(out.data, out.n);
	if (strcmp(user, "<token>") == 0) {
		out_cred->identity_token = xstrdup(secret);
	} else if (*user) {
		out_cred->user = xstrdup(user);
		out_cred->password = xstrdup(secret);
	}
	return NULL;
}

static struct err *load_docker(const char *path, const struct cred_for *who, struct cred *c)
{
	auto_json json_t *doc = NULL;
	const char *helper, *key;
	json_t *entry;

	TRY(read_file(path, &doc));
	helper = helper_of(doc, who->domain);
	if (helper)
		TRY(ask_helper(helper, cred_key(who->domain), who, c));
	if (!c->user && !c->identity_token && (entry = find_auth(doc, who->domain, &key)))
		return decode_entry(entry, key, c);
	return NULL;
}

/* The entry of the longest "domain/a/b" that is a key; then that of the domain in any spelling. */
static json_t *find_namespace(json_t *doc, const char *domain, const char *repository, const char **out_key)
{
	json_t *auths = json_object_get(doc, "auths");
	auto_free char *name = xasprintf("%s/%s", domain, repository ? repository : "");

	for (char *end; (end = strrchr(name, '/')); *end = '\0') {
		json_t *entry = json_object_get(auths, name);

		if (entry) {
			*out_key = json_object_iter_key(json_object_iter_at(auths, name));
			return entry;
		}
	}
	return find_auth(doc, domain, out_key);
}

static struct err *load_doc(json_t *doc, const struct cred_for *who, struct cred *c)
{
	const char *helper = helper_of(doc, who->domain), *key = NULL;
	json_t *entry;

	if (helper)
		TRY(ask_helper(helper, cred_key(who->domain), who, c));
	if (!c->user && !c->identity_token &&
	    (entry = find_namespace(doc, who->domain, who->repository, &key)))
		return decode_entry(entry, key, c);
	return NULL;
}

struct err *cred_load_file(const char *path, const struct cred_for *who, struct cred *out_cred)
{
	auto_cred struct cred c = { 0 };
	auto_json json_t *doc = NULL;
	auto_fd int fd = sys_open(path, O_RDONLY, 0); /* read_file takes a missing one for an empty one */

	if (fd < 0)
		return FAIL_OS(-fd, "%s", path);
	TRY(read_file(path, &doc));
	TRY(load_doc(doc, who, &c));
	*out_cred = c;
	c = (struct cred){ 0 };
	return NULL;
}

static struct err *load_containers(const struct cred_for *who, struct cred *c)
{
	const char *file = getenv("REGISTRY_AUTH_FILE"), *run = getenv("XDG_RUNTIME_DIR"),
		   *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");
	char *paths[] = { file && *file ? xstrdup(file) : NULL,
			  run && *run ? xasprintf("%s/containers/auth.json", run) : NULL,
			  xasprintf("/run/containers/%u/auth.json", (unsigned)getuid()),
			  config && *config ? xasprintf("%s/containers/auth.json", config)
			  : home && *home   ? xasprintf("%s/.config/containers/auth.json", home)
					    : NULL };
	struct err *e = NULL;

	for (size_t i = 0; i < LEN(paths); i++) {
		auto_free char *path = paths[i];
		auto_json json_t *doc = NULL;

		if (!path || e || c->user || c->identity_token)
			continue;
		e = read_file(path, &doc);
		if (!e)
			e = load_doc(doc, who, c);
	}
	return e;
}

/* registries.conf's credential-helpers are asked in order; the files of podman are one of them. */
static struct err *load_helpers(const struct cred_for *who, struct cred *c)
{
	auto_registries struct registries conf = { 0 };

	TRY(registries_load(&conf));
	if (!conf.helpers)
		return load_containers(who, c);
	for (char **helper = conf.helpers; *helper && !c->user && !c->identity_token; helper++) {
		if (strcmp(*helper, "containers-auth.json") == 0)
			TRY(load_containers(who, c));
		else
			TRY(ask_helper(*helper, who->domain, who, c));
	}
	return NULL;
}

struct err *cred_load(const char *path, const struct cred_for *who, struct cred *out_cred)
{
	auto_cred struct cred c = { 0 };

	if (path)
		TRY(load_docker(path, who, &c));
	if (cred_is_empty(&c))
		TRY(load_helpers(who, &c));
	*out_cred = c;
	c = (struct cred){ 0 };
	return NULL;
}

/* Storing and forgetting are not broken off. */
static const struct cred_for nobody;

static struct err *store_by_helper(const char *helper, const char *domain, const struct cred *c)
{
	auto_buf struct buf in = BUF(FILE_MAX_BYTES), out = BUF(HELPER_MAX_BYTES);
	auto_json json_t *doc = json_pack("{s:s, s:s, s:s}", "ServerURL", cred_key(domain), "Username",
					  c->identity_token ? "<token>" : c->user, "Secret",
					  c->identity_token ? c->identity_token : c->password);
	int status = 0;

	if (!doc)
		return FAIL(ERR_INVALID, "credentials are not UTF-8");
	json_print(doc, &in);
	TRY(run_helper(helper, "store", buf_text(&in), &nobody, &out, &status));
	explicit_bzero(in.data, in.n);
	return status ? helper_failed(helper, "store", status, &out) : NULL;
}

static json_t *encode_entry(const struct cred *c)
{
	auto_buf struct buf plain = BUF(64u << 10), text = BUF(128u << 10);
	json_t *entry = json_object();

	if (c->user) {
		buf_fmt(&plain, "%s:%s", c->user, c->identity_token ? "" : c->password);
		enc_base64(plain.data, plain.n, &text);
		explicit_bzero(plain.data, plain.n);
		(void)json_object_set_new(entry, "auth", json_string(buf_text(&text)));
	}
	if (c->identity_token)
		(void)json_object_set_new(entry, "identitytoken", json_string(c->identity_token));
	return entry;
}

struct err *cred_store(const char *path, const char *domain, const struct cred *c)
{
	auto_json json_t *doc = NULL, *entry = NULL;
	const char *helper, *key;
	json_t *auths;

	TRY(read_file(path, &doc));
	helper = helper_of(doc, domain);
	if (helper) {
		TRY(store_by_helper(helper, domain, c));
		entry = json_object();
	} else {
		entry = encode_entry(c);
	}
	auths = json_object_get(doc, "auths");
	if (!json_is_object(auths)) {
		(void)json_object_set_new(doc, "auths", json_object());
		auths = json_object_get(doc, "auths");
	}
	if (!find_auth(doc, domain, &key))
		key = cred_key(domain);
	(void)json_object_set(auths, key, entry);
	return write_file(path, doc);
}

/* The entry of one registry, and what its helper has. */
static struct err *erase_one(json_t *doc, const char *domain, const char *key)
{
	auto_buf struct buf out = BUF(HELPER_MAX_BYTES);
	const char *helper = helper_of(doc, domain);
	int status = 0;

	if (helper)
		TRY(run_helper(helper, "erase", cred_key(domain), &nobody, &out, &status));
	(void)json_object_del(json_object_get(doc, "auths"), key);
	return NULL;
}

struct err *cred_erase(const char *path, const char *domain, bool *out_found)
{
	auto_json json_t *doc = NULL;
	const char *key = NULL;
	bool is_found = false;
	json_t *auths;

	TRY(read_file(path, &doc));
	auths = json_object_get(doc, "auths");
	while (domain ? find_auth(doc, domain, &key) != NULL : (key = json_object_iter_key(json_object_iter(auths))) != NULL) {
		struct sv host = host_of_key(key);
		auto_free char *name = xstrndup(host.p, host.n);

		TRY(erase_one(doc, domain ? domain : name, key));
		is_found = true;
	}
	if (is_found)
		TRY(write_file(path, doc));
	*out_found = is_found;
	return NULL;
}
