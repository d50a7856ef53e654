/* plan_print.c - a plan for people and golden tests: one line per step, in the order in which it is taken. */
#include "runtime/plan.h"

static const char *word_of(const struct word *words, int value)
{
	for (; words->name; words++)
		if ((int)words->value == value)
			return words->name;
	return "?";
}

static void list(struct buf *out, const char *what, char *const *items)
{
	for (size_t i = 0; items && items[i]; i++)
		buf_fmt(out, "%s %s\n", what, items[i]);
}

static void isolation(const struct plan *p, struct buf *out)
{
	for (size_t i = 0; i < p->ns.n; i++)
		buf_fmt(out, "namespace %s %s\n", word_of(plan_namespaces, p->ns.p[i].kind),
			p->ns.p[i].path ? p->ns.p[i].path : "new");
	for (size_t i = 0; i < p->uid_map.n; i++)
		buf_fmt(out, "uid %u is %u (%u)\n", p->uid_map.p[i].inside, p->uid_map.p[i].outside,
			p->uid_map.p[i].count);
	for (size_t i = 0; i < p->gid_map.n; i++)
		buf_fmt(out, "gid %u is %u (%u)\n", p->gid_map.p[i].inside, p->gid_map.p[i].outside,
			p->gid_map.p[i].count);
	if (p->cgroup)
		buf_fmt(out, "cgroup %s\n", p->cgroup);
	for (size_t i = 0; i < p->cgroup_v1.n; i++)
		buf_fmt(out, "v1 %s %s\n", p->cgroup_v1.p[i].key,
			p->cgroup_v1.p[i].value ? p->cgroup_v1.p[i].value : "(cannot)");
	for (size_t i = 0; i < p->cgroup_v2.n; i++)
		buf_fmt(out, "v2 %s %s\n", p->cgroup_v2.p[i].key,
			p->cgroup_v2.p[i].value ? p->cgroup_v2.p[i].value : "(cannot)");
	for (size_t i = 0; i < p->device_rules.n; i++)
		buf_fmt(out, "%s %c %lld:%lld %s\n", p->device_rules.p[i].allow ? "allow" : "deny",
			p->device_rules.p[i].type, (long long)p->device_rules.p[i].major,
			(long long)p->device_rules.p[i].minor, p->device_rules.p[i].access);
	if (p->mount_label)
		buf_fmt(out, "mounts %s=%s\n", p->mount_context, p->mount_label);
	if (p->rdt.on)
		buf_fmt(out, "rdt class %s%s%s\n", p->rdt.clos, p->rdt.is_own ? " (own)" : "",
			p->rdt.monitor ? ", monitored" : "");
	for (size_t i = 0; i < p->rdt.n_lines; i++)
		buf_fmt(out, "rdt schema %s\n", p->rdt.lines[i]);
	for (size_t i = 0; i < p->netdevs.n; i++)
		buf_fmt(out, "device %s moves to %s\n", p->netdevs.p[i].host, p->netdevs.p[i].name);
	if (p->time_offsets)
		buf_fmt(out, "clocks %.*s\n", (int)strcspn(p->time_offsets, "\n"), p->time_offsets);
}

