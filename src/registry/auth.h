/*
 * auth.h - what a registry asks for (WWW-Authenticate) and the value of Authorization that answers it.
 *
 * Specification: RFC 7235 4.1 (parsed leniently), CNCF distribution auth/token.md and auth/oauth.md.
 * SECURITY: a password or refresh token goes to a token server only over https that a verified registry named, or,
 * when the registry itself is not verified (http, insecure), to the registry's own host; else an anonymous token
 * is asked for.
 * Layer: registry.  Threads: none of its own.
 */
#pragma once
#include "base/err.h"
#include "http/client.h"
#include "registry/cred.h"
#include <stdbool.h>

struct challenge {
	bool has_basic, has_bearer;
	char *realm, *service, *scope; /* of Bearer; owned; NULL when absent */
};
/* Adds what one header says; unknown schemes are skipped. */
void challenge_parse(const char *header, struct challenge *c);
void challenge_fini(struct challenge *c);

struct auth_ask {
	const struct challenge *challenge;
	const struct cred *cred;
	const char *registry_url; /* base, "https://host" */
	bool is_insecure;         /* its certificate is not checked */
	char *const *scopes;      /* "repository:x:pull", ...; NULL: none */
};
/*
 * *out_value: "Basic …" or "Bearer …", owned; NULL when there is nothing to offer. *out_seconds: how long it
 * is good. out_answer: the token server's, for whoever may ask again; empty when it was not asked.
 * ERR_DENIED the token server refuses; ERR_INVALID its answer or realm is none; else as http_call.
 */
FALLIBLE auth_obtain(struct http_client *http, const struct auth_ask *ask, struct http_response *out_answer,
		     char **out_value, unsigned *out_seconds);

#define auto_challenge __attribute__((cleanup(challenge_fini)))
