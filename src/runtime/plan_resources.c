/*
 * plan_resources.c - linux.resources becomes lists of "file" -> "value" for control groups v1 and v2
 * (runtime-spec config-linux.md#control-groups).
 *
 * Both lists are always made; cgroup.c writes the one that fits the machine. What one version cannot do
 * stands in its list with value NULL and fails there by name. The order of a list is the order of writing.
 */
#include "base/own.h"
#include "runtime/plan.h"
#include <math.h>
#include <stdio.h>

static const char *text(struct plan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static const char *text(struct plan *p, const char *fmt, ...)
{
	auto_buf struct buf b = BUF(8192);
	va_list ap;

	va_start(ap, fmt);
	buf_vfmt(&b, fmt, ap);
	va_end(ap);
	return plan_text(p, buf_text(&b));
}

static void v1(struct plan *p, const char *key, const char *value)
{
	*vec_push(&p->cgroup_v1) = (struct plan_pair){ key, value };
}

static void v2(struct plan *p, const char *key, const char *value)
{
	*vec_push(&p->cgroup_v2) = (struct plan_pair){ key, value };
}

/* An integer of the object, in range; *out_has false when absent or null. */
struct want {
	const char *path, *name; /* "linux.resources.memory", "limit" */
	int64_t min, max;
};

static struct err *integer(const json_t *object, struct want w, bool *out_has, int64_t *out_value)
{
	const json_t *v = json_object_get(object, w.name);

	*out_has = v && !json_is_null(v);
	*out_value = 0;
	if (!*out_has)
		return NULL;
	if (!json_is_integer(v))
		return FAIL(ERR_INVALID, "%s.%s: not an integer", w.path, w.name);
	*out_value = json_integer_value(v);
	if (*out_value < w.min || *out_value > w.max)
		return FAIL(ERR_INVALID, "%s.%s: %lld is not in %lld to %lld", w.path, w.name,
			    (long long)*out_value, (long long)w.min, (long long)w.max);
	return NULL;
}

static const char *decimal(struct plan *p, int64_t n)
{
	return text(p, "%lld", (long long)n);
}

static const char *or_max(struct plan *p, int64_t n)
{
	return n < 0 ? "max" : decimal(p, n);
}

/* --- memory --- */

#define MEMORY "linux.resources.memory"

static struct err *swap(struct plan *p, const json_t *memory, bool has_limit, int64_t limit)
{
	bool has;
	int64_t total;

	TRY(integer(memory, (struct want){ MEMORY, "swap", -1, INT64_MAX }, &has, &total));
	if (has && total == 0 &&
	    !has_limit) /* alone it can only mean what it says; beside a limit docker's "not given" */
		v2(p, "memory.swap.max", "0");
	if (!has || total == 0)
		return NULL;
	if (total > 0 && (!has_limit || limit < 0))
		return FAIL(ERR_INVALID, MEMORY ".swap: needs a memory limit beside it");
	if (total > 0 && total < limit)
		return FAIL(ERR_INVALID,
			    MEMORY
			    ".swap: %lld is smaller than the memory limit %lld (it is memory plus swap)",
			    (long long)total, (long long)limit);
	v1(p, "memory/memory.memsw.limit_in_bytes", decimal(p, total));
	v2(p, "memory.swap.max", total < 0 ? "max" : decimal(p, total - limit));
	return NULL;
}

static struct err *memory_rest(struct plan *p, const json_t *memory)
{
	static const struct {
		const char *name, *key;
	} kernel[] = { { "kernel", "memory/memory.kmem.limit_in_bytes" },
		       { "kernelTCP", "memory/memory.kmem.tcp.limit_in_bytes" } };
	bool has;
	int64_t n;

	for (size_t i = 0; i < LEN(kernel); i++) {
		TRY(integer(memory, (struct want){ MEMORY, kernel[i].name, -1, INT64_MAX }, &has, &n));
		if (has && n != 0) /* v2 counts kernel memory in the one limit */
			v1(p, kernel[i].key, decimal(p, n));
	}
	TRY(integer(memory, (struct want){ MEMORY, "swappiness", 0, 100 }, &has, &n));
	if (has) {
		v1(p, "memory/memory.swappiness", decimal(p, n));
		v2(p, MEMORY ".swappiness", NULL);
	}
	if (json_bool_at(memory, "disableOOMKiller", false)) {
		v1(p, "memory/memory.oom_control", "1");
		v2(p, MEMORY ".disableOOMKiller", NULL);
	}
	return NULL; /* checkBeforeUpdate and useHierarchy: true of every new group */
}

static struct err *memory(struct plan *p, const json_t *object)
{
	bool has_limit, has;
	int64_t limit, n;

	TRY(integer(object, (struct want){ MEMORY, "limit", -1, INT64_MAX }, &has_limit, &limit));
	if (limit == 0)
		has_limit = false;
	if (has_limit) { /* before the swap limit: v1 refuses a sum below it */
		v1(p, "memory/memory.limit_in_bytes", decimal(p, limit));
		v2(p, "memory.max", or_max(p, limit));
	}
	TRY(swap(p, object, has_limit, limit));
	TRY(integer(object, (struct want){ MEMORY, "reservation", -1, INT64_MAX }, &has, &n));
	if (has && n != 0) {
		v1(p, "memory/memory.soft_limit_in_bytes", decimal(p, n));
		v2(p, "memory.low", or_max(p, n));
	}
	return memory_rest(p, object);
}

/* --- cpu --- */

#define CPU "linux.resources.cpu"

/*
 * shares 2 … 262144 (default 1024) to weight 1 … 10000 (default 100): the curve through these three points
 * that runc and crun agreed on in 2025, 10^(l²/612 + 125·l/612 - 7/34) with l = log2(shares).
 */
static int64_t weight_of_shares(int64_t shares)
{
	double l, w;

	if (shares <= 2)
		return 1;
	if (shares >= 262144)
		return 10000;
	l = log2((double)shares);
	w = ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0) - 1e-9);
	return (int64_t)w;
}

