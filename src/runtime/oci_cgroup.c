/*
 * oci_cgroup.c - which control group a container of the command line gets, and who makes it.
 *
 * linux.cgroupsPath is read as the manager wants it: cgroupfs a path below the hierarchies' roots (none: the
 * id), systemd "slice:prefix:name". Without root rights a group that may not be made is done without, but
 * only when nothing is limited.
 */
#include "base/mem.h"
#include "base/own.h"
#include "runtime/cgroup.h"
#include "runtime/oci.h"
#include "runtime/oci_systemd.h"
#include "runtime/plan.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* ---- choosing ---- */

static FALLIBLE choose_cgroupfs(const char *path, struct oci_box *b)
{
	auto_free char *own = xstrdup(path[0] ? path + strspn(path, "/") : b->id);
	size_t n = strlen(own);

	if (strchr(own, ':'))
		return FAIL(ERR_INVALID,
			    "linux.cgroupsPath \"%s\" is for the systemd cgroup manager (--systemd-cgroup)",
			    path);
	while (n > 1 && own[n - 1] == '/')
		own[--n] = 0;
	TRY(cgroup_check_path(own));
	(void)json_object_set_new(b->state, "cgroup-path", json_string(own));
	return NULL;
}

/* As runc: no slice is system.slice (user.slice for users), no prefix is no prefix; a name that ends in
 * .slice is one. */
static FALLIBLE choose_systemd(const struct oci *o, const char *path, struct oci_box *b)
{
	const char *sub = oci_annotation(b->config, "run.oci.systemd.subgroup");
	struct sv rest = sv_of(path), slice = { 0 }, prefix = SV("hoy"), name = sv_of(b->id);
	auto_free char *unit = NULL, *slice_text = NULL, *parent = NULL, *whole = NULL;

	if (path[0]) {
		slice = sv_cut(&rest, ':');
		prefix = sv_cut(&rest, ':');
		name = rest;
		if (!name.n || memchr(name.p, ':', name.n) || memchr(path, '/', strlen(path)))
			return FAIL(
			    ERR_INVALID,
			    "linux.cgroupsPath \"%s\": the systemd cgroup manager wants slice:prefix:name",
			    path);
	}
	slice_text =
	    slice.n ? xstrndup(slice.p, slice.n) : xstrdup(o->rootless ? "user.slice" : "system.slice");
	unit = sv_ends(name, SV(".slice")) ? xstrndup(name.p, name.n)
	       : prefix.n ? xasprintf(SV_FMT "-" SV_FMT ".scope", SV_ARG(prefix), SV_ARG(name))
			  : xasprintf(SV_FMT ".scope", SV_ARG(name));
	TRY(oci_slice_path(slice_text, &parent));
	whole =
	    xasprintf("%s%s%s%s%s", parent, *parent ? "/" : "", unit, sub && *sub ? "/" : "", sub ? sub : "");
	TRY(cgroup_check_path(whole));
	(void)json_object_set_new(b->state, "cgroup-path", json_string(whole));
	(void)json_object_set_new(b->state, "scope", json_string(unit));
	(void)json_object_set_new(b->state, "slice", json_string(slice_text));
	return NULL;
}

/* Whether the group's directory can be made in every hierarchy: its nearest parent that is there is ours to
 * write. */
static bool may_make(const char *path)
{
	struct cgroup_set s = { 0 };
	struct err *e = cgroup_set_find(&s);
	bool may = !e;

	err_free(e);
	for (size_t i = 0; i < s.n && may; i++) {
		char at[CGROUP_PATH], *slash;
		struct stat st;

		may = cgroup_name(&s.h[i], path, "", at) >= 0;
		while (may && sys_fstatat(AT_FDCWD, at, &st, 0) < 0 && (slash = strrchr(at, '/')) &&
		       slash > at)
			*slash = 0;
		may = may && faccessat(AT_FDCWD, at, W_OK, AT_EACCESS) == 0;
	}
	return may;
}

FALLIBLE oci_cgroup_choose(const struct oci *o, struct oci_box *b)
{
	const char *path = json_str_at(b->config, "linux.cgroupsPath", "");

	if (o->manager == OCI_NO_CGROUPS)
		return NULL;
	if (o->manager == OCI_SYSTEMD)
		return choose_systemd(o, path, b);
	TRY(choose_cgroupfs(path, b));
	if (o->rootless && !may_make(oci_box_cgroup(b)))
		(void)json_object_del(b->state, "cgroup-path");
	return NULL;
}

