#include "registry/registries.h"
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
	text_list_free(r->search);
	*r = (struct registries){ 0 };
}

/* Every [[registry]] says what it is about. */
static struct err *complete(json_t *entry, const char *path)
{
	const char *location = json_str_at(entry, "location", ""),
		   *prefix = json_str_at(entry, "prefix", location);
	size_t i;
	json_t *mirror;

	if (!*prefix || (!*location && strncmp(prefix, "*.", 2) != 0))
		return FAIL(ERR_INVALID, "%s: a [[registry]] has no location", path);
	json_array_foreach(json_object_get(entry, "mirror"), i, mirror)
	{
		const char *when = json_str_at(mirror, "pull-from-mirror", "all");

		if (!*json_str_at(mirror, "location", ""))
			return FAIL(ERR_INVALID, "%s: a mirror of %s has no location", path, prefix);
		if (strcmp(when, "all") != 0 && strcmp(when, "digest-only") != 0 &&
		    strcmp(when, "tag-only") != 0)
			return FAIL(ERR_INVALID,
				    "%s: pull-from-mirror of %s is not all, digest-only or tag-only", path,
				    prefix);
	}
	(void)json_object_set_new(entry, "prefix", json_string(prefix));
	(void)json_object_set_new(entry, "from", json_string(path));
	return NULL;
}

static void add_entry(struct registries *r, json_t *entry)
{
	size_t i;
	json_t *old;

	json_array_foreach(r->list, i, old)
	{
		if (strcmp(json_str_at(old, "prefix", ""), json_str_at(entry, "prefix", "")) == 0) {
			(void)json_array_set(r->list, i, entry);
			return;
		}
	}
	(void)json_array_append(r->list, entry);
}

/* *out_found may be NULL. */
static struct err *add_file(struct registries *r, const char *path, bool *out_found)
{
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	auto_buf struct buf text = BUF(FILE_MAX_BYTES + 1);
	auto_json json_t *doc = NULL;
	char **search = NULL;
	json_t *entry;
	ssize_t n;
	size_t i;

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
	if (json_object_get(doc, "registries"))
		return FAIL(ERR_UNSUPPORTED,
			    "%s has the form of version 1: write it in version 2 ([[registry]], "
			    "unqualified-search-registries)",
			    path);
	TRY(json_list_at(doc, "unqualified-search-registries", &search));
	if (search) {
		text_list_free(r->search);
		r->search = search;
	}
	json_array_foreach(json_object_get(doc, "registry"), i, entry)
	{
		TRY(complete(entry, path));
		add_entry(r, entry);
	}
	return NULL;
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
	auto_registries struct registries r = { .list = json_array() };

	TRY(load(&r));
	*out = r;
	r = (struct registries){ 0 };
	return NULL;
}

/* How many bytes of the name "host/a/b:tag@digest" the prefix takes; 0: it does not fit. */
static size_t fits(const char *prefix, const char *name)
{
	size_t n = strlen(prefix), host = strcspn(name, "/");

	if (strncmp(prefix, "*.", 2) == 0) /* any host below; nothing else than a host */
		return host > n - 1 && strncmp(name + host - (n - 1), prefix + 1, n - 1) == 0 ? host : 0;
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
