/*
 * daemon.h - what docker's daemon.json says about registries, so that who comes from docker need not say it
 * again.
 *
 * "proxies": {"http-proxy", "https-proxy", "no-proxy"}.
 * Format: "insecure-registries": ["host:port", "10.0.0.0/8"], "registry-mirrors": ["https://mirror"] (for
 * docker.io only, as docker has it); all other members are docker's business. Layer: registry.  Limits: 1
 * MiB, 256 entries each.
 */
#pragma once
#include "base/err.h"
#include "http/client.h"
#include <stdbool.h>

struct daemon_conf {
	char **insecure, **mirrors; /* owned lists; NULL when none */
	char *proxies[3];	    /* owned; NULL when none */
	struct http_proxy proxy;    /* the same, for http */
};
/* path: usually /etc/docker/daemon.json. Absent: empty. ERR_INVALID names the file. */
FALLIBLE daemon_load(const char *path, struct daemon_conf *out_conf);
void daemon_fini(struct daemon_conf *c);
/* domain: "host[:port]". An entry is the same text, or a network that has the host's address (names are not
 * looked up). */
bool daemon_is_insecure(const struct daemon_conf *c, const char *domain);

#define auto_daemon __attribute__((cleanup(daemon_fini)))
