/*
 * transfer.c - hoy-transfer: the program that talks to registries, so that no other pays for TLS and HTTP libraries.
 *
 *	hoy-transfer --root ROOT pull [--platform OS/ARCH[/VARIANT]] REF
 *	hoy-transfer --root ROOT push [--compression-format gzip|zstd] [--compression-level N] REF DIGEST
 *	hoy-transfer --root ROOT copy [--all] [--platform P] [--format oci|v2s2] [--preserve-digests] FROM TO
 *			forms: registry/copy.h
 *	hoy-transfer inspect [--raw|--config] [--platform P] REF
 *	hoy-transfer tags REPOSITORY
 *	hoy-transfer fetch URL		to fd 3
 *	hoy-transfer login [--username USER] SERVER		password on stdin; else with what is stored
 *	hoy-transfer logout SERVER|--all
 *	hoy-transfer who SERVER			whose name is stored
 *
 * [--src-insecure|--src-strict] [--src-authfile FILE] [--src-cert-dir DIR], for push and a copy's destination --dest-…: registry/client.h,
 * struct access; --insecure is both. --creds: {"src": "USER:PASSWORD", "dest": …} on stdin, "" for nobody.
 * --lease: fd 3 is a lease of the store (content/lease.h), which holds all that is found or brought. --debug: every request on stderr. --retry-ms N: the first pause between attempts (500), doubled each time. --stall-s N: how
 * long a connection may bring nothing (60). --connect-ms N: how long one may take to stand (30000). Registries that docker's
 * daemon.json (or the file HOY_DOCKER_CONF names) calls insecure are so here; its mirrors are used. stdout: JSON lines
 * (registry/report.h). Exit 0 or 1. Ends without a word when the reader of stdout does.
 */
#include "registry/transfer.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/json.h"
#include "http/client.h"
#include "image/shortname.h"
#include "registry/copy.h"
#include "registry/daemon.h"
#include "registry/fetch.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#define PASSWORD_MAX 32768u
#define DAEMON_JSON  "/etc/docker/daemon.json"
#define LEASE_FD     3
#define DATA_FD      3

struct args {
	const char *root, *platform, *user;
	bool is_all, is_raw, is_config, keep_digests, has_creds, has_lease;
	struct access source, destination;
	struct cred source_cred, destination_cred;
	const char *manifest_format;
	uint64_t retry_ms, stall_s, connect_ms, level;
	const char *format;
	char **words; /* verb and what follows; borrowed */
	int n_words;
};

/* Above the letters: an option of one side. */
enum { SOURCE = 1 << 8, DESTINATION = 1 << 9 };

static bool parse_access_arg(int letter, struct access *out)
{
	if (letter == 'i')
		out->is_insecure = true;
	else if (letter == 't')
		out->is_strict = true;
	else if (letter == 'a')
		out->auth_file = optarg;
	else if (letter == 'c')
		out->cert_dir = optarg;
	else
		return false;
	return true;
}

static bool parse_copy_arg(int c, struct args *out)
{
	if (c & (SOURCE | DESTINATION))
		return parse_access_arg(c & 0xff, c & SOURCE ? &out->source : &out->destination);
	if (c == 'F')
		out->manifest_format = optarg;
	else if (c == 'P')
		out->keep_digests = true;
	else if (c == 'L')
		out->has_lease = true;
	else if (c == 'C')
		out->has_creds = true;
	else
		return false;
	return true;
}

