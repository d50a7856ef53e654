/*
 * plan_mounts.c - the mounts of a configuration (runtime-spec config.md#mounts): options become attributes
 * and data.
 *
 * Four kinds of options: attributes of the mount (with an r-form for the whole tree), propagation, flags of
 * the super block (only a new file system has one to set; on a bind they mean nothing, as for mount(8)) and
 * our own. What is none of these belongs to the file system.
 */
#include "base/num.h"
#include "base/own.h"
#include "base/sv.h"
#include "base/text.h"
#include "runtime/plan.h"
#include <linux/mount.h>
#include <stdio.h>

/* <sys/mount.h> collides with <linux/mount.h> in glibc 2.36 */
enum { P_UNBINDABLE = 1 << 17, P_PRIVATE = 1 << 18, P_SLAVE = 1 << 19, P_SHARED = 1 << 20, P_REC = 1 << 14 };

static const struct {
	const char *name;
	uint64_t set, clear;
} attributes[] = {
	{ "ro", MOUNT_ATTR_RDONLY, 0 },
	{ "rw", 0, MOUNT_ATTR_RDONLY },
	{ "nosuid", MOUNT_ATTR_NOSUID, 0 },
	{ "suid", 0, MOUNT_ATTR_NOSUID },
	{ "nodev", MOUNT_ATTR_NODEV, 0 },
	{ "dev", 0, MOUNT_ATTR_NODEV },
	{ "noexec", MOUNT_ATTR_NOEXEC, 0 },
	{ "exec", 0, MOUNT_ATTR_NOEXEC },
	{ "noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
	{ "atime", 0, MOUNT_ATTR__ATIME },
	{ "strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "nostrictatime", 0, MOUNT_ATTR__ATIME },
	{ "relatime", 0, MOUNT_ATTR__ATIME },
	{ "norelatime", 0, 0 }, /* relatime is what the kernel does without a word */
	{ "nodiratime", MOUNT_ATTR_NODIRATIME, 0 },
	{ "diratime", 0, MOUNT_ATTR_NODIRATIME },
	{ "nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0 },
	{ "symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW },
};
static const struct {
	const char *name;
	unsigned flag;
} propagations[] = {
	{ "private", P_PRIVATE }, { "slave", P_SLAVE }, { "shared", P_SHARED }, { "unbindable", P_UNBINDABLE }
};
static const char *const super_flags[] = { "sync",       "async", "dirsync", "lazytime",
					   "nolazytime", "mand",  "nomand" };
/*
 * silent, loud: only about lines in the kernel's log, the new mount calls do not know them. iversion: the
 * change counter is on wherever a file system has one since 5.15's time (ext4, xfs, btrfs, tmpfs), and
 * fsconfig has no word for it.
 */
static const char *const no_effect[] = { "defaults", "silent", "loud", "iversion", "noiversion" };

/* The mount that is being read. */
struct reading {
	struct plan *p;
	struct plan_mount *m;
	size_t i, n_data, n_super;
	bool is_bind;
};

static bool one_of(const char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

static bool attribute(struct plan_mount *m, const char *text, bool recursive)
{
	uint64_t *set = recursive ? &m->rec_set : &m->attr_set,
		 *clear = recursive ? &m->rec_clear : &m->attr_clear;

	for (size_t i = 0; i < LEN(attributes); i++) {
		if (strcmp(attributes[i].name, text) != 0)
			continue;
		*set = (*set & ~attributes[i].clear) | attributes[i].set;
		*clear = (*clear & ~attributes[i].set) | attributes[i].clear;
		return true;
	}
	return false;
}

static bool propagation(struct plan_mount *m, const char *text, unsigned rec)
{
	for (size_t i = 0; i < LEN(propagations); i++) {
		if (strcmp(propagations[i].name, text) != 0)
			continue;
		m->propagation = propagations[i].flag | rec;
		return true;
	}
	return false;
}

static bool flag(struct reading *r, const char *text)
{
	static const struct {
		const char *name;
		size_t at;
	} own[] = { { "tmpcopyup", offsetof(struct plan_mount, copy_up) },
		    { "copy-symlink", offsetof(struct plan_mount, copy_link) },
		    { "src-nofollow", offsetof(struct plan_mount, source_nofollow) },
		    { "dest-nofollow", offsetof(struct plan_mount, target_nofollow) },
		    { "hoy.held", offsetof(struct plan_mount, is_held) },
		    { "remount", offsetof(struct plan_mount, remount) } };

	for (size_t i = 0; i < LEN(own); i++)
		if (strcmp(own[i].name, text) == 0) {
			*((bool *)(void *)((char *)r->m + own[i].at)) = true;
			return true;
		}
	if (strcmp(text, "bind") == 0 || strcmp(text, "rbind") == 0) {
		r->is_bind = true;
		r->m->recursive |= text[0] == 'r';
		return true;
	}
	return false;
}

/* ---- id mappings ---- */

/* "@": the outside id is one of the container's, to be seen through its own map. */
static struct err *through_container(const struct plan_idmap *maps, size_t n, uint32_t *outside)
{
	for (size_t i = 0; i < n; i++)
		if (*outside >= maps[i].inside && *outside - maps[i].inside < maps[i].count) {
			*outside = maps[i].outside + (*outside - maps[i].inside);
			return NULL;
		}
	return FAIL(ERR_INVALID, "id %u is not in the container's user namespace", *outside);
}

/* "0-1-10#10-11-10": inside, outside, count. */
static struct err *idmap_text(struct plan *p, struct sv text, bool group, struct plan_idset *out)
{
	const struct plan_idmap *own = group ? p->gid_map.p : p->uid_map.p;
	size_t n_own = group ? p->gid_map.n : p->uid_map.n, max = 1;
	bool relative = text.n && text.p[0] == '@';
	struct plan_idmap *maps;

	if (relative)
		text = sv_from(text.p + 1, text.n - 1);
	for (size_t i = 0; i < text.n; i++)
		max += text.p[i] == '#';
	out->p = maps = arena_alloc(&p->arena, max * sizeof *maps);
	if (!maps)
		return FAIL(ERR_LIMIT, "too many ranges");
	while (text.n) {
		struct sv range = sv_cut(&text, '#');
		uint64_t v[3];

		for (size_t k = 0; k < 3; k++)
			TRY(num_parse(sv_cut(&range, '-'), 10, 0, UINT32_MAX - 1, &v[k]));
		if (range.n)
			return FAIL(ERR_INVALID, "more than three numbers in a range");
		maps[out->n] = (struct plan_idmap){ (uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2] };
		if (relative)
			TRY(through_container(own, n_own, &maps[out->n].outside));
		out->n++;
	}
	return NULL;
}

/* idmap, ridmap, idmap=uids=…;gids=… */
static struct err *idmap_option(struct reading *r, const char *text)
{
	struct sv rest = sv_of(text), word = sv_cut(&rest, '=');

	r->m->idmap = true;
	r->m->idmap_tree |= word.p[0] == 'r';
	while (rest.n) {
		struct sv part = sv_cut(&rest, ';'), name = sv_cut(&part, '=');
		bool group = sv_is(name, "gids");

		if (!group && !sv_is(name, "uids"))
			return FAIL(ERR_INVALID,
				    "mounts[%zu].options: \"%s\": only uids= and gids= are known", r->i,
				    text);
		struct err *e = idmap_text(r->p, part, group, group ? &r->m->gids : &r->m->uids);

		if (e)
			return err_ctx(e, "mounts[%zu].options: \"%s\"", r->i, text);
	}
	return NULL;
}

static struct err *idmap_json(struct reading *r, const json_t *list, const char *what, struct plan_idset *out)
{
	struct plan_idmap *maps = arena_alloc(&r->p->arena, (json_array_size(list) + 1) * sizeof *maps);
	json_t *item;
	size_t i;

	out->p = maps;
	if (!maps)
		return FAIL(ERR_LIMIT, "mounts[%zu].%s: too many ranges", r->i, what);
	json_array_foreach(list, i, item)
	{
		json_int_t in = json_int_at(item, "containerID", -1),
			   outside = json_int_at(item, "hostID", -1);
		json_int_t count = json_int_at(item, "size", 0);

		if (in < 0 || outside < 0 || count <= 0 || in > UINT32_MAX || outside > UINT32_MAX ||
		    count > UINT32_MAX)
			return FAIL(ERR_INVALID,
				    "mounts[%zu].%s[%zu]: containerID, hostID and size are needed", r->i,
				    what, i);
		maps[out->n++] = (struct plan_idmap){ (uint32_t)in, (uint32_t)outside, (uint32_t)count };
	}
	return NULL;
}

/* Explicit ones, else the container's, else an error (config.md#configLinuxMountOptions). */
static struct err *idmaps(struct reading *r, const json_t *item)
{
	struct plan_mount *m = r->m;
	const json_t *uids = json_object_get(item, "uidMappings"),
		     *gids = json_object_get(item, "gidMappings");

	if (json_array_size(uids))
		TRY(idmap_json(r, uids, "uidMappings", &m->uids));
	if (json_array_size(gids))
		TRY(idmap_json(r, gids, "gidMappings", &m->gids));
	m->idmap |= m->uids.n || m->gids.n; /* callers that know only the fields */
	if (!m->idmap)
		return NULL;
	if (!m->uids.n && !m->gids.n) {
		if (!r->p->uid_map.n || !r->p->gid_map.n)
			return FAIL(ERR_INVALID,
				    "mounts[%zu]: idmap needs uidMappings and gidMappings, or a user "
				    "namespace of the "
				    "container with mappings",
				    r->i);
		m->uids = (struct plan_idset){ r->p->uid_map.p, r->p->uid_map.n };
		m->gids = (struct plan_idset){ r->p->gid_map.p, r->p->gid_map.n };
	}
	if (!m->uids.n || !m->gids.n)
		return FAIL(ERR_INVALID,
			    "mounts[%zu]: uidMappings and gidMappings go together, one is missing", r->i);
	return NULL;
}

/* ---- a mount ---- */

static struct err *one_option(struct reading *r, const char *text)
{
	bool is_r = text[0] == 'r';

	if (attribute(r->m, text, false) || propagation(r->m, text, 0) || flag(r, text) ||
	    one_of(no_effect, LEN(no_effect), text))
		return NULL;
	if (one_of(super_flags, LEN(super_flags), text)) {
		r->m->super[r->n_super++] = plan_text(r->p, text);
		return NULL;
	}
	if (is_r &&
	    (attribute(r->m, text + 1, true) || propagation(r->m, text + 1, P_REC) ||
	     one_of(super_flags, LEN(super_flags), text + 1))) /* rsync …: there is one super block only */
		return NULL;
	if (strncmp(text, "hoy.subpath=", 12) == 0) {
		r->m->subpath = plan_text(r->p, text + 12);
		return NULL;
	}
	if (strncmp(text + is_r, "idmap", 5) == 0 && (!text[is_r + 5] || text[is_r + 5] == '='))
		return idmap_option(r, text);
	r->m->data[r->n_data++] = plan_text(r->p, text);
	return NULL;
}

static struct err *options(struct reading *r, const json_t *list)
{
	size_t n = json_array_size(list) + 1, k;
	json_t *text;

	r->m->data = arena_alloc(&r->p->arena, n * sizeof *r->m->data);
	r->m->super = arena_alloc(&r->p->arena, n * sizeof *r->m->super);
	if (!r->m->data || !r->m->super)
		return FAIL(ERR_LIMIT, "mounts[%zu].options: too many", r->i);
	json_array_foreach(list, k, text)
	{
		if (!json_is_string(text))
			return FAIL(ERR_INVALID, "mounts[%zu].options[%zu]: not a string", r->i, k);
		if (json_string_value(text)[0])
			TRY(one_option(r, json_string_value(text)));
	}
	return NULL;
}

/* A group that the container's map does not have can't own terminals: its devpts would be refused. */
static void devpts_gid(struct reading *r)
{
	size_t kept = 0;

	if (!r->p->gid_map.n || strcmp(r->m->type, "devpts") != 0)
		return;
	for (size_t i = 0; i < r->n_data; i++) {
		const char *text = r->m->data[i];
		uint64_t gid = 0;
		bool mapped = strncmp(text, "gid=", 4) != 0;
		struct err *e = mapped ? NULL : num_parse(sv_of(text + 4), 10, 0, UINT32_MAX, &gid);

		for (size_t k = 0; !e && k < r->p->gid_map.n; k++)
			mapped |= gid >= r->p->gid_map.p[k].inside &&
				  gid - r->p->gid_map.p[k].inside < r->p->gid_map.p[k].count;
		if (mapped || e)
			r->m->data[kept++] = text;
		err_free(e);
	}
	r->m->data[kept] = NULL;
}

static bool is_root(const char *target)
{
	return target[strspn(target, "/.")] == 0 && !strstr(target, "..");
}

static struct err *check(const struct reading *r, const char *source)
{
	const struct plan_mount *m = r->m;

	if (r->is_bind && !m->remount && (!source || !source[0]))
		return FAIL(ERR_INVALID, "mounts[%zu].source is missing", r->i);
	if (m->subpath && (m->remount || m->copy_up || m->is_cgroup))
		return FAIL(ERR_INVALID, "mounts[%zu].options: a subpath is of a bind or a new file system", r->i);
	if (m->copy_up && (r->is_bind || is_root(m->target)))
		return FAIL(ERR_INVALID,
			    "mounts[%zu].options: tmpcopyup needs a new file system below the root", r->i);
	if (m->copy_link && !r->is_bind)
		return FAIL(ERR_INVALID, "mounts[%zu].options: copy-symlink needs a bind mount", r->i);
	if (m->idmap && m->remount)
		return FAIL(ERR_INVALID, "mounts[%zu].options: what is mounted already can't be idmapped",
			    r->i);
	return NULL;
}

/*
 * An overlay with lowerdir+= (the kernel's own word for one layer) is taken out of the data, so that it can be
 * mounted on kernels that do not know the word and with paths longer than the kernel takes in one option.
 */
static struct err *take_layers(struct reading *r)
{
	struct plan_mount *m = r->m;

	if (!m->type || strcmp(m->type, "overlay") != 0 || !r->n_data || strncmp(m->data[0], "lowerdir+=", 10) != 0)
		return NULL;
	if (!(m->lower = arena_alloc(&r->p->arena, (r->n_data + 1) * sizeof *m->lower)))
		return FAIL(ERR_LIMIT, "mounts[%zu].options: too many", r->i);
	for (size_t i = 0; i < r->n_data; i++) {
		if (strncmp(m->data[i], "lowerdir+=", 10) == 0)
			m->lower[m->n_lower++] = m->data[i] + 10;
		else if (strncmp(m->data[i], "upperdir=", 9) == 0)
			m->upper = m->data[i] + 9;
		else if (strncmp(m->data[i], "workdir=", 8) == 0)
			m->work = m->data[i] + 8;
		else
			return FAIL(ERR_UNSUPPORTED, "mounts[%zu].options: \"%s\" beside lowerdir+= is not supported", r->i,
				    m->data[i]);
	}
	return NULL;
}

static struct err *one_mount(struct plan *p, const json_t *item, size_t i, const char *bundle)
{
	const char *target = json_str_at(item, "destination", ""), *type = json_str_at(item, "type", NULL);
	const char *source = json_str_at(item, "source", NULL);
	struct reading r = {
		.p = p, .m = vec_push(&p->mounts), .i = i, .is_bind = type && strcmp(type, "bind") == 0
	};
	struct plan_mount *m = r.m;

	if (!target[0])
		return FAIL(ERR_INVALID, "mounts[%zu].destination is missing", i);
	m->target = plan_text(p, target);
	TRY(options(&r, json_object_get(item, "options")));
	TRY(idmaps(&r, item));
	m->is_cgroup = !r.is_bind && type && (strcmp(type, "cgroup") == 0 || strcmp(type, "cgroup2") == 0);
	if (!r.is_bind && !type)
		return FAIL(ERR_INVALID, "mounts[%zu].type is missing", i);
	m->type = r.is_bind ? NULL : plan_text(p, type);
	if (m->type)
		devpts_gid(&r);
	TRY(take_layers(&r));
	TRY(check(&r, source));
	if (r.is_bind && source && source[0] != '/' && bundle) {
		auto_free char *whole = xasprintf("%s/%s", bundle, source);

		m->source = plan_text(p, whole);
	} else {
		m->source = plan_text(p, source ? source : type);
	}
	/* a disk is not for the container to open: its control group forbids it */
	m->by_parent = !m->is_cgroup && !m->remount &&
		       (m->subpath || m->n_lower || m->is_held || (m->type && m->source[0] == '/'));
	return NULL;
}

/* What a mount does not say the root says for all below it. */
static void inherit(struct plan *p)
{
	bool spreads = p->root_propagation & P_REC && p->root_propagation & (P_SLAVE | P_SHARED);

	for (size_t i = 0; spreads && i < p->mounts.n; i++)
		if (!p->mounts.p[i].propagation)
			p->mounts.p[i].propagation = p->root_propagation;
}

struct err *plan_mounts(struct plan *p, const json_t *spec, const char *bundle)
{
	const json_t *list = json_object_get(spec, "mounts");
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item) TRY(one_mount(p, item, i, bundle));
	inherit(p);
	return NULL;
}
