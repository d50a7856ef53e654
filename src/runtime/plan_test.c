/* plan_test.c - configurations become plans: each property's value, its rules, and errors that name the
 * property. */
#include "base/own.h"
#include "harness/t.h"
#include "runtime/plan.h"
#include "runtime/rdt.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

static const char base_text[] =
    "{\"ociVersion\":\"1.3.0\",\"root\":{\"path\":\"/r\"},\"process\":{\"cwd\":\"/\",\"args\":[\"x\"]},"
    "\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"time\"},{\"type\":\"network\"},{\"type\":"
    "\"uts\"}]}}";

OWN_DEFINE(struct plan *, test_plan, plan_free)

/* The base with `patch` laid over it. */
static struct err *compile(const char *patch, struct plan **out)
{
	struct plan_opts o = { .id = "box", .bundle = "/b", .oci_annotations = true };
	auto_json json_t *spec = NULL, *change = NULL;

	TRY(json_parse(sv_of(base_text), "base", 65536, &spec));
	TRY(json_parse(sv_of(patch), "patch", 65536, &change));
	CHECK(json_object_update_recursive(spec, change) == 0);
	return plan_compile(spec, &o, out);
}
#define PLAN(name, patch)                                                                                    \
	CLEANUP(own_test_plan) struct plan *name = NULL;                                                     \
	CHECK_OK(compile(patch, &name))

