/*
 * plan.c - an OCI configuration becomes a struct plan. Packed form: the options and the configuration's JSON text; the
 * other side compiles it again (0.1 ms), which keeps one validated path instead of two.
 */
#include "runtime/plan.h"
#include "base/own.h"
#include "base/text.h"
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum { PLAN_MAX = 16 << 20, PLAN_FIRST = 256 << 10, SPEC_MAX = 4 << 20 };

const char *plan_text(struct plan *p, const char *s)
{
	return s ? arena_strdup(&p->arena, s) : NULL;
}

char **plan_list(struct plan *p, const json_t *array, const char *what, struct err **out_err)
{
	size_t n = json_array_size(array), i;
	char **list = arena_alloc(&p->arena, (n + 1) * sizeof *list);
	json_t *item;

	if (array && !json_is_null(array) && !json_is_array(array)) {
		*out_err = FAIL(ERR_INVALID, "%s: not an array", what);
		return NULL;
	}
	json_array_foreach (array, i, item) {
		if (!json_is_string(item)) {
			*out_err = FAIL(ERR_INVALID, "%s[%zu]: not a string", what, i);
			return NULL;
		}
		if (!list || !(list[i] = arena_strdup(&p->arena, json_string_value(item)))) {
			*out_err = FAIL(ERR_LIMIT, "%s: too large", what);
			return NULL;
		}
	}
	return list;
}

const struct word plan_namespaces[] = {
	{ "cgroup", CLONE_NEWCGROUP }, { "ipc", CLONE_NEWIPC }, { "mount", CLONE_NEWNS },
	{ "network", CLONE_NEWNET },   { "pid", CLONE_NEWPID }, { "time", PLAN_NEWTIME },
	{ "user", CLONE_NEWUSER },     { "uts", CLONE_NEWUTS }, { NULL, 0 }
};

static struct err *namespaces(struct plan *p, const json_t *list)
{
	size_t i;
	json_t *item;

	json_array_foreach (list, i, item) {
		const char *name = json_str_at(item, "type", ""), *path = json_str_at(item, "path", NULL);
		const struct word *w = word_find(plan_namespaces, name);
		struct plan_ns *ns;

		if (!w)
			return FAIL(ERR_INVALID, "linux.namespaces[%zu]: unknown type \"%s\"", i, name);
		for (size_t j = 0; j < p->ns.n; j++)
			if (p->ns.p[j].kind == (int)w->value)
				return FAIL(ERR_INVALID, "linux.namespaces: \"%s\" stands there twice", name);
		if (path && path[0] && path[0] != '/')
			return FAIL(ERR_INVALID, "linux.namespaces[%zu].path: not absolute", i);
		ns = vec_push(&p->ns);
		ns->kind = (int)w->value;
		ns->path = path && path[0] ? plan_text(p, path) : NULL;
	}
	return NULL;
}

static bool has_ns(const struct plan *p, int kind)
{
	for (size_t i = 0; i < p->ns.n; i++)
		if (p->ns.p[i].kind == kind)
			return true;
	return false;
}

static struct err *idmaps(struct plan *p, const json_t *linux_part)
{
	const json_t *maps[2] = { json_object_get(linux_part, "uidMappings"), json_object_get(linux_part, "gidMappings") };
	json_t *item;
	size_t i;

	for (int k = 0; k < 2; k++) {
		json_array_foreach (maps[k], i, item) {
			struct plan_idmap *m = k ? vec_push(&p->gid_map) : vec_push(&p->uid_map);

			*m = (struct plan_idmap){ (uint32_t)json_int_at(item, "containerID", 0),
						  (uint32_t)json_int_at(item, "hostID", 0),
						  (uint32_t)json_int_at(item, "size", 0) };
		}
	}
	if ((p->uid_map.n == 0) != (p->gid_map.n == 0))
		return FAIL(ERR_INVALID, "linux.uidMappings and linux.gidMappings: one without the other");
	if (p->uid_map.n && !has_ns(p, CLONE_NEWUSER))
		return FAIL(ERR_INVALID, "linux.uidMappings: there is no user namespace for them");
	return NULL;
}

/* Without slashes at its end; NULL: nothing is left. */
static const char *device_path(struct plan *p, const char *path)
{
	size_t n = strlen(path);

	while (n && path[n - 1] == '/')
		n--;
	return n ? arena_strndup(&p->arena, path, n) : NULL;
}

