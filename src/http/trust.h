/*
 * trust.h - which authorities and client certificates hold for a host (client.h says which), set on a curl handle.
 *
 * Layer: http (internal).  Threads: belongs to one client.
 */
#pragma once
#include "http/client.h"
#include "http/url.h"
#include <curl/curl.h>

struct trust;
struct trust *trust_new(const struct http_conf *conf); /* never NULL; conf's pointers are borrowed */
void trust_free(struct trust *t);
/* For a request to u. ERR_… a file that conf names cannot be read. */
FALLIBLE trust_apply(struct trust *t, CURL *curl, const struct url *u);
/* "/etc/docker/certs.d/HOST[:PORT]": where to put an authority's certificate; owned. */
char *trust_place(const struct trust *t, const struct url *u);
