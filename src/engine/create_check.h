/*
 * create_check.h - values of a create body that only fail later, or never, if nobody looks: addresses, log
 * and security options, device rules, what names a part of docker that we do not have.
 *
 * Layer: engine (internal).  Pure.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"

/* host: body's HostConfig, or NULL. ERR_INVALID, ERR_UNSUPPORTED, in docker's words where it has some. */
FALLIBLE create_check(const json_t *body, const json_t *host);
/* One of HostConfig.DeviceCgroupRules as a rule of the specification. Owned. */
FALLIBLE create_device_rule(const char *text, json_t **out_rule);