TEST(wrong_values_are_refused_by_name)
{
	static const struct {
		const char *patch, *path;
	} bad[] = {
		{ "{\"ociVersion\":\"2.0.0\"}", "ociVersion" },
		{ "{\"process\":{\"cwd\":\"x\"}}", "process.cwd" },
		{ "{\"process\":{\"args\":[]}}", "process.args" },
		{ "{\"process\":{\"rlimits\":[{\"type\":\"RLIMIT_X\"}]}}", "process.rlimits[0]" },
		{ "{\"process\":{\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":1,\"hard\":1},"
		  "{\"type\":\"RLIMIT_CORE\",\"soft\":1,\"hard\":1}]}}",
		  "twice" },
		{ "{\"process\":{\"scheduler\":{\"policy\":\"SCHED_X\"}}}", "process.scheduler.policy" },
		{ "{\"process\":{\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"nice\":20}}}",
		  "process.scheduler.nice" },
		{ "{\"process\":{\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"flags\":[\"X\"]}}}",
		  "process.scheduler.flags[0]" },
		{ "{\"process\":{\"scheduler\":{\"policy\":\"SCHED_DEADLINE\",\"runtime\":-1}}}",
		  "process.scheduler.runtime" },
		{ "{\"process\":{\"scheduler\":{\"policy\":\"SCHED_DEADLINE\",\"runtime\":"
		  "9223372036854775809,\"deadline\":1}}}",
		  "runtime (9223372036854775809) must be between" },
		{ "{\"process\":{\"ioPriority\":{\"class\":\"X\"}}}", "process.ioPriority.class" },
		{ "{\"process\":{\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":8}}}",
		  "process.ioPriority.priority" },
		{ "{\"linux\":{\"namespaces\":[{\"type\":\"x\"}]}}", "linux.namespaces[0]" },
		{ "{\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"mount\"}]}}", "twice" },
		{ "{\"linux\":{\"namespaces\":[{\"type\":\"mount\",\"path\":\"x\"}]}}",
		  "linux.namespaces[0].path" },
		{ "{\"linux\":{\"memoryPolicy\":{}}}", "linux.memoryPolicy.mode" },
		{ "{\"linux\":{\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"3-1\"}}}",
		  "linux.memoryPolicy.nodes" },
		{ "{\"linux\":{\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"0\",\"flags\":[\"X\"]}}}",
		  "linux.memoryPolicy.flags[0]" },
		{ "{\"linux\":{\"personality\":{\"domain\":\"SOLARIS\"}}}", "linux.personality.domain" },
		{ "{\"linux\":{\"timeOffsets\":{\"realtime\":{\"secs\":1}}}}", "linux.timeOffsets" },
		{ "{\"linux\":{\"timeOffsets\":{\"boottime\":{\"nanosecs\":1000000000}}}}",
		  "linux.timeOffsets.boottime.nanosecs" },
		{ "{\"linux\":{\"namespaces\":[{\"type\":\"mount\"}],\"timeOffsets\":{\"boottime\":{\"secs\":"
		  "1}}}}",
		  "linux.timeOffsets" },
		{ "{\"linux\":{\"netDevices\":{\"a/b\":{}}}}", "linux.netDevices" },
		{ "{\"linux\":{\"netDevices\":{\"eth0\":{\"name\":\"a%s\"}}}}",
		  "linux.netDevices.eth0.name" },
		{ "{\"linux\":{\"netDevices\":{\"eth0\":{\"name\":\"a234567890123456\"}}}}",
		  "linux.netDevices.eth0.name" },
		{ "{\"linux\":{\"namespaces\":[{\"type\":\"mount\"}],\"netDevices\":{\"eth0\":{}}}}",
		  "linux.netDevices" },
		{ "{\"linux\":{\"uidMappings\":[{}]}}", "one without the other" },
		{ "{\"linux\":{\"uidMappings\":[{}],\"gidMappings\":[{}]}}", "no user namespace" },
		{ "{\"process\":{\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":1}]}}",
		  "process.rlimits[0]" },
		{ "{\"linux\":{\"rootfsPropagation\":\"rx\"}}", "linux.rootfsPropagation" },
		{ "{\"linux\":{\"intelRdt\":{\"closID\":\"../x\"}}}", "linux.intelRdt.closID" },
		{ "{\"linux\":{\"intelRdt\":{\"memBwSchema\":\"L3:0=f\"}}}", "linux.intelRdt.memBwSchema" },
		{ "{\"linux\":{\"intelRdt\":{\"schemata\":[\"L3:0=f\\nMB:0=1\"]}}}",
		  "linux.intelRdt.schemata" },
		{ "{\"linux\":{\"sysctl\":{\"kernel.hostname\":\"x\"}}}", "kernel.hostname" },
		{ "{\"linux\":{\"sysctl\":{\"vm.swappiness\":\"1\"}}}", "vm.swappiness" },
		{ "{\"domainname\":\"a\",\"linux\":{\"sysctl\":{\"kernel.domainname\":\"b\"}}}",
		  "kernel.domainname" },
		{ "{\"linux\":{\"resources\":{\"unified\":{\"memory\":\"1\"}}}}", "CONTROLLER.VALUE" },
		{ "{\"hooks\":{\"prestart\":[{\"path\":\"x\"}]}}", "hooks.prestart[0].path" },
		{ "{\"hooks\":{\"poststop\":[{\"path\":\"/x\",\"timeout\":0}]}}",
		  "hooks.poststop[0].timeout" },
		{ "{\"annotations\":{\"run.oci.hooks.stdout\":\"x\"}}", "run.oci.hooks.stdout" },
		{ "{\"annotations\":{\"run.oci.mount_context_type\":\"x\"}}", "not context, fscontext" },
	};

	for (size_t i = 0; i < LEN(bad); i++) {
		CLEANUP(own_test_plan) struct plan *p = NULL;
		auto_err struct err *e = compile(bad[i].patch, &p);

		if (!e)
			t_fail(__FILE__, __LINE__, "accepted: %s", bad[i].patch);
		CHECK(e->kind == ERR_INVALID || e->kind == ERR_UNSUPPORTED);
		if (!strstr(e->msg, bad[i].path))
			CHECK_STR(e->msg, bad[i].path);
	}
}

