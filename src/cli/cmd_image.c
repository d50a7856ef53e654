/* cmd_image.c - images: list, names, removal, archives. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "engine/image.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- images ---- */

struct images_conf {
	bool all, quiet, no_trunc, digests;
	char **filter;
	const char *format;
};
static const struct opt images_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, offsetof(struct images_conf, all), 0, "Nothing more: there are no intermediate images" },
	{ OPT_FLAG, 0, "digests", NULL, offsetof(struct images_conf, digests), 0, "Show digests" },
	{ OPT_LIST, 'f', "filter", "KEY=VALUE", offsetof(struct images_conf, filter), 0, "Only what fits (dangling=true, reference=PATTERN, label=x, label!=x, before=IMAGE, since=IMAGE, until=24h)" },
	{ OPT_STR, 0, "format", NULL, offsetof(struct images_conf, format), 0, "Template, \"table …\" or json" },
	{ OPT_FLAG, 0, "no-trunc", NULL, offsetof(struct images_conf, no_trunc), 0, "Do not truncate" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct images_conf, quiet), 0, "Only print IDs" },
	{ 0 },
};

static void add_row(json_t *rows, const json_t *image, const char *repo, const char *tag, const char *digest, bool no_trunc)
{
	const char *id = json_str_at(image, "Id", "");
	auto_free char *shown = xstrndup(no_trunc ? id : id + 7, no_trunc ? 71 : 12);
	auto_free char *ago = out_ago(json_int_at(image, "Created", 0)), *created = out_moment(json_int_at(image, "Created", 0));
	uint64_t bytes = (uint64_t)json_int_at(image, "Size", 0);
	char size[16], virtual_size[16];

	(void)num_human(bytes, size);
	(void)num_human4(bytes, virtual_size);
	(void)json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Containers", "N/A",
						    "CreatedAt", created, "CreatedSince", ago, "Digest", digest, "ID", shown, "Repository",
						    repo, "SharedSize", "N/A", "Size", size, "Tag", tag, "UniqueSize", "N/A", "VirtualSize",
						    virtual_size));
}

/* What stands behind the @ of the first name of this repository; "<none>". */
static const char *known_digest(const json_t *image, const char *repo)
{
	size_t i, n = strlen(repo);
	json_t *v;

	json_array_foreach (json_object_get(image, "RepoDigests"), i, v)
		if (strncmp(json_string_value(v), repo, n) == 0 && json_string_value(v)[n] == '@')
			return json_string_value(v) + n + 1;
	return "<none>";
}

/* One row per tag; a repository that only a digest is known of has one, too. */
static void add_rows(json_t *rows, const json_t *image, bool no_trunc)
{
	auto_list char **repos = NULL;
	size_t i;
	json_t *v;

	json_array_foreach (json_object_get(image, "RepoTags"), i, v) {
		const char *text = json_string_value(v), *colon = strrchr(text, ':');
		auto_free char *repo = xstrndup(text, (size_t)(colon - text));

		text_list_add(&repos, repo);
		add_row(rows, image, repo, colon + 1, known_digest(image, repo), no_trunc);
	}
	json_array_foreach (json_object_get(image, "RepoDigests"), i, v) {
		const char *text = json_string_value(v), *at = strrchr(text, '@');
		auto_free char *repo = xstrndup(text, (size_t)(at - text));

		if (text_list_has(repos, repo))
			continue;
		text_list_add(&repos, repo);
		add_row(rows, image, repo, "<none>", at + 1, no_trunc);
	}
	if (!repos)
		add_row(rows, image, "<none>", "<none>", "<none>", no_trunc);
}

/* A name on the command line is a further pattern, as docker has it. */
static FALLIBLE images_filters(const struct images_conf *c, const char *name, json_t **out_filters)
{
	json_t *patterns;

	TRY(cmd_filters(c->filter, out_filters));
	if (!name)
		return NULL;
	if (!*out_filters)
		*out_filters = json_object();
	patterns = json_object_get(*out_filters, "reference");
	if (!patterns) {
		patterns = json_array();
		(void)json_object_set_new(*out_filters, "reference", patterns);
	}
	(void)json_array_append_new(patterns, json_string(name));
	return NULL;
}

/* With -q every image once, whatever names it has. */
static void drop_doubles(json_t *rows)
{
	for (size_t i = json_array_size(rows); i-- > 1;)
		for (size_t j = 0; j < i; j++)
			if (strcmp(json_str_at(json_array_get(rows, i), "ID", ""), json_str_at(json_array_get(rows, j), "ID", "")) == 0) {
				(void)json_array_remove(rows, i);
				break;
			}
}

