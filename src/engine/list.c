/* list.c - containers as lists and objects: docker's shapes with the live state put in. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/filter.h"
#include "engine/health.h"
#include "image/ref.h"
#include "state/db.h"
#include <stdio.h>

static void merge_live(struct engine *e, json_t *doc, const json_t *status)
{
	static const char *const keys[] = { "ExitCode", "OOMKilled", "StartedAt", "FinishedAt", "Pid" };
	json_t *state = json_object_get(doc, "State"), *health;
	enum ctr_state now = ctr_now(doc, status);

	if (!status && ctr_state_of(json_str_at(doc, "State.Status", "")) == CTR_RUNNING)
		ctr_show_end(e, json_str_at(doc, "Id", ""), doc);
	(void)json_object_set_new(state, "Status", json_string(ctr_state_name(now)));
	(void)json_object_set_new(state, "Running", json_boolean(now == CTR_RUNNING || now == CTR_PAUSED || now == CTR_RESTARTING));
	(void)json_object_set_new(state, "Restarting", json_boolean(now == CTR_RESTARTING));
	(void)json_object_set_new(state, "Paused", json_boolean(now == CTR_PAUSED));
	if (!status)
		return;
	health = health_of(e, json_str_at(doc, "Id", ""), doc, now == CTR_RUNNING || now == CTR_PAUSED);
	if (health)
		(void)json_object_set_new(state, "Health", health);
	for (size_t i = 0; i < LEN(keys); i++) {
		json_t *v = json_object_get(status, keys[i]);

		if (v && !(json_is_string(v) && !json_string_length(v)))
			(void)json_object_set(state, keys[i], v);
	}
	if (json_object_get(status, "RestartCount"))
		(void)json_object_set(doc, "RestartCount", json_object_get(status, "RestartCount"));
}

FALLIBLE container_inspect(struct engine *e, const char *text, json_t **out_object)
{
	auto_json json_t *doc = NULL, *status = NULL;
	char id[CTR_ID_MAX];

	TRY(ctr_find(e, text, id, &doc));
	(void)ctr_live(e, id, &status);
	merge_live(e, doc, status);
	(void)json_object_del(doc, "Hoy");
	*out_object = TAKE(doc);
	return NULL;
}

/* " (healthy)", " (health: starting)" */
static const char *health_text(const json_t *doc)
{
	const char *health = json_str_at(doc, "State.Health.Status", "");

	if (strcmp(health, "starting") == 0)
		return " (health: starting)";
	return strcmp(health, "healthy") == 0 ? " (healthy)" : *health ? " (unhealthy)" : "";
}

/* "Up 5 minutes (Paused)", "Exited (0) 2 hours ago", "Created" */
static void status_text(const json_t *doc, char out[128])
{
	const char *status = json_str_at(doc, "State.Status", "");
	bool exited = strcmp(status, "exited") == 0;
	int64_t at = 0;
	char age[TIME_TEXT_MAX];

	err_free(time_parse(sv_of(json_str_at(doc, exited ? "State.FinishedAt" : "State.StartedAt", "")), &at));
	(void)time_human(time_now_ns() - at, age);
	if (exited)
		(void)snprintf(out, 128, "Exited (%d) %s ago", (int)json_int_at(doc, "State.ExitCode", 0), age);
	else if (strcmp(status, "restarting") == 0)
		(void)snprintf(out, 128, "Restarting (%d) %s ago", (int)json_int_at(doc, "State.ExitCode", 0), age);
	else if (strcmp(status, "running") == 0 || strcmp(status, "paused") == 0)
		(void)snprintf(out, 128, "Up %s%s", age, strcmp(status, "paused") == 0 ? " (Paused)" : health_text(doc));
	else
		(void)snprintf(out, 128, "Created");
}

static json_t *summary_ports(const json_t *doc)
{
	json_t *out = json_array(), *list, *b;
	const char *key;
	size_t i;

	json_object_foreach (json_at(doc, "NetworkSettings.Ports"), key, list) {
		struct sv rest = sv_of(key), port = sv_cut(&rest, '/');
		json_int_t number = strtol(port.p, NULL, 10);

		if (!json_array_size(list))
			(void)json_array_append_new(out, json_pack("{s:I, s:s}", "PrivatePort", number, "Type", rest.p));
		json_array_foreach (list, i, b)
			(void)json_array_append_new(out, json_pack("{s:s, s:I, s:I, s:s}", "IP", json_str_at(b, "HostIp", ""),
								   "PrivatePort", number, "PublicPort",
								   (json_int_t)strtol(json_str_at(b, "HostPort", "0"), NULL, 10),
								   "Type", rest.p));
	}
	return out;
}

static char *command_text(const json_t *doc)
{
	char *text = xstrdup(json_str_at(doc, "Path", ""));
	size_t i;
	json_t *arg;

	json_array_foreach (json_object_get(doc, "Args"), i, arg) {
		char *longer = xasprintf("%s %s", text, json_string_value(arg));

		free(text);
		text = longer;
	}
	return text;
}

