/* words.h - names of a specification and what they stand for; a table ends with name NULL. Layer: runtime,
 * private. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct word {
	const char *name;
	uint64_t value;
};

/* NULL: not in the table (or name is NULL). */
static inline const struct word *word_find(const struct word *words, const char *name)
{
	for (; name && words->name; words++)
		if (strcmp(words->name, name) == 0)
			return words;
	return NULL;
}
