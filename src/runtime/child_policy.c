/* child_policy.c - clocks, personality and memory policy of the new process, and its HOME. */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>

/*
 * The offsets are fixed once a process is inside: so a namespace for children is made, set, and only then
 * entered. Before we become someone else in a user namespace, while the file is still ours.
 */
void child_clocks(const struct child *c)
{
	auto_fd int fd = -1, ns = -1;
	const char *text = c->p->time_offsets;

	if (!text)
		return;
	child_need(c, sys_unshare(PLAN_NEWTIME), "make a time namespace", NULL);
	fd = child_need(c, sys_open("/proc/self/timens_offsets", O_WRONLY, 0), "open",
			"/proc/self/timens_offsets");
	child_need(c, (int)sys_write(fd, text, strlen(text)), "set the clocks of the time namespace", NULL);
	ns = child_need(c, sys_open("/proc/self/ns/time_for_children", O_RDONLY, 0), "open",
			"the time namespace");
	child_need(c, sys_setns(ns, PLAN_NEWTIME), "enter the time namespace", NULL);
}

void child_policy(const struct child *c)
{
	const struct plan *p = c->p;

	if (p->memory_mode >= 0)
		child_need(c, sys_set_mempolicy(p->memory_mode, p->memory_nodes.p, p->memory_nodes.n),
			   "set the memory policy", NULL);
	if (p->personality >= 0)
		child_need(c, sys_personality((unsigned long)p->personality), "set the personality", NULL);
}

/* "name:x:UID:gid:comment:HOME:shell" of this uid: where HOME is; NULL: another line. Cuts the line behind
 * it. */
static const char *home_of(char *line, uid_t uid)
{
	char *at = line;
	uid_t n = 0;

	for (int field = 0; field < 5; field++) {
		char *colon = strchr(at, ':');

		if (!colon)
			return NULL;
		for (const char *d = at; field == 2 && d < colon; d++) {
			if (*d < '0' || *d > '9' || n > (uid_t)-1 / 10)
				return NULL;
			n = n * 10 + (uid_t)(*d - '0');
		}
		if (field == 2 && (colon == at || n != uid))
			return NULL;
		at = colon + 1;
	}
	at[strcspn(at, ":")] = 0;
	return at[0] ? at : NULL;
}

/* The file is the image's: may be missing, a fifo, without end. */
static const char *look_up_home(uid_t uid)
{
	static char line[1024];
	char chunk[4096];
	const char *dir;
	size_t n = 0;
	struct stat st;
	child_fd int fd = sys_open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);

	if (fd < 0 || sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	for (int rounds = 0; rounds < 256; rounds++) {
		ssize_t got = sys_read(fd, chunk, sizeof chunk);

		for (ssize_t i = 0; i < got || (got == 0 && i == 0); i++) {
			if (got && chunk[i] != '\n') {
				if (n + 1 < sizeof line)
					line[n++] = chunk[i];
				continue;
			}
			line[n] = 0;
			n = 0;
			if ((dir = home_of(line, uid)))
				return dir;
		}
		if (got <= 0)
			break;
	}
	return NULL;
}

/* As the peers: HOME from the image's user database, else "/". p->env has room for one more. */
void child_home(struct child *c)
{
	static char home[1032];
	char **e = c->p->env;

	for (; e && *e; e++)
		if (strncmp(*e, "HOME=", 5) == 0)
			return;
	if (e) {
		const char *dir = look_up_home(c->p->uid);

		child_cat(home, sizeof home, "HOME=", dir ? dir : "/", NULL);
		e[0] = home;
		e[1] = NULL;
	}
}

void child_labels(struct child *c)
{
	char text[4096];

	if (c->has_apparmor) {
		/* since 5.8; before it the one file is for whichever module is there */
		auto_fd int own = sys_open_in_proc(child_proc(c), "self/attr/apparmor/exec", O_PATH);

		child_cat(text, sizeof text, "exec ", c->p->apparmor, NULL);
		child_proc_write(c, own >= 0 ? "self/attr/apparmor/exec" : "self/attr/exec", text);
	}
	if (c->has_selinux && c->p->selinux)
		child_proc_write(c, "self/attr/exec", c->p->selinux);
}
