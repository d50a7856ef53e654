/*
 * store.c - an OCI image layout. Order of an ingest: write and hash ROOT/tmp/ingest-*, check, fdatasync,
 * link into blobs/sha256 under its digest. So a name in blobs/ always has all its bytes on disk; that the
 * name itself is there, whoever names an image sees to with one sync of the directory for all of its blobs
 * (store_sync). Whoever writes holds a flock on its temporary file; store_open removes those that nobody
 * holds (temp.h). Of a part-<hex> only the bytes before its first hole are believed to have come, and only the digest
 * of the whole decides.
 */
#include "content/store.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/vec.h"
#include "content/temp.h"
#include "state/record.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>

#define PART_SECONDS (7 * 86400) /* so long a part waits */
#define CHUNK_BYTES  (1u << 18)
#define HOLE_BYTES   4096u /* so many zeros are not written */
#define DELETED_MAX  256
#define BEHIND_BYTES (8u << 20) /* go to disk while the next ones come */
#define DAMAGED	     "damaged" /* the note of a blob that could not be mended */

struct store {
	int root_fd; /* borrowed */
	int blobs_fd, tmp_fd;
	struct lease *lease; /* borrowed; NULL: none */
	VEC(int) deleted;    /* blobs without a name, whose room we still keep; owned */
};
struct ingest {
	struct store *store;
	int fd;
	char name[80];
	bool is_part, ends_in_hole;
	struct digest_state *digest;
	uint64_t size, behind; /* bytes hashed; of them on their way to disk */
};

static struct err *make_dir(int at, const char *name, int *out_fd)
{
	int r = sys_mkdir(at, name, 0700);

	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "store: create %s", name);
	r = sys_open_beneath(at, name, O_RDONLY | O_DIRECTORY, 0);
	if (r < 0)
		return FAIL_OS(-r, "store: open %s", name);
	*out_fd = r;
	return NULL;
}

