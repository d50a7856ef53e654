/*
 * plan_policy.c - how the kernel is to treat the process: process.scheduler, ioPriority, execCPUAffinity,
 * linux.personality, memoryPolicy, timeOffsets (runtime-spec config.md#linux-process, config-linux.md).
 */
#include "base/num.h"
#include "runtime/plan.h"
#include "runtime/words.h"
#include <sched.h>
#include <sys/personality.h>

enum { CPUS_MAX = 8192, NODES_MAX = 4096, LONG_BITS = 8 * sizeof(unsigned long) };

/* "0-3,7" as bits below max; absent or empty: none. */
static struct err *bit_list(struct plan *p, const json_t *value, const char *where, unsigned max,
			    struct plan_bits *out)
{
	struct sv rest = sv_of(json_string_value(value));

	if (value && !json_is_null(value) && !json_is_string(value))
		return FAIL(ERR_INVALID, "%s: not a string", where);
	while (rest.n) {
		struct sv part = sv_cut(&rest, ','), first;
		uint64_t from = 0, to = 0;
		struct err *e;

		part = sv_trim(part);
		first = sv_cut(&part, '-');
		e = num_parse(first, 10, 0, max - 1, &from);
		to = from;
		if (!e && part.n)
			e = num_parse(part, 10, from, max - 1, &to);
		if (e) {
			err_free(e);
			return FAIL(ERR_INVALID,
				    "%s: \"%s\" is not a list like \"0-3,7\" of numbers below %u", where,
				    json_string_value(value), max);
		}
		if (!out->p && !(out->p = arena_alloc(&p->arena, max / 8)))
			return FAIL(ERR_LIMIT, "%s: too large", where);
		out->n = max / LONG_BITS;
		for (; from <= to; from++)
			out->p[from / LONG_BITS] |= 1ul << from % LONG_BITS;
	}
	return NULL;
}

static struct err *flag_words(const json_t *list, const struct word *words, const char *where,
			      uint64_t *out_flags)
{
	json_t *item;
	size_t i;

	if (list && !json_is_null(list) && !json_is_array(list))
		return FAIL(ERR_INVALID, "%s: not an array", where);
	json_array_foreach(list, i, item)
	{
		const struct word *w = word_find(words, json_string_value(item));

		if (!w)
			return FAIL(ERR_INVALID, "%s[%zu]: unknown \"%s\"", where, i,
				    json_is_string(item) ? json_string_value(item) : "");
		*out_flags |= w->value;
	}
	return NULL;
}

/* ---- scheduler ---- */

#define SCHEDULER "process.scheduler"

static const struct word policies[] = { { "SCHED_OTHER", SCHED_OTHER },
					{ "SCHED_FIFO", SCHED_FIFO },
					{ "SCHED_RR", SCHED_RR },
					{ "SCHED_BATCH", SCHED_BATCH },
					{ "SCHED_ISO", 4 },
					{ "SCHED_IDLE", SCHED_IDLE },
					{ "SCHED_DEADLINE", 6 },
					{ NULL, 0 } };
static const struct word sched_flags[] = {
	{ "SCHED_FLAG_RESET_ON_FORK", 0x01 },  { "SCHED_FLAG_RECLAIM", 0x02 },
	{ "SCHED_FLAG_DL_OVERRUN", 0x04 },     { "SCHED_FLAG_KEEP_POLICY", 0x08 },
	{ "SCHED_FLAG_KEEP_PARAMS", 0x10 },    { "SCHED_FLAG_UTIL_CLAMP_MIN", 0x20 },
	{ "SCHED_FLAG_UTIL_CLAMP_MAX", 0x40 }, { NULL, 0 }
};

/* The kernel says EINVAL to all of these; the texts are those crun's callers know. */
static struct err *deadline(const json_t *object, const struct sys_sched *s)
{
	const uint64_t min = 1024, max = UINT64_C(1) << 63;
	const struct {
		const char *name;
		uint64_t value;
		bool is_needed;
	} times[] = { { "runtime", s->runtime, true },
		      { "deadline", s->deadline, true },
		      { "period", s->period, false } };

	for (size_t i = 0; i < LEN(times); i++) {
		if (times[i].is_needed && !json_object_get(object, times[i].name))
			return FAIL(ERR_INVALID, SCHEDULER ": sched_setattr: `SCHED_DEADLINE` requires `%s`",
				    times[i].name);
		if (times[i].is_needed && !times[i].value)
			return FAIL(ERR_INVALID,
				    SCHEDULER ": sched_setattr: `SCHED_DEADLINE` %s must be greater than 0",
				    times[i].name);
		if (times[i].value && (times[i].value < min || times[i].value > max))
			return FAIL(
			    ERR_INVALID,
			    SCHEDULER
			    ": sched_setattr: `SCHED_DEADLINE` %s (%llu) must be between %llu and %llu",
			    times[i].name, (unsigned long long)times[i].value, (unsigned long long)min,
			    (unsigned long long)max);
	}
	for (size_t i = 0; i + 1 < LEN(times); i++)
		if (times[i + 1].value && times[i].value > times[i + 1].value)
			return FAIL(ERR_INVALID,
				    SCHEDULER
				    ": sched_setattr: `SCHED_DEADLINE` %s (%llu) must be <= %s (%llu)",
				    times[i].name, (unsigned long long)times[i].value, times[i + 1].name,
				    (unsigned long long)times[i + 1].value);
	return NULL;
}

