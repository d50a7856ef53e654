/*
 * tar_read.c - a pull parser: 512-byte headers, GNU 'L'/'K' long names and pax 'x'/'g' records before an entry are folded
 * into the entry they describe. Sparse files (GNU old type 'S', pax 0.0, 0.1 and 1.0) are handed out expanded.
 * Invariant: `left` bytes of content (and padding) of the current entry are still unread in the source.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/vec.h"
#include "codec/tar.h"
#include <stdio.h>
#include <string.h>

/* Later times, and as early ones, are taken for this one, as file systems do with what is beyond them. */
#define SECONDS_MAX (INT64_MAX / 1000000000 - 1)
enum { BLOCK = 512, NAME_MAX_BYTES = 4095, PAX_MAX = 1 << 20, XATTRS_MAX = 1024, SPARSE_MAX = 1 << 16 };

struct hole {
	uint64_t at, n; /* data of n bytes at offset at of the expanded file */
};

struct tar_reader {
	struct zip_source source;
	uint64_t offset; /* bytes consumed */
	uint64_t left;	 /* of the current entry's stored bytes */
	unsigned pad;
	struct tar_entry entry;
	struct buf name, link, pax_path, pax_link;
	VEC(struct tar_xattr) xattrs;
	struct arena arena; /* xattr names and values of the current entry */
	bool may_be_empty; /* no byte at all is an archive, too */
	bool has_size, has_uid, has_gid, has_mtime, is_sparse_1_0;
	uint64_t pax_size, pax_uid, pax_gid, real_size;
	int64_t pax_mtime;
	bool is_sparse;
	VEC(struct hole) map;
	size_t map_at;
	uint64_t out_at; /* position in the expanded file */
};

struct err *tar_reader_new(struct zip_source source, struct tar_reader **out_reader)
{
	struct tar_reader *r = xnew(struct tar_reader);

	r->source = source;
	r->name = r->link = r->pax_path = r->pax_link = BUF(NAME_MAX_BYTES);
	arena_init(&r->arena, 2 * PAX_MAX);
	*out_reader = r;
	return NULL;
}

void tar_may_be_empty(struct tar_reader *r)
{
	r->may_be_empty = true;
}

void tar_reader_free(struct tar_reader *r)
{
	if (!r)
		return;
	buf_fini(&r->name);
	buf_fini(&r->link);
	buf_fini(&r->pax_path);
	buf_fini(&r->pax_link);
	vec_fini(&r->xattrs);
	vec_fini(&r->map);
	arena_fini(&r->arena);
	free(r);
}

/* Exactly n bytes, or (at_start and nothing there) *out_end. */
static struct err *take(struct tar_reader *r, void *p, size_t n, bool *out_end)
{
	size_t got = 0;

	while (got < n) {
		size_t step = 0;

		TRY(r->source.read(r->source.ctx, (char *)p + got, n - got, &step));
		if (!step) {
			if (!got && out_end) {
				*out_end = true;
				return NULL;
			}
			return FAIL(ERR_CORRUPT, "tar archive is truncated at byte %llu",
				    (unsigned long long)(r->offset + got));
		}
		got += step;
	}
	r->offset += n;
	return NULL;
}

static struct err *skip(struct tar_reader *r, uint64_t n)
{
	uint64_t got = 0;

	if (n)
		TRY(zip_skip(&r->source, n, &got));
	r->offset += got;
	return got == n ? NULL :
			  FAIL(ERR_CORRUPT, "tar archive is truncated at byte %llu", (unsigned long long)r->offset);
}

static struct err *bad(const struct tar_reader *r, const char *what)
{
	return FAIL(ERR_CORRUPT, "tar archive: %s at byte %llu", what, (unsigned long long)(r->offset - BLOCK));
}

/* Octal with spaces and NULs around, or base-256 (GNU). */
static struct err *number(const struct tar_reader *r, const unsigned char *p, size_t n, uint64_t max, uint64_t *out_value)
{
	uint64_t v = 0;
	size_t i = 0;

