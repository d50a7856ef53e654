/*
 * client.h - HTTP requests over libcurl: streaming both ways, redirects under our rules, errors in words for
 * people.
 *
 * SECURITY: the authorization value goes to the origin (scheme, host, port) of the request's URL and nowhere else;
 * a redirect from https to http is refused; nothing of a request's query or secrets appears in messages.
 * TLS: system CA bundle (SSL_CERT_FILE, CURL_CA_BUNDLE, SSL_CERT_DIR), plus <certs_dir>/<host[:port]>/ (*.crt; a
 * pair *.cert, *.key for the client) as docker has it: the first that exists of ~/.config/containers/certs.d,
 * /etc/containers/certs.d, /etc/docker/certs.d, /etc/containerd/certs.d. Proxies from the environment (HTTP_PROXY,
 * HTTPS_PROXY, ALL_PROXY, NO_PROXY, in both cases), never for loopback. HTTP/1.1.
 * Layer: http.  Threads: a client belongs to one thread at a time; http_init before threads start.  Blocks: yes.
 * Limits: 64 KiB of headers, connect 30 s, stall_seconds below 1 byte/s; 120 s in all when the body is collected.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct http_trust { /* of one host; all borrowed, outlive the client */
	const char *host; /* "host[:port]"; NULL: nothing below holds */
	char *const *ca;  /* files of authorities beside the system's; may be NULL */
	const char *cert, *key; /* the client's; may be NULL */
	/* Instead of <certs_dir>/host: its pair is for host alone, its authorities also for whom host leads to. NULL: none. */
	const char *dir;
};
struct http_proxy { /* URLs for http and https, hosts without; borrowed; used when the environment has none */
	const char *http, *https, *no;
};
struct http_conf {
	bool is_insecure;                /* certificates are not checked */
	const char *certs_dir;           /* borrowed; NULL: those of containers, containerd and docker */
	struct http_trust trust;
	struct http_proxy proxy;
	unsigned stall_seconds;          /* 0: 60 */
	unsigned connect_ms;             /* 0: 30 s */
	bool (*is_cancelled)(void *ctx); /* NULL: never; asked every second or oftener */
	void *ctx;
};
/* Why a call failed; also set when http_call returns an error. */
enum http_cause { HTTP_OK, HTTP_CONNECT, HTTP_TLS, HTTP_CUT, HTTP_STALL, HTTP_OTHER };

struct http_response {
	int status;
	enum http_cause cause;
	char **headers; /* owned list "Name: value", of the last answer */
	size_t header_bytes;
	struct buf body; /* collected: all of a 2xx without sink, at most 64 KiB of others */
};
/* Takes n bytes of the body of a 2xx answer, whose status and headers are in r. An error ends the call and is
 * returned by it. */
typedef struct err *http_sink(void *ctx, const struct http_response *r, const void *p, size_t n);

struct http_request {
	const char *method;
	const char *url;
	const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
	const char *authorization;  /* value of that header, or NULL */
	const char *const *origin_headers; /* as headers, but like authorization: for the origin of url alone */
	bool has_body;
	const void *bytes; /* the body: bytes, or from body_fd at body_at */
	int body_fd;
	uint64_t body_at, body_size;                     /* bytes */
	void (*on_sent)(void *ctx, uint64_t sent_bytes); /* may be NULL */
	unsigned handshake_ms; /* how long TLS may take once a connection stands (HTTP_TLS); 0: as connecting */
	unsigned redirects;                              /* how many to follow; only GET and HEAD follow */
	size_t max_body; /* bytes collected at most when there is no sink: ERR_LIMIT beyond */
	http_sink *sink; /* NULL: collect */
	void *ctx;       /* of sink and on_sent */
};

struct http_client;
void http_init(void);                                       /* once per process */
struct http_client *http_new(const struct http_conf *conf); /* conf copied; never NULL */
void http_free(struct http_client *c);
/*
 * Any status is success. out is reset first and usable on error (cause); end with http_response_fini.
 * ERR_UNAVAILABLE cannot reach, TLS, cut; ERR_TIMEOUT; ERR_CANCELLED; ERR_LIMIT body or headers; ERR_INVALID
 * url, redirects; the sink's.
 */
FALLIBLE http_call(struct http_client *c, const struct http_request *q, struct http_response *out);
void http_response_fini(struct http_response *r);
/* The nth (from 0) header of that name, borrowed, or NULL. */
const char *http_header(const struct http_response *r, const char *name, size_t nth);

/* Whether it is a part that begins at byte want_at: "Content-Range: bytes 100-199/200". */
bool http_range_starts_at(const struct http_response *r, uint64_t want_at);

static inline void own_http(struct http_client **slot)
{
	http_free(*slot);
}
#define auto_http     __attribute__((cleanup(own_http)))
#define auto_response __attribute__((cleanup(http_response_fini)))
