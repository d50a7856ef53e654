/*
 * oci_criu.c - checkpoint and restore by the criu program (3.16 or later; configuration files: 4.2).
 *
 * Mounts that came from the host, masked files among them, are external to the image and named by where they
 * stand in the container; so are namespaces that were joined: the image tells that something was there,
 * restore what is to stand there now. A terminal's master comes from criu as a descriptor and goes where
 * create sends it.
 */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "runtime/cgroup.h"
#include "runtime/child.h"
#include "runtime/criu.h"
#include "runtime/oci.h"
#include "runtime/words.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>

enum {
	MS_BIND_ = 4096,
	MS_REC_ = 16384,
	MS_SLAVE_ = 1 << 19,
	LOG_MAX = 4 << 20,
	ERRORS_TOLD = 3,
	NS_FDS = 2
};

struct criu {
	struct oci_create create; /* restore */
	const char *images, *work, *parent, *status_fd, *page_server, *cgroups, *network_lock, *lsm_profile,
	    *lsm_context;
	char **empty_ns;
	bool running, tcp, tcp_close, tcp_skip, unix_sk, shell_job, file_locks, pre_dump, lazy, dedup, link_remap;
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
	    { OCI_FLAG, 0, "link-remap", NULL, AT(link_remap), "with files that were removed while open" },   \
	    { OCI_STR,          0,                                                                            \
	      "network-lock",   "METHOD",                                                                     \
	      AT(network_lock), "iptables (criu's default), nftables or skip" },                              \
	    { OCI_LIST, 0, "empty-ns", "NAME", AT(empty_ns), "a namespace (network) without what is in it" }, \
	{                                                                                                     \
		OCI_STR, 0, "manage-cgroups-mode", "MODE", AT(cgroups),                                       \
		    "soft (default), full, strict, ignore"                                                    \
	}
static const struct oci_opt checkpoint_opts[] = {
	BOTH,
	{ OCI_STR, 0, "parent-path", "DIR", AT(parent), "the image of a --pre-dump, relative to this one" },
	{ OCI_FLAG, 0, "tcp-skip-in-flight", NULL, AT(tcp_skip), "without TCP connections that are being made" },
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
	  "send the terminal's master to this socket" },
	{ OCI_FLAG, 0, "tcp-close", NULL, AT(tcp_close), "close TCP connections that were open" },
	{ OCI_FLAG, 'd', "detach", NULL, AT(create.detach), "do not wait for the end" },
	{ OCI_FLAG, 0, "no-pivot", NULL, AT(create.no_pivot),
	  "kept for later creations of the same container" },
	{ OCI_STR, 0, "lsm-profile", "TYPE:NAME", AT(lsm_profile), "another LSM profile" },
	{ OCI_STR, 0, "lsm-mount-context", "CONTEXT", AT(lsm_context), "another SELinux context of mounts" },
	{ OCI_ACCEPT, 0, "no-subreaper", NULL, 0, "accepted: nothing here needs a subreaper" },
	{ .kind = OCI_END },
};
#undef AT

/* ---- what criu is told ---- */

