/* Manifests and configurations of strangers: structs or an error. */
#include "base/own.h"
#include "image/config.h"
#include "image/manifest.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sv body = { (const char *)data, size };
	const struct descriptor *part;
	struct platform host;
	struct manifest m;
	json_t *config = NULL;
	struct err *e = manifest_parse(body, NULL, &m);

	if (!e) {
		platform_host(&host);
		if (m.is_index)
			e = manifest_choose(&m, &host, &part);
		manifest_fini(&m);
	}
	err_free(e);
	err_free(config_parse(body, -1, &config));
	json_decref(config);
	return 0;
}
