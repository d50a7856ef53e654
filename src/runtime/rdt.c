#include "runtime/rdt.h"
#include "base/own.h"
#include "sys/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { MOUNTINFO_BYTES = 4 << 20, SCHEMATA_BYTES = 65536 };

static FALLIBLE read_file(int dir_fd, const char *name, size_t max, struct buf *out)
{
	auto_fd int fd = sys_open_beneath(dir_fd, name, O_RDONLY, 0);
	ssize_t n = fd;

	*out = BUF(max);
	while (n >= 0 && !out->failed) {
		char *room = buf_room(out, 4096);

		if (!room || (n = sys_read(fd, room, 4096)) <= 0)
			break;
		out->n += (size_t)n;
	}
	return n < 0 ? FAIL_OS((int)-n, "linux.intelRdt: read %s", name) : buf_check(out, name);
}

/* The directory of the class, owned; "/" is the root. */
static FALLIBLE open_class(int root_fd, const struct plan *p, int *out_fd)
{
	const char *name = strcmp(p->rdt.clos, "/") == 0 ? "." : p->rdt.clos;
	int fd = sys_open_beneath(root_fd, name, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return FAIL_OS(-fd, "linux.intelRdt.closID: open class \"%s\"", p->rdt.clos);
	*out_fd = fd;
	return NULL;
}

static FALLIBLE write_line(int dir_fd, const char *file, const char *text)
{
	auto_fd int fd = sys_open_beneath(dir_fd, file, O_WRONLY, 0);
	ssize_t n = fd < 0 ? fd : sys_write(fd, text, strlen(text));

	return n < 0 ? FAIL_OS((int)-n, "linux.intelRdt: write \"%.*s\" to %s", (int)strcspn(text, "\n"),
			       text, file)
		     : NULL;
}

/* "L3:0=ff;1=0F" and "  L3:1=f;0=FF" say the same: no blanks, no leading zeros, any order, any case. */
static bool same_schema(struct sv a, struct sv b)
{
	struct sv name_a = sv_trim(sv_cut(&a, ':')), name_b = sv_trim(sv_cut(&b, ':'));
	size_t n = 0, found = 0;

	if (!sv_eq(name_a, name_b))
		return false;
	for (struct sv rest = b; rest.n; n++)
		(void)sv_cut(&rest, ';');
	while (a.n) {
		struct sv part = sv_trim(sv_cut(&a, ';')), id = sv_trim(sv_cut(&part, '='));
		bool equal = false;

		for (struct sv rest = b; rest.n;) {
			struct sv other = sv_trim(sv_cut(&rest, ';')),
				  other_id = sv_trim(sv_cut(&other, '='));
			char x[40], y[40];

			(void)snprintf(x, sizeof x, "%.*s", SV_ARG(part));
			(void)snprintf(y, sizeof y, "%.*s", SV_ARG(other));
			equal |= sv_eq(id, other_id) && strtoull(x, NULL, 16) == strtoull(y, NULL, 16);
		}
		if (!equal)
			return false;
		found++;
	}
	return found == n;
}

/* A class that was there must have what is asked for already: others live in it. */
static FALLIBLE check_schemata(int class_fd, const struct plan *p)
{
	auto_buf struct buf have = BUF(0);

	TRY(read_file(class_fd, "schemata", SCHEMATA_BYTES, &have));
	for (size_t i = 0; i < p->rdt.n_checked; i++) {
		struct sv rest = sv_from(buf_text(&have), have.n);
		bool found = false;

		while (rest.n)
			found |= same_schema(sv_of(p->rdt.lines[i]), sv_cut(&rest, '\n'));
		if (!found)
			return FAIL(ERR_CONFLICT,
				    "linux.intelRdt: class \"%s\" exists and does not have the schema \"%s\"",
				    p->rdt.clos, p->rdt.lines[i]);
	}
	return NULL;
}

static FALLIBLE write_schemata(int class_fd, const struct plan *p, size_t from)
{
	for (size_t i = from; i < p->rdt.n_lines; i++) {
		auto_free char *line = xasprintf("%s\n", p->rdt.lines[i]);

		TRY(write_line(class_fd, "schemata", line));
	}
	return NULL;
}

static FALLIBLE fill(int class_fd, const struct plan *p, pid_t pid, bool is_new, bool *out_monitor)
{
	char text[24], group[300];

	(void)snprintf(text, sizeof text, "%d\n", (int)pid);
	if (!is_new && p->rdt.n_checked)
		TRY(check_schemata(class_fd, p));
	TRY(write_schemata(class_fd, p, is_new ? 0 : p->rdt.n_checked));
	TRY(write_line(class_fd, "tasks", text));
	if (p->rdt.monitor) {
		int r;

		(void)snprintf(group, sizeof group, "mon_groups/%s", p->id);
		if ((r = sys_mkdir(class_fd, group, 0755)) < 0)
			return FAIL_OS(-r, "linux.intelRdt.enableMonitoring: make %s", group);
		*out_monitor = true;
		(void)snprintf(group, sizeof group, "mon_groups/%s/tasks", p->id);
		TRY(write_line(class_fd, group, text));
	}
	return NULL;
}

FALLIBLE rdt_update_in(int root_fd, const struct plan *p)
{
	auto_fd int class_fd = -1;

	TRY(open_class(root_fd, p, &class_fd));
	return write_schemata(class_fd, p, 0);
}

static void remove_monitor(int class_fd, const struct plan *p)
{
	char group[300];

	(void)snprintf(group, sizeof group, "mon_groups/%s", p->id);
	(void)sys_rmdir(class_fd, group);
}

FALLIBLE rdt_apply_in(int root_fd, const struct plan *p, pid_t pid)
{
	bool may_make = p->rdt.is_own || (p->rdt.n_lines && strcmp(p->rdt.clos, "/") != 0), monitor = false;
	auto_fd int class_fd = -1;
	int r = may_make ? sys_mkdir(root_fd, p->rdt.clos, 0755) : -EEXIST;
	struct err *e;

	if (r < 0 && (r != -EEXIST || p->rdt.is_own))
		return FAIL_OS(-r, "linux.intelRdt: make class \"%s\"", p->rdt.clos);
	e = open_class(root_fd, p, &class_fd);
	if (!e)
		e = fill(class_fd, p, pid, r >= 0, &monitor);
	if (e && monitor)
		remove_monitor(class_fd, p);
	if (e && r >= 0)
		(void)sys_rmdir(root_fd, p->rdt.clos);
	return e;
}

void rdt_remove_in(int root_fd, const struct plan *p)
{
	auto_fd int class_fd = -1;
	struct err *e = open_class(root_fd, p, &class_fd);

	if (!e && p->rdt.monitor)
		remove_monitor(class_fd, p);
	err_free(e);
	if (p->rdt.is_own)
		(void)sys_rmdir(root_fd, p->rdt.clos);
}

/* Owned fd of the mounted resctrl. */
static FALLIBLE find_resctrl(int *out_fd)
{
	auto_fd int proc = sys_open_dir("/proc/self");
	auto_buf struct buf text = BUF(0);
	struct sv rest;

	TRY(read_file(proc, "mountinfo", MOUNTINFO_BYTES, &text));
	for (rest = sv_from(buf_text(&text), text.n); rest.n;) {
		struct sv line = sv_cut(&rest, '\n'), dir = { 0 }, word = { 0 };
		auto_free char *path = NULL;

		for (int i = 0; i < 5; i++)
			dir = sv_cut(&line, ' ');
		do
			word = sv_cut(&line, ' ');
		while (line.n && !sv_is(word, "-"));
		if (!sv_is(sv_cut(&line, ' '), "resctrl"))
			continue;
		path = xstrndup(dir.p, dir.n);
		*out_fd = sys_open_dir(path);
		return *out_fd < 0 ? FAIL_OS(-*out_fd, "linux.intelRdt: open %s", path) : NULL;
	}
	return FAIL(ERR_UNSUPPORTED, "linux.intelRdt: no resctrl file system is mounted");
}

FALLIBLE rdt_apply(const struct plan *p, pid_t pid)
{
	auto_fd int root = -1;

	if (!p->rdt.on)
		return NULL;
	TRY(find_resctrl(&root));
	return rdt_apply_in(root, p, pid);
}

FALLIBLE rdt_update(const struct plan *p)
{
	auto_fd int root = -1;

	TRY(find_resctrl(&root));
	return rdt_update_in(root, p);
}

void rdt_remove(const struct plan *p)
{
	auto_fd int root = -1;
	struct err *e;

	if (!p->rdt.on || (!p->rdt.is_own && !p->rdt.monitor))
		return;
	e = find_resctrl(&root);
	if (!e)
		rdt_remove_in(root, p);
	err_free(e);
}
