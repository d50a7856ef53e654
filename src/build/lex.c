/*
 * lex.c - lines and words of a Dockerfile; see lex.h.
 *
 * An escape character at the end of a line (white space may follow) joins the next line, unless it is itself escaped.
 * Comment lines and empty lines inside a joined instruction are dropped.
 */
#include "build/lex.h"
#include <string.h>
#include <strings.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f' || c == '\n';
}

bool lex_raw(struct lex *l, struct sv *out_line)
{
	if (!l->rest.n)
		return false;
	*out_line = sv_cut(&l->rest, '\n');
	if (out_line->n && out_line->p[out_line->n - 1] == '\r')
		out_line->n--;
	l->line++;
	return true;
}

static struct sv trim_left(struct sv s)
{
	while (s.n && is_blank(s.p[0]))
		s = sv_skip(s, 1);
	return s;
}

bool lex_is_comment(struct sv line)
{
	line = trim_left(line);
	return line.n && line.p[0] == '#';
}

/* "# key = value" */
static bool directive(struct sv line, struct sv *out_key, struct sv *out_value)
{
	struct sv rest = trim_left(line), key;

	if (!rest.n || rest.p[0] != '#' || !memchr(rest.p, '=', rest.n))
		return false;
	rest = sv_skip(rest, 1);
	key = sv_trim(sv_cut(&rest, '='));
	for (size_t i = 0; i < key.n; i++)
		if (!((key.p[i] | 32) >= 'a' && (key.p[i] | 32) <= 'z') && !(i && key.p[i] >= '0' && key.p[i] <= '9'))
			return false;
	*out_key = key;
	*out_value = sv_trim(rest);
	return key.n > 0;
}

static bool key_is(struct sv key, const char *name)
{
	return key.n == strlen(name) && strncasecmp(key.p, name, key.n) == 0;
}

FALLIBLE lex_directives(struct lex *l)
{
	static const char *const known[] = { "syntax", "escape", "check" };
	bool seen[3] = { false };

	if (sv_starts(l->rest, SV("\xef\xbb\xbf")))
		l->rest = sv_skip(l->rest, 3);
	for (;;) {
		struct lex ahead = *l;
		struct sv line, key, value;
		size_t k = 0;

		if (!lex_raw(&ahead, &line))
			return NULL;
		if (l->line == 0 && sv_starts(line, SV("#!"))) {
			*l = ahead;
			continue;
		}
		if (!directive(line, &key, &value))
			return NULL;
		while (k < 3 && !key_is(key, known[k]))
			k++;
		if (k == 3)
			return NULL;
		*l = ahead;
		if (seen[k])
			return FAIL(ERR_INVALID, "only one %s parser directive can be used", known[k]);
		seen[k] = true;
		if (k != 1)
			continue;
		if (value.n != 1 || (value.p[0] != '\\' && value.p[0] != '`'))
			return FAIL(ERR_INVALID, "invalid escape token '" SV_FMT "' does not match ` or \\", SV_ARG(value));
		l->escape = value.p[0];
	}
}

/* Cuts the continuation mark; whether there was one. */
static bool continues(struct sv *line, char escape)
{
	struct sv s = *line;

	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	if (!s.n || s.p[s.n - 1] != escape || (s.n > 1 && s.p[s.n - 2] == escape))
		return false;
	s.n--;
	*line = s;
	return true;
}

bool lex_logical(struct lex *l, struct buf *out, unsigned *out_line)
{
	struct sv line;
	bool more;

	buf_reset(out);
	do {
		if (!lex_raw(l, &line))
			return false;
	} while (lex_is_comment(line) || !trim_left(line).n);
	*out_line = l->line;
	line = trim_left(line);
	more = continues(&line, l->escape);
	buf_sv(out, line);
	while (more && lex_raw(l, &line)) {
		if (lex_is_comment(line) || !trim_left(line).n)
			continue;
		more = continues(&line, l->escape);
		buf_sv(out, line);
	}
	return true;
}

bool lex_word(struct sv *rest, char escape, struct buf *out)
{
	struct sv s = trim_left(*rest);
	char quote = 0;
	size_t i = 0;

	buf_reset(out);
	if (!s.n) {
		*rest = s;
		return false;
	}
	for (; i < s.n; i++) {
		char c = s.p[i];

		if (!quote && is_blank(c))
			break;
		if (!quote && (c == '\'' || c == '"')) {
			quote = c;
		} else if (quote && c == quote) {
			quote = 0;
		} else if (c == escape && quote != '\'') {
			if (i + 1 == s.n)
				continue; /* at the end of the text it escapes nothing */
			buf_ch(out, c);
			c = s.p[++i];
		}
		buf_ch(out, c);
	}
	*rest = sv_skip(s, i);
	return true;
}

bool lex_heredoc(struct sv word, struct lex_heredoc *out)
{
	size_t i = 0, n = 0;

	*out = (struct lex_heredoc){ .name = "" };
	while (i < word.n && word.p[i] >= '0' && word.p[i] <= '9')
		i++;
	word = sv_skip(word, i);
	if (!sv_starts(word, SV("<<")))
		return false;
	word = sv_skip(word, 2);
	if (word.n && word.p[0] == '-') {
		out->is_chomped = true;
		word = sv_skip(word, 1);
	}
	for (i = 0; i < word.n; i++) {
		char c = word.p[i];

		if (c == '<')
			return false;
		if (c == '\'' || c == '"' || c == '\\') {
			out->is_quoted = true;
			continue;
		}
		if (n + 1 >= sizeof out->name)
			return false;
		out->name[n++] = c;
	}
	return n > 0;
}
