/* shortname.c - the answers are remembered in a file of podman's: it and we ask only once. */
#include "image/shortname.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/toml.h"
#include "state/record.h"
#include "sys/sys.h"
#include <fcntl.h>

#define FILE_NAME      "short-name-aliases.conf"
#define FILE_MAX_BYTES (1u << 20)

void shortname_fini(struct shortname *s)
{
	text_list_free(s->names);
	*s = (struct shortname){ 0 };
}

/* The directories, outermost first, owned; NULL without a home. */
static char **cache_dirs(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	auto_free char *base = cache && *cache ? xstrdup(cache)
			       : getuid() == 0 ? xstrdup("/var/cache")
			       : home && *home ? xasprintf("%s/.cache", home)
					       : NULL;
	auto_free char *own = base ? xasprintf("%s/containers", base) : NULL;
	char **list = NULL;

	if (base)
		text_list_add(&list, base);
	if (own)
		text_list_add(&list, own);
	return list;
}

/* {"name": "registry/repository"}, empty without a file; owned. */
static struct err *load_answers(json_t **out_aliases)
{
	auto_list char **dirs = cache_dirs();
	auto_free char *path = dirs ? xasprintf("%s/" FILE_NAME, dirs[1]) : NULL, *body = NULL;
	auto_fd int fd = dirs ? sys_open_dir(dirs[1]) : -1;
	auto_json json_t *doc = NULL;
	struct err *e = NULL;
	size_t n = 0;

	*out_aliases = json_object();
	if (fd < 0)
		return NULL;
	e = record_read(fd, FILE_NAME, &body, &n);
	if (e && (e->kind == ERR_NOT_FOUND || e->kind == ERR_DENIED)) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	TRY(toml_parse(sv_from(body, n), path, FILE_MAX_BYTES, &doc));
	if (json_is_object(json_object_get(doc, "aliases")))
		(void)json_object_update(*out_aliases, json_object_get(doc, "aliases"));
	return NULL;
}

/* How much of text is the repository: what stands before tag and digest. */
static size_t repository_length(const char *text)
{
	size_t n = strcspn(text, "@");
	const char *slash = memrchr(text, '/', n), *from = slash ? slash : text;
	const char *colon = memchr(from, ':', n - (size_t)(from - text));

	return colon ? (size_t)(colon - text) : n;
}

/* repository and the tag and digest of text, as a full reference. */
static struct err *add_name(struct shortname *s, const char *repository, const char *ends)
{
	auto_free char *text = xasprintf("%s%s", repository, ends), *full = NULL;
	CLEANUP(ref_fini) struct ref r = { 0 };

	TRY(ref_parse(text, &r));
	full = ref_full(&r);
	text_list_add(&s->names, full);
	return NULL;
}

static struct err *from_files(const char *text, struct shortname *s)
{
	auto_registries struct registries conf = { 0 };
	auto_free char *repository = xstrndup(text, repository_length(text));
	const char *ends = text + strlen(repository), *alias;
	auto_json json_t *answers = NULL;

	TRY(registries_load(&conf));
	TRY(load_answers(&answers));
	alias = json_string_value(json_object_get(answers, repository));
	if (!alias || !*alias)
		alias = json_string_value(json_object_get(conf.aliases, repository));
	if (alias)
		return add_name(s, alias, ends);
	for (char **registry = conf.search; registry && *registry; registry++) {
		auto_free char *name = xasprintf("%s/%s", *registry, repository);
		struct err *e = ref_is_short(name) ? FAIL(ERR_INVALID, "\"%.200s\" is no registry", *registry)
						   : add_name(s, name, ends);

		if (e)
			return err_ctx(e, "unqualified-search-registries of registries.conf");
	}
	s->is_open = conf.mode != SHORT_DISABLED && text_list_len(s->names) > 1;
	s->is_strict = s->is_open && conf.mode == SHORT_ENFORCING;
	return NULL;
}

struct err *shortname_resolve(const char *text, struct shortname *out)
{
	auto_shortname struct shortname s = { 0 };
	CLEANUP(ref_fini) struct ref r = { 0 };

	TRY(ref_parse(text, &r));
	if (ref_is_short(text))
		TRY(from_files(text, &s));
	if (!s.names)
		TRY(add_name(&s, text, ""));
	*out = s;
	s = (struct shortname){ 0 };
	return NULL;
}

static void print_aliases(const json_t *aliases, struct buf *out)
{
	const char *name;
	json_t *value;

	buf_str(out, "[aliases]\n");
	json_object_foreach((json_t *)(uintptr_t)aliases, name, value)
	    /* references have no character that TOML escapes */
	    buf_fmt(out, "  \"%s\" = \"%s\"\n", name, json_string_value(value));
}

struct err *shortname_remember(const char *text, const char *full)
{
	auto_free char *name = xstrndup(text, repository_length(text)),
		       *repository = xstrndup(full, repository_length(full));
	auto_list char **dirs = cache_dirs();
	auto_buf struct buf body = BUF(FILE_MAX_BYTES);
	auto_json json_t *answers = NULL;
	auto_fd int fd = -1;

	TRY(load_answers(&answers));
	(void)json_object_set_new(answers, name, json_string(repository));
	print_aliases(answers, &body);
	TRY(buf_check(&body, FILE_NAME));
	for (char **dir = dirs; dir && *dir; dir++) {
		int r = sys_mkdir(AT_FDCWD, *dir, 0700);

		if (r < 0 && r != -EEXIST)
			return FAIL_OS(-r, "create %s", *dir);
	}
	fd = dirs ? sys_open_dir(dirs[1]) : -ENOENT;
	if (fd < 0)
		return FAIL_OS(-fd, "remember what %s is", name);
	return record_write(fd, FILE_NAME, body.data, body.n);
}