/* Options may stand before and behind the verb. */
static struct err *parse_args(int argc, char **argv, struct args *out)
{
	static const struct option options[] = { { "root", required_argument, NULL, 'r' },
						 { "platform", required_argument, NULL, 'p' },
						 { "username", required_argument, NULL, 'u' },
						 { "insecure", no_argument, NULL, 'i' },
						 { "debug", no_argument, NULL, 'd' },
						 { "compression-format", required_argument, NULL, 'f' },
						 { "stall-s", required_argument, NULL, 's' },
						 { "connect-ms", required_argument, NULL, 'k' },
						 { "compression-level", required_argument, NULL, 'l' },
						 { "all", no_argument, NULL, 'a' },
						 { "raw", no_argument, NULL, 'w' },
						 { "config", no_argument, NULL, 'c' },
						 { "retry-ms", required_argument, NULL, 'm' },
						 { "format", required_argument, NULL, 'F' },
						 { "preserve-digests", no_argument, NULL, 'P' },
						 { "creds", no_argument, NULL, 'C' },
						 { "lease", no_argument, NULL, 'L' },
						 { "src-insecure", no_argument, NULL, SOURCE | 'i' },
						 { "dest-insecure", no_argument, NULL, DESTINATION | 'i' },
						 { "src-authfile", required_argument, NULL, SOURCE | 'a' },
						 { "dest-authfile", required_argument, NULL, DESTINATION | 'a' },
						 { "src-strict", no_argument, NULL, SOURCE | 't' },
						 { "dest-strict", no_argument, NULL, DESTINATION | 't' },
						 { "src-cert-dir", required_argument, NULL, SOURCE | 'c' },
						 { "dest-cert-dir", required_argument, NULL, DESTINATION | 'c' },
						 { 0 } };
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'r')
			out->root = optarg;
		else if (c == 'p')
			out->platform = optarg;
		else if (c == 'u')
			out->user = optarg;
		else if (c == 'i')
			out->source.is_insecure = out->destination.is_insecure = true;
		else if (c == 'd')
			log_level = LOG_DEBUG;
		else if (c == 's')
			TRY(num_parse(sv_of(optarg), 10, 1, 3600, &out->stall_s));
		else if (c == 'k')
			TRY(num_parse(sv_of(optarg), 10, 1, 600000, &out->connect_ms));
		else if (c == 'f')
			out->format = optarg;
		else if (c == 'l')
			TRY(num_parse(sv_of(optarg), 10, 1, 19, &out->level));
		else if (c == 'a')
			out->is_all = true;
		else if (c == 'w')
			out->is_raw = true;
		else if (c == 'c')
			out->is_config = true;
		else if (c == 'm')
			TRY(num_parse(sv_of(optarg), 10, 1, 60000, &out->retry_ms));
		else if (!parse_copy_arg(c, out))
			return FAIL(ERR_INVALID, "hoy-transfer: unknown option or missing value: %s",
				    argv[optind - 1]);
	}
	out->words = argv + optind;
	out->n_words = argc - optind;
	return NULL;
}

static struct err *open_root(const char *path, int *out_fd)
{
	int r;

	if (!path)
		return FAIL(ERR_INVALID, "hoy-transfer: --root is missing");
	r = sys_mkdir(AT_FDCWD, path, 0710);
	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "create %s", path);
	r = sys_open_dir(path);
	if (r < 0)
		return FAIL_OS(-r, "%s", path);
	*out_fd = r;
	return NULL;
}

static void report_transfer(struct report *report, const struct transfer_result *result)
{
	report_result(report, json_pack("{s:s, s:s, s:I}", "digest", result->digest, "manifest",
					result->manifest, "size", (json_int_t)result->size_bytes));
}

static struct err *load_daemon(struct daemon_conf *out)
{
	const char *path = getenv("HOY_DOCKER_CONF");

	return daemon_load(path ? path : DAEMON_JSON, out);
}

/* What every verb about images needs. */
struct job {
	struct ref ref;
	struct store *store;
	struct lease *lease;
	char **others; /* further meanings of a short name */
	struct platform platform;
	int root_fd;
	struct daemon_conf daemon;
	struct transfer t;
};

static void job_fini(struct job *j)
{
	ref_fini(&j->ref);
	text_list_free(j->others);
	store_close(j->store);
	lease_end(j->lease);
	own_close(&j->root_fd);
	daemon_fini(&j->daemon);
}

static struct patience patience_of(const struct args *a)
{
	return (struct patience){ .retry_ms = (unsigned)a->retry_ms,
				  .stall_s = (unsigned)a->stall_s,
				  .connect_ms = (unsigned)a->connect_ms };
}

/* name: NULL for none. */
static struct err *job_init(const struct args *a, struct report *report, const char *name, bool has_store,
			    struct job *j)
{
	j->root_fd = -1;
	if (name)
		TRY(ref_parse(name, &j->ref));
	TRY(load_daemon(&j->daemon));
	j->t = (struct transfer){ .root = a->root,
				  .report = report,
				  .ref = &j->ref,
				  .daemon = &j->daemon,
				  .access = a->source,
				  .patience = patience_of(a) };
	TRY(compress_parse(a->format, a->level, &j->t.compress));
	if (a->platform) {
		TRY(platform_parse(a->platform, &j->platform));
		j->t.platform = &j->platform;
	}
	if (has_store) {
		TRY(open_root(a->root, &j->root_fd));
		TRY(store_open(j->root_fd, &j->store));
		if (a->has_lease)
			TRY(lease_join(j->root_fd, LEASE_FD, &j->lease));
		store_lease(j->store, j->lease);
		j->t.store = j->store;
	}
	return NULL;
}

/* For what only asks: a short name is looked for in each registry that it can stand for. */
static struct err *job_init_short(const struct args *a, struct report *report, struct job *j)
{
	auto_shortname struct shortname s = { 0 };