static struct err *scheduler(struct plan *p, const json_t *object)
{
	static const char *const names[] = { "runtime", "deadline", "period" };
	uint64_t *times[] = { &p->scheduler.runtime, &p->scheduler.deadline, &p->scheduler.period };
	const char *policy = json_str_at(object, "policy", "");
	const struct word *w = word_find(policies, policy);

	if (!object || json_is_null(object))
		return NULL;
	if (!w)
		return FAIL(ERR_INVALID, SCHEDULER ".policy: unknown \"%s\"", policy);
	p->has_scheduler = true;
	p->scheduler.policy = (uint32_t)w->value;
	p->scheduler.nice = (int32_t)json_int_at(object, "nice", 0);
	p->scheduler.priority = (uint32_t)json_int_at(object, "priority", 0);
	for (size_t i = 0; i < LEN(names); i++)
		if (json_object_get(object, names[i]) &&
		    !json_u64(json_object_get(object, names[i]), times[i]))
			return FAIL(ERR_INVALID, SCHEDULER ".%s: not a number of nanoseconds", names[i]);
	if (p->scheduler.nice < -20 || p->scheduler.nice > 19)
		return FAIL(ERR_INVALID, SCHEDULER ".nice: %d is not in -20 to 19", (int)p->scheduler.nice);
	TRY(flag_words(json_object_get(object, "flags"), sched_flags, SCHEDULER ".flags",
		       &p->scheduler.flags));
	return p->scheduler.policy == 6 ? deadline(object, &p->scheduler) : NULL;
}

static struct err *io_priority(struct plan *p, const json_t *object)
{
	static const struct word classes[] = {
		{ "IOPRIO_CLASS_RT", 1 }, { "IOPRIO_CLASS_BE", 2 }, { "IOPRIO_CLASS_IDLE", 3 }, { NULL, 0 }
	};
	const char *name = json_str_at(object, "class", "");
	const struct word *w = word_find(classes, name);
	int64_t level = json_int_at(object, "priority", 0);

	p->io_priority = -1;
	if (!object || json_is_null(object))
		return NULL;
	if (!w)
		return FAIL(ERR_INVALID, "process.ioPriority.class: unknown \"%s\"", name);
	if (level < 0 || level > 7)
		return FAIL(ERR_INVALID, "process.ioPriority.priority: %lld is not in 0 to 7",
			    (long long)level);
	p->io_priority = (int)(w->value << 13 | (uint64_t)level);
	return NULL;
}

struct err *plan_scheduling(struct plan *p, const json_t *process)
{
	TRY(scheduler(p, json_object_get(process, "scheduler")));
	TRY(io_priority(p, json_object_get(process, "ioPriority")));
	if (!p->is_exec)
		return NULL;
	TRY(bit_list(p, json_at(process, "execCPUAffinity.initial"), "process.execCPUAffinity.initial",
		     CPUS_MAX, &p->cpus_initial));
	return bit_list(p, json_at(process, "execCPUAffinity.final"), "process.execCPUAffinity.final",
			CPUS_MAX, &p->cpus_final);
}

/* ---- personality, memory, clocks ---- */

const struct word plan_memory_modes[] = { { "MPOL_DEFAULT", 0 },
					  { "MPOL_PREFERRED", 1 },
					  { "MPOL_BIND", 2 },
					  { "MPOL_INTERLEAVE", 3 },
					  { "MPOL_LOCAL", 4 },
					  { "MPOL_PREFERRED_MANY", 5 },
					  { "MPOL_WEIGHTED_INTERLEAVE", 6 },
					  { NULL, 0 } };
const struct word plan_memory_flags[] = { { "MPOL_F_STATIC_NODES", 1 << 15 },
					  { "MPOL_F_RELATIVE_NODES", 1 << 14 },
					  { "MPOL_F_NUMA_BALANCING", 1 << 13 },
					  { NULL, 0 } };

static struct err *memory_policy(struct plan *p, const json_t *object)
{
	const char *mode = json_str_at(object, "mode", "");
	const struct word *w = word_find(plan_memory_modes, mode);
	uint64_t flags = 0;

	p->memory_mode = -1;
	if (!object || json_is_null(object))
		return NULL;
	if (!w)
		return FAIL(ERR_INVALID, "linux.memoryPolicy.mode: unknown \"%s\"", mode);
	TRY(flag_words(json_object_get(object, "flags"), plan_memory_flags, "linux.memoryPolicy.flags",
		       &flags));
	p->memory_mode = (int)(w->value | flags);
	return bit_list(p, json_object_get(object, "nodes"), "linux.memoryPolicy.nodes", NODES_MAX,
			&p->memory_nodes);
}