static struct err *cpu_quota(struct plan *p, const json_t *cpu)
{
	bool has_quota, has_period, has_burst;
	int64_t quota, period, burst;

	TRY(integer(cpu, (struct want){ CPU, "quota", -1, INT64_MAX }, &has_quota, &quota));
	TRY(integer(cpu, (struct want){ CPU, "period", 0, INT64_MAX }, &has_period, &period));
	TRY(integer(cpu, (struct want){ CPU, "burst", 0, INT64_MAX }, &has_burst, &burst));
	has_quota = has_quota && quota != 0;
	has_period = has_period && period != 0;
	if (has_period)
		v1(p, "cpu/cpu.cfs_period_us", decimal(p, period));
	if (has_quota)
		v1(p, "cpu/cpu.cfs_quota_us", decimal(p, quota));
	if (has_period)
		v2(p, "cpu.max", text(p, "%s %lld", has_quota ? or_max(p, quota) : "max", (long long)period));
	else if (has_quota) /* the period stays as it is */
		v2(p, "cpu.max", or_max(p, quota));
	if (has_burst) {
		v1(p, "cpu/cpu.cfs_burst_us", decimal(p, burst));
		v2(p, "cpu.max.burst", decimal(p, burst));
	}
	return NULL;
}

static struct err *cpu_realtime(struct plan *p, const json_t *cpu)
{
	static const struct {
		const char *name, *key, *path;
	} rt[] = { { "realtimePeriod", "cpu/cpu.rt_period_us", CPU ".realtimePeriod" },
		   { "realtimeRuntime", "cpu/cpu.rt_runtime_us", CPU ".realtimeRuntime" } };

	for (size_t i = 0; i < LEN(rt); i++) {
		bool has;
		int64_t n;

		TRY(integer(cpu, (struct want){ CPU, rt[i].name, -1, INT64_MAX }, &has, &n));
		if (has && n != 0) {
			v1(p, rt[i].key, decimal(p, n));
			v2(p, rt[i].path, NULL);
		}
	}
	return NULL;
}

