/* image_test.c - images made here: their identity, names, removal, what is swept and what stays. */
#include "engine/image_fixture_test.h"
#include "engine/verify.h"
#include "engine/prune.h"
#include "state/record.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define BOX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static json_t *inspect(struct engine *e, const char *text)
{
	json_t *v = NULL;

	CHECK_OK(engine_image_inspect(e, text, &v));
	return v;
}

static size_t events_of(struct engine *e, const char *text, bool force, const char *kind)
{
	auto_json json_t *events = NULL;
	size_t i, n = 0;
	json_t *v;

	CHECK_OK(engine_image_remove(e, text, force, &events));
	json_array_foreach (events, i, v)
		n += json_object_get(v, kind) != NULL;
	return n;
}

static void refused(struct engine *e, const char *text, bool force, const char *words)
{
	auto_json json_t *events = NULL;
	auto_err struct err *err = engine_image_remove(e, text, force, &events);

	CHECK(err && err->kind == ERR_CONFLICT);
	if (!strstr(err->msg, words))
		t_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", err->msg, words);
}

TEST(the_same_archive_gives_the_same_image)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *a = fixture_image(e, "one", "a"), *b = fixture_image(e, "one", "b:2"), *c = fixture_image(e, "two", "c");
	auto_json json_t *v = inspect(e, "a");

	CHECK_STR(a, b);
	CHECK(strcmp(a, c) != 0);
	CHECK_STR(json_str_at(v, "Created", ""), "2023-11-14T22:13:20Z");
	CHECK_STR(json_str_at(v, "Id", ""), a);
	CHECK_STR(json_str_at(v, "Comment", ""), "Imported");
	CHECK_INT(json_array_size(json_object_get(v, "RepoTags")), 2);
	CHECK_INT(fixture_layers(e), 2);
	CHECK_INT(fixture_blobs(e), 6); /* layer, configuration, manifest of each */
}

TEST(changes_become_configuration)
{
	static const struct {
		const char *change, *path, *want;
	} good[] = {
		{ "CMD [\"a\", \"b c\"]", "Cmd", "[\"a\",\"b c\"]" },
		{ "cmd echo hi", "Cmd", "[\"/bin/sh\",\"-c\",\"echo hi\"]" },
		{ "ENTRYPOINT [\"x\"]", "Entrypoint", "[\"x\"]" },
		{ "ENV A=1 B='2 3' C=\"4 \\\" 5\" D=6\\ 7", "Env", "[\"A=1\",\"B=2 3\",\"C=4 \\\" 5\",\"D=6 7\"]" },
		{ "ENV NAME all of it", "Env", "[\"NAME=all of it\"]" },
		{ "ENV A=1 A=2", "Env", "[\"A=2\"]" },
		{ "ENV URL=http://x/?a=b", "Env", "[\"URL=http://x/?a=b\"]" },
		{ "LABEL a=b \"c d\"=e", "Labels", "{\"a\":\"b\",\"c d\":\"e\"}" },
		{ "EXPOSE 80 53/udp 8000-8002", "ExposedPorts",
		  "{\"80/tcp\":{},\"53/udp\":{},\"8000/tcp\":{},\"8001/tcp\":{},\"8002/tcp\":{}}" },
		{ "VOLUME [\"/a b\", \"/c\"]", "Volumes", "{\"/a b\":{},\"/c\":{}}" },
		{ "VOLUME /a /b", "Volumes", "{\"/a\":{},\"/b\":{}}" },
		{ "USER 1000:1000", "User", "1000:1000" },
		{ "WORKDIR /srv", "WorkingDir", "/srv" },
		{ "WORKDIR srv", "WorkingDir", "/srv" },
		{ "STOPSIGNAL SIGINT", "StopSignal", "SIGINT" },
	};
	static const char *const bad[] = { "NOSUCH x", "CMD", "", "EXPOSE http", "EXPOSE 0", "EXPOSE 80/icmp", "EXPOSE 9-3",
					   "ENV =x", "ENV A=1 B", "WORKDIR", "LABEL \xff=1" };
	auto_engine struct engine *e = fixture_open();

	for (size_t i = 0; i < LEN(good); i++) {
		auto_free char *id = NULL, *change = xstrdup(good[i].change);
		auto_json json_t *v = NULL;
		auto_buf struct buf b = BUF(4096);
		const json_t *got;

		CHECK_OK(fixture_import(e, "x", "x", (char *[]){ change, NULL }, &id));
		v = inspect(e, "x");
		got = json_object_get(json_object_get(v, "Config"), good[i].path);
		if (!json_is_string(got))
			json_print(got, &b);
		CHECK_STR(json_is_string(got) ? json_string_value(got) : buf_text(&b), good[i].want);
	}
	for (size_t i = 0; i < LEN(bad); i++) {
		auto_free char *id = NULL, *change = xstrdup(bad[i]);

		CHECK_ERR(ERR_INVALID, fixture_import(e, "x", "bad", (char *[]){ change, NULL }, &id));
	}
}

