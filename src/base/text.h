/* text.h - small text helpers: lists of strings, shell-like quoting for messages. Layer: base. */
#pragma once
#include "base/sv.h"
#include <stdbool.h>
#include <stddef.h>

/* A NULL-terminated list of owned strings. */
void text_list_free(char **list);
size_t text_list_len(char *const *list);
bool text_list_has(char *const *list, const char *s);
/* Appends a copy of s; grows by one. */
void text_list_add(char ***list, const char *s);
char **text_list_dup(char *const *list);
/* Sets KEY=VALUE in an environment list, replacing an earlier value. entry is "KEY=VALUE" (copied). */
void text_env_set(char ***env, const char *entry);
/* The value of key, borrowed, or NULL. */
const char *text_env_get(char *const *env, const char *key);
/* Lower-case hex of n bytes into out[2n+1]. */
void text_hex(const void *p, size_t n, char *out);
bool text_is_hex(struct sv s);
/* docker's rule for container, volume and network names: [a-zA-Z0-9][a-zA-Z0-9_.-]+ */
bool text_is_name(struct sv s);

#define auto_list __attribute__((cleanup(own_list)))
static inline void own_list(char ***slot)
{
	text_list_free(*slot);
}