static struct err *devices(struct plan *p, const json_t *list)
{
	size_t i;
	json_t *item;

	json_array_foreach (list, i, item) {
		const char *type = json_str_at(item, "type", ""), *path = json_str_at(item, "path", "");
		struct plan_device *d;

		if (path[0] != '/')
			return FAIL(ERR_INVALID, "linux.devices[%zu].path: not absolute", i);
		if (strcmp(path, "/dev/ptmx") == 0) /* docker run --privileged lists the host's; ours is of the container's devpts */
			continue;
		if (strlen(type) != 1 || !strchr("cbup", type[0]))
			return FAIL(ERR_INVALID, "linux.devices[%zu].type: unknown \"%s\"", i, type);
		d = vec_push(&p->devices);
		d->path = device_path(p, path);
		if (!d->path)
			return FAIL(ERR_INVALID, "linux.devices[%zu].path: \"%s\" is no file", i, path);
		d->mode = (mode_t)json_int_at(item, "fileMode", 0666) & 0777;
		d->mode |= type[0] == 'b' ? S_IFBLK : type[0] == 'p' ? S_IFIFO : S_IFCHR;
		d->major = (unsigned)json_int_at(item, "major", 0);
		d->minor = (unsigned)json_int_at(item, "minor", 0);
		d->uid = (uid_t)json_int_at(item, "uid", 0);
		d->gid = (gid_t)json_int_at(item, "gid", 0);
	}
	return NULL;
}

/* As the kernel's dev_valid_name, and "%d" at most once. */
static bool is_device_name(const char *name, bool may_count)
{
	const char *percent = strchr(name, '%');

	if (percent && (!may_count || percent[1] != 'd' || strchr(percent + 1, '%')))
		return false;
	return name[0] && strlen(name) < 16 && !strpbrk(name, "/: \t\n\v\f\r") && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static struct err *net_devices(struct plan *p, const json_t *object)
{
	const char *host;
	json_t *item;

	json_object_foreach((json_t *)(uintptr_t)object, host, item)
	{
		const char *name = json_str_at(item, "name", "");

		if (!name[0])
			name = host;
		if (!has_ns(p, CLONE_NEWNET))
			return FAIL(ERR_INVALID,
				    "linux.netDevices: there is no network namespace to move \"%s\" to",
				    host);
		if (!is_device_name(host, false))
			return FAIL(ERR_INVALID,
				    "linux.netDevices: \"%s\" is not the name of a network device", host);
		if (!is_device_name(name, true))
			return FAIL(ERR_INVALID,
				    "linux.netDevices.%s.name: \"%s\" is not the name of a network device",
				    host, name);
		*vec_push(&p->netdevs) = (struct plan_netdev){ plan_text(p, host), plan_text(p, name) };
	}
	return NULL;
}

static struct err *sysctls(struct plan *p, const json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		bool net = strncmp(key, "net.", 4) == 0,
		     ipc = strncmp(key, "kernel.msg", 10) == 0 || strncmp(key, "kernel.sem", 10) == 0 ||
			   strncmp(key, "kernel.shm", 10) == 0 || strncmp(key, "fs.mqueue.", 10) == 0;
		bool uts = strcmp(key, "kernel.domainname") == 0;
		struct plan_pair *s;

		/* SECURITY: a sysctl that no namespace holds would change the host. The host name has its own
		 * property. */
		if (!((net && has_ns(p, CLONE_NEWNET)) || (ipc && has_ns(p, CLONE_NEWIPC)) ||
		      (uts && has_ns(p, CLONE_NEWUTS))))
			return FAIL(ERR_INVALID,
				    "linux.sysctl: \"%s\" is not in a namespace of the container", key);
		if (uts && p->domainname &&
		    strcmp(p->domainname, json_is_string(value) ? json_string_value(value) : "") != 0)
			return FAIL(ERR_INVALID, "linux.sysctl: \"%s\" says something else than domainname",
				    key);
		if (!json_is_string(value) || strstr(key, "..") || strchr(key, '/') == key)
			return FAIL(ERR_INVALID, "linux.sysctl: bad entry \"%s\"", key);
		s = vec_push(&p->sysctls);
		s->key = plan_text(p, key);
		for (char *c = (char *)(uintptr_t)s->key; c && *c; c++)
			*c = *c == '.' ? '/' : *c == '/' ? '.' : *c;
		s->value = plan_text(p, json_string_value(value));
	}
	return NULL;
}

