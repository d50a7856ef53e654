/*
 * oci_dbus.h - just enough of a D-Bus client to ask systemd for something and hear how it went.
 *
 * Why not libsystemd: docs/why/systemd-cgroups.md. One connection, blocking calls, no descriptors passed,
 * names of at most 255 bytes. Layer: runtime, private.  Threads: one.  Specification: D-Bus 0.38, "Message
 * Protocol" and "Authentication Protocol".
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct dbus_in {
	char *data; /* owned */
	size_t n, at;
	char type; /* 2 return, 3 error, 4 signal */
	uint32_t reply_to;
	char member[64];
};
/* Of this signal those that come before the answer to a call are kept: a job may be done before its number is
 * told. */
#define DBUS_KEPT "JobRemoved"
struct dbus {
	int fd; /* owned; -1: closed */
	uint32_t serial;
	bool is_bus; /* a message bus; else systemd's own socket, which needs no names and no matches */
	struct dbus_in early[4];
	size_t n_early;
};
#define DBUS ((struct dbus){ .fd = -1 })
/* A message's arguments; alignment counts from the start of data. */
struct dbus_out {
	struct buf b;
};

/* Of the system (root) or the user: systemd's private socket, else the bus of the environment or the default
 * one. */
FALLIBLE dbus_open(struct dbus *out, bool user);
void dbus_close(struct dbus *d);
/* One method of systemd's manager; args may be NULL. *out_reply (dbus_in_fini) its return. ERR_… by the D-Bus
 * error's name. */
FALLIBLE dbus_call(struct dbus *d, const char *member, const char *signature, const struct dbus_out *args,
		   struct dbus_in *out_reply);
/* The next signal of that name, at most timeout_ms from now. ERR_TIMEOUT. */
FALLIBLE dbus_signal(struct dbus *d, const char *member, int timeout_ms, struct dbus_in *out);
void dbus_in_fini(struct dbus_in *m);
/* Reads; "" and 0 beyond the end. */
uint32_t dbus_get_u32(struct dbus_in *m);
const char *dbus_get_str(struct dbus_in *m); /* string or object path; borrowed */

void dbus_put_u32(struct dbus_out *o, uint32_t v);
void dbus_put_u64(struct dbus_out *o, uint64_t v);
void dbus_put_str(struct dbus_out *o, const char *s);
void dbus_put_sig(struct dbus_out *o, const char *signature); /* what a variant begins with */
void dbus_align(struct dbus_out *o, size_t to);
/* An array whose elements are aligned so. */
struct dbus_mark {
	size_t length_at, start;
};
struct dbus_mark dbus_array(struct dbus_out *o, size_t align);
void dbus_array_end(struct dbus_out *o, struct dbus_mark m);
