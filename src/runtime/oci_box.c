/* oci_box.c - a container's directory of the OCI command line; see oci.h. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "runtime/oci.h"
#include "state/record.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>

enum { CONFIG_MAX = 4 << 20 };

static const char *const names[] = { "creating", "created", "running", "paused", "stopped" };

const char *oci_status_name(enum oci_status s)
{
	return names[s];
}

void oci_box_fini(struct oci_box *b)
{
	free(b->id);
	free(b->path);
	if (b->dir_fd >= 0) /* by word: a container that waits for its start still has a copy of the descriptor */
		(void)sys_flock(b->dir_fd, LOCK_UN);
	own_close(&b->dir_fd);
	json_decref(b->state);
	json_decref(b->config);
	*b = (struct oci_box){ .dir_fd = -1 };
}

/* Field 22 of /proc/PID/stat; the name in field 2 may hold anything, so counting begins behind its last ')'. */
uint64_t oci_pid_start(pid_t pid)
{
	char path[64], text[1024], *at;
	auto_fd int fd = -1;
	unsigned long long start = 0;
	char state = 0;
	ssize_t n;

	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = pid > 0 ? sys_open(path, O_RDONLY, 0) : -1;
	n = fd < 0 ? -1 : sys_read(fd, text, sizeof text - 1);
	if (n <= 0)
		return 0;
	text[n] = 0;
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
			  &start) != 2 ||
	    state == 'Z' || state == 'X')
		return 0;
	return start;
}

static FALLIBLE check_id(const char *id)
{
	size_t n = strlen(id);

	if (!n || n > 255 || !strcmp(id, ".") || !strcmp(id, ".."))
		return FAIL(ERR_INVALID, "invalid container ID \"%.255s\"", id);
	for (const char *c = id; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("_+-.", *c)))
			return FAIL(ERR_INVALID, "invalid container ID \"%s\": only letters, digits and _+-. are allowed", id);
	return NULL;
}

static FALLIBLE make_root(const char *root)
{
	auto_free char *path = xstrdup(root);

	for (char *c = path + 1; *c; c++)
		if (*c == '/') {
			*c = 0;
			(void)sys_mkdir(AT_FDCWD, path, 0711);
			*c = '/';
		}
	{
		int r = sys_mkdir(AT_FDCWD, path, 0700);

		return r < 0 && r != -EEXIST ? FAIL_OS(-r, "make %s", root) : NULL;
	}
}

static FALLIBLE lock(struct oci_box *b)
{
	int r;

	if ((b->dir_fd = sys_open_dir(b->path)) < 0)
		return b->dir_fd == -ENOENT ? FAIL(ERR_NOT_FOUND, "container \"%s\" does not exist", b->id) :
					      FAIL_OS(-b->dir_fd, "open %s", b->path);
	r = sys_flock(b->dir_fd, LOCK_EX);
	return r < 0 ? FAIL_OS(-r, "lock container \"%s\"", b->id) : NULL;
}

FALLIBLE oci_box_new(const struct oci *o, const char *id, struct oci_box *out_box)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
	int r;

	TRY(check_id(id));
	TRY(make_root(o->root));
	b.id = xstrdup(id);
	b.path = xasprintf("%s/%s", o->root, id);
	r = sys_mkdir(AT_FDCWD, b.path, 0711);
	if (r == -EEXIST)
		return FAIL(ERR_EXISTS, "container with given ID already exists: \"%s\"", id);
	if (r < 0)
		return FAIL_OS(-r, "make %s", b.path);
	TRY(lock(&b));
	*out_box = b;
	b = (struct oci_box){ .dir_fd = -1 };
	return NULL;
}

static FALLIBLE read_json(struct oci_box *b, const char *name, json_t **out)
{
	auto_fd int fd = sys_openat(b->dir_fd, name, O_RDONLY, 0);

	if (fd < 0)
		return FAIL(ERR_NOT_FOUND, "container \"%s\" does not exist (%s is missing)", b->id, name);
	return json_read(fd, name, CONFIG_MAX, out);
}

FALLIBLE oci_box_open(const struct oci *o, const char *id, struct oci_box *out_box)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };

	TRY(check_id(id));
	b.id = xstrdup(id);
	b.path = xasprintf("%s/%s", o->root, id);
	TRY(lock(&b));
	TRY(read_json(&b, "state.json", &b.state));
	TRY(read_json(&b, "config.json", &b.config));
	b.pid = (pid_t)json_int_at(b.state, "pid", 0);
	*out_box = b;
	b = (struct oci_box){ .dir_fd = -1 };
	return NULL;
}

FALLIBLE oci_box_save(struct oci_box *b)
{
	auto_buf struct buf state = BUF(1 << 20), config = BUF(CONFIG_MAX);

	json_print(b->state, &state);
	TRY(buf_check(&state, "state"));
	json_print(b->config, &config);
	TRY(buf_check(&config, "configuration"));
	TRY(record_write_volatile(b->dir_fd, "config.json", config.data, config.n));
	return record_write_volatile(b->dir_fd, "state.json", state.data, state.n);
}

FALLIBLE oci_box_remove(struct oci_box *b)
{
	int r = fs_remove_tree(AT_FDCWD, b->path);

	return r < 0 ? FAIL_OS(-r, "remove %s", b->path) : NULL;
}

enum oci_status oci_box_status(const struct oci_box *b)
{
	struct stat st;
	bool frozen = false;

	if (oci_pid_start(b->pid) != (uint64_t)json_int_at(b->state, "pidStart", 0) || b->pid <= 0)
		return OCI_STOPPED;
	if (sys_fstatat(b->dir_fd, "start", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return OCI_CREATED;
	err_free(runtime_frozen(oci_box_cgroup(b), &frozen));
	return frozen ? OCI_PAUSED : OCI_RUNNING;
}

const char *oci_box_cgroup(const struct oci_box *b)
{
	return json_str_at(b->state, "cgroup", "");
}

json_t *oci_box_document(const struct oci_box *b)
{
	enum oci_status s = oci_box_status(b);
	const json_t *annotations = json_object_get(b->config, "annotations");
	json_t *doc = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s}", "ociVersion", "1.0.2", "id", b->id, "pid",
				s == OCI_STOPPED ? 0 : (int)b->pid, "status", oci_status_name(s), "bundle",
				json_str_at(b->state, "bundle", ""), "rootfs", json_str_at(b->state, "rootfs", ""), "created",
				json_str_at(b->state, "created", ""));

	(void)json_object_set_new(doc, "owner", json_string("root"));
	if (annotations)
		(void)json_object_set_new(doc, "annotations", json_deep_copy(annotations));
	return doc;
}

FALLIBLE oci_box_plan(const struct oci *o, const struct oci_box *b, struct plan **out_plan)
{
	struct plan_opts opts = { .id = b->id, .bundle = json_str_at(b->state, "bundle", ""),
				  .no_pivot = json_bool_at(b->state, "noPivot", false),
				  .no_keyring = json_bool_at(b->state, "noKeyring", false),
				  .cgroup_path = oci_box_cgroup(b) };

	(void)o;
	return plan_compile(b->config, &opts, out_plan);
}
