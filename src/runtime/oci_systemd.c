/*
 * oci_systemd.c - transient units; see oci_systemd.h. Properties as runc sets them, by version of control
 * groups.
 *
 * The limits are given to systemd although we write them ourselves, too: with a later daemon-reload it writes
 * what it knows.
 */
#include "runtime/oci_systemd.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "runtime/cgroup.h"
#include "runtime/oci_dbus.h"
#include "sys/cgroup.h"
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <unistd.h>

enum { PROPERTIES_MAX = 1 << 18, JOB_MS = 30000 };

FALLIBLE oci_slice_path(const char *slice, char **out_path)
{
	auto_buf struct buf b = BUF(4096);
	struct sv name = sv_of(slice);

	if (!sv_ends(name, SV(".slice")) || strchr(slice, '/') || strstr(slice, "--") ||
	    (slice[0] == '-' && strcmp(slice, "-.slice") != 0) ||
	    sv_ends(name, SV("-.slice")) != (strcmp(slice, "-.slice") == 0) || name.n == strlen(".slice"))
		return FAIL(ERR_INVALID, "\"%s\" is no name of a systemd slice", slice);
	for (size_t i = 0; slice[0] != '-' && i + 6 <= name.n; i++)
		if (slice[i] == '-' || i + 6 == name.n)
			buf_fmt(&b, "%s%.*s.slice", b.n ? "/" : "", (int)i, slice);
	TRY(buf_check(&b, "slice"));
	*out_path = buf_take(&b);
	return NULL;
}

/* ---- properties ---- */

static FALLIBLE is_v2(bool *out)
{
	long magic = sys_fs_magic(CGROUP_ROOT);

	*out = magic == CGROUP2_SUPER_MAGIC;
	return magic < 0 ? FAIL_OS((int)-magic, "look at %s", CGROUP_ROOT) : NULL;
}

static void prop(struct dbus_out *o, const char *name, const char *signature)
{
	dbus_align(o, 8);
	dbus_put_str(o, name);
	dbus_put_sig(o, signature);
}

static void prop_bool(struct dbus_out *o, const char *name, bool on)
{
	prop(o, name, "b");
	dbus_put_u32(o, on);
}

static void prop_str(struct dbus_out *o, const char *name, const char *value)
{
	prop(o, name, "s");
	dbus_put_str(o, value);
}

static void prop_u64(struct dbus_out *o, const char *name, uint64_t value)
{
	prop(o, name, "t");
	dbus_put_u64(o, value);
}

/* A limit of linux.resources; -1 is none, which systemd calls the largest number. */
static void limit(struct dbus_out *o, const json_t *resources, const char *path, const char *name)
{
	const json_t *v = json_at(resources, path);

	if (json_is_integer(v) && json_integer_value(v) != 0)
		prop_u64(o, name, json_integer_value(v) < 0 ? UINT64_MAX : (uint64_t)json_integer_value(v));
}

/* "0-2,7" as systemd's bit mask of bytes. */
static FALLIBLE cpu_list(struct dbus_out *o, const json_t *resources, const char *path, const char *name)
{
	struct sv rest = sv_of(json_str_at(resources, path, ""));
	unsigned char bits[1024] = { 0 };
	struct dbus_mark m;
	size_t n = 0;

	if (!rest.n)
		return NULL;
	while (rest.n) {
		struct sv range = sv_cut(&rest, ','), first = sv_cut(&range, '-');
		uint64_t from, to;

		TRY(num_parse(sv_trim(first), 10, 0, sizeof bits * 8 - 1, &from));
		to = from;
		if (range.n)
			TRY(num_parse(sv_trim(range), 10, from, sizeof bits * 8 - 1, &to));
		for (uint64_t c = from; c <= to; c++)
			bits[c / 8] |= (unsigned char)(1u << c % 8);
		n = to / 8 + 1 > n ? to / 8 + 1 : n;
	}
	prop(o, name, "ay");
	m = dbus_array(o, 1);
	buf_add(&o->b, bits, n);
	dbus_array_end(o, m);
	return NULL;
}

