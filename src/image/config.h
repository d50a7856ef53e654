/*
 * config.h - image configurations (image-spec config.md) after checks.
 *
 * Layer: image.  Pure.  Limits: 4 MiB, 1024 layers.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include "codec/json.h"

/* ERR_INVALID unless it is an image configuration with n_layers diff ids (n_layers < 0: any number). Owned document. */
FALLIBLE config_parse(struct sv body, long n_layers, json_t **out_config);
/* Its diff ids, bottom first; owned list. */
FALLIBLE config_diff_ids(const json_t *config, char ***out_diff_ids);
/* "created" in ns, or 0. */
int64_t config_created(const json_t *config);
