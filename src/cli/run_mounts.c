/* run_mounts.c - --volume, --mount, --tmpfs, --volumes-from in the create body's words (docker:
 * opts/mount.go). */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "cli/run.h"
#include <limits.h>
#include <stdio.h>
#include <strings.h>

/* ---- --mount ---- */

struct field {
	struct sv key, value;
	const char *whole; /* for messages */
	bool has_value;
};

static FALLIBLE bad(const struct field *f, const char *why)
{
	return FAIL(ERR_INVALID, "invalid argument \"%s\" for \"--mount\" flag: %s", f->whole, why);
}

static FALLIBLE bad_value(const struct field *f)
{
	return FAIL(ERR_INVALID,
		    "invalid argument \"%s\" for \"--mount\" flag: invalid value for " SV_FMT ": " SV_FMT,
		    f->whole, SV_ARG(f->key), SV_ARG(f->value));
}

static json_t *part(json_t *m, const char *key)
{
	json_t *o = json_object_get(m, key);

	if (!o) {
		o = json_object();
		(void)json_object_set_new(m, key, o);
	}
	return o;
}

static void put(json_t *o, const char *key, struct sv value)
{
	(void)json_object_set_new(o, key, json_stringn(value.n ? value.p : "", value.n));
}

static FALLIBLE put_flag(json_t *o, const char *key, const struct field *f)
{
	bool yes = !f->has_value || sv_is(f->value, "true") || sv_is(f->value, "1");

	if (!yes && !sv_is(f->value, "false") && !sv_is(f->value, "0"))
		return bad_value(f);
	(void)json_object_set_new(o, key, json_boolean(yes));
	return NULL;
}

static FALLIBLE put_pair(json_t *o, const struct field *f)
{
	struct sv value = f->value, key = sv_cut(&value, '=');
	auto_free char *name = xstrndup(key.p ? key.p : "", key.n);

	if (!key.n)
		return bad_value(f);
	put(o, name, value);
	return NULL;
}

/* ./dir and . are relative to where the user stands. Owned, or NULL when it is to be taken as it is. */
static char *absolute(struct sv path)
{
	auto_free char *text = xstrndup(path.p ? path.p : "", path.n);
	char cwd[PATH_MAX];
	char *real;

	if (text[0] != '.' || (text[1] && text[1] != '/' && text[1] != '.'))
		return NULL;
	real = realpath(text, NULL);
	if (!real && getcwd(cwd, sizeof cwd))
		real = xasprintf("%s/%s", cwd, text);
	return real;
}

static FALLIBLE put_source(json_t *m, const struct field *f)
{
	auto_free char *real = absolute(f->value);

	put(m, "Source", real ? sv_of(real) : f->value);
	return NULL;
}

/* What it means depends on the other fields; seen to when all are read. */
static FALLIBLE put_recursive(json_t *m, const struct field *f)
{
	json_t *bind = part(m, "BindOptions");

	if (sv_is(f->value, "disabled"))
		(void)json_object_set_new(bind, "NonRecursive", json_true());
	else if (sv_is(f->value, "writable"))
		(void)json_object_set_new(bind, "ReadOnlyNonRecursive", json_true());
	else if (sv_is(f->value, "readonly"))
		(void)json_object_set_new(bind, "ReadOnlyForceRecursive", json_true());
	else if (!sv_is(f->value, "enabled"))
		return bad_value(f);
	return NULL;
}

static FALLIBLE put_number(json_t *m, const struct field *f)
{
	bool is_size = sv_is(f->key, "tmpfs-size");
	struct err *err;
	uint64_t n;

	err = is_size ? num_parse_bytes(f->value, &n) : num_parse(f->value, 8, 0, 07777, &n);
	if (err) {
		err_free(err);
		return bad_value(f);
	}
	(void)json_object_set_new(part(m, "TmpfsOptions"), is_size ? "SizeBytes" : "Mode",
				  json_integer((json_int_t)n));
	return NULL;
}

static FALLIBLE put_create_source(json_t *m, const struct field *f)
{
	return put_flag(part(m, "BindOptions"), "CreateMountpoint", f);
}