static void cpu_quota(struct dbus_out *o, const json_t *resources)
{
	int64_t quota = json_int_at(resources, "cpu.quota", 0),
		period = json_int_at(resources, "cpu.period", 0);
	uint64_t per_second = UINT64_MAX;

	if (!quota && !period)
		return;
	if (quota > 0) { /* systemd knows whole 10 ms of a second only: rounded up, as by runc */
		per_second = (uint64_t)((__int128)quota * 1000000 / (period > 0 ? period : 100000));
		per_second = (per_second + 9999) / 10000 * 10000;
	}
	if (period > 0)
		prop_u64(o, "CPUQuotaPeriodUSec", (uint64_t)period);
	prop_u64(o, "CPUQuotaPerSecUSec", per_second);
}

static FALLIBLE limits(struct dbus_out *o, const json_t *resources)
{
	bool v2;
	int64_t shares = json_int_at(resources, "cpu.shares", 0),
		memory = json_int_at(resources, "memory.limit", 0),
		swap = json_int_at(resources, "memory.swap", 0);

	if (!resources)
		return NULL;
	TRY(is_v2(&v2));
	limit(o, resources, "memory.limit", v2 ? "MemoryMax" : "MemoryLimit");
	limit(o, resources, "pids.limit", "TasksMax");
	limit(o, resources, "blockIO.weight", v2 ? "IOWeight" : "BlockIOWeight");
	cpu_quota(o, resources);
	if (!v2) {
		limit(o, resources, "cpu.shares", "CPUShares");
		return NULL;
	}
	limit(o, resources, "memory.reservation", "MemoryLow");
	if (swap < 0 || (swap > 0 && memory > 0 && swap >= memory))
		prop_u64(o, "MemorySwapMax", swap < 0 ? UINT64_MAX : (uint64_t)(swap - memory));
	if (shares > 0) /* 2…262144 to 1…10000, as in the specification of the kernel's unified hierarchy */
		prop_u64(o, "CPUWeight", shares < 2 ? 1 : 1 + (uint64_t)(shares - 2) * 9999 / 262142);
	TRY(cpu_list(o, resources, "cpu.cpus", "AllowedCPUs"));
	return cpu_list(o, resources, "cpu.mems", "AllowedMemoryNodes");
}

/* ---- org.systemd.property.NAME: a value as GVariant prints it ---- */

static bool unquote(struct sv text, char **out)
{
	if (text.n < 2 || (text.p[0] != '\'' && text.p[0] != '"') || text.p[text.n - 1] != text.p[0] ||
	    memchr(text.p, '\\', text.n))
		return false;
	*out = xstrndup(text.p + 1, text.n - 2);
	return true;
}

static FALLIBLE strings(struct dbus_out *o, const char *name, struct sv list)
{
	struct dbus_mark m;

	prop(o, name, "as");
	m = dbus_array(o, 4);
	while (list.n) {
		auto_free char *one = NULL;

		if (!unquote(sv_trim(sv_cut(&list, ',')), &one))
			return FAIL(ERR_INVALID, "a list of quoted words is needed");
		dbus_put_str(o, one);
	}
	dbus_array_end(o, m);
	return NULL;
}

