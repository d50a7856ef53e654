/* plan_mounts.c - the mounts of a configuration (runtime-spec config.md#mounts): options become attributes and data. */
#include "base/own.h"
#include "runtime/plan.h"
#include <linux/mount.h>
#include <stdio.h>

/* <sys/mount.h> collides with <linux/mount.h> in glibc 2.36 */
enum { P_UNBINDABLE = 1 << 17, P_PRIVATE = 1 << 18, P_SLAVE = 1 << 19, P_SHARED = 1 << 20, P_REC = 1 << 14 };
#define ATTR_NOSYMFOLLOW 0x00200000

struct option {
	const char *name;
	uint64_t set, clear, propagation;
	bool bind, recursive, rec_attr;
};
static const struct option options[] = {
	{ "ro", MOUNT_ATTR_RDONLY, 0, 0, 0, 0, 0 },
	{ "rw", 0, MOUNT_ATTR_RDONLY, 0, 0, 0, 0 },
	{ "nosuid", MOUNT_ATTR_NOSUID, 0, 0, 0, 0, 0 },
	{ "suid", 0, MOUNT_ATTR_NOSUID, 0, 0, 0, 0 },
	{ "nodev", MOUNT_ATTR_NODEV, 0, 0, 0, 0, 0 },
	{ "dev", 0, MOUNT_ATTR_NODEV, 0, 0, 0, 0 },
	{ "noexec", MOUNT_ATTR_NOEXEC, 0, 0, 0, 0, 0 },
	{ "exec", 0, MOUNT_ATTR_NOEXEC, 0, 0, 0, 0 },
	{ "noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0, 0, 0, 0 },
	{ "strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, 0, 0, 0, 0 },
	{ "relatime", 0, MOUNT_ATTR__ATIME, 0, 0, 0, 0 },
	{ "norelatime", 0, 0, 0, 0, 0, 0 },
	{ "nostrictatime", 0, MOUNT_ATTR__ATIME, 0, 0, 0, 0 },
	{ "atime", 0, MOUNT_ATTR__ATIME, 0, 0, 0, 0 },
	{ "nodiratime", MOUNT_ATTR_NODIRATIME, 0, 0, 0, 0, 0 },
	{ "diratime", 0, MOUNT_ATTR_NODIRATIME, 0, 0, 0, 0 },
	{ "nosymfollow", ATTR_NOSYMFOLLOW, 0, 0, 0, 0, 0 },
	{ "symfollow", 0, ATTR_NOSYMFOLLOW, 0, 0, 0, 0 },
	{ "defaults", 0, 0, 0, 0, 0, 0 },
	{ "bind", 0, 0, 0, 1, 0, 0 },
	{ "rbind", 0, 0, 0, 1, 1, 0 },
	{ "private", 0, 0, P_PRIVATE, 0, 0, 0 },
	{ "rprivate", 0, 0, P_PRIVATE | P_REC, 0, 0, 0 },
	{ "slave", 0, 0, P_SLAVE, 0, 0, 0 },
	{ "rslave", 0, 0, P_SLAVE | P_REC, 0, 0, 0 },
	{ "shared", 0, 0, P_SHARED, 0, 0, 0 },
	{ "rshared", 0, 0, P_SHARED | P_REC, 0, 0, 0 },
	{ "unbindable", 0, 0, P_UNBINDABLE, 0, 0, 0 },
	{ "runbindable", 0, 0, P_UNBINDABLE | P_REC, 0, 0, 0 },
	{ "rro", MOUNT_ATTR_RDONLY, 0, 0, 0, 0, 1 },
	{ "rrw", 0, MOUNT_ATTR_RDONLY, 0, 0, 0, 1 },
	{ "rnosuid", MOUNT_ATTR_NOSUID, 0, 0, 0, 0, 1 },
	{ "rsuid", 0, MOUNT_ATTR_NOSUID, 0, 0, 0, 1 },
	{ "rnodev", MOUNT_ATTR_NODEV, 0, 0, 0, 0, 1 },
	{ "rdev", 0, MOUNT_ATTR_NODEV, 0, 0, 0, 1 },
	{ "rnoexec", MOUNT_ATTR_NOEXEC, 0, 0, 0, 0, 1 },
	{ "rexec", 0, MOUNT_ATTR_NOEXEC, 0, 0, 0, 1 },
	{ "rnosymfollow", ATTR_NOSYMFOLLOW, 0, 0, 0, 0, 1 },
	{ "rsymfollow", 0, ATTR_NOSYMFOLLOW, 0, 0, 0, 1 },
};
/* superblock flags: given to the file system as they are; meaningless on a bind */
static const char *const silent[] = { "async", "dirsync", "sync", "lazytime", "nolazytime", "iversion", "noiversion",
				      "loud", "silent", "mand", "nomand", "remount" };

static struct err *one_option(struct plan *p, struct plan_mount *m, const char *text, size_t *n_data, bool *is_bind)
{
	for (size_t i = 0; i < LEN(options); i++) {
		const struct option *o = &options[i];

		if (strcmp(o->name, text) != 0)
			continue;
		*is_bind |= o->bind;
		m->recursive |= o->recursive;
		if (o->propagation)
			m->propagation = o->propagation;
		if (o->rec_attr) {
			m->rec_set = (m->rec_set & ~o->clear) | o->set;
			m->rec_clear |= o->clear;
		} else {
			m->attr_set = (m->attr_set & ~o->clear) | o->set;
			m->attr_clear |= o->clear;
		}
		return NULL;
	}
	if (strcmp(text, "tmpcopyup") == 0) {
		m->copy_up = true;
		return NULL;
	}
	if (strncmp(text, "idmap", 5) == 0 || strncmp(text, "ridmap", 6) == 0)
		return FAIL(ERR_UNSUPPORTED, "mount %s: option \"%s\" is not supported", m->target, text);
	for (size_t i = 0; i < LEN(silent); i++)
		if (strcmp(silent[i], text) == 0 && (strcmp(text, "remount") == 0 || *is_bind || strncmp(text, "no", 2) == 0))
			return NULL;
	m->data[(*n_data)++] = plan_text(p, text);
	return NULL;
}

static struct err *one_mount(struct plan *p, const json_t *item, size_t i, const char *bundle)
{
	const char *target = json_str_at(item, "destination", ""), *type = json_str_at(item, "type", NULL);
	const char *source = json_str_at(item, "source", NULL);
	const json_t *list = json_object_get(item, "options");
	struct plan_mount *m = vec_push(&p->mounts);
	bool is_bind = type && strcmp(type, "bind") == 0;
	size_t n_data = 0, k;
	json_t *text;

	if (!target[0])
		return FAIL(ERR_INVALID, "mounts[%zu].destination is missing", i);
	m->target = plan_text(p, target);
	m->data = arena_alloc(&p->arena, (json_array_size(list) + 1) * sizeof *m->data);
	json_array_foreach (list, k, text) {
		if (!json_is_string(text) || !m->data)
			return FAIL(ERR_INVALID, "mounts[%zu].options[%zu]: not a string", i, k);
		if (json_string_value(text)[0])
			TRY(one_option(p, m, json_string_value(text), &n_data, &is_bind));
	}
	m->is_cgroup = !is_bind && type && (strcmp(type, "cgroup") == 0 || strcmp(type, "cgroup2") == 0);
	if (!is_bind && !type)
		return FAIL(ERR_INVALID, "mounts[%zu].type is missing", i);
	m->type = is_bind ? NULL : plan_text(p, type);
	if (is_bind && (!source || !source[0]))
		return FAIL(ERR_INVALID, "mounts[%zu].source is missing", i);
	if (is_bind && source[0] != '/' && bundle) {
		auto_free char *whole = xasprintf("%s/%s", bundle, source);

		m->source = plan_text(p, whole);
	} else {
		m->source = plan_text(p, source ? source : type);
	}
	return NULL;
}

struct err *plan_mounts(struct plan *p, const json_t *spec, const char *bundle)
{
	const json_t *list = json_object_get(spec, "mounts");
	json_t *item;
	size_t i;

	json_array_foreach (list, i, item)
		TRY(one_mount(p, item, i, bundle));
	return NULL;
}