static const struct word propagations[] = { { "private", MS_PRIVATE },
					    { "rprivate", MS_REC | MS_PRIVATE },
					    { "shared", MS_SHARED },
					    { "rshared", MS_REC | MS_SHARED },
					    { "slave", MS_SLAVE },
					    { "rslave", MS_REC | MS_SLAVE },
					    { "unbindable", MS_UNBINDABLE },
					    { "runbindable", MS_REC | MS_UNBINDABLE },
					    { NULL, 0 } };

static struct err *root(struct plan *p, const json_t *spec, const struct plan_opts *o)
{
	const char *path = json_str_at(spec, "root.path", NULL);
	const char *prop = json_str_at(spec, "linux.rootfsPropagation", "");
	const struct word *w;
	size_t n = 0;

	p->root_readonly = json_bool_at(spec, "root.readonly", false);
	w = word_find(propagations, prop[0] ? prop : "private");
	if (!w)
		return FAIL(ERR_INVALID, "linux.rootfsPropagation: unknown \"%s\"", prop);
	p->root_propagation = w->value;
	while (o->lower && o->lower[n])
		n++;
	if (n) {
		p->lower = arena_alloc(&p->arena, (n + 1) * sizeof *p->lower);
		for (size_t i = 0; p->lower && i < n; i++)
			p->lower[i] = plan_text(p, o->lower[i]);
		p->n_lower = n;
		p->upper = plan_text(p, o->upper);
		p->work = plan_text(p, o->work);
		p->is_volatile = o->is_volatile;
		p->is_user = o->is_user;
		p->root = p->upper ? p->upper : p->lower ? p->lower[0] : NULL; /* a lower may be a mount without a place */
		return NULL;
	}
	if (!path || !path[0])
		return FAIL(ERR_INVALID, "root.path is missing");
	if (path[0] != '/' && !o->bundle)
		return FAIL(ERR_INVALID, "root.path: not absolute");
	if (path[0] == '/') {
		p->root = plan_text(p, path);
	} else {
		auto_free char *whole = xasprintf("%s/%s", o->bundle, path);

		p->root = plan_text(p, whole);
	}
	return NULL;
}

const char *const plan_hook_names[HOOK_KINDS] = { "prestart",       "createRuntime", "createContainer",
						  "startContainer", "poststart",     "poststop" };

static struct err *hooks(struct plan *p, const json_t *object)
{
	json_t *item;
	size_t i;

	for (int k = 0; k < HOOK_KINDS; k++) {
		json_array_foreach(json_object_get(object, plan_hook_names[k]), i, item)
		{
			struct plan_hook *h = vec_push(&p->hooks[k]);
			struct err *e = NULL;

			h->path = plan_text(p, json_str_at(item, "path", ""));
			if (!h->path || h->path[0] != '/')
				return FAIL(ERR_INVALID, "hooks.%s[%zu].path: not absolute",
					    plan_hook_names[k], i);
			h->is_inside = k == HOOK_START_CONTAINER;
			h->dir = h->is_inside || !p->bundle[0] ? NULL : p->bundle;
			h->timeout_s = (int)json_int_at(item, "timeout", 0);
			if (json_object_get(item, "timeout") && h->timeout_s <= 0)
				return FAIL(ERR_INVALID, "hooks.%s[%zu].timeout: must be greater than zero",
					    plan_hook_names[k], i);
			h->args = plan_list(p, json_object_get(item, "args"), "hook args", &e);
			TRY(e);
			if (json_object_get(item, "env"))
				h->env = plan_list(p, json_object_get(item, "env"), "hook env", &e);
			TRY(e);
		}
	}
	return NULL;
}

static struct err *filter(struct plan *p, const json_t *seccomp, const struct plan_opts *o)
{
	if (p->raw_filter)
		return plan_seccomp_raw(p);
	if (!seccomp && o->default_seccomp)
		return plan_seccomp_default(p);
	return seccomp ? plan_seccomp(p, seccomp) : NULL;
}