TEST(what_is_unknown_is_ignored_and_any_1_x_is_read)
{
	PLAN(p, "{\"ociVersion\":\"1.99.7\",\"future\":{\"a\":1},\"linux\":{\"future\":1},\"process\":{"
		"\"future\":[]},"
		"\"annotations\":{\"org.nobody.knows\":\"\"}}");

	CHECK_STR(p->state_tail, "\"bundle\":\"/b\",\"annotations\":{\"org.nobody.knows\":\"\"}}");
	CHECK_STR(p->state_head, "{\"ociVersion\":\"1.3.0\",\"id\":\"box\"");
}

TEST(how_the_kernel_treats_the_process)
{
	PLAN(p, "{\"process\":{\"scheduler\":{\"policy\":\"SCHED_DEADLINE\",\"runtime\":2000,\"deadline\":"
		"9223372036854775807,"
		"\"flags\":[\"SCHED_FLAG_RESET_ON_FORK\",\"SCHED_FLAG_DL_OVERRUN\"]},\"ioPriority\":{"
		"\"class\":\"IOPRIO_CLASS_RT\","
		"\"priority\":3},\"execCPUAffinity\":{\"initial\":\"0\"}},\"linux\":{\"personality\":{"
		"\"domain\":\"LINUX32\"},"
		"\"memoryPolicy\":{\"mode\":\"MPOL_INTERLEAVE\",\"nodes\":\"0-1, "
		"65\",\"flags\":[\"MPOL_F_STATIC_NODES\"]},"
		"\"timeOffsets\":{\"monotonic\":{\"secs\":-1,\"nanosecs\":2},\"boottime\":{\"secs\":3}}}}");

	CHECK(p->has_scheduler && p->scheduler.policy == 6 && p->scheduler.flags == 5 &&
	      p->scheduler.runtime == 2000);
	CHECK(p->scheduler.deadline == INT64_MAX && p->scheduler.period == 0);
	CHECK_INT(p->io_priority, 1 << 13 | 3);
	CHECK_INT(p->personality, 8);
	CHECK_INT(p->memory_mode, 3 | 1 << 15);
	CHECK(p->memory_nodes.n == 4096 / 64 && p->memory_nodes.p[0] == 3 && p->memory_nodes.p[1] == 2);
	CHECK_STR(p->time_offsets, "monotonic -1 2\nboottime 3 0\n");
	CHECK(p->cpus_initial.n == 0); /* of exec only */
}

TEST(untouched_means_untouched)
{
	PLAN(p, "{}");

	CHECK(!p->has_scheduler && p->io_priority == -1 && p->personality == -1 && p->memory_mode == -1 &&
	      !p->has_oom_score);
	CHECK(!p->time_offsets && !p->rdt.on && !p->apparmor && !p->selinux && p->umask == -1);
	CHECK(p->root_propagation == MS_PRIVATE);
}

TEST(exec_has_its_own_affinity_and_the_containers_policy)
{
	auto_json json_t *container = NULL, *process = NULL;
	struct plan_opts o = { .id = "box" };
	CLEANUP(own_test_plan) struct plan *p = NULL;

	CHECK_OK(json_parse(SV("{\"linux\":{\"personality\":{\"domain\":\"LINUX32\"},\"timeOffsets\":{"
			       "\"boottime\":{\"secs\":1}}}}"),
			    "c", 4096, &container));
	CHECK_OK(json_parse(
	    SV("{\"cwd\":\"/\",\"args\":[\"x\"],\"execCPUAffinity\":{\"initial\":\"1\",\"final\":\"0,64\"}}"),
	    "p", 4096, &process));
	o.container = container;
	CHECK_OK(plan_compile_exec(process, &o, 1, &p));
	CHECK(p->cpus_initial.p[0] == 2 && p->cpus_final.p[0] == 1 && p->cpus_final.p[1] == 1);
	CHECK_INT(p->personality, 8);
	CHECK(!p->time_offsets); /* the namespace has them */
}

TEST(network_devices)
{
	PLAN(p, "{\"linux\":{\"netDevices\":{\"eth0\":{},\"eth1\":{\"name\":\"data%d\"},\"eth2\":{\"name\":"
		"\"\"}}}}");

	CHECK_INT(p->netdevs.n, 3);
	CHECK_STR(p->netdevs.p[0].name, "eth0");
	CHECK_STR(p->netdevs.p[1].name, "data%d");
	CHECK_STR(p->netdevs.p[2].name, "eth2");
}

