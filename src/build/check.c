/* check.c - what can be said of an instruction before anything runs: number of arguments, flags. */
#include "base/mem.h"
#include "base/own.h"
#include "build/stage.h"

static const char *const no_flags[] = { NULL };
static const char *const from_flags[] = { "platform", NULL };
static const char *const run_flags[] = { "mount", "network", "security", NULL };
static const char *const copy_flags[] = { "from", "chown", "chmod", "link", "exclude", NULL };
static const char *const add_flags[] = { "chown", "chmod", "link", "exclude", NULL };
static const char *const health_flags[] = { "interval", "timeout", "start-period", "start-interval", "retries", NULL };
/* Known to the language, not to us yet. */
static const char *const later_flags[] = { "parents", "checksum", "keep-git-dir", "unpack", "device", NULL };

static const struct {
	size_t min, max; /* 0: no maximum */
	const char *const *flags;
} rules[INSTR_KINDS] = {
	[INSTR_ADD] = { 2, 0, add_flags },	 [INSTR_ARG] = { 1, 0, no_flags },	   [INSTR_CMD] = { 0, 0, no_flags },
	[INSTR_COPY] = { 2, 0, copy_flags },	 [INSTR_ENTRYPOINT] = { 0, 0, no_flags }, [INSTR_ENV] = { 1, 0, no_flags },
	[INSTR_EXPOSE] = { 1, 0, no_flags },	 [INSTR_FROM] = { 1, 3, from_flags },	   [INSTR_HEALTHCHECK] = { 1, 0, health_flags },
	[INSTR_LABEL] = { 1, 0, no_flags },	 [INSTR_MAINTAINER] = { 1, 1, no_flags }, [INSTR_ONBUILD] = { 1, 1, no_flags },
	[INSTR_RUN] = { 1, 0, run_flags },	 [INSTR_SHELL] = { 1, 0, no_flags },	   [INSTR_STOPSIGNAL] = { 1, 1, no_flags },
	[INSTR_USER] = { 1, 1, no_flags },	 [INSTR_VOLUME] = { 1, 0, no_flags },	   [INSTR_WORKDIR] = { 1, 1, no_flags },
};

static bool is_in(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(*list, name) == 0)
			return true;
	return false;
}

static FALLIBLE check_flags(const struct instr *i, const char **out_piece)
{
	for (size_t k = 0; k < i->n_flags; k++) {
		const char *name = i->flags[k].name;

		*out_piece = name;
		if (is_in(name, rules[i->kind].flags))
			continue;
		if ((i->kind == INSTR_COPY || i->kind == INSTR_ADD || i->kind == INSTR_RUN) && is_in(name, later_flags))
			return FAIL(ERR_UNSUPPORTED, "%s --%s is not supported", instr_name(i->kind), name);
		return FAIL(ERR_INVALID, "unknown flag: --%s", name);
	}
	*out_piece = NULL;
	return NULL;
}

static FALLIBLE check_count(const struct instr *i)
{
	const char *name = instr_name(i->kind);
	size_t min = rules[i->kind].min, max = rules[i->kind].max;

	if (i->kind == INSTR_FROM && i->n_args != 1 && i->n_args != 3)
		return FAIL(ERR_INVALID, "FROM requires either one or three arguments");
	if (i->n_args < min && min == 2)
		return FAIL(ERR_INVALID,
			    i->n_args ? "%s requires at least two arguments, but only one was provided. Destination could not be "
					"determined" :
					"%s requires at least two arguments",
			    name);
	if (i->n_args < min)
		return FAIL(ERR_INVALID, max == 1 ? "%s requires exactly one argument" : "%s requires at least one argument", name);
	return NULL;
}

/* The instruction inside ONBUILD is checked as if it stood alone. */
static FALLIBLE check_onbuild(const struct at *at)
{
	static const enum instr_kind forbidden[] = { INSTR_ONBUILD, INSTR_FROM, INSTR_MAINTAINER };
	auto_buf struct buf b = BUF(DOCKERFILE_MAX);
	struct dockerfile inner;
	struct err *e;

	buf_str(&b, at->i->text);
	for (size_t k = 0; k < at->i->n_heredocs; k++)
		buf_fmt(&b, "\n%s%s", at->i->heredocs[k].text, at->i->heredocs[k].name);
	e = dockerfile_parse("ONBUILD", sv_of(buf_text(&b)), &inner);
	if (e) {
		auto_free char *first = xstrndup(e->msg, strcspn(e->msg, "\n"));

		err_free(e);
		return FAIL(ERR_INVALID, "ONBUILD: %s", first);
	}
	for (size_t k = 0; !e && k < LEN(forbidden); k++)
		if (inner.instrs[0].kind == forbidden[k])
			e = FAIL(ERR_INVALID, "%s isn't allowed as an ONBUILD trigger", instr_name(forbidden[k]));
	if (!e) {
		const char *piece;

		e = check_count(&inner.instrs[0]);
		if (!e)
			e = check_flags(&inner.instrs[0], &piece);
	}
	dockerfile_fini(&inner);
	return e;
}

static FALLIBLE check_copy(const struct at *at)
{
	const struct instr *i = at->i;
	const char *dest = i->args[i->n_args - 1], *from = instr_flag(i, "from");
	size_t n = strlen(dest);

	if (!n)
		return FAIL(ERR_INVALID, "%s: the destination is empty", instr_name(i->kind));
	if (strncmp(dest, "<<", 2) == 0)
		return FAIL(ERR_INVALID, "%s cannot accept a heredoc as destination", instr_name(i->kind));
	if (i->n_args > 2 && !strchr(dest, '$') && dest[n - 1] != '/' && strcmp(dest, ".") != 0 &&
	    !(n > 1 && strcmp(dest + n - 2, "/.") == 0))
		return FAIL(ERR_INVALID,
			    "When using %s with more than one source file, the destination must be a directory and end with a /",
			    instr_name(i->kind));
	if (from && !*from)
		return FAIL(ERR_INVALID, "COPY --from needs the name of a stage or an image");
	if (from && strchr(from, '$'))
		return FAIL(ERR_INVALID, "COPY --from does not take variables; name the stage in a FROM $VARIABLE AS name");
	return NULL;
}

FALLIBLE instr_check(const struct at *at)
{
	const char *piece = NULL;
	struct err *e = check_flags(at->i, &piece);

	if (!e)
		e = check_count(at->i);
	if (!e && at->i->kind == INSTR_ONBUILD)
		e = check_onbuild(at);
	if (!e && (at->i->kind == INSTR_COPY || at->i->kind == INSTR_ADD))
		e = check_copy(at);
	if (!e)
		return NULL;
	return at_error(at, piece, err_ctx(e, "dockerfile parse error on line %u", at->i->line));
}
