/* cmd_transfer.c - pull, push, login, logout. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/access.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "image/ref.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

struct transfer_conf {
	bool quiet, all_tags, all_platforms, wants_trust;
	const char *platform, *format, *level, *digestfile;
	struct engine_access access;
};
#define OPT_TRUST                                                                                                          \
	{                                                                                                                  \
		OPT_NOT, 0, "disable-content-trust", NULL, offsetof(struct transfer_conf, wants_trust), 0,                 \
			"As ever: signatures are not looked at (=false is refused)"                                        \
	}
static const struct opt pull_opts[] = {
	{ OPT_FLAG, 'a', "all-tags", NULL, offsetof(struct transfer_conf, all_tags), 0, "Every tag of the repository" },
	ACCESS_OPTS(struct transfer_conf, access, "", "the registry"),
	OPT_TRUST,
	ACCESS_INSECURE(struct transfer_conf, access.insecure),
	{ OPT_STR, 0, "platform", "OS/ARCH", offsetof(struct transfer_conf, platform), 0, "Platform of a multi-platform image" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct transfer_conf, quiet), 0, "Print only the name" },
	{ 0 },
};
static const struct opt push_opts[] = {
	{ OPT_FLAG, 'a', "all-tags", NULL, offsetof(struct transfer_conf, all_tags), 0, "Every tag of the repository that is here" },
	{ OPT_FLAG, 0, "all-platforms", NULL, offsetof(struct transfer_conf, all_platforms), 0,
	  "The index with all its parts, which must be here or there" },
	{ OPT_STR, 0, "compression-format", "gzip|zstd", offsetof(struct transfer_conf, format), 0,
	  "How layers made here are compressed (default gzip)" },
	{ OPT_STR, 0, "compression-level", "N", offsetof(struct transfer_conf, level), 0, "1 to 9 for gzip (4), to 19 for zstd (3)" },
	ACCESS_OPTS(struct transfer_conf, access, "", "the registry"),
	{ OPT_STR, 0, "digestfile", "FILE", offsetof(struct transfer_conf, digestfile), 0, "Write the digest of what stands there to FILE" },
	OPT_TRUST,
	ACCESS_INSECURE(struct transfer_conf, access.insecure),
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct transfer_conf, quiet), 0, "Print only the name" },
	{ 0 },
};

static struct err *choose(void *ctx, const char *text, char *const *names, size_t *out_index)
{
	char line[64];
	uint64_t n = 1;
	struct err *e;

	(void)ctx;
	(void)fprintf(stderr, "%s can be of several registries:\n", text);
	for (size_t i = 0; names[i]; i++)
		(void)fprintf(stderr, "%3zu  %s\n", i + 1, names[i]);
	for (;;) {
		(void)fprintf(stderr, "Which one? [1] ");
		if (!fgets(line, sizeof line, stdin))
			return FAIL(ERR_CANCELLED, "no registry was chosen for %s", text);
		line[strcspn(line, "\r\n")] = 0;
		e = *line ? num_parse(sv_of(line), 10, 1, text_list_len(names), &n) : NULL;
		if (!e)
			break;
		(void)fprintf(stderr, "%s\n", e->msg);
		err_free(e);
	}
	*out_index = (size_t)n - 1;
	return NULL;
}

cmd_choice *cmd_chooser(void)
{
	return isatty(STDIN_FILENO) && isatty(STDERR_FILENO) ? choose : NULL;
}

/* Of an image that is here, owned; else NULL. */
static char *id_of(struct engine *e, const char *name)
{
	auto_json json_t *image = NULL;

	err_free(engine_image_inspect(e, name, &image));
	return image ? xstrdup(json_str_at(image, "Id", "")) : NULL;
}

static FALLIBLE pull_one(const struct transfer_conf *c, const struct engine_access *access, const char *name)
{
	CLEANUP(progress_fini) struct progress p = progress_begin(c->quiet, stdout);
	struct engine_transfer_opts o = { .platform = c->platform,
					  .access = *access,
					  .quiet = c->quiet,
					  .progress = progress_sink(&p),
					  .choose = cmd_chooser() };
	auto_free char *digest = NULL, *full = NULL, *before = NULL, *after = NULL;
	struct engine *e;

	TRY(cmd_engine(&e));
	before = id_of(e, name);
	TRY(engine_image_pull(e, name, &o, &full, &digest));
	after = id_of(e, full);
	if (!c->quiet)
		(void)printf("Digest: %s\nStatus: %s for %s\n", digest,
			     before && after && strcmp(before, after) == 0 ? "Image is up to date" : "Downloaded newer image", full);
	(void)printf("%s\n", full);
	return NULL;
}

