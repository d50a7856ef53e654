/* entropy.h - names nobody can guess. Layer: sys. */
#pragma once
#include <stddef.h>

/* 2 * bytes lower-case hex digits and a terminator into out; bytes <= 64. Aborts when the kernel has no randomness. */
void sys_random_hex(char *out, size_t bytes);
unsigned sys_random_below(unsigned limit); /* 0 … limit-1; limit > 0 */