	if (p[0] == 0x80) {
		for (i = 1; i < n; i++) {
			if (v >> 56)
				return bad(r, "number too large");
			v = v << 8 | p[i];
		}
	} else if (p[0] == 0xff) {
		v = 0; /* negative: only times can be, see below */
	} else {
		while (i < n && p[i] == ' ')
			i++;
		for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
			if (v >> 61)
				return bad(r, "number too large");
			v = v << 3 | (p[i] - '0');
		}
		for (; i < n; i++)
			if (p[i] != ' ' && p[i] != '\0')
				return bad(r, "bad number");
	}
	if (v > max)
		return bad(r, "number out of range");
	*out_value = v;
	return NULL;
}

static bool is_zero(const unsigned char *h)
{
	for (size_t i = 0; i < BLOCK; i++)
		if (h[i])
			return false;
	return true;
}

/* Eight bytes at a time. out_high: how many are above 127. */
static unsigned sum_of(const unsigned char *h, unsigned *out_high)
{
	uint64_t pairs = 0, highs = 0, v; /* four sums, and eight, side by side: none of them can flow over */
	unsigned sum = 0;

	for (size_t i = 0; i < BLOCK; i += sizeof v) {
		memcpy(&v, h + i, sizeof v);
		pairs += (v & 0x00ff00ff00ff00ff) + (v >> 8 & 0x00ff00ff00ff00ff);
		highs += v >> 7 & 0x0101010101010101;
	}
	*out_high = 0;
	for (unsigned i = 0; i < 64; i += 8) {
		sum += i % 16 ? 0 : (unsigned)(pairs >> i & 0xffff);
		*out_high += (unsigned)(highs >> i & 0xff);
	}
	return sum;
}

static struct err *check_sum(const struct tar_reader *r, const unsigned char *h)
{
	uint64_t want = 0;
	unsigned high, sum = sum_of(h, &high) + 8 * ' '; /* high: bytes that some writers took for negative */
	struct err *e = number(r, h + 148, 8, 1 << 20, &want);

	if (e) {
		err_free(e);
		return bad(r, "header checksum is no number (not a tar archive?)");
	}
	for (size_t i = 148; i < 156; i++) { /* the sum itself counts as spaces */
		sum -= h[i];
		high -= h[i] >> 7;
	}
	if (want != sum && want + 256 * high != sum)
		return bad(r, "header checksum is wrong (not a tar archive?)");
	return NULL;
}

static struct err *pax_number(const struct tar_reader *r, struct sv v, uint64_t *out_value)
{
	struct err *e = num_parse(v, 10, 0, INT64_MAX, out_value);

	if (e) {
		err_free(e);
		return bad(r, "bad number in a pax record");
	}
	return NULL;
}

static struct err *pax_time(const struct tar_reader *r, struct sv v, int64_t *out_ns)
{
	struct sv whole = sv_cut(&v, '.');
	bool neg = whole.n && whole.p[0] == '-';
	uint64_t s = 0;
	int64_t ns = 0, unit = 100000000;

	TRY(pax_number(r, neg ? sv_skip(whole, 1) : whole, &s));
	if (s > SECONDS_MAX)
		s = SECONDS_MAX;
	for (size_t i = 0; i < v.n && unit; i++, unit /= 10) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return bad(r, "bad time in a pax record");
		ns += (v.p[i] - '0') * unit;
	}
	ns += (int64_t)s * 1000000000;
	*out_ns = neg ? -ns : ns;
	return NULL;
}

static struct err *pax_sparse_map(struct tar_reader *r, struct sv v)
{
	while (v.n) {
		struct sv at = sv_cut(&v, ','), n = sv_cut(&v, ',');
		struct hole *h;

		if (r->map.n >= SPARSE_MAX)
			return FAIL(ERR_LIMIT, "tar archive: sparse file with more than %d parts", SPARSE_MAX);
		h = vec_push(&r->map);
		TRY(pax_number(r, at, &h->at));
		TRY(pax_number(r, n, &h->n));
	}
	r->is_sparse = true;
	return NULL;
}