TEST(an_image_is_found_by_name_id_prefix_and_digest)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "user/app:1");
	auto_json json_t *v = inspect(e, "user/app:1");
	const char *by_digest = json_string_value(json_array_get(json_object_get(v, "RepoDigests"), 0));
	const char *const texts[] = { "docker.io/user/app:1", id, id + 7, by_digest };
	static const char *const absent[] = { "user/app", "app:1", "user/app:2", "0123", "sha256:0123" };
	char prefix[13];

	CHECK_OK(engine_image_tag(e, "user/app:1", "other"));
	for (size_t i = 0; i < LEN(texts); i++) {
		CLEANUP(engine_image_fini) struct engine_image image = { 0 };

		CHECK_OK(engine_image_get(e, texts[i], &image));
		CHECK_STR(image.id, id);
		CHECK_INT(text_list_len(image.diff_ids), 1);
	}
	(void)snprintf(prefix, sizeof prefix, "%.12s", id + 7);
	json_decref(v);
	v = inspect(e, prefix);
	CHECK_STR(json_str_at(v, "Id", ""), id);
	for (size_t i = 0; i < LEN(absent); i++) {
		struct engine_image image;

		CHECK_ERR(ERR_NOT_FOUND, engine_image_get(e, absent[i], &image));
	}
	CHECK_ERR(ERR_INVALID, engine_image_tag(e, "other", "UPPER"));
	CHECK_ERR(ERR_NOT_FOUND, engine_image_tag(e, "nosuch", "x"));
}

TEST(what_loses_its_name_stays_until_it_is_removed)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *old = fixture_image(e, "one", "x"), *new = fixture_image(e, "two", "x");
	auto_json json_t *list = NULL, *v = inspect(e, old);

	CHECK_OK(engine_image_list(e, false, &list));
	CHECK_INT(json_array_size(list), 2);
	CHECK_INT(json_array_size(json_object_get(v, "RepoTags")), 0);
	CHECK_OK(engine_image_tag(e, old, "named"));
	CHECK_INT(events_of(e, "named", false, "Deleted"), 2);
	CHECK_ERR(ERR_NOT_FOUND, engine_image_remove(e, old, false, &v));
	CHECK_INT(events_of(e, new, false, "Untagged"), 1);
	CHECK_INT(fixture_blobs(e), 0);
	CHECK_INT(fixture_layers(e), 0);
}

TEST(removal_follows_docker)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a");
	auto_json json_t *v = inspect(e, "a");
	json_t *layers = json_object_get(json_object_get(v, "RootFS"), "Layers");

	CHECK_OK(engine_image_tag(e, "a", "b:1"));
	refused(e, id, false, "(must be forced) - image is referenced in multiple repositories");
	CHECK_INT(events_of(e, "b:1", false, "Deleted"), 0);
	fixture_put(e, DB_CONTAINER, BOX, json_pack("{s:s, s:{s:O}}", "Image", id, "Hoy", "Layers", layers));
	refused(e, "a", false, "unable to remove repository reference \"a\" (must force) - container 0123456789ab is using");
	refused(e, id, false, "(must be forced) - image is being used by stopped container 0123456789ab");
	CHECK_OK(engine_image_tag(e, "a", "b:1"));
	CHECK_INT(events_of(e, "a", false, "Deleted"), 0); /* another name is left */
	CHECK_INT(events_of(e, "b:1", true, "Deleted"), 1);
	CHECK_INT(fixture_layers(e), 1); /* the container's, so not said to be gone */
	fixture_delete(e, DB_CONTAINER, BOX);
	CHECK_OK(image_sweep(e));
	CHECK_INT(fixture_layers(e), 0);
	CHECK_INT(fixture_blobs(e), 0);
}

