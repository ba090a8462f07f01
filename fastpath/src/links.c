/* SPDX-License-Identifier: Apache-2.0 */
/* The table of agent links (see links.h). Owns the links; knows nothing of commands. */
#include "links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* A link that is not up gets this long to come up before a command is refused. */
#define REACH_NS (5 * NS_PER_S)

struct slot {
	struct agentlink *link;
	uint32_t incarnation;
};

/* Replaced; freed from a turn of its own. */
struct dead {
	struct dead *next;
	struct agentlink *link;
};

struct fp_links {
	struct gloop *loop;
	struct reg_self *me;
	struct slot *slots; /* by agent index */
	uint32_t count;
	struct dead *dead;
};

struct fp_links *fp_links_new(struct gloop *loop, struct reg_self *me)
{
	struct fp_links *links = calloc(1, sizeof(*links));

	if (!links)
		return NULL;
	links->loop = loop;
	links->me = me;
	return links;
}

static void free_dead(void *arg)
{
	struct fp_links *links = arg;
	struct dead *dead;

	while ((dead = links->dead)) {
		links->dead = dead->next;
		agentlink_free(dead->link);
		free(dead);
	}
}

struct fp_links *fp_links_free(struct fp_links *links)
{
	if (!links)
		return NULL;
	free_dead(links);
	for (uint32_t i = 0; i < links->count; i++)
		agentlink_free(links->slots[i].link);
	free(links->slots);
	free(links);
	return NULL;
}

static struct slot *slot_at(struct fp_links *links, uint32_t idx)
{
	uint32_t count = links->count ? links->count : 64;
	struct slot *slots;

	while (count <= idx)
		count *= 2;
	if (count == links->count)
		return &links->slots[idx];
	slots = realloc(links->slots, count * sizeof(*slots));
	if (!slots)
		return NULL;
	memset(slots + links->count, 0, (count - links->count) * sizeof(*slots));
	links->slots = slots;
	links->count = count;
	return &slots[idx];
}

static void on_down(void *arg, const char *reason)
{
	log_warn("agent link down", "reason=%s", reason);
}

static struct agentlink *link_new(struct fp_links *links, const char *address, struct err *err)
{
	struct reg *reg = reg_self_reg(links->me);
	const struct agentlink_hello hello = {
		.role = FSB__AGENT__V1__PEER_ROLE__WORKER,
		.instance = reg_instance(reg),
		.controller_epoch = reg_epoch(reg),
		.participant = reg_self_idx(links->me),
	};
	const struct agentlink_handlers handlers = {.on_down = on_down};

	struct agentlink *link = agentlink_new(links->loop, address, &hello, &handlers, err);

	if (link)
		agentlink_set_reach_limit(link, REACH_NS);
	return link;
}

/* Not from here: this may be the report of one of its own commands, during which a link must not be
 * freed. */
static int retire(struct fp_links *links, struct agentlink *link)
{
	struct dead *dead;

	if (!link)
		return 0;
	dead = malloc(sizeof(*dead));
	if (!dead)
		return -ENOMEM;
	dead->link = link;
	dead->next = links->dead;
	links->dead = dead;
	/* Refused: fp_links_free has it, or the next one that is retired. */
	(void)gloop_post(links->loop, free_dead, links);
	return 0;
}

static int slot_renew(struct fp_links *links, struct slot *slot, const struct reg_agent_view *view,
		      struct fp_fail *fail)
{
	struct err err = ERR_INIT;
	struct agentlink *link = link_new(links, view->address, &err);

	if (!link)
		return fp_fail(fail, G_UNAVAILABLE, "agent '%s': %s", view->name, err.msg);
	if (retire(links, slot->link)) {
		agentlink_free(link);
		return fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
	}
	slot->link = link;
	slot->incarnation = view->incarnation;
	return G_OK;
}

int fp_links_get(struct fp_links *links, reg_agent_id agent, struct agentlink **ret,
		 struct reg_agent_view *ret_agent, struct fp_fail *fail)
{
	struct reg_agent_view own, *view = ret_agent ? ret_agent : &own;
	enum reg_status status = reg_agent_get(links->me, agent, view);
	struct slot *slot;
	int rc;

	if (status != REG_OK)
		return fp_fail(fail, G_UNAVAILABLE, "agent #%u: %s", agent.idx,
			       reg_status_text(status));
	slot = slot_at(links, agent.idx);
	if (!slot)
		return fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
	if (!slot->link || slot->incarnation != view->incarnation ||
	    strcmp(agentlink_address(slot->link), view->address)) {
		rc = slot_renew(links, slot, view, fail);
		if (rc)
			return rc;
	}
	agentlink_set_epoch(slot->link, reg_epoch(reg_self_reg(links->me)));
	*ret = slot->link;
	return G_OK;
}
