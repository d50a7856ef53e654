#include "cli/out.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "base/vec.h"
#include "codec/tmpl.h"
#include "sys/entropy.h"
#include "sys/sys.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OUT_MAX = 64 << 20, CELL_MIN = 10, CELL_GAP = 3 };

FALLIBLE out_text(const char *text, size_t n)
{
	int r = fflush(stdout) == 0 ? sys_write_all(STDOUT_FILENO, text, n) : -errno;

	return r < 0 ? FAIL_OS(-r, "write standard output") : NULL;
}

char *out_ago(int64_t seconds)
{
	char age[TIME_TEXT_MAX];

	return xasprintf("%s ago", time_human(time_now_ns() - seconds * 1000000000, age));
}

char *out_moment(int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	char text[64];

	(void)localtime_r(&t, &tm);
	return xstrndup(text, strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z %Z", &tm));
}

char *out_cut(const char *text, size_t n)
{
	return strlen(text) <= n ? xstrdup(text) : xasprintf("%.*s…", (int)n - 1, text);
}

/* Columns of a terminal: continuation bytes of UTF-8 take none. */
static size_t width_of(struct sv s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static void measure(struct sv text, size_t *widths, size_t max)
{
	while (text.n) {
		struct sv line = sv_cut(&text, '\n');

		for (size_t c = 0; c < max && line.n; c++) {
			struct sv cell = sv_cut(&line, '\t');
			size_t w = width_of(cell) + CELL_GAP;

			if (w > widths[c])
				widths[c] = w;
		}
	}
}

/* Tab-separated lines as aligned columns; the last has no padding. */
static void align(struct sv text, struct buf *out)
{
	size_t widths[32];

	for (size_t i = 0; i < LEN(widths); i++)
		widths[i] = CELL_MIN;
	measure(text, widths, LEN(widths));
	while (text.n) {
		struct sv line = sv_cut(&text, '\n');

		for (size_t c = 0; line.n && c < LEN(widths); c++) {
			bool is_last = !memchr(line.p, '\t', line.n);
			struct sv cell = sv_cut(&line, '\t');

			buf_sv(out, cell);
			for (size_t w = width_of(cell); !is_last && w < widths[c]; w++)
				buf_ch(out, ' ');
		}
		buf_ch(out, '\n');
	}
}

/* "CreatedAt" -> "CREATED AT" */
static void add_heading(json_t *h, struct sv field)
{
	char text[64];
	size_t n = 0;

	for (size_t i = 0; i < field.n && n + 2 < sizeof text; i++) {
		if (i && isupper((unsigned char)field.p[i]) && islower((unsigned char)field.p[i - 1]))
			text[n++] = ' ';
		text[n++] = (char)toupper((unsigned char)field.p[i]);
	}
	(void)json_object_setn_new(h, field.p, field.n, json_stringn(text, n));
}

/* A heading for every field that the template names, so that the header row needs no row of data. */
static json_t *headings(const struct out_format *f, const char *format)
{
	json_t *h = json_object();

	for (const char *c = format; (c = strchr(c, '.')); c++) {
		size_t n = 0;

		while (isalnum((unsigned char)c[1 + n]) || c[1 + n] == '_')
			n++;
		if (n && isupper((unsigned char)c[1]))
			add_heading(h, sv_from(c + 1, n));
	}
	(void)json_object_set_new(h, TMPL_LABELS, json_true());
	for (size_t i = 0; f->headings && f->headings[i][0]; i++)
		(void)json_object_set_new(h, f->headings[i][0], json_string(f->headings[i][1]));
	return h;
}

static FALLIBLE by_template(const struct out_format *f, const char *format, const json_t *rows)
{
	bool is_table = strncmp(format, "table", 5) == 0 && (format[5] == ' ' || format[5] == '\t' || !format[5]);
	auto_tmpl struct tmpl *t = NULL;
	auto_buf struct buf text = BUF(OUT_MAX), aligned = BUF(OUT_MAX);
	auto_json json_t *head = NULL;
	auto_free char *plain = NULL;
	size_t i;
	json_t *row;

	format = is_table ? format + 5 + strspn(format + 5, " \t") : format;
	plain = xstrdup(format);
	for (char *c = plain; (c = strstr(c, "\\t")); c++) { /* as typed in a shell */
		c[0] = '\t';
		memmove(c + 1, c + 2, strlen(c + 2) + 1);
	}
	TRY(tmpl_parse(plain, &t));
	if (is_table) {
		head = headings(f, plain);
		TRY(tmpl_run(t, head, &text));
		buf_ch(&text, '\n');
	}
	json_array_foreach (rows, i, row) {
		TRY(tmpl_run(t, row, &text));
		buf_ch(&text, '\n');
	}
	TRY(buf_check(&text, "output"));
	if (!is_table)
		return out_text(buf_text(&text), text.n);
	align(sv_from(text.data, text.n), &aligned);
	return out_text(buf_text(&aligned), aligned.n);
}

static FALLIBLE as_json(const json_t *rows)
{
	auto_buf struct buf b = BUF(OUT_MAX);
	size_t i;
	json_t *row;

	json_array_foreach (rows, i, row) {
		(void)json_object_del(row, TMPL_LABELS);
		json_print(row, &b);
		buf_ch(&b, '\n');
	}
	return out_text(buf_text(&b), b.n);
}

FALLIBLE out_rows(const struct out_format *f, const json_t *rows)
{
	auto_buf struct buf b = BUF(OUT_MAX);
	size_t i;
	json_t *row;

	if (f->quiet && !f->user) {
		json_array_foreach (rows, i, row)
			buf_fmt(&b, "%s\n", json_str_at(row, f->quiet, ""));
		return out_text(buf_text(&b), b.n);
	}
	if (f->user && strcmp(f->user, "json") == 0)
		return as_json(rows);
	if (f->user && strcmp(f->user, "table") != 0 && !json_array_size(rows)) {
		/* a template that no row is tried on is still checked */
		auto_tmpl struct tmpl *t = NULL;

		TRY(tmpl_parse(f->user, &t));
		if (strncmp(f->user, "table", 5) != 0)
			return NULL;
	}
	return by_template(f, f->user && strcmp(f->user, "table") != 0 ? f->user : f->standard, rows);
}

FALLIBLE out_value(const char *format, const json_t *value)
{
	auto_buf struct buf b = BUF(OUT_MAX);
	auto_tmpl struct tmpl *t = NULL;

	if (format && strcmp(format, "json") != 0) {
		TRY(tmpl_parse(format, &t));
		TRY(tmpl_run(t, value, &b));
	} else if (format) {
		json_print(value, &b);
	} else {
		json_print_indent(value, 4, &b);
	}
	buf_ch(&b, '\n');
	TRY(buf_check(&b, "output"));
	return out_text(buf_text(&b), b.n);
}

FALLIBLE out_columns(struct sv text)
{
	auto_buf struct buf b = BUF(OUT_MAX);

	align(text, &b);
	return out_text(buf_text(&b), b.n);
}

FALLIBLE out_check(const char *format, const json_t *row)
{
	auto_buf struct buf b = BUF(OUT_MAX);
	auto_tmpl struct tmpl *t = NULL;

	TRY(tmpl_parse(format, &t));
	return tmpl_run(t, row, &b);
}

/* A file on its way to path: without a name where the file system can do that, so that whatever ends us leaves nothing. */
struct archive {
	char *part; /* the name that it has or gets before path's; owned */
	int fd;     /* owned */
	bool is_named;
};

static void archive_fini(struct archive *a)
{
	if (a->is_named)
		(void)sys_unlink(AT_FDCWD, a->part);
	own_close(&a->fd);
	free(a->part);
}

static FALLIBLE archive_open(struct archive *a, const char *path)
{
	const char *slash = strrchr(path, '/');
	auto_free char *dir = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
	char random[9];

	sys_random_hex(random, 4);
	a->part = xasprintf("%s.%s", path, random);
	a->fd = sys_open(dir, O_WRONLY | O_TMPFILE, 0600);
	if (a->fd == -EOPNOTSUPP || a->fd == -EISDIR) {
		a->fd = sys_open(a->part, O_WRONLY | O_CREAT | O_EXCL, 0600);
		a->is_named = a->fd >= 0;
	}
	if (a->fd == -ENOENT)
		return FAIL(ERR_INVALID, "invalid output path: \"%s\" is in no directory that exists", path);
	return a->fd < 0 ? FAIL_OS(-a->fd, "open %s", path) : NULL;
}

static FALLIBLE archive_name(struct archive *a, const char *path)
{
	int r = sys_fdatasync(a->fd);

	if (r >= 0 && !a->is_named) {
		r = sys_link_fd(a->fd, AT_FDCWD, a->part);
		a->is_named = r >= 0;
	}
	if (r >= 0)
		r = sys_rename(AT_FDCWD, a->part, path);
	if (r < 0)
		return FAIL_OS(-r, "write %s", path);
	a->is_named = false;
	return NULL;
}

FALLIBLE out_archive(const char *path, struct err *(*fill)(void *ctx, struct zip_sink sink), void *ctx)
{
	static const int out = STDOUT_FILENO;
	CLEANUP(archive_fini) struct archive a = { .fd = -1 };
	struct stat st;

	if (!path && isatty(out))
		return FAIL(ERR_INVALID, "cowardly refusing to save to a terminal. Use the -o flag or redirect");
	if (!path)
		return fill(ctx, zip_sink_fd(&out));
	if (sys_fstatat(AT_FDCWD, path, &st, 0) == 0 && !S_ISREG(st.st_mode))
		return FAIL(ERR_INVALID, "invalid output path: \"%s\" must be a regular file", path);
	TRY(archive_open(&a, path));
	TRY(fill(ctx, zip_sink_fd(&a.fd)));
	return archive_name(&a, path);
}

FALLIBLE out_file(const char *path, const char *text)
{
	auto_fd int fd = sys_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int r = fd < 0 ? fd : sys_write_all(fd, text, strlen(text));

	return r < 0 ? FAIL_OS(-r, "write %s", path) : NULL;
}

bool out_ask(const char *question)
{
	char answer[16];

	(void)printf("%s [y/N] ", question);
	(void)fflush(stdout);
	return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}