TEST(a_cache_entry_keeps_its_layer)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a");
	auto_json json_t *v = inspect(e, "a");

	fixture_put(e, DB_CACHE, "key",
		    json_pack("{s:O}", "diff_id", json_array_get(json_object_get(json_object_get(v, "RootFS"), "Layers"), 0)));
	CHECK_INT(events_of(e, "a", false, "Deleted"), 1);
	CHECK_INT(fixture_layers(e), 1);
	CHECK_INT(fixture_blobs(e), 1);
	fixture_delete(e, DB_CACHE, "key");
	CHECK_OK(image_sweep(e));
	CHECK_INT(fixture_layers(e) + fixture_blobs(e), 0);
}

TEST(pruning_takes_what_has_no_name_and_no_container)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *old = fixture_image(e, "one", "x"), *new = fixture_image(e, "two", "x"), *used = fixture_image(e, "three", "y");
	auto_json json_t *events = NULL, *v = inspect(e, "y"), *w = inspect(e, "x");
	auto_list char **keys = NULL;
	uint64_t bytes = 0;

	fixture_put(e, DB_CONTAINER, BOX,
		    json_pack("{s:s, s:{s:O}}", "Image", used, "Hoy", "Layers",
			      json_object_get(json_object_get(v, "RootFS"), "Layers")));
	fixture_put(e, DB_CACHE, "key",
		    json_pack("{s:O}", "diff_id", json_array_get(json_object_get(json_object_get(w, "RootFS"), "Layers"), 0)));
	CHECK_OK(engine_image_prune(e, false, NULL, &events, &bytes));
	CHECK_INT(json_array_size(events), 1);
	CHECK_STR(json_str_at(json_array_get(events, 0), "Deleted", ""), old);
	CHECK(bytes > 1024);
	CHECK_INT(fixture_layers(e), 2);
	json_decref(events);
	events = NULL;
	CHECK_OK(engine_image_prune(e, true, NULL, &events, &bytes));
	CHECK_INT(json_array_size(events), 2);
	CHECK_STR(json_str_at(json_array_get(events, 1), "Deleted", ""), new);
	CHECK_INT(fixture_layers(e), 2); /* the container's and the cache's */
	CHECK_OK(engine_cache_prune(e, true, NULL, &keys, &bytes));
	CHECK_INT(text_list_len(keys), 1);
	CHECK_INT(fixture_layers(e), 1);
	CHECK_INT(fixture_blobs(e), 3);
}

TEST(what_a_lease_holds_stays_until_it_ends_and_all_else_goes)
{
	auto_engine struct engine *e = fixture_open(), *other = fixture_open();
	auto_free char *one = fixture_image(e, "one", "a"), *two = fixture_image(e, "two", "b");
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };
	auto_leased struct engine *leased = NULL, *again = NULL;

	CHECK_OK(engine_lease_begin(e, &leased));
	CHECK_OK(engine_lease_begin(e, &again)); /* as a pull within a build */
	CHECK_OK(engine_image_get(e, "a", &image));
	engine_image_fini(&image);
	CHECK_INT(events_of(other, "b", false, "Deleted"), 2);
	CHECK_INT(events_of(other, "a", false, "Deleted"), 1);
	CHECK_INT(fixture_blobs(e), 3);
	CHECK_INT(fixture_layers(e), 1);
	engine_lease_end(TAKE(again));
	CHECK_OK(image_sweep(e));
	{
		auto_engine struct engine *early = fixture_open(); /* they are still at it */

		CHECK_INT(fixture_blobs(early), 3);
	}
	engine_lease_end(TAKE(leased));
	CHECK_INT(fixture_blobs(e) + fixture_layers(e), 0);
}

TEST(an_image_about_to_be_used_stays)
{
	auto_engine struct engine *e = fixture_open(), *other = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a");
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };

	CHECK_OK(engine_image_get(e, "a", &image));
	CHECK_INT(events_of(other, "a", false, "Deleted"), 1);
	CHECK_INT(fixture_blobs(e), 3);
	CHECK_INT(fixture_layers(e), 1);
	engine_image_fini(&image);
	{
		auto_engine struct engine *next = fixture_open();

		CHECK_INT(fixture_blobs(next) + fixture_layers(next), 0);
	}
}

