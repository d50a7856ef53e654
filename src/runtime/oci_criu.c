/*
 * oci_criu.c - checkpoint and restore by the criu program (3.16 or later).
 *
 * criu is driven by its command line: what it is told stands readable in its log and in --debug. Mounts that
 * came from the host are external to the image and named by where they stand in the container; so are
 * namespaces that were joined. A terminal cannot be restored this way (criu would have to hand its master
 * over, which only its library can): refused.
 */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "runtime/cgroup.h"
#include "runtime/oci.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

enum { MS_BIND_ = 4096, MS_REC_ = 16384, MS_SLAVE_ = 1 << 19, LOG_TAIL = 65536, NS_FDS = 2 };

struct criu {
	struct oci_create create; /* restore */
	const char *images, *work, *parent, *status_fd, *page_server, *cgroups, *lsm_profile, *lsm_context;
	char **empty_ns;
	bool running, tcp, unix_sk, shell_job, file_locks, pre_dump, lazy, dedup;
};
#define AT(field) offsetof(struct criu, field)
#define BOTH                                                                                                  \
	{ OCI_STR, 0, "image-path", "DIR", AT(images), "directory of the image (checkpoint)" },               \
	    { OCI_STR, 0, "work-path", "DIR", AT(work), "where criu writes its log (the image's)" },          \
	    { OCI_FLAG, 0, "tcp-established", NULL, AT(tcp), "with open TCP connections" },                   \
	    { OCI_FLAG, 0, "ext-unix-sk", NULL, AT(unix_sk), "with UNIX sockets to the outside" },            \
	    { OCI_FLAG, 0, "shell-job", NULL, AT(shell_job), "with a session leader outside" },               \
	    { OCI_FLAG, 0, "file-locks", NULL, AT(file_locks), "with file locks" },                           \
	    { OCI_FLAG, 0, "lazy-pages", NULL, AT(lazy), "memory is sent on demand (userfaultfd)" },          \
	    { OCI_FLAG, 0, "auto-dedup", NULL, AT(dedup), "drop memory pages that an older image has" },      \
	    { OCI_LIST, 0, "empty-ns", "NAME", AT(empty_ns), "a namespace (network) without what is in it" }, \
	{                                                                                                     \
		OCI_STR, 0, "manage-cgroups-mode", "MODE", AT(cgroups),                                       \
		    "soft (default), full, strict, ignore"                                                    \
	}
static const struct oci_opt checkpoint_opts[] = {
	BOTH,
	{ OCI_STR, 0, "parent-path", "DIR", AT(parent), "the image of a --pre-dump, relative to this one" },
	{ OCI_FLAG, 0, "leave-running", NULL, AT(running), "the container goes on" },
	{ OCI_FLAG, 0, "pre-dump", NULL, AT(pre_dump), "memory only; the container goes on" },
	{ OCI_STR, 0, "status-fd", "FD", AT(status_fd),
	  "descriptor that is told when lazy pages can be asked for" },
	{ OCI_STR, 0, "page-server", "ADDRESS:PORT", AT(page_server), "send memory there" },
	{ .kind = OCI_END },
};
static const struct oci_opt restore_opts[] = {
	BOTH,
	{ OCI_STR, 'b', "bundle", "DIR", AT(create.bundle), "the bundle (default: the working directory)" },
	{ OCI_STR, 0, "pid-file", "FILE", AT(create.pid_file), "write the pid of the container there" },
	{ OCI_STR, 0, "console-socket", "PATH", AT(create.console),
	  "refused: a terminal cannot be restored" },
	{ OCI_FLAG, 'd', "detach", NULL, AT(create.detach), "do not wait for the end" },
	{ OCI_FLAG, 0, "no-pivot", NULL, AT(create.no_pivot),
	  "kept for later creations of the same container" },
	{ OCI_STR, 0, "lsm-profile", "TYPE:NAME", AT(lsm_profile), "another LSM profile" },
	{ OCI_STR, 0, "lsm-mount-context", "CONTEXT", AT(lsm_context), "another SELinux context of mounts" },
	{ OCI_ACCEPT, 0, "no-subreaper", NULL, 0, "accepted: nothing here needs a subreaper" },
	{ .kind = OCI_END },
};
#undef AT

/* ---- the command line ---- */

