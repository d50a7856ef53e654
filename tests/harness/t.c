/*
 * t.c - each test runs in a child of its own, in a directory of its own, and is judged by its exit status; the parent
 * never runs test code, so a crash, an abort or a hang (120 s) is one failed test and not the end of the run.
 */
#include "harness/t.h"
#include "base/own.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { EXIT_SKIP = 77, TEST_SECONDS = 900 };

static struct t_case *cases, **cases_end = &cases;
static char tmp_path[256];
static int tmp_fd = -1;

void t_register(struct t_case *c)
{
	*cases_end = c;
	cases_end = &c->next;
}

void t_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	fflush(NULL);
	_exit(1);
}

void t_skip(const char *why)
{
	fprintf(stderr, "skipped: %s\n", why);
	fflush(NULL);
	_exit(EXIT_SKIP);
}

void t_check_ok(const char *file, int line, const char *what, struct err *e)
{
	if (e)
		t_fail(file, line, "%s: unexpected error: %s", what, e->msg);
}

void t_check_err(const char *file, int line, const char *what, enum err_kind want, struct err *e)
{
	if (!e)
		t_fail(file, line, "%s: succeeded, wanted error kind %d", what, (int)want);
	if (e->kind != want)
		t_fail(file, line, "%s: error kind %d, wanted %d: %s", what, (int)e->kind, (int)want, e->msg);
	err_free(e);
}

void t_check_str(const char *file, int line, const char *got, const char *want)
{
	if (!got || !want ? got != want : strcmp(got, want) != 0)
		t_fail(file, line, "got  \"%s\"\n      wanted \"%s\"", got ? got : "(null)", want ? want : "(null)");
}

void t_check_int(const char *file, int line, const char *what, long long got, long long want)
{
	if (got != want)
		t_fail(file, line, "%s is %lld, wanted %lld", what, got, want);
}

int t_tmpdir(void)
{
	return tmp_fd;
}

const char *t_tmppath(void)
{
	return tmp_path;
}

static char *slurp(int fd, size_t *out_len)
{
	size_t cap = 1 << 16, n = 0;
	char *p = malloc(cap + 1);
	ssize_t r;

	while (p && (r = read(fd, p + n, cap - n)) > 0) {
		n += (size_t)r;
		if (n == cap)
			p = realloc(p, (cap *= 2) + 1);
	}
	if (!p)
		abort();
	p[n] = '\0';
	*out_len = n;
	return p;
}

bool t_file_is(int dir_fd, const char *name, const char *want)
{
	auto_fd int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	auto_free char *text = NULL;
	size_t n;

	if (fd < 0)
		return false;
	text = slurp(fd, &n);
	return n == strlen(want) && memcmp(text, want, n) == 0;
}

void t_file_write(int dir_fd, const char *name, const char *text)
{
	auto_fd int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		t_fail(__FILE__, __LINE__, "cannot write %s", name);
}

size_t t_entries(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	size_t n = 0;

	if (!d)
		t_fail(__FILE__, __LINE__, "cannot list the directory");
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	return n;
}

void t_shell(const char *command)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		t_fail(__FILE__, __LINE__, "%s: status %d", command, status);
}

static void source_path(const char *path, char out[512])
{
	const char *root = getenv("T_SOURCE");

	(void)snprintf(out, 512, "%s/%s", root ? root : ".", path);
}

