/* image_archive_test.c - save and load: our archives, older docker's, other tools', and bad ones. */
#include "engine/image_fixture_test.h"

static void save(struct engine *e, const char *ref, struct buf *out)
{
	auto_free char *text = xstrdup(ref);

	*out = BUF(16u << 20);
	CHECK_OK(engine_image_save(e, (char *[]){ text, NULL }, (struct zip_sink){ fixture_write, out }));
}

static struct err *load(struct engine *e, const struct buf *archive, json_t **out_loaded)
{
	struct fixture_reader r = { archive->data, archive->n };

	return engine_image_load(e, (struct zip_source){ fixture_read, &r }, out_loaded);
}

static void remove_image(struct engine *e, const char *text)
{
	auto_json json_t *events = NULL;

	CHECK_OK(engine_image_remove(e, text, true, &events));
	CHECK_INT(fixture_blobs(e) + fixture_layers(e), 0);
}

static void loads_as(struct engine *e, const struct buf *archive, const char *want)
{
	auto_json json_t *loaded = NULL;
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };

	CHECK_OK(load(e, archive, &loaded));
	CHECK_INT(json_array_size(loaded), 1);
	CHECK_STR(json_string_value(json_array_get(loaded, 0)), want);
	CHECK_OK(engine_image_get(e, want, &image));
	CHECK_INT(fixture_layers(e), text_list_len(image.diff_ids));
}

TEST(what_was_saved_loads_with_the_same_digests)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a:1");
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };
	auto_free char *before = NULL;
	auto_buf struct buf archive, again, small = BUF(16u << 20);
	auto_zip struct zip *z = NULL;

	CHECK_OK(engine_image_get(e, "a:1", &image));
	before = xstrdup(image.manifest);
	engine_image_fini(&image);
	save(e, "a:1", &archive);
	save(e, id, &again);
	remove_image(e, "a:1");
	loads_as(e, &archive, "a:1");
	CHECK_OK(engine_image_get(e, "a:1", &image));
	CHECK_STR(image.id, id);
	CHECK_STR(image.manifest, before);
	engine_image_fini(&image);
	remove_image(e, "a:1");
	CHECK_OK(zip_open(ZIP_GZIP, 0, (struct zip_sink){ fixture_write, &small }, &z));
	CHECK_OK(zip_write(z, archive.data, archive.n));
	CHECK_OK(zip_finish(z));
	loads_as(e, &small, "a:1");
	remove_image(e, "a:1");
	loads_as(e, &again, id); /* saved by id: no name */
}

/* The parts of an archive by hand. */
struct hand {
	struct buf layer, packed, config, out;
	char diff_id[DIGEST_MAX], config_digest[DIGEST_MAX], packed_digest[DIGEST_MAX];
	struct tar_writer *tar;
};

static void hand_fini(struct hand *h)
{
	buf_fini(&h->layer);
	buf_fini(&h->packed);
	buf_fini(&h->config);
	buf_fini(&h->out);
	tar_writer_free(h->tar);
}

static void hand_init(struct hand *h)
{
	auto_zip struct zip *z = NULL;

	*h = (struct hand){ .packed = BUF(1u << 20), .config = BUF(65536), .out = BUF(1u << 20) };
	fixture_layer("by hand", &h->layer);
	CHECK_OK(zip_open(ZIP_GZIP, 0, (struct zip_sink){ fixture_write, &h->packed }, &z));
	CHECK_OK(zip_write(z, h->layer.data, h->layer.n));
	CHECK_OK(zip_finish(z));
	digest_of(h->layer.data, h->layer.n, h->diff_id);
	digest_of(h->packed.data, h->packed.n, h->packed_digest);
	buf_fmt(&h->config, "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\","
			    "\"diff_ids\":[\"%s\"]}}", h->diff_id);
	digest_of(h->config.data, h->config.n, h->config_digest);
	CHECK_OK(tar_writer_new((struct zip_sink){ fixture_write, &h->out }, &h->tar));
}

static void hand_text(struct hand *h, const char *name, const char *text)
{
	fixture_add(h->tar, name, text, strlen(text));
}

TEST(archives_of_older_dockers_load)
{
	auto_engine struct engine *e = fixture_open();
	CLEANUP(hand_fini) struct hand h;
	struct tar_entry link = { .name = "second/layer.tar", .link = "../first/layer.tar", .type = '2', .mode = 0777 };

	hand_init(&h);
	fixture_add(h.tar, "first/layer.tar", h.layer.data, h.layer.n);
	hand_text(&h, "first/VERSION", "1.0");
	CHECK_OK(tar_add(h.tar, &link));
	fixture_add(h.tar, "config.json", h.config.data, h.config.n);
	hand_text(&h, "manifest.json", "[{\"Config\":\"config.json\",\"RepoTags\":[\"old:1\"],\"Layers\":[\"second/layer.tar\"]}]");
	CHECK_OK(tar_finish(h.tar));
	loads_as(e, &h.out, "old:1");
	CHECK_INT(fixture_blobs(e), 3); /* what the image does not use is gone */
	remove_image(e, "old:1");
}

