/*
 * plan_annotations.c - crun's run.oci.* annotations, as orders. Only for the OCI command line, whose callers write the
 * configuration themselves: the engine never asks for it, for its annotations can come from an image.
 */
#include "runtime/plan.h"

static const char *annotation(const json_t *annotations, const char *name)
{
	return json_string_value(json_object_get(annotations, name));
}

/* crun: anything but "0" says yes. */
static bool is_on(const json_t *annotations, const char *name)
{
	const char *text = annotation(annotations, name);

	return text && strcmp(text, "0") != 0;
}

static struct err *path(struct plan *p, const json_t *annotations, const char *name, const char **out)
{
	const char *text = annotation(annotations, name);

	if (text && text[0] != '/')
		return FAIL(ERR_INVALID, "annotation %s: \"%s\" is not an absolute path", name, text);
	if (text)
		*out = plan_text(p, text);
	return NULL;
}

struct err *plan_annotations(struct plan *p, const json_t *annotations)
{
	p->keep_groups = is_on(annotations, "run.oci.keep_original_groups");
	p->fail_unknown_calls = is_on(annotations, "run.oci.seccomp_fail_unknown_syscall");
	p->raw_filter = plan_text(p, annotation(annotations, "run.oci.seccomp_bpf_data"));
	if (annotation(annotations, "run.oci.seccomp.plugins"))
		return FAIL(ERR_UNSUPPORTED, "annotation run.oci.seccomp.plugins: use a listener (linux.seccomp.listenerPath)");
	TRY(path(p, annotations, "run.oci.hooks.stdout", &p->hook_out));
	TRY(path(p, annotations, "run.oci.hooks.stderr", &p->hook_err));
	return path(p, annotations, "run.oci.seccomp.receiver", &p->listener);
}
