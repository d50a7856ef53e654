#include "engine/signals.h"
#include "base/num.h"
#include <signal.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	int number;
} signals[] = { { "HUP", SIGHUP },	 { "INT", SIGINT },   { "QUIT", SIGQUIT }, { "ILL", SIGILL },	    { "TRAP", SIGTRAP },
		{ "ABRT", SIGABRT },	 { "IOT", SIGABRT },  { "BUS", SIGBUS },   { "FPE", SIGFPE },	    { "KILL", SIGKILL },
		{ "USR1", SIGUSR1 },	 { "SEGV", SIGSEGV }, { "USR2", SIGUSR2 }, { "PIPE", SIGPIPE },	    { "ALRM", SIGALRM },
		{ "TERM", SIGTERM },	 { "STKFLT", 16 },    { "CHLD", SIGCHLD }, { "CONT", SIGCONT },	    { "STOP", SIGSTOP },
		{ "TSTP", SIGTSTP },	 { "TTIN", SIGTTIN }, { "TTOU", SIGTTOU }, { "URG", SIGURG },	    { "XCPU", SIGXCPU },
		{ "XFSZ", SIGXFSZ },	 { "VTALRM", SIGVTALRM }, { "PROF", SIGPROF }, { "WINCH", SIGWINCH }, { "IO", SIGIO },
		{ "POLL", SIGIO },	 { "PWR", SIGPWR },   { "SYS", SIGSYS } };

static int real_time(const char *text)
{
	bool from_max = strncasecmp(text, "RTMAX", 5) == 0;
	uint64_t n = 0;
	struct err *e;

	if (!from_max && strncasecmp(text, "RTMIN", 5) != 0)
		return -1;
	text += 5;
	if (!*text)
		return from_max ? SIGRTMAX : SIGRTMIN;
	if (*text != (from_max ? '-' : '+'))
		return -1;
	e = num_parse(sv_of(text + 1), 10, 0, (uint64_t)(SIGRTMAX - SIGRTMIN), &n);
	err_free(e);
	return e ? -1 : from_max ? SIGRTMAX - (int)n : SIGRTMIN + (int)n;
}

int signal_number(const char *text)
{
	uint64_t n;
	struct err *e;

	if (!*text)
		return SIGTERM;
	e = num_parse(sv_of(text), 10, 1, (uint64_t)SIGRTMAX, &n);
	err_free(e);
	if (!e)
		return (int)n;
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		if (strcasecmp(signals[i].name, text) == 0)
			return signals[i].number;
	return real_time(text);
}