/* Of format 0.0, which has a record for each number: first where a part is, then how long. */
static struct err *pax_sparse_part(struct tar_reader *r, bool is_offset, struct sv v)
{
	if (!is_offset)
		return r->map.n ? pax_number(r, v, &r->map.p[r->map.n - 1].n) : bad(r, "damaged sparse map");
	if (r->map.n >= SPARSE_MAX)
		return FAIL(ERR_LIMIT, "tar archive: sparse file with more than %d parts", SPARSE_MAX);
	r->is_sparse = true;
	return pax_number(r, v, &vec_push(&r->map)->at);
}

static struct err *pax_record(struct tar_reader *r, struct sv key, struct sv value)
{
	static const char xattr[] = "SCHILY.xattr.";

	if (sv_is(key, "path") || sv_is(key, "GNU.sparse.name")) {
		buf_reset(&r->pax_path);
		buf_sv(&r->pax_path, value);
	} else if (sv_is(key, "linkpath")) {
		buf_reset(&r->pax_link);
		buf_sv(&r->pax_link, value);
	} else if (sv_is(key, "size")) {
		r->has_size = true;
		return pax_number(r, value, &r->pax_size);
	} else if (sv_is(key, "uid")) {
		r->has_uid = true;
		return pax_number(r, value, &r->pax_uid);
	} else if (sv_is(key, "gid")) {
		r->has_gid = true;
		return pax_number(r, value, &r->pax_gid);
	} else if (sv_is(key, "mtime")) {
		r->has_mtime = true;
		return pax_time(r, value, &r->pax_mtime);
	} else if (sv_is(key, "GNU.sparse.realsize") || sv_is(key, "GNU.sparse.size")) {
		r->is_sparse = true;
		return pax_number(r, value, &r->real_size);
	} else if (sv_is(key, "GNU.sparse.major")) {
		r->is_sparse_1_0 = sv_is(value, "1");
	} else if (sv_is(key, "GNU.sparse.map")) {
		return pax_sparse_map(r, value);
	} else if (sv_is(key, "GNU.sparse.offset") || sv_is(key, "GNU.sparse.numbytes")) {
		return pax_sparse_part(r, sv_is(key, "GNU.sparse.offset"), value);
	} else if (sv_starts(key, sv_of(xattr))) {
		struct sv name = sv_skip(key, sizeof xattr - 1);
		struct tar_xattr *x;

		if (r->xattrs.n >= XATTRS_MAX)
			return FAIL(ERR_LIMIT, "tar archive: more than %d xattrs on a file", XATTRS_MAX);
		x = vec_push(&r->xattrs);
		x->name = arena_strndup(&r->arena, name.p, name.n);
		x->value = arena_strndup(&r->arena, value.p, value.n);
		x->n = value.n;
		if (!x->name || !x->value)
			return FAIL(ERR_LIMIT, "tar archive: xattrs of more than %d bytes", PAX_MAX);
	}
	return NULL;
}

/* "LEN KEY=VALUE\n" … (POSIX pax, "pax Header Block"). */
static struct err *pax_records(struct tar_reader *r, struct sv all)
{
	while (all.n) {
		struct sv rest = all, digits = sv_cut(&rest, ' '), key;
		uint64_t len = 0;

		TRY(pax_number(r, digits, &len));
		if (len > all.n || len < digits.n + 4 || all.p[len - 1] != '\n')
			return bad(r, "damaged pax record");
		rest = sv_from(rest.p, (size_t)len - digits.n - 2);
		key = sv_cut(&rest, '=');
		TRY(pax_record(r, key, rest));
		all = sv_skip(all, (size_t)len);
	}
	return NULL;
}

/* The content of a meta entry (pax records, long name) as text, padding consumed. */
static struct err *meta(struct tar_reader *r, uint64_t size, size_t max, struct buf *out)
{
	*out = BUF(max);
	if (size > max || !buf_room(out, (size_t)size))
		return FAIL(ERR_LIMIT, "tar archive: %llu bytes of metadata for one file, at most %zu",
			    (unsigned long long)size, max);
	TRY(take(r, out->data, (size_t)size, NULL));
	out->n = (size_t)size;
	out->data[size] = '\0';
	return skip(r, (BLOCK - size % BLOCK) % BLOCK);
}

