/* devices.c - devices given to a container: --device, and for a privileged one all that stand in the host's /dev. */
#include "base/mem.h"
#include "base/own.h"
#include "engine/create_check.h"
#include "engine/spec.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/sysmacros.h>

static void add_device(json_t *devices, const char *path, const struct stat *st)
{
	(void)json_array_append_new(devices, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "path", path, "type",
						       S_ISBLK(st->st_mode) ? "b" : "c", "major",
						       (json_int_t)major(st->st_rdev), "minor", (json_int_t)minor(st->st_rdev),
						       "fileMode", (json_int_t)(st->st_mode & 0777), "uid",
						       (json_int_t)st->st_uid, "gid", (json_int_t)st->st_gid));
}

static FALLIBLE one_device(const json_t *item, json_t *devices, json_t *rules)
{
	const char *host = json_str_at(item, "PathOnHost", ""), *inside = json_str_at(item, "PathInContainer", host);
	const char *access = json_str_at(item, "CgroupPermissions", "rwm");
	struct stat st;
	int r = sys_fstatat(AT_FDCWD, host, &st, 0);

	if (r < 0)
		return FAIL_OS(-r, "error gathering device information while adding custom device \"%s\"", host);
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return FAIL(ERR_INVALID, "error gathering device information while adding custom device \"%s\": not a device node",
			    host);
	if (!*access || strspn(access, "rwm") != strlen(access))
		return FAIL(ERR_INVALID, "invalid device mode: %s", access);
	add_device(devices, *inside ? inside : host, &st);
	(void)json_array_append_new(rules, json_pack("{s:b, s:s, s:I, s:I, s:s}", "allow", true, "type",
						     S_ISBLK(st.st_mode) ? "b" : "c", "major", (json_int_t)major(st.st_rdev),
						     "minor", (json_int_t)minor(st.st_rdev), "access", access));
	return NULL;
}

struct scan {
	json_t *devices;
	int dir_fd;
	const char *dir;
	int depth;
};

static int scan_entry(void *ctx, const char *name)
{
	static const char *const own[] = { "pts", "shm", "mqueue", "console", "ptmx", "fd", "stdin", "stdout", "stderr" };
	struct scan *s = ctx;
	auto_free char *path = xasprintf("%s/%s", s->dir, name);
	struct stat st;

	for (size_t i = 0; i < LEN(own); i++)
		if (s->depth == 0 && strcmp(own[i], name) == 0)
			return 0;
	if (sys_fstatat(s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0; /* gone meanwhile */
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		add_device(s->devices, path, &st);
	if (S_ISDIR(st.st_mode) && s->depth < 4) {
		auto_fd int fd = sys_openat(s->dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
		struct scan below = { s->devices, fd, path, s->depth + 1 };

		if (fd >= 0)
			(void)sys_each_entry(fd, scan_entry, &below);
	}
	return 0;
}

FALLIBLE spec_devices(const json_t *doc, bool privileged, json_t *devices, json_t *rules)
{
	size_t i;
	json_t *item;

	if (privileged) {
		auto_fd int fd = sys_open_dir("/dev");
		struct scan s = { devices, fd, "/dev", 0 };

		if (fd >= 0)
			(void)sys_each_entry(fd, scan_entry, &s);
	}
	json_array_foreach (json_at(doc, "HostConfig.Devices"), i, item)
		TRY(one_device(item, devices, rules));
	json_array_foreach (json_at(doc, "HostConfig.DeviceCgroupRules"), i, item) {
		json_t *rule = NULL;

		TRY(create_device_rule(json_is_string(item) ? json_string_value(item) : "", &rule));
		(void)json_array_append_new(rules, rule);
	}
	return NULL;
}

static FALLIBLE block_list(const json_t *list, const char *from, const char *to, json_t *out)
{
	size_t i;
	json_t *item;

	json_array_foreach (list, i, item) {
		const char *path = json_str_at(item, "Path", "");
		struct stat st;
		int r = sys_fstatat(AT_FDCWD, path, &st, 0);

		if (r < 0 || !S_ISBLK(st.st_mode))
			return FAIL_OS(r < 0 ? -r : ENOTBLK, "limit of device %s", path);
		(void)json_array_append_new(out, json_pack("{s:I, s:I, s:I}", "major", (json_int_t)major(st.st_rdev), "minor",
							   (json_int_t)minor(st.st_rdev), to, (json_int_t)json_int_at(item, from, 0)));
	}
	return NULL;
}

FALLIBLE spec_block_io(const json_t *doc, json_t **out_object)
{
	static const char *const lists[][4] = { { "BlkioWeightDevice", "weightDevice", "Weight", "weight" },
						{ "BlkioDeviceReadBps", "throttleReadBpsDevice", "Rate", "rate" },
						{ "BlkioDeviceWriteBps", "throttleWriteBpsDevice", "Rate", "rate" },
						{ "BlkioDeviceReadIOps", "throttleReadIOPSDevice", "Rate", "rate" },
						{ "BlkioDeviceWriteIOps", "throttleWriteIOPSDevice", "Rate", "rate" } };
	const json_t *h = json_object_get(doc, "HostConfig");
	auto_json json_t *block = json_object();
	int64_t weight = json_int_at(h, "BlkioWeight", 0);

	if (weight)
		(void)json_object_set_new(block, "weight", json_integer(weight));
	for (size_t i = 0; i < LEN(lists); i++) {
		const json_t *list = json_object_get(h, lists[i][0]);
		json_t *out = json_array();

		if (!json_array_size(list)) {
			json_decref(out);
			continue;
		}
		(void)json_object_set_new(block, lists[i][1], out);
		TRY(block_list(list, lists[i][2], lists[i][3], out));
	}
	*out_object = TAKE(block);
	return NULL;
}
