/*
 * transfer_test.c - whole pulls from a registry of 60 lines inside the test, with every system call failing
 * once.
 */
#include "harness/t.h"
#include "base/mem.h"
#include "base/own.h"
#include "http/client.h"
#include "image/manifest.h"
#include "registry/transfer.h"
#include "sys/sys.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define LAYER_BYTES 300000

struct page {
	char path[128];
	const char *type;
	const char *body;
	size_t n;
};
struct little_registry {
	int fd;
	char host[32];
	struct page pages[8];
	size_t n_pages;
	char *layers[2];
	char *config, *manifest;
	char manifest_digest[DIGEST_MAX];
	pthread_t thread;
};

static void answer(const struct little_registry *r, int c)
{
	char asked[4096] = "", path[256] = "", method[8] = "", head[512];
	const struct page *page = NULL;
	size_t n = 0;
	ssize_t got;

	while (n < sizeof asked - 1 && (got = recv(c, asked + n, sizeof asked - 1 - n, 0)) > 0) {
		n += (size_t)got;
		asked[n] = '\0';
		if (asked[0] == 0x16 || strstr(asked, "\r\n\r\n")) /* TLS: hang up */
			break;
	}
	if (sscanf(asked, "%7s %255s", method, path) != 2)
		return;
	for (size_t i = 0; i < r->n_pages; i++)
		if (strcmp(r->pages[i].path, path) == 0)
			page = &r->pages[i];
	n = (size_t)snprintf(
	    head, sizeof head,
	    "HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
	    page ? "200 OK" : "404 Not Found", page ? page->type : "text/plain", page ? page->n : 0);
	(void)send(c, head, n, MSG_NOSIGNAL);
	if (page && strcmp(method, "GET") == 0)
		for (size_t at = 0;
		     at < page->n && (got = send(c, page->body + at, page->n - at, MSG_NOSIGNAL)) > 0;)
			at += (size_t)got;
}

static void *serve(void *arg)
{
	const struct little_registry *r = arg;
	int c;

	while ((c = accept(r->fd, NULL, NULL)) >= 0) {
		answer(r, c);
		(void)close(c);
	}
	return NULL;
}

static void add_page(struct little_registry *r, const char *path, const char *type, const char *body,
		     size_t n)
{
	struct page *p = &r->pages[r->n_pages++];

	(void)snprintf(p->path, sizeof p->path, "%s", path);
	p->type = type;
	p->body = body;
	p->n = n;
}

static struct descriptor add_blob(struct little_registry *r, const char *type, const char *body, size_t n)
{
	struct descriptor d = { .media_type = (char *)(uintptr_t)type, .size = n };
	char path[128];

	digest_of(body, n, d.digest);
	(void)snprintf(path, sizeof path, "/v2/x/blobs/%s", d.digest);
	add_page(r, path, "application/octet-stream", body, n);
	return d;
}

static void make_image(struct little_registry *r)
{
	struct descriptor parts[2], config;
	auto_buf struct buf text = BUF(1 << 16);
	char path[128];

	for (size_t i = 0; i < 2; i++) {
		r->layers[i] = xmalloc(LAYER_BYTES);
		memset(r->layers[i], (int)('a' + i), LAYER_BYTES);
		parts[i] = add_blob(r, MEDIA_LAYER, r->layers[i], LAYER_BYTES);
	}
	r->config = xasprintf("{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\","
			      "\"diff_ids\":[\"%s\","
			      "\"%s\"]}}",
			      parts[0].digest, parts[1].digest);
	config = add_blob(r, MEDIA_CONFIG, r->config, strlen(r->config));
	manifest_write(&config, parts, 2, &text);
	r->manifest = buf_take(&text);
	digest_of(r->manifest, strlen(r->manifest), r->manifest_digest);
	add_page(r, "/v2/x/manifests/latest", MEDIA_MANIFEST, r->manifest, strlen(r->manifest));
	(void)snprintf(path, sizeof path, "/v2/x/manifests/%s", r->manifest_digest);
	add_page(r, path, MEDIA_MANIFEST, r->manifest, strlen(r->manifest));
	add_page(r, "/v2/", "application/json", "{}", 2);
}

