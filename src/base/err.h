/*
 * err.h - errors are values: NULL is success; an error is owned by whoever holds it and ends in err_free.
 *
 * Layer: base.  Threads: no shared state.  Blocks: never.
 */
#pragma once

/* The only thing callers branch on; err_exit_code maps it for programs, faces map it to HTTP and gRPC. */
enum err_kind {
	ERR_INTERNAL,
	ERR_INVALID,
	ERR_NOT_FOUND,
	ERR_EXISTS,
	ERR_DENIED,
	ERR_CONFLICT,
	ERR_LIMIT,
	ERR_UNAVAILABLE,
	ERR_TIMEOUT,
	ERR_CANCELLED,
	ERR_UNSUPPORTED,
	ERR_CORRUPT
};

struct err {
	enum err_kind kind;
	int os;		/* the errno that began it, or 0 */
	const char *at; /* "file.c:line" of origin; debug log only */
	char *msg;	/* outermost first: "start web: mount /data: Permission denied" */
};

#define FALLIBLE	 __attribute__((warn_unused_result)) struct err *
#define ERR_STR_(x)	 #x
#define ERR_STR(x)	 ERR_STR_(x)
#define ERR_AT		 __FILE__ ":" ERR_STR(__LINE__)
#define FAIL(kind, ...)	 err_new(ERR_AT, (kind), 0, __VA_ARGS__)
#define FAIL_OS(os, ...) err_new(ERR_AT, err_kind_of((os)), (os), __VA_ARGS__)
#define TRY(call)                        \
	do {                             \
		struct err *err_ = (call); \
		if (err_)                \
			return err_;     \
	} while (0)

/* A new error; with os != 0 the text of that errno is appended: "fmt: No such file or directory". */
FALLIBLE err_new(const char *at, enum err_kind kind, int os, const char *fmt, ...)
	__attribute__((format(printf, 4, 5), returns_nonnull));
/* Adds context: consumes e; the result reads "fmt: e". */
FALLIBLE err_ctx(struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), nonnull(1), returns_nonnull));
/* The kind that fits an errno. */
enum err_kind err_kind_of(int os) __attribute__((const));
/* Frees e; NULL is fine, as for every _free. */
void err_free(struct err *e);

#define auto_err __attribute__((cleanup(own_err)))
static inline void own_err(struct err **slot)
{
	err_free(*slot);
}
