/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One link per agent, dialled when it is first needed, and replaced when the agent came back under
 * another incarnation or address (commands still open on the old one are reported as unknown and
 * get fenced by their owners).
 */
#ifndef FASTPATH_LINKS_H
#define FASTPATH_LINKS_H

#include "agentlink/agentlink.h"
#include "fail.h"
#include "registry/registry.h"

struct fp_links;

/* gives; NULL when out of memory. */
struct fp_links *fp_links_new(struct gloop *loop, struct reg_self *me);
/* Closes all of them. Returns NULL. */
struct fp_links *fp_links_free(struct fp_links *links);

/* *ret is valid until the next call here. ret_agent (may be NULL) is the agent's row as it is now.
 */
int fp_links_get(struct fp_links *links, reg_agent_id agent, struct agentlink **ret,
		 struct reg_agent_view *ret_agent, struct fp_fail *fail);

#endif
