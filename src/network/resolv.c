#include "network/resolv.h"
#include "base/own.h"
#include "base/text.h"
#include "network/network.h"
#include "sys/sys.h"
#include <fcntl.h>

enum { FILE_BYTES = 64 << 10 };

static void put_list(struct buf *out, const char *word, char *const *list)
{
	if (!list || !*list)
		return;
	buf_str(out, word);
	for (char *const *s = list; *s; s++)
		buf_fmt(out, " %s", *s);
	buf_ch(out, '\n');
}

static struct sv next_word(struct sv *rest)
{
	*rest = sv_trim(*rest);
	for (size_t i = 0; i < rest->n; i++)
		if (rest->p[i] == ' ' || rest->p[i] == '\t') {
			struct sv word = sv_from(rest->p, i);

			*rest = sv_skip(*rest, i);
			return word;
		}
	return sv_cut(rest, '\n');
}

static bool is_loopback(struct sv ip)
{
	return sv_starts(ip, SV("127.")) || sv_is(ip, "::1");
}

bool resolv_text(struct sv host, const struct resolv *wish, struct buf *out)
{
	const bool own_dns = text_list_len(wish->dns), own_search = text_list_len(wish->search),
		   own_options = text_list_len(wish->options);
	bool named = false, left = false;

	for (char *const *s = wish->dns; own_dns && *s; s++)
		buf_fmt(out, "nameserver %s\n", *s);
	while (host.n) {
		struct sv line = sv_cut(&host, '\n'), rest = line, word = next_word(&rest);

		if (sv_is(word, "nameserver") && !own_dns) {
			struct sv ip = next_word(&rest);

			named = true;
			if (is_loopback(ip))
				continue;
			left = true;
			buf_fmt(out, "nameserver " SV_FMT "\n", SV_ARG(ip));
		} else if (((sv_is(word, "search") || sv_is(word, "domain")) && !own_search) ||
			   (sv_is(word, "options") && !own_options) || sv_is(word, "sortlist")) {
			buf_fmt(out, SV_FMT "\n", SV_ARG(sv_trim(line)));
		}
	}
	if (own_search && strcmp(wish->search[0], ".") != 0) /* docker: --dns-search . means none */
		put_list(out, "search", wish->search);
	put_list(out, "options", wish->options);
	return !named || left;
}

static struct err *read_file(const char *path, struct buf *out)
{
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	char *at;
	ssize_t n;

	if (fd == -ENOENT)
		return NULL;
	if (fd < 0)
		return FAIL_OS(-fd, "open %s", path);
	at = buf_room(out, FILE_BYTES);
	n = at ? sys_read_full(fd, at, FILE_BYTES) : -ENOMEM;
	if (n < 0)
		return FAIL_OS((int)-n, "read %s", path);
	out->n += (size_t)n;
	return NULL;
}

struct err *network_resolv_conf(char *const *dns, char *const *search, char *const *options, char **out_text)
{
	const struct resolv wish = { dns, search, options };
	auto_buf struct buf host = BUF(FILE_BYTES + 1), real = BUF(FILE_BYTES + 1), out = BUF(2 * FILE_BYTES);

	TRY(read_file("/etc/resolv.conf", &host));
	if (!resolv_text(sv_from(host.data, host.n), &wish, &out)) {
		/* Only a local forwarder was named: systemd-resolved keeps the real servers here. */
		TRY(read_file("/run/systemd/resolve/resolv.conf", &real));
		if (real.n) {
			buf_reset(&out);
			(void)resolv_text(sv_from(real.data, real.n), &wish, &out);
		}
	}
	TRY(buf_check(&out, "resolv.conf"));
	*out_text = buf_take(&out);
	return NULL;
}
