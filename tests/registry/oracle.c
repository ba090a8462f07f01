/* SPDX-License-Identifier: Apache-2.0 */
/* The brute-force registry: see oracle.h. Written to be obviously right, not fast. */
#include "oracle.h"

#include <string.h>

bool ora_visible(const struct ora_sandbox *s)
{
	return s->state >= REG_RESERVED && s->state <= REG_RESTORED;
}

/* Has its name and request id; also members of a batch in the making. */
static bool keeps_keys(const struct ora_sandbox *s)
{
	return ora_visible(s) || s->state == REG_CLAIMED;
}

uint32_t ora_allocated(const struct oracle *ora, int agent)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ora->high; i++)
		if (ora->sandboxes[i].held && ora->sandboxes[i].agent == agent)
			n++;
	return n;
}

static uint32_t score(const struct oracle *ora, uint32_t allocated, int agent, int image)
{
	return allocated + (ora->agents[agent].images >> image & 1 ? 0 : 1000);
}

uint32_t ora_score(const struct oracle *ora, int agent, int image)
{
	return score(ora, ora_allocated(ora, agent), agent, image);
}

static bool shares_port(const struct ora_sandbox *s, const struct ora_ask *ask)
{
	for (uint32_t i = 0; i < s->port_count; i++)
		for (uint32_t j = 0; j < ask->port_count; j++)
			if (s->ports[i] == ask->ports[j])
				return true;
	return false;
}

/* Who has how many, and where one of the ports is in use. */
struct census {
	uint32_t allocated[ORA_AGENTS];
	bool conflict[ORA_AGENTS];
};

static void take_census(const struct oracle *ora, const struct ora_ask *ask, struct census *ret)
{
	*ret = (struct census){0};
	for (uint32_t i = 0; i < ora->high; i++) {
		const struct ora_sandbox *s = &ora->sandboxes[i];

		if (!s->held)
			continue;
		ret->allocated[s->agent]++;
		if (s->ports_held && shares_port(s, ask))
			ret->conflict[s->agent] = true;
	}
}

/* Ready, of that pool, with room: fewer held than it has slots. */
static bool eligible(const struct ora_agent *a, uint32_t allocated, int pool)
{
	return a->joined && a->ready && !a->draining && a->pool == pool && allocated < a->slots;
}

bool ora_may_take(const struct oracle *ora, int agent, const struct ora_ask *ask)
{
	struct census c;

	take_census(ora, ask, &c);
	return eligible(&ora->agents[agent], c.allocated[agent], ask->pool) && !c.conflict[agent];
}

void ora_room(const struct oracle *ora, const struct ora_ask *ask, uint32_t *ret_agents,
	      uint32_t *ret_slots)
{
	struct census c;

	take_census(ora, ask, &c);
	*ret_agents = *ret_slots = 0;
	for (int i = 0; i < ORA_AGENTS; i++)
		if (eligible(&ora->agents[i], c.allocated[i], ask->pool) && !c.conflict[i]) {
			++*ret_agents;
			*ret_slots += ora->agents[i].slots - c.allocated[i];
		}
}

static enum reg_status placement(const struct oracle *ora, const struct ora_ask *ask,
				 uint32_t *ret_score)
{
	enum reg_status status = REG_NO_CAPACITY;
	struct census c;

	take_census(ora, ask, &c);
	for (int i = 0; i < ORA_AGENTS; i++) {
		uint32_t have;

		if (!eligible(&ora->agents[i], c.allocated[i], ask->pool))
			continue;
		if (status == REG_NO_CAPACITY)
			status = REG_PORT_CONFLICT;
		if (c.conflict[i])
			continue;
		status = REG_OK;
		have = score(ora, c.allocated[i], i, ask->image);
		if (have < *ret_score)
			*ret_score = have;
	}
	return status;
}

static void find_keys(const struct oracle *ora, const struct ora_ask *ask, struct ora_answer *ret)
{
	for (uint32_t i = 0; i < ora->high; i++) {
		const struct ora_sandbox *s = &ora->sandboxes[i];

		if (!keeps_keys(s))
			continue;
		if (ask->rid != ORA_NONE && s->rid_held && s->rid == ask->rid)
			ret->by_rid = (int)i;
		if (s->name == ask->name)
			ret->by_name = (int)i;
	}
}

void ora_answer(const struct oracle *ora, const struct ora_ask *ask, struct ora_answer *ret)
{
	enum reg_status status;

	*ret = (struct ora_answer){.by_rid = ORA_NONE, .by_name = ORA_NONE, .score = UINT32_MAX};
	find_keys(ora, ask, ret);
	if (!ora->pool_known[ask->pool])
		ret->statuses |= ORA_BIT(REG_NO_POOL);
	if (ora_used(ora) + ora->gone >= ora->limit)
		ret->statuses |= ORA_BIT(REG_LIMIT_SANDBOXES);
	if (ret->by_rid != ORA_NONE) { /* a repeat is told so, and not that its name exists */
		status = ora->sandboxes[ret->by_rid].hash == ask->hash ? REG_REQUEST_SEEN
								       : REG_REQUEST_MISMATCH;
		ret->statuses |= ORA_BIT(status);
	} else if (ret->by_name != ORA_NONE) {
		status = ora->sandboxes[ret->by_name].state == REG_STOPPING ? REG_NAME_TERMINATING
									    : REG_NAME_EXISTS;
		ret->statuses |= ORA_BIT(status);
	} else if (ora->pool_known[ask->pool]) {
		status = placement(ora, ask, &ret->score);
		if (status || !ret->statuses)
			ret->statuses |= ORA_BIT(status);
	}
}

