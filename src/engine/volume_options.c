/* volume_options.c - see volume_options.h. */
#include "engine/volume_options.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/volume.h"
#include "engine/volume_work.h"
#include "sys/entropy.h"
#include "sys/quota.h"
#include "sys/sys.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

static bool has_word(const char *list, const char *a, const char *b)
{
	struct sv rest = sv_of(list);

	while (rest.n) {
		struct sv word = sv_cut(&rest, ',');

		if (sv_is(word, a) || sv_is(word, b))
			return true;
	}
	return false;
}

bool volume_is_bind(const json_t *doc)
{
	return json_at(doc, "Options.device") && has_word(json_str_at(doc, "Options.o", ""), "bind", "rbind");
}

FALLIBLE volume_options_check(const char *name, const json_t *options)
{
	static const char *const known[] = { "type", "o", "device", "size" };
	static const char *const needs[][2] = {
		{ "device", "type" }, { "type", "device" }, { "o", "device" }, { "o", "type" }
	};
	const char *key;
	json_t *v;
	uint64_t bytes;
	struct err *e;

	json_object_foreach((json_t *)(uintptr_t)options, key, v)
	{
		size_t i = 0;

		while (i < LEN(known) && strcmp(known[i], key) != 0)
			i++;
		if (i == LEN(known) || !json_is_string(v))
			return FAIL(ERR_INVALID, "create %s: invalid option: \"%s\"", name, key);
	}
	for (size_t i = 0; i < LEN(needs); i++)
		if (*json_str_at(options, needs[i][0], "") && !*json_str_at(options, needs[i][1], ""))
			return FAIL(ERR_INVALID, "create %s: missing required option: \"%s\"", name,
				    needs[i][1]);
	if (has_word(json_str_at(options, "o", ""), "bind", "rbind") &&
	    json_str_at(options, "device", "")[0] != '/')
		return FAIL(ERR_INVALID, "create %s: device of a bind must be an absolute path: %s", name,
			    json_str_at(options, "device", ""));
	if (!json_object_get(options, "size"))
		return NULL;
	if (json_object_get(options, "type"))
		return FAIL(
		    ERR_INVALID,
		    "create %s: size limits a volume on hoy's own file system; for type=%s give it in o=",
		    name, json_str_at(options, "type", ""));
	e = num_parse_bytes(sv_of(json_str_at(options, "size", "")), &bytes);
	if (e)
		return err_ctx(e, "create %s", name);
	return bytes ? NULL : FAIL(ERR_INVALID, "create %s: size must be more than 0", name);
}

/* ---- size ---- */

static FALLIBLE no_quota(const char *name, const char *path, int r)
{
	return FAIL(ERR_UNSUPPORTED,
		    "create %s: quota size requested but no quota support: the file system of %s keeps no "
		    "limits for projects (%s); "
		    "ext4 and xfs do when mounted with prjquota",
		    name, path, r < 0 ? strerror(-r) : "they are counted, not enforced");
}

FALLIBLE volume_options_apply(struct engine *e, json_t *doc)
{
	const char *name = json_str_at(doc, "Name", ""), *size = json_str_at(doc, "Options.size", NULL);
	auto_free char *path = volume_path(e, name);
	auto_fd int fd = size ? sys_open_dir(path) : -1;
	char number[7];
	uint64_t bytes;
	uint32_t project;
	int r;

	if (!size)
		return NULL;
	if (fd < 0)
		return FAIL_OS(-fd, "open %s", path);
	TRY(num_parse_bytes(sv_of(size), &bytes));
	/* random, in a range of our own: administrators number theirs from small on */
	sys_random_hex(number, 3);
	project = 0x48000000u | (uint32_t)strtoul(number, NULL, 16);
	if ((r = sys_quota_is_enforced(fd)) <= 0)
		return no_quota(name, path, r);
	if ((r = sys_project_set(fd, project)) < 0 || (r = sys_quota_set(fd, project, bytes)) < 0)
		return no_quota(name, path, r);
	(void)json_object_set_new(doc, "HoyProject", json_integer(project));
	return NULL;
}

void volume_options_release(struct engine *e, const json_t *doc)
{
	uint32_t project = (uint32_t)json_int_at(doc, "HoyProject", 0);
	auto_free char *path = volume_path(e, json_str_at(doc, "Name", ""));
	auto_fd int fd = project ? sys_open_dir(path) : -1;

	if (fd >= 0)
		(void)sys_quota_set(fd, project, 0);
}

/* ---- the mount ---- */

/* "addr=" of a network file system by number, as the kernel wants it. Owned. */
static FALLIBLE by_number(struct sv option, char **out)
{
	auto_free char *host = xstrndup(option.p + 5, option.n - 5);
	struct addrinfo *found = NULL;
	char text[INET6_ADDRSTRLEN];
	int r = getaddrinfo(host, NULL, &(struct addrinfo){ .ai_socktype = SOCK_STREAM }, &found);

	if (r != 0)
		return FAIL(ERR_NOT_FOUND, "look up addr=%s: %s", host, gai_strerror(r));
	r = getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(found);
	if (r != 0)
		return FAIL(ERR_NOT_FOUND, "look up addr=%s: %s", host, gai_strerror(r));
	*out = xasprintf("addr=%s", text);
	return NULL;
}

FALLIBLE volume_options_mount(struct engine *e, const json_t *doc, const char **out_type, char **out_source,
			      json_t *options)
{
	const char *type = json_str_at(doc, "Options.type", NULL), *name = json_str_at(doc, "Name", "");
	struct sv rest = sv_of(json_str_at(doc, "Options.o", ""));
	bool remote = type && (strncmp(type, "nfs", 3) == 0 || strcmp(type, "cifs") == 0);

	if (!type) {
		*out_type = "bind";
		*out_source = volume_path(e, name);
		return volume_make_directories(e, name); /* a power cut may have taken a new one */
	}
	while (rest.n) {
		struct sv option = sv_cut(&rest, ',');
		auto_free char *numeric = NULL;

		if (!option.n || sv_is(option, "bind") || sv_is(option, "rbind"))
			continue;
		if (remote && option.n > 5 && memcmp(option.p, "addr=", 5) == 0)
			TRY(by_number(option, &numeric));
		(void)json_array_append_new(options, numeric ? json_string(numeric)
							     : json_stringn(option.p, option.n));
	}
	if (volume_is_bind(doc))
		(void)json_array_append_new(
		    options,
		    json_string(has_word(json_str_at(doc, "Options.o", ""), "rbind", "rbind") ? "rbind"
											      : "bind"));
	*out_type = volume_is_bind(doc) ? "bind" : type;
	*out_source = xstrdup(json_str_at(doc, "Options.device", ""));
	return NULL;
}