	TRY(shortname_resolve(a->words[1], &s));
	if (a->source_cred.user && s.names[1])
		return FAIL(ERR_INVALID, "%s can be of several registries: credentials go to one, write %s", a->words[1], s.names[0]);
	TRY(job_init(a, report, s.names[0], false, j));
	for (char **name = s.names + 1; *name; name++)
		text_list_add(&j->others, *name);
	return NULL;
}

/* After not_found: whether there is another meaning, which j->ref is then. */
static bool job_next(struct job *j, const struct err *e, size_t *index)
{
	struct ref next = { 0 };

	if (!e || e->kind != ERR_NOT_FOUND || !j->others || !j->others[*index] ||
	    ref_parse(j->others[*index], &next))
		return false;
	(*index)++;
	ref_fini(&j->ref);
	j->ref = next;
	return true;
}

static struct err *pull(const struct args *a, struct report *report)
{
	CLEANUP(job_fini) struct job j = { 0 };
	struct transfer_result result = { 0 };

	TRY(job_init(a, report, a->words[1], true, &j));
	TRY(transfer_pull(&j.t, &result));
	report_transfer(report, &result);
	return NULL;
}

static struct err *push(const struct args *a, struct report *report)
{
	CLEANUP(job_fini) struct job j = { 0 };
	struct transfer_result result = { 0 };

	TRY(job_init(a, report, a->words[1], true, &j));
	j.t.access = a->destination;
	TRY(transfer_push(&j.t, a->words[2], &result));
	report_transfer(report, &result);
	return NULL;
}

/* All of stdin, at most PASSWORD_MAX bytes. */
static struct err *read_secret(struct buf *out)
{
	for (;;) {
		char *room = buf_room(out, 1024);
		ssize_t n = room ? sys_read(0, room, 1024) : 0;

		if (!room)
			return FAIL(ERR_LIMIT, "the password is too long");
		if (n <= 0)
			return NULL;
		out->n += (size_t)n;
		out->data[out->n] = '\0';
	}
}

/* "USER:PASSWORD", "" for nobody; absent: *out_given stays NULL. */
static void take_cred(const json_t *doc, const char *side, struct cred *c, const struct cred **out_given)
{
	const char *text = json_string_value(json_object_get(doc, side)),
		   *colon = text ? strchr(text, ':') : NULL;

	if (!text)
		return;
	*out_given = c;
	if (!*text)
		return;
	c->user = colon ? xstrndup(text, (size_t)(colon - text)) : xstrdup(text);
	c->password = xstrdup(colon ? colon + 1 : "");
}

static struct err *read_creds(struct args *a)
{
	auto_buf struct buf text = BUF(PASSWORD_MAX);
	auto_json json_t *doc = NULL;

	if (!a->has_creds)
		return NULL;
	TRY(read_secret(&text));
	TRY(json_parse(sv_from(buf_text(&text), text.n), "credentials", PASSWORD_MAX, &doc));
	explicit_bzero(text.data, text.n);
	take_cred(doc, "src", &a->source_cred, &a->source.cred);
	take_cred(doc, "dest", &a->destination_cred, &a->destination.cred);
	return NULL;
}

static struct err *copy(const struct args *a, struct report *report)
{
	CLEANUP(job_fini) struct job j = { .root_fd = -1 };
	struct transfer_result result = { 0 };
	struct copy_conf conf = { .from = a->words[1],
				  .to = a->words[2],
				  .is_all = a->is_all,
				  .keep_digests = a->keep_digests,
				  .source = a->source,
				  .destination = a->destination };

	if (a->is_all && a->platform)
		return FAIL(ERR_INVALID, "--all and --platform exclude each other");
	TRY(job_init(a, report, NULL, true, &j));
	conf.t = j.t;
	TRY(format_parse(a->manifest_format, &conf.format));
	TRY(transfer_copy(&conf, &result));
	report_transfer(report, &result);
	return NULL;
}

static struct err *inspect(const struct args *a, struct report *report)
{
	CLEANUP(job_fini) struct job j = { 0 };
	enum inspect_form form = a->is_raw ? INSPECT_RAW : a->is_config ? INSPECT_CONFIG : INSPECT_ALL;
	json_t *out = NULL;
	struct err *e;
	size_t next = 0;

	TRY(job_init_short(a, report, &j));
	e = transfer_inspect(&j.t, form, &out);
	while (job_next(&j, e, &next)) {
		err_free(e);
		e = transfer_inspect(&j.t, form, &out);
	}
	if (e)
		return e;
	report_result(report, json_pack("{s:o}", "image", out));
	return NULL;
}

static struct err *tags(const struct args *a, struct report *report)
{
	CLEANUP(job_fini) struct job j = { 0 };
	auto_free char *repository = NULL;
	json_t *list = NULL;
	struct err *e;
	size_t next = 0;