static void external(struct criu_order *q, const char *key, const char *value)
{
	criu_text(q, CRIU_EXTERNAL, "mnt[%s]:%s", key, value);
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

static bool is_control_groups(const json_t *mount)
{
	return strncmp(json_str_at(mount, "type", ""), "cgroup", 6) == 0;
}

/* Where a path of the configuration lies in the container once links are followed; NULL: nowhere. Owned. */
static char *resolved(int root, const char *path, struct stat *out_st)
{
	auto_fd int fd = sys_open_in_root(root, path + strspn(path, "/"), O_PATH, 0);
	char link[40], real[PATH_MAX];

	if (fd < 0 || sys_fstat(fd, out_st) < 0)
		return NULL;
	child_fd_path(fd, link);
	return sys_readlink(AT_FDCWD, link, real, sizeof real) < 0 ? NULL : xstrdup(real);
}

/* v1: every hierarchy is a bind mount below the mount point of type cgroup. */
static FALLIBLE external_hierarchies(struct criu_order *q, const struct oci_box *b, const char *at,
				     bool restore)
{
	struct cgroup_set s = { 0 };

	if (!*oci_box_cgroup(b))
		return NULL;
	TRY(cgroup_set_find(&s));
	for (size_t k = 0; k < s.n && !s.v2; k++) {
		auto_free char *place = xasprintf("%s/%s", at, s.h[k].name);
		char dir[CGROUP_PATH];

		if (cgroup_name(&s.h[k], oci_box_cgroup(b), "", dir) < 0)
			return FAIL(ERR_LIMIT, "control group %s: too long", oci_box_cgroup(b));
		external(q, place, restore ? dir : place);
	}
	return NULL;
}

/* root: dump: the container's root as it sees it; -1 with restore, where the key is the configuration's path.
 */
static FALLIBLE external_mounts(struct criu_order *q, const struct oci_box *b, int root)
{
	auto_list char **masked = NULL;
	bool restore = root < 0;
	struct stat st;
	const json_t *m;
	size_t i;

	json_array_foreach(json_object_get(b->config, "mounts"), i, m)
	{
		const char *at = json_str_at(m, "destination", ""), *source = json_str_at(m, "source", "");
		auto_free char *real = restore || !is_bind(m) ? NULL : resolved(root, at, &st);

		if (is_control_groups(m))
			TRY(external_hierarchies(q, b, at, restore));
		else if (is_bind(m))
			external(q, real ? real : at, restore ? source : at);
	}
	TRY(json_list_at(json_object_get(b->config, "linux"), "maskedPaths", &masked));
	for (char **at = masked; at && *at; at++) {
		auto_free char *real = restore ? NULL : resolved(root, *at, &st);

		if (restore) /* a directory was not external, and nothing asks for it */
			external(q, *at, "/dev/null");
		else if (real && S_ISCHR(st.st_mode))
			external(q, real, *at);
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

static FALLIBLE external_namespaces(struct criu_order *q, const struct oci_box *b)
{
	for (size_t i = 0; i < LEN(shared_ns); i++) {
		const char *path = joined(b->config, shared_ns[i].type);
		struct stat st;
		int r;

		if (!path || !*path)
			continue;
		if ((r = sys_fstatat(AT_FDCWD, path, &st, 0)) < 0)
			return FAIL_OS(-r, "namespace %s", path);
		criu_text(q, CRIU_EXTERNAL, "%s[%llu]:%s", shared_ns[i].file, (unsigned long long)st.st_ino,
			  shared_ns[i].key);
	}
	return NULL;
}

/* The numbers are criu's. */
static const struct word modes[] = {
	{ "ignore", 0 }, { "soft", 3 }, { "full", 4 }, { "strict", 5 }, { NULL, 0 }
};
static const struct word locks[] = { { "iptables", 1 }, { "nftables", 2 }, { "skip", 3 }, { NULL, 0 } };

static FALLIBLE choose(const struct word *words, const char *option, const char *text, uint64_t *out)
{
	const struct word *w = word_find(words, text);
	auto_buf struct buf known = BUF(256);

	if (w) {
		*out = w->value;
		return NULL;
	}
	for (w = words; w->name; w++)
		buf_fmt(&known, "%s%s", w == words ? "" : ", ", w->name);
	return FAIL(ERR_INVALID, "--%s %s: it knows %s", option, text, buf_text(&known));
}

static FALLIBLE choices(struct criu_order *q, const struct criu *c, const struct oci_box *b)
{
	const char *mode = c->cgroups ? c->cgroups : *oci_box_cgroup(b) ? "soft" : "ignore";
	uint64_t value;

	TRY(choose(modes, "manage-cgroups-mode", mode, &value));
	criu_number(q, CRIU_MANAGE_CGROUPS, 1);
	criu_number(q, CRIU_MANAGE_CGROUPS_MODE, value);
	if (c->network_lock) {
		TRY(choose(locks, "network-lock", c->network_lock, &value));
		criu_number(q, CRIU_NETWORK_LOCK, value);
	}
	for (size_t i = 0; c->empty_ns && c->empty_ns[i]; i++) {
		if (strcmp(c->empty_ns[i], "network") != 0)
			return FAIL(ERR_UNSUPPORTED, "--empty-ns %s: criu can do it for network only",
				    c->empty_ns[i]);
		criu_number(q, CRIU_EMPTY_NS, CLONE_NEWNET);
	}
	return NULL;
}

/* The annotation's, or where crun and runc look for one. */
static void configuration(struct criu_order *q, const struct oci_box *b)
{
	static const char *const usual[] = { "/etc/criu/crun.conf", "/etc/criu/runc.conf" };
	const char *config = oci_annotation(b->config, "org.criu.config");
	struct stat st;

	for (size_t i = 0; !config && i < LEN(usual); i++)
		if (sys_fstatat(AT_FDCWD, usual[i], &st, 0) == 0)
			config = usual[i];
	if (config)
		criu_text(q, CRIU_CONFIG_FILE, "%s", config);
}

/* The directories of one order. */
struct places {
	char *images, *work;
	int images_fd, work_fd;
};
#define PLACES      ((struct places){ NULL, NULL, -1, -1 })
#define auto_places CLEANUP(places_fini)

static void places_fini(struct places *p)
{
	free(p->images);
	free(p->work);
	own_close(&p->images_fd);
	own_close(&p->work_fd);
}

static FALLIBLE common(struct criu_order *q, const struct criu *c, const struct oci_box *b,
		       const struct places *p, const char *log)
{
	const struct {
		bool on;
		enum criu_opt opt;
	} flags[] = { { c->tcp, CRIU_TCP_ESTABLISHED }, { c->unix_sk, CRIU_EXT_UNIX_SK },
		      { c->shell_job, CRIU_SHELL_JOB }, { c->file_locks, CRIU_FILE_LOCKS },
		      { c->lazy, CRIU_LAZY_PAGES },     { c->dedup, CRIU_AUTO_DEDUP },
		      { c->tcp_close, CRIU_TCP_CLOSE }, { c->tcp_skip, CRIU_TCP_SKIP_IN_FLIGHT }, { c->link_remap, CRIU_LINK_REMAP },
		      { true, CRIU_ORPHAN_PTS_MASTER }, { true, CRIU_NOTIFY_SCRIPTS } };

	criu_number(q, CRIU_IMAGES_DIR_FD, (uint64_t)p->images_fd);
	criu_number(q, CRIU_WORK_DIR_FD, (uint64_t)p->work_fd);
	criu_text(q, CRIU_LOG_FILE, "%s", log);
	criu_number(q, CRIU_LOG_LEVEL, 4);
	criu_text(q, CRIU_ROOT, "%s", json_str_at(b->state, "rootfs", ""));
	for (size_t i = 0; i < LEN(flags); i++)
		if (flags[i].on)
			criu_number(q, flags[i].opt, 1);
	TRY(choices(q, c, b));
	configuration(q, b);
	return NULL;
}

/* ---- running it ---- */

/*
 * The errors of criu's log, which tell more than its answer: the first ones, for the rest follows from them.
 * The one about RLIMIT_NOFILE is there whenever a capability is missing and stops nothing.
 */
static struct err *explain(struct err *e, const char *work, const char *log)
{
	auto_free char *path = xasprintf("%s/%s", work, log), *text = xcalloc(1, LOG_MAX + 1);
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	auto_buf struct buf found = BUF(8192);
	ssize_t n = fd < 0 ? 0 : sys_pread(fd, text, LOG_MAX, 0);
	struct sv rest = sv_from(text, n > 0 ? (size_t)n : 0);
	struct err *full;

	for (size_t told = 0; rest.n && told < ERRORS_TOLD;) {
		struct sv line = sv_cut(&rest, '\n');
		const char *at = memmem(line.p, line.n, "Error (", 7);

		if (!at || memmem(line.p, line.n, "rlimit:", 7))
			continue;
		buf_fmt(&found, "%s" SV_FMT, told++ ? "; " : ": ", (int)(line.n - (size_t)(at - line.p)), at);
	}
	full = FAIL(e->kind, "%s, see %s%s", e->msg, path, buf_text(&found));
	err_free(e);
	return full;
}

static FALLIBLE run_criu(const struct oci *o, const struct criu_order *q, const int *fds, size_t n_fds,
			 const struct places *p, const char *log, struct runtime_proc *out_proc)
{
	struct err *e;

	if (o->debug)
		(void)fprintf(stderr, "%s:%s\n", o->criu, buf_text(&q->text));
	e = criu_run(o->criu, q, fds, n_fds, out_proc);
	return e && e->kind == ERR_UNAVAILABLE ? explain(e, p->work, log) : e;
}

/* Absolute, because messages name it; made when missing. Owned. */
static FALLIBLE directory(const char *want, char **out_path, int *out_fd)
{
	int r = sys_mkdir(AT_FDCWD, want, 0700);

	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "make %s", want);
	if ((r = *out_fd = sys_open_dir(want)) < 0)
		return FAIL_OS(-r, "directory %s", want);
	*out_path = realpath(want, NULL);
	return *out_path ? NULL : FAIL_OS(errno, "directory %s", want);
}

/* ---- controllers as criu names them ---- */

struct placed {
	struct criu_order *q;
	const char *group;
};

/* "cpu,cpuacct" is two; a hierarchy without controllers has a name instead. */
static void each_controller(const struct cgroup_hier *h, void (*each)(void *ctx, const char *name), void *ctx)
{
	struct sv rest = sv_of(h->name);

	while (rest.n) {
		struct sv name = sv_cut(&rest, ',');
		auto_free char *plain = xasprintf(SV_FMT, SV_ARG(name)), *named = xasprintf("name=%s", plain);

		each(ctx, plain);
		each(ctx, named);
	}
}

static void dump_controller(void *order, const char *name)
{
	criu_text(order, CRIU_CGROUP_DUMP_CONTROLLER, "%s", name);
}

/* ---- checkpoint ---- */

static FALLIBLE page_server(struct criu_order *q, const char *text)
{
	const char *colon = strrchr(text, ':');
	auto_free char *address = NULL;
	uint64_t port;

	if (!colon)
		return FAIL(ERR_INVALID, "--page-server %s: ADDRESS:PORT is needed", text);
	TRY(num_parse(sv_of(colon + 1), 10, 1, 65535, &port));
	address = xasprintf("%.*s", (int)(colon - text), text);
	criu_pair_number(q, CRIU_PAGE_SERVER, address, port);
	return NULL;
}

/* An image of before, which pages are the same in: named from the new one, so that both can move together. */
static FALLIBLE parent_image(struct criu_order *q, const char *parent, int images_fd)
{
	auto_fd int fd = -1;

	if (parent[0] == '/')
		return FAIL(ERR_INVALID, "--parent-path %s: must be relative to the image", parent);
	if ((fd = sys_openat(images_fd, parent, O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(-fd, "--parent-path %s", parent);
	criu_text(q, CRIU_PARENT_IMG, "%s", parent);
	return NULL;
}

/*
 * criu stops the container by its freezer, so that no process is born meanwhile. On v1 only the hierarchies
 * of ours are for the image: in others (a v2 one that is mounted beside) the container is in some group of
 * the host, with all that lives below.
 */
static FALLIBLE control_groups(struct criu_order *q, const struct oci_box *b)
{
	struct cgroup_set s = { 0 };
	const struct cgroup_hier *h;
	char dir[CGROUP_PATH];

	if (!*oci_box_cgroup(b))
		return NULL;
	TRY(cgroup_set_find(&s));
	if ((h = cgroup_find(&s, "freezer")) && cgroup_name(h, oci_box_cgroup(b), "", dir) >= 0)
		criu_text(q, CRIU_FREEZE_CGROUP, "%s", dir);
	for (size_t i = 0; i < s.n && !s.v2; i++)
		each_controller(&s.h[i], dump_controller, q);
	return NULL;
}

static FALLIBLE dump_order(struct criu_order *q, const struct criu *c, const struct oci_box *b, int images_fd)
{
	char path[40];
	auto_fd int root = -1;

	criu_number(q, CRIU_PID, (uint64_t)b->pid);
	if (c->running)
		criu_number(q, CRIU_LEAVE_RUNNING, 1);
	if (c->pre_dump || c->parent)
		criu_number(q, CRIU_TRACK_MEM, 1);
	if (c->parent)
		TRY(parent_image(q, c->parent, images_fd));
	if (c->page_server)
		TRY(page_server(q, c->page_server));
	TRY(control_groups(q, b));
	if (c->pre_dump)
		return NULL;
	(void)snprintf(path, sizeof path, "/proc/%d/root", (int)b->pid);
	if ((root = sys_open(path, O_PATH | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(-root, "look into the root of \"%s\"", b->id);
	TRY(external_namespaces(q, b));
	return external_mounts(q, b, root);
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
	const struct criu *c = conf;
	auto_box struct oci_box b = OCI_BOX;
	auto_places struct places p = PLACES;
	auto_order struct criu_order q = CRIU_ORDER(c->pre_dump ? CRIU_PRE_DUMP : CRIU_DUMP);
	struct runtime_proc none;
	uint64_t status_fd = 0;

	(void)out_exit;
	if (c->status_fd)
		TRY(num_parse(sv_of(c->status_fd), 10, 0, 1 << 20, &status_fd));
	TRY(oci_box_open(o, argv[0], true, &b));
	if (oci_box_status(&b) != OCI_RUNNING && oci_box_status(&b) != OCI_PAUSED)
		return FAIL(ERR_CONFLICT, "container not running: \"%s\"", b.id);
	TRY(directory(c->images ? c->images : "checkpoint", &p.images, &p.images_fd));
	TRY(directory(c->work ? c->work : p.images, &p.work, &p.work_fd));
	TRY(common(&q, c, &b, &p, "dump.log"));
	TRY(dump_order(&q, c, &b, p.images_fd));
	if (c->status_fd) /* criu opens it by our pid */
		criu_number(&q, CRIU_STATUS_FD, status_fd);
	TRY(run_criu(o, &q, NULL, 0, &p, "dump.log", &none));
	TRY(save_descriptors(&b, p.images));
	return c->running || c->pre_dump ? NULL : oci_forget(o, &b);
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

static FALLIBLE inherited_streams(struct criu_order *q, const char *images)
{
	auto_free char *path = xasprintf("%s/descriptors.json", images);
	auto_json json_t *list = NULL;
	const json_t *d;
	size_t i;

	TRY(oci_read_json(path, path, &list));
	json_array_foreach(list, i, d)
	{
		const char *name = json_is_string(d) ? json_string_value(d) : "";

		if (i < 3 && strncmp(name, "pipe:", 5) == 0)
			criu_pair_number(q, CRIU_INHERIT_FD, name, i);
	}
	return NULL;
}

/* Opened namespaces become descriptors of criu; those it cannot take so, it enters by their path. */
static FALLIBLE joined_namespaces(struct criu_order *q, const struct oci_box *b, int fds[NS_FDS],
				  size_t *n_fds)
{
	static const char *const by_path[] = { "ipc", "uts", "time" };

	for (size_t i = 0; i < LEN(shared_ns); i++) {
		const char *path = joined(b->config, shared_ns[i].type);

		if (!path || !*path)
			continue;
		if ((fds[*n_fds] = sys_open(path, O_RDONLY, 0)) < 0)
			return FAIL_OS(-fds[*n_fds], "open namespace %s", path);
		criu_pair_number(q, CRIU_INHERIT_FD, shared_ns[i].key, CRIU_FDS + *n_fds);
		(*n_fds)++;
	}
	for (size_t i = 0; i < LEN(by_path); i++) {
		const char *path = joined(b->config, by_path[i]);

		if (path && *path)
			criu_pair(q, CRIU_JOIN_NS, by_path[i], path);
	}
	return NULL;
}

static void place_controller(void *order, const char *name)
{
	const struct placed *p = order;

	criu_pair(p->q, CRIU_CG_ROOT, name, p->group);
}

/* Where it was in the image does not matter: it may have another name now. */
static FALLIBLE place(struct criu_order *q, const struct oci_box *b)
{
	auto_free char *group = xasprintf("/%s", oci_box_cgroup(b));
	struct placed p = { q, group };
	struct cgroup_set s = { 0 };

	if (!group[1])
		return NULL;
	TRY(cgroup_set_find(&s));
	if (s.v2)
		criu_pair(q, CRIU_CG_ROOT, NULL, group);
	for (size_t i = 0; i < s.n && !s.v2; i++)
		each_controller(&s.h[i], place_controller, &p);
	return NULL;
}

/* A path of the root that a mount stands on; on a tmpfs criu restores it with the rest. */
static bool on_tmpfs(const json_t *mounts, const char *at)
{
	const json_t *m;
	size_t i;

	json_array_foreach(mounts, i, m)
	{
		const char *under = json_str_at(m, "destination", "");
		size_t n = strlen(under);

		if (strcmp(json_str_at(m, "type", ""), "tmpfs") == 0 && strncmp(at, under, n) == 0 &&
		    at[n] == '/')
			return true;
	}
	return false;
}

static FALLIBLE mount_point(int root, const json_t *mount)
{
	const char *at = json_str_at(mount, "destination", ""), *below = at + strspn(at, "/");
	auto_fd int there = sys_open_in_root(root, below, O_PATH, 0), fd = -1;
	auto_free char *dir = xstrdup(below);
	char *slash = strrchr(dir, '/');
	struct stat st = { .st_mode = S_IFDIR };
	int r;

	if (there != -ENOENT || !*below)
		return there < 0 && *below ? FAIL_OS(-there, "mount point %s", at) : NULL;
	if (is_bind(mount) && (r = sys_fstatat(AT_FDCWD, json_str_at(mount, "source", ""), &st, 0)) < 0)
		return FAIL_OS(-r, "source of mount %s", at);
	if (S_ISDIR(st.st_mode)) {
		r = child_mkdirs(root, below);
	} else {
		if (slash)
			*slash = 0;
		r = slash ? child_mkdirs(root, dir) : 0;
		if (r >= 0)
			r = fd = sys_open_in_root(root, below, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	}
	return r < 0 ? FAIL_OS(-r, "make mount point %s", at) : NULL;
}

/* As create makes those that the root lacks: an image may come to a root that no container has used yet. */
static FALLIBLE mount_points(const struct oci_box *b)
{
	const json_t *mounts = json_object_get(b->config, "mounts"), *m;
	const char *rootfs = json_str_at(b->state, "rootfs", "");
	auto_fd int root = sys_open_dir(rootfs);
	size_t i;

	if (root < 0)
		return FAIL_OS(-root, "open root %s", rootfs);
	json_array_foreach(mounts, i, m) if (!is_control_groups(m) &&
					     !on_tmpfs(mounts, json_str_at(m, "destination", "")))
	    TRY(mount_point(root, m));
	return NULL;
}

static FALLIBLE restore_order(struct criu_order *q, const struct criu *c, const struct oci_box *b,
			      const struct places *p)
{
	TRY(common(q, c, b, p, "restore.log"));
	criu_number(q, CRIU_RST_SIBLING, 1);
	if (c->lsm_profile)
		criu_text(q, CRIU_LSM_PROFILE, "%s", c->lsm_profile);
	if (c->lsm_context)
		criu_text(q, CRIU_LSM_MOUNT_CONTEXT, "%s", c->lsm_context);
	TRY(place(q, b));
	TRY(external_mounts(q, b, -1));
	return inherited_streams(q, p->images);
}

/*
 * The groups are made as for a new container, before criu, which then only puts the processes into them; a
 * systemd scope needs a process to be made, so there they get their limits afterwards. pid 0: before.
 */
static FALLIBLE groups(struct oci_box *b, pid_t pid)
{
	bool is_scope = json_object_get(b->state, "scope") != NULL;
	struct cgroup_set s = { 0 };
	struct plan *plan = NULL;
	struct err *e = NULL;

	if (!*oci_box_cgroup(b))
		return NULL;
	TRY(cgroup_set_find(&s));
	if (is_scope && pid)
		TRY(oci_cgroup_born(b, pid));
	if (is_scope == (pid != 0)) {
		TRY(oci_box_plan(b, &plan));
		e = is_scope ? cgroup_adopt(&s, plan) : cgroup_create(&s, plan);
		plan_free(plan);
	}
	return e || !pid ? e : cgroup_enter(&s, oci_box_cgroup(b), pid);
}

static FALLIBLE restore_in(const struct oci *o, struct criu *c, struct oci_box *b,
			   struct runtime_proc *out_proc)
{
	auto_places struct places p = PLACES;
	auto_order struct criu_order q = CRIU_ORDER(CRIU_RESTORE);
	const char *images = c->images ? c->images : "checkpoint";
	int fds[NS_FDS] = { -1, -1 };
	size_t n_fds = 0;
	struct err *e;

	TRY(oci_read_bundle(&c->create, b));
	TRY(oci_annotations(b));
	TRY(oci_check_console(&c->create, b, !c->create.detach));
	TRY(oci_cgroup_choose(o, b));
	TRY(oci_box_save_config(b));
	TRY(oci_box_save(b));
	TRY(mount_root(json_str_at(b->state, "rootfs", "")));
	/* from here on: criu mounts in its directories, which must be of the new mount namespace then */
	if (!(p.images = realpath(images, NULL)))
		return FAIL_OS(errno, "image %s", images);
	if ((p.images_fd = sys_open_dir(p.images)) < 0)
		return FAIL_OS(-p.images_fd, "image %s", images);
	TRY(directory(c->work ? c->work : p.images, &p.work, &p.work_fd));
	TRY(restore_order(&q, c, b, &p));
	TRY(groups(b, 0));
	e = joined_namespaces(&q, b, fds, &n_fds);
	if (!e)
		e = mount_points(b);
	if (!e)
		e = run_criu(o, &q, fds, n_fds, &p, "restore.log", out_proc);
	for (size_t i = 0; i < n_fds; i++)
		own_close(&fds[i]);
	return e;
}

static FALLIBLE announce(const struct criu *c, struct oci_box *b, const struct runtime_proc *proc)
{
	char now[TIME_TEXT_MAX];

	b->pid = proc->pid;
	TRY(groups(b, proc->pid));
	oci_note_streams(b, proc->pid);
	(void)json_object_set_new(b->state, "created", json_string(time_format(time_now_ns(), now)));
	(void)json_object_set_new(b->state, "pid", json_integer(proc->pid));
	(void)json_object_set_new(b->state, "process-start-time",
				  json_integer((json_int_t)oci_pid_start(proc->pid)));
	TRY(oci_box_save(b));
	if (c->create.console && proc->tty_fd >= 0)
		TRY(oci_send_fd(c->create.console, "/dev/ptmx", proc->tty_fd));
	return oci_write_pid(c->create.pid_file, proc->pid);
}

static struct err *run_restore(const struct oci *o, const void *conf, char *const argv[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	struct criu c = *(const struct criu *)conf;
	auto_fd int sig_fd = c.create.detach ? -1 : oci_signals();
	struct err *e;

	if (!c.create.detach && sig_fd < 0)
		return FAIL_OS(-sig_fd, "take over signals");
	TRY(oci_box_new(o, argv[0], &b));
	e = restore_in(o, &c, &b, &proc);
	if (!e)
		e = announce(&c, &b, &proc);
	if (c.create.console) { /* the receiver has it now */
		own_close(&proc.tty_fd);
		proc.tty_fd = -1;
	}
	if (e) {
		if (proc.pid_fd >= 0) {
			(void)sys_pid_fd_kill(proc.pid_fd, SIGKILL);
			(void)sys_pid_fd_wait(proc.pid_fd, false, NULL);
		}
		err_free(oci_cgroup_remove(&b));
		err_free(oci_box_remove(&b));
	} else if (!c.create.detach) {
		(void)sys_flock(b.dir_fd, LOCK_UN);
		b.locked = false;
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