static FALLIBLE run_images(const void *conf, char *const args[], int *out_exit)
{
	static const char *const headings[][2] = { { "ID", "IMAGE ID" }, { "CreatedSince", "CREATED" }, { "VirtualSize", "SIZE" }, { NULL, NULL } };
	const struct images_conf *c = conf;
	struct out_format f = { c->format,
				c->digests ? "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}" :
					     "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
				headings, c->quiet ? "ID" : NULL };
	auto_json json_t *filters = NULL, *list = NULL, *rows = json_array();
	struct engine *e;
	size_t i;
	json_t *item;

	(void)out_exit;
	TRY(images_filters(c, args[0], &filters));
	TRY(cmd_engine(&e));
	TRY(engine_image_list(e, filters, &list));
	json_array_foreach (list, i, item)
		add_rows(rows, item, c->no_trunc);
	if (c->quiet)
		drop_doubles(rows);
	return out_rows(&f, rows);
}
const struct cmd cmd_images = { "images",    "[REPOSITORY[:TAG]]",	 "List images",
				images_opts, sizeof(struct images_conf), 0, 1, false, 0, false, run_images, NULL, NULL };
const struct cmd cmd_image_ls = { "ls",	       "[REPOSITORY[:TAG]]",	   "List images",
				  images_opts, sizeof(struct images_conf), 0, 1, false, 0, false, run_images, NULL, "images" };

/* ---- tag, rmi ---- */

static FALLIBLE run_tag(const void *conf, char *const args[], int *out_exit)
{
	struct engine *e;

	(void)conf;
	(void)out_exit;
	TRY(cmd_engine(&e));
	return engine_image_tag(e, args[0], args[1]);
}
const struct cmd cmd_tag = { "tag", "SOURCE[:TAG] TARGET[:TAG]", "Give an image a further name", NULL, 0, 2, 2, false, 0, false,
			     run_tag, NULL, NULL };

struct rmi_conf {
	bool force, no_prune;
};
static const struct opt rmi_opts[] = {
	{ OPT_FLAG, 'f', "force", NULL, offsetof(struct rmi_conf, force), 0, "Remove it also when containers use it" },
	{ OPT_FLAG, 0, "no-prune", NULL, offsetof(struct rmi_conf, no_prune), 0, "Nothing more: an image has no parents here" },
	{ 0 },
};

static FALLIBLE run_rmi(const void *conf, char *const args[], int *out_exit)
{
	const struct rmi_conf *c = conf;
	struct engine *e;

	TRY(cmd_engine(&e));
	for (; *args; args++) {
		auto_json json_t *events = NULL;
		struct err *err = engine_image_remove(e, *args, c->force, &events);
		size_t i;
		json_t *v;

		if (err) { /* as docker: what is gone already is no failure of -f */
			*out_exit |= !(c->force && err->kind == ERR_NOT_FOUND);
			cmd_tell(err);
		}
		json_array_foreach (events, i, v) {
			const char *key;
			json_t *what;

			json_object_foreach (v, key, what)
				(void)printf("%s: %s\n", key, json_string_value(what));
		}
	}
	return NULL;
}
const struct cmd cmd_rmi = { "rmi",	"IMAGE [IMAGE...]",	 "Remove one or more images",
			     rmi_opts, sizeof(struct rmi_conf), 1, -1, false, 0, false, run_rmi, NULL, NULL };
const struct cmd cmd_image_rm = { "rm",	     "IMAGE [IMAGE...]",      "Remove one or more images",
				  rmi_opts, sizeof(struct rmi_conf), 1, -1, false, 0, false, run_rmi, NULL, "rmi" };

/* ---- history ---- */

struct history_conf {
	bool quiet, no_trunc, is_plain;
	const char *format;
};
static const struct opt history_opts[] = {
	{ OPT_STR, 0, "format", NULL, offsetof(struct history_conf, format), 0, "Template, \"table …\" or json" },
	{ OPT_NOT, 'H', "human", NULL, offsetof(struct history_conf, is_plain), 0, "=false: sizes in bytes, times as dates" },
	{ OPT_FLAG, 0, "no-trunc", NULL, offsetof(struct history_conf, no_trunc), 0, "Do not truncate" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct history_conf, quiet), 0, "Only print IDs" },
	{ 0 },
};

