/*
 * mounts.c - cache, tmpfs, bind and secret mounts; see mounts.h.
 *
 * What a bind shows is made into a layer first (found in the cache when it was there before): so .dockerignore holds, the key of
 * the step has what the step can read, and a step cannot reach the host's own files.
 */
#include "build/mounts.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/file.h>

enum { SECRET_MAX = 500 << 10 };

void run_mounts_fini(struct run_mounts *m)
{
	for (size_t i = 0; i < m->v.n; i++) {
		free(m->v.p[i].target);
		free(m->v.p[i].source);
		free(m->v.p[i].text);
		own_close(&m->v.p[i].lock_fd);
	}
	vec_fini(&m->v);
	text_list_free(m->env);
}

/* ---- the flag ---- */

enum opt_key { KEY_TYPE, KEY_TARGET, KEY_SOURCE, KEY_FROM, KEY_ID, KEY_SHARING, KEY_MODE, KEY_UID, KEY_GID, KEY_SIZE, KEY_ENV, KEYS };
struct mount_opts {
	char *text[KEYS]; /* NULL: not given */
	bool read_only, is_writable, is_required;
};

static void mount_opts_fini(struct mount_opts *o)
{
	for (size_t i = 0; i < KEYS; i++)
		free(o->text[i]);
}

static bool is_true(const char *value)
{
	return !*value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
}

static FALLIBLE mount_option(struct mount_opts *o, const char *key, const char *value)
{
	static const struct {
		const char *name;
		enum opt_key key;
	} names[] = { { "type", KEY_TYPE },	{ "target", KEY_TARGET }, { "dst", KEY_TARGET }, { "destination", KEY_TARGET },
		      { "source", KEY_SOURCE }, { "src", KEY_SOURCE },	  { "from", KEY_FROM },	 { "id", KEY_ID },
		      { "sharing", KEY_SHARING }, { "mode", KEY_MODE },	  { "uid", KEY_UID },	 { "gid", KEY_GID },
		      { "env", KEY_ENV } };

	for (size_t i = 0; i < LEN(names); i++)
		if (strcmp(key, names[i].name) == 0) {
			free(o->text[names[i].key]);
			o->text[names[i].key] = xstrdup(value);
			return NULL;
		}
	if (strcmp(key, "ro") == 0 || strcmp(key, "readonly") == 0)
		o->read_only = is_true(value);
	else if (strcmp(key, "rw") == 0 || strcmp(key, "readwrite") == 0)
		o->is_writable = is_true(value);
	else if (strcmp(key, "required") == 0)
		o->is_required = is_true(value);
	else
		return FAIL(ERR_UNSUPPORTED, "RUN --mount: option \"%s\" is not supported", key);
	return NULL;
}

static FALLIBLE mount_parse(const struct stage *s, const struct at *at, const char *flag, struct mount_opts *out)
{
	struct sv rest = sv_of(flag);

	while (rest.n) {
		struct sv value = sv_cut(&rest, ','), key = sv_cut(&value, '=');
		auto_free char *k = xstrndup(key.p, key.n), *raw = xstrndup(value.p, value.n), *v = NULL;

		if (strcmp(k, "from") == 0 && strchr(raw, '$'))
			return FAIL(ERR_INVALID, "RUN --mount: from does not take variables");
		TRY(stage_expand(s, at, raw, &v));
		TRY(mount_option(out, k, v));
	}
	if (!out->text[KEY_TYPE])
		out->text[KEY_TYPE] = xstrdup("bind");
	return NULL;
}

static FALLIBLE owner_and_mode(const struct mount_opts *o, unsigned fallback, struct run_mount *m)
{
	uint64_t mode = fallback, uid = 0, gid = 0;

	if (o->text[KEY_MODE])
		TRY(num_parse(sv_of(o->text[KEY_MODE]), 8, 0, 07777, &mode));
	if (o->text[KEY_UID])
		TRY(num_parse(sv_of(o->text[KEY_UID]), 10, 0, UINT32_MAX - 1, &uid));
	if (o->text[KEY_GID])
		TRY(num_parse(sv_of(o->text[KEY_GID]), 10, 0, UINT32_MAX - 1, &gid));
	m->mode = (unsigned)mode;
	m->uid = (unsigned)uid;
	m->gid = (unsigned)gid;
	return NULL;
}

