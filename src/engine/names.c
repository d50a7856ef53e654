#include "engine/names.h"
#include "base/mem.h"
#include "sys/entropy.h"
#include <stdio.h>

static const char *const adjectives[] = {
	"amber", "ample", "azure", "blithe", "bold",  "brave", "breezy", "bright", "brisk", "calm",  "clear", "coastal", "cosy", "crisp",
	"deft",	 "eager", "early", "fair",  "fast",  "fleet", "fond",	"frank",  "fresh", "gentle", "glad", "golden",	"grand", "hale",
	"handy", "hardy", "keen",  "kind",  "light", "lively", "loyal", "lucid",  "merry", "mild",   "neat", "nimble",	"noble", "plain",
	"prime", "proud", "quick", "quiet", "ready", "salty", "sharp",	"silver", "smart", "snug",   "solid", "sound",	"spry",	 "steady",
	"still", "stout", "sunny", "swift", "tidy",  "trim",  "true",	"warm",
};
static const char *const nouns[] = {
	"anchor", "barge", "bay",    "beacon", "boom",	"bosun",  "bow",   "brig",  "buoy",   "cape",  "capstan", "cleat", "coast",  "compass",
	"coral",  "cove",  "cutter", "deck",   "delta", "dock",	  "dory",  "fjord", "galley", "gull",  "harbor",  "hatch", "heron",  "hull",
	"inlet",  "jetty", "keel",   "ketch",  "lagoon", "lantern", "locker", "mast", "mate", "oar",   "pier",	  "pilot", "port",   "quay",
	"reef",	  "rigger", "rudder", "sail",  "schooner", "seal", "sextant", "shoal", "shore", "skiff", "skipper", "sloop", "spar", "stern",
	"surf",	  "swell", "tern",   "tide",   "tiller", "wake", "wave",  "wharf",
};

void names_random(char out[256], bool numbered)
{
	(void)snprintf(out, 256, "%s_%s", adjectives[sys_random_below(LEN(adjectives))], nouns[sys_random_below(LEN(nouns))]);
	if (numbered)
		(void)snprintf(out, 256, "%s_%s%u", adjectives[sys_random_below(LEN(adjectives))],
			       nouns[sys_random_below(LEN(nouns))], sys_random_below(1000));
}
