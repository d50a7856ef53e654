/* cmd_df.c - system df: what everything takes on disk, in docker's tables. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "engine/prune.h"
#include <stdio.h>

struct df_conf {
	const char *format;
	bool verbose;
};
static const struct opt df_opts[] = {
	{ OPT_STR, 0, "format", NULL, offsetof(struct df_conf, format), 0, "Template, \"table …\" or json" },
	{ OPT_FLAG, 'v', "verbose", NULL, offsetof(struct df_conf, verbose), 0,
	  "Each image, container, volume and build step" },
	{ 0 },
};

static char *size_text(const json_t *v, const char *key)
{
	char out[16];

	return xstrdup(num_human4((uint64_t)json_int_at(v, key, 0), out));
}

/* ---- the sums ---- */

static json_t *sum_row(const json_t *r)
{
	int64_t size = json_int_at(r, "Size", 0), reclaimable = json_int_at(r, "Reclaimable", 0);
	auto_free char *text = size_text(r, "Size"), *free_text = size_text(r, "Reclaimable"), *shown = NULL;
	auto_free char *total = xasprintf("%lld", (long long)json_int_at(r, "TotalCount", 0));
	auto_free char *active = xasprintf("%lld", (long long)json_int_at(r, "Active", 0));
	bool has_share =
	    size > 0 && strcmp(json_str_at(r, "Type", ""), "Build Cache") != 0; /* as docker prints it */

	shown = has_share ? xasprintf("%s (%lld%%)", free_text, (long long)(reclaimable * 100 / size))
			  : xstrdup(free_text);
	return json_pack("{s:s, s:s, s:s, s:s, s:s}", "Type", json_str_at(r, "Type", ""), "TotalCount", total,
			 "Active", active, "Size", text, "Reclaimable", shown);
}

static FALLIBLE print_sums(const struct df_conf *c, const json_t *all)
{
	static const char *const headings[][2] = { { "TotalCount", "TOTAL" }, { NULL, NULL } };
	struct out_format f = { c->format,
				"table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
				headings, NULL };
	auto_json json_t *rows = json_array();
	size_t i;
	json_t *r;

	json_array_foreach(all, i, r)(void) json_array_append_new(rows, sum_row(r));
	return out_rows(&f, rows);
}

/* ---- one by one ---- */

static void image_rows(json_t *rows, const json_t *v)
{
	const json_t *tags = json_object_get(v, "RepoTags");
	const char *tag = json_string_value(json_array_get(tags, 0)), *colon = tag ? strrchr(tag, ':') : NULL;
	auto_free char *repo =
	    tag ? xstrndup(tag, colon ? (size_t)(colon - tag) : strlen(tag)) : xstrdup("<none>");
	auto_free char *ago = out_ago(json_int_at(v, "Created", 0)), *size = size_text(v, "Size"),
		       *shared = size_text(v, "SharedSize");
	auto_free char *containers = xasprintf("%lld", (long long)json_int_at(v, "Containers", 0));
	char unique[16];

	(void)num_human4((uint64_t)(json_int_at(v, "Size", 0) - json_int_at(v, "SharedSize", 0)), unique);
	(void)json_array_append_new(rows, json_pack("{s:s, s:s, s:s%, s:s, s:s, s:s, s:s, s:s}", "Repository",
						    repo, "Tag", colon ? colon + 1 : "<none>", "ID",
						    json_str_at(v, "Id", "sha256:") + 7, (size_t)12,
						    "CreatedSince", ago, "Size", size, "SharedSize", shared,
						    "UniqueSize", unique, "Containers", containers));
}

static void container_rows(json_t *rows, const json_t *v)
{
	auto_free char *quoted = xasprintf("\"%s\"", json_str_at(v, "Command", "")),
		       *command = out_cut(quoted, 20);
	auto_free char *ago = out_ago(json_int_at(v, "Created", 0)), *size = size_text(v, "SizeRw"),
		       *volumes = NULL;
	const char *name = json_string_value(json_array_get(json_object_get(v, "Names"), 0));
	const json_t *mounts = json_object_get(v, "Mounts");
	long n = 0;
	size_t i;
	json_t *m;

	json_array_foreach(mounts, i, m) n += strcmp(json_str_at(m, "Type", ""), "volume") == 0;
	volumes = xasprintf("%ld", n);
	(void)json_array_append_new(
	    rows, json_pack("{s:s%, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "ID", json_str_at(v, "Id", ""),
			    (size_t)12, "Image", json_str_at(v, "Image", ""), "Command", command,
			    "LocalVolumes", volumes, "Size", size, "RunningFor", ago, "Status",
			    json_str_at(v, "Status", ""), "Names", name ? name + 1 : ""));
}

