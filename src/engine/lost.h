/*
 * lost.h - a store without database: it holds images, but neither meta/data.mdb nor meta/log is there any more. Taken for a new store, all
 * of it would be swept as nobody's.
 *
 * Layer: engine.  Limits: index.json up to RECORD_BODY_MAX.
 */
#pragma once
#include "base/err.h"
#include <stdbool.h>

#define LOST_DATABASE "the database is gone, and its log: 'hoy verify --repair' makes one again from index.json"

/* root_fd borrowed. index.json is written after the database, so one that names images tells of a database. */
bool lost_database(int root_fd);
/*
 * A database with the images that index.json names. What else was in it is lost, and told; the files of containers go to
 * ROOT/containers.lost, those of volumes stay. A kill on the way leaves the store as lost as before, or whole.
 */
FALLIBLE lost_make_again(int root_fd, const char *root, void (*tell)(void *ctx, const char *line), void *ctx);
