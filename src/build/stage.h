/*
 * stage.h - a build while it runs, and one stage of it: its file system as a list of layers, its configuration, its variables.
 *
 * A stage's file system is fully named by its diff ids, so everything that depends on it (cache keys) depends on them alone: a
 * step that comes to the same layer by another way joins the cache again.
 * Layer: build, private.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "build/build.h"
#include "build/dockerfile.h"
#include "build/pattern.h"
#include "build/teller.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "snapshot/snapshot.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct build;

struct stage {
	struct build *b;
	size_t index;
	const char *name;	  /* as written after AS, or NULL; borrowed */
	const struct instr *from; /* its FROM */
	size_t first, end;	  /* instructions [first, end) of the file */
	enum stage_state { STAGE_WAITS, STAGE_RUNS, STAGE_DONE, STAGE_FAILED } state; /* guarded by the build's lock */
	bool is_needed;
	pthread_t thread;
	bool has_thread;
	/* What it has come to. */
	json_t *config;	  /* image-spec config document: config, history, rootfs … */
	char **diff_ids;  /* bottom first */
	char **args;	  /* ARGs in scope, "K=V", or "K" when declared without value */
	char **onbuild;	  /* triggers of the base, to be run first */
	bool has_cmd;	  /* CMD was set in this stage */
	int64_t clamp_ns; /* no file of our layers is younger */
	unsigned step, steps;
	struct step_net *net; /* of its RUN steps; taken for the first */
};

struct build {
	struct engine *e;
	const struct build_opts *o;
	struct dockerfile file;
	struct ignore ignore;
	int context_fd;
	struct stage *stages;
	size_t n_stages;
	char **args;	  /* given: "K=V" */
	char **used_args; /* of those, what an ARG asked for: "K" */
	char **globals;	  /* ARGs before the first FROM: "K=V" or "K" */
	char *dir;	  /* private directory below ROOT/tmp */
	int dir_fd;	  /* holds its lock */
	unsigned n_dirs;
	int64_t epoch_ns; /* SOURCE_DATE_EPOCH, or -1 */
	struct teller *teller;
	pthread_mutex_t outside; /* one at a time: pulling images, connecting networks */
	pthread_mutex_t lock;	 /* guards what follows, used_args, n_dirs and the states of stages */
	pthread_cond_t changed;	 /* a stage's state */
	struct err *failure;	 /* the first that is not just a consequence */
	int cancel[2];		 /* a pipe: its end means stop */
	int finished[2];	 /* a pipe: its end means that nobody has to watch for a cancellation any more */
	char *creds_host;	 /* the registry that o->access.creds have gone to, or NULL; guarded by outside */
	struct step_net *spare;	 /* of a stage that is done, for the next */
};

/* Where an instruction stands: its file differs for ONBUILD triggers. */
struct at {
	const struct dockerfile *file;
	const struct instr *i;
};
/* Adds the place of the instruction; consumes e. piece: what to point at, or NULL. */
struct err *at_error(const struct at *at, const char *piece, struct err *e);

/* ---- variables ---- */

/* The value of a variable in the stage: ENV before ARG. NULL: unset. Borrowed. */
const char *stage_var(void *stage, const char *name);
/* One word, expanded; owned. */
FALLIBLE stage_expand(const struct stage *s, const struct at *at, const char *word, char **out_text);
/* An ARG instruction: of the stage, or with s NULL before the first FROM. */
FALLIBLE stage_arg(struct build *b, struct stage *s, const struct at *at);
/* A global variable (for FROM); ctx is the build. */
const char *build_var(void *build, const char *name);
/* What --build-arg says of a name, or NULL; notes that it was asked for. */
const char *build_given(struct build *b, const char *name);
/* Proxy variables: in the environment of RUN without ARG, in no key and no history. */
bool is_proxy_arg(const char *name);

/* ---- configuration ---- */

json_t *stage_config(const struct stage *s); /* the "config" object; borrowed */
const char *stage_workdir(const struct stage *s); /* "/" when none */
/* The shell as a list, default /bin/sh -c; owned. */
FALLIBLE stage_shell(const struct stage *s, char ***out_list);
/* Appends a history entry; text is what the instruction did. diff_id NULL: no layer. */
void stage_history(struct stage *s, const char *text, const char *diff_id);
/* ENV LABEL WORKDIR (without its directory) USER EXPOSE VOLUME CMD ENTRYPOINT SHELL STOPSIGNAL HEALTHCHECK MAINTAINER ONBUILD ARG */
FALLIBLE stage_metadata(struct stage *s, const struct at *at);
/* Argument counts and flags, before anything runs. */
FALLIBLE instr_check(const struct at *at);

/* ---- layers ---- */

/* A key over everything that makes a layer: add to it, then look. */
struct digest_state *cache_key(const struct stage *s, const char *what, bool with_layers);
void cache_add(struct digest_state *key, const char *text);
/* The layer of a key; out_found false: there is none (or no_cache). */
FALLIBLE cache_get(struct build *b, const char *key, char out_diff_id[DIGEST_MAX], bool *out_found);
FALLIBLE cache_put(struct build *b, const char *key, const char *diff_id, const char *what);
/* An empty directory of our own, absolute; owned. */
FALLIBLE build_dir(struct build *b, char **out_path);
void build_dirs_remove(struct build *b); /* all of them */

/* RUN, and COPY/ADD. Appends the layer and history. */
FALLIBLE step_run_instr(struct stage *s, const struct at *at);
FALLIBLE step_copy_instr(struct stage *s, const struct at *at);
/* What a bind mount shows, as a layer of its own: fills in m's source and content. from NULL: the context. */
struct run_mount;
FALLIBLE copy_for_mount(struct stage *s, const struct at *at, const char *from, const char *path, struct run_mount *m);
/* WORKDIR: makes the directory when the stage does not have it. */
FALLIBLE step_workdir(struct stage *s, const struct at *at);

/* parallel.c: builds stage s, or waits until who does so is done. ERR_CANCELLED: failed elsewhere, see build.failure. */
FALLIBLE stage_build(struct stage *s);
/* Builds the target and, beside it, every stage it needs. */
FALLIBLE build_all(struct build *b, struct stage *target);
bool build_is_cancelled(struct build *b);
FALLIBLE stage_net(struct stage *s, struct step_net **out_net); /* borrowed; the stage has it until it is done */
/* solve.c: the work itself; the stage a FROM names in this build, or NULL; and the one a --from names. */
FALLIBLE stage_run(struct stage *s);
struct stage *stage_base(const struct stage *s);
struct stage *stage_find(const struct stage *s, const char *name);
/* The layers of what --from names: an earlier stage or an image. Owned list. */
FALLIBLE from_layers(struct stage *s, const struct at *at, const char *name, char ***out_diff_ids);
/* "[name 2/5] TEXT": for progress; owned. */
char *stage_title(struct stage *s, const char *text);
/* The instruction as one line; owned. */
char *instr_line(const struct instr *i);