char *t_source_file(const char *path, size_t *out_len)
{
	char whole[512];
	auto_fd int fd = -1;

	source_path(path, whole);
	fd = open(whole, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		t_fail(__FILE__, __LINE__, "cannot open %s", whole);
	return slurp(fd, out_len);
}

void t_golden(const char *name, const char *text)
{
	auto_free char *want = NULL;
	char path[256], whole[512];
	size_t n;

	(void)snprintf(path, sizeof path, "tests/golden/%s", name);
	source_path(path, whole);
	if (getenv("T_UPDATE")) {
		t_file_write(AT_FDCWD, whole, text);
		return;
	}
	want = t_source_file(path, &n);
	if (strcmp(want, text) != 0)
		t_fail(__FILE__, __LINE__, "%s differs; got:\n%s", path, text);
}

/* --- fault and crash sweeps ------------------------------------------------------------------------------- */

static int sweep_os, sweep_at, sweep_count;
static bool sweep_armed, sweep_has_fired, sweep_started;

static const char *sweep_call = "";

static int sweep_hook(const char *call)
{
	if (++sweep_count != sweep_at)
		return 0;
	sweep_has_fired = true;
	sweep_call = call;
	return sweep_os;
}

void t_sweep_begin(int os)
{
	sweep_os = os;
	sweep_at = 0;
	sweep_started = false;
}

bool t_sweep_next(void)
{
	if (sweep_started && !sweep_armed)
		t_fail(__FILE__, __LINE__, "sweep body never called t_sweep_on");
	if (sweep_started && !sweep_has_fired)
		return false;
	sweep_started = true;
	sweep_armed = sweep_has_fired = false;
	sweep_at++;
	return true;
}

void t_sweep_on(void)
{
	sweep_armed = true;
	sweep_count = 0;
	sys_fault = sweep_hook;
}

void t_sweep_off(void)
{
	sys_fault = NULL;
}

const char *t_sweep_call(void)
{
	return sweep_has_fired ? sweep_call : "";
}

bool t_sweep_fired(void)
{
	return sweep_has_fired;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	return ftw->level == 0 ? 0 : remove(path);
}

static int crash_hook(const char *call)
{
	(void)call;
	if (++sweep_count == sweep_at)
		_exit(EXIT_SKIP);
	return 0;
}

void t_crash_sweep(void (*setup)(void), void (*op)(void), void (*judge)(void))
{
	for (int n = 1;; n++) {
		pid_t pid;
		int status;

		(void)nftw(tmp_path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
		setup();
		pid = fork();
		if (pid == 0) {
			sweep_count = 0;
			sweep_at = n;
			sys_fault = crash_hook;
			op();
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			t_fail(__FILE__, __LINE__, "cannot run the crash sweep's child");
		if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EXIT_SKIP))
			t_fail(__FILE__, __LINE__, "crash sweep: op failed by itself at call %d", n);
		judge();
		if (WEXITSTATUS(status) == 0)
			return;
	}
}

/* --- the runner -------------------------------------------------------------------------------------------- */

static size_t open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void run_child(const struct t_case *c)
{
	size_t before;

	(void)alarm(TEST_SECONDS);
	tmp_fd = open(tmp_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	before = open_fds();
	c->run();
	sys_fault = NULL;
	if (open_fds() != before)
		t_fail(c->file, 0, "%s: %zu fds open, %zu before", c->name, open_fds(), before);
	fflush(NULL);
	exit(0); /* not _exit: LeakSanitizer reports from atexit */
}

/* Until the test's process ends. What it orphans comes to us (a crash sweep: thousands) and is reaped at once, too. */
static int wait_case(pid_t pid)
{
	int status = -1;
	pid_t ended;

	do
		ended = waitpid(-1, &status, 0);
	while (ended > 0 && ended != pid);
	return ended == pid ? status : -1;
}

static int run_case(const struct t_case *c)
{
	int status = -1;
	pid_t pid;

	(void)snprintf(tmp_path, sizeof tmp_path, "%s/hoy-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(tmp_path))
		return 1;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run_child(c);
	if (pid > 0)
		status = wait_case(pid);
	(void)nftw(tmp_path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	(void)rmdir(tmp_path);
	if (pid > 0 && WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "%s: %s: killed by signal %d\n", c->file, c->name, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	return 1;
}

int main(void)
{
	const char *only = getenv("T_ONLY");
	bool verbose = getenv("T_VERBOSE") != NULL;
	int passed = 0, failed = 0, skipped = 0;

	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (const struct t_case *c = cases; c; c = c->next) {
		int r;

		if (only && !strstr(c->name, only))
			continue;
		r = run_case(c);
		passed += r == 0;
		skipped += r == EXIT_SKIP;
		failed += r != 0 && r != EXIT_SKIP;
		if (verbose || (r && r != EXIT_SKIP))
			fprintf(stderr, "%s %s (%s)\n", r == 0 ? "ok" : r == EXIT_SKIP ? "skip" : "FAIL", c->name,
				c->file);
	}
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
