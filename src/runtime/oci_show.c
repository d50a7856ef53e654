/* oci_show.c - state, list and ps: what there is. Reads only, without locks. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "runtime/oci.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <stdio.h>
#include <stdlib.h>

enum { PS_MAX = 16 << 20 };

static FALLIBLE check_format(const char *format, bool *out_json)
{
	*out_json = format && strcmp(format, "json") == 0;
	return !format || *out_json || strcmp(format, "table") == 0
		   ? NULL
		   : FAIL(ERR_INVALID, "unknown format \"%s\": table or json", format);
}

static struct err *run_state(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	auto_json json_t *doc = NULL;

	(void)conf;
	(void)out_exit;
	TRY(oci_box_open(o, args[0], false, &b));
	doc = oci_box_document(&b);
	return oci_print(doc);
}

/* ---- list ---- */

struct list_conf {
	const char *format;
	bool quiet;
};
static const struct oci_opt list_opts[] = {
	{ OCI_STR, 'f', "format", "FORMAT", offsetof(struct list_conf, format), "table (default) or json" },
	{ OCI_FLAG, 'q', "quiet", NULL, offsetof(struct list_conf, quiet), "only the ids" },
	{ .kind = OCI_END },
};

static void print_table(const json_t *all)
{
	int id = 11, bundle = 11;
	const json_t *c;
	size_t i;

	json_array_foreach(all, i, c)
	{
		int n = (int)strlen(json_str_at(c, "id", "")), m = (int)strlen(json_str_at(c, "bundle", ""));

		id = n > id ? n : id;
		bundle = m > bundle ? m : bundle;
	}
	(void)printf("%-*s %-11s %-11s %-*s %-30s %s\n", id, "ID", "PID", "STATUS", bundle, "BUNDLE",
		     "CREATED", "OWNER");
	json_array_foreach(all, i, c)(void)
	    printf("%-*s %-11lld %-11s %-*s %-30s %s\n", id, json_str_at(c, "id", ""),
		   (long long)json_int_at(c, "pid", 0), json_str_at(c, "status", ""), bundle,
		   json_str_at(c, "bundle", ""), json_str_at(c, "created", ""), json_str_at(c, "owner", ""));
}

static struct err *run_list(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	const struct list_conf *c = conf;
	auto_json json_t *all = json_array();
	auto_list char **ids = NULL;
	bool as_json;

	(void)args;
	(void)out_exit;
	TRY(check_format(c->format, &as_json));
	TRY(oci_box_ids(o, NULL, &ids));
	for (size_t i = 0; ids && ids[i]; i++) {
		auto_box struct oci_box b = OCI_BOX;
		struct err *e = oci_box_open(o, ids[i], false, &b);

		if (!e)
			(void)json_array_append_new(all, oci_box_document(&b));
		else if (e->kind != ERR_NOT_FOUND &&
			 e->kind != ERR_INVALID) /* deleted meanwhile; not of ours */
			return e;
		err_free(e);
		if (c->quiet && b.id)
			(void)printf("%s\n", b.id);
	}
	if (c->quiet)
		return NULL;
	if (as_json)
		return oci_print(all);
	print_table(all);
	return NULL;
}

/* ---- ps ---- */

struct ps_conf {
	const char *format;
};
static const struct oci_opt ps_opts[] = {
	{ OCI_STR, 'f', "format", "FORMAT", offsetof(struct ps_conf, format), "table (default) or json" },
	{ .kind = OCI_END },
};

