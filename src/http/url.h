/*
 * url.h - URLs: parts, origins, references (RFC 3986) as Location headers have them. Only http and https.
 *
 * Layer: http.  Pure.  Errors: ERR_INVALID.
 */
#pragma once
#include "base/err.h"
#include <stdbool.h>

struct url {
	char *scheme, *host,
	    *port;     /* owned; port always there (80, 443 when left out); host of IPv6 in brackets */
	bool has_port; /* written out */
};
/* User and password inside a URL are refused. */
FALLIBLE url_parse(const char *text, struct url *out_url);
void url_fini(struct url *u);
bool url_same_origin(const struct url *a, const struct url *b);
/* reference seen in an answer to base; owned. */
FALLIBLE url_resolve(const char *base, const char *reference, char **out_url);
/* localhost, 127.0.0.0/8, ::1: what never leaves the machine. host: with or without brackets, no port. */
bool url_host_is_loopback(const char *host);
/* For messages: without query and fragment, at most 200 characters; owned. */
char *url_display(const char *text);

#define auto_url __attribute__((cleanup(url_fini)))