/* manifest, index of platforms and index.json as buildx writes them; compressed layer; no manifest.json */
static void oci_archive(struct hand *h, bool with_docker)
{
	auto_buf struct buf manifest = BUF(65536), index = BUF(65536), top = BUF(65536), docker = BUF(65536);
	struct descriptor config = { (char[]){ MEDIA_CONFIG }, "", h->config.n };
	struct descriptor layer = { (char[]){ MEDIA_LAYER "+gzip" }, "", h->packed.n };
	char manifest_digest[DIGEST_MAX], index_digest[DIGEST_MAX];
	const struct {
		const char *digest;
		const struct buf *body;
	} blobs[] = { { h->config_digest, &h->config }, { h->packed_digest, &h->packed }, { manifest_digest, &manifest },
		      { index_digest, &index } };

	memcpy(config.digest, h->config_digest, DIGEST_MAX);
	memcpy(layer.digest, h->packed_digest, DIGEST_MAX);
	manifest_write(&config, &layer, 1, &manifest);
	digest_of(manifest.data, manifest.n, manifest_digest);
	buf_fmt(&index, "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" MEDIA_MANIFEST "\",\"digest\":\"%s\",\"size\":%zu,"
			"\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},{\"mediaType\":\"" MEDIA_MANIFEST "\","
			"\"digest\":\"%s\",\"size\":7,\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}}]}",
		manifest_digest, manifest.n, h->diff_id);
	digest_of(index.data, index.n, index_digest);
	buf_fmt(&top, "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" MEDIA_INDEX "\",\"digest\":\"%s\",\"size\":%zu,"
		      "\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/multi:1\","
		      "\"org.opencontainers.image.ref.name\":\"1\"}}]}", index_digest, index.n);
	for (size_t i = 0; i < LEN(blobs); i++) {
		auto_free char *name = xasprintf("blobs/sha256/%s", digest_hex(blobs[i].digest));

		fixture_add(h->tar, name, blobs[i].body->data, blobs[i].body->n);
	}
	fixture_add(h->tar, "index.json", top.data, top.n);
	buf_fmt(&docker, "[{\"Config\":\"blobs/sha256/%s\",\"RepoTags\":[\"multi:1\"],\"Layers\":[\"blobs/sha256/%s\"]}]",
		digest_hex(h->config_digest), digest_hex(h->packed_digest));
	if (with_docker)
		fixture_add(h->tar, "manifest.json", docker.data, docker.n);
	CHECK_OK(tar_finish(h->tar));
}

TEST(oci_archives_load_for_our_platform)
{
	auto_engine struct engine *e = fixture_open();

	for (int with_docker = 0; with_docker < 2; with_docker++) {
		CLEANUP(engine_image_fini) struct engine_image image = { 0 };
		CLEANUP(image_docs_fini) struct image_docs d = { 0 };
		CLEANUP(hand_fini) struct hand h;

		hand_init(&h);
		oci_archive(&h, with_docker);
		loads_as(e, &h.out, "multi:1");
		CHECK_OK(engine_image_get(e, "multi:1", &image));
		CHECK_OK(image_docs_load(e, image.manifest, &d));
		CHECK_STR(d.manifest.parts[0].media_type, MEDIA_LAYER "+gzip");
		CHECK_STR(image.id, h.config_digest);
		CHECK_INT(fixture_records(e, DB_BLOB_INFO), 1);
		engine_image_fini(&image);
		remove_image(e, "multi:1");
		CHECK_INT(fixture_records(e, DB_BLOB_INFO), 0);
	}
}