TEST(index_json_follows_the_names)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a:1"), *body = NULL;
	auto_json json_t *v = NULL;
	const json_t *first;
	size_t n;

	CHECK_OK(record_read(engine_root_fd(e), "index.json", &body, &n));
	CHECK_OK(json_parse(sv_from(body, n), "index", n, &v));
	first = json_array_get(json_object_get(v, "manifests"), 0);
	CHECK_INT(json_array_size(json_object_get(v, "manifests")), 1);
	CHECK_STR(json_str_at(first, "mediaType", ""), MEDIA_MANIFEST);
	CHECK_STR(json_string_value(json_object_get(json_object_get(first, "annotations"), "org.opencontainers.image.ref.name")),
		  "docker.io/library/a:1");
	CHECK_INT(events_of(e, "a:1", false, "Untagged"), 1);
	free(body);
	body = NULL;
	CHECK_OK(record_read(engine_root_fd(e), "index.json", &body, &n));
	CHECK(strstr(body, "\"manifests\":[]"));
}

/* Replaces a blob by as many other bytes. */
static void damage(struct engine *e, const char *digest)
{
	auto_free char *path = xasprintf("%s/blobs/sha256/%s", engine_root(e), digest_hex(digest));
	FILE *f = fopen(path, "r+");

	CHECK(f && fputs("damaged", f) >= 0 && fclose(f) == 0);
}

TEST(a_damaged_image_is_listed_and_can_be_removed)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *bad = fixture_image(e, "one", "bad"), *good = fixture_image(e, "two", "good");
	auto_json json_t *list = NULL, *v = NULL;
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };

	CHECK_OK(engine_image_get(e, "bad", &image));
	damage(e, image.manifest);
	CHECK_ERR(ERR_CORRUPT, engine_image_inspect(e, "bad", &v));
	CHECK_OK(engine_image_list(e, false, &list));
	CHECK_INT(json_array_size(list), 2);
	v = inspect(e, good);
	engine_image_fini(&image);
	CHECK_INT(events_of(e, "bad", false, "Deleted"), 1);
	CHECK_INT(fixture_blobs(e), 3);
	CHECK_INT(fixture_layers(e), 1);
}

TEST(documents_have_a_second_copy)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a"), *other = fixture_image(e, "two", "b"), *body = NULL;
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };
	size_t n = 0;

	CHECK_INT(fixture_records(e, DB_DOCUMENT), 4);
	CHECK_OK(engine_image_get(e, "a", &image));
	damage(e, image.manifest);
	damage(e, id);
	CHECK_INT(events_of(e, "b", false, "Deleted"), 2); /* the sweep knows what a damaged image is made of */
	CHECK_INT(fixture_records(e, DB_DOCUMENT), 2);
	CHECK_INT(fixture_blobs(e), 3);
	CHECK_INT(fixture_layers(e), 1);
	CHECK_OK(image_document_read(e, image.manifest, &body, &n));
	CHECK(strstr(body, id));
	CHECK_ERR(ERR_NOT_FOUND, image_document_restore(e, other));
	CHECK_OK(store_blob_delete(engine_store(e), image.manifest));
	CHECK_OK(store_blob_delete(engine_store(e), id));
	CHECK_OK(image_document_restore(e, image.manifest));
	CHECK_OK(image_document_restore(e, id));
	CHECK_OK(store_blob_verify(engine_store(e), image.manifest));
	CHECK_OK(store_blob_verify(engine_store(e), id));
}

static void no_line(void *ctx, const char *line)
{
	(void)ctx;
	printf("%s\n", line);
}

static void events_are(struct engine *e, const char *text, const char *want)
{
	auto_json json_t *events = NULL;
	auto_buf struct buf b = BUF(4096);
	size_t i;
	json_t *v;

	CHECK_OK(engine_image_remove(e, text, false, &events));
	json_array_foreach (events, i, v)
		buf_fmt(&b, "%s%s", i ? " " : "", json_object_get(v, "Deleted") ? "gone" : json_str_at(v, "Untagged", "?"));
	CHECK_STR(buf_text(&b), want);
}

