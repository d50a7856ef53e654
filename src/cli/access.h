/*
 * access.h - the options that say how to reach one registry: --creds, --authfile, --cert-dir, --insecure, --tls-verify.
 *
 * Layer: cli.
 */
#pragma once
#include "base/err.h"
#include "cli/cmd.h"
#include "engine/image.h"

_Static_assert(offsetof(struct engine_access, insecure) == offsetof(struct engine_access, strict) + 1, "OPT_BOTH");

/* Rows of an option table whose conf has a struct engine_access at field; of: "the registry", for the help. */
#define ACCESS_OPTS(conf, field, prefix, of)                                                                                       \
	{ OPT_STR, 0, prefix "authfile", "FILE", offsetof(conf, field.authfile), 0, "Credentials of " of ", instead of the usual files" }, \
	{ OPT_STR, 0, prefix "cert-dir", "DIR", offsetof(conf, field.cert_dir), 0, "Certificates (*.crt, x.cert, x.key) of " of },    \
	{ OPT_STR, 0, prefix "creds", "USER[:PASSWORD]", offsetof(conf, field.creds), 0, "Who we are at " of },                       \
	{ OPT_BOTH, 0, prefix "tls-verify", NULL, offsetof(conf, field.strict), 0,                                                    \
	  "HTTPS and a trusted certificate, also on loopback; =false: neither is needed of " of }
#define ACCESS_NO_CREDS(conf, field, prefix, of)                                                                                   \
	{ OPT_FLAG, 0, prefix "no-creds", NULL, offsetof(conf, field.no_creds), 0, "Nobody at " of }
#define ACCESS_INSECURE(conf, field)                                                                                               \
	{ OPT_FLAG, 0, "insecure", NULL, offsetof(conf, field), 0, "Accept plain HTTP and any certificate" }

/*
 * Checks what was said and, at a terminal, asks for the password that --creds lacks: then *out_creds (owned) has both and
 * *out_access is said with it. ERR_INVALID, ERR_CANCELLED.
 */
FALLIBLE access_complete(const struct engine_access *said, char **out_creds, struct engine_access *out_access);
FALLIBLE access_check(const struct engine_access *said); /* what excludes each other: ERR_INVALID */
bool access_is_said(const struct engine_access *said);
/* One line of the terminal into out; hidden: nothing is shown, and it must not be empty. ERR_CANCELLED. */
FALLIBLE access_ask(const char *question, bool hidden, char out[256]);