TEST(bad_archives_are_refused_and_leave_nothing)
{
	static const struct {
		const char *manifest, *index;
		enum err_kind kind;
	} bad[] = {
		{ NULL, NULL, ERR_INVALID },
		{ "{}", NULL, ERR_INVALID },
		{ "[", NULL, ERR_INVALID },
		{ "[]", NULL, ERR_INVALID },
		{ "[{}]", NULL, ERR_INVALID },
		{ "[{\"Config\":\"nosuch\",\"Layers\":[]}]", NULL, ERR_INVALID },
		{ "[{\"Config\":\"config.json\",\"Layers\":[]}]", NULL, ERR_INVALID },
		{ "[{\"Config\":\"config.json\",\"Layers\":[\"nosuch\"]}]", NULL, ERR_INVALID },
		{ "[{\"Config\":\"config.json\",\"Layers\":[3]}]", NULL, ERR_INVALID },
		{ "[{\"Config\":\"config.json\",\"RepoTags\":[\"UPPER\"],\"Layers\":[\"layer\"]}]", NULL, ERR_INVALID },
		{ "[{\"Config\":\"config.json\",\"RepoTags\":[\"x\"],\"Layers\":[\"loop\"]}]", NULL, ERR_INVALID },
		{ "[{\"Config\":\"config.json\",\"RepoTags\":[\"x\"],\"Layers\":[\"config.json\"]}]", NULL, ERR_CORRUPT },
		{ NULL, "{\"schemaVersion\":2,\"manifests\":[]}", ERR_INVALID },
		{ NULL, "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"x\"}]}", ERR_INVALID },
		{ NULL, "{\"manifests\":[{\"digest\":\"sha256:" /* 64 zeros */
			"0000000000000000000000000000000000000000000000000000000000000000\"}]}", ERR_NOT_FOUND },
	};
	auto_engine struct engine *e = fixture_open();

	for (size_t i = 0; i < LEN(bad); i++) {
		struct tar_entry loop = { .name = "loop", .link = "loop", .type = '2', .mode = 0777 };
		auto_json json_t *loaded = NULL, *list = NULL;
		CLEANUP(hand_fini) struct hand h;

		hand_init(&h);
		fixture_add(h.tar, "layer", h.layer.data, h.layer.n);
		fixture_add(h.tar, "config.json", h.config.data, h.config.n);
		CHECK_OK(tar_add(h.tar, &loop));
		if (bad[i].manifest)
			hand_text(&h, "manifest.json", bad[i].manifest);
		if (bad[i].index)
			hand_text(&h, "index.json", bad[i].index);
		CHECK_OK(tar_finish(h.tar));
		CHECK_ERR(bad[i].kind, load(e, &h.out, &loaded));
		CHECK_OK(engine_image_list(e, false, &list));
		CHECK_INT(json_array_size(list), 0);
		CHECK_INT(fixture_blobs(e) + fixture_layers(e), 0);
	}
}

TEST(a_cut_archive_is_refused)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *id = fixture_image(e, "one", "a:1");
	auto_buf struct buf archive;

	save(e, "a:1", &archive);
	remove_image(e, "a:1");
	for (size_t cut = 0; cut + 1024 < archive.n; cut += 700) {
		struct buf part = archive;
		auto_json json_t *loaded = NULL;
		auto_err struct err *err = NULL;

		part.n = cut;
		err = load(e, &part, &loaded);
		CHECK(err && (err->kind == ERR_CORRUPT || err->kind == ERR_INVALID));
		CHECK_INT(fixture_blobs(e) + fixture_layers(e), 0);
	}
}

TEST(a_blob_that_is_not_what_its_name_says_is_refused)
{
	auto_engine struct engine *e = fixture_open();
	auto_json json_t *loaded = NULL;
	CLEANUP(hand_fini) struct hand h;
	auto_free char *name = NULL;

	hand_init(&h);
	name = xasprintf("blobs/sha256/%s", digest_hex(h.config_digest));
	hand_text(&h, name, "something else");
	CHECK_OK(tar_finish(h.tar));
	CHECK_ERR(ERR_CORRUPT, load(e, &h.out, &loaded));
	CHECK_INT(fixture_blobs(e), 0);
}

TEST(a_failing_load_names_nothing_and_leaves_nothing)
{
	FAULT_SWEEP(EIO)
	{
		auto_engine struct engine *e = fixture_open();
		auto_json json_t *loaded = NULL, *list = NULL;
		CLEANUP(hand_fini) struct hand h;
		struct err *err;

		hand_init(&h);
		oci_archive(&h, true);
		t_sweep_on();
		err = load(e, &h.out, &loaded);
		t_sweep_off();
		CHECK_OK(engine_image_list(e, false, &list));
		CHECK(err || json_array_size(list) == 1);
		/* the cause is to be told, not its effect; but what cannot be looked at counts as not there */
		if (err && err->kind == ERR_CORRUPT && strcmp(t_sweep_call(), "fstatat") != 0)
			t_fail(__FILE__, __LINE__, "after a failing %s: %s", t_sweep_call(), err->msg);
		if (json_array_size(list)) { /* named before the failing call: whole then */
			CLEANUP(engine_image_fini) struct engine_image image = { 0 };

			CHECK_OK(engine_image_get(e, "multi:1", &image));
			engine_image_fini(&image);
			remove_image(e, "multi:1");
		}
		CHECK_OK(image_sweep(e));
		CHECK_INT(fixture_blobs(e) + fixture_layers(e), 0);
		err_free(err);
	}
}