/* Of a repository with tags, its digest can go alone; it goes with the last tag, also when it was pulled itself. */
TEST(a_digest_is_a_reference_of_its_own)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a:1"), *by_digest = NULL, *full = NULL, *again = NULL;
	char manifest[DIGEST_MAX];
	auto_free char *ref = NULL;
	auto_json json_t *v = NULL;

	CHECK_OK(image_find(e, "a:1", manifest, &ref));
	by_digest = xasprintf("a@%s", manifest);
	full = xasprintf("docker.io/library/%s", by_digest);
	CHECK_OK(engine_image_tag(e, "a:1", "a:2"));
	events_are(e, by_digest, by_digest);
	CHECK_ERR(ERR_NOT_FOUND, engine_image_remove(e, by_digest, false, &v));
	v = inspect(e, "a:1");
	CHECK_INT(json_array_size(json_object_get(v, "RepoTags")), 2);
	CHECK_INT(json_array_size(json_object_get(v, "RepoDigests")), 0);
	CHECK_OK(image_name_set(e, full, manifest, manifest)); /* as a pull by digest does */
	CHECK_OK(engine_image_tag(e, "a:1", "b:1"));
	events_are(e, "a:2", "a:2");
	again = xasprintf("a:1 %s", by_digest);
	events_are(e, "a:1", again);
	CHECK_OK(image_name_set(e, full, manifest, manifest));
	events_are(e, by_digest, by_digest);
	CHECK_OK(image_name_set(e, full, manifest, manifest));
	refused(e, id, false, "(must be forced) - image is referenced in multiple repositories");
	events_are(e, "b:1", "b:1");
	free(again);
	again = xasprintf("%s gone gone", by_digest);
	events_are(e, by_digest, again);
	CHECK_INT(fixture_blobs(e), 0);
}

static struct {
	int at, seen; /* which call; how many there were */
	pid_t remover;
} race;

/* Another process removes "a" at one call, and has ended unless it waits for what that call is in the middle of. */
static int remove_at(const char *call)
{
	(void)call;
	if (race.seen++ != race.at)
		return 0;
	race.remover = fork();
	if (race.remover == 0) {
		auto_json json_t *events = NULL;
		struct engine *e;

		sys_fault = NULL;
		e = fixture_open(); /* an environment of LMDB does not survive a fork */
		_exit(engine_image_remove(e, "a", false, &events) ? 1 : 0);
	}
	for (int i = 0; i < 100; i++) {
		siginfo_t info = { 0 };

		if (waitid(P_PID, (id_t)race.remover, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == race.remover)
			break;
		(void)usleep(1000);
	}
	return 0;
}

/* Whether "a" was found and held, with a removal at the nth call: then all of it is there. */
static bool held_at(struct engine *e, int at)
{
	auto_leased struct engine *leased = NULL;
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_free char *id = fixture_image(e, "one", "a"), *ref = NULL;
	struct image_name n = { 0 };
	bool found = false;
	int status = 1;

	race.at = at;
	race.seen = 0;
	race.remover = 0;
	CHECK_OK(engine_lease_begin(e, &leased));
	sys_fault = remove_at;
	CHECK_OK(image_name_held(leased, "a", &n, &found));
	sys_fault = NULL;
	ref = n.ref;
	CHECK(!race.remover || (waitpid(race.remover, &status, 0) == race.remover && status == 0));
	if (!found)
		return false;
	CHECK_OK(image_docs_load(e, n.manifest, &d));
	CHECK(store_has(engine_store(e), d.manifest.parts[0].digest, NULL));
	return true;
}

TEST(what_is_pushed_is_held_or_gone)
{
	auto_engine struct engine *e = fixture_open();
	int held = 0, gone = 0;

	for (int at = 0; at == 0 || race.remover; at++) {
		*(held_at(e, at) ? &held : &gone) += 1;
		CHECK_OK(image_sweep(e));
		CHECK_INT(fixture_blobs(e), race.remover ? 0 : 3);
	}
	CHECK(held == 1 && gone > 5); /* held only when nobody removed it */
}

/* A sweep that a power cut ended may have removed a blob and not what is known of it. */
TEST(a_fact_about_a_blob_that_is_gone_is_no_damage)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a"), *other = fixture_image(e, "two", "b");
	const struct verify_opts o = { .tell = no_line };
	struct verify_result r;
	char gone[DIGEST_MAX];

	digest_of("gone", 4, gone);
	CHECK_OK(image_blob_remember(e, gone, id));
	CHECK_OK(engine_verify(e, &o, &r));
	CHECK_INT(r.damaged, 0);
	CHECK_INT(fixture_records(e, DB_BLOB_INFO), 1);
	CHECK_INT(events_of(e, "b", false, "Deleted"), 2);
	CHECK_INT(fixture_records(e, DB_BLOB_INFO), 0);
	(void)other;
}

