/* sweep_rig_test.c - what the sweeps of the runtime share; see sweep_rig_test.h. */
#include "runtime/sweep_rig_test.h"
#include "base/mem.h"
#include "base/own.h"
#include "runtime/cgroup.h"
#include "runtime/oci.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Not ENOENT, and not EACCES on what is to be masked: a lie of "there is none" is the truth for who hears it. */
static const int every_errno[] = { EIO, ENOMEM, ENOSYS, EPERM, EMFILE, ENOSPC, EBUSY, EINVAL, END, 0 };

struct sweep *sweep;

static int hook(const char *call)
{
	/* the first process of a pid namespace is 1, everyone below the parent is somebody else */
	if ((getpid() != sweep->parent) != sweep->side || ++sweep->n != sweep->at)
		return 0;
	sweep->fired = true;
	(void)snprintf(sweep->call, sizeof sweep->call, "%s", call);
	if (sweep->os == END)
		_exit(99);
	return sweep->os;
}

void rig_start(int side, int os)
{
	sweep = mmap(NULL, sizeof *sweep, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(sweep != MAP_FAILED);
	*sweep = (struct sweep){ .side = side, .os = os, .step = 1 };
}

void rig_stride(int n)
{
	const char *more = getenv("T_STRIDE");

	sweep->step = getenv("T_SWEEP") ? 1 : n * (more ? (int)strtol(more, NULL, 10) : 1);
}

unsigned faults;

/* false: the last round was the one without a failure. */
bool rig_next(void)
{
	faults += sweep->fired;
	if (sweep->at && !sweep->fired)
		return false;
	sweep->at += sweep->at ? sweep->step : 1;
	sweep->n = 0;
	sweep->fired = false;
	sweep->call[0] = 0;
	return true;
}

void rig_on(void)
{
	sweep->parent = getpid();
	sys_fault = hook;
}

/* The list, or with a short run what stands for it. */
const int *rig_errnos(const int *few)
{
	const char *all = getenv("T_SWEEP");

	return all && strcmp(all, "all") == 0 ? every_errno : few;
}

/* ---- a bundle ---- */

static const char spec_text[] =
	"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"root\"},\"hostname\":\"box\","
	"\"process\":{\"cwd\":\"/tmp\",\"args\":[\"sh\",\"-c\",\"%s\"],\"env\":[\"PATH=/bin\"%s],\"user\":{\"uid\":0,\"gid\":0},"
	"\"noNewPrivileges\":true,\"oomScoreAdj\":100,\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":0}],"
	"\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_KILL\"],\"effective\":[\"CAP_CHOWN\"],\"permitted\":[\"CAP_CHOWN\"]}},"
	"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"mode=755\"]},"
	"{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"newinstance\",\"ptmxmode=0666\"]},"
	"{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\",\"options\":[\"ro\",\"nosuid\"]},"
	"{\"destination\":\"/data\",\"type\":\"bind\",\"source\":\"/usr\",\"options\":[\"rbind\",\"ro\",\"nodev\"]},"
	"{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\",\"options\":[\"ro\"]}],"
	"\"linux\":{\"maskedPaths\":[\"/proc/keys\",\"/sys/firmware\"],\"readonlyPaths\":[\"/proc/sys\"],"
	"\"sysctl\":{\"kernel.shm_rmid_forced\":\"1\"},"
	"\"resources\":{\"pids\":{\"limit\":50},\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]},"
	"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"network\"},"
	"{\"type\":\"cgroup\"}],\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mount\"],"
	"\"action\":\"SCMP_ACT_ERRNO\"}]}}}";
void rig_root(void)
{
	static const char *const dirs[] = { "root", "root/bin", "root/proc", "root/sys", "root/tmp", "root/dev", "root/data" };
	static const char *const names[] = { "sh", "cat", "ls", "sleep", "wc", "hostname", "grep", "cut" };
	auto_fd int from = open("/bin/busybox", O_RDONLY | O_CLOEXEC), to = -1;

	if (geteuid() != 0)
		t_skip("needs root");
	if (from < 0)
		t_skip("needs busybox-static");
	for (size_t i = 0; i < LEN(dirs); i++)
		CHECK(mkdirat(t_tmpdir(), dirs[i], 0755) == 0);
	for (size_t i = 0; i < LEN(names); i++) {
		auto_free char *path = xasprintf("root/bin/%s", names[i]);

		CHECK(symlinkat("busybox", t_tmpdir(), path) == 0);
	}
	CHECK((to = openat(t_tmpdir(), "root/bin/busybox", O_CREAT | O_WRONLY | O_CLOEXEC, 0755)) >= 0);
	while (sys_copy_range(from, to, 1 << 20) > 0)
		;
}

