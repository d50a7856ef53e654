#include "image/registries.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/toml.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <string.h>

#define FILE_MAX_BYTES (1u << 20)
#define SYSTEM_FILE    "/etc/containers/registries.conf"

void registries_fini(struct registries *r)
{
	json_decref(r->list);
	json_decref(r->aliases);
	text_list_free(r->search);
	text_list_free(r->helpers);
	text_list_free(r->ignored);
	*r = (struct registries){ 0 };
}

/* What may stand where. */
struct member {
	const char *name;
	enum { TEXT, BOOL, TEXTS, TABLE, TABLES } type;
};
static const struct member top_members[] = { { "unqualified-search-registries", TEXTS },
					     { "short-name-mode", TEXT },
					     { "credential-helpers", TEXTS },
					     { "aliases", TABLE },
					     { "registry", TABLES },
					     { 0 } },
			   registry_members[] = { { "prefix", TEXT },
						  { "location", TEXT },
						  { "insecure", BOOL },
						  { "blocked", BOOL },
						  { "mirror-by-digest-only", BOOL },
						  { "mirror", TABLES },
						  { 0 } },
			   mirror_members[] = { { "location", TEXT },
						{ "insecure", BOOL },
						{ "pull-from-mirror", TEXT },
						{ 0 } };

static bool is_list_of(const json_t *v, bool of_tables)
{
	for (size_t i = 0; i < json_array_size(v); i++)
		if (of_tables ? !json_is_object(json_array_get(v, i)) : !json_is_string(json_array_get(v, i)))
			return false;
	return json_is_array(v);
}

static struct err *check_type(const struct member *m, const json_t *v, const char *path, const char *where)
{
	static const char *const wanted[] = { "text", "true or false", "a list of texts", "a table",
					      "a list of tables ([[...]])" };
	bool is_right = m->type == TEXT    ? json_is_string(v)
			: m->type == BOOL  ? json_is_boolean(v)
			: m->type == TABLE ? json_is_object(v)
					   : is_list_of(v, m->type == TABLES);

	return is_right ? NULL
			: FAIL(ERR_INVALID, "%s: %s%s is not %s", path, where, m->name, wanted[m->type]);
}

/* where: "" or "mirror of x: ". Notes what is not known, which has no effect. */
static struct err *check_members(struct registries *r, const json_t *table, const struct member *members,
				 const char *path, const char *where)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)table, name, v)
	{
		const struct member *m = members;

		while (m->name && strcmp(m->name, name) != 0)
			m++;
		if (m->name) {
			TRY(check_type(m, v, path, where));
		} else {
			auto_free char *line = xasprintf(
			    "%s: %s\"%.100s\" is not known to hoy and has no effect", path, where, name);

			text_list_add(&r->ignored, line);
		}
	}
	return NULL;
}

/* "host/" is written by people for "host". */
static void trim_slashes(json_t *table, const char *name)
{
	const char *text = json_str_at(table, name, "");
	size_t n = strlen(text);

	while (n > 1 && text[n - 1] == '/')
		n--;
	if (text[n])
		(void)json_object_set_new(table, name, json_stringn(text, n));
}

static struct err *check_mirrors(struct registries *r, const json_t *entry, const char *prefix,
				 const char *path)
{
	auto_free char *where = xasprintf("mirror of %s: ", prefix);
	size_t i;
	json_t *mirror;

	json_array_foreach(json_object_get(entry, "mirror"), i, mirror)
	{
		const char *when = json_str_at(mirror, "pull-from-mirror", "all");

		TRY(check_members(r, mirror, mirror_members, path, where));
		trim_slashes(mirror, "location");
		if (!*json_str_at(mirror, "location", ""))
			return FAIL(ERR_INVALID, "%s: a mirror of %s has no location", path, prefix);
		if (strcmp(when, "all") != 0 && strcmp(when, "digest-only") != 0 &&
		    strcmp(when, "tag-only") != 0)
			return FAIL(ERR_INVALID,
				    "%s: pull-from-mirror of %s is not all, digest-only or tag-only", path,
				    prefix);
		if (json_object_get(mirror, "pull-from-mirror") &&
		    json_bool_at(entry, "mirror-by-digest-only", false))
			return FAIL(ERR_INVALID,
				    "%s: %s has both mirror-by-digest-only and a mirror with pull-from-mirror", path,
				    prefix);
	}
	return NULL;
}

/* A star that means nothing would let through what somebody wants blocked. */
static struct err *check_prefix(const char *prefix, const char *path)
{
	bool is_wild = strncmp(prefix, "*.", 2) == 0;