static struct err *cpu(struct plan *p, const json_t *object)
{
	static const char *const sets[2][4] = { { "cpus", "cpuset/cpuset.cpus", "cpuset.cpus", CPU ".cpus" },
						{ "mems", "cpuset/cpuset.mems", "cpuset.mems",
						  CPU ".mems" } };
	bool has;
	int64_t n;

	TRY(integer(object, (struct want){ CPU, "idle", 0, 1 }, &has, &n));
	if (has) {
		v1(p, "cpu/cpu.idle", decimal(p, n));
		v2(p, "cpu.idle", decimal(p, n));
	}
	TRY(integer(object, (struct want){ CPU, "shares", 0, INT64_MAX }, &has, &n));
	if (has && n != 0) {
		v1(p, "cpu/cpu.shares", decimal(p, n));
		v2(p, "cpu.weight", decimal(p, weight_of_shares(n)));
	}
	TRY(cpu_quota(p, object));
	TRY(cpu_realtime(p, object));
	for (size_t i = 0; i < LEN(sets); i++) {
		const json_t *list = json_object_get(object, sets[i][0]);
		const char *value = json_string_value(list);

		if (!list || json_is_null(list))
			continue;
		if (!value || strspn(value, "0123456789,- ") != strlen(value))
			return FAIL(ERR_INVALID, "%s: not a list like \"0-3,7\"", sets[i][3]);
		if (value[0]) {
			v1(p, sets[i][1], plan_text(p, value));
			v2(p, sets[i][2], plan_text(p, value));
		}
	}
	return NULL;
}

/* --- block I/O --- */

#define BLOCK "linux.resources.blockIO"

static struct err *device(const json_t *item, const char *where, size_t i, int64_t out_dev[2])
{
	static const char *const names[2] = { "major", "minor" };

	for (int k = 0; k < 2; k++) {
		const json_t *n = json_object_get(item, names[k]);

		if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > UINT32_MAX)
			return FAIL(ERR_INVALID, "%s[%zu].%s: not a device number", where, i, names[k]);
		out_dev[k] = json_integer_value(n);
	}
	return NULL;
}

/* bfq's weight is 1 to 1000 as v1's; io.weight is 1 to 10000. dev: "8:0 " or "default ". */
static void v2_weight(struct plan *p, const char *dev, int64_t weight)
{
	long long wide = 1 + (weight - 10) * 9999 / 990;

	v2(p, "io.bfq.weight|io.weight",
	   text(p, "%s%lld|%s%lld", dev, (long long)weight, dev[0] ? dev : "default ", wide));
}

static struct err *block_weights(struct plan *p, const json_t *block)
{
	bool has;
	int64_t n, dev[2];
	json_t *item;
	size_t i;

	TRY(integer(block, (struct want){ BLOCK, "weight", 0, 1000 }, &has, &n));
	if (has && n != 0) {
		if (n < 10)
			return FAIL(ERR_INVALID, BLOCK ".weight: %lld is not in 10 to 1000", (long long)n);
		v1(p, "blkio/blkio.weight|blkio/blkio.bfq.weight",
		   text(p, "%lld|%lld", (long long)n, (long long)n));
		v2_weight(p, "", n);
	}
	TRY(integer(block, (struct want){ BLOCK, "leafWeight", 0, 1000 }, &has, &n));
	if (has && n != 0) {
		v1(p, "blkio/blkio.leaf_weight", decimal(p, n));
		v2(p, BLOCK ".leafWeight", NULL);
	}
	json_array_foreach(json_object_get(block, "weightDevice"), i, item)
	{
		const char *w;

		TRY(device(item, BLOCK ".weightDevice", i, dev));
		TRY(integer(item, (struct want){ BLOCK ".weightDevice", "weight", 0, 1000 }, &has, &n));
		w = text(p, "%lld:%lld %lld", (long long)dev[0], (long long)dev[1], (long long)n);
		if (has && n != 0) {
			v1(p, "blkio/blkio.weight_device|blkio/blkio.bfq.weight_device",
			   text(p, "%s|%s", w, w));
			v2_weight(p, text(p, "%lld:%lld ", (long long)dev[0], (long long)dev[1]), n);
		}
		TRY(integer(item, (struct want){ BLOCK ".weightDevice", "leafWeight", 0, 1000 }, &has, &n));
		if (has && n != 0) {
			v1(p, "blkio/blkio.leaf_weight_device",
			   text(p, "%lld:%lld %lld", (long long)dev[0], (long long)dev[1], (long long)n));
			v2(p, BLOCK ".weightDevice.leafWeight", NULL);
		}
	}
	return NULL;
}