/* What ps(1) prints with these arguments. */
static FALLIBLE ask_ps(char *const args[], struct buf *out)
{
	char *all[] = { (char *)(uintptr_t) "ps", (char *)(uintptr_t) "-ef", NULL };
	auto_fd int in = -1, end = -1, pid_fd = -1;
	int fds[2], r = sys_pipe(fds), n;
	auto_free char **words = xcalloc(text_list_len(args) + 2, sizeof *words);

	if (r < 0)
		return FAIL_OS(-r, "make a pipe");
	in = fds[0];
	end = fds[1];
	words[0] = all[0];
	for (size_t i = 0; args[i]; i++)
		words[i + 1] = args[i];
	r = sys_spawn_run(
	    &(struct sys_spawn){
		.path = "ps", .argv = args[0] ? words : all, .fds = (int[]){ -1, end, 2 }, .n_fds = 3 },
	    &pid_fd);
	if (r < 0)
		return FAIL_OS(-r, "ps");
	own_close(&end);
	end = -1;
	do {
		char *room = buf_room(out, 65536);

		n = room ? (int)sys_read(in, room, 65536) : 0;
		out->n += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	r = sys_pid_fd_wait(pid_fd, false, NULL);
	if (r > 0)
		return FAIL(ERR_INVALID, "ps: exit status %d", r);
	return buf_check(out, "output of ps");
}

/* The n-th word of a line as a number; -1: it is none. */
static long number_at(struct sv line, int column)
{
	for (int i = 0; line.n; i++) {
		struct sv word = sv_cut(&line, ' ');

		if (!word.n)
			i--;
		else if (i == column)
			return strtol(word.p, NULL, 10);
	}
	return -1;
}

static int pid_column(struct sv head)
{
	for (int i = 0; head.n; i++) {
		struct sv word = sv_cut(&head, ' ');

		if (sv_is(word, "PID"))
			return i;
		i -= !word.n;
	}
	return -1;
}

/* As runc: the lines of ps that are about the container. */
static FALLIBLE print_ps(char *const args[], const pid_t *pids, size_t n)
{
	auto_buf struct buf b = BUF(PS_MAX);
	struct sv rest, head;
	int column;

	TRY(ask_ps(args, &b));
	rest = sv_from(buf_text(&b), b.n);
	head = sv_cut(&rest, '\n');
	if ((column = pid_column(head)) < 0)
		return FAIL(ERR_INVALID, "ps: the arguments leave out the column PID");
	(void)printf(SV_FMT "\n", SV_ARG(head));
	while (rest.n) {
		struct sv line = sv_cut(&rest, '\n');
		long pid = number_at(line, column);

		for (size_t i = 0; i < n; i++)
			if (pids[i] == pid)
				(void)printf(SV_FMT "\n", SV_ARG(line));
	}
	return NULL;
}

static struct err *run_ps(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	auto_json json_t *list = json_array();
	auto_free pid_t *pids = NULL;
	const struct ps_conf *c = conf;
	bool as_json;
	size_t n = 0;

	(void)out_exit;
	TRY(check_format(c->format, &as_json));
	TRY(oci_box_open(o, args[0], false, &b));
	TRY(oci_box_need_cgroup(&b));
	TRY(runtime_pids(oci_box_cgroup(&b), &pids, &n));
	if (!as_json)
		return print_ps(args + 1, pids, n);
	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(list, json_integer(pids[i]));
	return oci_print(list);
}

const struct oci_cmd oci_cmd_state = {
	.name = "state",
	.args = "CONTAINER",
	.summary = "Print the state of a container as JSON",
	.min_args = 1,
	.max_args = 1,
	.run = run_state,
};
const struct oci_cmd oci_cmd_list = {
	.name = "list",
	.args = "",
	.summary = "List the containers",
	.opts = list_opts,
	.conf_size = sizeof(struct list_conf),
	.min_args = 0,
	.max_args = 0,
	.run = run_list,
};
const struct oci_cmd oci_cmd_ps = {
	.name = "ps",
	.args = "CONTAINER [PS-OPTION...]",
	.summary = "List the processes of a container",
	.opts = ps_opts,
	.conf_size = sizeof(struct ps_conf),
	.min_args = 1,
	.max_args = -1,
	.stop_at_arg = true,
	.run = run_ps,
};
