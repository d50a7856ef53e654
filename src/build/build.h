/*
 * build.h - a Dockerfile and its context to an image: docker build.
 *
 * The image is named when everything has succeeded; a failure or a crash leaves no image, no process, no mount. Same Dockerfile,
 * context and base give the same digest (docs/why/same-digest.md). Only stages that the target needs are built.
 * Layer: build.  Threads: one build per call; several at once share the cache.  Blocks: as long as the steps take.
 * Language: Dockerfile reference 1.x; what is not supported is ERR_UNSUPPORTED with its place, never skipped.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/image.h"
#include <stdbool.h>
#include <stdint.h>

enum build_progress { BUILD_PROGRESS_AUTO, BUILD_PROGRESS_PLAIN, BUILD_PROGRESS_TTY };
struct build_opts {
	const char *context_dir;  /* path of a directory */
	const char *dockerfile;	  /* NULL: Dockerfile in the context; "-": standard input; relative paths are of our own directory */
	char *const *tags;	  /* NULL-terminated, or NULL: the image is known by its id */
	const char *target;	  /* stage to end with, or NULL: the last */
	char *const *build_args;  /* "K=V", or "K": from our environment; NULL: none */
	char *const *labels;	  /* "K=V"; NULL: none */
	char *const *secrets;	  /* "id=ID[,src=FILE|,env=NAME]" for RUN --mount=type=secret; NULL: none */
	bool no_cache, pull, quiet, host_ca;
	enum build_progress progress;
	struct engine_access access; /* to the registries of base images; credentials go to one */
	int cancel_fd;		  /* > 0: when it becomes readable, the build ends with ERR_CANCELLED; borrowed */
};
/*
 * Progress goes to stderr (quiet: nothing but the output of a step that failed). out_image_id: owned "sha256:…".
 * Errors: ERR_INVALID with file, line and a caret; ERR_NOT_FOUND for sources and images; ERR_UNSUPPORTED; a RUN that fails is
 * ERR_INVALID "process \"…\" did not complete successfully: exit code: N".
 */
FALLIBLE build_run(struct engine *e, const struct build_opts *o, char **out_image_id);
/* engine_cache_prune, and the directories of RUN --mount=type=cache that no step uses now. */
FALLIBLE build_prune(struct engine *e, bool all, const json_t *filters, char ***out_keys, uint64_t *out_bytes);
