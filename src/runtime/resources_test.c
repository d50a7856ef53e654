/* resources_test.c - linux.resources to control group files, as golden text for both versions. */
#include "base/own.h"
#include "harness/t.h"
#include "runtime/plan.h"
#include <stdio.h>

static void fini(struct plan *p)
{
	vec_fini(&p->cgroup_v1);
	vec_fini(&p->cgroup_v2);
	vec_fini(&p->device_rules);
	arena_fini(&p->arena);
}
#define PLAN(name)                                                                                           \
	CLEANUP(fini) struct plan name = { .id = "t" };                                                      \
	arena_init(&name.arena, 1 << 20)

static struct err *compile(struct plan *p, const char *text)
{
	auto_json json_t *v = NULL;

	TRY(json_parse(sv_of(text), "resources", 1 << 20, &v));
	return plan_resources(p, v);
}

static void print(const struct plan_pair *p, size_t n, struct buf *out)
{
	for (size_t i = 0; i < n; i++)
		buf_fmt(out, "%s=%s\n", p[i].key, p[i].value ? p[i].value : "(unsupported)");
}

static void check(const char *text, const char *want_v1, const char *want_v2)
{
	auto_buf struct buf b1 = BUF(65536), b2 = BUF(65536);
	PLAN(p);

	CHECK_OK(compile(&p, text));
	print(p.cgroup_v1.p, p.cgroup_v1.n, &b1);
	print(p.cgroup_v2.p, p.cgroup_v2.n, &b2);
	CHECK_STR(buf_text(&b1), want_v1);
	CHECK_STR(buf_text(&b2), want_v2);
}

TEST(nothing_asked_is_nothing_written)
{
	PLAN(p);

	CHECK_OK(plan_resources(&p, NULL));
	check("{}", "", "");
	check("{\"memory\":{},\"cpu\":{},\"pids\":null,\"blockIO\":{\"weight\":0},\"devices\":[]}", "", "");
	CHECK(p.device_rules.n == 0);
}

TEST(memory_limits)
{
	check("{\"memory\":{\"limit\":67108864,\"swap\":100000000,\"reservation\":33554432}}",
	      "memory/memory.limit_in_bytes=67108864\nmemory/memory.memsw.limit_in_bytes=100000000\n"
	      "memory/memory.soft_limit_in_bytes=33554432\n",
	      "memory.max=67108864\nmemory.swap.max=32891136\nmemory.low=33554432\n");
	check("{\"memory\":{\"limit\":67108864,\"swap\":67108864}}",
	      "memory/memory.limit_in_bytes=67108864\nmemory/memory.memsw.limit_in_bytes=67108864\n",
	      "memory.max=67108864\nmemory.swap.max=0\n");
	check("{\"memory\":{\"limit\":-1,\"swap\":-1,\"kernelTCP\":5}}",
	      "memory/memory.limit_in_bytes=-1\nmemory/memory.memsw.limit_in_bytes=-1\nmemory/"
	      "memory.kmem.tcp.limit_in_bytes=5\n",
	      "memory.max=max\nmemory.swap.max=max\n");
	check("{\"memory\":{\"swappiness\":0,\"disableOOMKiller\":true,\"checkBeforeUpdate\":true}}",
	      "memory/memory.swappiness=0\nmemory/memory.oom_control=1\n",
	      "linux.resources.memory.swappiness=(unsupported)\nlinux.resources.memory.disableOOMKiller=("
	      "unsupported)\n");
}

TEST(cpu_limits)
{
	check(
	    "{\"cpu\":{\"shares\":1024,\"quota\":50000,\"period\":100000,\"burst\":10,\"cpus\":\"0-1\","
	    "\"mems\":\"0\",\"idle\":1}}",
	    "cpu/cpu.idle=1\ncpu/cpu.shares=1024\ncpu/cpu.cfs_period_us=100000\ncpu/cpu.cfs_quota_us=50000\n"
	    "cpu/cpu.cfs_burst_us=10\ncpuset/cpuset.cpus=0-1\ncpuset/cpuset.mems=0\n",
	    "cpu.idle=1\ncpu.weight=100\ncpu.max=50000 "
	    "100000\ncpu.max.burst=10\ncpuset.cpus=0-1\ncpuset.mems=0\n");
	check("{\"cpu\":{\"quota\":-1}}", "cpu/cpu.cfs_quota_us=-1\n", "cpu.max=max\n");
	check("{\"cpu\":{\"period\":5000}}", "cpu/cpu.cfs_period_us=5000\n", "cpu.max=max 5000\n");
	check("{\"cpu\":{\"realtimeRuntime\":9000,\"realtimePeriod\":10000}}",
	      "cpu/cpu.rt_period_us=10000\ncpu/cpu.rt_runtime_us=9000\n",
	      "linux.resources.cpu.realtimePeriod=(unsupported)\nlinux.resources.cpu.realtimeRuntime=("
	      "unsupported)\n");
}

