/*
 * image_make.c - images made here (build, commit, import): their manifest and their name.
 *
 * Layers are plain tar blobs and the manifest names them so: what is pushed has the digest that it has here.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "image/ref.h"

static void layers_free(struct descriptor **slot)
{
	for (struct descriptor *l = *slot; l && l->media_type; l++)
		free(l->media_type);
	free(*slot);
}

FALLIBLE engine_image_create(struct engine *e, const json_t *config, const char *ref, char **out_id)
{
	auto_list char **diff_ids = NULL;
	auto_buf struct buf b = BUF(MANIFEST_MAX), m = BUF(MANIFEST_MAX);
	char config_type[] = MEDIA_CONFIG, digest[DIGEST_MAX];
	struct descriptor head = { .media_type = config_type };
	CLEANUP(layers_free) struct descriptor *layers = NULL;
	size_t n;

	TRY(config_diff_ids(config, &diff_ids));
	n = text_list_len(diff_ids);
	layers = xcalloc(n + 1, sizeof *layers);
	for (size_t i = 0; i < n; i++)
		TRY(image_layer_blob(e, diff_ids[i], &layers[i]));
	json_print(config, &b);
	TRY(buf_check(&b, "image configuration"));
	TRY(store_put(engine_store(e), b.data, b.n, head.digest));
	head.size = b.n;
	manifest_write(&head, layers, n, &m);
	TRY(buf_check(&m, "manifest"));
	TRY(store_put(engine_store(e), m.data, m.n, digest));
	/* without a name of the user's it has a record all the same, so that it can be run, tagged and removed */
	if (ref) {
		CLEANUP(ref_fini) struct ref r = { 0 };
		auto_free char *full = NULL;

		TRY(ref_parse(ref, &r));
		full = ref_full(&r);
		TRY(image_name_set(e, full, digest, digest));
	} else {
		TRY(image_name_set(e, NULL, digest, digest));
	}
	*out_id = xstrdup(head.digest);
	return NULL;
}
