#include "cli/progress.h"
#include "base/num.h"
#include <string.h>
#include <unistd.h>

struct progress progress_begin(bool quiet, FILE *to)
{
	return (struct progress){ .to = quiet ? NULL : to, .is_tty = isatty(fileno(to)) };
}

static void bar(FILE *to, int64_t current, int64_t total)
{
	char a[16], b[16];
	int filled = total > 0 ? (int)(current * 30 / total) : 0;

	if (total <= 0)
		return;
	(void)fputs(" [", to);
	for (int i = 0; i < 30; i++)
		(void)fputc(i < filled ? '=' : i == filled ? '>' : ' ', to);
	(void)fprintf(to, "] %s/%s", num_human((uint64_t)current, a), num_human((uint64_t)total, b));
}

/* Each layer keeps its line; the cursor stands below the last. */
static void on_terminal(struct progress *p, size_t i, int64_t current, int64_t total)
{
	(void)fprintf(p->to, "\033[%zuA\r\033[2K%s: %s", p->n - i, p->lines[i].id, p->lines[i].status);
	if (strcmp(p->lines[i].status, "Downloading") == 0 || strcmp(p->lines[i].status, "Pushing") == 0)
		bar(p->to, current, total);
	(void)fprintf(p->to, "\033[%zuB\r", p->n - i);
	(void)fflush(p->to);
}

static void line(void *ctx, const char *id, const char *status, int64_t current, int64_t total)
{
	struct progress *p = ctx;
	size_t i = 0;
	bool is_news;

	if (!p->to)
		return;
	if (!*id) {
		(void)fprintf(p->to, "%s\n", status);
		(void)fflush(p->to);
		p->n = 0;
		return;
	}
	while (i < p->n && strcmp(p->lines[i].id, id) != 0)
		i++;
	if (i == PROGRESS_LINES)
		return;
	is_news = i == p->n || strcmp(p->lines[i].status, status) != 0;
	if (i == p->n) {
		p->n++;
		(void)snprintf(p->lines[i].id, sizeof p->lines[i].id, "%s", id);
		if (p->is_tty)
			(void)fputc('\n', p->to);
	}
	(void)snprintf(p->lines[i].status, sizeof p->lines[i].status, "%s", status);
	if (p->is_tty) {
		on_terminal(p, i, current, total);
	} else if (is_news) {
		(void)fprintf(p->to, "%s: %s\n", id, status);
		(void)fflush(p->to); /* a job's log is read while it runs */
	}
}

struct engine_progress progress_sink(struct progress *p)
{
	return (struct engine_progress){ line, p };
}

void progress_fini(struct progress *p)
{
	if (p->to)
		(void)fflush(p->to);
}