static void add(char ***args, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(char ***args, const char *fmt, ...)
{
	auto_buf struct buf b = BUF(2 * PATH_MAX);
	va_list ap;

	va_start(ap, fmt);
	buf_vfmt(&b, fmt, ap);
	va_end(ap);
	text_list_add(args, buf_text(&b));
}

static void external(char ***args, const char *key, const char *value)
{
	text_list_add(args, "--external");
	add(args, "mnt[%s]:%s", key, value);
}

static bool is_bind(const json_t *mount)
{
	const json_t *o;
	size_t i;

	json_array_foreach(json_object_get(mount, "options"), i,
			   o) if (json_is_string(o) && (!strcmp(json_string_value(o), "bind") ||
							!strcmp(json_string_value(o), "rbind"))) return true;
	return strcmp(json_str_at(mount, "type", ""), "bind") == 0;
}

/* dump: by their place in the container; restore: what is to stand there. */
static FALLIBLE external_mounts(char ***args, const struct oci_box *b, bool restore)
{
	const json_t *m;
	size_t i;

	json_array_foreach(json_object_get(b->config, "mounts"), i, m)
	{
		const char *at = json_str_at(m, "destination", ""), *source = json_str_at(m, "source", "");
		struct cgroup_set s = { 0 };

		if (is_bind(m))
			external(args, at, restore ? source : at);
		if (strcmp(json_str_at(m, "type", ""), "cgroup") != 0 || !*oci_box_cgroup(b))
			continue;
		TRY(cgroup_set_find(&s));
		for (size_t k = 0; k < s.n && !s.v2; k++) {
			auto_free char *place = xasprintf("%s/%s", at, s.h[k].name);
			char dir[CGROUP_PATH];

			if (cgroup_name(&s.h[k], oci_box_cgroup(b), "", dir) < 0)
				return FAIL(ERR_LIMIT, "control group %s: too long", oci_box_cgroup(b));
			external(args, place, restore ? dir : place);
		}
	}
	return NULL;
}

static const struct {
	const char *type, *file, *key;
} shared_ns[] = { { "network", "net", "extRootNetNS" }, { "pid", "pid", "extRootPidNS" } };

static const char *joined(const json_t *config, const char *type)
{
	const json_t *ns;
	size_t i;

	json_array_foreach(json_at(config, "linux.namespaces"), i,
			   ns) if (strcmp(json_str_at(ns, "type", ""), type) ==
				   0) return json_str_at(ns, "path", NULL);
	return NULL;
}

static FALLIBLE external_namespaces(char ***args, const struct oci_box *b)
{
	for (size_t i = 0; i < LEN(shared_ns); i++) {
		const char *path = joined(b->config, shared_ns[i].type);
		struct stat st;
		int r;

		if (!path || !*path)
			continue;
		if ((r = sys_fstatat(AT_FDCWD, path, &st, 0)) < 0)
			return FAIL_OS(-r, "namespace %s", path);
		text_list_add(args, "--external");
		add(args, "%s[%llu]:%s", shared_ns[i].file, (unsigned long long)st.st_ino, shared_ns[i].key);
	}
	return NULL;
}

static FALLIBLE common(char ***args, const struct criu *c, const struct oci_box *b, const char *work,
		       const char *log)
{
	const struct {
		bool on;
		const char *option;
	} flags[] = { { c->tcp, "--tcp-established" }, { c->unix_sk, "--ext-unix-sk" },
		      { c->shell_job, "--shell-job" }, { c->file_locks, "--file-locks" },
		      { c->lazy, "--lazy-pages" },     { c->dedup, "--auto-dedup" } };
	static const char *const modes[] = { "soft", "full", "strict", "ignore", NULL };
	const char *mode = c->cgroups ? c->cgroups : "soft",
		   *config = oci_annotation(b->config, "org.criu.config");
	static const char *const usual[] = { "/etc/criu/crun.conf",
					     "/etc/criu/runc.conf" }; /* as crun looks for them */
	struct stat st;
	size_t k = 0;

	while (modes[k] && strcmp(modes[k], mode) != 0)
		k++;
	if (!modes[k])
		return FAIL(ERR_INVALID, "--manage-cgroups-mode %s: soft, full, strict or ignore", mode);
	add(args, "--images-dir=%s", c->images);
	add(args, "--work-dir=%s", work);
	add(args, "--log-file=%s", log);
	text_list_add(args, "-v4");
	add(args, "--root=%s", json_str_at(b->state, "rootfs", ""));
	add(args, "--manage-cgroups=%s", mode);
	for (size_t i = 0; i < LEN(flags); i++)
		if (flags[i].on)
			text_list_add(args, flags[i].option);
	for (size_t i = 0; c->empty_ns && c->empty_ns[i]; i++) {
		if (strcmp(c->empty_ns[i], "network") != 0)
			return FAIL(ERR_UNSUPPORTED, "--empty-ns %s: criu can do it for network only",
				    c->empty_ns[i]);
		text_list_add(args, "--empty-ns=net");
	}
	for (size_t i = 0; !config && i < LEN(usual); i++)
		if (sys_fstatat(AT_FDCWD, usual[i], &st, 0) == 0)
			config = usual[i];
	if (config)
		add(args, "--config=%s", config);
	return NULL;
}

/* ---- running it ---- */

/* The last error of criu's log, which tells more than its exit status. */
static FALLIBLE explain(const char *what, int status, const char *work, const char *log)
{
	auto_free char *path = xasprintf("%s/%s", work, log), *text = xcalloc(1, LOG_TAIL + 1);
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	struct sv rest, last = SV("it tells nothing");
	off_t end = fd < 0 ? 0 : sys_lseek(fd, 0, SEEK_END);
	ssize_t n = fd < 0 ? 0 : sys_pread(fd, text, LOG_TAIL, end > LOG_TAIL ? end - LOG_TAIL : 0);

	rest = sv_from(text, n > 0 ? (size_t)n : 0);
	while (rest.n) {
		struct sv line = sv_cut(&rest, '\n');
		const char *at = memmem(line.p, line.n, "Error (", 7);

		if (at)
			last = sv_from(at, line.n - (size_t)(at - line.p));
	}
	return FAIL(ERR_UNAVAILABLE, "criu %s failed (exit status %d), see %s: " SV_FMT, what, status, path,
		    SV_ARG(last));
}

static FALLIBLE run_criu(const struct oci *o, char **args, const int *fds, size_t n_fds, const char *work,
			 const char *log)
{
	struct sys_spawn s = { .path = o->criu, .argv = args, .fds = fds, .n_fds = n_fds };
	auto_fd int pid_fd = -1;
	int r;

	for (size_t i = 0; o->debug && args[i]; i++)
		(void)fprintf(stderr, "%s%s", args[i], args[i + 1] ? " " : "\n");
	r = sys_spawn_run(&s, &pid_fd);
	if (r < 0)
		return FAIL_OS(-r, "run %s (is criu installed?)", o->criu);
	r = sys_pid_fd_wait(pid_fd, false, NULL);
	if (r < 0)
		return FAIL_OS(-r, "wait for criu");
	return r ? explain(args[1], r, work, log) : NULL;
}

/* Absolute, because criu changes its directory; made when missing. Owned. */
static FALLIBLE directory(const char *path, const char *fallback, char **out)
{
	const char *want = path ? path : fallback;
	int r = sys_mkdir(AT_FDCWD, want, 0700);

	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "make %s", want);
	*out = realpath(want, NULL);
	return *out ? NULL : FAIL_OS(errno, "directory %s", want);
}

