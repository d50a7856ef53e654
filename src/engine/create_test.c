/* create_test.c - containers that are not started: names, refusals, merging with the image, volumes, what reconciling sweeps. */
#include "base/mem.h"
#include "base/own.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/image_fixture_test.h"
#include "engine/signals.h"
#include "engine/stream.h"
#include "engine/volume.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>

static struct err *create(struct engine *e, const char *name, const char *body)
{
	auto_json json_t *v = NULL;
	auto_free char *id = NULL;

	CHECK_OK(json_parse(sv_of(body), "body", 65536, &v));
	return container_create(e, name, v, &id);
}

TEST(names_are_unique_and_prefixes_find)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *image = fixture_image(e, "one", "box"), *id = NULL;
	auto_json json_t *list = NULL, *none = NULL;
	char prefix[13];

	CHECK_OK(create(e, "first", "{\"Image\": \"box\", \"Cmd\": [\"a\"]}"));
	CHECK_ERR(ERR_CONFLICT, create(e, "first", "{\"Image\": \"box\", \"Cmd\": [\"a\"]}"));
	CHECK_ERR(ERR_INVALID, create(e, "../x", "{\"Image\": \"box\", \"Cmd\": [\"a\"]}"));
	CHECK_OK(container_resolve(e, "first", &id));
	(void)snprintf(prefix, sizeof prefix, "%.12s", id);
	CHECK_OK(container_rename(e, prefix, "second"));
	CHECK_ERR(ERR_NOT_FOUND, container_rename(e, "first", "third"));
	CHECK_OK(container_list(e, true, NULL, &list));
	CHECK_INT(json_array_size(list), 1); /* what was refused left nothing */
	CHECK_STR(json_str_at(json_array_get(list, 0), "Status", ""), "Created");
	CHECK_OK(container_list(e, false, NULL, &none));
	CHECK_INT(json_array_size(none), 0);
	CHECK_OK(container_remove(e, "second", (struct container_rm){ false, false }));
	CHECK_ERR(ERR_NOT_FOUND, container_remove(e, "second", (struct container_rm){ false, false }));
}

/* What a command that reconciles may do to a home that is not locked yet. */
static struct {
	const char *dir, *at; /* the containers; before which call of ours */
	bool made, swept;
} sweeper;

static int sweep_once(const char *call)
{
	if (strcmp(call, "mkdir") == 0)
		sweeper.made = true;
	if (sweeper.made && !sweeper.swept && strcmp(call, sweeper.at) == 0) {
		DIR *d = opendir(sweeper.dir);

		CHECK(d);
		for (struct dirent *entry; (entry = readdir(d));)
			if (strlen(entry->d_name) == 64 && unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR) == 0)
				sweeper.swept = true;
		closedir(d);
	}
	return 0;
}

TEST(a_home_that_is_swept_before_its_lock_is_made_again)
{
	static const char *const moments[] = { "open", "flock" };
	auto_engine struct engine *e = fixture_open();
	auto_free char *image = fixture_image(e, "one", "box"), *dir = xasprintf("%s/containers", engine_root(e));

	for (size_t i = 0; i < LEN(moments); i++) {
		sweeper = (typeof(sweeper)){ .dir = dir, .at = moments[i] };
		sys_fault = sweep_once;
		CHECK_OK(create(e, moments[i], "{\"Image\": \"box\", \"Cmd\": [\"a\"]}"));
		sys_fault = NULL;
		CHECK(sweeper.swept);
		CHECK_OK(container_remove(e, moments[i], (struct container_rm){ false, false }));
	}
}

