/* image_test.c - references as docker normalises them, platforms, manifests good and bad. */
#include "base/buf.h"
#include "base/own.h"
#include "base/text.h"
#include "harness/t.h"
#include "image/config.h"
#include "image/manifest.h"
#include "image/ref.h"
#include <stdio.h>
#include <string.h>

#define D "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

TEST(references_are_normalised)
{
	static const char *const good[][3] = {
		{ "debian", "docker.io/library/debian:latest", "debian:latest" },
		{ "debian:12", "docker.io/library/debian:12", "debian:12" },
		{ "user/app", "docker.io/user/app:latest", "user/app:latest" },
		{ "docker.io/debian", "docker.io/library/debian:latest", "debian:latest" },
		{ "index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest" },
		{ "localhost/x", "localhost/x:latest", "localhost/x:latest" },
		{ "localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t" },
		{ "127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", "127.0.0.1:5000/x:latest" },
		{ "[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest" },
		{ "Registry.example/x", "Registry.example/x:latest", "Registry.example/x:latest" },
		{ "a__b/c--d/e.f", "docker.io/a__b/c--d/e.f:latest", "a__b/c--d/e.f:latest" },
		{ "x@" D, "docker.io/library/x@" D, "x@" D },
		{ "x:1@" D, "docker.io/library/x:1@" D, "x:1@" D },
		{ "library/x", "docker.io/library/x:latest", "x:latest" },
		{ "docker.io/library/x", "docker.io/library/x:latest", "x:latest" },
		{ "docker.io/user/x", "docker.io/user/x:latest", "user/x:latest" },
		{ "library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest" },
		{ "a.b/c", "a.b/c:latest", "a.b/c:latest" },
		{ "a:5000/b", "a:5000/b:latest", "a:5000/b:latest" },
		{ "a:5000", "docker.io/library/a:5000", "a:5000" },
		{ "sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
		  "sub-dom1.foo.com/bar/baz/quux:some-long-tag" },
		{ "xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com" },
		{ "foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080", "foo/foo_bar.com:8080" },
		{ "192.168.0.2/x", "192.168.0.2/x:latest", "192.168.0.2/x:latest" },
		{ "x:UPPER_tag.1-2", "docker.io/library/x:UPPER_tag.1-2", "x:UPPER_tag.1-2" },
		{ "e3b0c44298fc1c14", "docker.io/library/e3b0c44298fc1c14:latest", "e3b0c44298fc1c14:latest" },
	};
	static const char *const bad[] = { "",	    "UPPER",   "a:",	 "a:-x",   "a//b",  "/a",      "a/",	   "-a",   "a@sha256:1",
					   "a___b", "a..b",    "a b",	 "a:b:c",  "http://a/b", "a:5000x/b", "a_", "_a",  "x.:1/a", ".a",    "a.",	   "a/-b", "a/b-",     "a@",	   "@" D,  ":1",      "a@" D "@" D,
					   "a@md5:d41d8cd98f00b204e9800998ecf8427e", "[::1/x", "-a.b/c", "a\xc3\xa9", "user/UPPER:1", "a/./b", "a/../b",
					   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" };

	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		auto_free char *full = NULL, *familiar = NULL;
		struct ref r;

		CHECK_OK(ref_parse(good[i][0], &r));
		full = ref_full(&r);
		familiar = ref_familiar(&r);
		CHECK_STR(full, good[i][1]);
		CHECK_STR(familiar, good[i][2]);
		ref_fini(&r);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct ref r;

		CHECK_ERR(ERR_INVALID, ref_parse(bad[i], &r));
	}
}

TEST(platforms)
{
	static const char *const good[][2] = { { "linux/amd64", "linux/amd64" },	 { "amd64", "linux/amd64" },
					       { "linux/x86_64", "linux/amd64" },	 { "linux/arm64/v8", "linux/arm64" },
					       { "linux/arm/v7", "linux/arm/v7" },	 { "Linux/AMD64", "linux/amd64" } };
	static const char *const bad[] = { "", "linux/", "linux/amd64/v1/x", "li nux/amd64", "/" };
	struct platform p;
	char text[96];

	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		CHECK_OK(platform_parse(good[i][0], &p));
		CHECK_STR(platform_text(&p, text), good[i][1]);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_ERR(ERR_INVALID, platform_parse(bad[i], &p));
	CHECK_OK(platform_parse("linux/arm64", &p));
	CHECK(platform_matches(&p, "linux", "aarch64", "v8") && !platform_matches(&p, "linux", "arm", "v8"));
	CHECK_OK(platform_parse("linux/arm/v6", &p));
	CHECK_INT(platform_config_rank(&p, "linux", "arm", ""), 0);
	CHECK_INT(platform_config_rank(&p, "linux", "arm", "v7"), -1);
	CHECK_INT(platform_config_rank(&p, "linux", "arm64", ""), -1);
}