/* ---- cache ---- */

/* ROOT/cache/<digest of id>, made with the owner and mode asked for the first time. private is as locked: one after the other. */
static FALLIBLE cache_mount(struct stage *s, const struct mount_opts *o, struct run_mount *m)
{
	const char *sharing = o->text[KEY_SHARING] ? o->text[KEY_SHARING] : "shared", *root = engine_root(s->b->e);
	const char *id = o->text[KEY_ID] ? o->text[KEY_ID] : m->target;
	auto_fd int caches = -1;
	char name[DIGEST_MAX];
	int n;

	if (o->text[KEY_FROM] || o->text[KEY_SOURCE])
		return FAIL(ERR_UNSUPPORTED, "RUN --mount=type=cache: from and source are not supported");
	if (strcmp(sharing, "shared") != 0 && strcmp(sharing, "private") != 0 && strcmp(sharing, "locked") != 0)
		return FAIL(ERR_INVALID, "RUN --mount: unsupported sharing value \"%s\"", sharing);
	TRY(owner_and_mode(o, 0755, m));
	digest_of(id, strlen(id), name);
	n = sys_mkdir(engine_root_fd(s->b->e), "cache", 0710);
	if (n < 0 && n != -EEXIST)
		return FAIL_OS(-n, "make %s/cache", root);
	if ((caches = sys_open_beneath(engine_root_fd(s->b->e), "cache", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(-caches, "open %s/cache", root);
	n = sys_mkdir(caches, digest_hex(name), 0700);
	m->lock_fd = sys_openat(caches, digest_hex(name), O_RDONLY | O_DIRECTORY, 0);
	if (m->lock_fd < 0)
		return FAIL_OS(-m->lock_fd, "open the cache of %s", m->target);
	if (n == 0 && ((n = sys_fchown(m->lock_fd, m->uid, m->gid)) < 0 || (n = sys_fchmod(m->lock_fd, m->mode)) < 0))
		return FAIL_OS(-n, "set up the cache of %s", m->target);
	if ((n = sys_flock(m->lock_fd, strcmp(sharing, "shared") == 0 ? LOCK_SH : LOCK_EX)) < 0)
		return FAIL_OS(-n, "lock the cache of %s", m->target);
	m->source = xasprintf("%s/cache/%s", root, digest_hex(name));
	return NULL;
}

/* ---- bind ---- */

static FALLIBLE bind_mount(struct stage *s, const struct at *at, const struct mount_opts *o, struct run_mount *m)
{
	auto_free char *path = path_clean(sv_of(o->text[KEY_SOURCE] ? o->text[KEY_SOURCE] : ""));

	if (o->is_writable)
		return FAIL(ERR_UNSUPPORTED, "RUN --mount=type=bind: rw is not supported");
	m->read_only = true;
	return copy_for_mount(s, at, o->text[KEY_FROM], path, m);
}

/* ---- secret ---- */

/* The --secret of an id: its src or env; both NULL when there is none. Owned. */
static FALLIBLE find_secret(const struct build *b, const char *id, char **out_src, char **out_env)
{
	*out_src = *out_env = NULL;
	for (char *const *one = b->o->secrets; one && *one; one++) {
		auto_free char *name = NULL, *src = NULL, *env = NULL;
		struct sv rest = sv_of(*one);

		while (rest.n) {
			struct sv value = sv_cut(&rest, ','), key = sv_cut(&value, '=');
			char **slot = sv_is(key, "id") ? &name : sv_is(key, "src") || sv_is(key, "source") ? &src : sv_is(key, "env") ? &env : NULL;

			if (!slot && sv_is(key, "type") && (sv_is(value, "file") || sv_is(value, "env")))
				continue;
			if (!slot)
				return FAIL(ERR_INVALID, "--secret %s: unexpected key \"" SV_FMT "\"", *one, SV_ARG(key));
			free(*slot);
			*slot = xstrndup(value.p, value.n);
		}
		if (!name || strcmp(name, id) != 0)
			continue;
		if (!src && !env) /* as docker has it: a variable of that name, else a file */
			env = getenv(id) ? xstrdup(id) : NULL;
		*out_src = src || env ? TAKE(src) : xstrdup(id);
		*out_env = TAKE(env);
		return NULL;
	}
	return NULL;
}

static FALLIBLE read_secret(const char *src, char **out_text)
{
	auto_buf struct buf b = BUF(SECRET_MAX);
	auto_fd int fd = sys_open(src, O_RDONLY, 0);
	char chunk[4096];
	ssize_t n = 0;

	while (fd >= 0 && (n = sys_read(fd, chunk, sizeof chunk)) > 0)
		buf_add(&b, chunk, (size_t)n);
	if (fd < 0 || n < 0)
		return FAIL_OS(fd < 0 ? -fd : (int)-n, "read secret %s", src);
	TRY(buf_check(&b, "secret"));
	if (memchr(buf_text(&b), 0, b.n))
		return FAIL(ERR_UNSUPPORTED, "secret %s: NUL bytes are not supported", src);
	*out_text = buf_take(&b);
	return NULL;
}

static FALLIBLE secret_mount(struct stage *s, const struct mount_opts *o, struct run_mounts *out)
{
	const char *target = o->text[KEY_TARGET], *slash = target ? strrchr(target, '/') : NULL;
	const char *id = o->text[KEY_ID] ? o->text[KEY_ID] : slash ? slash + 1 : target;
	auto_free char *src = NULL, *env = NULL, *text = NULL;
	struct run_mount *m;

	if (!id || !*id)
		return FAIL(ERR_INVALID, "RUN --mount=type=secret: id is missing");
	TRY(find_secret(s->b, id, &src, &env));
	if (!src && !env)
		return o->is_required ? FAIL(ERR_NOT_FOUND, "secret %s: not found", id) : NULL;
	if (src)
		TRY(read_secret(src, &text));
	else
		text = xstrdup(getenv(env) ? getenv(env) : "");
	if (o->text[KEY_ENV]) {
		auto_free char *entry = xasprintf("%s=%s", o->text[KEY_ENV], text);

		text_env_set(&out->env, entry);
		if (!target)
			return NULL;
	}
	m = vec_push(&out->v);
	*m = (struct run_mount){ .lock_fd = -1, .read_only = true, .text = TAKE(text) };
	m->target = target ? path_join(stage_workdir(s), target) : xasprintf("/run/secrets/%s", id);
	return owner_and_mode(o, 0400, m);
}

FALLIBLE run_mount_add(struct stage *s, const struct at *at, const char *flag, struct run_mounts *out)
{
	CLEANUP(mount_opts_fini) struct mount_opts o = { 0 };
	const char *type;
	struct run_mount *m;

	TRY(mount_parse(s, at, flag, &o));
	type = o.text[KEY_TYPE];
	if (strcmp(type, "secret") == 0)
		return secret_mount(s, &o, out);
	if (strcmp(type, "cache") != 0 && strcmp(type, "tmpfs") != 0 && strcmp(type, "bind") != 0)
		return FAIL(ERR_UNSUPPORTED, "RUN --mount=type=%s is not supported", type);
	if (!o.text[KEY_TARGET])
		return FAIL(ERR_INVALID, "RUN --mount: target is missing");
	m = vec_push(&out->v);
	*m = (struct run_mount){ .target = path_join(stage_workdir(s), o.text[KEY_TARGET]), .lock_fd = -1,
				 .read_only = o.read_only };
	if (strcmp(m->target, "/") == 0)
		return FAIL(ERR_INVALID, "RUN --mount: target can not be /");
	if (strcmp(type, "bind") == 0)
		return bind_mount(s, at, &o, m);
	return strcmp(type, "cache") == 0 ? cache_mount(s, &o, m) : NULL;
}
