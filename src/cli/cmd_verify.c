/* cmd_verify.c - verify: is everything that is stored what it should be? */
#include "base/num.h"
#include "base/own.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "engine/verify.h"
#include <stdio.h>

struct verify_conf {
	bool repair, quiet, insecure;
};
#define AT(field) offsetof(struct verify_conf, field)

static void tell(void *ctx, const char *line)
{
	(void)ctx;
	(void)printf("%s\n", line);
}

static void tell_nothing(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

static void tell_sum(const struct verify_result *r)
{
	char size[16];

	(void)printf("Checked: %u blobs (%s), %u layers, %u records\n", r->blobs, num_human(r->bytes, size),
		     r->layers, r->records);
	if (r->unchecked)
		(void)printf("Not checked: %u layers: their blobs are not in the store, or the disk is read-only\n", r->unchecked);
	if (r->damaged)
		(void)printf("Damaged: %u, repaired: %u\n", r->damaged,
			     r->damaged > r->left ? r->damaged - r->left : 0);
}

static FALLIBLE run_verify(const void *conf, char *const args[], int *out_exit)
{
	const struct verify_conf *c = conf;
	CLEANUP(progress_fini) struct progress p = progress_begin(c->quiet, stderr);
	struct verify_opts o = { .images = args,
				 .repair = c->repair,
				 .transfer = { .access.insecure = c->insecure, .quiet = c->quiet, .progress = progress_sink(&p) },
				 .tell = c->quiet ? tell_nothing : tell };
	struct verify_result r;
	struct engine *e;

	TRY(engine_verify_database(cmd_engine_opts(), &o));
	TRY(cmd_engine(&e));
	TRY(engine_verify(e, &o, &r));
	if (!c->quiet)
		tell_sum(&r);
	if (!r.left)
		return NULL;
	*out_exit = 1;
	if (c->repair)
		return FAIL(
		    ERR_CORRUPT,
		    "%u things are still damaged: import, load or pull what needs them again, or build it with --no-cache, and repair once more",
		    r.left);
	return FAIL(ERR_CORRUPT, "the store is damaged: 'hoy verify --repair' mends what it can");
}
static const struct opt opts[] = {
	{ OPT_FLAG, 0, "insecure", NULL, AT(insecure), 0,
	  "Fetch over plain HTTP or without verifying certificates" },
	{ OPT_FLAG, 'q', "quiet", NULL, AT(quiet), 0, "Only the exit code tells: 0 sound, 1 damaged" },
	{ OPT_FLAG, 0, "repair", NULL, AT(repair), 0,
	  "Fetch, apply or write again what is damaged; remove what nothing needs" },
	{ 0 },
};
const struct cmd cmd_verify = { "verify",
				"[IMAGE...]",
				"Read everything that is stored and tell what is damaged",
				opts,
				sizeof(struct verify_conf),
				0,
				-1,
				false,
				0,
				false,
				run_verify,
				NULL,
				NULL };