TEST(the_closest_platform_is_taken)
{
	static const struct {
		const char *want, *offered;
		int place; /* in offered; -1: none */
	} cases[] = {
		{ "linux/amd64", "linux/arm64 linux/amd64", 1 },
		{ "linux/amd64", "linux/386 linux/amd64", 1 },
		{ "linux/amd64", "linux/arm64 linux/386", 1 },
		{ "linux/386", "linux/amd64", -1 },
		{ "linux/arm64", "linux/arm/v6 linux/arm/v7 linux/arm64/v8", 2 },
		{ "linux/arm64", "linux/arm/v6 linux/arm/v7", 1 },
		{ "linux/arm/v7", "linux/arm/v5 linux/arm/v6", 1 },
		{ "linux/arm/v6", "linux/arm/v7 linux/arm64", -1 },
		{ "linux/arm/v6", "linux/arm/v7 linux/arm/v5", 1 },
		{ "linux/amd64", "windows/amd64 unknown/unknown", -1 },
		{ "linux/s390x", "linux/amd64", -1 },
		{ "linux/amd64/v3", "linux/amd64 linux/amd64/v2 linux/amd64/v4", 1 },
		{ "linux/amd64/v3", "linux/386 linux/amd64", 1 },
		{ "linux/amd64", "linux/amd64/v3", -1 },
		{ "linux/amd64", "// linux/amd64", 1 },
		{ "linux/amd64", "linux/arm64 // //", 1 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sv rest = sv_of(cases[i].offered);
		auto_buf struct buf b = BUF(65536);
		const struct descriptor *part = NULL;
		struct platform p;
		struct manifest m;
		struct err *err;

		buf_str(&b, "{\"schemaVersion\":2,\"manifests\":[");
		for (int n = 0; rest.n; n++) {
			struct sv variant = sv_cut(&rest, ' '), os = sv_cut(&variant, '/'), arch = sv_cut(&variant, '/');

			buf_fmt(&b, "%s{\"digest\":\"" D "\",\"size\":%d,\"platform\":{\"os\":\"" SV_FMT "\",\"architecture\":"
				    "\"" SV_FMT "\",\"variant\":\"" SV_FMT "\"}}", n ? "," : "", n, SV_ARG(os), SV_ARG(arch),
				SV_ARG(variant));
		}
		buf_str(&b, "]}");
		CHECK_OK(manifest_parse(sv_from(b.data, b.n), NULL, &m));
		CHECK_OK(platform_parse(cases[i].want, &p));
		err = manifest_choose(&m, &p, &part);
		CHECK_INT(err ? -1 : (int)part->size, cases[i].place);
		CHECK(!err || err->kind == ERR_NOT_FOUND);
		err_free(err);
		manifest_fini(&m);
	}
}

#define CONFIG "\"config\":{\"mediaType\":\"" MEDIA_CONFIG "\",\"digest\":\"" D "\",\"size\":2}"

TEST(manifests)
{
	static const struct {
		const char *text;
		enum err_kind kind;
	} bad[] = {
		{ "[]", ERR_INVALID },
		{ "{}", ERR_INVALID },
		{ "{\"schemaVersion\":1,\"fsLayers\":[]}", ERR_UNSUPPORTED },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[],\"manifests\":[]}", ERR_INVALID },
		{ "{\"schemaVersion\":2," CONFIG "}", ERR_INVALID },
		{ "{\"schemaVersion\":2,\"layers\":[]}", ERR_INVALID },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"digest\":\"sha256:x\",\"size\":1}]}", ERR_INVALID },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"digest\":\"" D "\",\"size\":-1}]}", ERR_INVALID },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"digest\":\"" D "\"}]}", ERR_INVALID },
		{ "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_INDEX "\"," CONFIG ",\"layers\":[]}", ERR_INVALID },
		{ "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_DOCKER "\",\"manifests\":[]}", ERR_INVALID },
	};
	struct manifest m;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_ERR(bad[i].kind, manifest_parse(sv_of(bad[i].text), NULL, &m));
	CHECK_OK(manifest_parse(sv_of("{\"schemaVersion\":2," CONFIG ",\"layers\":[]}"), MEDIA_DOCKER, &m));
	CHECK(!m.is_index && m.n == 0);
	CHECK_STR(m.media_type, MEDIA_DOCKER);
	manifest_fini(&m);
}

