/*
 * context.h - where a build reads from: the directory, the Dockerfile, what .dockerignore leaves out.
 *
 * Layer: build, private.
 */
#pragma once
#include "build/build.h"
#include "build/dockerfile.h"
#include "build/pattern.h"

/* ERR_NOT_FOUND "unable to prepare context: path "…" not found"; ERR_INVALID when it is no directory. Owned fd. */
FALLIBLE context_open(const struct build_opts *o, int *out_fd);
/* The Dockerfile, parsed. ERR_NOT_FOUND. */
FALLIBLE context_dockerfile(const struct build_opts *o, int context_fd, struct dockerfile *out_file);
/* <Dockerfile>.dockerignore beside it, else .dockerignore; no rules when there is neither. */
FALLIBLE context_ignore(const struct build_opts *o, int context_fd, struct ignore *out_rules);