static json_t *history_row(const struct history_conf *c, const json_t *step)
{
	const char *id = json_str_at(step, "Id", "");
	bool is_id = strncmp(id, "sha256:", 7) == 0;
	auto_free char *shown = xstrndup(is_id && !c->no_trunc ? id + 7 : id, is_id && !c->no_trunc ? 12 : 80);
	auto_free char *by = out_cut(json_str_at(step, "CreatedBy", ""), c->no_trunc ? 1 << 20 : 45);
	auto_free char *ago = out_ago(json_int_at(step, "Created", 0));
	uint64_t bytes = (uint64_t)json_int_at(step, "Size", 0);
	char size[24], at[TIME_TEXT_MAX];

	(void)time_format(json_int_at(step, "Created", 0) * 1000000000, at);
	if (c->is_plain)
		(void)snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
	else
		(void)num_human(bytes, size);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "Comment", json_str_at(step, "Comment", ""), "CreatedAt", at, "CreatedBy", by,
			 "CreatedSince", c->is_plain ? at : ago, "ID", shown, "Size", size);
}

static FALLIBLE run_history(const void *conf, char *const args[], int *out_exit)
{
	static const char *const headings[][2] = { { "ID", "IMAGE" }, { "CreatedSince", "CREATED" }, { NULL, NULL } };
	const struct history_conf *c = conf;
	struct out_format f = { c->format,
				c->is_plain ? "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}" :
					      "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
				headings, c->quiet ? "ID" : NULL };
	auto_json json_t *list = NULL, *rows = json_array();
	struct engine *e;
	size_t i;
	json_t *step;

	(void)out_exit;
	TRY(cmd_engine(&e));
	TRY(engine_image_history(e, args[0], &list));
	json_array_foreach (list, i, step)
		(void)json_array_append_new(rows, history_row(c, step));
	return out_rows(&f, rows);
}
const struct cmd cmd_history = { "history",    "IMAGE",			   "Show how an image was made",
				 history_opts, sizeof(struct history_conf), 1, 1, false, 0, false, run_history, NULL, NULL };

/* ---- archives ---- */

struct file_conf {
	const char *file, *message, *platform;
	bool quiet;
	char **change;
};
static const struct opt save_opts[] = {
	{ OPT_STR, 'o', "output", "FILE", offsetof(struct file_conf, file), 0, "Write to a file instead of standard output" },
	{ 0 },
};

struct saving {
	struct engine *e;
	char *const *names;
};

static struct err *save(void *ctx, struct zip_sink sink)
{
	const struct saving *s = ctx;

	return engine_image_save(s->e, s->names, sink);
}

static FALLIBLE run_save(const void *conf, char *const args[], int *out_exit)
{
	const struct file_conf *c = conf;
	struct saving s = { .names = args };

	(void)out_exit;
	TRY(cmd_engine(&s.e));
	return out_archive(c->file, save, &s);
}
const struct cmd cmd_save = { "save",	 "IMAGE [IMAGE...]",	   "Save images to a tar archive",
			      save_opts, sizeof(struct file_conf), 1, -1, false, 0, false, run_save, NULL, NULL };

static const struct opt load_opts[] = {
	{ OPT_STR, 'i', "input", "FILE|URL", offsetof(struct file_conf, file), 0, "Read from a file or a URL instead of standard input" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct file_conf, quiet), 0, "Print no names" },
	{ 0 },
};

/* Where an archive is read from. */
struct archive {
	int fd;
	struct engine_fetch *fetch; /* NULL: from fd */
};

static void archive_fini(struct archive *a)
{
	own_close(&a->fd);
	engine_fetch_free(a->fetch);
}

static struct zip_source archive_source(const struct archive *a)
{
	return a->fetch ? engine_fetch_source(a->fetch) : zip_source_fd(&a->fd);
}

/* path NULL, "-": standard input. */
static FALLIBLE open_archive(const char *path, struct archive *a)
{
	struct stat st;

	if (path && engine_is_url(path))
		return engine_fetch_new(path, &a->fetch);
	if (!path || strcmp(path, "-") == 0) {
		a->fd = sys_dup(STDIN_FILENO);
		return a->fd < 0 ? FAIL_OS(-a->fd, "read standard input") : NULL;
	}
	a->fd = sys_open(path, O_RDONLY, 0);
	if (a->fd < 0)
		return FAIL_OS(-a->fd, "open %s", path);
	if (sys_fstat(a->fd, &st) == 0 && S_ISDIR(st.st_mode))
		return FAIL(ERR_INVALID, "%s is a directory, not an archive", path);
	return NULL;
}

