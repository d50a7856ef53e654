/* hoy.c - the command line. */
#include "cli/cmd.h"
#include <signal.h>

int main(int argc, char *argv[])
{
	(void)argc;
	(void)signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of write, not our end */
	return cmd_main(argv);
}