/* What hooks and the seccomp agent read. */
static struct err *state_document(struct plan *p, const char *id, const char *bundle,
				  const json_t *annotations)
{
	auto_json json_t *head = json_pack("{s:s, s:s?}", "ociVersion", RUNTIME_SPEC_VERSION, "id", id);
	auto_json json_t *tail = json_pack("{s:s?}", "bundle", bundle ? bundle : "");
	auto_buf struct buf b = BUF(SPEC_MAX), c = BUF(SPEC_MAX);

	if (!head || !tail)
		return FAIL(ERR_INVALID, "bundle: a path that is not UTF-8");
	if (json_object_size(annotations))
		(void)json_object_set_new(tail, "annotations", json_deep_copy(annotations));
	json_print(head, &b);
	json_print(tail, &c);
	TRY(buf_check(&b, "state"));
	TRY(buf_check(&c, "annotations"));
	b.data[b.n - 1] = 0;
	p->state_head = plan_text(p, b.data);
	p->state_tail = plan_text(p, buf_text(&c) + 1);
	return p->state_head && p->state_tail ? NULL : FAIL(ERR_LIMIT, "annotations: too large");
}

static struct err *compile(struct plan *p, const json_t *spec, const struct plan_opts *o)
{
	const char *version = json_str_at(spec, "ociVersion", "");
	const json_t *linux_part = json_object_get(spec, "linux");
	const char *cgroup = o->cgroup_path ? o->cgroup_path : json_str_at(linux_part, "cgroupsPath", NULL);
	struct err *e = NULL;

	if (strncmp(version, "1.", 2) != 0)
		return FAIL(ERR_INVALID, "ociVersion: \"%s\" is not supported (1.x is)", version);
	p->id = plan_text(p, o->id);
	p->cgroup = cgroup && cgroup[0] ? plan_text(p, cgroup + strspn(cgroup, "/")) : p->id;
	if (o->no_cgroup)
		p->cgroup = NULL;
	else if (strstr(p->cgroup, ".."))
		return FAIL(ERR_INVALID, "linux.cgroupsPath: \"%s\" leaves the hierarchy", p->cgroup);
	p->no_pivot = o->no_pivot;
	p->no_keyring = o->no_keyring;
	p->die_with_parent = o->die_with_parent;
	TRY(root(p, spec, o));
	TRY(namespaces(p, json_object_get(linux_part, "namespaces")));
	TRY(idmaps(p, linux_part));
	p->hostname = plan_text(p, json_str_at(spec, "hostname", NULL));
	p->domainname = plan_text(p, json_str_at(spec, "domainname", NULL));
	if ((p->hostname || p->domainname) && !has_ns(p, CLONE_NEWUTS))
		return FAIL(ERR_INVALID, "hostname: there is no uts namespace to set it in");
	TRY(plan_mounts(p, spec, o->bundle));
	TRY(devices(p, json_object_get(linux_part, "devices")));
	TRY(net_devices(p, json_object_get(linux_part, "netDevices")));
	TRY(sysctls(p, json_object_get(linux_part, "sysctl")));
	p->masked = (const char **)(uintptr_t)plan_list(p, json_object_get(linux_part, "maskedPaths"), "linux.maskedPaths", &e);
	TRY(e);
	p->readonly =
		(const char **)(uintptr_t)plan_list(p, json_object_get(linux_part, "readonlyPaths"), "linux.readonlyPaths", &e);
	TRY(e);
	TRY(plan_process(p, json_object_get(spec, "process")));
	TRY(plan_resources(p, json_object_get(linux_part, "resources")));
	if (!p->cgroup && (p->cgroup_v1.n || p->cgroup_v2.n))
		return FAIL(ERR_INVALID, "linux.resources: limits need a control group, and this container has none");
	TRY(plan_policy(p, linux_part));
	p->bundle = plan_text(p, o->bundle ? o->bundle : "");
	TRY(state_document(p, o->id, o->bundle, json_object_get(spec, "annotations")));
	if (o->oci_annotations)
		TRY(plan_annotations(p, json_object_get(spec, "annotations")));
	TRY(filter(p, json_object_get(linux_part, "seccomp"), o)); /* reads all of the above */
	return hooks(p, json_object_get(spec, "hooks"));
}

static struct plan *plan_new(void)
{
	struct plan *p = xnew(struct plan);

