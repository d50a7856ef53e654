#include "image/platform.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sv.h"
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const char *const aliases[][2] = { { "x86_64", "amd64" }, { "x86-64", "amd64" }, { "aarch64", "arm64" },
					  { "armhf", "arm" },	 { "armv7l", "arm" },	{ "i386", "386" },
					  { "i686", "386" },	 { "ppc64el", "ppc64le" } };

static const char *normal_arch(const char *arch)
{
	for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
		if (strcmp(aliases[i][0], arch) == 0)
			return aliases[i][1];
	return arch;
}

/* The variant that every machine of the architecture has is the same as none. */
static const char *normal_variant(const char *arch, const char *variant)
{
	if (!variant || (!strcmp(arch, "arm64") && !strcmp(variant, "v8")) || (!strcmp(arch, "amd64") && !strcmp(variant, "v1")))
		return "";
	return variant;
}

static void set(char *field, size_t size, const char *text)
{
	(void)snprintf(field, size, "%.*s", (int)size - 1, text);
}

void platform_host(struct platform *out_platform)
{
	struct utsname u;

	*out_platform = (struct platform){ .os = "linux" };
	set(out_platform->arch, sizeof out_platform->arch, uname(&u) == 0 ? normal_arch(u.machine) : "amd64");
	if (strcmp(out_platform->arch, "arm") == 0)
		set(out_platform->variant, sizeof out_platform->variant, "v7");
}

static bool is_field(struct sv s, size_t size)
{
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= 'A' && s.p[i] <= 'Z') ||
		      (s.p[i] >= '0' && s.p[i] <= '9') || strchr("._-", s.p[i])))
			return false;
	return s.n > 0 && s.n < size;
}

FALLIBLE platform_parse(const char *text, struct platform *out_platform)
{
	auto_free char *small = xstrdup(text);
	struct sv rest = sv_of(small), part[3];
	size_t n = 0;
	struct platform p;
	char arch[32];

	platform_host(&p);
	for (char *c = small; *c; c++)
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c + ('a' - 'A')) : *c;
	while (rest.n && n < 3)
		part[n++] = sv_cut(&rest, '/');
	if (rest.n || n == 0 || text[strlen(text) - 1] == '/')
		return FAIL(ERR_INVALID, "platform \"%s\": expected os/architecture or os/architecture/variant", text);
	for (size_t i = 0; i < n; i++)
		if (!is_field(part[i], i == 2 ? sizeof p.variant : sizeof p.arch))
			return FAIL(ERR_INVALID, "platform \"%s\": bad part \"%.*s\"", text, SV_ARG(part[i]));
	if (n == 1 && !sv_is(part[0], "linux")) { /* only an architecture */
		part[1] = part[0];
		part[0] = SV("linux");
		n = 2;
	}
	(void)snprintf(p.os, sizeof p.os, "%.*s", SV_ARG(part[0]));
	if (n > 1) {
		(void)snprintf(arch, sizeof arch, "%.*s", SV_ARG(part[1]));
		set(p.arch, sizeof p.arch, normal_arch(arch));
		p.variant[0] = 0;
	}
	if (n > 2)
		(void)snprintf(p.variant, sizeof p.variant, "%.*s", SV_ARG(part[2]));
	if (!normal_variant(p.arch, p.variant)[0])
		p.variant[0] = 0;
	*out_platform = p;
	return NULL;
}

bool platform_matches(const struct platform *want, const char *os, const char *arch, const char *variant)
{
	const char *a = normal_arch(arch);

	return strcmp(want->os, os) == 0 && strcmp(want->arch, a) == 0 &&
	       strcmp(normal_variant(want->arch, want->variant), normal_variant(a, variant)) == 0;
}

/* The 7 of arm/v7; arm without variant is v7 (containerd's default). 0: none that we know. */
static int arm_version(const char *arch, const char *variant)
{
	if (strcmp(arch, "arm") != 0 && strcmp(arch, "arm64") != 0)
		return 0;
	if (!variant || !variant[0])
		return strcmp(arch, "arm") == 0 ? 7 : 8;
	return variant[0] == 'v' && variant[1] >= '5' && variant[1] <= '8' && !variant[2] ? variant[1] - '0' : 0;
}

/* The 3 of amd64/v3; amd64 without variant is v1. 0: none that we know. */
static int amd64_version(const char *arch, const char *variant)
{
	if (strcmp(arch, "amd64") != 0)
		return 0;
	if (!variant || !variant[0])
		return 1;
	return variant[0] == 'v' && variant[1] >= '1' && variant[1] <= '4' && !variant[2] ? variant[1] - '0' : 0;
}

int platform_rank(const struct platform *want, const char *os, const char *arch, const char *variant)
{
	const char *a = normal_arch(arch);
	int have = arm_version(a, variant), mine = arm_version(want->arch, want->variant);
	int have_amd64 = amd64_version(a, variant), mine_amd64 = amd64_version(want->arch, want->variant);

	if (platform_matches(want, os, arch, variant))
		return 0;
	if (strcmp(want->os, os) != 0)
		return -1;
	if (strcmp(want->arch, "amd64") == 0 && strcmp(a, "386") == 0)
		return 9;
	if (have_amd64 && have_amd64 <= mine_amd64)
		return 1 + mine_amd64 - have_amd64;
	if (have && mine && strcmp(a, "arm") == 0 && have <= mine)
		return 1 + mine - have;
	return -1;
}

int platform_config_rank(const struct platform *want, const char *os, const char *arch, const char *variant)
{
	bool is_silent = !variant[0] && strcmp(want->arch, normal_arch(arch)) == 0;

	return platform_rank(want, os, arch, is_silent ? want->variant : variant);
}

const char *platform_text(const struct platform *p, char out[96])
{
	(void)snprintf(out, 96, "%s/%s%s%s", p->os, p->arch, p->variant[0] ? "/" : "", p->variant);
	return out;
}