TEST(what_we_cannot_do_is_refused)
{
	static const struct {
		const char *more;
		enum err_kind kind;
	} bad[] = {
		{ "\"HostConfig\": {\"CgroupParent\": \"/a\"}", ERR_UNSUPPORTED },
		{ "\"HostConfig\": {\"Runtime\": \"kata\"}", ERR_INVALID },
		{ "\"NetworkDisabled\": true", ERR_UNSUPPORTED },
		{ "\"NetworkingConfig\": {\"EndpointsConfig\": {\"other\": {}}}", ERR_UNSUPPORTED },
		{ "\"NetworkingConfig\": {\"EndpointsConfig\": {\"bridge\": {\"Aliases\": [\"a\"]}}}", ERR_INVALID },
		{ "\"NetworkingConfig\": {\"EndpointsConfig\": {\"bridge\": {\"Links\": [\"a\"]}}}", ERR_UNSUPPORTED },
		{ "\"NetworkingConfig\": {\"EndpointsConfig\": {\"bridge\": {\"IPAMConfig\": {\"IPv6Address\": \"::1\"}}}}",
		  ERR_UNSUPPORTED },
		{ "\"HostConfig\": {\"LogConfig\": {\"Type\": \"syslog\"}}", ERR_UNSUPPORTED },
		{ "\"HostConfig\": {\"CapAdd\": [\"NO_SUCH\"]}", ERR_INVALID },
		{ "\"HostConfig\": {\"Memory\": 4096}", ERR_INVALID },
		{ "\"HostConfig\": {\"AutoRemove\": true, \"RestartPolicy\": {\"Name\": \"always\"}}", ERR_CONFLICT },
		{ "\"HostConfig\": {\"Binds\": [\"/a:/b:sideways\"]}", ERR_INVALID },
		{ "\"HostConfig\": {\"Binds\": [\"vol:/b/../c\"]}", ERR_INVALID },
		{ "\"WorkingDir\": \"relative\"", ERR_INVALID },
	};
	auto_engine struct engine *e = fixture_open();
	auto_free char *image = fixture_image(e, "one", "box");
	auto_fd int homes = sys_open_beneath(engine_root_fd(e), "containers", O_RDONLY | O_DIRECTORY, 0);

	for (size_t i = 0; i < LEN(bad); i++) {
		auto_free char *body = xasprintf("{\"Image\": \"box\", \"Cmd\": [\"a\"], %s}", bad[i].more);

		CHECK_ERR(bad[i].kind, create(e, NULL, body));
	}
	CHECK_ERR(ERR_INVALID, create(e, NULL, "{\"Image\": \"box\"}")); /* no command */
	CHECK_OK(create(e, NULL, "{\"Image\": \"box\", \"Cmd\": [\"a\"], \"HostConfig\": {\"CgroupParent\": \"\"},"
				 "\"NetworkingConfig\": {\"EndpointsConfig\": {\"bridge\": {\"Aliases\": null}}}}"));
	CHECK_INT(t_entries(homes), 1);
}

TEST(a_volume_in_use_stays)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *image = fixture_image(e, "one", "box");

	CHECK_OK(create(e, "user", "{\"Image\": \"box\", \"Cmd\": [\"a\"], \"HostConfig\": {\"Binds\": [\"vol:/data:nocopy\"]}}"));
	CHECK_ERR(ERR_CONFLICT, volume_remove(e, "vol", false));
	CHECK_OK(container_remove(e, "user", (struct container_rm){ false, true }));
	CHECK_OK(volume_remove(e, "vol", false)); /* it has a name: the container did not take it along */
	CHECK_ERR(ERR_NOT_FOUND, volume_remove(e, "vol", false));
}

TEST(a_directory_without_record_is_swept_a_locked_one_is_not)
{
	static const char dead[] = "containers/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	static const char busy[] = "containers/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
	auto_engine struct engine *e = fixture_open(), *again = NULL;
	auto_fd int lock = -1;
	struct stat st;

	CHECK(sys_mkdir(engine_root_fd(e), dead, 0710) == 0 && sys_mkdir(engine_root_fd(e), busy, 0710) == 0);
	CHECK_OK(ctr_lock(e, busy + sizeof "containers", false, &lock));
	again = fixture_open();
	CHECK_INT(sys_fstatat(engine_root_fd(e), dead, &st, 0), -ENOENT);
	CHECK_INT(sys_fstatat(engine_root_fd(e), busy, &st, 0), 0);
}

