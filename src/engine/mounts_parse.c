/* mounts_parse.c - the ways to ask for a mount (docker: volume/mounts/linux_parser.go, opts/mount.go), read
 * and checked. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/mounts_want.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

void want_fini(struct want *w)
{
	free(w->source);
	free(w->target);
	free(w->subpath);
	free(w->mode);
	free(w->idmap);
	json_decref(w->options);
}

static void add_option(struct want *w, struct sv option)
{
	if (!w->options)
		w->options = json_array();
	(void)json_array_append_new(w->options, json_stringn(option.p, option.n));
}

/* Absolute, without double or trailing slashes; ".." refused. Owned. */
static FALLIBLE clean_target(const char *text, char **out)
{
	auto_free char *path = xcalloc(1, strlen(text) + 2);
	struct sv rest = sv_of(text);
	size_t n = 0;

	if (text[0] != '/')
		return FAIL(ERR_INVALID, "invalid mount config: mount path must be absolute: %s", text);
	while (rest.n) {
		struct sv part = sv_cut(&rest, '/');

		if (!part.n || sv_is(part, "."))
			continue;
		if (sv_is(part, ".."))
			return FAIL(ERR_INVALID, "invalid mount config: \"%s\" has \"..\" in it", text);
		path[n++] = '/';
		memcpy(path + n, part.p, part.n);
		n += part.n;
	}
	if (n == 0)
		return FAIL(ERR_INVALID, "invalid specification: destination can't be '/'");
	*out = TAKE(path);
	return NULL;
}

/* ---- modes of -v ---- */

enum group { G_ACCESS, G_LABEL, G_PROPAGATION, G_COPY, G_CONSISTENCY, G_DEPTH, G_OTHER };
static const struct {
	const char *name;
	enum group group; /* at most one of each but the last */
} modes[] = {
	{ "ro", G_ACCESS },
	{ "rw", G_ACCESS },
	{ "z", G_LABEL },
	{ "Z", G_LABEL },
	{ "private", G_PROPAGATION },
	{ "rprivate", G_PROPAGATION },
	{ "shared", G_PROPAGATION },
	{ "rshared", G_PROPAGATION },
	{ "slave", G_PROPAGATION },
	{ "rslave", G_PROPAGATION },
	{ "copy", G_COPY },
	{ "nocopy", G_COPY },
	{ "consistent", G_CONSISTENCY },
	{ "cached", G_CONSISTENCY },
	{ "delegated", G_CONSISTENCY },
	{ "default", G_CONSISTENCY },
	{ "bind", G_DEPTH },
	{ "rbind", G_DEPTH },
	{ "nosuid", G_OTHER },
	{ "suid", G_OTHER },
	{ "nodev", G_OTHER },
	{ "dev", G_OTHER },
	{ "noexec", G_OTHER },
	{ "exec", G_OTHER },
	{ "U", G_OTHER },
	{ "O", G_OTHER },
	{ "idmap", G_OTHER },
};

/*
 * docker does nothing for z and Z where SELinux is off, and so do we. Where it is on, our containers run
 * without a label of their own, so there is none that the files could be given.
 */
static FALLIBLE check_label(struct sv mode)
{
	struct stat st;

	if (sys_fstatat(AT_FDCWD, "/sys/fs/selinux/enforce", &st, 0) < 0)
		return NULL;
	return FAIL(ERR_UNSUPPORTED,
		    "mount option " SV_FMT
		    ": SELinux is on here and hoy labels no files; leave it out and set "
		    "container_file_t with chcon",
		    SV_ARG(mode));
}

static FALLIBLE apply_mode(struct want *w, size_t i, struct sv word)
{
	static const char *const yes[] = { "ro", "nocopy", "bind", "U", "O" };
	bool *const flags[] = { &w->read_only, &w->no_copy, &w->is_flat, &w->want_chown, &w->is_overlay };

	for (size_t f = 0; f < LEN(yes); f++)
		if (sv_is(word, yes[f]))
			*flags[f] = true;
	if (modes[i].group == G_PROPAGATION)
		w->propagation = modes[i].name;
	if (modes[i].group == G_LABEL)
		return check_label(word);
	if (sv_starts(word, SV("idmap")))
		w->idmap = word.n > 6 ? xstrndup(word.p + 6, word.n - 6) : xstrdup("");
	else if (modes[i].group == G_OTHER && word.n > 1)
		add_option(w, word);
	return NULL;
}

