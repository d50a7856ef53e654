/* prune.c - containers, volumes and networks that nobody needs; see prune.h. Images and build cache:
 * image_prune.c. */
#include "engine/prune.h"
#include "base/own.h"
#include "base/time.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/filter.h"
#include "engine/usage.h"
#include "engine/volume.h"
#include "network/network.h"
#include "sys/sys.h"
#include <fcntl.h>

static const char *const known[] = { "until", "label", "label!", NULL };
static const char *const known_volume[] = { "label", "label!", "all", NULL };

static FALLIBLE fits(const json_t *filters, const char *created, const json_t *labels, bool *out_fits)
{
	int64_t ns = 0;

	err_free(time_parse(sv_of(created), &ns)); /* an unknown age is old */
	return filter_prunes(filters, ns, labels, out_fits);
}

/* ROOT/dir/name, before it goes. */
static FALLIBLE measure(struct engine *e, const char *dir, const char *name, uint64_t *out_bytes)
{
	auto_fd int fd = sys_open_beneath(engine_root_fd(e), dir, O_RDONLY | O_DIRECTORY, 0);
	auto_usage struct usage u = { 0 };

	if (fd < 0)
		return FAIL_OS(-fd, "open %s/%s", engine_root(e), dir);
	TRY(usage_add(&u, fd, name));
	*out_bytes = u.freed;
	return NULL;
}

/* What was taken into use meanwhile stays. *out_gone: whether it went. */
static FALLIBLE unless_used(struct err *err, bool *out_gone)
{
	*out_gone = !err;
	if (err && (err->kind == ERR_CONFLICT || err->kind == ERR_NOT_FOUND || err->kind == ERR_DENIED)) {
		err_free(err);
		return NULL;
	}
	return err;
}

FALLIBLE engine_container_prune(struct engine *e, const json_t *filters, json_t **out_ids,
				uint64_t *out_bytes)
{
	auto_json json_t *stopped = json_pack("{s:[s,s]}", "status", "exited", "created"), *list = NULL,
			 *ids = json_array();
	size_t i;
	json_t *c;

	*out_bytes = 0;
	TRY(filter_check(filters, known));
	TRY(container_list(e, true, stopped, &list));
	json_array_foreach(list, i, c)
	{
		const char *id = json_str_at(c, "Id", "");
		int64_t created_ns = json_int_at(c, "Created", 0) * 1000000000;
		uint64_t bytes = 0;
		bool is_meant, is_gone;

		TRY(filter_prunes(filters, created_ns, json_object_get(c, "Labels"), &is_meant));
		if (!is_meant)
			continue;
		TRY(measure(e, "containers", id, &bytes));
		TRY(unless_used(container_remove(e, id, (struct container_rm){ 0 }), &is_gone));
		if (!is_gone)
			continue;
		(void)json_array_append_new(ids, json_string(id));
		*out_bytes += bytes;
	}
	*out_ids = TAKE(ids);
	return NULL;
}

FALLIBLE engine_volume_prune(struct engine *e, bool all, const json_t *filters, json_t **out_names,
			     uint64_t *out_bytes)
{
	auto_json json_t *dangling = json_pack("{s:[s]}", "dangling", "true"), *list = NULL,
			 *names = json_array();
	const json_t *all_filter = json_object_get(filters, "all");
	size_t i;
	json_t *v;

	*out_bytes = 0;
	TRY(filter_check(filters, known_volume));
	all = all || (all_filter && (filter_is(filters, "all", "true") || filter_is(filters, "all", "1")));
	TRY(volume_list(e, dangling, &list));
	json_array_foreach(list, i, v)
	{
		const char *name = json_str_at(v, "Name", "");
		uint64_t bytes = 0;
		bool is_meant, is_gone;

		TRY(fits(filters, json_str_at(v, "CreatedAt", ""), json_object_get(v, "Labels"), &is_meant));
		if (!is_meant || (!all && !json_object_get(json_object_get(v, "Labels"), VOLUME_ANONYMOUS)))
			continue;
		TRY(measure(e, "volumes", name, &bytes));
		TRY(unless_used(volume_remove(e, name, false), &is_gone));
		if (!is_gone)
			continue;
		(void)json_array_append_new(names, json_string(name));
		*out_bytes += bytes;
	}
	*out_names = TAKE(names);
	return NULL;
}

static bool is_built_in(const char *name)
{
	return strcmp(name, "bridge") == 0 || strcmp(name, "host") == 0 || strcmp(name, "none") == 0;
}

FALLIBLE engine_network_prune(struct engine *e, const json_t *filters, json_t **out_names)
{
	auto_json json_t *list = NULL, *names = json_array();
	struct network *n;
	size_t i;
	json_t *v;

	TRY(filter_check(filters, known));
	TRY(engine_network(e, &n));
	TRY(network_list(n, &list));
	json_array_foreach(list, i, v)
	{
		const char *name = json_str_at(v, "Name", "");
		bool is_meant, is_gone;

		TRY(fits(filters, json_str_at(v, "Created", ""), json_object_get(v, "Labels"), &is_meant));
		if (!is_meant || is_built_in(name))
			continue;
		TRY(unless_used(network_remove(n, name), &is_gone));
		if (is_gone)
			(void)json_array_append_new(names, json_string(name));
	}
	*out_names = TAKE(names);
	return NULL;
}
