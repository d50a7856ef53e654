/*
 * entry.h - protecting our executable (self.h) before libc begins, which would begin twice: 270 us on a virtual machine.
 *
 * A static program that is linked with `-e sys_entry` executes itself from a read-only mount as its very first act, if one of
 * its arguments is among sys_entry_words. When that is refused it simply goes on: main asks sys_self_is_shielded, as ever.
 * x86-64. Layer: sys.
 */
#pragma once
extern const char *const sys_entry_words[]; /* the program's; ends in NULL */
