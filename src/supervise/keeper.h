/*
 * keeper.h - the supervisor of one container, alive when all else is gone.
 *
 * Owns the container's stdio, log, exit record and restarts; is the only writer of RUN/<id>/status and the listener of
 * RUN/<id>/ctl. It survives whoever started it. If the starter dies before "go", it leaves nothing.
 *
 *	starting --go--> running --exit--> restarting --delay--> running
 *	                         --exit--> exited (drained, told, recorded, reaped)
 *
 * Layer: supervise.  Threads: one; one epoll loop.  Memory: fixed after start.
 */
#pragma once

/* The whole program; never returns an error to a shell: nobody waits for it. */
int keeper_main(void);
/* docker-init: runs argv[1..] as a child, forwards signals, reaps; exits as the child did. */
int init_main(char *argv[]);
