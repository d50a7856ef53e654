/* access.c - who we are at a registry, as said on the command line or typed. */
#include "cli/access.h"
#include "base/mem.h"
#include "base/own.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <stdio.h>

/* A terminal in raw mode edits nothing: what a line has of that is done here. False: given up. */
static bool read_hidden(char out[256])
{
	size_t n = 0;
	char c = 0;

	while (n < 255 && sys_read(STDIN_FILENO, &c, 1) == 1 && c != '\r' && c != '\n') {
		if (c == 3 || c == 4) /* ^C, ^D */
			return false;
		if (c == 127 || c == '\b')
			n -= n > 0;
		else if (c == 21) /* ^U */
			n = 0;
		else
			out[n++] = c;
	}
	out[n] = 0;
	return true;
}

FALLIBLE access_ask(const char *question, bool hidden, char out[256])
{
	struct sys_tty *saved = NULL;
	bool got;

	if (hidden && sys_tty_raw(STDIN_FILENO, &saved) < 0)
		saved = NULL;
	(void)fprintf(stderr, "%s", question); /* by now nothing that is typed is shown */
	if (saved) {
		got = read_hidden(out);
		sys_tty_restore(saved);
		(void)fputc('\n', stderr);
	} else {
		got = fgets(out, 256, stdin) != NULL;
		if (got)
			out[strcspn(out, "\r\n")] = 0;
	}
	return got && *out ? NULL : FAIL(ERR_CANCELLED, "login was given up");
}

bool access_is_said(const struct engine_access *said)
{
	return said->insecure || said->strict || said->no_creds || said->creds || said->authfile || said->cert_dir;
}

FALLIBLE access_check(const struct engine_access *said)
{
	if (said->insecure && said->strict)
		return FAIL(ERR_INVALID, "--insecure and --tls-verify exclude each other");
	if (said->creds && said->no_creds)
		return FAIL(ERR_INVALID, "credentials and no credentials exclude each other");
	return said->creds && (!*said->creds || *said->creds == ':') ?
		       FAIL(ERR_INVALID, "empty credentials (wanted USER[:PASSWORD])") :
		       NULL;
}

FALLIBLE access_complete(const struct engine_access *said, char **out_creds, struct engine_access *out_access)
{
	char typed[256];

	*out_access = *said;
	TRY(access_check(said));
	if (!said->creds || strchr(said->creds, ':') || !isatty(STDIN_FILENO))
		return NULL;
	TRY(access_ask("Password: ", true, typed));
	*out_creds = xasprintf("%s:%s", said->creds, typed);
	explicit_bzero(typed, sizeof typed);
	out_access->creds = *out_creds;
	return NULL;
}