static struct err *block_io(struct plan *p, const json_t *block)
{
	static const char *const rates[4][4] = {
		{ "throttleReadBpsDevice", "blkio/blkio.throttle.read_bps_device", "rbps",
		  BLOCK ".throttleReadBpsDevice" },
		{ "throttleWriteBpsDevice", "blkio/blkio.throttle.write_bps_device", "wbps",
		  BLOCK ".throttleWriteBpsDevice" },
		{ "throttleReadIOPSDevice", "blkio/blkio.throttle.read_iops_device", "riops",
		  BLOCK ".throttleReadIOPSDevice" },
		{ "throttleWriteIOPSDevice", "blkio/blkio.throttle.write_iops_device", "wiops",
		  BLOCK ".throttleWriteIOPSDevice" },
	};
	json_t *item;
	size_t i;

	TRY(block_weights(p, block));
	for (size_t k = 0; k < LEN(rates); k++) {
		json_array_foreach(json_object_get(block, rates[k][0]), i, item)
		{
			int64_t dev[2], n;
			bool has;

			TRY(device(item, rates[k][3], i, dev));
			TRY(integer(item, (struct want){ rates[k][3], "rate", 0, INT64_MAX }, &has, &n));
			if (!has)
				return FAIL(ERR_INVALID, "%s[%zu].rate is missing", rates[k][3], i);
			v1(p, rates[k][1],
			   text(p, "%lld:%lld %lld", (long long)dev[0], (long long)dev[1], (long long)n));
			v2(p, "io.max",
			   n ? text(p, "%lld:%lld %s=%lld", (long long)dev[0], (long long)dev[1], rates[k][2],
				    (long long)n)
			     : text(p, "%lld:%lld %s=max", (long long)dev[0], (long long)dev[1],
				    rates[k][2]));
		}
	}
	return NULL;
}

/* --- the small ones --- */

static struct err *pids(struct plan *p, const json_t *object)
{
	bool has;
	int64_t n;

	TRY(integer(object, (struct want){ "linux.resources.pids", "limit", INT64_MIN, INT64_MAX }, &has,
		    &n));
	if (has) {
		v1(p, "pids/pids.max", or_max(p, n));
		v2(p, "pids.max", or_max(p, n));
	}
	return NULL;
}

static struct err *huge_pages(struct plan *p, const json_t *list)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *size = json_str_at(item, "pageSize", "");
		size_t digits = strspn(size, "0123456789");
		bool has;
		int64_t n;

		if (!digits || digits > 8 ||
		    (strcmp(size + digits, "KB") && strcmp(size + digits, "MB") &&
		     strcmp(size + digits, "GB")))
			return FAIL(
			    ERR_INVALID,
			    "linux.resources.hugepageLimits[%zu].pageSize: \"%s\" is not like \"2MB\"", i,
			    size);
		TRY(integer(item, (struct want){ "linux.resources.hugepageLimits", "limit", 0, INT64_MAX },
			    &has, &n));
		if (!has)
			return FAIL(ERR_INVALID, "linux.resources.hugepageLimits[%zu].limit is missing", i);
		/* reservations first: a limit on faults alone would kill who reserved more; older kernels
		 * lack them */
		v1(p, text(p, "hugetlb/hugetlb.%s.rsvd.limit_in_bytes|", size), decimal(p, n));
		v1(p, text(p, "hugetlb/hugetlb.%s.limit_in_bytes", size), decimal(p, n));
		v2(p, text(p, "hugetlb.%s.rsvd.max|", size), decimal(p, n));
		v2(p, text(p, "hugetlb.%s.max", size), decimal(p, n));
	}
	return NULL;
}

