/*
 * platform.h - os/architecture/variant: text, the host's, and which of several an index offers.
 *
 * Source: image-spec image-index.md (platform), containerd's normalisation of names. Layer: image.  Pure but for platform_host.
 */
#pragma once
#include "base/err.h"
#include <stdbool.h>

struct platform {
	char os[32], arch[32], variant[16]; /* variant "" when none */
};
/* "linux/arm64/v8", "amd64", "linux"; missing parts are the host's. ERR_INVALID. */
FALLIBLE platform_parse(const char *text, struct platform *out_platform);
void platform_host(struct platform *out_platform);
/* Same names after normalisation (x86_64 is amd64, arm64/v8 is arm64). */
bool platform_matches(const struct platform *want, const char *os, const char *arch, const char *variant);
/* 0: the same; more: an older machine of the same family that runs beside the programs of want (containerd's platforms.Only: arm64
 * takes arm, arm/v7 takes v6 and v5, amd64/v3 takes v2 and v1, amd64 takes 386); -1: not for want. */
int platform_rank(const struct platform *want, const char *os, const char *arch, const char *variant);
/* As platform_rank, of what an image's configuration says: some builders leave the variant out there. */
int platform_config_rank(const struct platform *want, const char *os, const char *arch, const char *variant);
const char *platform_text(const struct platform *p, char out[96]);