static FALLIBLE check_trust(const struct transfer_conf *c)
{
	return c->wants_trust ? FAIL(ERR_UNSUPPORTED, "--disable-content-trust=false: signatures are not verified") : NULL;
}

/* docker's heading of a pull; c->quiet: nothing. */
static void tell_pull(const struct transfer_conf *c, const char *tag, const struct ref *r)
{
	if (!c->quiet)
		(void)printf("%s: Pulling from %s\n", tag, r->path);
	(void)fflush(stdout);
}

static bool has_tag(const char *name, const struct ref *r)
{
	const char *slash = strrchr(name, '/');

	return r->digest || strchr(slash ? slash : name, ':');
}

/* docker's rule: with --all-tags the name has none. */
static FALLIBLE check_no_tag(const char *name, const struct ref *r)
{
	return has_tag(name, r) ? FAIL(ERR_INVALID, "tag can't be used with --all-tags/-a") : NULL;
}

static void tell_default_tag(const struct transfer_conf *c, const char *name, const struct ref *r)
{
	if (!c->quiet && !has_tag(name, r))
		(void)printf("Using default tag: latest\n");
}

static FALLIBLE run_pull(const void *conf, char *const args[], int *out_exit)
{
	const struct transfer_conf *c = conf;
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_list char **tags = NULL;
	auto_free char *creds = NULL;
	struct engine_access access;
	const char *name;

	(void)out_exit;
	TRY(check_trust(c));
	TRY(cmd_registry_name(args[0], &name));
	TRY(ref_parse(name, &r));
	TRY(access_complete(&c->access, &creds, &access));
	if (!c->all_tags) {
		tell_default_tag(c, name, &r);
		tell_pull(c, r.digest ? r.digest : r.tag, &r);
		return pull_one(c, &access, name);
	}
	TRY(check_no_tag(name, &r));
	TRY(cmd_remote_tags(name, &access, &tags));
	for (char **tag = tags; tag && *tag; tag++) {
		auto_free char *one = xasprintf("%s:%s", name, *tag);

		tell_pull(c, *tag, &r);
		TRY(pull_one(c, &access, one));
	}
	return NULL;
}
const struct cmd cmd_pull = { "pull",	 "NAME[:TAG|@DIGEST]",	       "Download an image from a registry",
			      pull_opts, sizeof(struct transfer_conf), 1, 1, false, 0, false, run_pull, NULL, NULL };

/* to: where, when it is not what the image is called here; else NULL. */
static FALLIBLE push_one(const struct transfer_conf *c, const struct engine_access *access, const char *name, const char *to)
{
	CLEANUP(progress_fini) struct progress p = progress_begin(c->quiet, stdout);
	struct engine_transfer_opts o = { .access = *access,
					  .quiet = c->quiet,
					  .progress = progress_sink(&p),
					  .to = to,
					  .compression = c->format,
					  .compression_level = c->level,
					  .all_platforms = c->all_platforms };
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *digest = NULL;
	uint64_t bytes = 0;
	struct engine *e;

	TRY(ref_parse(to ? to : name, &r));
	TRY(cmd_engine(&e));
	TRY(engine_image_push(e, name, &o, &digest, &bytes));
	if (c->digestfile)
		TRY(out_file(c->digestfile, digest));
	if (!c->quiet)
		(void)printf("%s: digest: %s size: %llu\n", r.tag ? r.tag : r.digest, digest, (unsigned long long)bytes);
	else
		(void)printf("%s/%s:%s\n", r.domain, r.path, r.tag ? r.tag : r.digest);
	return NULL;
}

