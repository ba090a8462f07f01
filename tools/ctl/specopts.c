/* SPDX-License-Identifier: Apache-2.0 */
/* Merges the YAML file and the flags into what the user asks for. */
#include "specopts.h"

#include <errno.h>

#include "text.h"

static void override(const char **value, const char *flag)
{
	if (flag)
		*value = flag;
}

static int merge_texts(const struct spec_flags *flags, struct mem *mem, struct run_spec *spec,
		       struct err *err)
{
	int rc = 0;

	override(&spec->image, flags->image);
	override(&spec->pool, flags->pool);
	override(&spec->working_dir, flags->working_dir);
	override(&spec->network, flags->network);
	override(&spec->request_id, flags->request_id);
	if (flags->expire)
		rc = text_parse_time("--expire", flags->expire, &spec->expire_unix_s, err);
	if (!rc && flags->policy)
		rc = spec_parse_policy("--failure-policy", flags->policy, &spec->auto_recreate,
				       err);
	if (flags->recovery_set)
		spec->recovery_timeout_s = (int32_t)flags->recovery_s;
	return rc;
}

static int merge_lists(const struct spec_flags *flags, struct mem *mem, struct run_spec *spec,
		       struct err *err)
{
	int rc = 0;

	if (flags->ports) {
		spec->ports.n = 0;
		rc = text_parse_ports(mem, flags->ports, &spec->ports, err);
	}
	if (!rc)
		rc = text_parse_pairs(mem, "--env", &flags->envs, &spec->envs, err);
	if (!rc)
		rc = text_parse_pairs(mem, "--label", &flags->labels, &spec->labels, err);
	if (!rc)
		rc = text_parse_pairs(mem, "--resource", &flags->resources, &spec->resources, err);
	return rc;
}

static void set_command(struct run_spec *spec, int n_words, char **words, struct mem *mem)
{
	if (!n_words)
		return;
	spec->command = (struct strv){.n = 0};
	spec->args = (struct strv){.n = 0};
	for (int i = 0; i < n_words; i++)
		strv_add(mem, &spec->command, words[i]);
}

int spec_collect(const struct spec_flags *flags, int n_words, char **words, struct mem *mem,
		 struct run_spec *ret, struct err *err)
{
	struct run_spec spec;
	int rc = 0;

	spec_init(&spec);
	if (flags->file)
		rc = specfile_load(flags->file, mem, &spec, err);
	if (!rc)
		rc = merge_texts(flags, mem, &spec, err);
	if (!rc)
		rc = merge_lists(flags, mem, &spec, err);
	if (rc)
		return rc;
	set_command(&spec, n_words, words, mem);
	if (!spec.image[0])
		return err_set(err, -EINVAL,
			       "no image: give --image REF, or -f FILE with an image key "
			       "(editing a sandbox interactively is not part of this version)");
	*ret = spec;
	return 0;
}