static FALLIBLE run_load(const void *conf, char *const args[], int *out_exit)
{
	const struct file_conf *c = conf;
	auto_json json_t *loaded = NULL;
	CLEANUP(archive_fini) struct archive in = { .fd = -1 };
	struct engine *e;
	size_t i;
	json_t *v;

	(void)args;
	(void)out_exit;
	if (!c->file && isatty(STDIN_FILENO))
		return FAIL(ERR_INVALID, "requested load from stdin, but stdin is empty");
	TRY(open_archive(c->file, &in));
	TRY(cmd_engine(&e));
	TRY(engine_image_load(e, archive_source(&in), &loaded));
	json_array_foreach (loaded, i, v)
		if (!c->quiet)
			(void)printf("Loaded image%s: %s\n", strncmp(json_string_value(v), "sha256:", 7) == 0 ? " ID" : "",
				     json_string_value(v));
	return NULL;
}
const struct cmd cmd_load = { "load",	 "",			   "Load images from a tar archive (plain, gzip, zstd, xz or bzip2)",
			      load_opts, sizeof(struct file_conf), 0, 0, false, 0, false, run_load, NULL, NULL };

static const struct opt import_opts[] = {
	{ OPT_LIST, 'c', "change", "INSTRUCTION", offsetof(struct file_conf, change), 0, "Apply a Dockerfile instruction (CMD, ENV …)" },
	{ OPT_STR, 'm', "message", "TEXT", offsetof(struct file_conf, message), 0, "Comment for the history" },
	{ OPT_STR, 0, "platform", "OS/ARCH", offsetof(struct file_conf, platform), 0, "What the programs in it run on (default: this host)" },
	{ 0 },
};

static FALLIBLE run_import(const void *conf, char *const args[], int *out_exit)
{
	const struct file_conf *c = conf;
	struct image_import how = { .ref = args[1], .message = c->message, .platform = c->platform, .changes = c->change };
	auto_free char *id = NULL;
	CLEANUP(archive_fini) struct archive in = { .fd = -1 };
	struct engine *e;

	(void)out_exit;
	TRY(open_archive(args[0], &in));
	TRY(cmd_engine(&e));
	TRY(engine_image_import(e, archive_source(&in), &how, &id));
	(void)printf("%s\n", id);
	return NULL;
}
const struct cmd cmd_import = { "import",    "FILE|URL|- [REPOSITORY[:TAG]]", "Make an image of a root file system's tar (plain, gzip, zstd, xz or bzip2)",
				import_opts, sizeof(struct file_conf),	  1, 2, false, 0, false, run_import, NULL, NULL };

struct commit_conf {
	const char *author, *message, *pause;
	char **change;
	bool no_pause;
};
static const struct opt commit_opts[] = {
	{ OPT_STR, 'a', "author", "TEXT", offsetof(struct commit_conf, author), 0, "Author" },
	{ OPT_LIST, 'c', "change", "INSTRUCTION", offsetof(struct commit_conf, change), 0, "Apply a Dockerfile instruction (CMD, ENV …)" },
	{ OPT_STR, 'm', "message", "TEXT", offsetof(struct commit_conf, message), 0, "Comment for the history" },
	{ OPT_FLAG, 0, "no-pause", NULL, offsetof(struct commit_conf, no_pause), 0, "Let the container run on meanwhile" },
	{ OPT_STR, 0, "pause", "true|false", offsetof(struct commit_conf, pause), 0, "Whether it stands still meanwhile (default true)" },
	{ 0 },
};

static FALLIBLE run_commit(const void *conf, char *const args[], int *out_exit)
{
	const struct commit_conf *c = conf;
	bool runs_on = c->no_pause || (c->pause && strcmp(c->pause, "false") == 0);
	const struct image_commit how = { .ref = args[1], .message = c->message, .author = c->author, .changes = c->change,
					  .pause = !runs_on };
	auto_free char *id = NULL;
	struct engine *e;

	(void)out_exit;
	if (c->pause && strcmp(c->pause, "true") != 0 && strcmp(c->pause, "false") != 0)
		return FAIL(ERR_INVALID, "--pause=%s: expected true or false", c->pause);
	TRY(cmd_engine(&e));
	TRY(engine_image_commit(e, args[0], &how, &id));
	(void)printf("%s\n", id);
	return NULL;
}
const struct cmd cmd_commit = { "commit",    "CONTAINER [REPOSITORY[:TAG]]", "Make an image of a container's changes",
				commit_opts, sizeof(struct commit_conf),     1, 2, false, 0, false, run_commit, NULL, NULL };
