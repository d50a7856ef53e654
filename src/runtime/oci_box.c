/* oci_box.c - a container's directory of the OCI command line; see oci.h. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "runtime/oci.h"
#include "runtime/pid.h"
#include "state/record.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <regex.h>
#include <stdio.h>
#include <sys/file.h>

#define STATUS "status"

enum { ROOT_TRIES = 100 };

static const char *const statuses[] = { "created", "running", "paused", "stopped" };

const char *oci_status_name(enum oci_status s)
{
	return statuses[s];
}

void oci_box_fini(struct oci_box *b)
{
	free(b->id);
	free(b->path);
	if (b->locked) /* by word: a container that waits for its start still has a copy of the descriptor */
		(void)sys_flock(b->dir_fd, LOCK_UN);
	own_close(&b->dir_fd);
	json_release(b->state);
	json_release(b->config);
	buf_fini(&b->text);
	free(b->groups);
	*b = OCI_BOX;
}

uint64_t oci_pid_start(pid_t pid)
{
	struct pid_stat st;

	return pid > 0 && pid_stat(pid, &st) == 0 && st.state != 'Z' && st.state != 'X' ? st.start : 0;
}

static FALLIBLE check_id(const char *id)
{
	size_t n = strlen(id);

	if (!n || n > 255)
		return FAIL(ERR_INVALID, "invalid container ID: 1 to 255 characters are needed");
	if (id[0] == '.')
		return FAIL(ERR_INVALID, "invalid container ID \"%s\": it begins with a dot", id);
	for (const char *c = id; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
		      strchr("_+-.", *c)))
			return FAIL(ERR_INVALID,
				    "invalid character '%c' in container ID \"%s\": letters, digits and _+-. "
				    "are allowed",
				    *c, id);
	return NULL;
}

static FALLIBLE make_root(const char *root)
{
	auto_free char *path = xstrdup(root);
	int r = sys_mkdir(AT_FDCWD, root, 0700);

	for (char *c = path + 1; r == -ENOENT && *c; c++)
		if (*c == '/') {
			*c = 0;
			(void)sys_mkdir(AT_FDCWD, path, 0711);
			*c = '/';
		}
	if (r == -ENOENT)
		r = sys_mkdir(AT_FDCWD, root, 0700);
	return r < 0 && r != -EEXIST ? FAIL_OS(-r, "make %s", root) : NULL;
}

static FALLIBLE enter(struct oci_box *b, bool lock)
{
	int r;

	if ((b->dir_fd = sys_open_dir(b->path)) < 0)
		return b->dir_fd == -ENOENT ? FAIL(ERR_NOT_FOUND, "container does not exist: \"%s\"", b->id)
					    : FAIL_OS(-b->dir_fd, "open %s", b->path);
	if (!lock)
		return NULL;
	if ((r = sys_flock(b->dir_fd, LOCK_EX)) < 0)
		return FAIL_OS(-r, "lock container \"%s\"", b->id);
	b->locked = true;
	return NULL;
}

FALLIBLE oci_box_new(const struct oci *o, const char *id, struct oci_box *out_box)
{
	auto_box struct oci_box b = OCI_BOX;
	struct err *e;
	int r = -ENOENT;

	TRY(check_id(id));
	b.id = xstrdup(id);
	b.path = xasprintf("%s/%s", o->root, id);
	for (int i = 0; r == -ENOENT && i < ROOT_TRIES; i++) { /* who deletes the last container removes an empty root */
		TRY(make_root(o->root));
		r = sys_mkdir(AT_FDCWD, b.path, 0711);
	}
	if (r == -EEXIST)
		return FAIL(ERR_EXISTS, "container with given ID already exists: \"%s\"", id);
	if (r < 0)
		return FAIL_OS(-r, "make %s", b.path);
	if ((e = enter(&b, true))) {
		(void)sys_rmdir(AT_FDCWD, b.path);
		return e;
	}
	*out_box = b;
	b = OCI_BOX;
	return NULL;
}

static FALLIBLE read_json(struct oci_box *b, const char *name, json_t **out)
{
	auto_fd int fd = sys_openat(b->dir_fd, name, O_RDONLY, 0);

	if (fd == -ENOENT) { /* its creator was killed, or is just about to write it: nothing but the
				directory is there */
		*out = json_object();
		return NULL;
	}
	return fd < 0 ? FAIL_OS(-fd, "container \"%s\": open %s", b->id, name)
		      : json_read(fd, name, OCI_CONFIG_MAX, out);
}

FALLIBLE oci_box_open(const struct oci *o, const char *id, bool lock, struct oci_box *out_box)
{
	auto_box struct oci_box b = OCI_BOX;
	struct stat st;

	TRY(check_id(id));
	b.id = xstrdup(id);
	b.path = xasprintf("%s/%s", o->root, id);
	TRY(enter(&b, lock));
	if (sys_fstatat(AT_FDCWD, b.path, &st, 0) < 0) /* deleted while we waited for the lock */
		return FAIL(ERR_NOT_FOUND, "container does not exist: \"%s\"", id);
	TRY(read_json(&b, STATUS, &b.state));
	TRY(read_json(&b, "config.json", &b.config));
	b.pid = (pid_t)json_int_at(b.state, "pid", 0);
	/* who holds the lock sees what a killed creator left; for others there is no container before its
	 * process is */
	if (!lock && b.pid <= 0)
		return FAIL(ERR_NOT_FOUND, "container does not exist: \"%s\"", id);
	*out_box = b;
	b = OCI_BOX;
	return NULL;
}