TEST(annotations_are_orders_only_for_who_says_so)
{
	static const char patch[] =
	    "{\"annotations\":{\"run.oci.keep_original_groups\":\"1\",\"run.oci.hooks.stderr\":\"/e\"}}";
	auto_json json_t *spec = NULL, *change = NULL;
	struct plan_opts o = { .id = "box", .bundle = "/b" };
	CLEANUP(own_test_plan) struct plan *q = NULL;
	PLAN(p, patch);

	CHECK(p->keep_groups);
	CHECK_STR(p->hook_err, "/e");
	CHECK_OK(json_parse(sv_of(base_text), "base", 65536, &spec));
	CHECK_OK(json_parse(sv_of(patch), "patch", 65536, &change));
	CHECK(json_object_update_recursive(spec, change) == 0);
	CHECK_OK(plan_compile(spec, &o, &q));
	CHECK(!q->keep_groups && !q->hook_err);
}

TEST(features_name_what_is_read)
{
	auto_json json_t *f = runtime_features();
	const json_t *options = json_object_get(f, "mountOptions");

	CHECK_STR(json_str_at(f, "ociVersionMax", ""), RUNTIME_SPEC_VERSION);
	CHECK_INT(json_array_size(json_object_get(f, "hooks")), 6);
	CHECK_INT(json_array_size(json_at(f, "linux.namespaces")), 8);
	CHECK_INT(json_array_size(json_at(f, "linux.seccomp.actions")), 9);
	CHECK_INT(json_array_size(json_at(f, "linux.seccomp.operators")), 7);
	CHECK_INT(json_array_size(json_at(f, "linux.seccomp.archs")), 23);
	CHECK_INT(json_array_size(json_at(f, "linux.seccomp.knownFlags")), 4);
	CHECK_INT(json_array_size(json_at(f, "linux.memoryPolicy.modes")), 7);
	CHECK_INT(json_array_size(json_at(f, "linux.memoryPolicy.flags")), 3);
	CHECK(json_array_size(options) > 50);
}

TEST(the_mount_options_of_features_are_read)
{
	auto_json json_t *f = runtime_features();
	json_t *name;
	size_t i;

	json_array_foreach(json_object_get(f, "mountOptions"), i, name)
	{
		static const char maps[] = ",\"uidMappings\":[{\"containerID\":0,\"hostID\":1,\"size\":2}],"
					   "\"gidMappings\":[{\"containerID\":0,\"hostID\":1,\"size\":2}]";
		auto_free char *patch =
		    xasprintf("{\"mounts\":[{\"destination\":\"/a\",\"type\":\"bind\",\"source\":\"/b\","
			      "\"options\":[\"bind\",\"%s\"]%s}]}",
			      json_string_value(name), strstr(json_string_value(name), "idmap") ? maps : "");
		CLEANUP(own_test_plan) struct plan *p = NULL;
		auto_err struct err *e = NULL;

		if (strcmp(json_string_value(name), "tmpcopyup") == 0) /* of new file systems */
			continue;
		e = compile(patch, &p);
		if (e)
			CHECK_STR(e->msg, json_string_value(name));
		if (p->mounts.p[0].data &&
		    p->mounts.p[0].data[0]) /* what the reader does not know, the file system gets */
			CHECK_STR(p->mounts.p[0].data[0], "");
	}
}

