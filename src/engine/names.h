/* names.h - names for containers whose user gave none: adjective_noun of the sea. Layer: engine. */
#pragma once
#include <stdbool.h>

void names_random(char out[256], bool numbered); /* numbered: with a digit behind, when the plain ones are taken */
