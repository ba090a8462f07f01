/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sequence of operations that walks through every call and every refusal of the registry, for
 * the kill and stop matrices. Each run leaves nothing behind when it comes to its end; a run that
 * dies anywhere may leave anything.
 */
#ifndef TESTS_REGISTRY_SCRIPT_H
#define TESTS_REGISTRY_SCRIPT_H

#include "rig.h"

/* The world that the script needs: agents, a full pool, and two sandboxes that are in its way.
 * Stays for the whole test. */
struct script_world {
	reg_agent_id a, b;
	reg_sandbox_id held[3];
};

void script_world(struct rig *rig, struct script_world *ret);
/* All names, request ids and ports derive from prefix and port_base (10 ports). */
void script_run(struct rig *rig, const char *prefix, uint16_t port_base);
/* The agents as the script wants them, and none of its own; one that died may have changed them
 * half-way. */
void script_agents(struct rig *rig);
/* Sweeps until nothing waits for a grace period: the world's agents and pools are left. */
void script_rows_check(struct rig *rig);
/* Slots of "pool" that the world leaves free. */
extern const uint32_t script_free_slots;
/* Deletes all but what the world holds. */
void script_clean(struct rig *rig, const struct script_world *world);
/* Exactly the world is left: books and agents. */
void script_check(struct rig *rig, const struct script_world *world);

/* Names of REG_FAILPOINTS; NULL at the end. */
extern const char *const script_failpoints[];

#endif