/* ---- checkpoint ---- */

static FALLIBLE dump_args(char ***args, const struct criu *c, const struct oci_box *b)
{
	add(args, "--tree=%d", (int)b->pid);
	if (c->running || c->pre_dump)
		text_list_add(args, "--leave-running");
	if (c->pre_dump || c->parent)
		text_list_add(args, "--track-mem");
	if (c->parent && c->parent[0] == '/')
		return FAIL(ERR_INVALID, "--parent-path %s: must be relative to the image", c->parent);
	if (c->parent)
		add(args, "--prev-images-dir=%s", c->parent);
	if (c->page_server) {
		const char *colon = strrchr(c->page_server, ':');

		if (!colon)
			return FAIL(ERR_INVALID, "--page-server %s: ADDRESS:PORT is needed", c->page_server);
		text_list_add(args, "--page-server");
		add(args, "--address=%.*s", (int)(colon - c->page_server), c->page_server);
		add(args, "--port=%s", colon + 1);
	}
	if (c->pre_dump)
		return NULL;
	TRY(external_namespaces(args, b));
	return external_mounts(args, b, false);
}

/* For restore: which of the standard streams were pipes. */
static FALLIBLE save_descriptors(const struct oci_box *b, const char *images)
{
	auto_free char *path = xasprintf("%s/descriptors.json", images);
	const char *text = json_str_at(b->state, "external_descriptors", "[]");
	auto_fd int fd = sys_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int r = fd < 0 ? fd : sys_write_all(fd, text, strlen(text));

	return r < 0 ? FAIL_OS(-r, "write %s", path) : NULL;
}