TEST(signals_as_users_write_them)
{
	CHECK_INT(signal_number("KILL"), SIGKILL);
	CHECK_INT(signal_number("sigterm"), SIGTERM);
	CHECK_INT(signal_number("9"), 9);
	CHECK_INT(signal_number(""), SIGTERM);
	CHECK_INT(signal_number("RTMIN+3"), SIGRTMIN + 3);
	CHECK_INT(signal_number("RTMAX-99"), -1);
	CHECK_INT(signal_number("0"), -1);
	CHECK_INT(signal_number("NOSUCH"), -1);
}

TEST(a_stream_waits_for_nobody)
{
	static struct stream_pending s;
	static char text[STREAM_CHUNK];
	int in[2], out[2];
	size_t taken = 0;

	memset(text, 'x', sizeof text);
	CHECK(sys_pipe(in) >= 0 && sys_pipe(out) >= 0);
	CHECK(sys_nonblock(out[1], true) >= 0);
	for (int i = 0; i < 2; i++) { /* the second chunk finds the pipe full */
		CHECK(sys_write_all(in[1], text, sizeof text) == 0);
		CHECK(stream_feed(&s, in[0], out[1]));
	}
	CHECK_INT(s.n, STREAM_CHUNK);
	while (s.n || taken < 2 * sizeof text) {
		ssize_t n = sys_read(out[0], text, sizeof text);

		CHECK(n > 0);
		taken += (size_t)n;
		stream_flush(&s, out[1]);
	}
	CHECK_INT(taken, 2 * sizeof text);
	(void)sys_close(in[1]);
	CHECK(!stream_feed(&s, in[0], out[1]));
	(void)sys_close(in[0]);
	(void)sys_close(out[0]);
	(void)signal(SIGPIPE, SIG_IGN);
	CHECK(!stream_write(out[1], text, 1));
	(void)sys_close(out[1]);
}

/* ---- killed while it removes ---- */

static void with_container(void)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *image = fixture_image(e, "one", "box");

	CHECK_OK(create(e, "doomed", "{\"Image\": \"box\", \"Cmd\": [\"a\"]}"));
}

static void remove_container(void)
{
	auto_engine struct engine *e = fixture_open();

	CHECK_OK(container_remove(e, "doomed", (struct container_rm){ false, false }));
}

/* It is there and can be removed, or nothing of it is there. */
static void removable_or_gone(void)
{
	auto_engine struct engine *e = fixture_open();
	auto_fd int homes = sys_open_beneath(engine_root_fd(e), "containers", O_RDONLY | O_DIRECTORY, 0);
	struct err *err = container_remove(e, "doomed", (struct container_rm){ false, false });

	CHECK(!err || err->kind == ERR_NOT_FOUND);
	err_free(err);
	CHECK_ERR(ERR_NOT_FOUND, container_remove(e, "doomed", (struct container_rm){ false, false }));
	CHECK_INT(t_entries(homes), 0);
}

TEST(a_removal_that_was_killed_can_be_repeated)
{
	t_crash_sweep(with_container, remove_container, removable_or_gone);
}

TEST(a_record_without_directory_can_be_removed)
{
	auto_engine struct engine *e = fixture_open();
	auto_free char *image = fixture_image(e, "one", "box"), *id = NULL, *home = NULL;

	CHECK_OK(create(e, "lost", "{\"Image\": \"box\", \"Cmd\": [\"a\"]}"));
	CHECK_OK(container_resolve(e, "lost", &id));
	home = ctr_path(e, id, NULL);
	CHECK_OK(ctr_remove_tree(AT_FDCWD, home));
	CHECK_OK(container_remove(e, "lost", (struct container_rm){ false, false }));
	CHECK_ERR(ERR_NOT_FOUND, container_remove(e, "lost", (struct container_rm){ false, false }));
}