/* One row each: what the key sets, and how. kind: s text, f flag, p pair, or a function. */
static const struct key {
	const char *name, *in, *as;
	char kind;
	struct err *(*set)(json_t *m, const struct field *f);
} keys[] = {
	{ "type", NULL, "Type", 's', NULL },
	{ "source", NULL, NULL, 0, put_source },
	{ "src", NULL, NULL, 0, put_source },
	{ "target", NULL, "Target", 's', NULL },
	{ "dst", NULL, "Target", 's', NULL },
	{ "destination", NULL, "Target", 's', NULL },
	{ "readonly", NULL, "ReadOnly", 'f', NULL },
	{ "ro", NULL, "ReadOnly", 'f', NULL },
	{ "consistency", NULL, "Consistency", 's', NULL },
	{ "bind-propagation", "BindOptions", "Propagation", 's', NULL },
	{ "bind-nonrecursive", "BindOptions", "NonRecursive", 'f', NULL },
	{ "bind-recursive", NULL, NULL, 0, put_recursive },
	{ "bind-create-src", NULL, NULL, 'f', put_create_source },
	{ "volume-subpath", "VolumeOptions", "Subpath", 's', NULL },
	{ "volume-nocopy", "VolumeOptions", "NoCopy", 'f', NULL },
	{ "volume-label", "VolumeOptions", "Labels", 'p', NULL },
	{ "volume-driver", "VolumeOptions", "Driver", 's', NULL },
	{ "volume-opt", "VolumeOptions", "Options", 'p', NULL },
	{ "image-subpath", "ImageOptions", "Subpath", 's', NULL },
	{ "tmpfs-size", NULL, NULL, 0, put_number },
	{ "tmpfs-mode", NULL, NULL, 0, put_number },
	{ "U", NULL, "HoyChown", 'f', NULL }, /* podman's */
	{ "chown", NULL, "HoyChown", 'f', NULL },
	{ "idmap", NULL, "HoyIdmap", 's', NULL },
};

static FALLIBLE read_field(json_t *m, const struct field *f)
{
	size_t i = 0;
	json_t *o;

	while (i < LEN(keys) && (f->key.n != strlen(keys[i].name) || strncasecmp(f->key.p, keys[i].name, f->key.n) != 0))
		i++;
	if (i == LEN(keys))
		return FAIL(ERR_INVALID,
			    "invalid argument \"%s\" for \"--mount\" flag: unexpected key '" SV_FMT "'",
			    f->whole, SV_ARG(f->key));
	if (!f->has_value && keys[i].kind != 'f' && !sv_is(f->key, "idmap"))
		return FAIL(ERR_INVALID,
			    "invalid argument \"%s\" for \"--mount\" flag: invalid field '" SV_FMT
			    "' must be a key=value pair",
			    f->whole, SV_ARG(f->key));
	if (keys[i].set)
		return keys[i].set(m, f);
	o = keys[i].in ? part(m, keys[i].in) : m;
	if (keys[i].kind == 'p')
		return put_pair(part(o, keys[i].as), f);
	if (keys[i].kind == 'f')
		return put_flag(o, keys[i].as, f);
	put(o, keys[i].as, f->value);
	return NULL;
}

/* docker's rules between fields; Driver and Options move to where the API has them. */
static FALLIBLE check_mount(json_t *m, const struct field *f)
{
	static const char *const only[][2] = { { "BindOptions", "bind" },
					       { "VolumeOptions", "volume" },
					       { "ImageOptions", "image" },
					       { "TmpfsOptions", "tmpfs" } };
	json_t *bind = json_object_get(m, "BindOptions"), *volume = json_object_get(m, "VolumeOptions");
	const char *type = json_str_at(m, "Type", "");
	bool read_only = json_bool_at(m, "ReadOnly", false),
	     force = json_bool_at(bind, "ReadOnlyForceRecursive", false);

	for (size_t i = 0; i < LEN(only); i++)
		if (json_object_get(m, only[i][0]) && strcmp(type, only[i][1]) != 0)
			return FAIL(ERR_INVALID,
				    "invalid argument \"%s\" for \"--mount\" flag: cannot mix '%s-*' options "
				    "with mount type '%s'",
				    f->whole, only[i][1], type);
	if (!*json_str_at(m, "Target", ""))
		return bad(f, "target is required");
	if (force && !read_only)
		return bad(
		    f, "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction");
	if (force && strcmp(json_str_at(bind, "Propagation", ""), "rprivate") != 0)
		return bad(f, "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be "
			      "specified in conjunction");
	if (json_bool_at(bind, "ReadOnlyNonRecursive", false) && !read_only)
		return bad(
		    f, "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction");
	if (json_object_get(volume, "Driver") || json_object_get(volume, "Options")) {
		(void)json_object_set_new(volume, "DriverConfig",
					  json_pack("{s:s, s:O?}", "Name",
						    json_str_at(volume, "Driver", "local"), "Options",
						    json_object_get(volume, "Options")));
		(void)json_object_del(volume, "Driver");
		(void)json_object_del(volume, "Options");
	}
	return NULL;
}

