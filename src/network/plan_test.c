#include "base/own.h"
#include "base/text.h"
#include "harness/t.h"
#include "network/ipam.h"
#include "network/resolv.h"
#include "network/rig.h"
#include "network/table.h"
#include "sys/netlink.h"
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

TEST(addresses_and_subnets_from_text)
{
	static const char *const bad_ips[] = { "", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", " 1.2.3.4", "1.2.3.4 ", "a.b.c.d" };
	static const char *const bad_nets[] = { "10.0.0.0", "10.0.0.0/", "10.0.0.0/31", "10.0.0.0/7", "10.0.0.1/24", "/24" };
	struct subnet s;
	uint32_t ip;
	char text[20];

	for (size_t i = 0; i < sizeof bad_ips / sizeof *bad_ips; i++)
		CHECK_ERR(ERR_INVALID, ip_parse(sv_of(bad_ips[i]), &ip));
	for (size_t i = 0; i < sizeof bad_nets / sizeof *bad_nets; i++)
		CHECK_ERR(ERR_INVALID, subnet_parse(sv_of(bad_nets[i]), &s));
	CHECK_OK(ip_parse(SV("192.0.2.255"), &ip));
	CHECK_STR(ip_text(ip, text), "192.0.2.255");
	CHECK_OK(subnet_parse(SV("10.64.0.0/10"), &s));
	CHECK_STR(subnet_text(s, text), "10.64.0.0/10");
	CHECK_STR(ip_text(subnet_last(s), text), "10.127.255.255");
}

TEST(subnets_avoid_what_is_taken)
{
	struct subnet taken[2], s;
	char text[20];

	CHECK_OK(subnet_choose(NULL, 0, &s));
	CHECK_STR(subnet_text(s, text), "172.27.0.0/16");
	CHECK_OK(subnet_parse(SV("172.27.9.0/24"), &taken[0])); /* inside */
	CHECK_OK(subnet_parse(SV("172.28.0.0/15"), &taken[1])); /* around */
	CHECK_OK(subnet_choose(taken, 2, &s));
	CHECK_STR(subnet_text(s, text), "172.30.0.0/16");
	CHECK_OK(subnet_parse(SV("172.16.0.0/12"), &taken[0]));
	CHECK_OK(subnet_choose(taken, 1, &s));
	CHECK_STR(subnet_text(s, text), "10.89.0.0/24");
	CHECK_OK(subnet_parse(SV("10.0.0.0/8"), &taken[1]));
	CHECK_ERR(ERR_UNAVAILABLE, subnet_choose(taken, 2, &s));
}

TEST(addresses_go_round)
{
	const struct subnet s = { 0x0a000000, 29 }; /* hosts .1 to .6 */
	uint32_t used[6] = { 0x0a000001 }, ip;

	CHECK_OK(ip_choose(s, used, 1, 0x0a000001, &ip));
	CHECK_INT(ip, 0x0a000002);
	CHECK_OK(ip_choose(s, used, 1, 0x0a000006, &ip)); /* around, past the used one */
	CHECK_INT(ip, 0x0a000002);
	CHECK_OK(ip_choose(s, used, 1, 0x0b000000, &ip)); /* a hint of another subnet */
	CHECK_INT(ip, 0x0a000002);
	for (uint32_t i = 0; i < 6; i++)
		used[i] = 0x0a000001 + i;
	CHECK_ERR(ERR_UNAVAILABLE, ip_choose(s, used, 6, 0x0a000003, &ip));
	used[4] = 0x0a000006;
	CHECK_OK(ip_choose(s, used, 5, 0x0a000003, &ip));
	CHECK_INT(ip, 0x0a000005);
}

static char *dns[] = { (char *)(uintptr_t)"9.9.9.9", NULL }, *search[] = { (char *)(uintptr_t)"a.example", NULL },
	    *options[] = { (char *)(uintptr_t)"ndots:2", NULL }, *dot[] = { (char *)(uintptr_t)".", NULL };

static void check_resolv(const char *host, const struct resolv *wish, bool want_ok, const char *want)
{
	auto_buf struct buf b = BUF(4096);

	CHECK(resolv_text(sv_of(host), wish, &b) == want_ok);
	CHECK_STR(buf_text(&b), want);
}

TEST(resolv_conf)
{
	static const char host[] = "# comment\nnameserver 127.0.0.53\nnameserver\t192.0.2.1\nsearch lan\noptions edns0\n";

	check_resolv(host, &(struct resolv){ 0 }, true, "nameserver 192.0.2.1\nsearch lan\noptions edns0\n");
	check_resolv(host, &(struct resolv){ dns, search, options }, true,
		     "nameserver 9.9.9.9\nsearch a.example\noptions ndots:2\n");
	check_resolv(host, &(struct resolv){ .search = dot }, true, "nameserver 192.0.2.1\noptions edns0\n");
	check_resolv("nameserver 127.0.0.53\nnameserver ::1\nsearch lan", &(struct resolv){ 0 }, false, "search lan\n");
	check_resolv("", &(struct resolv){ 0 }, true, "");
	check_resolv("nameserver fd00::1\n", &(struct resolv){ 0 }, true, "nameserver fd00::1\n");
}

static void fill(struct table *t)
{
	(void)snprintf(t->name, sizeof t->name, "hoy");
	*vec_push(&t->nets) = (struct table_net){ "hoy0", { 0xac1b0000, 16 }, false };
	*vec_push(&t->nets) = (struct table_net){ "hoy-12345678", { 0xac1c0000, 16 }, true }; /* adjacent */
	*vec_push(&t->nets) = (struct table_net){ "hoy-23456789", { 0x0a590000, 24 }, false };
	*vec_push(&t->ports) = (struct table_port){ 0, 0xac1b0002, 8080, 80, IPPROTO_TCP, "aaaa" };
	*vec_push(&t->ports) = (struct table_port){ 0x7f000001, 0xac1b0003, 5353, 53, IPPROTO_UDP, "bbbb" };
}

TEST(the_table_in_words)
{
	auto_table struct table t = { 0 };
	auto_buf struct buf b = BUF(1 << 16);

	fill(&t);
	table_explain(&t, &b);
	t_golden("network-table.txt", buf_text(&b));
}

/* nft reads back what we wrote: the words above are what the kernel does. */
TEST(the_table_in_the_kernel)
{
	auto_free char *got = NULL, *empty = NULL;
	auto_table struct table t = { .forward_was_off = true };
	struct table_found found;
	auto_fd int fd = -1;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		t_skip("needs root");
	fd = sys_netlink_open(NETLINK_NETFILTER);
	CHECK(fd >= 0);
	fill(&t);
	CHECK_OK(table_replace(fd, &t));
	CHECK_OK(table_replace(fd, &t));
	got = rig_out("nft list ruleset");
	t_golden("network-table.nft", got);
	CHECK_OK(table_find(fd, "hoy", &found));
	CHECK(found.exists && !found.others && found.forward_was_off);
	CHECK_OK(table_find(fd, "hoy-1", &found));
	CHECK(!found.exists && found.others && found.forward_was_off);
	CHECK_ERR(ERR_EXISTS, table_ports(fd, &t, true));
	CHECK_OK(table_ports(fd, &t, false));
	CHECK_ERR(ERR_NOT_FOUND, table_ports(fd, &t, false));
	CHECK_OK(table_ports(fd, &t, true));
	CHECK_OK(table_delete(fd, "hoy"));
	CHECK_OK(table_delete(fd, "hoy"));
	empty = rig_out("nft list ruleset");
	CHECK_STR(empty, "");
}

TEST(thousands_of_ports_are_one_batch)
{
	auto_table struct table t = { 0 };
	auto_fd int fd = -1;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		t_skip("needs root");
	fd = sys_netlink_open(NETLINK_NETFILTER);
	fill(&t);
	for (uint16_t i = 0; i < 5000; i++)
		*vec_push(&t.ports) = (struct table_port){ 0, 0xac1b0004, (uint16_t)(10000 + i), 80, IPPROTO_TCP,
			"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" };
	CHECK_OK(table_replace(fd, &t));
	rig_sh("test $(nft -j list map inet hoy pub | grep -o cccccccc0* | wc -l) -ge 5000");
}