static json_t *summary(const json_t *doc)
{
	auto_free char *command = command_text(doc);
	int64_t created = 0;
	char status[128];
	json_t *networks = json_at(doc, "NetworkSettings.Networks");

	err_free(time_parse(sv_of(json_str_at(doc, "Created", "")), &created));
	status_text(doc, status);
	return json_pack("{s:s, s:[s], s:s, s:s, s:s, s:I, s:o, s:O?, s:s, s:s, s:{s:s}, s:{s:O?}, s:O?}", "Id",
			 json_str_at(doc, "Id", ""), "Names", json_str_at(doc, "Name", ""), "Image",
			 json_str_at(doc, "Config.Image", ""), "ImageID", json_str_at(doc, "Image", ""), "Command", command,
			 "Created", (json_int_t)(created / 1000000000), "Ports", summary_ports(doc), "Labels",
			 json_at(doc, "Config.Labels"), "State", json_str_at(doc, "State.Status", ""), "Status", status,
			 "HostConfig", "NetworkMode", json_str_at(doc, "HostConfig.NetworkMode", ""), "NetworkSettings",
			 "Networks", networks, "Mounts", json_object_get(doc, "Mounts"));
}

/* ---- filters ---- */

static bool keeps_ancestor(const json_t *filters, const json_t *doc)
{
	const char *image = json_str_at(doc, "Config.Image", ""), *id = json_str_at(doc, "Image", "");
	const json_t *values = json_object_get(filters, "ancestor");
	size_t i;
	json_t *v;

	if (!json_array_size(values))
		return true;
	json_array_foreach (values, i, v) {
		const char *want = json_string_value(v);
		struct ref a = { 0 }, b = { 0 };
		struct err *e1 = ref_parse(want, &a), *e2 = ref_parse(image, &b);
		auto_free char *x = e1 ? NULL : ref_full(&a), *y = e2 ? NULL : ref_full(&b);
		bool same = (x && y && strcmp(x, y) == 0) || strncmp(id, want, strlen(want)) == 0 ||
			    (strlen(id) > 7 && strncmp(id + 7, want, strlen(want)) == 0);

		err_free(e1);
		err_free(e2);
		ref_fini(&a);
		ref_fini(&b);
		if (same)
			return true;
	}
	return false;
}

static bool keeps_volume(const json_t *filters, const json_t *doc)
{
	size_t i;
	json_t *m;

	if (!json_array_size(json_object_get(filters, "volume")))
		return true;
	json_array_foreach (json_object_get(doc, "Mounts"), i, m)
		if (filter_is(filters, "volume", json_str_at(m, "Name", "")) ||
		    filter_is(filters, "volume", json_str_at(m, "Destination", "")))
			return true;
	return false;
}

/* When the containers of "before" or "since" were made; owned, NULL: not asked for. ERR_NOT_FOUND no such container. */
static FALLIBLE moment_of(struct engine *e, const json_t *filters, const char *key, char **out_created)
{
	const json_t *values = json_object_get(filters, key);
	auto_json json_t *doc = NULL;
	char id[CTR_ID_MAX];

	if (!json_array_size(values))
		return NULL;
	TRY(ctr_find(e, json_string_value(json_array_get(values, json_array_size(values) - 1)), id, &doc));
	*out_created = xstrdup(json_str_at(doc, "Created", ""));
	return NULL;
}

/* "8080", "80/tcp", "8000-8010/udp" */
static FALLIBLE parse_ports(const char *text, int64_t *first, int64_t *last, struct sv *proto)
{
	struct sv rest = sv_of(text), range = sv_cut(&rest, '/'), to = range, from = sv_cut(&to, '-');
	uint64_t a = 0, b = 0;
	struct err *err = num_parse(from, 10, 1, UINT16_MAX, &a);

	if (!err)
		err = num_parse(to.n ? to : from, 10, a, UINT16_MAX, &b);
	if (err)
		return err_ctx(err, "invalid filter: port \"%s\"", text);
	*first = (int64_t)a;
	*last = (int64_t)b;
	*proto = rest.n ? rest : SV("tcp");
	return NULL;
}

static FALLIBLE check_ports(const json_t *filters, const char *key)
{
	size_t i;
	json_t *v;

	json_array_foreach (json_object_get(filters, key), i, v) {
		int64_t first, last;
		struct sv proto;

		TRY(parse_ports(json_string_value(v), &first, &last, &proto));
	}
	return NULL;
}

/* One of the values of key has this port. */
static bool filter_port(const json_t *filters, const char *key, int64_t port, const char *proto)
{
	size_t i;
	json_t *v;

	json_array_foreach (json_object_get(filters, key), i, v) {
		int64_t first = 0, last = -1;
		struct sv want = SV("");

		err_free(parse_ports(json_string_value(v), &first, &last, &want)); /* check_ports has told */
		if (port >= first && port <= last && sv_is(want, proto))
			return true;
	}
	return false;
}

