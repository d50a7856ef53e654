/*
 * client.h - who is attached to a keeper, and the one chunk of output that is on its way to them.
 *
 * Output is lossless: while a client has not taken the chunk, no further output is read from the container.
 * Layer: supervise.  Allocates nothing.
 */
#pragma once
#include "supervise/conf.h"
#include <stddef.h>

#define CLIENTS_MAX 32 /* bits of todo */

struct clients {
	int ep; /* borrowed epoll; keys are key0 + index */
	uint64_t key0;
	struct client {
		int fd; /* -1: free */
		uint8_t flags;
	} c[CLIENTS_MAX];
	uint32_t todo; /* who has not got the chunk yet */
	bool in_held;  /* a chunk of input waits: nobody's input is read */
	uint8_t stream;
	size_t n;
	char *chunk; /* borrowed: KEEPER_PACKET bytes */
};

void clients_init(struct clients *s, int ep, uint64_t key0, char chunk[KEEPER_PACKET]);
void clients_accept(struct clients *s, int listen_fd);
void clients_drop(struct clients *s, unsigned i);
/* Sends chunk[0..n) of stream to all who want it; afterwards todo says who could not take it yet. */
void clients_broadcast(struct clients *s, uint8_t stream, size_t n);
/* Client i can be written again. */
void clients_retry(struct clients *s, unsigned i);
void clients_hold_input(struct clients *s, bool hold);
/* A small message to one, dropped if it cannot take it. */
void clients_tell(struct clients *s, unsigned i, const void *msg, size_t n);
/* The index of the one that reaps, or -1. */
int clients_reaper(const struct clients *s);