TEST(shares_become_weights)
{
	static const struct {
		int shares, weight;
	} cases[] = { { 1, 1 },      { 2, 1 },      { 3, 2 },          { 512, 59 },
		      { 1024, 100 }, { 2048, 174 }, { 262144, 10000 }, { 999999, 10000 } };
	int last = 0;

	for (size_t i = 0; i < LEN(cases); i++) {
		char text[64], want1[64], want2[64];

		(void)snprintf(text, sizeof text, "{\"cpu\":{\"shares\":%d}}", cases[i].shares);
		(void)snprintf(want1, sizeof want1, "cpu/cpu.shares=%d\n", cases[i].shares);
		(void)snprintf(want2, sizeof want2, "cpu.weight=%d\n", cases[i].weight);
		check(text, want1, want2);
	}
	for (int shares = 2; shares <= 262144; shares += 1 + shares / 3) {
		char text[64];
		PLAN(p);
		int w;

		(void)snprintf(text, sizeof text, "{\"cpu\":{\"shares\":%d}}", shares);
		CHECK_OK(compile(&p, text));
		w = (int)strtol(p.cgroup_v2.p[0].value, NULL, 10);
		CHECK(w >= last && w >= 1 && w <= 10000);
		last = w;
	}
}

TEST(process_limits)
{
	check("{\"pids\":{\"limit\":9}}", "pids/pids.max=9\n", "pids.max=9\n");
	check("{\"pids\":{\"limit\":0}}", "pids/pids.max=0\n", "pids.max=0\n");
	check("{\"pids\":{\"limit\":-1}}", "pids/pids.max=max\n", "pids.max=max\n");
}

TEST(block_io_limits)
{
	check("{\"blockIO\":{\"weight\":100,\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":500}],"
	      "\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":1000}],"
	      "\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":16,\"rate\":7},{\"major\":8,\"minor\":0,"
	      "\"rate\":0}]}}",
	      "blkio/blkio.weight|blkio/blkio.bfq.weight=100|100\n"
	      "blkio/blkio.weight_device|blkio/blkio.bfq.weight_device=8:0 500|8:0 500\n"
	      "blkio/blkio.throttle.read_bps_device=8:0 1000\nblkio/blkio.throttle.write_iops_device=8:16 7\n"
	      "blkio/blkio.throttle.write_iops_device=8:0 0\n",
	      "io.bfq.weight|io.weight=100|default 910\nio.bfq.weight|io.weight=8:0 500|8:0 4950\n"
	      "io.max=8:0 rbps=1000\nio.max=8:16 wiops=7\nio.max=8:0 wiops=max\n");
	check("{\"blockIO\":{\"leafWeight\":20}}", "blkio/blkio.leaf_weight=20\n",
	      "linux.resources.blockIO.leafWeight=(unsupported)\n");
}

TEST(other_limits)
{
	check(
	    "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}]}",
	    "hugetlb/hugetlb.2MB.rsvd.limit_in_bytes|=4194304\nhugetlb/hugetlb.2MB.limit_in_bytes=4194304\n",
	    "hugetlb.2MB.rsvd.max|=4194304\nhugetlb.2MB.max=4194304\n");
	check("{\"network\":{\"classID\":1048577,\"priorities\":[{\"name\":\"eth0\",\"priority\":5}]}}",
	      "net_cls/net_cls.classid=1048577\nnet_prio/net_prio.ifpriomap=eth0 5\n",
	      "linux.resources.network.classID=(unsupported)\nlinux.resources.network.priorities=("
	      "unsupported)\n");
	check("{\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3,\"hcaObjects\":100},\"mlx4_0\":{\"hcaObjects\":1}}}",
	      "rdma/rdma.max=mlx5_1 hca_handle=3 hca_object=100\nrdma/rdma.max=mlx4_0 hca_object=1\n",
	      "rdma.max=mlx5_1 hca_handle=3 hca_object=100\nrdma.max=mlx4_0 hca_object=1\n");
	check("{\"unified\":{\"memory.high\":\"1000\"}}", "linux.resources.unified=(unsupported)\n",
	      "memory.high=1000\n");
}

