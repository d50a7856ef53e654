/* What a registry says in headers and error bodies: challenges, limits, faults; and where a Location leads.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "http/url.h"
#include "registry/auth.h"
#include "registry/fault.h"
#include <stdint.h>

static void headers(const char *text)
{
	static const char *const names[] = { "Retry-After", "RateLimit-Limit", "RateLimit-Remaining" };
	struct http_response r = { .status = 429, .body = BUF(1 << 16) };
	auto_free char *limits = NULL, *code = NULL;

	buf_str(&r.body, text);
	for (size_t i = 0; i < LEN(names); i++) {
		auto_free char *line = xasprintf("%s: %s", names[i], text);

		text_list_add(&r.headers, line);
	}
	limits = fault_limits(&r);
	code = fault_code(&r);
	(void)fault_is_passing(&r);
	err_free(fault_of(&r));
	http_response_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = xstrndup((const char *)data, size), *url = NULL, *shown = url_display(text);
	auto_challenge struct challenge c = { 0 };
	auto_url struct url u = { 0 };

	challenge_parse(text, &c);
	headers(text);
	err_free(url_parse(text, &u));
	err_free(url_resolve("https://registry.example:5000/v2/x/blobs/y", text, &url));
	return 0;
}