/* ---- life ---- */

struct err *oci_cgroup_born(void *box, pid_t pid)
{
	const struct oci_box *b = box;
	struct oci_unit u = { .name = json_str_at(b->state, "scope", ""),
			      .slice = json_str_at(b->state, "slice", ""),
			      .id = b->id,
			      .pid = pid,
			      .resources = json_at(b->config, "linux.resources"),
			      .annotations = json_object_get(b->config, "annotations") };

	return oci_unit_start(&u);
}

FALLIBLE oci_cgroup_updated(const struct oci_box *b, const json_t *resources)
{
	const char *scope = json_str_at(b->state, "scope", "");

	return *scope ? oci_unit_update(scope, resources) : NULL;
}

FALLIBLE oci_cgroup_remove(const struct oci_box *b)
{
	const char *scope = json_str_at(b->state, "scope", "");
	const char *path = oci_box_cgroup(b);
	struct err *e = !*path                      ? NULL
			: b->groups && b->groups->n ? cgroup_remove(b->groups, path)
						    : runtime_cgroup_remove(path);

	return e || !*scope ? e : oci_unit_stop(scope);
}

FALLIBLE oci_cgroup_delegate(const struct oci_box *b)
{
	const char *name = oci_annotation(b->config, "run.oci.delegate-cgroup");
	struct cgroup_set s = { 0 };
	auto_free char *path = NULL;
	char dir[CGROUP_PATH];
	int r;

	if (!name || !*name)
		return NULL;
	TRY(oci_box_need_cgroup(b));
	path = xasprintf("%s/%s", oci_box_cgroup(b), name);
	TRY(cgroup_check_path(path));
	TRY(cgroup_set_find(&s));
	if (!s.v2)
		return FAIL(
		    ERR_UNSUPPORTED,
		    "annotation run.oci.delegate-cgroup: delegating is not safe with control groups v1");
	if ((r = cgroup_name(&s.h[0], path, "", dir)) < 0 || (r = sys_mkdir(AT_FDCWD, dir, 0755)) < 0)
		return FAIL_OS(-r, "make control group %s", path);
	return cgroup_join(path, b->pid);
}

/* ---- exec --cgroup ---- */

FALLIBLE oci_cgroup_check_sub(const char *text)
{
	const char *colon = strchr(text, ':');

	for (struct sv rest = sv_of(colon ? colon + 1 : text); rest.n;)
		if (sv_is(sv_cut(&rest, '/'), ".."))
			return FAIL(ERR_INVALID, "--cgroup %s: `..` components are not allowed", text);
	return NULL;
}

static bool names_controller(struct sv list, const struct cgroup_hier *h)
{
	while (list.n) {
		struct sv want = sv_cut(&list, ','), have = sv_of(h->name);

		while (have.n)
			if (sv_eq(sv_cut(&have, ','), want))
				return true;
	}
	return false;
}

/* v1 without controllers: into every hierarchy that has such a group; it must be there in one. */
FALLIBLE oci_cgroup_join_sub(const char *cgroup, const char *text, pid_t pid)
{
	struct cgroup_set s = { 0 };
	const char *colon = strchr(text, ':');
	struct sv list = colon ? sv_from(text, (size_t)(colon - text)) : (struct sv){ 0 };
	const char *sub = colon ? colon + 1 : text;
	auto_free char *path = xasprintf("%s/%s", cgroup, sub + strspn(sub, "/"));
	char digits[24];
	size_t joined = 0;

	TRY(cgroup_check_path(path));
	TRY(cgroup_set_find(&s));
	(void)snprintf(digits, sizeof digits, "%d", (int)pid);
	for (size_t i = 0; i < s.n; i++) {
		int r;

		if (list.n && !s.v2 && !names_controller(list, &s.h[i]))
			continue;
		r = cgroup_write(&s.h[i], path, "cgroup.procs", digits);
		if (r < 0 && (r != -ENOENT || list.n))
			return FAIL_OS(-r, "--cgroup %s: join %s/%s", text, s.h[i].dir, path);
		joined += r >= 0;
	}
	return joined ? NULL
		      : FAIL(ERR_NOT_FOUND,
			     "--cgroup %s: there is no such control group below the container's", text);
}
