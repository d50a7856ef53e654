/*
 * oci_opt.h - the commands of hoy-runtime as data: parser, help and manual page read one table.
 *
 * Options may stand before and behind the arguments, as crun (argp) and runc take them; of exec they end at
 * the first one, because the rest is the container's command. "--x=v", "--x v", "-x v", "-xv"; flags also
 * "--x=false"; "--" ends them. Layer: runtime.  Threads: one.
 */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum oci_opt_kind {
	OCI_END,
	OCI_FLAG,   /* bool */
	OCI_STR,    /* const char *, borrowed from argv */
	OCI_LIST,   /* char **, repeatable; owned by the configuration */
	OCI_ACCEPT, /* a flag of callers that has nothing to do here; the help says why */
};
struct oci_opt {
	enum oci_opt_kind kind;
	char letter;            /* 0: long form only */
	const char *name, *arg; /* "bundle", placeholder "DIR" */
	size_t at;              /* offsetof(configuration, field) */
	const char *help;
};
struct oci;
struct oci_cmd {
	const char *name, *args, *summary;
	const struct oci_opt *opts;
	size_t conf_size;       /* zeroed, then filled by the parser */
	int min_args, max_args; /* max -1: any number */
	bool stop_at_arg;
	/* args: what is no option, NULL-terminated. *out_exit: of a container's process. */
	struct err *(*run)(const struct oci *o, const void *conf, char *const args[], int *out_exit);
};
/*
 * Fills conf (of c->conf_size bytes, zeroed by the caller) from argv; *out_args (owned array of borrowed
 * words) gets the rest. ERR_INVALID: unknown option, no value, too few or too many arguments. *out_help:
 * --help was asked for.
 */
FALLIBLE oci_parse(const struct oci_cmd *c, char *const argv[], void *conf, char ***out_args, bool *out_help);
void oci_conf_fini(const struct oci_cmd *c, void *conf); /* the lists */
void oci_usage(FILE *to, const char *program, const struct oci_cmd *c);
/* The whole manual page as roff; commands is NULL-terminated. */
void oci_man(const struct oci_opt *globals, const struct oci_cmd *const *commands);