static struct err *personality_of(struct plan *p, const json_t *object)
{
	static const struct word domains[] = { { "LINUX", PER_LINUX },
					       { "LINUX32", PER_LINUX32 },
					       { NULL, 0 } };
	const char *name = json_str_at(object, "domain", "");
	const struct word *w = word_find(domains, name);

	p->personality = -1;
	if (!object || json_is_null(object))
		return NULL;
	if (!w)
		return FAIL(ERR_INVALID, "linux.personality.domain: unknown \"%s\"", name);
	if (json_array_size(json_object_get(object, "flags")))
		return FAIL(ERR_UNSUPPORTED, "linux.personality.flags: none is defined");
	p->personality = (long)w->value;
	return NULL;
}

/* The kernel's text: "monotonic 1 2\nboottime 3 4\n" (time_namespaces(7)). */
static struct err *time_offsets(struct plan *p, const json_t *object)
{
	static const char *const clocks[] = { "monotonic", "boottime" };
	auto_buf struct buf b = BUF(256);
	const char *clock;
	json_t *item;

	json_object_foreach((json_t *)(uintptr_t)object, clock, item)
	{
		int64_t nanos = json_int_at(item, "nanosecs", 0);

		if (strcmp(clock, clocks[0]) != 0 && strcmp(clock, clocks[1]) != 0)
			return FAIL(ERR_INVALID, "linux.timeOffsets: unknown clock \"%s\"", clock);
		if (nanos < 0 || nanos > 999999999)
			return FAIL(ERR_INVALID,
				    "linux.timeOffsets.%s.nanosecs: %lld is not in 0 to 999999999", clock,
				    (long long)nanos);
		buf_fmt(&b, "%s %lld %lld\n", clock, (long long)json_int_at(item, "secs", 0),
			(long long)nanos);
	}
	for (size_t i = 0; i < p->ns.n && b.n; i++)
		if (p->ns.p[i].kind == PLAN_NEWTIME && !p->ns.p[i].path) {
			p->time_offsets = plan_text(p, buf_text(&b));
			return NULL;
		}
	return b.n ? FAIL(ERR_INVALID, "linux.timeOffsets: there is no new time namespace to set them in")
		   : NULL;
}

static struct err *schema_line(struct plan_rdt *r, struct plan *p, const json_t *line, const char *where,
			       const char *start)
{
	const char *text = json_string_value(line);

	if (!line || json_is_null(line))
		return NULL;
	if (!text || !text[0] || strpbrk(text, "\n\r") || strncmp(text, start, strlen(start)) != 0)
		return FAIL(ERR_INVALID, "linux.intelRdt.%s: not one line%s%s", where,
			    start[0] ? " that begins with " : "", start);
	r->lines[r->n_lines++] = plan_text(p, text);
	return NULL;
}

static struct err *rdt(struct plan *p, const json_t *object)
{
	const json_t *schemata = json_object_get(object, "schemata"), *item;
	const char *clos = json_str_at(object, "closID", NULL);
	struct plan_rdt *r = &p->rdt;
	size_t i;

	if (!object || json_is_null(object))
		return NULL;
	r->on = true;
	r->is_own = !clos || !clos[0];
	r->clos = r->is_own ? p->id : plan_text(p, clos);
	r->monitor = json_bool_at(object, "enableMonitoring", false);
	if (strcmp(r->clos, "/") != 0 &&
	    (strchr(r->clos, '/') || strchr(r->clos, '\n') || r->clos[0] == '.' || strlen(r->clos) > 255))
		return FAIL(ERR_INVALID, "linux.intelRdt.closID: \"%s\" is not the name of a class", r->clos);
	if (schemata && !json_is_null(schemata) && !json_is_array(schemata))
		return FAIL(ERR_INVALID, "linux.intelRdt.schemata: not an array");
	if (!(r->lines = arena_alloc(&p->arena, (json_array_size(schemata) + 2) * sizeof *r->lines)))
		return FAIL(ERR_LIMIT, "linux.intelRdt.schemata: too large");
	TRY(schema_line(r, p, json_object_get(object, "l3CacheSchema"), "l3CacheSchema", ""));
	TRY(schema_line(r, p, json_object_get(object, "memBwSchema"), "memBwSchema", "MB:"));
	r->n_checked = r->n_lines;
	json_array_foreach(schemata, i, item) TRY(schema_line(r, p, item, "schemata", ""));
	return NULL;
}

struct err *plan_policy(struct plan *p, const json_t *linux_part)
{
	TRY(personality_of(p, json_object_get(linux_part, "personality")));
	TRY(memory_policy(p, json_object_get(linux_part, "memoryPolicy")));
	if (p->is_exec)
		return NULL;
	TRY(rdt(p, json_object_get(linux_part, "intelRdt")));
	p->mount_label = plan_text(p, json_str_at(linux_part, "mountLabel", NULL));
	p->mount_context = "context";
	return time_offsets(p, json_object_get(linux_part, "timeOffsets"));
}