static void registry_start(struct little_registry *r)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;

	memset(r, 0, sizeof *r);
	make_image(r);
	r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(r->fd >= 0 && bind(r->fd, (struct sockaddr *)&a, n) == 0 && listen(r->fd, 64) == 0);
	CHECK(getsockname(r->fd, (struct sockaddr *)&a, &n) == 0);
	(void)snprintf(r->host, sizeof r->host, "127.0.0.1:%u", ntohs(a.sin_port));
	CHECK(pthread_create(&r->thread, NULL, serve, r) == 0);
	CHECK(setenv("DOCKER_CONFIG", "/nonexistent", 1) == 0);
	(void)signal(SIGPIPE, SIG_IGN);
	http_init();
}

static void registry_stop(struct little_registry *r)
{
	(void)shutdown(r->fd, SHUT_RDWR);
	(void)pthread_join(r->thread, NULL);
	(void)close(r->fd);
	free(r->layers[0]);
	free(r->layers[1]);
	free(r->config);
	free(r->manifest);
}

static struct err *pull(const struct little_registry *r, int out_fd, struct transfer_result *out)
{
	auto_free char *name = xasprintf("%s/x", r->host);
	auto_report struct report *report = report_new(out_fd, -1);
	CLEANUP(ref_fini) struct ref ref = { 0 };
	struct store *store = NULL;
	struct err *e;

	TRY(ref_parse(name, &ref));
	TRY(store_open(t_tmpdir(), &store));
	e = transfer_pull(&(struct transfer){ .store = store, .report = report, .ref = &ref }, out);
	store_close(store);
	return e;
}

static struct err *whole(void *ctx, const char *digest, uint64_t size)
{
	struct store **store = ctx;

	(void)size;
	return store_blob_verify(*store, digest);
}

/* After the store's own cleaning (a failed unlink leaves a file to it): no temporary file, every blob is what
 * its name says. */
static size_t check_store(void)
{
	auto_fd int tmp = -1, sha = -1;
	struct store *store = NULL;

	CHECK_OK(store_open(t_tmpdir(), &store));
	tmp = sys_openat(t_tmpdir(), "tmp", O_RDONLY | O_DIRECTORY, 0);
	CHECK_INT(t_entries(tmp), 0);
	CHECK_OK(store_blob_each(store, whole, &store));
	sha = sys_open_beneath(t_tmpdir(), "blobs/sha256", O_RDONLY | O_DIRECTORY, 0);
	store_close(store);
	return t_entries(sha);
}

TEST(a_pull_brings_everything)
{
	struct transfer_result result = { 0 };
	auto_fd int null = sys_open("/dev/null", O_WRONLY, 0);
	struct little_registry r;

	registry_start(&r);
	CHECK_OK(pull(&r, null, &result));
	CHECK_STR(result.digest, r.manifest_digest);
	CHECK_STR(result.manifest, r.manifest_digest);
	CHECK_INT(result.size_bytes, 2 * LAYER_BYTES + strlen(r.config) + strlen(r.manifest));
	CHECK_INT(check_store(), 4);
	registry_stop(&r);
}

TEST(a_pull_whose_reader_is_gone_is_cancelled)
{
	struct transfer_result result = { 0 };
	struct little_registry r;
	auto_fd int write_end = -1;
	int fds[2];

	registry_start(&r);
	CHECK(sys_pipe(fds) == 0);
	write_end = fds[1];
	(void)close(fds[0]);
	CHECK_ERR(ERR_CANCELLED, pull(&r, write_end, &result));
	CHECK_INT(check_store(), 0);
	registry_stop(&r);
}

/* Whatever fails: either all is there, or an error and no manifest; never litter, never a wrong blob. */
TEST(any_failing_call_leaves_whole_blobs_and_no_litter)
{
	auto_fd int null = sys_open("/dev/null", O_WRONLY, 0);
	struct little_registry r;

	registry_start(&r);
	FAULT_SWEEP (ENOSPC) {
		struct transfer_result result = { 0 };
		struct store *store = NULL;
		struct err *e;
		size_t n;

		CHECK_OK(store_open(t_tmpdir(), &store));
		for (size_t i = 0; i < r.n_pages; i++) {
			char digest[DIGEST_MAX];

			digest_of(r.pages[i].body, r.pages[i].n, digest);
			CHECK_OK(store_blob_delete(store, digest));
		}
		store_close(store);
		t_sweep_on();
		e = pull(&r, null, &result);
		t_sweep_off();
		n = check_store();
		CHECK(e ? n < 5 && e->kind != ERR_CORRUPT : n == 4);
		err_free(e);
	}
	registry_stop(&r);
}
