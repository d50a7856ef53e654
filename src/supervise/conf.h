/*
 * conf.h - what a keeper is told at birth, and the messages spoken with it.
 *
 * The engine packs struct keeper_conf and the compiled plan into a memfd. Same build on both sides: the layout is no format,
 * `version` refuses a binary of another build. Sockets are SOCK_SEQPACKET, so a message is one packet: a type byte, then data.
 * Layer: supervise.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

#define KEEPER_VERSION	5u
#define KEEPER_PATH_MAX 1024
#define KEEPER_PACKET	32768 /* largest payload of one message */

/* The fds a keeper is born with (0, 1, 2 are /dev/null). */
enum keeper_fd {
	KEEPER_FD_CONF = 3, /* memfd: struct keeper_conf, then plan bytes */
	KEEPER_FD_START,    /* seqpacket pair to who starts it */
	KEEPER_FD_RUN,	    /* RUN/<id>; its flock says that the keeper lives */
	KEEPER_FD_HOME,	    /* ROOT/containers/<id> */
	KEEPER_FDS
};

enum restart_policy { RESTART_NO, RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_UNLESS_STOPPED };

struct keeper_conf {
	uint32_t version;
	uint32_t plan_bytes;
	char id[65];
	char hoy[KEEPER_PATH_MAX];  /* the program that reaps: hoy --root … --run … keeper-exit ID */
	char root[KEEPER_PATH_MAX];
	char run[KEEPER_PATH_MAX];
	char cgroup[256];
	bool tty, open_stdin, stdin_once, want_netns, is_rm, want_log;
	uint8_t restart; /* enum restart_policy */
	uint32_t restart_max; /* on-failure: 0 is no limit */
	uint64_t log_max_bytes; /* 0: no limit */
	uint32_t log_files;	/* kept in all, at least 1 */
	uint32_t timeout_s;	/* SIGKILL after so long; 0: never */
	uint64_t health_ms;	/* a health check so often; 0: there is none */
	uint64_t health_start_ms, health_period_ms; /* as often as that in the first so many, until one has passed */
};

/* On the start socket, in this order. */
enum start_msg {
	START_READY = 'N',   /* keeper: listens; with want_netns the namespace's fd comes along */
	START_GO = 'G',	     /* engine: create and start. The end of the socket instead: clean up and go */
	START_NOT = 'n',     /* engine, instead: go; it cleans up itself and holds the container's lock until then */
	START_STARTED = 'S', /* keeper: struct start_done */
	START_ERROR = 'E',   /* keeper: struct start_error */
};
struct start_error {
	uint8_t type, kind;
	int32_t os;
	char msg[2048];
};
void start_error_pack(const struct err *e, struct start_error *out);
/* The error that came; m is ended. */
FALLIBLE start_error_unpack(struct start_error *m);

/* On the control socket RUN/<id>/ctl. */
enum ctl_msg {
	CTL_ATTACH = 'A',      /* u8 flags; answered by CTL_ATTACHED */
	CTL_STDIN = 'I',       /* bytes */
	CTL_STDIN_CLOSE = 'C',
	CTL_RESIZE = 'R',      /* struct ctl_resize */
	CTL_KILL = 'K',	       /* struct ctl_kill; answered by CTL_KILLED */
	CTL_EXEC = 'P',	       /* with an end of a seqpacket pair: standard input of a `hoy keeper-exec`. Closed: it does not run */
	CTL_REAPED = 'D',      /* from a CTL_REAPER: it has done what keeper-exit would do */
	CTL_ATTACHED = 'a',
	CTL_KILLED = 'k', /* i32: 0 or -errno, unaligned */
	CTL_STDOUT = 1,	  /* bytes */
	CTL_STDERR = 2,
	CTL_EXITED = 'X', /* i32 exit code: the last exit, nothing follows */
};
enum ctl_flags { CTL_IN = 1u << 0, CTL_OUT = 1u << 1, CTL_ERR = 1u << 2, CTL_REAPER = 1u << 3, CTL_ONCE = 1u << 4 };
struct ctl_resize {
	uint8_t type, pad;
	uint16_t rows, cols;
};
struct ctl_kill {
	uint8_t type, signo; /* signo 0: only what follows */
	uint8_t no_restart;  /* the user wants it down: the policy does not bring it back */
};

void keeper_conf_pack(const struct keeper_conf *c, const struct buf *plan, struct buf *out);
/* Points *out_conf and the plan into bytes. ERR_INVALID. */
FALLIBLE keeper_conf_unpack(const void *bytes, size_t n, const struct keeper_conf **out_conf, const void **out_plan);
/* Copies text into a fixed field; ERR_LIMIT when too long. */
FALLIBLE keeper_conf_text(char *field, size_t size, const char *text);