TEST(device_rules_keep_their_order_and_end_with_the_default_devices)
{
	PLAN(p);

	CHECK_OK(compile(
	    &p,
	    "{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"u\",\"major\":10,"
	    "\"minor\":229,\"access\":\"wr\"},{\"allow\":true,\"type\":\"b\",\"major\":8,\"access\":\"m\"}]"
	    "}"));
	CHECK(p.device_rules.n > 3);
	CHECK(!p.device_rules.p[0].allow && p.device_rules.p[0].type == 'a' &&
	      p.device_rules.p[0].major == -1);
	CHECK(p.device_rules.p[1].allow && p.device_rules.p[1].type == 'c' &&
	      p.device_rules.p[1].minor == 229);
	CHECK_STR(p.device_rules.p[0].access, "rwm");
	CHECK_STR(p.device_rules.p[1].access, "rw");
	CHECK(p.device_rules.p[2].major == 8 && p.device_rules.p[2].minor == -1);
	CHECK(p.device_rules.p[5].major == 1 && p.device_rules.p[5].minor == 3); /* /dev/null */
}

TEST(bad_resources_are_refused_by_path)
{
	static const struct {
		const char *text, *path;
	} bad[] = {
		{ "[]", "linux.resources" },
		{ "{\"memory\":[]}", "linux.resources.memory" },
		{ "{\"memory\":{\"limit\":\"64m\"}}", "linux.resources.memory.limit" },
		{ "{\"memory\":{\"limit\":-2}}", "linux.resources.memory.limit" },
		{ "{\"memory\":{\"swap\":5}}", "linux.resources.memory.swap" },
		{ "{\"memory\":{\"limit\":10,\"swap\":5}}", "linux.resources.memory.swap" },
		{ "{\"memory\":{\"swappiness\":101}}", "linux.resources.memory.swappiness" },
		{ "{\"cpu\":{\"cpus\":\"all\"}}", "linux.resources.cpu.cpus" },
		{ "{\"cpu\":{\"shares\":-1}}", "linux.resources.cpu.shares" },
		{ "{\"blockIO\":{\"weight\":5}}", "linux.resources.blockIO.weight" },
		{ "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"rate\":1}]}}",
		  "linux.resources.blockIO.throttleReadBpsDevice[0].minor" },
		{ "{\"hugepageLimits\":[{\"pageSize\":\"../x\",\"limit\":1}]}",
		  "linux.resources.hugepageLimits[0].pageSize" },
		{ "{\"unified\":{\"../memory.max\":\"1\"}}", "linux.resources.unified" },
		{ "{\"unified\":{\"cgroup.procs\":5}}", "linux.resources.unified.cgroup.procs" },
		{ "{\"devices\":[{\"type\":\"c\"}]}", "linux.resources.devices[0].allow" },
		{ "{\"devices\":[{\"allow\":true,\"type\":\"x\"}]}", "linux.resources.devices[0].type" },
		{ "{\"devices\":[{\"allow\":true,\"access\":\"rwx\"}]}",
		  "linux.resources.devices[0].access" },
		{ "{\"devices\":[{\"allow\":true,\"major\":\"1\"}]}", "linux.resources.devices[0].major" },
	};

	for (size_t i = 0; i < LEN(bad); i++) {
		auto_err struct err *e = NULL;
		PLAN(p);

		e = compile(&p, bad[i].text);
		if (!e)
			t_fail(__FILE__, __LINE__, "accepted: %s", bad[i].text);
		CHECK_INT(e->kind, ERR_INVALID);
		if (strncmp(e->msg, bad[i].path, strlen(bad[i].path)) != 0)
			CHECK_STR(e->msg, bad[i].path);
	}
}
