/* changes.c - what a container changed in its image's file system, and all of it as an archive. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/stubs.h"
#include "sys/sys.h"

FALLIBLE container_changes(struct engine *e, const char *text, struct err *(*each)(void *ctx, char kind, const char *path), void *ctx)
{
	CLEANUP(rootfs_fini) struct rootfs rootfs = { 0 };
	auto_json json_t *doc = NULL;
	auto_list char **stubs = NULL;
	auto_fd int below = -1;
	char id[CTR_ID_MAX];

	TRY(ctr_find(e, text, id, &doc));
	TRY(ctr_rootfs(e, id, doc, &rootfs));
	TRY(stubs_of(&rootfs, &stubs, &below));
	return rootfs_changes(rootfs.upper, below, stubs, each, ctx);
}

FALLIBLE container_export(struct engine *e, const char *text, struct zip_sink sink)
{
	CLEANUP(rootfs_fini) struct rootfs rootfs = { 0 };
	auto_json json_t *doc = NULL;
	auto_fd int root = -1;
	char id[CTR_ID_MAX];

	TRY(ctr_find(e, text, id, &doc));
	TRY(ctr_rootfs(e, id, doc, &rootfs));
	TRY(rootfs_view_read(&rootfs, &root));
	return snapshot_archive(root, sink);
}