/* "uint64 5", "int32 -1", "5". XSec (systemd's unit files) becomes XUSec, as by runc. */
static FALLIBLE number(struct dbus_out *o, const char *name, struct sv text)
{
	static const struct {
		const char *word, *signature;
	} types[] = {
		{ "uint32 ", "u" }, { "uint64 ", "t" }, { "int32 ", "i" }, { "int64 ", "x" }, { "", "i" }
	};
	size_t n = strlen(name);
	auto_free char *usec =
	    n > 3 && strcmp(name + n - 3, "Sec") == 0 && !(n > 4 && strcmp(name + n - 4, "USec") == 0)
		? xasprintf("%.*sUSec", (int)n - 3, name)
		: NULL;
	int64_t v;
	size_t i = 0;

	while (!sv_starts(text, sv_of(types[i].word)))
		i++;
	TRY(num_parse_signed(sv_trim(sv_skip(text, strlen(types[i].word))), INT64_MIN, INT64_MAX, &v));
	if (usec) {
		prop_u64(o, usec, (uint64_t)v * 1000000);
		return NULL;
	}
	prop(o, name, types[i].signature);
	if (types[i].signature[0] == 't' || types[i].signature[0] == 'x')
		dbus_put_u64(o, (uint64_t)v);
	else
		dbus_put_u32(o, (uint32_t)v);
	return NULL;
}

static FALLIBLE property(struct dbus_out *o, const char *name, const char *value)
{
	struct sv text = sv_trim(sv_of(value));
	auto_free char *word = NULL;

	if (sv_is(text, "true") || sv_is(text, "false"))
		prop_bool(o, name, sv_is(text, "true"));
	else if (unquote(text, &word))
		prop_str(o, name, word);
	else if (sv_is(text, "@as []"))
		return strings(o, name, (struct sv){ 0 });
	else if (sv_starts(text, SV("[")) && sv_ends(text, SV("]")))
		return strings(o, name, sv_from(text.p + 1, text.n - 2));
	else
		return number(o, name, text);
	return NULL;
}

static FALLIBLE annotated(struct dbus_out *o, const json_t *annotations)
{
	static const char head[] = "org.systemd.property.";
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)annotations, key, v)
	{
		struct err *e;

		if (strncmp(key, head, sizeof head - 1) != 0 || !json_is_string(v))
			continue;
		e = property(o, key + sizeof head - 1, json_string_value(v));
		if (e)
			return err_ctx(e, "annotation %s: \"%s\"", key, json_string_value(v));
	}
	return NULL;
}

static FALLIBLE unit_properties(struct dbus_out *o, const struct oci_unit *u)
{
	static const char *const accounting[] = { "MemoryAccounting", "CPUAccounting", "TasksAccounting",
						  NULL };
	bool is_slice = sv_ends(sv_of(u->name), SV(".slice"));
	auto_free char *about = xasprintf("hoy container %s", u->id);
	struct dbus_mark m;
	bool v2;

	prop_str(o, "Description", about);
	if (is_slice) {
		prop(o, "Wants", "as");
		m = dbus_array(o, 4);
		dbus_put_str(o, u->slice);
		dbus_array_end(o, m);
	} else {
		prop_str(o, "Slice", u->slice);
		prop_bool(o, "Delegate", true);
		prop(o, "PIDs", "au");
		m = dbus_array(o, 4);
		dbus_put_u32(o, (uint32_t)u->pid);
		dbus_array_end(o, m);
	}
	prop_bool(o, "DefaultDependencies", false);
	for (size_t i = 0; accounting[i]; i++)
		prop_bool(o, accounting[i], true);
	TRY(is_v2(&v2));
	prop_bool(o, v2 ? "IOAccounting" : "BlockIOAccounting", true);
	TRY(limits(o, u->resources));
	return annotated(o, u->annotations);
}

/* ---- calls ---- */

static FALLIBLE wait_job(struct dbus *d, const char *job, const char *unit)
{
	struct dbus_in m = { 0 };
	auto_free char *result = NULL;

	while (!result) {
		struct err *e = dbus_signal(d, "JobRemoved", JOB_MS, &m);
		const char *path;

		if (e) {
			dbus_in_fini(&m);
			return err_ctx(e, "unit %s", unit);
		}
		(void)dbus_get_u32(&m);
		path = dbus_get_str(&m);
		if (strcmp(path, job) == 0) {
			(void)dbus_get_str(&m);
			result = xstrdup(dbus_get_str(&m));
		}
		dbus_in_fini(&m);
	}
	return strcmp(result, "done") == 0 ? NULL
					   : FAIL(ERR_UNAVAILABLE, "systemd: unit %s: %s", unit, result);
}