static FALLIBLE read_modes(struct want *w, struct sv text, const char *whole)
{
	struct sv rest = text;
	unsigned seen = 0;

	if (text.n)
		w->mode = xstrndup(text.p, text.n);
	if (sv_ends(text, SV(",")))
		return FAIL(ERR_INVALID, "invalid mode: " SV_FMT " (in \"%s\")", SV_ARG(text), whole);
	while (rest.n) {
		struct sv word = sv_cut(&rest, ','), name = word;
		size_t i = 0;

		if (sv_starts(word, SV("idmap=")))
			name = SV("idmap");
		while (i < LEN(modes) && !sv_is(name, modes[i].name))
			i++;
		if (i == LEN(modes) || (modes[i].group != G_OTHER && (seen >> modes[i].group & 1)))
			return FAIL(ERR_INVALID, "invalid mode: " SV_FMT " (in \"%s\")", SV_ARG(text), whole);
		seen |= 1u << modes[i].group;
		TRY(apply_mode(w, i, word));
	}
	return NULL;
}

/* ---- -v ---- */

FALLIBLE want_from_bind(const char *text, struct want *w)
{
	struct sv rest = sv_of(text), source = sv_cut(&rest, ':'), target = sv_cut(&rest, ':');
	auto_free char *raw = xstrndup(target.p ? target.p : "", target.n);

	if (!source.n || !target.n || memchr(rest.p ? rest.p : "", ':', rest.n))
		return FAIL(ERR_INVALID, "invalid volume specification: '%s'", text);
	w->source = xstrndup(source.p, source.n);
	w->type = source.p[0] == '/' ? "bind" : "volume";
	w->make_source = true;
	if (source.p[0] != '/' && source.n > 1 && !text_is_name(source)) /* one letter is too short, as volume_create says */
		return FAIL(ERR_INVALID,
			    "create %s: \"%s\" includes invalid characters for a local volume name, only "
			    "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" "
			    "are allowed. If you intended to pass a host directory, use absolute path",
			    w->source, w->source);
	TRY(clean_target(raw, &w->target));
	TRY(read_modes(w, rest, text));
	if (w->propagation && strcmp(w->type, "bind") != 0)
		return FAIL(ERR_INVALID, "invalid mode: " SV_FMT " (in \"%s\"): propagation is for binds",
			    SV_ARG(rest), text);
	return NULL;
}

FALLIBLE want_from_path(const char *target, struct want *w)
{
	w->type = "volume";
	return clean_target(target, &w->target);
}

FALLIBLE want_from_container(const char *text, char **out_container, bool *out_read_only)
{
	CLEANUP(want_fini) struct want w = { 0 };
	struct sv rest = sv_of(text), name = sv_cut(&rest, ':');

	if (!name.n)
		return FAIL(ERR_INVALID, "invalid volumes-from specification: '%s'", text);
	TRY(read_modes(&w, rest, text));
	if (w.propagation || w.is_flat || w.want_chown || w.is_overlay || w.idmap || w.options)
		return FAIL(ERR_INVALID, "invalid mode: " SV_FMT " (in \"%s\")", SV_ARG(rest), text);
	*out_read_only = w.read_only;
	*out_container = xstrndup(name.p, name.n);
	return NULL;
}

/* ---- tmpfs ---- */

/* What the kernel's tmpfs and every mount know, as docker lets through (and tmpcopyup, podman's). */
static bool is_tmpfs_option(struct sv o)
{
	static const char *const words[] = {
		"exec",     "noexec",     "dev",         "nodev",         "suid",    "nosuid",   "ro",
		"rw",       "sync",       "async",       "atime",         "noatime", "diratime", "nodiratime",
		"relatime", "norelatime", "strictatime", "nostrictatime", "mand",    "nomand",   "defaults",
		"bind",     "rbind",      "private",     "rprivate",      "shared",  "rshared",  "slave",
		"rslave",   "unbindable", "runbindable", "dirsync",       "remount", "tmpcopyup"
	};
	static const char *const keys[] = { "size=",      "mode=",      "uid=", "gid=",
					    "nr_inodes=", "nr_blocks=", "mpol=" };

	for (size_t i = 0; i < LEN(words); i++)
		if (sv_is(o, words[i]))
			return true;
	for (size_t i = 0; i < LEN(keys); i++)
		if (o.n > strlen(keys[i]) && sv_starts(o, sv_of(keys[i])))
			return true;
	return false;
}