/* The names here of a repository; owned list, NULL when none. */
static FALLIBLE local_tags(const struct ref *r, char ***out_names)
{
	auto_free char *repo = ref_familiar_repo(r);
	auto_json json_t *images = NULL;
	struct engine *e;
	size_t i, k;
	json_t *image, *name;

	TRY(cmd_engine(&e));
	TRY(engine_image_list(e, NULL, &images));
	json_array_foreach (images, i, image)
		json_array_foreach (json_object_get(image, "RepoTags"), k, name) {
			const char *text = json_string_value(name);
			size_t n = strlen(repo);

			if (text && strncmp(text, repo, n) == 0 && text[n] == ':')
				text_list_add(out_names, text);
		}
	return *out_names ? NULL : FAIL(ERR_NOT_FOUND, "An image does not exist locally with the tag: %s", repo);
}

static FALLIBLE run_push(const void *conf, char *const args[], int *out_exit)
{
	const struct transfer_conf *c = conf;
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_list char **names = NULL;
	auto_free char *creds = NULL;
	struct engine_access access;
	const char *name;

	(void)out_exit;
	TRY(check_trust(c));
	TRY(cmd_registry_name(args[1] ? args[1] : args[0], &name));
	TRY(ref_parse(name, &r));
	TRY(access_complete(&c->access, &creds, &access));
	if (c->all_tags && (args[1] || c->digestfile))
		return FAIL(ERR_INVALID, "--all-tags excludes a destination and --digestfile");
	if (c->all_tags)
		TRY(check_no_tag(name, &r));
	else
		tell_default_tag(c, name, &r);
	if (!c->quiet)
		(void)printf("The push refers to repository [%s/%s]\n", r.domain, r.path);
	(void)fflush(stdout);
	if (!c->all_tags)
		return push_one(c, &access, args[1] ? args[0] : name, args[1] ? name : NULL);
	TRY(local_tags(&r, &names));
	for (char **one = names; *one; one++)
		TRY(push_one(c, &access, *one, NULL));
	return NULL;
}
const struct cmd cmd_push = { "push",	 "NAME[:TAG] [DESTINATION]",   "Upload an image to a registry",
			      push_opts, sizeof(struct transfer_conf), 1, 2, false, 0, false, run_push, NULL, NULL };

/* ---- login ---- */

struct login_conf {
	const char *user, *password;
	bool from_stdin, only_tells;
	struct engine_access access;
};
static const struct opt login_opts[] = {
	{ OPT_STR, 0, "authfile", "FILE", offsetof(struct login_conf, access.authfile), 0, "Keep it there, instead of ~/.docker/config.json" },
	{ OPT_STR, 0, "cert-dir", "DIR", offsetof(struct login_conf, access.cert_dir), 0, "Certificates (*.crt, x.cert, x.key) of the registry" },
	{ OPT_FLAG, 0, "get-login", NULL, offsetof(struct login_conf, only_tells), 0, "Only print whose name is stored" },
	ACCESS_INSECURE(struct login_conf, access.insecure),
	{ OPT_STR, 'p', "password", NULL, offsetof(struct login_conf, password), 0, "Password (better: --password-stdin)" },
	{ OPT_FLAG, 0, "password-stdin", NULL, offsetof(struct login_conf, from_stdin), 0, "Read the password from standard input" },
	{ OPT_BOTH, 0, "tls-verify", NULL, offsetof(struct login_conf, access.strict), 0,
	  "HTTPS and a trusted certificate, also on loopback; =false: neither is needed" },
	{ OPT_STR, 'u', "username", NULL, offsetof(struct login_conf, user), 0, "User name" },
	{ 0 },
};