	if (strchr(prefix + is_wild, '*') || (is_wild && (strchr(prefix, '/') || !prefix[2])))
		return FAIL(ERR_INVALID, "%s: bad prefix \"%.100s\": a star stands for hosts only (*.example.com)", path, prefix);
	return NULL;
}

/* Every [[registry]] says what it is about. */
static struct err *complete(struct registries *r, json_t *entry, const char *path)
{
	auto_free char *where = xasprintf("registry %s: ", json_str_at(entry, "prefix", json_str_at(entry, "location", "")));
	const char *location, *prefix;

	TRY(check_members(r, entry, registry_members, path, where));
	trim_slashes(entry, "prefix");
	trim_slashes(entry, "location");
	location = json_str_at(entry, "location", "");
	prefix = json_str_at(entry, "prefix", location);
	if (!*prefix || (!*location && strncmp(prefix, "*.", 2) != 0))
		return FAIL(ERR_INVALID, "%s: a [[registry]] has no location", path);
	TRY(check_prefix(prefix, path));
	TRY(check_mirrors(r, entry, prefix, path));
	(void)json_object_set_new(entry, "prefix", json_string(prefix));
	(void)json_object_set_new(entry, "from", json_string(path));
	return NULL;
}

/* A later file replaces what an earlier one has; of two in one file the first counts, as for podman. */
static void add_entry(struct registries *r, json_t *entry)
{
	const char *prefix = json_str_at(entry, "prefix", ""), *from = json_str_at(entry, "from", "");
	size_t i;
	json_t *old;

	json_array_foreach(r->list, i, old)
	{
		if (strcmp(json_str_at(old, "prefix", ""), prefix) != 0)
			continue;
		if (strcmp(json_str_at(old, "from", ""), from) == 0) {
			auto_free char *line = xasprintf("%s: the second [[registry]] for %s has no effect", from, prefix);

			text_list_add(&r->ignored, line);
		} else {
			(void)json_array_set(r->list, i, entry);
		}
		return;
	}
	(void)json_array_append(r->list, entry);
}

/* An alias is a short name without a tag that stands for a whole one without a tag; "" takes it back. */
static struct err *add_aliases(struct registries *r, const json_t *aliases, const char *path)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)aliases, name, value)
	{
		const char *text = json_string_value(value);
		CLEANUP(ref_fini) struct ref key = { 0 }, full = { 0 };
		struct err *e = ref_parse(name, &key);

		if (!e && (!ref_is_short(name) || strpbrk(name, ":@")))
			e = FAIL(ERR_INVALID, "it has a registry or a tag");
		if (!e && !text)
			e = FAIL(ERR_INVALID, "it does not stand for text");
		if (!e && *text)
			e = ref_parse(text, &full);
		if (!e && *text &&
		    (ref_is_short(text) || full.digest || strchr(text + strlen(full.domain), ':')))
			e = FAIL(ERR_INVALID, "\"%.200s\" is not REGISTRY/REPOSITORY", text);
		if (e)
			return err_ctx(e, "%s: alias \"%.200s\"", path, name);
		if (*text)
			(void)json_object_set(r->aliases, name, value);
		else
			(void)json_object_del(r->aliases, name);
	}
	return NULL;
}

static struct err *read_mode(struct registries *r, const json_t *doc, const char *path)
{
	static const char *const names[] = { [SHORT_PERMISSIVE] = "permissive",
					     [SHORT_ENFORCING] = "enforcing",
					     [SHORT_DISABLED] = "disabled" };
	const char *text = json_str_at(doc, "short-name-mode", "");

	for (size_t i = 0; *text && i < LEN(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			r->mode = (enum short_mode)i;
			return NULL;
		}
	}
	return *text ? FAIL(ERR_INVALID,
			    "%s: short-name-mode \"%.40s\" is not enforcing, permissive or disabled", path,
			    text)
		     : NULL;
}

/* Lists of a later file replace those of an earlier one. */
static struct err *replace_list(const json_t *doc, const char *name, char ***list)
{
	char **found = NULL;

	TRY(json_list_at(doc, name, &found));
	if (json_object_get(doc, name)) {
		text_list_free(*list);
		*list = found;
	}
	return NULL;
}

static struct err *add_doc(struct registries *r, const json_t *doc, const char *path)
{
	json_t *entry;
	size_t i;

