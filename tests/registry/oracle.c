/* SPDX-License-Identifier: Apache-2.0 */
/* The brute-force registry: see oracle.h. Written to be obviously right, not fast. */
#include "oracle.h"

#include <string.h>

bool ora_holds(const struct ora_sandbox *sandbox)
{
	return sandbox->state != REG_FREE && sandbox->agent >= 0;
}

bool ora_visible(const struct ora_sandbox *sandbox)
{
	return sandbox->state >= REG_RESERVED && sandbox->state <= REG_RESTORED;
}

uint32_t ora_allocated(const struct oracle *ora, int agent)
{
	uint32_t n = 0;

	for (int i = 0; i < ORA_SANDBOXES; i++)
		if (ora_holds(&ora->sandboxes[i]) && ora->sandboxes[i].agent == agent)
			n++;
	return n;
}

uint32_t ora_score(const struct oracle *ora, int agent, int image)
{
	return ora_allocated(ora, agent) + (ora->agents[agent].image[image] ? 0 : 1000);
}

static bool port_used(const struct oracle *ora, int agent, uint16_t port)
{
	for (int i = 0; i < ORA_SANDBOXES; i++) {
		const struct ora_sandbox *sandbox = &ora->sandboxes[i];

		if (!ora_holds(sandbox) || sandbox->agent != agent)
			continue;
		for (uint32_t p = 0; p < sandbox->port_count; p++)
			if (sandbox->ports[p] == port)
				return true;
	}
	return false;
}

static bool ports_free(const struct oracle *ora, int agent, const struct ora_ask *ask)
{
	for (uint32_t p = 0; p < ask->port_count; p++)
		if (port_used(ora, agent, ask->ports[p]))
			return false;
	return true;
}

/* Ready, of that pool, with room: fewer held than it has slots. */
static bool eligible(const struct oracle *ora, int agent, int pool)
{
	const struct ora_agent *a = &ora->agents[agent];

	return a->joined && a->ready && a->pool == pool && ora_allocated(ora, agent) < a->slots;
}

bool ora_may_take(const struct oracle *ora, int agent, const struct ora_ask *ask)
{
	return eligible(ora, agent, ask->pool) && ports_free(ora, agent, ask);
}

static enum reg_status placement(const struct oracle *ora, const struct ora_ask *ask,
				 uint32_t *ret_score)
{
	enum reg_status status = REG_NO_CAPACITY;

	for (int i = 0; i < ORA_AGENTS; i++) {
		uint32_t score;

		if (!eligible(ora, i, ask->pool))
			continue;
		if (status == REG_NO_CAPACITY)
			status = REG_PORT_CONFLICT;
		if (!ports_free(ora, i, ask))
			continue;
		status = REG_OK;
		score = ora_score(ora, i, ask->image);
		if (score < *ret_score)
			*ret_score = score;
	}
	return status;
}

void ora_answer(const struct oracle *ora, const struct ora_ask *ask, struct ora_answer *ret)
{
	*ret = (struct ora_answer){.other = -1, .score = UINT32_MAX};
	for (int i = 0; ask->request_id[0] && i < ORA_SANDBOXES; i++) {
		const struct ora_sandbox *sandbox = &ora->sandboxes[i];

		if (!ora_visible(sandbox) || strcmp(sandbox->request_id, ask->request_id) != 0)
			continue;
		ret->other = i;
		ret->status = sandbox->hash == ask->hash ? REG_REQUEST_SEEN : REG_REQUEST_MISMATCH;
		ret->or_status = ret->status;
		if (!ora->pool_known[ask->pool])
			ret->or_status = REG_NO_POOL;
		return;
	}
	for (int i = 0; i < ORA_SANDBOXES; i++) {
		const struct ora_sandbox *sandbox = &ora->sandboxes[i];

		if (!ora_visible(sandbox) || strcmp(sandbox->name, ask->name) != 0)
			continue;
		ret->other = i;
		ret->status =
			sandbox->state == REG_STOPPING ? REG_NAME_TERMINATING : REG_NAME_EXISTS;
		ret->or_status = ret->status;
		if (!ora->pool_known[ask->pool])
			ret->or_status = REG_NO_POOL;
		return;
	}
	if (!ora->pool_known[ask->pool]) {
		ret->status = ret->or_status = REG_NO_POOL;
		return;
	}
	ret->status = ret->or_status = placement(ora, ask, &ret->score);
}

int ora_agent_by_idx(const struct oracle *ora, uint32_t idx)
{
	for (int i = 0; i < ORA_AGENTS; i++)
		if (ora->agents[i].joined && ora->agents[i].idx == idx)
			return i;
	return -1;
}

int ora_unused(const struct oracle *ora)
{
	for (int i = 0; i < ORA_SANDBOXES; i++)
		if (ora->sandboxes[i].state == REG_FREE)
			return i;
	return -1;
}

void ora_give_back(struct oracle *ora, struct ora_sandbox *sandbox)
{
	if (sandbox->agent >= 0)
		ora->agents[sandbox->agent].slot[sandbox->slot] = false;
	sandbox->agent = -1;
	sandbox->port_count = 0;
}
