/*
 * erofs_read.h - a reader of our EROFS images for tests, written from the format alone: an image and its tar
 * as one text, a line per name. It trusts nothing: what does not hold together ends in `bad`.
 */
#pragma once
#include "base/buf.h"
#include "base/mem.h"
#include <endian.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct eimage {
	const unsigned char *p, *tar; /* tar NULL: content is not looked at */
	size_t n, n_tar;
	uint64_t meta, device, device_blocks;
	const char *bad; /* NULL: well */
	size_t names;
};
struct enode {
	const unsigned char *p, *xattrs, *body; /* body: behind the attributes */
	unsigned layout, n_xattrs;
	mode_t mode;
	uint64_t size;
};

static inline uint64_t el(const unsigned char *p, int n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

static inline bool ebad(struct eimage *m, const char *why)
{
	if (!m->bad)
		m->bad = why;
	return false;
}

static inline bool eopen(struct eimage *m, const void *p, size_t n, const void *tar, size_t n_tar)
{
	const unsigned char *sb = (const unsigned char *)p + 1024;

	*m = (struct eimage){ .p = p, .n = n, .tar = tar, .n_tar = n_tar };
	if (n < 4096 || el(sb, 4) != 0xE0F5E1E2u || sb[12] != 9 || el(sb + 86, 2) != 1 || el(sb + 88, 2) != 9)
		return ebad(m, "superblock");
	m->meta = el(sb + 40, 4) * 512;
	m->device_blocks = el(sb + 128 + 64, 4);
	m->device = el(sb + 128 + 68, 4);
	if (el(sb + 36, 4) * 512 != n || m->device * 512 < n)
		return ebad(m, "sizes in the superblock");
	return true;
}

static inline bool enode_at(struct eimage *m, uint64_t nid, struct enode *out)
{
	uint64_t at = m->meta + nid * 32, head;
	const unsigned char *p = m->p + at;

	if (nid == 0 || at + 64 > m->n)
		return ebad(m, "inode outside");
	*out = (struct enode){
		.p = p, .layout = (unsigned)el(p, 2) >> 1, .mode = (mode_t)el(p + 4, 2), .size = el(p + 8, 8)
	};
	out->n_xattrs = (unsigned)el(p + 2, 2) ? (unsigned)el(p + 2, 2) * 4 + 8 : 0;
	head = at + 64 + out->n_xattrs;
	out->xattrs = p + 64;
	out->body = m->p + head;
	if (!(p[0] & 1) || head > m->n)
		return ebad(m, "inode");
	return true;
}

/* Byte `at` of a node; n is set to how many stand together. NULL: a hole, or bad. */
static inline const unsigned char *edata(struct eimage *m, const struct enode *i, uint64_t at, size_t *n)
{
	uint64_t byte, left = i->size - at, tail = i->size % 512;

	if (i->layout == 4) {
		unsigned bits = (unsigned)(el(i->p + 16, 2) & 31) + 9;
		uint64_t table = (uint64_t)(i->body - m->p + 7) / 8 * 8 + (at >> bits) * 8,
			 in = at & ((UINT64_C(1) << bits) - 1);

		if (table + 8 > m->n || el(m->p + table, 4)) {
			ebad(m, "chunk table");
			return NULL;
		}
		*n = (UINT64_C(1) << bits) - in < left ? (size_t)((UINT64_C(1) << bits) - in) : (size_t)left;
		if (el(m->p + table + 4, 4) == UINT32_MAX)
			return NULL;
		byte = el(m->p + table + 4, 4) * 512 + in;
		if (byte > m->n || *n > m->n - byte)
			*n = byte < m->n ? (size_t)(m->n - byte) : (ebad(m, "chunk outside"), (size_t)1);
		return m->bad ? NULL : m->p + byte;
	}
	if (i->layout == 2 && tail && at >= i->size - tail) {
		uint64_t off = (uint64_t)(i->body - m->p);

		*n = (size_t)left;
		if (off + tail > m->n || off % 512 + tail > 512)
			ebad(m, "inline tail crosses a block");
		return m->bad ? NULL : i->body + (at - (i->size - tail));
	}
	byte = el(i->p + 16, 4) * 512 + at;
	*n = (size_t)(i->layout == 2 ? left - tail : left);
	if (i->layout != 0 && i->layout != 2)
		ebad(m, "layout");
	else if (byte >= m->device * 512) {
		byte -= m->device * 512;
		if (byte + left > m->device_blocks * 512 || (m->tar && byte + left > m->n_tar))
			ebad(m, "content outside of the tar");
		return m->bad || !m->tar ? NULL : m->tar + byte;
	} else if (byte + *n > m->n)
		ebad(m, "data outside");
	return m->bad ? NULL : m->p + byte;
}

/* Sums of content, the same as who reads a file gets with csum. */
static inline uint64_t csum(uint64_t sum, const unsigned char *p, size_t n)
{
	for (size_t k = 0; k < n; k++)
		sum = (sum ^ p[k]) * UINT64_C(0x100000001b3);
	return sum;
}

static inline uint64_t efile_sum(struct eimage *m, const struct enode *i)
{
	static const unsigned char zeros[4096];
	uint64_t sum = 1;
	size_t n = 0;

	for (uint64_t at = 0; at < i->size && !m->bad; at += n) {
		const unsigned char *p = edata(m, i, at, &n);

		if (!p && i->layout == 4)
			n = n < sizeof zeros ? n : sizeof zeros;
		if (p || i->layout == 4)
			sum = csum(sum, p ? p : zeros, n);
	}
	return sum;
}

static inline int ecompare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Lines of attributes, sorted: as escape-free text, so for tests with such values. */
static inline void exattrs(struct eimage *m, const struct enode *i, struct buf *out)
{
	static const char *const prefix[] = {
		"", "user.",    "system.posix_acl_access", "system.posix_acl_default", "trusted.",
		"", "security."
	};
	const unsigned char *p = i->xattrs + 12, *end = i->xattrs + i->n_xattrs;
	char *lines[256];
	size_t n = 0;

	while (p < end && n < LEN(lines) && !m->bad) {
		struct buf b = BUF(1 << 20);
		size_t len = p[0], value = (size_t)el(p + 2, 2);

		if (end - p < 4 || p[1] > 6 || (size_t)(end - p) < 4 + len + value) {
			ebad(m, "attributes");
			break;
		}
		buf_fmt(&b, " %s%.*s=", prefix[p[1]], (int)len, (const char *)p + 4);
		for (size_t k = 0; k < value; k++)
			buf_fmt(&b, "%02x", p[4 + len + k]);
		lines[n++] = buf_take(&b);
		p += (4 + len + value + 3) / 4 * 4;
	}
	qsort(lines, n, sizeof *lines, ecompare);
	for (size_t k = 0; k < n; k++) {
		buf_str(out, lines[k]);
		free(lines[k]);
	}
}

static inline void eline(struct eimage *m, const struct enode *i, uint64_t nid, const char *path,
			 struct buf *out)
{
	char link[4096] = "";
	size_t n = 0;

	if (S_ISLNK(i->mode)) {
		for (uint64_t at = 0; at < i->size && i->size < sizeof link && !m->bad; at += n) {
			const unsigned char *p = edata(m, i, at, &n);

			if (p)
				memcpy(link + at, p, n);
		}
	}
	(void)nid;
	buf_fmt(out, "%s %o %u:%u %lld.%09u %u", path, i->mode, (unsigned)el(i->p + 24, 4),
		(unsigned)el(i->p + 28, 4), (long long)el(i->p + 32, 8), (unsigned)el(i->p + 40, 4),
		(unsigned)el(i->p + 44, 4));
	if (S_ISREG(i->mode))
		buf_fmt(out, " %llu %llx", (unsigned long long)i->size, (unsigned long long)efile_sum(m, i));
	else if (S_ISLNK(i->mode))
		buf_fmt(out, " -> %s", link);
	else if (S_ISCHR(i->mode) || S_ISBLK(i->mode))
		buf_fmt(out, " dev %x", (unsigned)el(i->p + 16, 4));
	exattrs(m, i, out);
	buf_ch(out, '\n');
}

static inline void edir(struct eimage *m, uint64_t nid, uint64_t up, const char *path, int depth,
			struct buf *out);

static inline void eentry(struct eimage *m, uint64_t nid, uint64_t dir, const char *path, int type, int depth,
			  struct buf *out)
{
	static const mode_t modes[] = { 0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, 0, S_IFLNK };
	struct enode i;

	if (!enode_at(m, nid, &i))
		return;
	m->names++;
	if (type > 7 || modes[type] != (i.mode & S_IFMT))
		ebad(m, "type of an entry");
	if (!m->bad)
		eline(m, &i, nid, path, out);
	if (S_ISDIR(i.mode) && !m->bad)
		edir(m, nid, dir, path, depth + 1, out);
}

static inline void edir(struct eimage *m, uint64_t nid, uint64_t up, const char *path, int depth,
			struct buf *out)
{
	struct enode i;
	char last[256] = "";
	int dots = 0;

	if (depth > 5000 || !enode_at(m, nid, &i))
		return (void)ebad(m, "depth");
	for (uint64_t at = 0; at < i.size && !m->bad; at += 512) {
		size_t n = 0, size = i.size - at < 512 ? (size_t)(i.size - at) : 512;
		const unsigned char *p = edata(m, &i, at, &n);
		size_t count = p ? (size_t)el(p + 8, 2) / 12 : 0;

		if (m->bad || count == 0 || count * 12 > size)
			return (void)ebad(m, "directory block");
		for (size_t k = 0; k < count && !m->bad; k++) {
			size_t from = (size_t)el(p + k * 12 + 8, 2),
			       to = k + 1 < count ? (size_t)el(p + k * 12 + 20, 2) : size;
			uint64_t child = el(p + k * 12, 8);
			char name[256], *whole;

			if (from < count * 12 || to > size || from >= to || to - from > 512)
				return (void)ebad(m, "names of a directory");
			to = from + strnlen((const char *)p + from, to - from);
			if (to - from > 255)
				return (void)ebad(m, "long name");
			memcpy(name, p + from, to - from);
			name[to - from] = 0;
			if (strcmp(last, name) >= 0)
				return (void)ebad(m, "order of names");
			memcpy(last, name, sizeof last);
			if (!strcmp(name, ".") || !strcmp(name, "..")) {
				dots++;
				if (child != (name[1] ? up : nid))
					ebad(m, "dots");
				continue;
			}
			whole = xasprintf("%s/%s", path, name);
			eentry(m, child, nid, whole, p[k * 12 + 10], depth, out);
			free(whole);
		}
	}
	if (dots != 2)
		ebad(m, "no dots");
}

/* The whole tree, names in byte order per directory. m->bad tells what is wrong. */
static inline void etree_text_of(struct eimage *m, struct buf *out)
{
	uint64_t root = el(m->p + 1024 + 14, 2);

	eentry(m, root, root, "", 2, 0, out);
}