static bool has_layout(int root_fd)
{
	struct stat st;

	return sys_fstatat(root_fd, "oci-layout", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
}

/* record_write has one temporary name: who opens a new store at the same time waits. lock_fd: of a directory there. */
static struct err *write_layout(int root_fd, int lock_fd)
{
	struct err *e = NULL;
	int r;

	if (has_layout(root_fd))
		return NULL;
	if ((r = sys_flock(lock_fd, LOCK_EX)) < 0)
		return FAIL_OS(-r, "store: lock");
	if (!has_layout(root_fd))
		e = record_write(root_fd, "oci-layout", STORE_LAYOUT, strlen(STORE_LAYOUT));
	(void)sys_flock(lock_fd, LOCK_UN);
	return e;
}

struct err *store_open(int root_fd, struct store **out_store)
{
	auto_fd int blobs = -1, sha = -1, tmp = -1;
	struct store *s;

	TRY(make_dir(root_fd, "blobs", &blobs));
	TRY(make_dir(blobs, "sha256", &sha));
	TRY(make_dir(root_fd, "tmp", &tmp));
	TRY(write_layout(root_fd, tmp));
	s = xnew(struct store);
	*s = (struct store){ .root_fd = root_fd, .blobs_fd = TAKE_FD(sha), .tmp_fd = TAKE_FD(tmp) };
	temp_sweep(s->tmp_fd, PART_SECONDS);
	*out_store = s;
	return NULL;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	store_deleted_free(s);
	vec_fini(&s->deleted);
	own_close(&s->blobs_fd);
	own_close(&s->tmp_fd);
	free(s);
}

struct err *store_sync(const struct store *s)
{
	int r = sys_fsync(s->blobs_fd);

	return r < 0 ? FAIL_OS(-r, "store: sync the blob directory") : NULL;
}

int store_root_fd(const struct store *s)
{
	return s->root_fd;
}

void store_lease(struct store *s, struct lease *l)
{
	s->lease = l;
}

bool store_size(const struct store *s, const char *digest, uint64_t *out_size)
{
	struct stat st;

	if (!digest_is_valid(sv_of(digest)) ||
	    sys_fstatat(s->blobs_fd, digest_hex(digest), &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return false;
	if (out_size)
		*out_size = (uint64_t)st.st_size;
	return true;
}

bool store_has(const struct store *s, const char *digest, uint64_t *out_size)
{
	lease_hold(s->lease, digest);
	return store_size(s, digest, out_size);
}

struct err *store_blob_open(const struct store *s, const char *digest, uint64_t want_size, int *out_fd)
{
	auto_fd int fd = -1;
	struct stat st;
	int r;

	TRY(digest_check(sv_of(digest)));
	lease_hold(s->lease, digest);
	fd = sys_openat(s->blobs_fd, digest_hex(digest), O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return FAIL_OS(-fd, "blob %s", digest);
	if ((r = sys_fstat(fd, &st)) < 0)
		return FAIL_OS(-r, "blob %s", digest);
	if (!S_ISREG(st.st_mode))
		return FAIL(ERR_CORRUPT, "blob %s is damaged: it is no file (" STORE_REPAIR ")", digest);
	if (want_size && (uint64_t)st.st_size != want_size)
		return FAIL(ERR_CORRUPT, "blob %s is damaged: %lld bytes, expected %llu (" STORE_REPAIR ")",
			    digest, (long long)st.st_size, (unsigned long long)want_size);
	*out_fd = TAKE_FD(fd);
	return NULL;
}

static struct err *mismatch(const char *want, const char *got)
{
	return FAIL(ERR_CORRUPT, "digest mismatch: wanted %s, got %s", want, got);
}

struct err *store_blob_is(const char *digest, const char *got)
{
	return strcmp(got, digest) == 0
		   ? NULL
		   : FAIL(ERR_CORRUPT, "it is damaged: its content is %s (" STORE_REPAIR ")", got);
}

struct err *store_blob_read(const struct store *s, const char *digest, size_t max_bytes, char **out_body,
			    size_t *out_len)
{
	auto_buf struct buf b = BUF(max_bytes);
	char got[DIGEST_MAX];
	auto_fd int fd = -1;
	struct stat st;
	ssize_t n;

	TRY(store_blob_open(s, digest, 0, &fd));
	if ((n = sys_fstat(fd, &st)) < 0)
		return FAIL_OS((int)-n, "blob %s", digest);
	if ((uint64_t)st.st_size > max_bytes || !buf_room(&b, (size_t)st.st_size))
		return FAIL(ERR_LIMIT, "blob %s: %lld bytes, at most %zu", digest, (long long)st.st_size,
			    max_bytes);
	n = sys_read_full(fd, b.data, (size_t)st.st_size);
	if (n < 0)
		return FAIL_OS((int)-n, "blob %s: read", digest);
	b.n = (size_t)n;
	b.data[n] = '\0';
	digest_of(b.data, b.n, got);
	if (strcmp(got, digest) != 0)
		return err_ctx(store_blob_is(digest, got), "blob %s", digest);
	if (out_len)
		*out_len = b.n;
	*out_body = buf_take(&b);
	return NULL;
}

struct err *store_blob_delete(struct store *s, const char *digest)
{
	int r;

	TRY(digest_check(sv_of(digest)));
	r = sys_unlink(s->blobs_fd, digest_hex(digest));
	return r < 0 && r != -ENOENT ? FAIL_OS(-r, "delete blob %s", digest) : NULL;
}

struct err *store_blob_unname(struct store *s, const char *digest)
{
	auto_fd int fd = -1;

	TRY(digest_check(sv_of(digest)));
	fd = s->deleted.n < DELETED_MAX ? sys_openat(s->blobs_fd, digest_hex(digest), O_RDONLY, 0) : -1;
	TRY(store_blob_delete(s, digest));
	if (fd >= 0)
		*vec_push(&s->deleted) = TAKE_FD(fd);
	return NULL;
}

void store_deleted_free(struct store *s)
{
	for (size_t i = 0; i < s->deleted.n; i++) {
		fs_drop_pages(s->deleted.p[i]);
		own_close(&s->deleted.p[i]);
	}
	s->deleted.n = 0;
}

static void aside_name(const char *digest, char out[80])
{
	(void)snprintf(out, 80, "%s.damaged", digest_hex(digest));
}

struct err *store_blob_set_aside(struct store *s, const char *digest)
{
	char aside[80];
	int r;

	TRY(digest_check(sv_of(digest)));
	aside_name(digest, aside);
	r = sys_rename(s->blobs_fd, digest_hex(digest), aside);
	return r < 0 && r != -ENOENT ? FAIL_OS(-r, "set blob %s aside", digest) : NULL;
}

struct err *store_aside_open(const struct store *s, const char *digest, int *out_fd)
{
	char aside[80];
	int r;

	TRY(digest_check(sv_of(digest)));
	aside_name(digest, aside);
	if ((r = sys_openat(s->blobs_fd, aside, O_RDONLY | O_NONBLOCK, 0)) < 0) /* of a rotten inode a pipe may have become */
		return FAIL_OS(-r, "blob %s", aside);
	*out_fd = r;
	return NULL;
}

struct err *store_blob_put_back(struct store *s, const char *digest, bool keep)
{
	char aside[80];
	int r;

	TRY(digest_check(sv_of(digest)));
	aside_name(digest, aside);
	if (keep && !store_has(s, digest, NULL)) {
		r = sys_rename(s->blobs_fd, aside, digest_hex(digest));
		if (r >= 0)
			store_note_set(s, digest, DAMAGED, "1");
	} else { /* or whatever stood under its name */
		r = fs_remove_tree(s->blobs_fd, aside);
	}
	return r < 0 && r != -ENOENT ? FAIL_OS(-r, "put blob %s back", digest) : NULL;
}

struct err *store_blobs_put_back(struct store *s)
{
	int fd = sys_openat(s->blobs_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct err *e = NULL;

	if (!d)
		return FAIL_OS(fd < 0 ? -fd : errno, "list blobs");
	for (struct dirent *entry; !e && (entry = readdir(d));) {
		char digest[DIGEST_MAX];

		if (strlen(entry->d_name) != 64 + strlen(".damaged") ||
		    strcmp(entry->d_name + 64, ".damaged") != 0)
			continue;
		(void)snprintf(digest, sizeof digest, "sha256:%.64s", entry->d_name);
		e = store_blob_put_back(s, digest, true);
	}
	(void)closedir(d);
	return e;
}

void store_note_set(struct store *s, const char *digest, const char *key, const char *value)
{
	char name[64];

	(void)snprintf(name, sizeof name, "user.hoy.%.40s", key);
	if (digest_is_valid(sv_of(digest)))
		(void)fs_xattr_set(s->blobs_fd, digest_hex(digest), name, value, strlen(value));
}

bool store_note_get(const struct store *s, const char *digest, const char *key, char out[NOTE_MAX])
{
	char name[64];
	ssize_t n;

	(void)snprintf(name, sizeof name, "user.hoy.%.40s", key);
	n = digest_is_valid(sv_of(digest))
		? fs_xattr_get(s->blobs_fd, digest_hex(digest), name, out, NOTE_MAX - 1)
		: -1;
	if (n < 0)
		return false;
	out[n] = '\0';
	return true;
}

static struct err *verify_file(int fd, const char *digest)
{
	auto_digest struct digest_state *d = digest_new();
	auto_free char *chunk = xmalloc(CHUNK_BYTES);
	char got[DIGEST_MAX];
	off_t at = 0;
	ssize_t n;

	while ((n = sys_pread(fd, chunk, CHUNK_BYTES, at)) > 0) {
		digest_add(d, chunk, (size_t)n);
		at += n;
	}
	if (n < 0)
		return FAIL_OS((int)-n, "blob %s: read", digest);
	digest_end(d, got);
	return store_blob_is(digest, got);
}

struct err *store_blob_verify(const struct store *s, const char *digest)
{
	auto_fd int fd = -1;

	TRY(store_blob_open(s, digest, 0, &fd));
	return verify_file(fd, digest);
}

static struct err *copy_file(struct store *s, int fd, const char *digest)
{
	auto_free char *chunk = xmalloc(CHUNK_BYTES);
	auto_ingest struct ingest *in = NULL;
	ssize_t n;

	TRY(ingest_begin(s, &in));
	while ((n = sys_pread(fd, chunk, CHUNK_BYTES, (off_t)in->size)) > 0)
		TRY(ingest_write(in, chunk, (size_t)n));
	return n < 0 ? FAIL_OS((int)-n, "blob %s: copy", digest) : ingest_commit(in, digest, 0, NULL);
}

struct err *store_put_file(struct store *s, int fd, const char *digest)
{
	int r;

	TRY(digest_check(sv_of(digest)));
	lease_hold(s->lease, digest);
	TRY(verify_file(fd, digest));
	if ((r = sys_fchmod(fd, 0444)) < 0 || (r = sys_fdatasync(fd)) < 0)
		return FAIL_OS(-r, "store: sync blob %s", digest);
	r = sys_link_fd(fd, s->blobs_fd, digest_hex(digest));
	return r >= 0 || r == -EEXIST ? NULL : copy_file(s, fd, digest);
}

struct err *store_blob_each(const struct store *s,
			    struct err *(*each)(void *ctx, const char *digest, uint64_t size), void *ctx)
{
	int fd = sys_openat(s->blobs_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct err *e = NULL;

	if (!d)
		return FAIL_OS(fd < 0 ? -fd : errno, "list blobs");
	for (struct dirent *entry; !e && (entry = readdir(d));) {
		char digest[DIGEST_MAX];
		uint64_t size = 0;

		if (strlen(entry->d_name) != 64)
			continue;
		(void)snprintf(digest, sizeof digest, "sha256:%.64s", entry->d_name);
		if (store_size(s, digest, &size))
			e = each(ctx, digest, size);
	}
	(void)closedir(d);
	return e;
}

struct err *ingest_begin(struct store *s, struct ingest **out_ingest)
{
	static atomic_uint serial;
	struct ingest *in = xnew(struct ingest);
	int r;

	in->store = s;
	(void)snprintf(in->name, sizeof in->name, "ingest-%d-%u", (int)getpid(),
		       atomic_fetch_add(&serial, 1));
	in->fd = temp_create(s->tmp_fd, in->name, 0);
	if (in->fd < 0) {
		r = -in->fd;
		free(in);
		return FAIL_OS(r, "store: create a temporary file");
	}
	in->digest = digest_new();
	*out_ingest = in;
	return NULL;
}

/* Opened and locked; -EWOULDBLOCK: somebody is at it. */
static int open_part(const struct store *s, const char *name, struct stat *out_st)
{
	for (int tries = 0; tries < 100; tries++) {
		auto_fd int fd = sys_openat(s->tmp_fd, name, O_RDWR | O_CREAT, 0600);
		struct stat named;
		int r = fd < 0 ? fd : sys_flock(fd, LOCK_EX | LOCK_NB);

		if (r >= 0)
			r = sys_fstat(fd, out_st);
		if (r < 0 && r != -EWOULDBLOCK && fd >= 0 && sys_lseek(fd, 0, SEEK_END) == 0)
			(void)sys_unlink(s->tmp_fd, name); /* just made */
		if (r < 0)
			return r;
		/* SECURITY: one that has become a blob since it was opened has lost this name */
		if (out_st->st_nlink == 1 && sys_fstatat(s->tmp_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
		    named.st_ino == out_st->st_ino)
			return TAKE_FD(fd);
		if (out_st->st_nlink > 1) /* SECURITY: a blob's second name: never written to */
			(void)sys_unlink(s->tmp_fd, name);
	}
	return -EBUSY;
}

/* How many bytes from the start have been written for sure: the last block before a hole may end in zeros of
 * its own. */
static uint64_t whole_bytes(int fd, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size,
		 block = st->st_blksize > 4096 ? (uint64_t)st->st_blksize : 4096;
	off_t hole = sys_lseek(fd, 0, SEEK_HOLE);

	if (hole < 0 || (uint64_t)hole >= size)
		return hole < 0 ? 0 : size;
	return (uint64_t)hole > block ? (uint64_t)hole - block : 0;
}

static void part_name(const char *digest, char out[80])
{
	(void)snprintf(out, 80, "part-%.64s", digest_hex(digest));
}

struct err *ingest_resume(struct store *s, const char *digest, struct ingest **out_ingest)
{
	auto_ingest struct ingest *in = NULL;
	struct stat st = { 0 };
	char name[80];
	int fd;

	TRY(digest_check(sv_of(digest)));
	part_name(digest, name);
	*out_ingest = NULL;
	fd = open_part(s, name, &st);
	if (fd == -EWOULDBLOCK || fd == -EBUSY)
		return NULL;
	if (fd < 0)
		return FAIL_OS(-fd, "store: open a temporary file");
	in = xnew(struct ingest);
	*in = (struct ingest){ .store = s, .fd = fd, .is_part = true, .digest = digest_new() };
	memcpy(in->name, name, sizeof in->name);
	TRY(ingest_claim(in, NULL, whole_bytes(fd, &st)));
	*out_ingest = TAKE(in);
	return NULL;
}

struct err *ingest_put_at(const struct ingest *in, uint64_t at, const void *p, size_t n)
{
	int r = sys_pwrite_all(in->fd, p, n, (off_t)at);

	return r < 0 ? FAIL_OS(-r, "store: write") : NULL;
}

/* What is hashed is written: the disk gets it while others compute. */
static void hashed(struct ingest *in, const void *p, size_t n)
{
	digest_add(in->digest, p, n);
	in->size += n;
	if (in->size - in->behind < BEHIND_BYTES)
		return;
	(void)sys_write_behind(in->fd, (off_t)in->behind, (off_t)(in->size - in->behind));
	in->behind = in->size;
}

struct err *ingest_claim(struct ingest *in, const void *p, uint64_t n)
{
	auto_free char *chunk = p ? NULL : xmalloc(CHUNK_BYTES);

	if (p) {
		hashed(in, p, (size_t)n);
		return NULL;
	}
	while (n) {
		ssize_t got =
		    sys_pread(in->fd, chunk, n < CHUNK_BYTES ? (size_t)n : CHUNK_BYTES, (off_t)in->size);

		if (got <= 0)
			return got < 0 ? FAIL_OS((int)-got, "store: read back")
				       : FAIL(ERR_CORRUPT, "store: a temporary file ends early");
		hashed(in, chunk, (size_t)got);
		n -= (uint64_t)got;
	}
	return NULL;
}

static bool is_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* A hole of a sparse file, which a tar has as zeros, takes no room; but in a part a hole means what has not come. */
struct err *ingest_write(struct ingest *in, const void *p, size_t n)
{
	if (!n) /* the end of what somebody reads; whether it is a hole was said before */
		return NULL;
	in->ends_in_hole = !in->is_part && n >= HOLE_BYTES && is_zero(p, n);
	if (!in->ends_in_hole)
		TRY(ingest_put_at(in, in->size, p, n));
	return ingest_claim(in, p, n);
}

struct err *ingest_restart(struct ingest *in)
{
	int r = sys_ftruncate(in->fd, 0);

	digest_free(in->digest);
	in->digest = digest_new();
	in->size = in->behind = 0;
	return r < 0 ? FAIL_OS(-r, "store: empty a temporary file") : NULL;
}

const char *ingest_file(const struct ingest *in)
{
	return in->name;
}

struct err *store_ingest_open(const struct store *s, const char *file, int *out_fd)
{
	int r;

	if ((strncmp(file, "part-", 5) != 0 && strncmp(file, "ingest-", 7) != 0) || strchr(file, '/'))
		return FAIL(ERR_INVALID, "store: \"%.80s\" is no file that a blob comes into", file);
	r = sys_openat(s->tmp_fd, file, O_RDONLY, 0);
	if (r < 0)
		return FAIL_OS(-r, "store: open %s", file);
	*out_fd = r;
	return NULL;
}

uint64_t ingest_size(const struct ingest *in)
{
	return in->size;
}

struct err *ingest_commit(struct ingest *in, const char *want_digest, uint64_t want_size,
			  char out_digest[DIGEST_MAX])
{
	char digest[DIGEST_MAX], mark[NOTE_MAX];
	bool is_new, is_bad;
	int r;

	if (in->ends_in_hole && (r = sys_ftruncate(in->fd, (off_t)in->size)) < 0)
		return FAIL_OS(-r, "store: write");
	digest_end(in->digest, digest);
	if (want_size && in->size != want_size)
		return FAIL(ERR_CORRUPT, "size mismatch: wanted %llu bytes, got %llu",
			    (unsigned long long)want_size, (unsigned long long)in->size);
	if (want_digest && strcmp(digest, want_digest) != 0)
		return mismatch(want_digest, digest);
	is_new = !store_has(in->store, digest, NULL);
	is_bad = !is_new && store_note_get(in->store, digest, DAMAGED, mark);
	if (is_new || is_bad) {
		if ((r = sys_fchmod(in->fd, 0444)) < 0 || (r = sys_fdatasync(in->fd)) < 0)
			return FAIL_OS(-r, "store: sync blob %s", digest);
		r = is_bad ? sys_renameat(in->store->tmp_fd, in->name, in->store->blobs_fd, digest_hex(digest), 0)
			   : sys_link(in->store->tmp_fd, in->name, in->store->blobs_fd, digest_hex(digest));
		if (r < 0 && r != -EEXIST)
			return FAIL_OS(-r, "store: name blob %s", digest);
	}
	if (out_digest)
		memcpy(out_digest, digest, DIGEST_MAX);
	return NULL;
}

void ingest_free(struct ingest *in)
{
	if (!in)
		return;
	(void)sys_unlink(in->store->tmp_fd, in->name);
	own_close(&in->fd);
	digest_free(in->digest);
	free(in);
}

void ingest_keep(struct ingest *in)
{
	if (in && in->is_part && in->size && sys_ftruncate(in->fd, (off_t)in->size) == 0) {
		own_close(&in->fd);
		digest_free(in->digest);
		free(in);
		return;
	}
	ingest_free(in);
}

uint64_t store_part_size(const struct store *s, const char *digest)
{
	struct stat st;
	char name[80];

	part_name(digest, name);
	return sys_fstatat(s->tmp_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

void store_parts_drop(struct store *s)
{
	temp_sweep(s->tmp_fd, 0);
}

struct err *store_put(struct store *s, const void *p, size_t n, char out_digest[DIGEST_MAX])
{
	auto_ingest struct ingest *in = NULL;

	TRY(ingest_begin(s, &in));
	TRY(ingest_write(in, p, n));
	return ingest_commit(in, NULL, 0, out_digest);
}