	TRY(job_init_short(a, report, &j));
	e = transfer_tags(&j.t, &list);
	while (job_next(&j, e, &next)) {
		err_free(e);
		e = transfer_tags(&j.t, &list);
	}
	if (e)
		return e;
	repository = ref_familiar_repo(&j.ref);
	report_result(report, json_pack("{s:s, s:o}", "repository", repository, "tags", list));
	return NULL;
}

static struct err *fetch(const struct args *a, struct report *report)
{
	auto_daemon struct daemon_conf daemon = { 0 };
	struct fetch_conf conf = { .url = a->words[1],
				   .report = report,
				   .daemon = &daemon,
				   .patience = patience_of(a),
				   .out_fd = DATA_FD };

	TRY(load_daemon(&daemon));
	TRY(fetch_url(&conf));
	report_result(report, json_object());
	return NULL;
}

/* The password is what stands on stdin, without the last line end. */
static struct err *login(const struct args *a, struct report *report, const char *server)
{
	auto_buf struct buf password = BUF(PASSWORD_MAX);
	auto_daemon struct daemon_conf daemon = { 0 };
	auto_cred struct cred cred = { 0 };
	struct access access = a->source;

	if (a->user) {
		TRY(read_secret(&password));
		while (password.n && strchr("\r\n", password.data[password.n - 1]))
			password.data[--password.n] = '\0';
		cred = (struct cred){ .user = xstrdup(a->user), .password = xstrdup(buf_text(&password)) };
		access.cred = &cred;
		explicit_bzero(password.data, password.n);
	}
	TRY(load_daemon(&daemon));
	TRY(transfer_login(report, server, &access, &daemon));
	report_result(report, json_pack("{s:s}", "status", "Login Succeeded"));
	return NULL;
}

static struct err *logout(struct report *report, const char *server, const char *auth_file)
{
	auto_free char *text = NULL;
	bool is_found = false;

	TRY(transfer_logout(server, auth_file, &is_found));
	text = xasprintf(is_found ? "Removing login credentials for %s" : "Not logged in to %s", server ? server : "all registries");
	report_result(report, json_pack("{s:s}", "status", is_found || server ? text : "Not logged in to any registry"));
	return NULL;
}

static struct err *run_login(const struct args *a, struct report *report)
{
	return login(a, report, a->words[1]);
}

static struct err *run_logout(const struct args *a, struct report *report)
{
	if (a->is_all != (a->n_words == 1))
		return FAIL(ERR_INVALID, "logout: wanted a server or --all");
	return logout(report, a->words[1], a->source.auth_file);
}

static struct err *run_who(const struct args *a, struct report *report)
{
	auto_free char *user = NULL;

	TRY(transfer_who(a->words[1], a->source.auth_file, &user));
	report_result(report, json_pack("{s:s}", "user", user));
	return NULL;
}

static struct err *run(const struct args *a, struct report *report)
{
	static const struct {
		const char *name;
		int n_words;
		struct err *(*run)(const struct args *a, struct report *report);
	} verbs[] = { { "pull", 2, pull },        { "push", 3, push }, { "copy", 3, copy },
		      { "inspect", 2, inspect },  { "tags", 2, tags }, { "login", 2, run_login },
		      { "logout", 2, run_logout }, { "logout", 1, run_logout },   { "who", 2, run_who },
		      { "fetch", 2, fetch } };

	for (size_t i = 0; a->n_words && i < LEN(verbs); i++)
		if (strcmp(a->words[0], verbs[i].name) == 0 && a->n_words == verbs[i].n_words)
			return verbs[i].run(a, report);
	return FAIL(
	    ERR_INVALID,
	    "usage: hoy-transfer --root ROOT pull REF | push REF DIGEST | copy FROM TO | inspect REF | "
	    "tags REPOSITORY | login [--username USER] SERVER | logout SERVER | fetch URL");
}

int main(int argc, char **argv)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, 0 };
	auto_fd int cancel_fd = sys_signal_fd(signals); /* before any thread */
	auto_report struct report *report = report_new(1, cancel_fd);
	auto_err struct err *e = NULL;
	struct args a = { 0 };

	(void)signal(SIGPIPE, SIG_IGN);
	http_init();
	json_object_seed(0); /* once, before any thread */
	e = parse_args(argc, argv, &a);
	if (!e)
		e = read_creds(&a);
	if (!e)
		e = run(&a, report);
	cred_fini(&a.source_cred);
	cred_fini(&a.destination_cred);
	if (e && e->kind != ERR_CANCELLED)
		report_error(report, e);
	return e ? 1 : 0;
}