static struct err *network(struct plan *p, const json_t *object)
{
	json_t *item;
	size_t i;
	bool has;
	int64_t n;

	TRY(integer(object, (struct want){ "linux.resources.network", "classID", 0, UINT32_MAX }, &has, &n));
	if (has && n != 0) {
		v1(p, "net_cls/net_cls.classid", decimal(p, n));
		v2(p, "linux.resources.network.classID", NULL);
	}
	json_array_foreach(json_object_get(object, "priorities"), i, item)
	{
		const char *name = json_str_at(item, "name", "");

		if (!name[0] || strlen(name) > 15 || strpbrk(name, " \n/"))
			return FAIL(ERR_INVALID, "linux.resources.network.priorities[%zu].name: \"%s\"", i,
				    name);
		TRY(integer(item,
			    (struct want){ "linux.resources.network.priorities", "priority", 0, UINT32_MAX },
			    &has, &n));
		v1(p, "net_prio/net_prio.ifpriomap", text(p, "%s %lld", name, (long long)n));
		v2(p, "linux.resources.network.priorities", NULL);
	}
	return NULL;
}

static struct err *rdma(struct plan *p, const json_t *object)
{
	const char *name;
	json_t *item;

	json_object_foreach((json_t *)(uintptr_t)object, name, item)
	{
		int64_t handles, objects;
		bool has_handles, has_objects;
		const char *value;

		if (!name[0] || strlen(name) > 64 || strpbrk(name, " \n|"))
			return FAIL(ERR_INVALID, "linux.resources.rdma: bad device name \"%s\"", name);
		TRY(integer(item, (struct want){ "linux.resources.rdma", "hcaHandles", 0, UINT32_MAX },
			    &has_handles, &handles));
		TRY(integer(item, (struct want){ "linux.resources.rdma", "hcaObjects", 0, UINT32_MAX },
			    &has_objects, &objects));
		if (!has_handles && !has_objects)
			return FAIL(ERR_INVALID, "linux.resources.rdma.%s: neither hcaHandles nor hcaObjects",
				    name);
		value = text(p, "%s%s%s%s%s", name, has_handles ? " hca_handle=" : "",
			     has_handles ? decimal(p, handles) : "", has_objects ? " hca_object=" : "",
			     has_objects ? decimal(p, objects) : "");
		v1(p, "rdma/rdma.max", value);
		v2(p, "rdma.max", value);
	}
	return NULL;
}

static struct err *unified(struct plan *p, const json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		/* SECURITY: a file of the container's own group, and none that moves processes or changes the
		 * tree */
		if (!key[0] || key[0] == '.' || strlen(key) > 100 || strpbrk(key, "/|\n"))
			return FAIL(ERR_INVALID, "linux.resources.unified: \"%s\" is not a file name", key);
		if (!strchr(key, '.'))
			return FAIL(ERR_INVALID,
				    "linux.resources.unified: the specified key has not the form "
				    "CONTROLLER.VALUE `%s`",
				    key);
		if (!json_is_string(value) || strchr(json_string_value(value), '|'))
			return FAIL(ERR_INVALID, "linux.resources.unified.%s: not a plain string", key);
		v2(p, plan_text(p, key), plan_text(p, json_string_value(value)));
		v1(p, "linux.resources.unified", NULL);
	}
	return NULL;
}

/* --- devices --- */

#define DEVICES "linux.resources.devices"

static struct err *device_number(const json_t *item, const char *name, size_t i, int64_t *out_n)
{
	const json_t *v = json_object_get(item, name);