static void volume_rows(json_t *rows, const json_t *v)
{
	auto_free char *links = xasprintf("%lld", (long long)json_int_at(v, "Links", 0)),
		       *size = size_text(v, "Size");

	(void)json_array_append_new(rows, json_pack("{s:s, s:s, s:s}", "Name", json_str_at(v, "Name", ""),
						    "Links", links, "Size", size));
}

static void cache_rows(json_t *rows, const json_t *v)
{
	auto_free char *ago = out_ago(json_int_at(v, "UsedNs", 0) / 1000000000), *size = size_text(v, "Size");

	(void)json_array_append_new(
	    rows, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "ID", json_str_at(v, "ID", ""), "CacheType",
			    json_str_at(v, "CacheType", ""), "Size", size, "LastUsedSince", ago, "InUse",
			    json_bool_at(v, "InUse", false) ? "true" : "false", "Shared",
			    json_bool_at(v, "Shared", false) ? "true" : "false"));
}

static const char *const headings[][2] = { { "ID", "IMAGE ID" },
					   { "CreatedSince", "CREATED" },
					   { "SharedSize", "SHARED SIZE" },
					   { "UniqueSize", "UNIQUE SIZE" },
					   { NULL, NULL } };
static const char *const box_headings[][2] = { { "ID", "CONTAINER ID" },
					       { "LocalVolumes", "LOCAL VOLUMES" },
					       { "RunningFor", "CREATED" },
					       { NULL, NULL } };
static const char *const volume_headings[][2] = { { "Name", "VOLUME NAME" }, { NULL, NULL } };
static const char *const cache_headings[][2] = { { "ID", "CACHE ID" },
						 { "CacheType", "CACHE TYPE" },
						 { "LastUsedSince", "LAST USED" },
						 { "InUse", "IN USE" },
						 { NULL, NULL } };
static const struct {
	const char *name, *title, *table;
	const char *const (*headings)[2];
	void (*add)(json_t *rows, const json_t *v);
} parts[] = {
	{ "Images", "Images space usage:",
	  "table "
	  "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}"
	  "\t{{.Containers}}",
	  headings, image_rows },
	{ "Containers", "Containers space usage:",
	  "table "
	  "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{."
	  "Names}}",
	  box_headings, container_rows },
	{ "Volumes", "Local Volumes space usage:", "table {{.Name}}\t{{.Links}}\t{{.Size}}", volume_headings,
	  volume_rows },
	{ "BuildCache", "Build cache usage:", "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.LastUsedSince}}\t{{.InUse}}\t{{.Shared}}",
	  cache_headings, cache_rows },
};

static json_t *part_rows(const json_t *all, size_t p)
{
	json_t *rows = json_array(), *v;
	size_t i;

	json_array_foreach(json_object_get(json_array_get(all, p), "Items"), i, v) parts[p].add(rows, v);
	return rows;
}

/* docker's: one object that has the rows of all tables. */
static FALLIBLE print_object(const char *format, const json_t *all)
{
	auto_json json_t *object = json_object();

	if (strncmp(format, "table", 5) == 0)
		return FAIL(ERR_INVALID, "-v prints several tables: a template for all of them or json is wanted, not %s",
			    format);
	for (size_t p = 0; p < LEN(parts); p++)
		(void)json_object_set_new(object, parts[p].name, part_rows(all, p));
	return out_value(format, object);
}

static FALLIBLE print_parts(const json_t *all)
{
	for (size_t p = 0; p < LEN(parts); p++) {
		struct out_format f = { NULL, parts[p].table, parts[p].headings, NULL };
		const json_t *r = json_array_get(all, p);
		auto_json json_t *rows = part_rows(all, p);
		auto_free char *size = size_text(r, "Size");

		(void)printf("%s%s%s%s\n\n", p ? "\n" : "", parts[p].title, p == 3 ? " " : "",
			     p == 3 ? size : "");
		TRY(out_rows(&f, rows));
	}
	return NULL;
}

static FALLIBLE run_df(const void *conf, char *const args[], int *out_exit)
{
	const struct df_conf *c = conf;
	auto_json json_t *rows = NULL;
	struct engine *e;

	(void)args;
	(void)out_exit;
	TRY(cmd_engine(&e));
	TRY(engine_df(e, c->verbose, &rows));
	if (!c->verbose)
		return print_sums(c, rows);
	return c->format ? print_object(c->format, rows) : print_parts(rows);
}
const struct cmd cmd_df = { "df",
			    "",
			    "Show what everything takes on disk",
			    df_opts,
			    sizeof(struct df_conf),
			    0,
			    0,
			    false,
			    0,
			    false,
			    run_df,
			    NULL,
			    NULL };