/* Calls and waits for the job that comes back. */
static FALLIBLE run_job(struct dbus *d, const char *member, const char *signature,
			const struct dbus_out *args, const char *unit)
{
	struct dbus_in reply = { 0 };
	auto_free char *path = NULL;
	struct err *e = dbus_call(d, member, signature, args, &reply);

	if (!e)
		path = xstrdup(dbus_get_str(&reply));
	dbus_in_fini(&reply);
	return e ? e : wait_job(d, path, unit);
}

static FALLIBLE one_name(struct dbus *d, const char *member, const char *name, const char *mode)
{
	struct dbus_out args = { BUF(4096) };
	struct dbus_in reply = { 0 };
	struct err *e;

	dbus_put_str(&args, name);
	if (mode)
		dbus_put_str(&args, mode);
	e = mode ? run_job(d, member, "ss", &args, name) : dbus_call(d, member, "s", &args, &reply);
	dbus_in_fini(&reply);
	buf_fini(&args.b);
	return e;
}

/* A stopped unit that failed stays known, and its name taken. */
static FALLIBLE forget_failed(struct dbus *d, const char *name)
{
	struct err *e = one_name(d, "ResetFailedUnit", name, NULL);

	err_free(e); /* the usual case: it did not fail, or is gone */
	return NULL;
}

static FALLIBLE start(struct dbus *d, const struct oci_unit *u)
{
	struct dbus_out args = { BUF(PROPERTIES_MAX) };
	struct dbus_mark m;
	struct err *e;

	dbus_put_str(&args, u->name);
	dbus_put_str(&args, "replace");
	m = dbus_array(&args, 8);
	e = unit_properties(&args, u);
	dbus_array_end(&args, m);
	m = dbus_array(&args, 8); /* no auxiliary units */
	dbus_array_end(&args, m);
	if (!e)
		e = buf_check(&args.b, "unit properties");
	if (!e)
		e = run_job(d, "StartTransientUnit", "ssa(sv)a(sa(sv))", &args, u->name);
	buf_fini(&args.b);
	return e;
}

FALLIBLE oci_unit_start(const struct oci_unit *u)
{
	CLEANUP(dbus_close) struct dbus d = DBUS;
	struct err *e;

	TRY(dbus_open(&d, geteuid() != 0));
	e = start(&d, u);
	if (e && e->kind == ERR_EXISTS) {
		err_free(e);
		TRY(forget_failed(&d, u->name));
		e = start(&d, u);
	}
	return e;
}

FALLIBLE oci_unit_update(const char *name, const json_t *resources)
{
	CLEANUP(dbus_close) struct dbus d = DBUS;
	struct dbus_out args = { BUF(PROPERTIES_MAX) };
	struct dbus_in reply = { 0 };
	struct dbus_mark m;
	struct err *e;

	TRY(dbus_open(&d, geteuid() != 0));
	dbus_put_str(&args, name);
	dbus_put_u32(&args, true); /* for this run of the unit only */
	m = dbus_array(&args, 8);
	e = limits(&args, resources);
	dbus_array_end(&args, m);
	if (!e)
		e = dbus_call(&d, "SetUnitProperties", "sba(sv)", &args, &reply);
	dbus_in_fini(&reply);
	buf_fini(&args.b);
	return e;
}

FALLIBLE oci_unit_stop(const char *name)
{
	CLEANUP(dbus_close) struct dbus d = DBUS;
	struct err *e;

	TRY(dbus_open(&d, geteuid() != 0));
	e = one_name(&d, "StopUnit", name, "replace");
	if (e && e->kind != ERR_NOT_FOUND)
		return e;
	err_free(e);
	return forget_failed(&d, name);
}