	*out_n = -1;
	if (!v || json_is_null(v))
		return NULL;
	if (!json_is_integer(v) || json_integer_value(v) > UINT32_MAX || json_integer_value(v) < -1)
		return FAIL(ERR_INVALID, DEVICES "[%zu].%s: not a device number", i, name);
	*out_n = json_integer_value(v);
	return NULL;
}

static struct err *device_rule(struct plan *p, const json_t *item, size_t i)
{
	const json_t *allow = json_object_get(item, "allow");
	const char *type = json_str_at(item, "type", "a"), *access = json_str_at(item, "access", "");
	struct plan_cgroup_rule r = { .allow = json_is_true(allow) };
	char clean[4] = "";
	size_t n = 0;

	if (!json_is_boolean(allow))
		return FAIL(ERR_INVALID, DEVICES "[%zu].allow: not true or false", i);
	if (!type[0])
		type = "a";
	if (strlen(type) != 1 || !strchr("abcu", type[0]))
		return FAIL(ERR_INVALID, DEVICES "[%zu].type: unknown \"%s\"", i, type);
	r.type = type[0] == 'u' ? 'c' : type[0];
	TRY(device_number(item, "major", i, &r.major));
	TRY(device_number(item, "minor", i, &r.minor));
	if (strspn(access, "rwm") != strlen(access))
		return FAIL(ERR_INVALID, DEVICES "[%zu].access: \"%s\" is not made of r, w and m", i, access);
	for (const char *c = "rwm"; *c; c++)
		if (!access[0] || strchr(access, *c))
			clean[n++] = *c;
	r.access = plan_text(p, clean);
	*vec_push(&p->device_rules) = r;
	return NULL;
}

/* The devices every container has (config-linux.md#default-devices) can be used whatever the list says. */
static void default_devices(struct plan *p)
{
	static const struct plan_cgroup_rule always[] = {
		{ true, 'c', -1, -1, "m" },    { true, 'b', -1, -1, "m" }, { true, 'c', 1, 3, "rwm" },
		{ true, 'c', 1, 5, "rwm" },    { true, 'c', 1, 7, "rwm" }, { true, 'c', 1, 8, "rwm" },
		{ true, 'c', 1, 9, "rwm" },    { true, 'c', 5, 0, "rwm" }, { true, 'c', 5, 2, "rwm" },
		{ true, 'c', 136, -1, "rwm" },
	};

	for (size_t i = 0; i < LEN(always); i++)
		*vec_push(&p->device_rules) = always[i];
}

static struct err *devices(struct plan *p, const json_t *list)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item) TRY(device_rule(p, item, i));
	if (json_array_size(list))
		default_devices(p);
	return NULL;
}

struct err *plan_resources(struct plan *p, const json_t *resources)
{
	static const struct {
		const char *name;
		struct err *(*read)(struct plan *p, const json_t *part);
		bool is_array;
	} parts[] = {
		{ "cpu", cpu, false },         { "memory", memory, false },
		{ "pids", pids, false },       { "blockIO", block_io, false },
		{ "network", network, false }, { "hugepageLimits", huge_pages, true },
		{ "rdma", rdma, false },       { "unified", unified, false },
		{ "devices", devices, true },
	};

	if (resources && !json_is_object(resources) && !json_is_null(resources))
		return FAIL(ERR_INVALID, "linux.resources: not an object");
	for (size_t i = 0; i < LEN(parts); i++) {
		const json_t *part = json_object_get(resources, parts[i].name);

		if (!part || json_is_null(part))
			continue;
		if (parts[i].is_array ? !json_is_array(part) : !json_is_object(part))
			return FAIL(ERR_INVALID, "linux.resources.%s: not an %s", parts[i].name,
				    parts[i].is_array ? "array" : "object");
		TRY(parts[i].read(p, part));
	}
	for (size_t i = 0; i < p->cgroup_v1.n; i++)
		if (!p->cgroup_v1.p[i].key)
			return FAIL(ERR_LIMIT, "linux.resources: too large");
	return NULL;
}