/* Everything of the specification at once; pack and unpack change nothing. */
TEST(a_whole_plan_prints_and_survives_packing)
{
	static const char all[] =
	    "{\"hostname\":\"h\",\"domainname\":\"d\",\"root\":{\"readonly\":true},\"process\":{\"env\":[\"A="
	    "1\"],\"user\":{\"uid\":1,"
	    "\"gid\":2,\"additionalGids\":[3,4]},\"oomScoreAdj\":-5,\"noNewPrivileges\":true,\"rlimits\":[{"
	    "\"type\":\"RLIMIT_CORE\","
	    "\"soft\":1,\"hard\":2}],\"capabilities\":{\"bounding\":[\"CAP_KILL\"],\"ambient\":[\"CAP_"
	    "CHOWN\"]},\"scheduler\":{\"policy\":"
	    "\"SCHED_FIFO\",\"priority\":9},\"ioPriority\":{\"class\":\"IOPRIO_CLASS_IDLE\"},"
	    "\"apparmorProfile\":\"web\"},\"mounts\":[{"
	    "\"destination\":\"/"
	    "proc\",\"type\":\"proc\",\"source\":\"proc\"}],\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{"
	    "\"type\":"
	    "\"user\"},{\"type\":\"time\"},{\"type\":\"network\",\"path\":\"/"
	    "n\"},{\"type\":\"uts\"}],\"uidMappings\":[{\"containerID\":0,"
	    "\"hostID\":1000,\"size\":10}],\"gidMappings\":[{\"containerID\":0,\"hostID\":2000,\"size\":10}],"
	    "\"timeOffsets\":{\"boottime\":{"
	    "\"secs\":9}},\"cgroupsPath\":\"/a/"
	    "b\",\"resources\":{\"memory\":{\"limit\":1048576},\"devices\":[{\"allow\":false}]},"
	    "\"intelRdt\":{\"closID\":\"gold\",\"l3CacheSchema\":\"L3:0=f\",\"enableMonitoring\":true},"
	    "\"netDevices\":{\"eth9\":{\"name\":"
	    "\"eth%d\"}},\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"0\"},\"personality\":{"
	    "\"domain\":\"LINUX\"},\"maskedPaths\":["
	    "\"/proc/kcore\"],\"readonlyPaths\":[\"/proc/"
	    "sys\"],\"sysctl\":{\"net.ipv4.ip_forward\":\"1\"},\"devices\":[{\"path\":\"/dev/x\","
	    "\"type\":\"c\",\"major\":1,\"minor\":3,\"fileMode\":384}],\"seccomp\":{\"defaultAction\":\"SCMP_"
	    "ACT_ALLOW\",\"listenerPath\":"
	    "\"/agent\"}},\"hooks\":{\"prestart\":[{\"path\":\"/hook\",\"timeout\":3}]}}";
	auto_buf struct buf text = BUF(65536), packed = BUF(65536), again = BUF(65536);
	CLEANUP(own_test_plan) struct plan *q = NULL;
	PLAN(p, all);

	plan_print(p, &text);
	t_golden("runtime-plan.txt", buf_text(&text));
	plan_pack(p, &packed);
	CHECK_OK(plan_unpack(packed.data, packed.n, &q));
	plan_print(q, &again);
	CHECK_STR(buf_text(&again), buf_text(&text));
}

/* ---- Intel RDT, in a directory that looks like resctrl ---- */

static int resctrl(void)
{
	int dir = t_tmpdir();

	CHECK(mkdirat(dir, "there", 0755) == 0 && mkdirat(dir, "there/mon_groups", 0755) == 0);
	t_file_write(dir, "there/schemata", "    L3:0=00ff;1=00ff\n    MB:0=100;1=100\n");
	t_file_write(dir, "there/tasks", "");
	t_file_write(dir, "schemata", "");
	t_file_write(dir, "tasks", "");
	return dir;
}

