#!/bin/sh
# Prints src/runtime/syscalls.inc: every x86 system call as S(name, number on x86-64, number on i386), -1 for none, sorted.
# Numbers come from this machine's kernel headers and from the list below, which they may be too old for.
set -eu
newer='451 cachestat 452 fchmodat2 453 map_shadow_stack 454 futex_wake 455 futex_wait 456 futex_requeue 457 statmount
458 listmount 459 lsm_get_self_attr 460 lsm_set_self_attr 461 lsm_list_modules 462 mseal 463 setxattrat 464 getxattrat
465 listxattrat 466 removexattrat 467 open_tree_attr 468 file_getattr 469 file_setattr 470 listns'
numbers() {
	echo "#include <asm/unistd_$1.h>" | ${CC:-gcc} -E -dM - | sed -n "s/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)\$/\1 $1 \2/p"
	echo "$newer" | tr ' ' '\n' | paste -d ' ' - - | while read -r number name; do echo "$name $1 $number"; done
}
{
	numbers 64
	numbers 32
	echo 'uretprobe 64 335'
	echo 'uprobe 64 336'
} | awk '{ if ($2 == 64) a[$1] = $3; else b[$1] = $3; n[$1] = 1 }
	END { for (i in n) printf "S(%s, %d, %d)\n", i, i in a ? a[i] : -1, i in b ? b[i] : -1 }' | LC_ALL=C sort