static FALLIBLE save(const struct oci_box *b, const char *name, const json_t *v)
{
	auto_buf struct buf text = BUF(OCI_CONFIG_MAX);

	json_print(v, &text);
	TRY(buf_check(&text, name));
	return record_write_volatile(b->dir_fd, name, text.data, text.n);
}

FALLIBLE oci_box_save(struct oci_box *b)
{
	return save(b, STATUS, b->state);
}

FALLIBLE oci_box_save_config(struct oci_box *b)
{
	return b->text.n && b->text.n <= RECORD_BODY_MAX && !b->is_changed
		   ? record_write_volatile(b->dir_fd, "config.json", b->text.data, b->text.n)
		   : save(b, "config.json", b->config);
}

FALLIBLE oci_box_remove(struct oci_box *b)
{
	int r;

	(void)sys_unlink(b->dir_fd, STATUS); /* what is there nearly always; else the tree is walked */
	(void)sys_unlink(b->dir_fd, "config.json");
	r = sys_rmdir(AT_FDCWD, b->path);
	if (r < 0 && r != -ENOENT)
		r = fs_remove_tree(AT_FDCWD, b->path);
	return r < 0 ? FAIL_OS(-r, "remove %s", b->path) : NULL;
}

enum oci_status oci_box_status(const struct oci_box *b)
{
	struct stat st;
	bool frozen = false;

	if (b->pid <= 0 || oci_pid_start(b->pid) != (uint64_t)json_int_at(b->state, "process-start-time", 0))
		return OCI_STOPPED;
	if (sys_fstatat(b->dir_fd, "start", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return OCI_CREATED;
	if (*oci_box_cgroup(b))
		err_free(runtime_frozen(oci_box_cgroup(b), &frozen));
	return frozen ? OCI_PAUSED : OCI_RUNNING;
}

const char *oci_box_cgroup(const struct oci_box *b)
{
	return json_str_at(b->state, "cgroup-path", "");
}

FALLIBLE oci_box_need_cgroup(const struct oci_box *b)
{
	return *oci_box_cgroup(b) ? NULL
				  : FAIL(ERR_UNSUPPORTED, "container \"%s\" has no control group", b->id);
}

/* Who owns the directory, by name as callers show it. */
static const char *owner(const struct oci_box *b, char out[24])
{
	struct stat st;

	if (sys_fstat(b->dir_fd, &st) < 0 || st.st_uid == 0)
		return "root";
	(void)snprintf(out, 24, "%u", (unsigned)st.st_uid);
	return out;
}

json_t *oci_box_document(const struct oci_box *b)
{
	enum oci_status s = oci_box_status(b);
	const json_t *annotations = json_object_get(b->config, "annotations");
	char name[24];
	json_t *doc =
	    json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s}", "ociVersion", "1.3.0", "id", b->id, "pid",
		      s == OCI_STOPPED ? 0 : (int)b->pid, "status", oci_status_name(s), "bundle",
		      json_str_at(b->state, "bundle", ""), "rootfs", json_str_at(b->state, "rootfs", ""),
		      "created", json_str_at(b->state, "created", ""));

	(void)json_object_set_new(doc, "owner", json_string(owner(b, name)));
	if (annotations)
		(void)json_object_set_new(doc, "annotations", json_deep_copy(annotations));
	return doc;
}

FALLIBLE oci_box_plan(const struct oci_box *b, struct plan **out_plan)
{
	struct plan_opts opts = { .id = b->id,
				  .bundle = json_str_at(b->state, "bundle", ""),
				  .no_pivot = json_bool_at(b->state, "no-pivot", false),
				  .no_keyring = json_bool_at(b->state, "no-new-keyring", false),
				  .no_cgroup = !*oci_box_cgroup(b),
				  .oci_annotations = true,
				  .cgroup_path = oci_box_cgroup(b) };

	return plan_compile(b->config, &opts, out_plan);
}

FALLIBLE oci_box_ids(const struct oci *o, const char *regex, char ***out_ids)
{
	auto_fd int root = sys_open_dir(o->root);
	auto_list char **names = NULL;
	char **ids = NULL;
	regex_t re;
	int r = root < 0 ? root : fs_list(root, &names);

	if (r < 0 && r != -ENOENT)
		return FAIL_OS(-r, "list %s", o->root);
	if (regex && regcomp(&re, regex, REG_EXTENDED | REG_NOSUB) != 0)
		return FAIL(ERR_INVALID, "bad regular expression \"%s\"", regex);
	for (size_t i = 0; names && names[i]; i++)
		if (!regex || regexec(&re, names[i], 0, NULL, 0) == 0)
			text_list_add(&ids, names[i]);
	if (regex)
		regfree(&re);
	*out_ids = ids;
	return NULL;
}