/* tests/v2 keeps programs off registers its guest does not save. */
static void spec_print(const char *script, char out[sizeof spec_text + 2048])
{
	const char *tunables = getenv("GLIBC_TUNABLES");
	char more[512] = "";

	if (tunables)
		(void)snprintf(more, sizeof more, ",\"GLIBC_TUNABLES=%s\"", tunables);
	(void)snprintf(out, sizeof spec_text + 2048, spec_text, script, more);
}

void rig_write_spec(const char *script)
{
	char text[sizeof spec_text + 2048];

	spec_print(script, text);
	t_file_write(t_tmpdir(), "config.json", text);
}

json_t *rig_spec(const char *script)
{
	char text[sizeof spec_text + 2048];
	json_t *v;

	spec_print(script, text);
	CHECK_OK(json_parse(sv_of(text), "spec", 65536, &v));
	return v;
}

/* ---- what is left ---- */

/* The container's name and control group: one per test process. */
const char *rig_group(void)
{
	static char name[40];

	if (!name[0])
		(void)snprintf(name, sizeof name, "hoy-sweep-%d", (int)getpid());
	return name;
}

int rig_groups_left(void)
{
	struct cgroup_set s;
	int n = 0;

	CHECK_OK(cgroup_set_find(&s));
	for (size_t i = 0; i < s.n; i++) {
		char name[CGROUP_PATH];
		struct stat st;

		CHECK(cgroup_name(&s.h[i], GROUP, "", name) == 0);
		n += stat(name, &st) == 0;
	}
	return n;
}

void rig_nothing_left(void)
{
	int status;

	sys_fault = NULL;
	SWEEP_CHECK(waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD, "a process is left");
	SWEEP_CHECK(rig_groups_left() == 0, "control groups are left");
}

/* oci_main with these words in a process of its own; what it says goes to the file "said". Returns its exit status. */
int rig_command(int with_fault, ...)
{
	char *argv[16] = { NULL };
	auto_free char *root = xasprintf("%s/state", t_tmppath());
	int n = 0, status;
	va_list ap;
	pid_t pid;

	va_start(ap, with_fault);
	argv[n++] = xstrdup("hoy-runtime");
	argv[n++] = xstrdup("--root");
	argv[n++] = xstrdup(root);
	for (const char *word; n < 15 && (word = va_arg(ap, const char *));)
		argv[n++] = xstrdup(word);
	va_end(ap);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		int said = openat(t_tmpdir(), "said", O_CREAT | O_TRUNC | O_WRONLY, 0600), null = open("/dev/null", O_RDWR);

		(void)dup2(null, 0);
		(void)dup2(null, 1);
		(void)dup2(said, 2);
		(void)close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
		if (with_fault)
			rig_on();
		_exit(oci_main(n, argv));
	}
	for (pid_t got = 0; got != pid;) /* as init does: an unreaped process keeps its pid namespace from ending */
		CHECK((got = waitpid(-1, &status, 0)) > 0);
	for (int i = 0; i < n; i++)
		free(argv[i]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

bool rig_said_something(void)
{
	struct stat st;

	return fstatat(t_tmpdir(), "said", &st, 0) == 0 && st.st_size > 20;
}

void rig_show_said(void)
{
	char text[512] = "";
	auto_fd int fd = openat(t_tmpdir(), "said", O_RDONLY | O_CLOEXEC);

	(void)!read(fd, text, sizeof text - 1);
	fprintf(stderr, "it said: %s\n", text);
}

/* Orphans of a killed runtime come to us. */
void rig_reap(void)
{
	for (int i = 0; i < 60000 && (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD); i++)
		(void)usleep(1000);
}

void rig_bundle(void)
{
	auto_free char *path = NULL;

	rig_root();
	rig_write_spec("exec sleep 1000");
	CHECK(mkdirat(t_tmpdir(), "state", 0700) == 0);
	(void)path;
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
}

void rig_state_empty(void)
{
	auto_fd int state = openat(t_tmpdir(), "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	rig_reap();
	rig_nothing_left();
	SWEEP_CHECK(t_entries(state) == 0, "the state directory is not empty");
}

/* Whatever happened: one forced deletion and all is as before. */
void rig_clear(void)
{
	sys_fault = NULL;
	if (rig_command(false, "delete", "--force", GROUP, NULL) != 0) {
		rig_show_said();
		SWEEP_CHECK(false, "delete --force failed");
	}
	rig_state_empty();
}