static struct err *run_checkpoint(const struct oci *o, const void *conf, char *const argv[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	struct criu c = *(const struct criu *)conf;
	const char *what = c.pre_dump ? "pre-dump" : "dump";
	auto_free char *images = NULL, *work = NULL;
	auto_list char **args = NULL;
	int fds[4] = { -1, 1, 2, -1 };
	uint64_t status_fd = 0;

	(void)out_exit;
	if (c.status_fd)
		TRY(num_parse(sv_of(c.status_fd), 10, 0, 1 << 20, &status_fd));
	TRY(oci_box_open(o, argv[0], true, &b));
	if (oci_box_status(&b) != OCI_RUNNING && oci_box_status(&b) != OCI_PAUSED)
		return FAIL(ERR_CONFLICT, "container not running: \"%s\"", b.id);
	TRY(directory(c.images, "checkpoint", &images));
	TRY(directory(c.work, images, &work));
	c.images = images;
	text_list_add(&args, o->criu);
	text_list_add(&args, what);
	TRY(common(&args, &c, &b, work, "dump.log"));
	TRY(dump_args(&args, &c, &b));
	if (c.status_fd) {
		fds[3] = (int)status_fd;
		text_list_add(&args, "--status-fd=3");
	}
	TRY(run_criu(o, args, fds, c.status_fd ? 4 : 3, work, "dump.log"));
	TRY(save_descriptors(&b, images));
	return c.running || c.pre_dump ? NULL : oci_forget(o, &b);
}

/* ---- restore ---- */

/* criu wants the root to be a mount: in a mount namespace of ours, which nobody else sees. */
static FALLIBLE mount_root(const char *rootfs)
{
	int r = sys_unshare(CLONE_NEWNS);

	if (r >= 0)
		r = sys_mount(NULL, "/", NULL, MS_SLAVE_ | MS_REC_, NULL);
	if (r >= 0)
		r = sys_mount(rootfs, rootfs, NULL, MS_BIND_ | MS_REC_, NULL);
	return r < 0 ? FAIL_OS(-r, "mount root %s for criu", rootfs) : NULL;
}

static FALLIBLE inherited_streams(char ***args, const char *images)
{
	auto_free char *path = xasprintf("%s/descriptors.json", images);
	auto_json json_t *list = NULL;
	const json_t *d;
	size_t i;

	TRY(oci_read_json(path, path, &list));
	json_array_foreach(list, i, d)
	{
		const char *name = json_is_string(d) ? json_string_value(d) : "";

		if (i < 3 && strncmp(name, "pipe:", 5) == 0) {
			text_list_add(args, "--inherit-fd");
			add(args, "fd[%zu]:%s", i, name);
		}
	}
	return NULL;
}

/* Opened namespaces become descriptors 3 and 4 of criu. */
static FALLIBLE joined_namespaces(char ***args, const struct oci_box *b, int fds[3 + NS_FDS], size_t *n_fds)
{
	for (size_t i = 0; i < LEN(shared_ns); i++) {
		const char *path = joined(b->config, shared_ns[i].type);

		if (!path || !*path)
			continue;
		if ((fds[*n_fds] = sys_open(path, O_RDONLY, 0)) < 0)
			return FAIL_OS(-fds[*n_fds], "open namespace %s", path);
		text_list_add(args, "--inherit-fd");
		add(args, "fd[%zu]:%s", *n_fds, shared_ns[i].key);
		(*n_fds)++;
	}
	return NULL;
}

static FALLIBLE read_pid(const char *path, pid_t *out)
{
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	char text[24];
	ssize_t n = fd < 0 ? fd : sys_read(fd, text, sizeof text - 1);
	uint64_t pid;

	if (n < 0)
		return FAIL_OS((int)-n, "read criu's pid file %s", path);
	TRY(num_parse(sv_trim(sv_from(text, (size_t)n)), 10, 1, INT_MAX, &pid));
	*out = (pid_t)pid;
	return NULL;
}

static FALLIBLE restore_in(const struct oci *o, struct criu *c, struct oci_box *b,
			   struct runtime_proc *out_proc)
{
	auto_free char *images = NULL, *work = NULL, *pid_path = xasprintf("%s/criu.pid", b->path);
	auto_list char **args = NULL;
	int fds[3 + NS_FDS] = { 0, 1, 2, -1, -1 };
	size_t n_fds = 3;
	struct err *e;

	TRY(oci_read_bundle(&c->create, b));
	TRY(oci_annotations(b));
	if (json_bool_at(b->config, "process.terminal", false) || c->create.console)
		return FAIL(ERR_UNSUPPORTED, "a container with a terminal cannot be restored");
	TRY(oci_cgroup_choose(o, b));
	TRY(oci_box_save_config(b));
	TRY(oci_box_save(b));
	if (!(images = realpath(c->images ? c->images : "checkpoint", NULL)))
		return FAIL_OS(errno, "image %s", c->images ? c->images : "checkpoint");
	TRY(directory(c->work, images, &work));
	c->images = images;
	text_list_add(&args, o->criu);
	text_list_add(&args, "restore");
	TRY(common(&args, c, b, work, "restore.log"));
	text_list_add(&args, "--restore-detached");
	add(&args, "--pidfile=%s", pid_path);
	if (c->lsm_profile)
		add(&args, "--lsm-profile=%s", c->lsm_profile);
	if (c->lsm_context)
		add(&args, "--lsm-mount-context=%s", c->lsm_context);
	TRY(external_mounts(&args, b, true));
	TRY(inherited_streams(&args, images));
	e = joined_namespaces(&args, b, fds, &n_fds);
	if (!e)
		e = mount_root(json_str_at(b->state, "rootfs", ""));
	if (!e)
		e = run_criu(o, args, fds, n_fds, work, "restore.log");
	for (size_t i = 3; i < n_fds; i++)
		own_close(&fds[i]);
	TRY(e);
	TRY(read_pid(pid_path, &out_proc->pid));
	out_proc->pid_fd = sys_pid_fd(out_proc->pid);
	return out_proc->pid_fd < 0 ? FAIL_OS(-out_proc->pid_fd, "the restored process") : NULL;
}

static FALLIBLE announce(const struct criu *c, struct oci_box *b, pid_t pid)
{
	b->pid = pid;
	(void)json_object_set_new(b->state, "pid", json_integer(pid));
	(void)json_object_set_new(b->state, "process-start-time",
				  json_integer((json_int_t)oci_pid_start(pid)));
	TRY(oci_box_save(b));
	return oci_write_pid(c->create.pid_file, pid);
}

static struct err *run_restore(const struct oci *o, const void *conf, char *const argv[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	struct criu c = *(const struct criu *)conf;
	auto_fd int sig_fd = -1;
	struct err *e;
	int r;

	if (!c.create.detach && ((r = sys_become_subreaper()) < 0 || (r = sig_fd = oci_signals()) < 0))
		return FAIL_OS(-r, "become the parent of what is restored");
	TRY(oci_box_new(o, argv[0], &b));
	e = restore_in(o, &c, &b, &proc);
	if (!e)
		e = announce(&c, &b, proc.pid);
	if (e) {
		if (proc.pid_fd >= 0)
			(void)sys_pid_fd_kill(proc.pid_fd, SIGKILL);
		err_free(oci_cgroup_remove(&b));
		err_free(oci_box_remove(&b));
	} else if (!c.create.detach) {
		if (!(e = oci_wait(&proc, sig_fd, NULL, out_exit)))
			e = oci_forget(o, &b);
	}
	runtime_proc_fini(&proc);
	return e;
}

const struct oci_cmd oci_cmd_checkpoint = {
	.name = "checkpoint",
	.args = "CONTAINER",
	.summary = "Write a running container into an image of criu",
	.opts = checkpoint_opts,
	.conf_size = sizeof(struct criu),
	.min_args = 1,
	.max_args = 1,
	.run = run_checkpoint,
};
const struct oci_cmd oci_cmd_restore = {
	.name = "restore",
	.args = "CONTAINER",
	.summary = "Make a running container out of an image of criu",
	.opts = restore_opts,
	.conf_size = sizeof(struct criu),
	.min_args = 1,
	.max_args = 1,
	.run = run_restore,
};
