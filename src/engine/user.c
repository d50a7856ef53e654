/* user.c - who a container runs as: names looked up in the image's own files, reached by openat2 inside its root. */
#include "base/num.h"
#include "base/own.h"
#include "engine/spec.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

#define FILE_MAX (4u << 20)

/* The file's text, or NULL when the image has none. Owned. */
static FALLIBLE image_file(int root_fd, const char *path, char **out_text)
{
	auto_fd int fd = root_fd < 0 ? -ENOENT : sys_open_in_root(root_fd, path, O_RDONLY | O_NONBLOCK, 0);
	auto_free char *text = NULL;
	struct stat st;
	ssize_t n;

	*out_text = NULL;
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return NULL;
	if (fd < 0)
		return FAIL_OS(-fd, "open the image's %s", path);
	if (sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	if (st.st_size > FILE_MAX)
		return FAIL(ERR_LIMIT, "the image's %s: larger than %u bytes", path, FILE_MAX);
	text = calloc(1, (size_t)st.st_size + 1);
	n = text ? sys_read_full(fd, text, (size_t)st.st_size) : -ENOMEM;
	if (n < 0)
		return FAIL_OS((int)-n, "read the image's %s", path);
	*out_text = TAKE(text);
	return NULL;
}

static bool number(struct sv text, uint64_t *out_n)
{
	struct err *e = num_parse(text, 10, 0, 4294967294u, out_n);

	err_free(e);
	return !e;
}

struct entry {
	struct sv field[7];
};

/* The next well-formed line of a colon-separated file. */
static bool next_entry(struct sv *rest, struct entry *out)
{
	struct sv line;

	if (!rest->n)
		return false;
	line = sv_cut(rest, '\n');
	memset(out, 0, sizeof *out);
	for (size_t i = 0; i < 7 && line.n; i++)
		out->field[i] = sv_cut(&line, ':');
	return true;
}

static void add_group(struct spec_user *u, gid_t gid)
{
	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] == gid)
			return;
	if (u->n_groups < SPEC_GROUPS)
		u->groups[u->n_groups++] = gid;
}

static FALLIBLE find_passwd(const char *passwd, struct sv who, struct spec_user *u, struct sv *out_name)
{
	struct sv rest = sv_of(passwd);
	struct entry e;
	uint64_t n, uid, gid;
	bool is_number = number(who, &n);

	*out_name = sv_from("", 0);
	while (next_entry(&rest, &e)) {
		bool is_it = sv_eq(e.field[0], who) || (is_number && number(e.field[2], &uid) && uid == n);

		if (!is_it || !number(e.field[2], &uid) || !number(e.field[3], &gid))
			continue;
		u->uid = (uid_t)uid;
		u->gid = (gid_t)gid;
		*out_name = e.field[0];
		if (e.field[5].n && e.field[5].n < sizeof u->home) {
			memcpy(u->home, e.field[5].p, e.field[5].n);
			u->home[e.field[5].n] = 0;
		}
		return NULL;
	}
	if (!is_number)
		return FAIL(ERR_NOT_FOUND, "unable to find user " SV_FMT ": no matching entries in passwd file", SV_ARG(who));
	u->uid = (uid_t)n;
	u->gid = 0;
	return NULL;
}

static FALLIBLE find_group(const char *group, struct sv who, gid_t *out_gid)
{
	struct sv rest = sv_of(group);
	struct entry e;
	uint64_t n;

	while (next_entry(&rest, &e))
		if (sv_eq(e.field[0], who) && number(e.field[2], &n)) {
			*out_gid = (gid_t)n;
			return NULL;
		}
	if (!number(who, &n))
		return FAIL(ERR_NOT_FOUND, "unable to find group " SV_FMT ": no matching entries in group file", SV_ARG(who));
	*out_gid = (gid_t)n;
	return NULL;
}

static void find_memberships(const char *group, struct sv name, struct spec_user *u)
{
	struct sv rest = sv_of(group);
	struct entry e;
	uint64_t gid;

	while (name.n && next_entry(&rest, &e)) {
		struct sv members = e.field[3];

		while (members.n)
			if (sv_eq(sv_cut(&members, ','), name) && number(e.field[2], &gid))
				add_group(u, (gid_t)gid);
	}
}

FALLIBLE spec_user_find(int root_fd, const char *text, struct spec_user *out_user)
{
	auto_free char *passwd = NULL, *group = NULL;
	struct sv rest = sv_of(*text ? text : "0"), who = sv_cut(&rest, ':'), name;

	memset(out_user, 0, sizeof *out_user);
	(void)snprintf(out_user->home, sizeof out_user->home, "/");
	TRY(image_file(root_fd, "etc/passwd", &passwd));
	TRY(image_file(root_fd, "etc/group", &group));
	TRY(find_passwd(passwd ? passwd : "", who.n ? who : SV("0"), out_user, &name));
	if (rest.n)
		return find_group(group ? group : "", rest, &out_user->gid);
	find_memberships(group ? group : "", name, out_user);
	return NULL;
}

json_t *spec_user_json(const struct spec_user *u)
{
	/* SECURITY: the primary group too, so that what a set-group program makes of it is not lost (CVE-2022-36109) */
	json_t *groups = json_pack("[I]", (json_int_t)u->gid);

	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] != u->gid)
			(void)json_array_append_new(groups, json_integer(u->groups[i]));
	return json_pack("{s:I, s:I, s:o}", "uid", (json_int_t)u->uid, "gid", (json_int_t)u->gid, "additionalGids", groups);
}
