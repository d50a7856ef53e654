/*
 * map.h - string to pointer, kept in insertion order; for the hundreds of entries our own documents have.
 *
 * Keys are copied and owned; values are borrowed. A lookup hashes; iteration runs over entries[0..n).
 * Layer: base.  Threads: one at a time.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct map_entry {
	char *key;
	void *value;
	uint64_t hash;
};
struct map {
	struct map_entry *entries;
	size_t n, cap;
	uint32_t *slots; /* index + 1 into entries; 0 is free */
	size_t n_slots;
};

#define auto_map __attribute__((cleanup(map_fini)))
void map_fini(struct map *m);
/* The slot of the value, or NULL; valid until the next put. */
void **map_get(const struct map *m, const char *key);
/* The slot of the value of key, added with value NULL when it was not there. Overwrite as you like. */
void **map_put(struct map *m, const char *key);
