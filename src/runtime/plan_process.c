/* plan_process.c - the process part of a configuration, and capability names. */
#include "base/log.h"
#include "runtime/plan.h"
#include "sys/proc.h"
#include <stdio.h>
#include <strings.h>
#include <sys/prctl.h>

static const char *const caps[] = {
	"CAP_CHOWN",	      "CAP_DAC_OVERRIDE",   "CAP_DAC_READ_SEARCH", "CAP_FOWNER",	   "CAP_FSETID",
	"CAP_KILL",	      "CAP_SETGID",	    "CAP_SETUID",	   "CAP_SETPCAP",	   "CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",	   "CAP_NET_RAW",	   "CAP_IPC_LOCK",
	"CAP_IPC_OWNER",      "CAP_SYS_MODULE",	    "CAP_SYS_RAWIO",	   "CAP_SYS_CHROOT",	   "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",      "CAP_SYS_ADMIN",	    "CAP_SYS_BOOT",	   "CAP_SYS_NICE",	   "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",	      "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",	   "CAP_LEASE",		   "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",  "CAP_SETFCAP",	    "CAP_MAC_OVERRIDE",	   "CAP_MAC_ADMIN",	   "CAP_SYSLOG",
	"CAP_WAKE_ALARM",     "CAP_BLOCK_SUSPEND",  "CAP_AUDIT_READ",	   "CAP_PERFMON",	   "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};
static const char *const cap_sets[5] = { "bounding", "effective", "permitted", "inheritable", "ambient" };

int runtime_cap_number(const char *name)
{
	if (strncasecmp(name, "CAP_", 4) == 0)
		name += 4;
	for (size_t i = 0; i < LEN(caps); i++)
		if (strcasecmp(caps[i] + 4, name) == 0)
			return (int)i;
	return -1;
}

const char *runtime_cap_name(int number)
{
	return number >= 0 && (size_t)number < LEN(caps) ? caps[number] : NULL;
}

uint64_t runtime_caps_bounding(void)
{
	uint64_t set = 0;

	for (int i = 0; i < 64; i++) {
		int r = sys_prctl(PR_CAPBSET_READ, (unsigned long)i, 0, 0);

		if (r < 0)
			break;
		set |= (uint64_t)(r == 1) << i;
	}
	return set;
}

static struct err *capabilities(struct plan *p, const json_t *object)
{
	json_t *item;
	size_t i;

	/* SECURITY: no object means no capabilities, as for crun and runc, not all that we have */
	p->has_caps = true;
	for (int k = 0; k < 5; k++) {
		json_array_foreach (json_object_get(object, cap_sets[k]), i, item) {
			int n = json_is_string(item) ? runtime_cap_number(json_string_value(item)) : -1;

			if (!json_is_string(item))
				return FAIL(ERR_INVALID, "process.capabilities.%s[%zu]: not a string", cap_sets[k], i);
			/* from a newer kernel, or a slip: the specification wants a warning, not an error */
			if (n < 0)
				log_warn("process.capabilities.%s: \"%s\" is not a capability that we know", cap_sets[k],
					 json_string_value(item));
			else
				p->caps[k] |= UINT64_C(1) << n;
		}
	}
	return NULL;
}

static const struct {
	const char *name;
	int resource;
} rlimits[] = { { "RLIMIT_AS", RLIMIT_AS },	    { "RLIMIT_CORE", RLIMIT_CORE },	{ "RLIMIT_CPU", RLIMIT_CPU },
		{ "RLIMIT_DATA", RLIMIT_DATA },	    { "RLIMIT_FSIZE", RLIMIT_FSIZE },	{ "RLIMIT_LOCKS", 10 },
		{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK }, { "RLIMIT_MSGQUEUE", 12 },	{ "RLIMIT_NICE", 13 },
		{ "RLIMIT_NOFILE", RLIMIT_NOFILE }, { "RLIMIT_NPROC", RLIMIT_NPROC },	{ "RLIMIT_RSS", RLIMIT_RSS },
		{ "RLIMIT_RTPRIO", 14 },	    { "RLIMIT_RTTIME", 15 },		{ "RLIMIT_SIGPENDING", 11 },
		{ "RLIMIT_STACK", RLIMIT_STACK } };

/* -1 is what many write for "unlimited". */
static bool limit_of(const json_t *v, rlim_t *out)
{
	uint64_t n = UINT64_MAX;

	if (!json_u64(v, &n) && !(json_is_integer(v) && json_integer_value(v) == -1))
		return false;
	*out = n;
	return true;
}

static struct err *resource_limits(struct plan *p, const json_t *list)
{
	json_t *item;
	size_t i;

	json_array_foreach (list, i, item) {
		const char *name = json_str_at(item, "type", "");
		struct plan_limit *l;
		size_t k = 0;

		while (k < LEN(rlimits) && strcmp(rlimits[k].name, name) != 0)
			k++;
		if (k == LEN(rlimits))
			return FAIL(ERR_INVALID, "process.rlimits[%zu]: unknown type \"%s\"", i, name);
		for (size_t j = 0; j < p->limits.n; j++)
			if (p->limits.p[j].resource == rlimits[k].resource)
				return FAIL(ERR_INVALID, "process.rlimits: \"%s\" stands there twice", name);
		l = vec_push(&p->limits);
		l->resource = rlimits[k].resource;
		if (!limit_of(json_object_get(item, "soft"), &l->limit.rlim_cur) ||
		    !limit_of(json_object_get(item, "hard"), &l->limit.rlim_max))
			return FAIL(ERR_INVALID, "process.rlimits[%zu]: soft and hard must be numbers", i);
	}
	return NULL;
}

/* SECURITY: 2^32 would be root by truncation, 2^32-1 "no change", which is root, too (CVE-2024-40635). */
static struct err *user_id(const json_t *value, const char *what, uint32_t *out)
{
	json_int_t n = value ? json_integer_value(value) : 0;

	if ((value && !json_is_integer(value)) || n < 0 || n >= UINT32_MAX)
		return FAIL(ERR_INVALID, "process.user.%s: not a number from 0 to 4294967294", what);
	*out = (uint32_t)n;
	return NULL;
}

static struct err *user(struct plan *p, const json_t *object)
{
	const json_t *groups = json_object_get(object, "additionalGids");
	json_t *item;
	size_t i;

	TRY(user_id(json_object_get(object, "uid"), "uid", &p->uid));
	TRY(user_id(json_object_get(object, "gid"), "gid", &p->gid));
	p->umask = (int)json_int_at(object, "umask", -1);
	p->groups = arena_alloc(&p->arena, (json_array_size(groups) + 1) * sizeof *p->groups);
	if (!p->groups)
		return FAIL(ERR_LIMIT, "process.user.additionalGids: too many");
	json_array_foreach (groups, i, item)
		TRY(user_id(item, "additionalGids", &p->groups[p->n_groups++]));
	return NULL;
}

/* With room for one more, which the child may find out. */
static struct err *environment(struct plan *p, const json_t *array)
{
	struct err *e = NULL;
	char **list = plan_list(p, array, "process.env", &e);

	TRY(e);
	p->env = arena_alloc(&p->arena, (json_array_size(array) + 2) * sizeof *p->env);
	if (!list || !p->env)
		return FAIL(ERR_LIMIT, "process.env: too large");
	for (size_t i = 0; list[i]; i++)
		p->env[i] = list[i];
	return NULL;
}

static const char *label(struct plan *p, const json_t *process, const char *name)
{
	const char *text = json_str_at(process, name, "");

	return text[0] ? plan_text(p, text) : NULL;
}

struct err *plan_process(struct plan *p, const json_t *process)
{
	struct err *e = NULL;

	if (!process) {
		p->args = NULL; /* create without process: start then fails, as the specification has it */
		p->cwd = "/";
		return NULL;
	}
	p->args = plan_list(p, json_object_get(process, "args"), "process.args", &e);
	TRY(e);
	if (!p->args || !p->args[0])
		return FAIL(ERR_INVALID, "process.args: empty");
	TRY(environment(p, json_object_get(process, "env")));
	p->cwd = plan_text(p, json_str_at(process, "cwd", ""));
	if (!p->cwd || p->cwd[0] != '/')
		return FAIL(ERR_INVALID, "process.cwd: \"%s\" is not an absolute path", p->cwd);
	p->terminal = json_bool_at(process, "terminal", false);
	p->rows = (unsigned)json_int_at(process, "consoleSize.height", 0);
	p->cols = (unsigned)json_int_at(process, "consoleSize.width", 0);
	p->no_new_privs = json_bool_at(process, "noNewPrivileges", false);
	p->has_oom_score = json_object_get(process, "oomScoreAdj") != NULL;
	p->oom_score = (int)json_int_at(process, "oomScoreAdj", 0);
	p->apparmor = label(p, process, "apparmorProfile");
	p->selinux = label(p, process, "selinuxLabel");
	TRY(plan_scheduling(p, process));
	TRY(user(p, json_object_get(process, "user")));
	TRY(capabilities(p, json_object_get(process, "capabilities")));
	return resource_limits(p, json_object_get(process, "rlimits"));
}