static FALLIBLE tmpfs_options(struct want *w, struct sv text)
{
	while (text.n) {
		struct sv o = sv_cut(&text, ',');

		if (!o.n || sv_is(o, "notmpcopyup"))
			continue;
		if (!is_tmpfs_option(o))
			return FAIL(ERR_INVALID, "invalid tmpfs option [\"" SV_FMT "\"]", SV_ARG(o));
		w->read_only |= sv_is(o, "ro");
		add_option(w, o);
	}
	return NULL;
}

/* docker's defaults, then what the user wrote */
FALLIBLE want_from_tmpfs(const char *target, const char *options, struct want *w)
{
	w->type = "tmpfs";
	TRY(tmpfs_options(w, SV("noexec,nosuid,nodev")));
	TRY(tmpfs_options(w, sv_of(options)));
	return clean_target(target, &w->target);
}

/* ---- objects ---- */

static FALLIBLE check_fields(const json_t *m, const char *type)
{
	static const char *const only[][2] = { { "BindOptions", "bind" },
					       { "VolumeOptions", "volume" },
					       { "TmpfsOptions", "tmpfs" },
					       { "ImageOptions", "image" } };
	const char *source = json_str_at(m, "Source", "");

	for (size_t i = 0; i < LEN(only); i++)
		if (json_object_size(json_object_get(m, only[i][0])) && strcmp(type, only[i][1]) != 0)
			return FAIL(ERR_INVALID,
				    "invalid mount config for type \"%s\": field %s must not be specified",
				    type, only[i][0]);
	if (!*json_str_at(m, "Target", ""))
		return FAIL(ERR_INVALID,
			    "invalid mount config for type \"%s\": field Target must not be empty", type);
	if ((strcmp(type, "bind") == 0 || strcmp(type, "image") == 0) && !*source)
		return FAIL(ERR_INVALID,
			    "invalid mount config for type \"%s\": field Source must not be empty", type);
	if (strcmp(type, "bind") == 0 && source[0] != '/')
		return FAIL(ERR_INVALID,
			    "invalid mount config for type \"bind\": invalid mount path: '%s' mount path "
			    "must be absolute",
			    source);
	if (strcmp(type, "tmpfs") == 0 && *source)
		return FAIL(ERR_INVALID,
			    "invalid mount config for type \"tmpfs\": field Source must not be specified");
	if (strcmp(type, "volume") == 0 && !*source && json_bool_at(m, "ReadOnly", false))
		return FAIL(ERR_INVALID, "invalid mount config for type \"volume\": must not set ReadOnly "
					 "mode when using anonymous "
					 "volumes");
	return NULL;
}

/* Relative and going nowhere up; what links do is seen to when it is opened, beneath the volume. */
static FALLIBLE read_subpath(struct want *w, const char *text, const char *type)
{
	struct sv rest = sv_of(text);

	if (!*text)
		return NULL;
	if (strcmp(type, "volume") == 0 && !w->source)
		return FAIL(ERR_INVALID, "invalid mount config for type \"volume\": must not set Subpath "
					 "when using anonymous volumes");
	while (rest.n)
		if (sv_is(sv_cut(&rest, '/'), "..") || text[0] == '/')
			return FAIL(ERR_INVALID,
				    "invalid mount config for type \"%s\": subpath must be a relative path "
				    "within the volume: "
				    "%s",
				    type, text);
	w->subpath = xstrdup(text);
	return NULL;
}

