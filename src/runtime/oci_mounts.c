/*
 * oci_mounts.c - bind mounts into and out of a running container.
 *
 * The source is cloned where we are; only then a child joins the container's mount namespace and places the
 * clone on an fd of the target, found in the container's root without a look outside. The mounts are
 * remembered in config.json.
 */
#include "base/own.h"
#include "runtime/oci.h"
#include "runtime/plan.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

enum { AT_RECURSIVE_ = 0x8000, DETACH = 2, NOFOLLOW = 8, PROPAGATION_REC = 1 << 14, ARENA = 1 << 20 };

/* ---- in the container's mount namespace ---- */

struct step {
	const char *target;
	int pid_fd, mount_fd; /* mount_fd -1: remove */
};

static int enter(const struct step *s)
{
	int r = sys_setns(s->pid_fd, CLONE_NEWNS);

	return r < 0 ? r : sys_open("/", O_PATH | O_DIRECTORY, 0);
}

static int place(void *arg)
{
	const struct step *s = arg;
	auto_fd int root = enter(s), target = -1;
	int r = root < 0 ? root
			 : (target = sys_open_in_root(root, s->target + strspn(s->target, "/"), O_PATH, 0));

	if (r >= 0)
		r = sys_move_mount(s->mount_fd, target, "");
	return r < 0 ? -r : 0;
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

static FALLIBLE in_container(const struct oci_box *b, int (*fn)(void *arg), const char *what,
			     const char *target, int mount_fd)
{
	auto_fd int pid_fd = sys_pid_fd(b->pid);
	struct step s = { .target = target, .pid_fd = pid_fd, .mount_fd = mount_fd };
	int r = pid_fd < 0 ? -pid_fd : sys_spawn_call(fn, &s);

	return r ? FAIL_OS(r < 0 ? -r : r, "%s %s in container \"%s\"", what, target, b->id) : NULL;
}

/* ---- on our side ---- */

/* Options whose meaning is more than attributes of a bind mount. */
static FALLIBLE check_options(const json_t *mount, const char *target)
{
	static const char *const others[] = { "idmap",   "ridmap",       "copy-symlink", "tmpcopyup",
					      "remount", "src-nofollow", "dest-nofollow" };
	const json_t *o;
	size_t i;

	json_array_foreach(json_object_get(mount, "options"), i, o) for (
	    size_t k = 0; k < LEN(others);
	    k++) if (json_is_string(o) &&
		     strncmp(json_string_value(o), others[k], strlen(others[k])) ==
			 0) return FAIL(ERR_UNSUPPORTED,
					"mount %s: option \"%s\" is not supported while a container runs",
					target, json_string_value(o));
	return NULL;
}

static FALLIBLE clone_source(const struct plan_mount *m, int *out_fd)
{
	unsigned rec = m->recursive ? AT_RECURSIVE_ : 0;
	struct mount_attr top = { .attr_set = m->attr_set,
				  .attr_clr = m->attr_clear & ~m->attr_set,
				  .propagation = m->propagation & ~(uint64_t)PROPAGATION_REC };
	struct mount_attr tree = { .attr_set = m->rec_set, .attr_clr = m->rec_clear & ~m->rec_set };
	auto_fd int fd = -1;
	int r;

	if (m->type || m->is_cgroup)
		return FAIL(ERR_UNSUPPORTED, "mount %s: only bind mounts can be added to a running container",
			    m->target);
	if (m->attr_set & MOUNT_ATTR__ATIME)
		top.attr_clr |= MOUNT_ATTR__ATIME;
	r = fd = sys_open_tree(AT_FDCWD, m->source, OPEN_TREE_CLONE | rec);
	if (r >= 0 && (top.attr_set || top.attr_clr || top.propagation))
		r = sys_mount_setattr(fd, "", 0, &top);
	if (r >= 0 && (tree.attr_set || tree.attr_clr))
		r = sys_mount_setattr(fd, "", AT_RECURSIVE_, &tree);
	if (r < 0)
		return FAIL_OS(-r, "bind %s", m->source);
	*out_fd = TAKE_FD(fd);
	return NULL;
}

static FALLIBLE add_one(const struct oci_box *b, const json_t *mount, const struct plan_mount *m)
{
	auto_fd int fd = -1;

	TRY(check_options(mount, m->target));
	TRY(clone_source(m, &fd));
	return in_container(b, place, "mount", m->target, fd);
}

static void forget(json_t *mounts, const char *target)
{
	for (size_t i = json_array_size(mounts); i-- > 0;)
		if (strcmp(json_str_at(json_array_get(mounts, i), "destination", ""), target) == 0) {
			(void)json_array_remove(mounts, i);
			return;
		}
}

/* All or none: what was added before one failed goes again. */
static FALLIBLE add_all(const struct oci_box *b, json_t *have, const json_t *list, const struct plan *p)
{
	for (size_t i = 0; i < p->mounts.n; i++) {
		struct err *e = add_one(b, json_array_get(list, i), &p->mounts.p[i]);

		if (!e) {
			(void)json_array_append(have, json_array_get(list, i));
			continue;
		}
		while (i-- > 0) {
			err_free(in_container(b, take_away, "unmount", p->mounts.p[i].target, -1));
			forget(have, p->mounts.p[i].target);
		}
		return e;
	}
	return NULL;
}

static FALLIBLE remove_all(const struct oci_box *b, json_t *have, const struct plan *p)
{
	for (size_t i = p->mounts.n; i-- > 0;) {
		TRY(in_container(b, take_away, "unmount", p->mounts.p[i].target, -1));
		forget(have, p->mounts.p[i].target);
	}
	return NULL;
}

static FALLIBLE change(struct oci_box *b, bool add, const json_t *list)
{
	auto_json json_t *spec = json_pack("{s:O}", "mounts", list);
	json_t *have = json_object_get(b->config, "mounts");
	struct plan p = { .id = b->id };
	struct err *e;

	if (!have)
		(void)json_object_set_new(b->config, "mounts", have = json_array());
	arena_init(&p.arena, ARENA);
	e = plan_mounts(&p, spec, json_str_at(b->state, "bundle", ""));
	if (!e)
		e = add ? add_all(b, have, list, &p) : remove_all(b, have, &p);
	vec_fini(&p.mounts);
	arena_fini(&p.arena);
	return e ? e : oci_box_save_config(b);
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
	return change(&b, add, list);
}

const struct oci_cmd oci_cmd_mounts = {
	.name = "mounts",
	.args = "add|remove CONTAINER FILE",
	.summary = "Add or remove bind mounts of a running container (FILE: a JSON array of OCI mounts)",
	.min_args = 3,
	.max_args = 3,
	.run = run_mounts,
};
