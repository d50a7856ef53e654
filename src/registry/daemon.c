#include "registry/daemon.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/json.h"
#include "sys/sys.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>

#define FILE_MAX_BYTES (1u << 20)
#define ENTRIES_MAX    256u

static struct err *read_list(const json_t *doc, const char *path, const char *key, char ***out_list)
{
	struct err *e = json_list_at(doc, key, out_list);

	if (!e && text_list_len(*out_list) > ENTRIES_MAX)
		return FAIL(ERR_LIMIT, "%s: more than %u %s", path, ENTRIES_MAX, key);
	return e ? err_ctx(e, "%s", path) : NULL;
}

static const char *const proxy_keys[] = { "proxies.http-proxy", "proxies.https-proxy", "proxies.no-proxy" };

struct err *daemon_load(const char *path, struct daemon_conf *out_conf)
{
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	auto_daemon struct daemon_conf c = { 0 };
	auto_json json_t *doc = NULL;

	*out_conf = c;
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -EACCES)
		return NULL;
	if (fd < 0)
		return FAIL_OS(-fd, "%s", path);
	TRY(json_read(fd, path, FILE_MAX_BYTES, &doc));
	TRY(read_list(doc, path, "insecure-registries", &c.insecure));
	TRY(read_list(doc, path, "registry-mirrors", &c.mirrors));
	for (size_t i = 0; i < LEN(proxy_keys); i++)
		if (*json_str_at(doc, proxy_keys[i], ""))
			c.proxies[i] = xstrdup(json_str_at(doc, proxy_keys[i], ""));
	c.proxy = (struct http_proxy){ c.proxies[0], c.proxies[1], c.proxies[2] };
	*out_conf = c;
	c = (struct daemon_conf){ 0 };
	return NULL;
}

void daemon_fini(struct daemon_conf *c)
{
	text_list_free(c->insecure);
	text_list_free(c->mirrors);
	for (size_t i = 0; i < LEN(c->proxies); i++)
		free(c->proxies[i]);
	*c = (struct daemon_conf){ 0 };
}

/* The address of "1.2.3.4:5", "[::1]:5"; its length in bytes, or 0 for names. */
static size_t address_of(const char *domain, unsigned char out[16])
{
	struct sv rest = sv_of(domain);
	auto_free char *text = NULL;

	if (sv_starts(rest, SV("["))) {
		rest = sv_skip(rest, 1);
		rest = sv_cut(&rest, ']');
		text = xstrndup(rest.p, rest.n);
		return inet_pton(AF_INET6, text, out) == 1 ? 16 : 0;
	}
	rest = sv_cut(&rest, ':');
	text = xstrndup(rest.p, rest.n);
	return inet_pton(AF_INET, text, out) == 1 ? 4 : 0;
}

static bool network_has(const char *network, const unsigned char *address, size_t n)
{
	struct sv rest = sv_of(network), base = sv_cut(&rest, '/');
	auto_free char *text = xstrndup(base.p, base.n);
	unsigned char bytes[16];
	uint64_t bits = 0;
	struct err *e = num_parse(rest, 10, 0, n * 8, &bits);

	err_free(e);
	if (e || inet_pton(n == 4 ? AF_INET : AF_INET6, text, bytes) != 1)
		return false;
	for (size_t i = 0; i < bits; i++)
		if ((bytes[i / 8] ^ address[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

bool daemon_is_insecure(const struct daemon_conf *c, const char *domain)
{
	unsigned char address[16];
	size_t n = address_of(domain, address);

	for (char **entry = c->insecure; entry && *entry; entry++)
		if (strcmp(*entry, domain) == 0 || (n && network_has(*entry, address, n)))
			return true;
	return false;
}
