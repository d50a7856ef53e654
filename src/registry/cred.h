/*
 * cred.h - credentials where docker keeps them: $DOCKER_CONFIG/config.json, else ~/.docker/config.json, and its
 * helpers.
 *
 * Format: docker CLI config.json: auths{key: {auth: base64 "user:password", identitytoken, registrytoken}},
 * credsStore, credHelpers{host: helper}; helper protocol of docker-credential-*: get, store, erase with text on
 * stdin and stdout. A rewrite keeps every other member, is atomic (rename) and 0600.
 * Layer: registry. Blocks: helpers run up to 60 s.
 * Limits: file 1 MiB.
 */
#pragma once
#include "base/err.h"
#include <stdbool.h>

struct cred {
	char *user, *password; /* owned; NULL when there are none */
	char *identity_token;  /* owned; a refresh token for the token server, instead of a password */
	char *registry_token;  /* owned; a bearer token as it is */
};
void cred_fini(struct cred *c);
bool cred_is_empty(const struct cred *c); /* nothing was stored */
/* Key of a registry in these files: "https://index.docker.io/v1/" for docker.io, else the host[:port].
 * Borrowed. */
const char *cred_key(const char *domain);
/* docker's file, owned. ERR_INVALID without DOCKER_CONFIG and HOME. */
FALLIBLE cred_file(char **out_path);
struct cred_for { /* all borrowed */
	const char *domain, *repository; /* repository: NULL for the registry itself */
	bool (*is_cancelled)(void *ctx); /* NULL: never; asked while a helper thinks */
	void *ctx;
};
/*
 * Nothing stored: an empty cred. path: of cred_file, or NULL. What docker's file does not know is looked up
 * where podman and skopeo keep it: REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR/containers/auth.json,
 * /run/containers/<uid>/auth.json,
 * XDG_CONFIG_HOME (~/.config)/containers/auth.json; there keys may be "host/namespace/repository", the longest that fits is
 * taken, after the file's credHelpers; credential-helpers of registries.conf say what stands instead of these
 * files, or beside them. ERR_INVALID a broken file or helper; ERR_CANCELLED.
 */
FALLIBLE cred_load(const char *path, const struct cred_for *who, struct cred *out_cred);
/* What this file alone, of podman's or docker's kind, has. ERR_NOT_FOUND there is no such file. */
FALLIBLE cred_load_file(const char *path, const struct cred_for *who, struct cred *out_cred);
/* Into the file, made when it is missing (with its directory), or the helper that it names. */
FALLIBLE cred_store(const char *path, const char *domain, const struct cred *c);
/* domain NULL: all that the file knows of. *out_found: whether there was something. */
FALLIBLE cred_erase(const char *path, const char *domain, bool *out_found);

#define auto_cred __attribute__((cleanup(cred_fini)))