/* The next field of a line of comma-separated values; one in "…" may have commas, "" in it is a quote. */
static FALLIBLE next_csv(struct sv *rest, const char *whole, char **out)
{
	auto_free char *text = xcalloc(1, rest->n + 1);
	bool quoted = rest->p[0] == '"', closed = !quoted;
	size_t n = 0, at = quoted;

	for (; at < rest->n && !(closed && rest->p[at] == ','); at++) {
		char c = rest->p[at];

		if (quoted && c == '"' && !closed && at + 1 < rest->n && rest->p[at + 1] == '"')
			at++;
		else if (quoted && c == '"' && !closed) {
			closed = true;
			continue;
		} else if (quoted && closed) {
			closed = false;
			break;
		}
		text[n++] = c;
	}
	if (!closed)
		return FAIL(ERR_INVALID,
			    "invalid argument \"%s\" for \"--mount\" flag: a \" is missing or out of place",
			    whole);
	*rest = sv_skip(*rest, at + 1);
	*out = TAKE(text);
	return NULL;
}

static FALLIBLE mount_spec(const char *text, json_t *list)
{
	json_t *m = json_pack("{s:s}", "Type", "volume");
	struct field f = { .whole = text };
	struct sv rest = sv_of(text);

	(void)json_array_append_new(list, m);
	while (rest.n) {
		auto_free char *field = NULL;

		TRY(next_csv(&rest, text, &field));
		f.value = sv_of(field);
		f.has_value = strchr(field, '=') != NULL;
		f.key = sv_cut(&f.value, '=');
		TRY(read_field(m, &f));
	}
	return check_mount(m, &f);
}

/* ---- --volume ---- */

/* ./dir is relative to where the user stands; a single path is an anonymous volume. */
static FALLIBLE volume_spec(const char *text, json_t *body, json_t *binds)
{
	const char *colon = strchr(text, ':');
	auto_free char *whole = NULL, *real = NULL;

	if (!colon) {
		if (text[0] != '/')
			return FAIL(ERR_INVALID,
				    "invalid volume specification: '%s': mount path must be absolute", text);
		(void)json_object_set_new(json_object_get(body, "Volumes"), text, json_object());
		return NULL;
	}
	real = absolute(sv_from(text, (size_t)(colon - text)));
	if (real)
		whole = xasprintf("%s%s", real, colon);
	(void)json_array_append_new(binds, json_string(whole ? whole : text));
	return NULL;
}

FALLIBLE run_mounts(const struct run_conf *c, json_t *body, json_t *host)
{
	json_t *binds = json_array(), *list = json_array(), *tmpfs = json_object();

	(void)json_object_set_new(host, "Binds", binds);
	(void)json_object_set_new(host, "Mounts", list);
	(void)json_object_set_new(host, "Tmpfs", tmpfs);
	(void)json_object_set_new(body, "Volumes", json_object());
	if (c->volumes_from)
		(void)json_object_set_new(host, "VolumesFrom", json_from_list(c->volumes_from));
	if (c->volume_driver)
		(void)json_object_set_new(host, "VolumeDriver", json_string(c->volume_driver));
	for (size_t i = 0; c->volume && c->volume[i]; i++)
		TRY(volume_spec(c->volume[i], body, binds));
	for (size_t i = 0; c->mount && c->mount[i]; i++)
		TRY(mount_spec(c->mount[i], list));
	for (size_t i = 0; c->tmpfs && c->tmpfs[i]; i++) {
		const char *colon = strchr(c->tmpfs[i], ':');
		auto_free char *dir =
		    xstrndup(c->tmpfs[i], colon ? (size_t)(colon - c->tmpfs[i]) : strlen(c->tmpfs[i]));

		(void)json_object_set_new(tmpfs, dir, json_string(colon ? colon + 1 : ""));
	}
	return NULL;
}