static struct err *long_text(struct tar_reader *r, uint64_t size, struct buf *into)
{
	auto_buf struct buf b = { 0 };

	TRY(meta(r, size, NAME_MAX_BYTES + 1, &b));
	buf_reset(into);
	buf_str(into, buf_text(&b));
	return NULL;
}

static void field(struct buf *b, const unsigned char *p, size_t n)
{
	buf_add(b, p, strnlen((const char *)p, n));
}

static void clean_name(struct buf *b)
{
	struct sv s = sv_from(buf_text(b), b->n);

	while (s.n && (s.p[0] == '/' || (s.n >= 2 && s.p[0] == '.' && s.p[1] == '/')))
		s = sv_skip(s, s.p[0] == '/' ? 1 : 2);
	while (s.n && s.p[s.n - 1] == '/')
		s.n--;
	if (sv_is(s, "."))
		s.n = 0;
	if (b->data) {
		memmove(b->data, s.p, s.n);
		b->n = s.n;
		b->data[s.n] = '\0';
	}
}

static struct err *old_sparse(struct tar_reader *r, const unsigned char *h)
{
	unsigned char more[BLOCK];
	const unsigned char *at = h + 386;
	size_t slots = 4;
	bool extended = h[482];

	TRY(number(r, h + 483, 12, INT64_MAX, &r->real_size));
	r->is_sparse = true;
	for (;;) {
		for (size_t i = 0; i < slots; i++, at += 24) {
			struct hole *hole;

			if (!at[0] && !at[12])
				continue;
			if (r->map.n >= SPARSE_MAX)
				return FAIL(ERR_LIMIT, "tar archive: sparse file with more than %d parts", SPARSE_MAX);
			hole = vec_push(&r->map);
			TRY(number(r, at, 12, INT64_MAX, &hole->at));
			TRY(number(r, at + 12, 12, INT64_MAX, &hole->n));
		}
		if (!extended)
			return NULL;
		TRY(take(r, more, BLOCK, NULL));
		at = more;
		slots = 21;
		extended = more[504];
	}
}

/* pax sparse 1.0: the map stands in front of the data as decimal lines, padded to a block. */
static struct err *map_in_front(struct tar_reader *r)
{
	uint64_t value = 0, count = 0, seen = 0, start = r->left;
	bool digits = false;

	while (seen < 1 + 2 * count || seen == 0) {
		char c;

		if (!r->left)
			return bad(r, "damaged sparse map");
		TRY(take(r, &c, 1, NULL));
		r->left--;
		if (c >= '0' && c <= '9' && value < INT64_MAX / 10 - 10) {
			value = value * 10 + (uint64_t)(c - '0');
			digits = true;
			continue;
		}
		if (c != '\n' || !digits)
			return bad(r, "damaged sparse map");
		if (seen == 0)
			count = value;
		else if (seen % 2)
			vec_push(&r->map)->at = value;
		else
			r->map.p[r->map.n - 1].n = value;
		if (count > SPARSE_MAX)
			return FAIL(ERR_LIMIT, "tar archive: sparse file with more than %d parts", SPARSE_MAX);
		seen++;
		value = 0;
		digits = false;
	}
	value = (BLOCK - (start - r->left) % BLOCK) % BLOCK;
	if (value > r->left)
		return bad(r, "damaged sparse map");
	r->left -= value;
	return skip(r, value);
}

static struct err *check_map(const struct tar_reader *r)
{
	uint64_t end = 0, stored = 0;

	for (size_t i = 0; i < r->map.n; i++) {
		const struct hole *h = &r->map.p[i];

		if (h->at < end || h->at > r->real_size || h->n > r->real_size - h->at)
			return bad(r, "damaged sparse map");
		end = h->at + h->n;
		stored += h->n;
	}
	if (stored != r->left)
		return bad(r, "damaged sparse map");
	return NULL;
}

static void forget_entry(struct tar_reader *r)
{
	buf_reset(&r->name);
	buf_reset(&r->link);
	buf_reset(&r->pax_path);
	buf_reset(&r->pax_link);
	arena_fini(&r->arena);
	r->xattrs.n = 0;
	r->map.n = r->map_at = 0;
	r->has_size = r->has_uid = r->has_gid = r->has_mtime = r->is_sparse = r->is_sparse_1_0 = false;
	r->real_size = r->out_at = 0;
}

