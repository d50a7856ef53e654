/*
 * image_ahead.h - makes layers while they, and others, are still on their way from the registry.
 *
 * Only a head start: what fails here is tried again, and reported, by image_apply.
 * Layer: engine.  Threads: up to 4 of its own; the calls belong to one thread.
 */
#pragma once
#include "base/sv.h"
#include "engine/image_store.h"

struct image_ahead;
struct image_ahead *image_ahead_new(struct engine *e); /* no thread yet; never NULL */
/* One of hoy-transfer's lines (registry/report.h); false: it is not about what this is for. a may be NULL. */
bool image_ahead_line(struct image_ahead *a, const json_t *line);
/* Waits for what was begun and can be ended; drop: what was not begun is left. Frees a. */
void image_ahead_end(struct image_ahead *a, bool drop);
