#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "http/client.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* A server that gives each connection in turn the next of its answers, and keeps what it was asked. */
struct server {
	int fd;
	char url[64];
	const char *const *answers; /* NULL-terminated; "" keeps silent */
	char asked[8][4096];
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct server *s = arg;

	for (size_t i = 0; s->answers[i]; i++) {
		int c = accept(s->fd, NULL, NULL);
		size_t n = 0;
		char *end = NULL;
		ssize_t got;

		if (c < 0)
			return NULL;
		while (!end && (got = recv(c, s->asked[i] + n, sizeof s->asked[i] - n - 1, 0)) > 0) {
			n += (size_t)got;
			end = strstr(s->asked[i], "\r\n\r\n");
		}
		if (s->answers[i][0])
			(void)send(c, s->answers[i], strlen(s->answers[i]), MSG_NOSIGNAL);
		else
			(void)recv(c, s->asked[7], 1, 0); /* until the client gives up */
		(void)close(c);
	}
	return NULL;
}

static void server_start(struct server *s, const char *const *answers)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;

	memset(s, 0, sizeof *s);
	s->answers = answers;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(s->fd >= 0 && bind(s->fd, (struct sockaddr *)&a, n) == 0 && listen(s->fd, 8) == 0);
	CHECK(getsockname(s->fd, (struct sockaddr *)&a, &n) == 0);
	(void)snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u/a", ntohs(a.sin_port));
	CHECK(pthread_create(&s->thread, NULL, serve, s) == 0);
}

static void server_stop(struct server *s)
{
	(void)shutdown(s->fd, SHUT_RDWR);
	(void)pthread_join(s->thread, NULL);
	(void)close(s->fd);
}

#define HEAD "HTTP/1.1 200 OK\r\nConnection: close\r\n"

TEST(a_body_is_collected_and_headers_are_found)
{
	static const char *const answers[] = { HEAD "X-a: 1\r\nx-A:  two \r\nContent-Length: 2\r\n\r\nhi",
					       NULL };
	static const char *const headers[] = { "Accept: x/y", NULL };
	auto_http struct http_client *c = http_new(&(struct http_conf){ 0 });
	auto_response struct http_response r = { 0 };
	struct server s;

	server_start(&s, answers);
	CHECK_OK(
	    http_call(c,
		      &(struct http_request){
			  .method = "GET", .url = s.url, .headers = headers, .authorization = "Basic eDp5" },
		      &r));
	CHECK_INT(r.status, 200);
	CHECK_STR(buf_text(&r.body), "hi");
	CHECK_STR(http_header(&r, "x-a", 0), "1");
	CHECK_STR(http_header(&r, "X-A", 1), "two");
	CHECK(!http_header(&r, "X-A", 2) && !http_header(&r, "X", 0));
	server_stop(&s);
	CHECK(strstr(s.asked[0], "Accept: x/y\r\n") && strstr(s.asked[0], "Authorization: Basic eDp5\r\n"));
	CHECK(!strstr(s.asked[0], "Expect:"));
}

TEST(a_silent_server_is_a_timeout)
{
	static const char *const answers[] = { "", NULL };
	auto_http struct http_client *c = http_new(&(struct http_conf){ .stall_seconds = 1 });
	auto_response struct http_response r = { 0 };
	struct server s;

	server_start(&s, answers);
	CHECK_ERR(ERR_TIMEOUT, http_call(c, &(struct http_request){ .method = "GET", .url = s.url }, &r));
	CHECK_INT(r.cause, HTTP_STALL);
	server_stop(&s);
}

static bool yes(void *ctx)
{
	(void)ctx;
	return true;
}

TEST(cancelling_ends_a_wait)
{
	static const char *const answers[] = { "", NULL };
	auto_http struct http_client *c = http_new(&(struct http_conf){ .is_cancelled = yes });
	auto_response struct http_response r = { 0 };
	struct server s;

	server_start(&s, answers);
	CHECK_ERR(ERR_CANCELLED, http_call(c, &(struct http_request){ .method = "GET", .url = s.url }, &r));
	server_stop(&s);
}

static struct err *refuse(void *ctx, const struct http_response *r, const void *p, size_t n)
{
	(void)r, (void)p, (void)n;
	*(int *)ctx += 1;
	return FAIL(ERR_CORRUPT, "not that");
}

TEST(a_sink_ends_the_call_and_never_sees_error_pages)
{
	static const char *const answers[] = {
		HEAD "Content-Length: 2\r\n\r\nhi",
		"HTTP/1.1 404 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", NULL
	};
	auto_http struct http_client *c = http_new(&(struct http_conf){ 0 });
	auto_response struct http_response r = { 0 };
	struct server s;
	int calls = 0;
	struct http_request q = { .method = "GET", .sink = refuse, .ctx = &calls };

	server_start(&s, answers);
	q.url = s.url;
	CHECK_ERR(ERR_CORRUPT, http_call(c, &q, &r));
	CHECK_INT(calls, 1);
	CHECK_OK(http_call(c, &q, &r));
	CHECK_INT(calls, 1);
	CHECK_INT(r.status, 404);
	CHECK_STR(buf_text(&r.body), "no");
	server_stop(&s);
}

TEST(limits_hold_and_cuts_are_told_apart)
{
	static const char *const answers[] = { HEAD "Content-Length: 9\r\n\r\n123456789",
					       HEAD "Content-Length: 9\r\n\r\n1234", NULL };
	auto_http struct http_client *c = http_new(&(struct http_conf){ 0 });
	auto_response struct http_response r = { 0 };
	struct server s;

	server_start(&s, answers);
	CHECK_ERR(ERR_LIMIT,
		  http_call(c, &(struct http_request){ .method = "GET", .url = s.url, .max_body = 8 }, &r));
	CHECK_ERR(ERR_UNAVAILABLE, http_call(c, &(struct http_request){ .method = "GET", .url = s.url }, &r));
	CHECK_INT(r.cause, HTTP_CUT);
	server_stop(&s);
}

TEST(redirects_are_the_callers_choice_and_posts_follow_none)
{
	static const char *const answers[] = {
		"HTTP/1.1 302 F\r\nConnection: close\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 302 F\r\nConnection: close\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 302 F\r\nConnection: close\r\nLocation: b?c\r\nContent-Length: 0\r\n\r\n",
		HEAD "Content-Length: 0\r\n\r\n", NULL
	};
	auto_http struct http_client *c = http_new(&(struct http_conf){ 0 });
	auto_response struct http_response r = { 0 };
	struct server s;

	server_start(&s, answers);
	CHECK_OK(http_call(c, &(struct http_request){ .method = "GET", .url = s.url }, &r));
	CHECK_INT(r.status, 302);
	CHECK_OK(
	    http_call(c,
		      &(struct http_request){
			  .method = "POST", .url = s.url, .has_body = true, .bytes = "", .redirects = 5 },
		      &r));
	CHECK_INT(r.status, 302);
	CHECK_OK(http_call(c,
			   &(struct http_request){
			       .method = "GET", .url = s.url, .redirects = 5, .authorization = "Basic eDp5" },
			   &r));
	CHECK_INT(r.status, 200);
	server_stop(&s);
	CHECK(strncmp(s.asked[3], "GET /b?c HTTP/1.1\r\n", 19) == 0 && strstr(s.asked[3], "Authorization:"));
}