	if (json_object_get(doc, "registries"))
		return FAIL(ERR_UNSUPPORTED,
			    "%s has the form of version 1: write it in version 2 ([[registry]], "
			    "unqualified-search-registries)",
			    path);
	TRY(check_members(r, doc, top_members, path, ""));
	TRY(replace_list(doc, "unqualified-search-registries", &r->search));
	TRY(replace_list(doc, "credential-helpers", &r->helpers));
	TRY(read_mode(r, doc, path));
	TRY(add_aliases(r, json_object_get(doc, "aliases"), path));
	json_array_foreach(json_object_get(doc, "registry"), i, entry)
	{
		TRY(complete(r, entry, path));
		add_entry(r, entry);
	}
	return NULL;
}

/* *out_found may be NULL. */
static struct err *add_file(struct registries *r, const char *path, bool *out_found)
{
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	auto_buf struct buf text = BUF(FILE_MAX_BYTES + 1);
	auto_json json_t *doc = NULL;
	ssize_t n;

	if (out_found)
		*out_found = fd >= 0;
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -EACCES)
		return NULL;
	if (fd < 0 || !buf_room(&text, FILE_MAX_BYTES))
		return FAIL_OS(fd < 0 ? -fd : ENOMEM, "%s", path);
	n = sys_read_full(fd, text.data, FILE_MAX_BYTES);
	if (n < 0)
		return FAIL_OS((int)-n, "%s", path);
	TRY(toml_parse(sv_from(text.data, (size_t)n), path, FILE_MAX_BYTES - 1, &doc));
	return add_doc(r, doc, path);
}

static struct err *add_directory(struct registries *r, const char *path)
{
	auto_fd int fd = sys_open_dir(path);
	auto_list char **names = NULL;

	if (fd < 0 || fs_list(fd, &names) < 0)
		return NULL;
	for (char **name = names; *name; name++) {
		auto_free char *file = xasprintf("%s/%s", path, *name);

		if (sv_ends(sv_of(*name), SV(".conf")))
			TRY(add_file(r, file, NULL));
	}
	return NULL;
}

static struct err *load(struct registries *r)
{
	const char *named = getenv("CONTAINERS_REGISTRIES_CONF"), *home = getenv("HOME");
	auto_free char *own = home && *home ? xasprintf("%s/.config/containers/registries.conf", home) : NULL;
	auto_free char *own_dir = own ? xasprintf("%s.d", own) : NULL;
	bool is_own = false;

	if (named && *named) {
		auto_free char *dir = xasprintf("%s.d", named);

		TRY(add_file(r, named, NULL));
		return add_directory(r, dir);
	}
	if (own)
		TRY(add_file(r, own, &is_own));
	if (!is_own)
		TRY(add_file(r, SYSTEM_FILE, NULL));
	TRY(add_directory(r, SYSTEM_FILE ".d"));
	return own_dir ? add_directory(r, own_dir) : NULL;
}

struct err *registries_load(struct registries *out)
{
	auto_registries struct registries r = { .list = json_array(), .aliases = json_object() };

	TRY(load(&r));
	*out = r;
	r = (struct registries){ 0 };
	return NULL;
}

/* How many bytes of the name "host/a/b:tag@digest" the prefix takes; 0: it does not fit. */
static size_t fits(const char *prefix, const char *name)
{
	size_t n = strlen(prefix), host = strcspn(name, "/");

	if (strncmp(prefix, "*.", 2) == 0) { /* any host below, at any port unless it has one */
		size_t end = strchr(prefix, ':') ? host : strcspn(name, ":/");

		return end > n - 1 && strncmp(name + end - (n - 1), prefix + 1, n - 1) == 0 ? end : 0;
	}
	if (strncmp(prefix, name, n) != 0)
		return 0;
	return name[n] == '\0' || strchr("/:@", name[n]) ? n : 0;
}

const json_t *registries_match(const struct registries *r, const struct ref *ref)
{
	auto_free char *name = ref_full(ref);
	const json_t *best = NULL;
	size_t i, best_n = 0;
	json_t *entry;

	json_array_foreach(r->list, i, entry)
	{
		const char *prefix = json_str_at(entry, "prefix", "");
		size_t n = strlen(prefix);

		if (fits(prefix, name) && n > best_n) {
			best = entry;
			best_n = n;
		}
	}
	return best;
}

char *registries_rewrite(const struct ref *ref, const char *prefix, const char *location)
{
	char *name = xasprintf("%s/%s", ref->domain, ref->path), *full;
	auto_free char *owned = name;
	size_t n = fits(prefix, name);

	if (!location || !*location)
		return xstrdup(name);
	/* a prefix with a tag or digest names exactly this image */
	full = xasprintf("%s%s", location, n && n <= strlen(name) ? name + n : "");
	return full;
}