bool ora_slot_held(const struct oracle *ora, int agent, uint32_t slot)
{
	for (uint32_t i = 0; i < ora->high; i++) {
		const struct ora_sandbox *s = &ora->sandboxes[i];

		if (s->held && s->agent == agent && s->slot == slot)
			return true;
	}
	return false;
}

int ora_agent_by_idx(const struct oracle *ora, uint32_t idx)
{
	for (int i = 0; i < ORA_AGENTS; i++)
		if (ora->agents[i].joined && ora->agents[i].idx == idx)
			return i;
	return ORA_NONE;
}

int ora_unused(struct oracle *ora)
{
	for (uint32_t i = 0; i < ora->high; i++)
		if (ora->sandboxes[i].state == REG_FREE)
			return (int)i;
	return ora->high < ORA_SANDBOXES ? (int)ora->high++ : ORA_NONE;
}

uint32_t ora_used(const struct oracle *ora)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ora->high; i++)
		n += ora->sandboxes[i].state != REG_FREE;
	return n;
}

int ora_nth(const struct oracle *ora, uint32_t n)
{
	for (uint32_t i = 0; i < ora->high; i++)
		if (ora->sandboxes[i].state != REG_FREE && n-- == 0)
			return (int)i;
	return ORA_NONE;
}

/* ---- what a call does ---- */
void ora_gone(struct oracle *ora, struct ora_sandbox *s)
{
	if (s->maybe_stored) {
		ora->gone++;
		ora->gone_pool[s->pool]++;
		if (s->agent != ORA_NONE)
			ora->gone_agent[s->agent]++;
	}
	*s = (struct ora_sandbox){.state = REG_FREE};
}

static void settle(struct ora_sandbox *s, enum reg_state state)
{
	s->state = state;
	s->held = false;
	s->owner = UINT32_MAX;
	s->expiring = s->exit_seen = false;
}

enum reg_status ora_starting(struct ora_sandbox *s, uint32_t me)
{
	if (s->state != REG_RESERVED || s->owner != me)
		return REG_BAD_STATE;
	if (s->deleting)
		return REG_DELETING;
	s->state = REG_STARTING;
	return REG_OK;
}

enum reg_status ora_commit(struct ora_sandbox *s, uint32_t me)
{
	if (s->state != REG_STARTING || s->owner != me)
		return REG_BAD_STATE;
	s->owner = UINT32_MAX;
	if (s->deleting) {
		s->state = REG_STOPPING;
		return REG_DELETING;
	}
	if (s->exit_seen)
		settle(s, REG_EXITED);
	else
		s->state = REG_RUNNING;
	return REG_OK;
}

enum reg_status ora_abort(struct oracle *ora, struct ora_sandbox *s, uint32_t me)
{
	if ((s->state != REG_RESERVED && s->state != REG_STARTING) || s->owner != me)
		return REG_BAD_STATE;
	ora_gone(ora, s);
	return REG_OK;
}

enum reg_status ora_stop(struct ora_sandbox *s, enum reg_stop_reason reason)
{
	if (reason == REG_STOP_EXPIRE) {
		if (s->state != REG_RUNNING)
			return REG_BAD_STATE;
		s->expiring = true;
		s->state = REG_STOPPING;
		return REG_OK;
	}
	s->deleting = true;
	if (s->state == REG_RUNNING || s->state == REG_EXITED || s->state == REG_EXPIRED ||
	    s->state == REG_LOST)
		s->state =
			REG_STOPPING; /* one that was LOST keeps its slot until it is confirmed */
	return REG_OK;
}

enum reg_status ora_exited(struct ora_sandbox *s)
{
	switch (s->state) {
	case REG_STARTING:
		s->exit_seen = true; /* faster than its own acknowledgement */
		return REG_OK;
	case REG_RUNNING:
	case REG_LOST:
	case REG_RESTORED:
		settle(s, REG_EXITED);
		return REG_OK;
	case REG_STOPPING:
	case REG_EXITED:
	case REG_EXPIRED:
		return REG_OK;
	default:
		return REG_BAD_STATE;
	}
}

enum reg_status ora_stopped(struct oracle *ora, struct ora_sandbox *s)
{
	if (s->state == REG_STOPPING) {
		if (s->deleting)
			ora_gone(ora, s);
		else
			settle(s, REG_EXPIRED);
		return REG_OK;
	}
	if (s->state == REG_RUNNING || s->state == REG_EXITED || s->state == REG_LOST)
		return ora_exited(s);
	return REG_BAD_STATE;
}

enum reg_status ora_lost(struct ora_sandbox *s)
{
	if (s->state != REG_RUNNING && s->state != REG_RESTORED)
		return REG_BAD_STATE;
	s->state = REG_LOST;
	return REG_OK;
}

enum reg_status ora_found(struct ora_sandbox *s)
{
	if (s->state != REG_LOST)
		return REG_BAD_STATE;
	s->state = REG_RUNNING;
	return REG_OK;
}

enum reg_status ora_adopt(const struct oracle *ora, struct ora_sandbox *s, int agent, uint32_t slot,
			  uint32_t slot_gen)
{
	struct ora_ask ports = {.port_count = s->port_count};
	struct census c;

	if (!s->held || s->agent != agent) {
		memcpy(ports.ports, s->ports, sizeof(ports.ports));
		s->held = false;
		take_census(ora, &ports, &c);
		s->ports_held = !c.conflict[agent]; /* it runs, whoever has them */
	}
	s->agent = agent;
	s->slot = slot;
	s->slot_gen = slot_gen;
	s->held = true;
	s->state = s->deleting ? REG_STOPPING : REG_RUNNING;
	return s->deleting ? REG_DELETING : REG_OK;
}