static char entry_type(unsigned char flag, const struct buf *name)
{
	if (flag == '\0' || flag == '7' || flag == 'S' || flag == '0')
		return name->n && name->data[name->n - 1] == '/' ? '5' : '0';
	return (char)flag;
}

static void header_names(struct tar_reader *r, const unsigned char *h)
{
	if (r->pax_path.n) {
		buf_sv(&r->name, sv_from(r->pax_path.data, r->pax_path.n));
	} else {
		if (memcmp(h + 257, "ustar\0", 6) == 0 && h[345]) {
			field(&r->name, h + 345, 155);
			buf_ch(&r->name, '/');
		}
		field(&r->name, h, 100);
	}
	if (r->pax_link.n)
		buf_sv(&r->link, sv_from(r->pax_link.data, r->pax_link.n));
	else
		field(&r->link, h + 157, 100);
}

/* Before 1970, in base-256: two's complement. */
static bool negative_time(const unsigned char *p, int64_t *out_ns)
{
	uint64_t v = 0;

	for (size_t i = 4; i < 12; i++)
		v = v << 8 | p[i];
	if (p[0] != 0xff || (int64_t)v >= 0)
		return false;
	*out_ns = ((int64_t)v < -SECONDS_MAX ? -SECONDS_MAX : (int64_t)v) * 1000000000;
	return true;
}

static struct err *header_numbers(struct tar_reader *r, const unsigned char *h)
{
	struct tar_entry *e = &r->entry;
	uint64_t mode = 0, uid = 0, gid = 0, mtime = 0, major = 0, minor = 0;

	TRY(number(r, h + 100, 8, UINT32_MAX, &mode));
	TRY(number(r, h + 108, 8, UINT32_MAX, &uid));
	TRY(number(r, h + 116, 8, UINT32_MAX, &gid));
	TRY(number(r, h + 136, 12, UINT64_MAX, &mtime));
	if (e->type == '3' || e->type == '4') {
		TRY(number(r, h + 329, 8, UINT32_MAX, &major));
		TRY(number(r, h + 337, 8, UINT32_MAX, &minor));
	}
	if ((r->has_uid && r->pax_uid > UINT32_MAX) || (r->has_gid && r->pax_gid > UINT32_MAX))
		return bad(r, "owner out of range");
	e->mode = (mode_t)(mode & 07777);
	e->uid = (uid_t)(r->has_uid ? r->pax_uid : uid);
	e->gid = (gid_t)(r->has_gid ? r->pax_gid : gid);
	if (!negative_time(h + 136, &e->mtime_ns))
		e->mtime_ns = (mtime > SECONDS_MAX ? SECONDS_MAX : (int64_t)mtime) * 1000000000;
	if (r->has_mtime)
		e->mtime_ns = r->pax_mtime;
	e->dev_major = (unsigned)major;
	e->dev_minor = (unsigned)minor;
	return NULL;
}

static struct err *entry_of(struct tar_reader *r, const unsigned char *h, uint64_t size)
{
	struct tar_entry *e = &r->entry;
	bool has_content;

	*e = (struct tar_entry){ 0 };
	header_names(r, h);
	TRY(buf_check(&r->name, "tar archive: name"));
	TRY(buf_check(&r->link, "tar archive: link target"));
	if (memchr(buf_text(&r->name), '\0', r->name.n) || memchr(buf_text(&r->link), '\0', r->link.n))
		return bad(r, "name with a NUL byte");
	e->type = entry_type(h[156], &r->name);
	clean_name(&r->name);
	if (e->type == '1')
		clean_name(&r->link);
	if (!strchr("0123456", e->type))
		return bad(r, "entry of unknown type");
	TRY(header_numbers(r, h));
	has_content = e->type == '0';
	r->left = r->has_size ? r->pax_size : size;
	if (!has_content && e->type != '1') {
		if (r->left && e->type != '5')
			return bad(r, "content where there can be none");
	}
	if (e->type == '1' && !r->has_size)
		r->left = 0; /* some writers repeat the size of the target; no content follows (POSIX) */
	if (e->type == '5')
		r->left = 0;
	r->pad = (unsigned)((BLOCK - r->left % BLOCK) % BLOCK);
	if (h[156] == 'S')
		TRY(old_sparse(r, h));
	if (r->is_sparse_1_0)
		TRY(map_in_front(r));
	if (r->is_sparse)
		TRY(check_map(r));
	e->size = !has_content ? 0 : r->is_sparse ? r->real_size : r->left;
	e->is_sparse = has_content && r->is_sparse;
	e->data_at = r->offset;
	e->name = buf_text(&r->name);
	e->link = buf_text(&r->link);
	e->xattrs = r->xattrs.p;
	e->n_xattrs = r->xattrs.n;
	return NULL;
}