TEST(rdt_joins_a_class_that_fits)
{
	int dir = resctrl();
	PLAN(p, "{\"linux\":{\"intelRdt\":{\"closID\":\"there\",\"l3CacheSchema\":\"L3:1=FF;0=ff\","
		"\"memBwSchema\":\"MB:0=100;1=100\"}}}");
	PLAN(q, "{\"linux\":{\"intelRdt\":{\"closID\":\"there\",\"l3CacheSchema\":\"L3:0=ff\"}}}");
	PLAN(r, "{\"linux\":{\"intelRdt\":{\"closID\":\"/\"}}}");
	PLAN(s, "{\"linux\":{\"intelRdt\":{\"closID\":\"nowhere\"}}}");

	CHECK_OK(rdt_apply_in(dir, p, 7));
	CHECK(t_file_is(dir, "there/tasks", "7\n"));
	CHECK(t_file_is(dir, "there/schemata", "    L3:0=00ff;1=00ff\n    MB:0=100;1=100\n"));
	CHECK_ERR(ERR_CONFLICT, rdt_apply_in(dir, q, 7)); /* domain 1 is missing */
	CHECK_OK(rdt_apply_in(dir, r, 8));
	CHECK(t_file_is(dir, "tasks", "8\n"));
	CHECK_ERR(ERR_NOT_FOUND, rdt_apply_in(dir, s, 7));
	rdt_remove_in(dir, p);
	CHECK(faccessat(dir, "there", F_OK, 0) == 0);
}

TEST(rdt_leaves_nothing_when_it_fails)
{
	int dir = resctrl();
	size_t before = t_entries(dir);
	PLAN(p, "{\"linux\":{\"intelRdt\":{\"l3CacheSchema\":\"L3:0=f\"}}}"); /* a plain directory has no
										 schemata in it */

	CHECK_ERR(ERR_NOT_FOUND, rdt_apply_in(dir, p, 7));
	CHECK_INT(t_entries(dir), before);
}

TEST(rdt_monitoring_leaves_nothing_when_it_fails)
{
	int dir = resctrl();
	PLAN(p, "{\"linux\":{\"intelRdt\":{\"closID\":\"there\",\"enableMonitoring\":true}}}");

	CHECK_ERR(ERR_NOT_FOUND, rdt_apply_in(dir, p, 7)); /* a plain directory has no tasks in it */
	CHECK(faccessat(dir, "there/mon_groups/box", F_OK, 0) < 0);
	CHECK(mkdirat(dir, "there/mon_groups/box", 0755) == 0);
	rdt_remove_in(dir, p);
	CHECK(faccessat(dir, "there/mon_groups/box", F_OK, 0) < 0 && faccessat(dir, "there", F_OK, 0) == 0);
}

TEST(rdt_update_changes_a_class_that_is_there)
{
	int dir = resctrl();
	PLAN(p, "{\"linux\":{\"intelRdt\":{\"closID\":\"there\",\"memBwSchema\":\"MB:0=20;1=70\"}}}");
	PLAN(q, "{\"linux\":{\"intelRdt\":{\"closID\":\"gone\",\"memBwSchema\":\"MB:0=20;1=70\"}}}");

	t_file_write(dir, "there/schemata", "");
	CHECK_OK(rdt_update_in(dir, p));
	CHECK(t_file_is(dir, "there/schemata", "MB:0=20;1=70\n"));
	CHECK(t_file_is(dir, "there/tasks", ""));
	CHECK_ERR(ERR_NOT_FOUND, rdt_update_in(dir, q));
}

TEST(rdt_tells_every_failing_call)
{
	int dir = resctrl();
	PLAN(p, "{\"linux\":{\"intelRdt\":{\"closID\":\"there\",\"l3CacheSchema\":\"L3:0=ff;1=ff\"}}}");

	FAULT_SWEEP (EIO) {
		struct err *e;

		t_sweep_on();
		e = rdt_apply_in(dir, p, 7);
		t_sweep_off();
		CHECK(!e == !t_sweep_fired());
		err_free(e);
	}
}

TEST(rdt_without_resctrl_is_an_error)
{
	PLAN(p, "{\"linux\":{\"intelRdt\":{}}}");

	if (access("/sys/fs/resctrl/schemata", F_OK) == 0)
		t_skip("has resctrl");
	CHECK_ERR(ERR_UNSUPPORTED, rdt_apply(p, 7));
	CHECK_ERR(ERR_UNSUPPORTED, rdt_update(p));
}
