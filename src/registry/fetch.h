/*
 * fetch.h - what a URL has, as a stream: for import and load.
 *
 * A connection that is cut goes on where it was, when the server says that the file is still the same (RFC 9110 13.1.5:
 * If-Range with a strong ETag or a Last-Modified). Layer: registry.  Blocks: yes.
 */
#pragma once
#include "base/err.h"
#include "registry/client.h"

struct fetch_conf { /* all borrowed */
	const char *url;
	struct report *report; /* asked whether to go on */
	const struct daemon_conf *daemon;
	struct patience patience;
	int out_fd;
};
/* All of it to out_fd, in order. ERR_NOT_FOUND, ERR_DENIED …: what the server says; ERR_UNAVAILABLE cut too often. */
FALLIBLE fetch_url(const struct fetch_conf *conf);
