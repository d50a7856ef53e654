/*
 * cache.c - keys and their layers. DB_CACHE: key -> {"diff_id", "what", "used_ns"}; the sweep of the store keeps what is named here.
 *
 * An entry whose layer is gone (a reset, a sweep by hand) is a miss, not an error.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "build/stage.h"
#include "content/store.h"
#include "state/db.h"
#include "sys/entropy.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/file.h>

#define CACHE_FORMAT "hoy build cache 1"

void cache_add(struct digest_state *key, const char *text)
{
	size_t n = strlen(text) + 1; /* with the terminator, so that no two lists of texts run together */

	digest_add(key, text, n);
}

struct digest_state *cache_key(const struct stage *s, const char *what, bool with_layers)
{
	struct digest_state *key = digest_new();

	cache_add(key, CACHE_FORMAT);
	cache_add(key, what);
	for (size_t i = 0; with_layers && s->diff_ids && s->diff_ids[i]; i++)
		cache_add(key, s->diff_ids[i]);
	cache_add(key, "");
	return key;
}

FALLIBLE cache_get(struct build *b, const char *key, char out_diff_id[DIGEST_MAX], bool *out_found)
{
	auto_txn struct db_txn *txn = NULL;
	auto_json json_t *entry = NULL;
	struct sv value;
	const char *diff_id;
	bool found;

	*out_found = false;
	if (b->o->no_cache)
		return NULL;
	TRY(db_begin_read(engine_db(b->e), &txn));
	TRY(db_get(txn, DB_CACHE, key, &value, &found));
	if (!found)
		return NULL;
	TRY(json_parse(value, "cache entry", 1u << 20, &entry));
	diff_id = json_str_at(entry, "diff_id", "");
	if (!digest_is_valid(sv_of(diff_id)) || !layer_exists(engine_snapshotter(b->e), diff_id) ||
	    !store_has(engine_store(b->e), diff_id, NULL))
		return NULL;
	memcpy(out_diff_id, diff_id, DIGEST_MAX);
	*out_found = true;
	return NULL;
}

FALLIBLE cache_put(struct build *b, const char *key, const char *diff_id, const char *what)
{
	auto_json json_t *entry = json_pack("{s:s, s:s, s:I}", "diff_id", diff_id, "what", what, "used_ns",
					    (json_int_t)time_now_ns());
	auto_buf struct buf text = BUF(1u << 20);
	struct db_txn *txn = NULL;
	struct err *e;

	json_print(entry, &text);
	TRY(buf_check(&text, "cache entry"));
	TRY(db_begin_write(engine_db(b->e), &txn));
	e = db_put(txn, DB_CACHE, key, sv_from(text.data, text.n));
	if (e) {
		db_abort(txn);
		return e;
	}
	return db_commit(txn);
}

/* ---- a directory of our own ---- */

/* ROOT/tmp/layer-build-…: the snapshotter sweeps what begins like this when nobody holds its lock. */
static FALLIBLE open_dir(struct build *b)
{
	char name[64] = "layer-build-";
	auto_fd int tmp = sys_open_beneath(engine_root_fd(b->e), "tmp", O_RDONLY | O_DIRECTORY, 0);

	if (tmp < 0)
		return FAIL_OS(-tmp, "open %s/tmp", engine_root(b->e));
	for (int tries = 0; tries < 100; tries++) {
		struct stat st;
		int r;

		sys_random_hex(name + 12, 8);
		if ((r = sys_mkdir(tmp, name, 0700)) < 0)
			return FAIL_OS(-r, "make %s/tmp/%s", engine_root(b->e), name);
		b->dir_fd = sys_openat(tmp, name, O_RDONLY | O_DIRECTORY, 0);
		if (b->dir_fd >= 0 && sys_flock(b->dir_fd, LOCK_EX | LOCK_NB) == 0 &&
		    sys_fstatat(tmp, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			b->dir = xasprintf("%s/tmp/%s", engine_root(b->e), name);
			return NULL;
		}
		own_close(&b->dir_fd); /* a sweeper was faster than our lock */
		b->dir_fd = -1;
	}
	return FAIL(ERR_CONFLICT, "directories in %s/tmp are removed again and again", engine_root(b->e));
}

FALLIBLE build_dir(struct build *b, char **out_path)
{
	struct err *e;
	char name[16];
	int r;

	(void)pthread_mutex_lock(&b->lock);
	e = b->dir ? NULL : open_dir(b);
	(void)snprintf(name, sizeof name, "%u", ++b->n_dirs);
	(void)pthread_mutex_unlock(&b->lock);
	TRY(e);
	if ((r = sys_mkdir(b->dir_fd, name, 0700)) < 0)
		return FAIL_OS(-r, "make %s/%s", b->dir, name);
	*out_path = xasprintf("%s/%s", b->dir, name);
	return NULL;
}

void build_dirs_remove(struct build *b)
{
	auto_fd int tmp = b->dir ? sys_open_beneath(engine_root_fd(b->e), "tmp", O_RDONLY | O_DIRECTORY, 0) : -1;

	if (tmp >= 0)
		(void)fs_remove_tree(tmp, strrchr(b->dir, '/') + 1);
	free(b->dir);
	b->dir = NULL;
}
