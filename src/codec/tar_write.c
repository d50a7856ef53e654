/* tar_write.c - ustar headers; what does not fit goes into pax records, in a fixed order, and only then. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/tar.h"
#include <stdio.h>
#include <string.h>

enum { BLOCK = 512, PAX_MAX = 1 << 21 };

struct tar_writer {
	struct zip_sink sink;
	uint64_t left; /* content of the current entry still to come */
	unsigned pad;
};

struct err *tar_writer_new(struct zip_sink sink, struct tar_writer **out_writer)
{
	*out_writer = xnew(struct tar_writer);
	(*out_writer)->sink = sink;
	return NULL;
}

void tar_writer_free(struct tar_writer *w)
{
	free(w);
}

static void octal(unsigned char *at, size_t n, uint64_t v)
{
	for (size_t i = n - 1; i-- > 0; v >>= 3)
		at[i] = (unsigned char)('0' + (v & 7));
}

static bool fits(uint64_t v, size_t n)
{
	return v >> (3 * (n - 1)) == 0;
}

static void pax_add(struct buf *pax, const char *key, const void *value, size_t n)
{
	size_t body = strlen(key) + n + 3, len = body + 1;
	char digits[24];

	while (len != body + (size_t)snprintf(digits, sizeof digits, "%zu", len))
		len = body + strlen(digits);
	buf_fmt(pax, "%zu %s=", len, key);
	buf_add(pax, value, n);
	buf_ch(pax, '\n');
}

static void pax_number(struct buf *pax, const char *key, uint64_t v)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%llu", (unsigned long long)v);
	pax_add(pax, key, text, strlen(text));
}

static void pax_mtime(struct buf *pax, int64_t ns)
{
	char text[40];
	int64_t s = ns / 1000000000, frac = ns % 1000000000;
	size_t n;

	if (ns < 0)
		(void)snprintf(text, sizeof text, "-%lld.%09lld", (long long)-s, (long long)-frac);
	else
		(void)snprintf(text, sizeof text, "%lld.%09lld", (long long)s, (long long)frac);
	n = strlen(text);
	while (text[n - 1] == '0')
		n--;
	if (text[n - 1] == '.')
		n--;
	pax_add(pax, "mtime", text, n);
}

/* Cuts a name at a slash into ustar's prefix (155) and name (100). */
static bool split_name(const char *name, size_t n, size_t *out_prefix)
{
	*out_prefix = 0;
	if (n <= 100)
		return true;
	for (size_t i = n > 256 ? n : 155; i > 0; i--) {
		if (i < n && name[i] == '/' && i <= 155 && n - i - 1 <= 100 && n - i - 1 > 0) {
			*out_prefix = i;
			return true;
		}
	}
	return false;
}

static void header(unsigned char h[BLOCK], const struct tar_entry *e, const char *name, size_t n, size_t prefix)
{
	unsigned sum = 0;

	memset(h, 0, BLOCK);
	if (prefix) {
		memcpy(h + 345, name, prefix);
		memcpy(h, name + prefix + 1, n - prefix - 1);
	} else {
		memcpy(h, name, n < 100 ? n : 100);
	}
	octal(h + 100, 8, e->mode & 07777);
	octal(h + 108, 8, fits(e->uid, 8) ? e->uid : 0);
	octal(h + 116, 8, fits(e->gid, 8) ? e->gid : 0);
	octal(h + 124, 12, fits(e->size, 12) ? e->size : 0);
	octal(h + 136, 12, e->mtime_ns > 0 ? (uint64_t)(e->mtime_ns / 1000000000) : 0);
	h[156] = (unsigned char)e->type;
	memcpy(h + 157, e->link, strnlen(e->link, 100));
	memcpy(h + 257, "ustar\00000", 8);
	octal(h + 329, 8, e->dev_major);
	octal(h + 337, 8, e->dev_minor);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += h[i];
	octal(h + 148, 7, sum);
}

static void pax_of(struct buf *pax, const struct tar_entry *e, const char *name, size_t n, bool name_fits)
{
	if (!name_fits)
		pax_add(pax, "path", name, n);
	if (strlen(e->link) > 100)
		pax_add(pax, "linkpath", e->link, strlen(e->link));
	if (!fits(e->size, 12))
		pax_number(pax, "size", e->size);
	if (!fits(e->uid, 8))
		pax_number(pax, "uid", e->uid);
	if (!fits(e->gid, 8))
		pax_number(pax, "gid", e->gid);
	if (e->mtime_ns < 0 || e->mtime_ns % 1000000000 || !fits((uint64_t)e->mtime_ns / 1000000000, 12))
		pax_mtime(pax, e->mtime_ns);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		char key[300];

		(void)snprintf(key, sizeof key, "SCHILY.xattr.%s", e->xattrs[i].name);
		pax_add(pax, key, e->xattrs[i].value, e->xattrs[i].n);
	}
}

static struct err *padding(struct tar_writer *w, uint64_t n)
{
	static const unsigned char zero[BLOCK];

	n = (BLOCK - n % BLOCK) % BLOCK;
	return n ? w->sink.write(w->sink.ctx, zero, (size_t)n) : NULL;
}

struct err *tar_add(struct tar_writer *w, const struct tar_entry *e)
{
	auto_buf struct buf pax = BUF(PAX_MAX), name = BUF(8192);
	unsigned char h[BLOCK];
	size_t prefix = 0;
	bool name_fits;

	if (w->left)
		return FAIL(ERR_INTERNAL, "tar: %llu bytes of content are missing before \"%s\"",
			    (unsigned long long)w->left, e->name);
	buf_str(&name, e->name);
	if (e->type == '5')
		buf_ch(&name, '/');
	TRY(buf_check(&name, "tar: name"));
	name_fits = split_name(buf_text(&name), name.n, &prefix);
	pax_of(&pax, e, buf_text(&name), name.n, name_fits);
	TRY(buf_check(&pax, "tar: metadata"));
	if (pax.n) {
		struct tar_entry x = { .name = "PaxHeaders/x", .link = "", .type = 'x', .mode = 0644, .size = pax.n };

		header(h, &x, x.name, strlen(x.name), 0);
		TRY(w->sink.write(w->sink.ctx, h, BLOCK));
		TRY(w->sink.write(w->sink.ctx, pax.data, pax.n));
		TRY(padding(w, pax.n));
	}
	header(h, e, buf_text(&name), name.n, prefix);
	TRY(w->sink.write(w->sink.ctx, h, BLOCK));
	w->left = e->type == '0' ? e->size : 0;
	w->pad = (unsigned)((BLOCK - w->left % BLOCK) % BLOCK);
	return NULL;
}

struct err *tar_write(struct tar_writer *w, const void *p, size_t n)
{
	if (n > w->left)
		return FAIL(ERR_INTERNAL, "tar: more content than the entry's size");
	TRY(w->sink.write(w->sink.ctx, p, n));
	w->left -= n;
	if (!w->left && w->pad) {
		TRY(padding(w, BLOCK - w->pad));
		w->pad = 0;
	}
	return NULL;
}

struct err *tar_finish(struct tar_writer *w)
{
	static const unsigned char zero[2 * BLOCK];

	if (w->left)
		return FAIL(ERR_INTERNAL, "tar: %llu bytes of content are missing at the end",
			    (unsigned long long)w->left);
	return w->sink.write(w->sink.ctx, zero, sizeof zero);
}