	arena_init(&p->arena, PLAN_MAX);
	p->arena.first = PLAN_FIRST;
	p->umask = -1;
	p->io_priority = p->memory_mode = -1;
	p->personality = -1;
	return p;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	vec_fini(&p->ns);
	vec_fini(&p->uid_map);
	vec_fini(&p->gid_map);
	vec_fini(&p->netdevs);
	vec_fini(&p->mounts);
	vec_fini(&p->devices);
	vec_fini(&p->sysctls);
	vec_fini(&p->limits);
	vec_fini(&p->cgroup_v1);
	vec_fini(&p->cgroup_v2);
	vec_fini(&p->device_rules);
	for (int k = 0; k < HOOK_KINDS; k++)
		vec_fini(&p->hooks[k]);
	json_decref(p->source);
	arena_fini(&p->arena);
	free(p);
}
OWN_DEFINE(struct plan *, plan, plan_free)

/* The options by the names they are packed with. */
#define OPT(key_, member) { key_, offsetof(struct plan_opts, member) }
static const struct packed {
	const char *key;
	size_t at;
} packed_texts[] = { OPT("id", id), OPT("bundle", bundle), OPT("upper", upper), OPT("work", work), OPT("cgroup", cgroup_path) },
  packed_flags[] = { OPT("volatile", is_volatile), OPT("user", is_user), OPT("no_pivot", no_pivot), OPT("no_keyring", no_keyring),
		     OPT("die", die_with_parent), OPT("seccomp", default_seccomp), OPT("no_cgroup", no_cgroup),
		     OPT("annotations", oci_annotations) };
#undef OPT

static json_t *pack_opts(const struct plan_opts *o)
{
	json_t *v = json_object(), *lower = json_array();

	for (size_t i = 0; o->lower && o->lower[i]; i++)
		(void)json_array_append_new(lower, json_string(o->lower[i]));
	(void)json_object_set_new(v, "lower", lower);
	for (size_t i = 0; i < LEN(packed_texts); i++) {
		const char *text = *(const char *const *)((const char *)o + packed_texts[i].at);

		if (text)
			(void)json_object_set_new(v, packed_texts[i].key, json_string(text));
	}
	for (size_t i = 0; i < LEN(packed_flags); i++)
		if (*(const bool *)((const char *)o + packed_flags[i].at))
			(void)json_object_set_new(v, packed_flags[i].key, json_true());
	return v;
}

struct err *plan_compile(const json_t *spec, const struct plan_opts *o, struct plan **out_plan)
{
	CLEANUP(own_plan) struct plan *p = plan_new();

	TRY(compile(p, spec, o));
	p->source = json_pack("{s:o, s:O}", "opts", pack_opts(o), "spec", spec);
	*out_plan = TAKE(p);
	return NULL;
}

struct err *plan_compile_exec(const json_t *process, const struct plan_opts *o, pid_t container_pid, struct plan **out_plan)
{
	CLEANUP(own_plan) struct plan *p = plan_new();

	(void)container_pid;
	p->is_exec = true;
	p->id = plan_text(p, o->id);
	p->cgroup = o->no_cgroup ? NULL : plan_text(p, o->cgroup_path ? o->cgroup_path : o->id);
	p->die_with_parent = o->die_with_parent;
	TRY(plan_process(p, process));
	TRY(plan_policy(p, json_object_get(o->container, "linux")));
	TRY(state_document(p, o->id, o->bundle, json_object_get(o->container, "annotations")));
	if (o->oci_annotations)
		TRY(plan_annotations(p, json_object_get(o->container, "annotations")));
	TRY(filter(p, json_at(o->container, "linux.seccomp"), o));
	*out_plan = TAKE(p);
	return NULL;
}

void plan_pack(const struct plan *p, struct buf *out)
{
	json_print(p->source, out);
}

struct err *plan_unpack(const void *bytes, size_t n, struct plan **out_plan)
{
	auto_json json_t *whole = NULL;
	auto_list char **lower = NULL;
	struct plan_opts o = { 0 };
	const json_t *opts;

	TRY(json_parse(sv_from(bytes, n), "plan", SPEC_MAX, &whole));
	opts = json_object_get(whole, "opts");
	TRY(json_list_at(opts, "lower", &lower));
	o.lower = (const char *const *)lower;
	for (size_t i = 0; i < LEN(packed_texts); i++)
		*(const char **)((char *)&o + packed_texts[i].at) = json_str_at(opts, packed_texts[i].key, NULL);
	for (size_t i = 0; i < LEN(packed_flags); i++)
		*(bool *)((char *)&o + packed_flags[i].at) = json_bool_at(opts, packed_flags[i].key, false);
	if (!o.id)
		return FAIL(ERR_CORRUPT, "plan: it has no id");
	return plan_compile(json_object_get(whole, "spec"), &o, out_plan);
}
