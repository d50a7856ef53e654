/*
 * endpoint.h - what a container wants on its network: an address, further names. Docker's EndpointsConfig, kept in the record
 * below NetworkSettings.Networks.<network>. Layer: engine.
 */
#pragma once
#include "base/err.h"
#include <jansson.h>
#include <stdint.h>

/* The wishes of a ContainerCreate body go to the record doc. ERR_INVALID: no address, no name, not a network of the user's. */
FALLIBLE endpoint_keep(const json_t *body, json_t *doc);
/* What the record says: *out_ip network order, 0 any; out_mac all zero: any; names are appended to *names. */
void endpoint_wishes(const json_t *doc, const char *network, uint32_t *out_ip, uint8_t out_mac[6], char ***names);
/* The wishes stay when the settings of a start replace those before. settings: docker's object of one network. */
void endpoint_carry(const json_t *doc, const char *network, json_t *settings);