static FALLIBLE bind_options(const json_t *m, struct want *w)
{
	const json_t *o = json_object_get(m, "BindOptions");
	bool force = json_bool_at(o, "ReadOnlyForceRecursive", false);
	const char *propagation = json_str_at(o, "Propagation", "");

	w->is_flat = json_bool_at(o, "NonRecursive", false);
	w->is_top_only = json_bool_at(o, "ReadOnlyNonRecursive", false);
	w->make_source = json_bool_at(o, "CreateMountpoint", false);
	for (size_t i = 0; *propagation && i < LEN(modes); i++)
		if (modes[i].group == G_PROPAGATION && strcmp(modes[i].name, propagation) == 0)
			w->propagation = modes[i].name;
	if (*propagation && !w->propagation)
		return FAIL(ERR_INVALID,
			    "invalid mount config for type \"bind\": invalid propagation mode: %s",
			    propagation);
	if ((w->is_top_only || force) && !w->read_only)
		return FAIL(ERR_INVALID, "invalid mount config for type \"bind\": mode must be read-only");
	if (force &&
	    (w->is_flat || w->is_top_only || (w->propagation && strcmp(w->propagation, "rprivate") != 0)))
		return FAIL(ERR_INVALID, "invalid mount config for type \"bind\": ReadOnlyForceRecursive "
					 "needs a recursive bind with "
					 "propagation rprivate");
	return NULL;
}

static FALLIBLE tmpfs_object(const json_t *m, struct want *w)
{
	int64_t size = json_int_at(m, "TmpfsOptions.SizeBytes", 0),
		mode = json_int_at(m, "TmpfsOptions.Mode", 0);
	char text[64];
	json_t *pair;
	size_t i;

	TRY(tmpfs_options(w, SV("noexec,nosuid,nodev")));
	if (size < 0 || mode < 0 || mode > 07777)
		return FAIL(ERR_INVALID,
			    "invalid mount config for type \"tmpfs\": size or mode out of range");
	if (size) {
		(void)snprintf(text, sizeof text, "size=%lld", (long long)size);
		add_option(w, sv_of(text));
	}
	if (mode) {
		(void)snprintf(text, sizeof text, "mode=%llo", (unsigned long long)mode);
		add_option(w, sv_of(text));
	}
	json_array_foreach(json_at(m, "TmpfsOptions.Options"), i, pair)
	{
		const char *key = json_string_value(json_array_get(pair, 0)),
			   *value = json_string_value(json_array_get(pair, 1));
		auto_free char *option =
		    xasprintf("%s%s%s", key ? key : "", value ? "=" : "", value ? value : "");

		TRY(tmpfs_options(w, sv_of(option)));
	}
	if (w->read_only)
		add_option(w, SV("ro"));
	return NULL;
}

FALLIBLE want_from_object(const json_t *m, struct want *w)
{
	static const char *const types[] = { "bind", "volume", "tmpfs", "image" };
	const char *type = json_str_at(m, "Type", ""), *source = json_str_at(m, "Source", "");
	const json_t *volume = json_object_get(m, "VolumeOptions");

	for (size_t i = 0; i < LEN(types); i++)
		if (strcmp(types[i], type) == 0)
			w->type = types[i];
	if (!w->type)
		return FAIL(ERR_INVALID, "invalid mount config for type \"%s\": mount type unknown", type);
	TRY(check_fields(m, type));
	TRY(clean_target(json_str_at(m, "Target", ""), &w->target));
	w->source = *source ? xstrdup(source) : NULL;
	w->read_only = json_bool_at(m, "ReadOnly", false) || strcmp(type, "image") == 0;
	w->no_copy = json_bool_at(volume, "NoCopy", false);
	w->labels = json_object_get(volume, "Labels");
	w->driver = json_str_at(volume, "DriverConfig.Name", NULL);
	w->driver_options = json_at(volume, "DriverConfig.Options");
	w->want_chown = json_bool_at(m, "HoyChown", false);
	if (json_is_string(json_object_get(m, "HoyIdmap")))
		w->idmap = xstrdup(json_str_at(m, "HoyIdmap", ""));
	if (strcmp(type, "bind") == 0)
		TRY(bind_options(m, w));
	if (strcmp(type, "tmpfs") == 0)
		return tmpfs_object(m, w);
	return read_subpath(
	    w,
	    json_str_at(m, strcmp(type, "image") == 0 ? "ImageOptions.Subpath" : "VolumeOptions.Subpath", ""),
	    type);
}
