/*
 * vec.h - growing arrays for sizes our own code bounds: struct { T *p; size_t n, cap; }.
 *
 *	VEC(char *) names = { 0 };
 *	*vec_push(&names) = xstrdup("x");
 *	vec_fini(&names);		frees the array, not what its elements own
 */
#pragma once
#include "base/mem.h"
#include <stdlib.h>

#define VEC(T)                 \
	struct {               \
		T *p;          \
		size_t n, cap; \
	}
#define vec_reserve_(v)                                                                         \
	((v)->n < (v)->cap ? (void)0                                                            \
			   : (void)((v)->cap = (v)->cap ? (v)->cap * 2 : 8,                     \
				    (v)->p = xrealloc((v)->p, (v)->cap * sizeof *(v)->p)))
/* A pointer to a new, zeroed last element. */
#define vec_push(v) (vec_reserve_(v), memset(&(v)->p[(v)->n], 0, sizeof *(v)->p), &(v)->p[(v)->n++])
#define vec_fini(v) (free((v)->p), (v)->p = NULL, (v)->n = (v)->cap = 0)
