/*
 * t.h - the test harness: one process per test, a private directory, fd-leak check, fault and crash sweeps.
 *
 *	TEST(name) { CHECK(…); CHECK_OK(fallible()); CHECK_ERR(ERR_INVALID, fallible()); }
 *
 * A test that needs root or a kernel feature says so: t_skip("needs overlayfs"). Environment of the runner:
 * T_ONLY=substring runs matching tests; T_VERBOSE=1 names each.
 */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

struct t_case {
	const char *name, *file;
	void (*run)(void);
	struct t_case *next;
};
void t_register(struct t_case *c);

#define TEST(name_)                                                                           \
	static void t_run_##name_(void);                                                      \
	__attribute__((constructor)) static void t_reg_##name_(void)                          \
	{                                                                                     \
		static struct t_case c = { #name_, __FILE__, t_run_##name_, NULL };           \
		t_register(&c);                                                               \
	}                                                                                     \
	static void t_run_##name_(void)

void t_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4), noreturn));
void t_skip(const char *why) __attribute__((noreturn));
void t_check_ok(const char *file, int line, const char *what, struct err *e);
void t_check_err(const char *file, int line, const char *what, enum err_kind want, struct err *e);

#define CHECK(cond)	       ((cond) ? (void)0 : t_fail(__FILE__, __LINE__, "%s", #cond))
#define CHECK_OK(call)	       t_check_ok(__FILE__, __LINE__, #call, (call))
#define CHECK_ERR(kind, call)  t_check_err(__FILE__, __LINE__, #call, (kind), (call))
/* Compares strings and shows both on failure. */
#define CHECK_STR(got, want)   t_check_str(__FILE__, __LINE__, (got), (want))
void t_check_str(const char *file, int line, const char *got, const char *want);
#define CHECK_INT(got, want)   t_check_int(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))
void t_check_int(const char *file, int line, const char *what, long long got, long long want);

int t_tmpdir(void);		/* fd of this test's private directory; borrowed */
const char *t_tmppath(void);	/* its path; borrowed */
bool t_file_is(int dir_fd, const char *name, const char *want);
void t_file_write(int dir_fd, const char *name, const char *text);
size_t t_entries(int dir_fd);	/* how many names, without . and .. */
void t_shell(const char *command); /* sh -c; fails the test unless it exits with 0 */
/* The bytes of a file below the source tree (tests/golden/…, tests/corpus/…), owned; fails the test when missing. */
char *t_source_file(const char *path, size_t *out_len);
/* Compares text with tests/golden/<name>; with T_UPDATE=1 rewrites the file instead. */
void t_golden(const char *name, const char *text);

/*
 * FAULT_SWEEP(errno) { set-up; t_sweep_on(); operation; t_sweep_off(); checks }
 * Runs its body again and again, failing the 1st, 2nd, … system call between on and off, until none fired.
 */
#define FAULT_SWEEP(os) for (t_sweep_begin(os); t_sweep_next();)
void t_sweep_begin(int os);
bool t_sweep_next(void);
void t_sweep_on(void);
void t_sweep_off(void);
bool t_sweep_fired(void);
const char *t_sweep_call(void); /* the call that was made to fail, "" when none */

/*
 * Crash sweep: runs setup, then op in a child that _exits at its n-th system call, for every n, then judge.
 * Each round starts in an empty directory t_tmpdir(). op returns normally when the sweep is through.
 */
void t_crash_sweep(void (*setup)(void), void (*op)(void), void (*judge)(void));
