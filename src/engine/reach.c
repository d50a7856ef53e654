/*
 * reach.c - a container's file system for ourselves, with its volumes and binds, whether it runs or not.
 *
 * What does not run has no mounts: a child puts them together in a mount namespace of its own, sends us a detached copy of
 * the whole tree, and ends. So nothing stands in the host's mount table, and what is copied to a volume's place comes into
 * the volume.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/mounts.h"
#include "engine/volume_options.h"
#include "engine/volume_work.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

enum { RECURSIVE = 0x8000 }; /* AT_RECURSIVE, which <fcntl.h> does not have */
enum { LATE_MAX = 10000 };  /* ms that a keeper may be late with telling that its program ended */

struct part {		/* one mount of the container */
	const char *target, *subpath; /* borrowed; subpath may be NULL */
	char *source;		      /* owned; a path, or "" for what view_fd is */
	int view_fd;		      /* owned, or -1 */
	bool is_flat, is_readonly;
};
struct parts {
	VEC(struct part) v;
	int view_fd, sock; /* borrowed: the root, and where the whole goes */
	const char *at;	   /* a directory that is hidden meanwhile, for us alone */
	bool is_readonly;  /* the root itself */
};
struct answer { /* of the child */
	int r;	/* -errno */
	char target[256];
};

static void parts_fini(struct parts *p)
{
	for (size_t i = 0; i < p->v.n; i++) {
		free(p->v.p[i].source);
		own_close(&p->v.p[i].view_fd);
	}
	vec_fini(&p->v);
}

/* ---- what is mounted ---- */

static FALLIBLE image_part(struct engine *e, const json_t *m, struct part *out)
{
	CLEANUP(rootfs_fini) struct rootfs rootfs = { 0 };
	auto_list char **layers = NULL;

	TRY(json_list_at(m, "HoyLayers", &layers));
	if (!layers)
		layers = xcalloc(1, sizeof *layers); /* FROM scratch */
	TRY(rootfs_prepare(engine_snapshotter(e), layers, NULL, &rootfs));
	TRY(rootfs_view_read(&rootfs, &out->view_fd));
	out->source = xstrdup("");
	return NULL;
}

/* A tmpfs holds nothing while nobody has it mounted: its place is what lies below. */
static FALLIBLE volume_part(struct engine *e, const json_t *m, struct part *out)
{
	auto_json json_t *doc = NULL, *options = json_array();
	const char *type = NULL, *name = json_str_at(m, "Name", "");
	auto_free char *source = NULL;

	TRY(volume_get(e, name, &doc));
	if (!doc)
		return FAIL(ERR_NOT_FOUND, "get %s: no such volume", name);
	TRY(volume_options_mount(e, doc, &type, &source, options));
	if (strcmp(type, "bind") == 0)
		out->source = TAKE(source);
	else if (strcmp(type, "tmpfs") != 0)
		return FAIL(ERR_UNSUPPORTED, "volume %s (%s) can be reached while the container runs only", name, type);
	return NULL;
}

static FALLIBLE parts_of(struct engine *e, const json_t *doc, struct parts *p)
{
	size_t i;
	json_t *m;

	json_array_foreach (json_object_get(doc, "Mounts"), i, m) {
		const char *type = json_str_at(m, "Type", "");
		struct part one = { .target = json_str_at(m, "Destination", ""),
				    .subpath = json_str_at(m, "HoySubpath", NULL),
				    .view_fd = -1,
				    .is_flat = json_bool_at(m, "HoyFlat", false),
				    .is_readonly = !json_bool_at(m, "RW", true) || json_bool_at(m, "HoyOverlay", false) };

		if (json_at(m, "HoyIdmap"))
			return FAIL(ERR_UNSUPPORTED, "%s (idmap) can be reached while the container runs only", one.target);
		if (strcmp(type, "bind") == 0)
			one.source = xstrdup(json_str_at(m, "Source", ""));
		else if (strcmp(type, "volume") == 0)
			TRY(volume_part(e, m, &one));
		else if (strcmp(type, "image") == 0)
			TRY(image_part(e, m, &one));
		if (one.source)
			*vec_push(&p->v) = one;
	}
	return NULL;
}

