/*
 * image_ahead.h - applies layers while others are still on their way from the registry.
 *
 * Only a head start: what fails here is tried again, and reported, by image_apply.
 * Layer: engine.  Threads: up to 4 of its own; the calls belong to one thread.
 */
#pragma once
#include "base/sv.h"
#include "engine/image_store.h"

struct image_ahead;
struct image_ahead *image_ahead_new(struct engine *e); /* no thread yet; never NULL */
/* line: {"layer":D,"diff_id":X,"media_type":T,"size":N} of hoy-transfer; what is none is ignored. */
void image_ahead_add(struct image_ahead *a, const json_t *line);
/* Waits for what was begun; drop: what was not begun is left. Frees a. */
void image_ahead_end(struct image_ahead *a, bool drop);