TEST(a_written_manifest_reads_back)
{
	struct descriptor config = { (char[]){ MEDIA_CONFIG }, D, 7 }, layer = { (char[]){ MEDIA_LAYER }, D, 9 };
	auto_buf struct buf b = BUF(4096);
	struct manifest m;

	manifest_write(&config, &layer, 1, &b);
	CHECK_OK(manifest_parse(sv_from(b.data, b.n), NULL, &m));
	CHECK(m.n == 1 && m.config.size == 7 && m.parts[0].size == 9 && manifest_is_layer(m.parts[0].media_type));
	manifest_fini(&m);
}

TEST(an_index_is_chosen_from_by_platform)
{
	static const char text[] = "{\"schemaVersion\":2,\"manifests\":["
				   "{\"digest\":\"" D "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}},"
				   "{\"digest\":\"" D "\",\"size\":2,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}";
	const struct descriptor *part;
	struct platform p;
	struct manifest m;

	CHECK_OK(manifest_parse(sv_of(text), NULL, &m));
	CHECK_OK(platform_parse("linux/amd64", &p));
	CHECK_OK(manifest_choose(&m, &p, &part));
	CHECK_INT(part->size, 2);
	CHECK_OK(platform_parse("linux/s390x", &p));
	CHECK_ERR(ERR_NOT_FOUND, manifest_choose(&m, &p, &part));
	manifest_fini(&m);
}

TEST(configurations)
{
	static const char *const bad[] = { "{}", "{\"rootfs\":[]}", "{\"rootfs\":{\"diff_ids\":[\"x\"]}}",
					   "{\"rootfs\":{\"diff_ids\":[1]}}", "{\"config\":3,\"rootfs\":{\"diff_ids\":[]}}",
					   "{\"rootfs\":{\"diff_ids\":[\"" D "\"]}}" };
	json_t *v = NULL;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_ERR(ERR_INVALID, config_parse(sv_of(bad[i]), 0, &v));
	CHECK_OK(config_parse(sv_of("{\"created\":\"1970-01-01T00:00:02Z\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D
				    "\"]}}"),
			      1, &v));
	CHECK_INT(config_created(v), 2000000000);
	json_decref(v);
}

/* Any cut or changed byte is an error or a document, never a crash or a leak. */
TEST(damaged_documents_are_survived)
{
	static const char manifest[] = "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"mediaType\":\"x\",\"digest\":\"" D "\",\"size\":3}]}";
	static const char config[] = "{\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D "\"]}}";
	static const char ref[] = "host.example:5000/path/of_it:tag@" D;
	static const char *const texts[] = { manifest, config, ref };
	unsigned random = 1;

	for (int round = 0; round < 30000; round++) {
		char text[512];
		size_t n;
		struct manifest m;
		struct ref r;
		json_t *v = NULL;
		struct err *err;

		(void)snprintf(text, sizeof text, "%s", texts[round % 3]);
		n = strlen(text);
		for (int k = 0; k < 1 + round % 4; k++) {
			random = random * 1103515245 + 12345;
			text[random / 65536 % n] = (char)(random >> 8 & 0x7f ? random >> 8 & 0x7f : 1);
		}
		if (round % 7 == 0)
			text[random / 65536 % n] = 0;
		if ((err = manifest_parse(sv_of(text), NULL, &m)))
			err_free(err);
		else
			manifest_fini(&m);
		if ((err = config_parse(sv_of(text), -1, &v)))
			err_free(err);
		else
			json_decref(v);
		if ((err = ref_parse(text, &r)))
			err_free(err);
		else
			ref_fini(&r);
	}
}