/* ---- in the child ---- */

static int open_source(const struct part *p)
{
	unsigned how = OPEN_TREE_CLONE | AT_EMPTY_PATH | (p->is_flat ? 0 : (unsigned)RECURSIVE);
	/* SECURITY: we only look at files; a device that a program made there must not open */
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };
	auto_fd int top = p->view_fd >= 0 ? sys_dup(p->view_fd) : sys_open(p->source, O_PATH, 0), at = -1, tree = -1;
	int r;

	if (top < 0 || p->view_fd >= 0)
		return TAKE_FD(top);
	at = p->subpath ? sys_open_in_root(top, p->subpath, O_PATH, 0) : sys_dup(top);
	if (at < 0 || (tree = sys_open_tree(at, "", how)) < 0)
		return at < 0 ? at : tree;
	attr.attr_set |= p->is_readonly ? MOUNT_ATTR_RDONLY : 0;
	r = sys_mount_setattr(tree, "", RECURSIVE, &attr);
	return r < 0 ? r : TAKE_FD(tree);
}

/* The mount point, made as at a start when it is not there. */
static int open_target(int root_fd, const char *path, bool is_dir)
{
	const char *slash = strrchr(path, '/');
	auto_free char *up = xstrndup(path, slash ? (size_t)(slash - path) : 0);
	auto_fd int dir = -1, file = -1;
	int fd = sys_open_in_root(root_fd, *path ? path : ".", O_PATH, 0), r = 0;

	if (fd != -ENOENT)
		return fd;
	if ((dir = open_target(root_fd, up, true)) < 0)
		return dir;
	if (is_dir)
		r = sys_mkdir(dir, slash ? slash + 1 : path, 0755);
	else
		r = file = sys_openat(dir, slash ? slash + 1 : path, O_WRONLY | O_CREAT | O_EXCL, 0755);
	return r < 0 ? r : sys_open_in_root(root_fd, path, O_PATH, 0);
}

static int place(int root_fd, const struct part *p, int tree)
{
	auto_fd int target = -1;
	struct stat st;
	int r = sys_fstat(tree, &st);

	if (r >= 0)
		r = target = open_target(root_fd, p->target + strspn(p->target, "/"), S_ISDIR(st.st_mode));
	return r < 0 ? r : sys_move_mount(tree, target, "");
}

/* All sources are opened before anything is hidden. */
static int assemble(struct parts *p, const struct part **out_at)
{
	struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
	auto_free int *trees = xcalloc(p->v.n, sizeof *trees);
	int r = sys_unshare(CLONE_NEWNS);

	if (r >= 0)
		r = sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	for (size_t i = 0; r >= 0 && i < p->v.n; i++) {
		*out_at = &p->v.p[i];
		r = trees[i] = open_source(*out_at);
	}
	if (r >= 0)
		r = sys_move_mount(p->view_fd, AT_FDCWD, p->at);
	for (size_t i = 0; r >= 0 && i < p->v.n; i++) {
		*out_at = &p->v.p[i];
		r = place(p->view_fd, *out_at, trees[i]);
	}
	if (r >= 0 && p->is_readonly)
		r = sys_mount_setattr(p->view_fd, "", 0, &readonly);
	return r < 0 ? r : sys_open_tree(p->view_fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | RECURSIVE);
}

static int assemble_and_send(void *ctx)
{
	struct parts *p = ctx;
	const struct part *at = NULL;
	auto_fd int fd = assemble(p, &at);
	struct answer a = { .r = fd < 0 ? fd : 0 };

	(void)snprintf(a.target, sizeof a.target, "%s", at ? at->target : "/");
	return sys_send_fds(p->sock, &a, sizeof a, &fd, fd >= 0) < 0;
}

