/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting and calling, for every command. */
#include "ctl.h"

#include <errno.h>
#include <string.h>

int ctl_connect(struct ctl *ctl, struct err *err)
{
	if (ctl->channel)
		return 0;
	if (!ctl->loop)
		ctl->loop = gloop_new(err);
	if (!ctl->loop)
		return -EIO;
	ctl->channel = gchannel_new(ctl->loop, ctl->endpoint, err);
	return ctl->channel ? 0 : -EIO;
}

void ctl_done(struct ctl *ctl)
{
	if (ctl->channel)
		ctl->channel = gchannel_free(ctl->channel);
	if (ctl->loop)
		ctl->loop = gloop_free(ctl->loop);
	mem_free(&ctl->mem);
}

int ctl_call(struct ctl *ctl, const char *path, const ProtobufCMessage *request,
	     const ProtobufCMessageDescriptor *reply, struct pb_arena **ret_arena,
	     ProtobufCMessage **ret_reply, struct err *err)
{
	int status = G_OK;
	int rc = ctl_connect(ctl, err);

	if (rc)
		return rc;
	rc = gclient_unary_wait(ctl->channel, path, request, reply, ctl->timeout_ns, &status,
				ret_arena, ret_reply, err);
	/* A call that fails is never wrong usage, whatever errno says. */
	return rc ? -EIO : 0;
}

int ctl_one_namespace(const struct ctl *ctl, struct err *err)
{
	if (ctl->ns[0])
		return 0;
	return err_set(err, -EINVAL, "one sandbox is in one namespace: give -n NAMESPACE");
}

int ctl_check_output(const char *value, const char *allowed, struct err *err)
{
	size_t len = strlen(value);

	for (const char *p = allowed; *p;) {
		size_t word = strcspn(p, " ");

		if (word == len && !strncmp(p, value, len))
			return 0;
		p += word + strspn(p + word, " ");
	}
	return err_set(err, -EINVAL, "unknown output format '%s'; known here: %s", value, allowed);
}
