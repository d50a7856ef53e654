/*
 * oci_mounts.c - mounts into and out of a running container.
 *
 * Added as at its creation (runtime_mount); removed by name from inside their directory, which is found in the container's root
 * without a look outside. All of a file or none of it. The mounts are remembered in config.json.
 */
#include "base/own.h"
#include "runtime/oci.h"
#include "runtime/plan.h"
#include "runtime/runtime.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

enum { DETACH = 2, NOFOLLOW = 8 };

/* ---- in the container's mount namespace ---- */

struct step {
	const char *target;
	int pid_fd;
};

static int enter(const struct step *s)
{
	int r = sys_setns(s->pid_fd, CLONE_NEWNS);

	return r < 0 ? r : sys_open("/", O_PATH | O_DIRECTORY, 0);
}

/* A mount cannot be removed by its fd: by its name, from inside its directory. */
static int take_away(void *arg)
{
	const struct step *s = arg;
	auto_free char *dir = xstrdup(s->target + strspn(s->target, "/"));
	char *slash = strrchr(dir, '/');
	const char *name = slash ? slash + 1 : dir;
	auto_fd int root = enter(s), at = -1;
	int r = root;

	if (slash)
		*slash = 0;
	if (r >= 0)
		r = at = sys_open_in_root(root, slash ? dir : ".", O_PATH | O_DIRECTORY, 0);
	if (r >= 0)
		r = sys_fchdir(at);
	if (r >= 0)
		r = *name && strcmp(name, "..") != 0 ? sys_umount(name, DETACH | NOFOLLOW) : -EINVAL;
	return r < 0 ? -r : 0;
}

static FALLIBLE unmount(const struct oci_box *b, const char *target)
{
	auto_fd int pid_fd = sys_pid_fd(b->pid);
	struct step s = { .target = target, .pid_fd = pid_fd };
	int r = pid_fd < 0 ? -pid_fd : sys_spawn_call(take_away, &s);

	return r ? FAIL_OS(r < 0 ? -r : r, "unmount %s in container \"%s\"", target, b->id) : NULL;
}

/* ---- on our side ---- */

static void forget(json_t *mounts, const char *target)
{
	for (size_t i = json_array_size(mounts); i-- > 0;)
		if (strcmp(json_str_at(json_array_get(mounts, i), "destination", ""), target) == 0) {
			(void)json_array_remove(mounts, i);
			return;
		}
}

/* All or none: what was added before one failed goes again. Not remembered is not added. */
static FALLIBLE add_all(struct oci_box *b, json_t *have, const json_t *list, struct plan *p)
{
	struct err *e = NULL;
	size_t n = 0;

	for (; n < p->mounts.n && !(e = runtime_mount(p, n, b->pid)); n++)
		(void)json_array_append(have, json_array_get(list, n));
	if (!e)
		e = oci_box_save_config(b);
	while (e && n-- > 0)
		err_free(unmount(b, p->mounts.p[n].target));
	return e;
}

/* Forgotten first: what a removal that was cut short leaves can be removed again. */
static FALLIBLE remove_all(struct oci_box *b, json_t *have, const struct plan *p)
{
	struct err *e = NULL;

	for (size_t i = p->mounts.n; i-- > 0;)
		forget(have, p->mounts.p[i].target);
	TRY(oci_box_save_config(b));
	for (size_t i = p->mounts.n; i-- > 0 && !e;)
		e = unmount(b, p->mounts.p[i].target);
	return e;
}

/* The plan of the configuration with these mounts instead of its own. */
static FALLIBLE compile(struct oci_box *b, const json_t *list, struct plan **out_plan)
{
	auto_json json_t *config = json_copy(b->config), *own = b->config;
	struct err *e;

	(void)json_object_set(config, "mounts", (json_t *)(uintptr_t)list);
	b->config = config;
	e = oci_box_plan(b, out_plan);
	b->config = own;
	own = NULL;
	if (!e && (*out_plan)->mounts.n != json_array_size(list)) {
		plan_free(*out_plan);
		e = FAIL(ERR_INTERNAL, "%zu mounts of %zu in the plan", (*out_plan)->mounts.n, json_array_size(list));
	}
	return e;
}

static FALLIBLE change(struct oci_box *b, bool add, const json_t *list)
{
	json_t *have = json_object_get(b->config, "mounts");
	struct plan *p = NULL;
	struct err *e;

	if (!have)
		(void)json_object_set_new(b->config, "mounts", have = json_array());
	TRY(compile(b, list, &p));
	e = add ? add_all(b, have, list, p) : remove_all(b, have, p);
	plan_free(p);
	return e;
}

/* SECURITY: else what is removed would be the host's. */
static FALLIBLE check_namespace(const struct oci_box *b)
{
	struct stat ours, theirs;
	char path[40];
	int r = sys_fstatat(AT_FDCWD, "/proc/self/ns/mnt", &ours, 0);

	(void)snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)b->pid);
	if (r >= 0)
		r = sys_fstatat(AT_FDCWD, path, &theirs, 0);
	if (r < 0)
		return FAIL_OS(-r, "look at the mount namespace of \"%s\"", b->id);
	return ours.st_ino != theirs.st_ino
		   ? NULL
		   : FAIL(ERR_UNSUPPORTED, "container \"%s\" has no mount namespace of its own", b->id);
}

static struct err *run_mounts(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	auto_json json_t *list = NULL;
	bool add = strcmp(args[0], "add") == 0;

	(void)conf;
	(void)out_exit;
	if (!add && strcmp(args[0], "remove") != 0)
		return FAIL(ERR_INVALID, "mounts %s: add or remove", args[0]);
	TRY(oci_read_json(args[2], args[2], &list));
	if (!json_is_array(list))
		return FAIL(ERR_INVALID, "%s: not an array of mounts", args[2]);
	TRY(oci_box_open(o, args[1], true, &b));
	if (oci_box_status(&b) == OCI_STOPPED)
		return FAIL(ERR_CONFLICT, "container not running: \"%s\"", b.id);
	TRY(check_namespace(&b));
	return change(&b, add, list);
}

const struct oci_cmd oci_cmd_mounts = {
	.name = "mounts",
	.args = "[add|remove] CONTAINER FILE",
	.summary = "Add or remove mounts of a running container (FILE: a JSON array of OCI mounts)",
	.min_args = 3,
	.max_args = 3,
	.run = run_mounts,
};
