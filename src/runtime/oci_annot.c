/*
 * oci_annot.c - annotations of the configuration by which podman and cri-o talk to crun.
 *
 * Only the command line obeys them, for its caller wrote the configuration. Most are the plan's
 * (plan_annotations.c); those that steer a step of the command line are read there (pidfd_receiver,
 * delegate-cgroup, systemd.subgroup, org.systemd.property.*, org.criu.config).
 */
#include "runtime/oci.h"
#include <stdlib.h>
#include <string.h>

#define RECEIVER "run.oci.seccomp.receiver"

const char *oci_annotation(const json_t *config, const char *name)
{
	return json_string_value(json_object_get(json_object_get(config, "annotations"), name));
}

/* The environment says it for every container of a caller; the configuration may say otherwise. */
static void default_receiver(const struct oci_box *b)
{
	const char *path = getenv("RUN_OCI_SECCOMP_RECEIVER");
	json_t *all = json_object_get(b->config, "annotations");

	if (!path || !*path || oci_annotation(b->config, RECEIVER))
		return;
	if (!all)
		(void)json_object_set_new(b->config, "annotations", all = json_object());
	(void)json_object_set_new(all, RECEIVER, json_string(path));
}

FALLIBLE oci_annotations(const struct oci_box *b)
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
	default_receiver(b);
	return NULL;
}