struct err *tar_next(struct tar_reader *r, const struct tar_entry **out_entry)
{
	unsigned char h[BLOCK];

	TRY(skip(r, r->left + r->pad));
	r->left = r->pad = 0;
	forget_entry(r);
	*out_entry = NULL;
	for (;;) {
		auto_buf struct buf text = { 0 };
		bool end = false;
		uint64_t size = 0;

		TRY(take(r, h, BLOCK, &end));
		if (end && !r->offset && !r->may_be_empty)
			return FAIL(ERR_CORRUPT, "tar archive is empty");
		if (end || is_zero(h))
			return NULL;
		TRY(check_sum(r, h));
		TRY(number(r, h + 124, 12, INT64_MAX - BLOCK, &size));
		switch (h[156]) {
		case 'x':
			TRY(meta(r, size, PAX_MAX, &text));
			TRY(pax_records(r, sv_from(buf_text(&text), text.n)));
			break;
		case 'g':
			TRY(meta(r, size, PAX_MAX, &text));
			break;
		case 'L':
			TRY(long_text(r, size, &r->pax_path));
			break;
		case 'K':
			TRY(long_text(r, size, &r->pax_link));
			break;
		case 'V': /* the label of the archive itself (GNU) */
			TRY(skip(r, size + (BLOCK - size % BLOCK) % BLOCK));
			break;
		default:
			TRY(entry_of(r, h, size));
			*out_entry = &r->entry;
			return NULL;
		}
	}
}

static struct err *read_stored(struct tar_reader *r, void *p, size_t n, size_t *out_n)
{
	if (n > r->left)
		n = (size_t)r->left;
	if (n)
		TRY(take(r, p, n, NULL));
	r->left -= n;
	*out_n = n;
	return NULL;
}

/* The part of the map that ends behind the place of the next byte; NULL: none. */
static const struct hole *part_here(struct tar_reader *r)
{
	while (r->map_at < r->map.n && r->out_at >= r->map.p[r->map_at].at + r->map.p[r->map_at].n)
		r->map_at++;
	return r->map_at < r->map.n ? &r->map.p[r->map_at] : NULL;
}

uint64_t tar_pass_hole(struct tar_reader *r)
{
	const struct hole *h = r->is_sparse ? part_here(r) : NULL;
	uint64_t until = !r->is_sparse ? r->out_at : !h ? r->real_size : h->at < r->out_at ? r->out_at : h->at;
	uint64_t n = until - r->out_at;

	r->out_at = until;
	return n;
}

static struct err *read_sparse(struct tar_reader *r, void *p, size_t n, size_t *out_n)
{
	const struct hole *h = part_here(r);
	uint64_t until;

	if (h && r->out_at >= h->at) {
		until = h->at + h->n - r->out_at;
		TRY(read_stored(r, p, n < until ? n : (size_t)until, out_n));
	} else {
		until = (h ? h->at : r->real_size) - r->out_at;
		*out_n = n < until ? n : (size_t)until;
		memset(p, 0, *out_n);
	}
	r->out_at += *out_n;
	return NULL;
}

struct err *tar_read(struct tar_reader *r, void *p, size_t n, size_t *out_n)
{
	if (r->is_sparse)
		return read_sparse(r, p, n, out_n);
	return read_stored(r, p, n, out_n);
}
