/* map.c - open addressing over an ordered array, load at most one half; nothing is ever removed. */
#include "base/map.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(const char *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return h;
}

void map_fini(struct map *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->entries[i].key);
	free(m->entries);
	free(m->slots);
	*m = (struct map){ 0 };
}

static size_t slot_of(const struct map *m, const char *key, uint64_t hash)
{
	size_t i = hash & (m->n_slots - 1);

	while (m->slots[i]) {
		const struct map_entry *e = &m->entries[m->slots[i] - 1];

		if (e->hash == hash && strcmp(e->key, key) == 0)
			break;
		i = (i + 1) & (m->n_slots - 1);
	}
	return i;
}

void **map_get(const struct map *m, const char *key)
{
	size_t i;

	if (!m->n)
		return NULL;
	i = slot_of(m, key, hash_of(key));
	return m->slots[i] ? &m->entries[m->slots[i] - 1].value : NULL;
}

static void grow(struct map *m)
{
	m->cap = m->cap ? m->cap * 2 : 16;
	m->entries = xrealloc(m->entries, m->cap * sizeof *m->entries);
	m->n_slots = m->cap * 2;
	free(m->slots);
	m->slots = xcalloc(m->n_slots, sizeof *m->slots);
	for (size_t k = 0; k < m->n; k++)
		m->slots[slot_of(m, m->entries[k].key, m->entries[k].hash)] = (uint32_t)k + 1;
}

void **map_put(struct map *m, const char *key)
{
	uint64_t hash = hash_of(key);
	size_t i;

	if (m->n == m->cap)
		grow(m);
	i = slot_of(m, key, hash);
	if (!m->slots[i]) {
		m->entries[m->n] = (struct map_entry){ .key = xstrdup(key), .hash = hash };
		m->slots[i] = (uint32_t)++m->n;
	}
	return &m->entries[m->slots[i] - 1].value;
}
