/*
 * plan_annotations.c - crun's run.oci.* annotations, as orders. Only for the OCI command line, whose callers write the
 * configuration themselves: the engine never asks for it, for its annotations can come from an image.
 */
#include "base/mem.h"
#include "runtime/plan.h"
#include <string.h>

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

/* mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS": what the label of a mount is for. */
static struct err *context_type(struct plan *p, const char *text)
{
	static const char *const types[] = { "context", "fscontext", "defcontext", "rootcontext" };

	for (size_t i = 0; text && i < LEN(types); i++)
		if (strcmp(types[i], text) == 0) {
			p->mount_context = types[i];
			return NULL;
		}
	return text ? FAIL(ERR_INVALID,
			   "annotation run.oci.mount_context_type: \"%s\" is not context, fscontext, defcontext or rootcontext",
			   text)
		    : NULL;
}

struct err *plan_annotations(struct plan *p, const json_t *annotations)
{
	p->keep_groups = is_on(annotations, "run.oci.keep_original_groups");
	p->fail_unknown_calls = is_on(annotations, "run.oci.seccomp_fail_unknown_syscall");
	p->raw_filter = plan_text(p, annotation(annotations, "run.oci.seccomp_bpf_data"));
	if (annotation(annotations, "run.oci.seccomp.plugins"))
		return FAIL(ERR_UNSUPPORTED, "annotation run.oci.seccomp.plugins: use a listener (linux.seccomp.listenerPath)");
	TRY(context_type(p, annotation(annotations, "run.oci.mount_context_type")));
	TRY(path(p, annotations, "run.oci.hooks.stdout", &p->hook_out));
	TRY(path(p, annotations, "run.oci.hooks.stderr", &p->hook_err));
	return path(p, annotations, "run.oci.seccomp.receiver", &p->listener);
}
