/*
 * oci_notify.c - sd_notify(3) through a runtime.
 *
 * As in crun a directory of the container's state is mounted at the path of the host's socket, with a socket
 * "notify" in it. The host's socket is never given to the container: it gets one of its own, and of what it
 * says only words about its readiness pass (no MAINPID=, no FDSTORE=, no descriptors). systemd learns the pid
 * of the container from us.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "runtime/oci.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

#define NAME "notify"

FALLIBLE oci_notify_prepare(struct oci_box *b)
{
	auto_free char *dir = xasprintf("%s/notify", b->path);
	const char *host = getenv("NOTIFY_SOCKET");
	json_t *mounts = json_object_get(b->config, "mounts"),
	       *process = json_object_get(b->config, "process");
	const char *inside = host && host[0] == '/' ? host : "/run/notify"; /* an abstract name is no path */
	auto_free char *var = xasprintf("NOTIFY_SOCKET=%s/" NAME, inside);
	auto_list char **env = NULL;
	int r;

	if (!host || !*host || !process)
		return NULL;
	if ((r = sys_mkdir(b->dir_fd, "notify", 0755)) < 0)
		return FAIL_OS(-r, "make %s", dir);
	if (!mounts) {
		mounts = json_array();
		(void)json_object_set_new(b->config, "mounts", mounts);
	}
	(void)json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:[sssss]}", "destination", inside,
						      "type", "bind", "source", dir, "options", "bind",
						      "nosuid", "noexec", "nodev", "ro"));
	TRY(json_list_at(process, "env", &env));
	text_env_set(&env, var);
	(void)json_object_set_new(process, "env", json_from_list(env));
	(void)json_object_set_new(b->state, "notify", json_true());
	b->is_changed = true;
	return NULL;
}

FALLIBLE oci_notify_open(const struct oci_box *b, struct oci_notify *out_n)
{
	const char *host = getenv("NOTIFY_SOCKET");
	char path[64];
	int r;

	if (!host || !*host || !json_bool_at(b->state, "notify", false))
		return NULL;
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d/notify/" NAME, b->dir_fd);
	if ((out_n->fd = sys_unix_datagram(path, true)) < 0)
		return FAIL_OS(-out_n->fd, "listen for the container's readiness");
	if ((r = sys_chmodat(AT_FDCWD, path, 0777)) < 0) /* whoever the container's user is */
		return FAIL_OS(-r, "open the container's notify socket to its user");
	out_n->pid = b->pid;
	return NULL;
}

void oci_notify_fini(struct oci_notify *n)
{
	own_close(&n->fd);
	*n = OCI_NOTIFY;
}

/* Connected for each word, so that a systemd that is not there yet, or anew, hears the next one. */
static FALLIBLE tell(const char *text)
{
	auto_fd int fd = sys_unix_datagram(getenv("NOTIFY_SOCKET"), false);
	int r = fd < 0 ? fd : sys_unix_send(fd, &(struct iovec){ (char *)(uintptr_t)text, strlen(text) }, 1);

	return r < 0 ? FAIL_OS(-r, "tell systemd about the container") : NULL;
}

FALLIBLE oci_notify_pass(const struct oci_notify *n, bool *out_ready)
{
	static const char *const passed[] = { "READY=", "RELOADING=", "STOPPING=", "WATCHDOG=", "STATUS=" };
	char text[4096], main_pid[32];
	ssize_t got = sys_unix_recv(n->fd, text, sizeof text - 1);
	struct sv rest = sv_from(text, got > 0 ? (size_t)got : 0);

	*out_ready = false;
	(void)snprintf(main_pid, sizeof main_pid, "MAINPID=%d", (int)n->pid);
	while (rest.n) {
		struct sv line = sv_cut(&rest, '\n');

		for (size_t i = 0; i < LEN(passed); i++) {
			auto_free char *one = xstrndup(line.p, line.n);

			if (!sv_starts(line, sv_of(passed[i])))
				continue;
			if (sv_is(line, "READY=1")) {
				TRY(tell(main_pid));
				*out_ready = true;
			}
			TRY(tell(one));
		}
	}
	return NULL;
}

FALLIBLE oci_notify_wait(const struct oci_notify *n)
{
	auto_fd int pid_fd = n->fd < 0 ? -1 : sys_pid_fd(n->pid);
	bool ready = pid_fd < 0; /* nothing to wait for, or ended */

	while (!ready) {
		struct pollfd f[2] = { { n->fd, POLLIN, 0 }, { pid_fd, POLLIN, 0 } };
		int r = sys_poll(f, 2, -1);

		if (r < 0)
			return FAIL_OS(-r, "wait for the container's readiness");
		if (f[0].revents)
			TRY(oci_notify_pass(n, &ready));
		else if (f[1].revents)
			break;
	}
	return NULL;
}