/* Nobody knows what that container needs: blobs that no image needs stay, and those that one needs are mended. */
TEST(a_damaged_record_does_not_keep_blobs_from_being_mended)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a");
	const struct verify_opts o = { .tell = no_line, .repair = true };
	auto_txn struct db_txn *txn = NULL;
	struct verify_result r;
	char stray[DIGEST_MAX];

	CHECK_OK(store_put(engine_store(e), "a stray blob", 12, stray));
	CHECK_OK(db_begin_write(engine_db(e), &txn));
	CHECK_OK(db_put(txn, DB_CONTAINER, "c0ffee", SV("no object")));
	CHECK_OK(db_commit(TAKE(txn)));
	damage(e, id);
	damage(e, stray);
	CHECK_OK(engine_verify(e, &o, &r));
	CHECK(r.damaged == 3 && r.left == 2);
	CHECK_OK(store_blob_verify(engine_store(e), id));
	CHECK_ERR(ERR_CORRUPT, store_blob_verify(engine_store(e), stray));
}

TEST(a_failing_import_names_nothing_and_leaves_nothing)
{
	FAULT_SWEEP(ENOSPC)
	{
		auto_engine struct engine *e = fixture_open();
		auto_json json_t *list = NULL;
		auto_free char *id = NULL;
		struct err *err;

		t_sweep_on();
		err = fixture_import(e, "one", "a", NULL, &id);
		t_sweep_off();
		CHECK_OK(engine_image_list(e, false, &list));
		if (json_array_size(list)) { /* named before the last call failed, if one did: whole then */
			CLEANUP(engine_image_fini) struct engine_image image = { 0 };

			CHECK_OK(engine_image_get(e, "a", &image));
			CHECK_OK(store_blob_verify(engine_store(e), image.diff_ids[0]));
			engine_image_fini(&image);
			CHECK_INT(events_of(e, "a", false, "Deleted"), 2);
		} else {
			CHECK(err);
			CHECK_OK(image_sweep(e));
		}
		err_free(err);
		CHECK_INT(fixture_blobs(e) + fixture_layers(e), 0);
	}
}

TEST(a_failing_removal_keeps_the_image_or_its_rest_goes_later)
{
	FAULT_SWEEP(EIO)
	{
		auto_engine struct engine *e = fixture_open();
		auto_free char *id = fixture_image(e, "one", "a");
		auto_json json_t *events = NULL, *list = NULL;
		struct err *err;

		t_sweep_on();
		err = engine_image_remove(e, "a", false, &events);
		t_sweep_off();
		CHECK_OK(engine_image_list(e, false, &list));
		CHECK(err || json_array_size(list) == 0);
		if (json_array_size(list)) {
			CLEANUP(engine_image_fini) struct engine_image image = { 0 };

			CHECK_OK(engine_image_get(e, "a", &image));
			engine_image_fini(&image);
			CHECK_INT(events_of(e, "a", false, "Deleted"), 2);
		}
		CHECK_OK(image_sweep(e));
		CHECK_INT(fixture_blobs(e) + fixture_layers(e), 0);
		err_free(err);
	}
}

/* ---- killed at any system call ---- */

static void nothing(void)
{
}

static void import_one(void)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a");
}

/* What it was killed in is whole or absent, and the next sweep leaves no stray. */
static void whole_or_absent(void)
{
	auto_engine struct engine *e = fixture_open();
	auto_json json_t *list = NULL;
	auto_fd int tmp = sys_openat(engine_root_fd(e), "tmp", O_RDONLY | O_DIRECTORY, 0);

	CHECK_OK(engine_image_list(e, false, &list));
	CHECK(json_array_size(list) <= 1);
	if (json_array_size(list)) {
		CLEANUP(engine_image_fini) struct engine_image image = { 0 };

		CHECK_OK(engine_image_get(e, "a", &image));
		CHECK_OK(store_blob_verify(engine_store(e), image.diff_ids[0]));
		CHECK_INT(fixture_layers(e), 1);
		engine_image_fini(&image);
		CHECK_INT(events_of(e, "a", false, "Deleted"), 2);
	}
	CHECK_OK(image_sweep(e));
	CHECK_INT(fixture_blobs(e) + fixture_layers(e), 0);
	CHECK_INT(t_entries(tmp), 0);
}

TEST(an_import_that_is_killed_leaves_a_whole_image_or_none)
{
	t_crash_sweep(nothing, import_one, whole_or_absent);
}

static void remove_one(void)
{
	auto_engine struct engine *e = fixture_open();
	auto_json json_t *events = NULL;

	CHECK_OK(engine_image_remove(e, "a", false, &events));
}

TEST(a_removal_that_is_killed_leaves_a_whole_image_or_none)
{
	t_crash_sweep(import_one, remove_one, whole_or_absent);
}