static void root_and_mounts(const struct plan *p, struct buf *out)
{
	buf_fmt(out, "root %s%s propagation %#lx\n", p->root, p->root_readonly ? " read-only" : "",
		p->root_propagation);
	for (size_t i = 0; i < p->n_lower; i++)
		buf_fmt(out, "layer %s\n", p->lower[i]);
	if (p->upper)
		buf_fmt(out, "upper %s%s%s\n", p->upper, p->is_volatile ? " volatile" : "", p->is_user ? " userxattr" : "");
	for (size_t i = 0; i < p->mounts.n; i++) {
		const struct plan_mount *m = &p->mounts.p[i];

		buf_fmt(out, "mount %s %s on %s +%#llx -%#llx",
			m->type        ? m->type
			: m->recursive ? "rbind"
				       : "bind",
			m->source ? m->source : "", m->target, (unsigned long long)m->attr_set,
			(unsigned long long)m->attr_clear);
		for (const char **d = m->data; d && *d; d++)
			buf_fmt(out, " %s", *d);
		buf_ch(out, '\n');
	}
	for (size_t i = 0; i < p->devices.n; i++)
		buf_fmt(out, "node %s %o %u:%u of %u:%u\n", p->devices.p[i].path,
			(unsigned)p->devices.p[i].mode, p->devices.p[i].major, p->devices.p[i].minor,
			p->devices.p[i].uid, p->devices.p[i].gid);
	for (size_t i = 0; i < p->sysctls.n; i++)
		buf_fmt(out, "sysctl %s %s\n", p->sysctls.p[i].key, p->sysctls.p[i].value);
	for (const char **s = p->readonly; s && *s; s++)
		buf_fmt(out, "read-only %s\n", *s);
	for (const char **s = p->masked; s && *s; s++)
		buf_fmt(out, "masked %s\n", *s);
	if (p->hostname)
		buf_fmt(out, "hostname %s\n", p->hostname);
	if (p->domainname)
		buf_fmt(out, "domainname %s\n", p->domainname);
}

static void process(const struct plan *p, struct buf *out)
{
	static const char *const sets[] = { "bounding", "effective", "permitted", "inheritable", "ambient" };

	if (p->has_oom_score)
		buf_fmt(out, "oom_score_adj %d\n", p->oom_score);
	for (size_t i = 0; i < p->limits.n; i++)
		buf_fmt(out, "limit %d %lld %lld\n", p->limits.p[i].resource,
			(long long)p->limits.p[i].limit.rlim_cur, (long long)p->limits.p[i].limit.rlim_max);
	if (p->memory_mode >= 0)
		buf_fmt(out, "memory policy %#x nodes %#lx\n", (unsigned)p->memory_mode,
			p->memory_nodes.n ? p->memory_nodes.p[0] : 0);
	if (p->personality >= 0)
		buf_fmt(out, "personality %ld\n", p->personality);
	if (p->has_scheduler)
		buf_fmt(out, "scheduler %u flags %#llx nice %d priority %u\n", p->scheduler.policy,
			(unsigned long long)p->scheduler.flags, p->scheduler.nice, p->scheduler.priority);
	if (p->io_priority >= 0)
		buf_fmt(out, "io priority %d:%d\n", p->io_priority >> 13, p->io_priority & 0x1fff);
	buf_fmt(out, "user %u:%u", p->uid, p->gid);
	for (size_t i = 0; i < p->n_groups; i++)
		buf_fmt(out, " %u", p->groups[i]);
	buf_fmt(out, "\ncwd %s%s\n", p->cwd, p->terminal ? " on a terminal" : "");
	for (size_t i = 0; p->has_caps && i < LEN(sets); i++)
		buf_fmt(out, "capabilities %s %#llx\n", sets[i], (unsigned long long)p->caps[i]);
	if (p->no_new_privs)
		buf_str(out, "no new privileges\n");
	if (p->apparmor || p->selinux)
		buf_fmt(out, "label %s\n", p->apparmor ? p->apparmor : p->selinux);
	if (p->n_filter)
		buf_fmt(out, "filter of %zu instructions flags %#x%s%s\n", p->n_filter, p->filter_flags,
			p->listener ? " told to " : "", p->listener ? p->listener : "");
	list(out, "env", p->env);
	list(out, "arg", p->args);
}

void plan_print(const struct plan *p, struct buf *out)
{
	if (!p->is_exec)
		isolation(p, out);
	if (!p->is_exec)
		root_and_mounts(p, out);
	process(p, out);
	for (int k = 0; k < HOOK_KINDS; k++)
		for (size_t i = 0; i < p->hooks[k].n; i++)
			buf_fmt(out, "hook %s %s %d s\n", plan_hook_names[k], p->hooks[k].p[i].path,
				p->hooks[k].p[i].timeout_s);
}
