/*
 * cmd.h - commands as data: parser, help, man page and completion read the same table.
 *
 * Layer: cli.  Adding a run flag: one row in the option table of its command and one line where its run() uses the field.
 */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

enum opt_type {
	OPT_END,
	OPT_FLAG,  /* bool; also --x=true|false */
	OPT_NOT,   /* bool; a flag that is true when nothing is said: --x=false sets the field */
	OPT_BOTH,  /* two bools, one behind the other: --x and --x=true set the first, --x=false the second, unsaid neither */
	OPT_STR,   /* const char *, borrowed */
	OPT_UINT,  /* unsigned, at most max */
	OPT_INT,   /* int; may be negative */
	OPT_LIST,  /* char **, NULL-terminated, repeatable; owned by the parser */
	OPT_BYTES, /* uint64_t: 512m */
	OPT_CPUS,  /* uint64_t: nano-CPUs */
};
struct opt {
	enum opt_type type;
	char letter;		/* 0: long form only */
	const char *name, *arg; /* "dir", placeholder "DIR" (NULL for flags) */
	size_t at;		/* offsetof(conf, field) */
	unsigned max;		/* OPT_UINT: largest value accepted */
	const char *help;
};
struct cmd {
	const char *name, *args, *summary;
	const struct opt *opts;
	size_t conf_size; /* zeroed, then filled by the parser; run sees no argv */
	int min_args, max_args; /* max -1: any number */
	bool stop_at_arg;	/* options end at the first argument (run, exec) */
	int error_exit;		/* exit code of errors; 0: 1 */
	bool is_hidden;
	/* exit code when an error is not one: run's container status */
	struct err *(*run)(const void *conf, char *const args[], int *out_exit);
	const struct cmd *const *subs; /* NULL-terminated: a group (image, volume, system …) */
	const char *alias_of;	       /* shown in help only */
};
/* The whole command line: global options, command, its options. Prints errors ("hoy: …"); returns the exit code. */
int cmd_main(char *argv[]);
bool cmd_opt_is_flag(const struct opt *o); /* stands alone: no value follows */
/* Every row once, by name; *out_n of them. Owned list of borrowed rows. */
const struct opt **cmd_opts_sorted(const struct cmd *c, size_t *out_n);
/* path: "hoy run" */
void cmd_help(const struct cmd *c, const char *path);
/* Options and arguments of one command (path: "image rm") into a fresh conf (owned; cmd_conf_free) and the rest of argv (borrowed). */
FALLIBLE cmd_parse(const struct cmd *c, const char *path, char *argv[], void **out_conf, char ***out_args);
void cmd_conf_free(const struct cmd *c, void *conf);
/* The command that argv[0…] names; *out_argv: what follows; out_path: "container run". NULL: none. */
const struct cmd *cmd_find(char *argv[], char ***out_argv, char out_path[64]);
extern const struct cmd *const cmd_all[]; /* NULL-terminated: the top level */
struct engine;
struct engine_opts;
const struct engine_opts *cmd_engine_opts(void); /* of the global options */
FALLIBLE cmd_engine(struct engine **out_engine); /* opened at first use with --root/--run; closed by main */