/* publish: a port of the host. */
static bool keeps_published(const json_t *filters, const json_t *doc)
{
	auto_json json_t *ports = summary_ports(doc);
	size_t i;
	json_t *p;

	json_array_foreach (ports, i, p)
		if (filter_port(filters, "publish", json_int_at(p, "PublicPort", 0), json_str_at(p, "Type", "")))
			return true;
	return !json_array_size(json_object_get(filters, "publish"));
}

/* expose: one of the container, whether it runs or not. */
static bool keeps_exposed(const json_t *filters, const json_t *doc)
{
	const char *key;
	json_t *v;

	json_object_foreach (json_at(doc, "Config.ExposedPorts"), key, v) {
		struct sv rest = sv_of(key), port = sv_cut(&rest, '/');

		if (filter_port(filters, "expose", strtol(port.p, NULL, 10), rest.p))
			return true;
	}
	return !json_array_size(json_object_get(filters, "expose"));
}

static bool keeps(const json_t *filters, bool all, const json_t *doc)
{
	const char *status = json_str_at(doc, "State.Status", "");
	bool running = json_bool_at(doc, "State.Running", false);
	char code[16];

	(void)snprintf(code, sizeof code, "%d", (int)json_int_at(doc, "State.ExitCode", 0));
	if (!all && !running && !json_array_size(json_object_get(filters, "status")) &&
	    !json_array_size(json_object_get(filters, "exited")))
		return false;
	return filter_is(filters, "status", status) && filter_prefix(filters, "id", json_str_at(doc, "Id", "")) &&
	       filter_by_name(filters, "name", json_str_at(doc, "Name", "")) &&
	       filter_labels(filters, json_at(doc, "Config.Labels")) && keeps_ancestor(filters, doc) &&
	       filter_is(filters, "health", json_str_at(doc, "State.Health.Status", "none")) && keeps_volume(filters, doc) && filter_is(filters, "network", ctr_network(doc)) &&
	       keeps_published(filters, doc) && keeps_exposed(filters, doc) &&
	       (!json_array_size(json_object_get(filters, "exited")) ||
		(strcmp(status, "exited") == 0 && filter_is(filters, "exited", code)));
}

struct listing {
	struct engine *e;
	json_t *docs;
};

static struct err *collect(void *ctx, struct sv key, struct sv value)
{
	struct listing *l = ctx;
	json_t *doc;

	(void)key;
	TRY(json_parse(value, "container record", 1u << 20, &doc));
	(void)json_array_append_new(l->docs, doc);
	return NULL;
}

static int by_age(const void *a, const void *b)
{
	json_t *const *x = a, *const *y = b;
	const char *older = json_str_at(*x, "Created", ""), *newer = json_str_at(*y, "Created", "");

	return strcmp(newer, older);
}

/* Newest first. Owned array of borrowed documents. */
static json_t **sorted(json_t *docs)
{
	size_t n = json_array_size(docs);
	json_t **list = xcalloc(n + 1, sizeof *list);

	for (size_t i = 0; i < n; i++)
		list[i] = json_array_get(docs, i);
	qsort(list, n, sizeof *list, by_age);
	return list;
}

FALLIBLE container_list(struct engine *e, bool all, const json_t *filters, json_t **out_array)
{
	static const char *const known[] = { "id",     "name",	 "label",  "status",  "exited",
					     "ancestor", "volume", "network", "health", "before", "since",
					     "publish",	 "expose", NULL };
	auto_json json_t *docs = json_array(), *out = json_array();
	auto_txn struct db_txn *txn = NULL;
	auto_free json_t **list = NULL;
	auto_free char *before = NULL, *since = NULL;
	struct listing l = { e, docs };

	TRY(filter_check(filters, known));
	TRY(check_ports(filters, "publish"));
	TRY(check_ports(filters, "expose"));
	TRY(moment_of(e, filters, "before", &before));
	TRY(moment_of(e, filters, "since", &since));
	TRY(db_begin_read(engine_db(e), &txn));
	TRY(db_scan(txn, DB_CONTAINER, "", collect, &l));
	db_abort(TAKE(txn));
	list = sorted(docs);
	for (size_t i = 0; list[i]; i++) {
		auto_json json_t *status = NULL, *live = NULL;
		const char *id = json_str_at(list[i], "Id", "");
		json_t *doc = list[i];

		if (ctr_live(e, id, &status) && json_bool_at(doc, "HostConfig.AutoRemove", false)) {
			err_free(ctr_load(e, id, &live)); /* its network stands beside the keeper's status */
			doc = live ? live : doc;
		}
		merge_live(e, doc, status);
		if ((before && strcmp(json_str_at(doc, "Created", ""), before) >= 0) ||
		    (since && strcmp(json_str_at(doc, "Created", ""), since) <= 0))
			continue;
		if (keeps(filters, all, doc))
			(void)json_array_append_new(out, summary(doc));
	}
	*out_array = TAKE(out);
	return NULL;
}
