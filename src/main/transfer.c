/*
 * transfer.c - hoy-transfer: the program that talks to registries, so that no other pays for TLS and HTTP
 *libraries.
 *
 *	hoy-transfer --root ROOT pull [--platform OS/ARCH[/VARIANT]] [--insecure] REF
 *	hoy-transfer --root ROOT push [--insecure] REF DIGEST
 *	hoy-transfer login [--insecure] --username USER SERVER		password on stdin
 *	hoy-transfer logout SERVER
 *
 * --retry-ms N: the first pause between attempts (500), doubled each time.
 * Registries that docker's daemon.json (or the file HOY_DOCKER_CONF names) calls insecure are so here; its
 *mirrors are used. stdout: JSON lines (registry/report.h). Exit 0 or 1. Ends without a word when the reader
 *of stdout does.
 */
#include "registry/transfer.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "codec/json.h"
#include "http/client.h"
#include "registry/daemon.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#define PASSWORD_MAX 32768u
#define DAEMON_JSON  "/etc/docker/daemon.json"

struct args {
	const char *root, *platform, *user;
	bool is_insecure;
	uint64_t retry_ms;
	char **words; /* verb and what follows; borrowed */
	int n_words;
};

/* Options may stand before and behind the verb. */
static struct err *parse_args(int argc, char **argv, struct args *out)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },     { "platform", required_argument, NULL, 'p' },
		{ "username", required_argument, NULL, 'u' }, { "insecure", no_argument, NULL, 'i' },
		{ "retry-ms", required_argument, NULL, 'm' }, { 0 }
	};
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
			out->is_insecure = true;
		else if (c == 'm')
			TRY(num_parse(sv_of(optarg), 10, 1, 60000, &out->retry_ms));
		else
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

static void close_store(struct store **slot)
{
	store_close(*slot);
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

/* digest: NULL pulls. */
static struct err *transfer(const struct args *a, struct report *report, const char *name, const char *digest)
{
	CLEANUP(ref_fini) struct ref ref = { 0 };
	CLEANUP(close_store) struct store *store = NULL;
	struct transfer_result result = { 0 };
	struct platform platform;
	auto_fd int root = -1;
	auto_daemon struct daemon_conf daemon = { 0 };
	struct transfer t = {
		.root = a->root, .report = report, .ref = &ref, .retry_ms = (unsigned)a->retry_ms
	};

	TRY(ref_parse(name, &ref));
	TRY(load_daemon(&daemon));
	t.daemon = &daemon;
	t.is_insecure = a->is_insecure;
	if (a->platform) {
		TRY(platform_parse(a->platform, &platform));
		t.platform = &platform;
	}
	TRY(open_root(a->root, &root));
	TRY(store_open(root, &store));
	t.store = store;
	if (digest)
		TRY(transfer_push(&t, digest, &result));
	else
		TRY(transfer_pull(&t, &result));
	report_transfer(report, &result);
	return NULL;
}

/* The password is what stands on stdin, without the last line end. */
static struct err *login(const struct args *a, struct report *report, const char *server)
{
	auto_buf struct buf password = BUF(PASSWORD_MAX);
	auto_daemon struct daemon_conf daemon = { 0 };
	struct err *e;
	ssize_t n;

	if (!a->user)
		return FAIL(ERR_INVALID, "hoy-transfer: --username is missing");
	for (;;) {
		char *room = buf_room(&password, 1024);

		if (!room)
			return FAIL(ERR_LIMIT, "the password is too long");
		n = sys_read(0, room, 1024);
		if (n <= 0)
			break;
		password.n += (size_t)n;
		password.data[password.n] = '\0';
	}
	while (password.n && strchr("\r\n", password.data[password.n - 1]))
		password.data[--password.n] = '\0';
	e = load_daemon(&daemon);
	if (!e)
		e = transfer_login(report, server, a->user, buf_text(&password), &daemon, a->is_insecure);
	explicit_bzero(password.data, password.n);
	if (e)
		return e;
	report_result(report, json_pack("{s:s}", "status", "Login Succeeded"));
	return NULL;
}

static struct err *logout(struct report *report, const char *server)
{
	auto_free char *text = NULL;
	bool is_found = false;

	TRY(transfer_logout(server, &is_found));
	text = xasprintf(is_found ? "Removing login credentials for %s" : "Not logged in to %s", server);
	report_result(report, json_pack("{s:s}", "status", text));
	return NULL;
}

static struct err *run(const struct args *a, struct report *report)
{
	const char *verb = a->n_words ? a->words[0] : "";

	if (strcmp(verb, "pull") == 0 && a->n_words == 2)
		return transfer(a, report, a->words[1], NULL);
	if (strcmp(verb, "push") == 0 && a->n_words == 3)
		return transfer(a, report, a->words[1], a->words[2]);
	if (strcmp(verb, "login") == 0 && a->n_words == 2)
		return login(a, report, a->words[1]);
	if (strcmp(verb, "logout") == 0 && a->n_words == 2)
		return logout(report, a->words[1]);
	return FAIL(ERR_INVALID, "usage: hoy-transfer --root ROOT pull REF | push REF DIGEST | login "
				 "--username USER SERVER | logout SERVER");
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
		e = run(&a, report);
	if (e && e->kind != ERR_CANCELLED)
		report_error(report, e);
	return e ? 1 : 0;
}
