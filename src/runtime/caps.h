/*
 * caps.h - capability names and what this process may give away. Layer: runtime.
 */
#pragma once
#include <stdint.h>

int runtime_cap_number(const char *name); /* "CAP_CHOWN" or "CHOWN", any case; -1: unknown */
const char *runtime_cap_name(int number); /* "CAP_CHOWN"; NULL beyond the last */
uint64_t runtime_caps_bounding(void);	  /* our bounding set */