/* As a pipe, never as an argument that ps shows. */
static FALLIBLE password_fd(const struct login_conf *c, int *out_fd)
{
	char typed[256];
	const char *text = c->password;
	int p[2], r;

	if (c->from_stdin) {
		*out_fd = sys_dup(STDIN_FILENO);
		return *out_fd < 0 ? FAIL_OS(-*out_fd, "read standard input") : NULL;
	}
	if (!text) {
		if (!isatty(STDIN_FILENO))
			return FAIL(ERR_INVALID, "Cannot perform an interactive login from a non TTY device");
		TRY(access_ask("Password: ", true, typed));
		text = typed;
	} else {
		(void)fprintf(stderr, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
	}
	if ((r = sys_pipe(p)) < 0)
		return FAIL_OS(-r, "make a pipe");
	r = sys_write_all(p[1], text, strlen(text));
	(void)sys_close(p[1]);
	*out_fd = p[0];
	return r < 0 ? FAIL_OS(-r, "hand over the password") : NULL;
}

/* user NULL: with what is stored. */
static FALLIBLE ask_login(const struct login_conf *c, const char *user, int password_fd, const char *server)
{
	struct engine_transfer_opts o = { .access = c->access };
	auto_list char **words = NULL;
	auto_json json_t *result = NULL;

	text_list_add(&words, "login");
	if (user) {
		text_list_add(&words, "--username");
		text_list_add(&words, user);
	}
	text_list_add(&words, server);
	TRY(engine_transfer_run(words, password_fd, &o, &result));
	(void)printf("%s%s\n", user ? "" : "Authenticating with existing credentials...\n", json_str_at(result, "status", "Login Succeeded"));
	return NULL;
}

/* As docker: what is stored is tried before anybody is asked; why it did not do is only told when it is more than nothing. */
static bool login_stored(const struct login_conf *c, const char *server)
{
	auto_err struct err *err = ask_login(c, NULL, -1, server);

	if (err && err->kind != ERR_NOT_FOUND)
		(void)fprintf(stderr, "Login did not succeed, error: %s\n", err->msg);
	return !err;
}

static FALLIBLE tell_login(const struct login_conf *c, const char *server)
{
	struct engine_transfer_opts o = { .access = c->access };
	char word[] = "who", *words[] = { word, (char *)(uintptr_t)server, NULL };
	auto_json json_t *result = NULL;

	TRY(engine_transfer_run(words, -1, &o, &result));
	(void)printf("%s\n", json_str_at(result, "user", ""));
	return NULL;
}

static FALLIBLE run_login(const void *conf, char *const args[], int *out_exit)
{
	const struct login_conf *c = conf;
	const char *user = c->user, *server = args[0] ? args[0] : "docker.io";
	auto_fd int fd = -1;
	char typed[256];

	(void)out_exit;
	TRY(access_check(&c->access));
	if (c->only_tells)
		return tell_login(c, server);
	if (c->password && c->from_stdin)
		return FAIL(ERR_INVALID, "--password and --password-stdin are mutually exclusive");
	if (c->from_stdin && !user)
		return FAIL(ERR_INVALID, "Must provide --username with --password-stdin");
	if (!user && !c->password && login_stored(c, server))
		return NULL;
	if (!user) {
		if (!isatty(STDIN_FILENO))
			return FAIL(ERR_INVALID, "Cannot perform an interactive login from a non TTY device");
		TRY(access_ask("Username: ", false, typed));
		user = typed;
	}
	TRY(password_fd(c, &fd));
	return ask_login(c, user, fd, server);
}
const struct cmd cmd_login = { "login",	   "[SERVER]",		      "Log in to a registry",
			       login_opts, sizeof(struct login_conf), 0, 1, false, 0, false, run_login, NULL, NULL };

struct logout_conf {
	bool all;
	const char *authfile;
};
static const struct opt logout_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, offsetof(struct logout_conf, all), 0, "From every registry" },
	{ OPT_STR, 0, "authfile", "FILE", offsetof(struct logout_conf, authfile), 0, "Remove it there, instead of from ~/.docker/config.json" },
	{ 0 },
};

static FALLIBLE run_logout(const void *conf, char *const args[], int *out_exit)
{
	const struct logout_conf *c = conf;
	struct engine_transfer_opts o = { .access.authfile = c->authfile };
	auto_list char **words = NULL;
	auto_json json_t *result = NULL;

	(void)out_exit;
	if (c->all && args[0])
		return FAIL(ERR_INVALID, "--all and a registry exclude each other");
	text_list_add(&words, "logout");
	text_list_add(&words, c->all ? "--all" : args[0] ? args[0] : "docker.io");
	TRY(engine_transfer_run(words, -1, &o, &result));
	(void)printf("%s\n", json_str_at(result, "status", "Removing login credentials"));
	return NULL;
}
const struct cmd cmd_logout = { "logout",    "[SERVER]",		"Log out from a registry",
				logout_opts, sizeof(struct logout_conf), 0, 1, false, 0, false, run_logout, NULL, NULL };
