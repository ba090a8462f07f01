/* SPDX-License-Identifier: Apache-2.0 */
/* From what the user asks for to wire messages, and from messages to JSON. Messages live in the
 * command's memory. */
#ifndef CTL_MSG_H
#define CTL_MSG_H

#include <jansson.h>

#include "fastpath.pb-c.h"
#include "fsb.pb-c.h"
#include "spec.pb-c.h"

#include "mem.h"
#include "specfile.h"

/* The paths of the methods that fsb-ctl calls. */
#define FASTPATH_V1 "/fastpath.v1.FastPathService/"
#define FSB_V1	    "/fsb.v1.SandboxService/"
#define FSB_ADMIN   "/fsb.v1.AdminService/"

Fsb__V1__SandboxSpec *msg_spec(struct mem *mem, const struct run_spec *spec);
Fsb__V1__SandboxOptions *msg_options(struct mem *mem, const char *ns, const struct run_spec *spec);
Fastpath__V1__CreateRequest *msg_create(struct mem *mem, const char *ns, const char *name,
					const struct run_spec *spec);
Fastpath__V1__UpdateRequest__LabelsEntry **msg_update_labels(struct mem *mem,
							     const struct kv *labels);
Fsb__V1__ListSandboxesRequest__LabelsEntry **msg_list_labels(struct mem *mem,
							     const struct kv *labels);
Fsb__V1__MemberOverride__EnvsEntry **msg_override_envs(struct mem *mem, const struct kv *envs);

/* New references. SandboxInfo: fast-sandbox's keys and order, zero values left out. */
json_t *msg_json_info(const Fastpath__V1__SandboxInfo *info);
json_t *msg_json_sandbox(const Fsb__V1__Sandbox *sandbox);
json_t *msg_json_strings(size_t n, char **items);
/* Prints with two blanks of indentation and a newline, and drops the reference. */
void msg_print_json(json_t *value);

#endif
