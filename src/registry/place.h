/*
 * place.h - where an image can be asked for: mirrors first, the registry itself last, as the configuration
 * files of podman, containerd and docker say.
 *
 * The first that says something about a name decides, alone: registries.conf (registries.h), containerd's
 * certs.d/<host>/hosts.toml (hosts.h), docker's daemon.json (registry-mirrors, for docker.io only). What
 * makes a registry insecure adds up: --insecure, daemon.json, the entry itself, loopback; --tls-verify=true outweighs all. Layer: registry.
 * docs/registry.md tells users the same.
 */
#pragma once
#include "base/err.h"
#include "base/vec.h"
#include "image/ref.h"
#include "registry/daemon.h"
#include <stdbool.h>

struct cred;
struct access { /* what the command line says of one registry; all borrowed */
	bool is_insecure;	 /* plain HTTP and any certificate will do; not at its mirrors */
	bool is_strict;		 /* neither will do, whatever the files say and wherever it is; not of its mirrors */
	const struct cred *cred; /* who we are there, not at its mirrors; NULL: what a file has */
	const char *auth_file;	 /* the only file that counts, for mirrors too; NULL: those of the machine */
	const char *cert_dir;	 /* *.crt, x.cert and x.key instead of those in certs.d; not for its mirrors */
};
struct place {            /* all owned */
	char *scheme;     /* "https" or "http"; NULL: https, and http when that fails and it is insecure */
	char *host;       /* "host[:port]": whom we ask, and whose credentials are used */
	char *root;       /* path of the API: "/v2" */
	char *repository; /* there */
	char *ns;         /* the registry that a mirror stands for, told as ns= (containerd); or NULL */
	bool is_insecure, is_mirror;
	bool can_pull, can_resolve, can_push;
	char **headers;      /* "Name: value", for host alone; may be NULL */
	char **ca;           /* files of authorities beside the system's; may be NULL */
	char *cert, *key;    /* the client's; both or none */
	unsigned connect_ms; /* 0: as usual */
};
struct places {
	VEC(struct place) v; /* at least one; the last is the registry itself */
};
/*
 * ref->path may be "" (login). access NULL: nothing is said. ERR_DENIED the registry is blocked; ERR_INVALID a broken file,
 * named; a file says http:// of a registry that access is strict about.
 */
FALLIBLE places_find(const struct ref *ref, const struct daemon_conf *daemon, const struct access *access,
		     struct places *out);
void places_fini(struct places *p);
/* Adds an empty place that can do all; its host and repository are copied. */
struct place *places_add(struct places *p, const char *host, const char *repository);

/* The first that takes pushes; borrowed. ERR_DENIED none does. domain: for the message. */
FALLIBLE places_for_push(const struct places *p, const char *domain, const struct place **out_place);

#define auto_places __attribute__((cleanup(places_fini)))
