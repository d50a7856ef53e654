/*
 * oci_annot.c - annotations of the configuration by which podman and cri-o talk to crun.
 *
 * Only the command line reads them, for its caller wrote the configuration: the engine takes no orders from
 * annotations. Those that steer a later step are read there (pidfd_receiver, systemd.subgroup,
 * org.systemd.property.*, org.criu.config).
 */
#include "base/own.h"
#include "runtime/oci.h"
#include <string.h>

const char *oci_annotation(const json_t *config, const char *name)
{
	return json_string_value(json_object_get(json_object_get(config, "annotations"), name));
}

/* crun: "1" and "true" switch on. */
bool oci_annotation_on(const json_t *config, const char *name)
{
	const char *v = oci_annotation(config, name);

	return v && (strcmp(v, "1") == 0 || strcmp(v, "true") == 0);
}

static FALLIBLE receiver(json_t *config)
{
	const char *path = oci_annotation(config, "run.oci.seccomp.receiver");
	json_t *seccomp = json_at(config, "linux.seccomp");

	if (path && *path && seccomp && !json_object_get(seccomp, "listenerPath"))
		(void)json_object_set_new(seccomp, "listenerPath", json_string(path));
	return NULL;
}

FALLIBLE oci_annotations(struct oci_box *b)
{
	static const struct {
		const char *name, *why;
	} refused[] = {
		{ "run.oci.handler", "there are no handlers besides the container's own program" },
		{ "run.oci.seccomp.plugins", "there are no seccomp plugins" },
		{ "run.oci.systemd.force_cgroup_v1", "a v1 hierarchy is not mounted on a v2 host" },
	};

	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		if (oci_annotation(b->config, refused[i].name))
			return FAIL(ERR_UNSUPPORTED, "annotation %s is not supported: %s", refused[i].name,
				    refused[i].why);
	return receiver(b->config);
}
