#include "base/text.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

void text_list_free(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

size_t text_list_len(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

bool text_list_has(char *const *list, const char *s)
{
	while (list && *list && strcmp(*list, s) != 0)
		list++;
	return list && *list;
}

void text_list_add(char ***list, const char *s)
{
	size_t n = text_list_len(*list);

	*list = xrealloc(*list, (n + 2) * sizeof **list);
	(*list)[n] = xstrdup(s);
	(*list)[n + 1] = NULL;
}

char **text_list_dup(char *const *list)
{
	size_t n = text_list_len(list);
	char **copy = xcalloc(n + 1, sizeof *copy);

	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(list[i]);
	return copy;
}

static size_t key_len(const char *entry)
{
	return strcspn(entry, "=");
}

void text_env_set(char ***env, const char *entry)
{
	size_t n = key_len(entry);

	for (char **p = *env; p && *p; p++) {
		if (key_len(*p) == n && strncmp(*p, entry, n) == 0) {
			free(*p);
			*p = xstrdup(entry);
			return;
		}
	}
	text_list_add(env, entry);
}

const char *text_env_get(char *const *env, const char *key)
{
	size_t n = strlen(key);

	for (; env && *env; env++)
		if (strncmp(*env, key, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

void text_hex(const void *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[b[i] >> 4];
		out[2 * i + 1] = digits[b[i] & 15];
	}
	out[2 * n] = '\0';
}

bool text_is_hex(struct sv s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
			return false;
	return s.n > 0;
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool text_is_name(struct sv s)
{
	if (s.n < 2 || s.n > 255 || !is_alnum(s.p[0]))
		return false;
	for (size_t i = 1; i < s.n; i++)
		if (!is_alnum(s.p[i]) && s.p[i] != '_' && s.p[i] != '.' && s.p[i] != '-')
			return false;
	return true;
}