/* ---- */

static FALLIBLE with_mounts(struct parts *p, int *out_root_fd)
{
	struct answer a = { .r = -EIO };
	int sock[2], fd = -1, r = sys_socketpair(SOCK_SEQPACKET, sock);
	size_t n = 0;

	if (r < 0)
		return FAIL_OS(-r, "make a socket");
	p->sock = sock[1];
	r = sys_spawn_call(assemble_and_send, p);
	own_close(&sock[1]);
	if (r == 0 && sys_recv_fds(sock[0], &a, sizeof a, &fd, 1, &n) != sizeof a)
		a.r = -EIO;
	own_close(&sock[0]);
	if (a.r < 0 || !n)
		return FAIL_OS(a.r < 0 ? -a.r : EIO, "mount what the container has at %s", a.target);
	*out_root_fd = fd;
	return NULL;
}

/* To be written to, or to read only. */
static FALLIBLE put_together_as(struct parts *parts, const struct rootfs *rootfs, bool writable, int *out_root_fd)
{
	auto_fd int view = -1;

	TRY((writable ? rootfs_view : rootfs_view_read)(rootfs, &view));
	if (!parts->v.n && !parts->is_readonly) {
		*out_root_fd = TAKE_FD(view);
		return NULL;
	}
	parts->view_fd = view;
	return with_mounts(parts, out_root_fd);
}

/* Reading needs a writable view where a mount point was never made; of one that is live all are there. */
static FALLIBLE put_together(struct engine *e, const char *id, const json_t *doc, bool writable, int *out_root_fd)
{
	CLEANUP(rootfs_fini) struct rootfs rootfs = { 0 };
	CLEANUP(parts_fini) struct parts parts = { .view_fd = -1 };
	auto_free char *at = ctr_path(e, id, NULL);
	struct err *err;

	TRY(ctr_rootfs(e, id, doc, &rootfs));
	TRY(parts_of(e, doc, &parts));
	parts.at = at;
	parts.is_readonly = writable && json_bool_at(doc, "HostConfig.ReadonlyRootfs", false);
	err = put_together_as(&parts, &rootfs, writable, out_root_fd);
	if (!err || writable || err->os != EROFS)
		return err;
	err_free(err);
	return put_together_as(&parts, &rootfs, true, out_root_fd);
}

/* The root of its first process, or -errno; *out_lives false: it has none. */
static int root_of_process(struct engine *e, const char *id, bool *out_lives)
{
	auto_json json_t *status = NULL;
	char path[64];

	*out_lives = ctr_live(e, id, &status) && json_int_at(status, "Pid", 0) > 0;
	if (!*out_lives)
		return -ESRCH;
	(void)snprintf(path, sizeof path, "/proc/%d/root", (int)json_int_at(status, "Pid", 0));
	return sys_open_dir(path);
}

FALLIBLE container_root(struct engine *e, const char *text, bool writable, int *out_root_fd)
{
	auto_json json_t *doc = NULL;
	char id[CTR_ID_MAX];
	bool lives;
	int fd;

	TRY(ctr_find(e, text, id, &doc));
	for (int i = 0; (fd = root_of_process(e, id, &lives)) == -ENOENT && i < LATE_MAX; i++)
		(void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL); /* it ended, and its keeper is about to tell */
	if (!lives)
		return put_together(e, id, doc, writable, out_root_fd);
	if (fd < 0)
		return FAIL_OS(-fd, "open the root of container %s", text);
	*out_root_fd = fd;
	return NULL;
}

FALLIBLE container_files(struct engine *e, const char *text, int *out_root_fd)
{
	auto_json json_t *doc = NULL;
	char id[CTR_ID_MAX];

	TRY(ctr_find(e, text, id, &doc));
	return put_together(e, id, doc, false, out_root_fd);
}
