/* SPDX-License-Identifier: Apache-2.0 */
/* The agents of a run, by a generator with a fixed seed: 16..64 slots, 8 images each, every wanted
 * image on one half. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "subject.h"

static uint64_t next_random(uint64_t *state)
{
	/* splitmix64, public domain (S. Vigna) */
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

const char *world_image(uint32_t idx)
{
	static const char *const names[] = {"python",  "swe-bench", "terminal", "node",
					    "golang",  "browser",   "pytorch",	"rust",
					    "jupyter", "ruby",	    "postgres", "lean",
					    "java",    "android",   "verilog",	"ubuntu"};
	static char refs[WORLD_WANTED + WORLD_OTHERS][64];

	base_bug(idx >= WORLD_WANTED + WORLD_OTHERS);
	if (refs[idx][0] == '\0')
		(void)snprintf(refs[idx], sizeof(refs[idx]), "registry.example.com/team/%s:%u",
			       names[idx % 16], 3 + idx / 16);
	return refs[idx];
}

/* Which half an agent belongs to is drawn, so that the halves are spread over the tables. */
static void fill_agent(struct world_agent *agent, uint32_t idx, uint64_t *state)
{
	uint32_t wanted_at = (uint32_t)(next_random(state) % WORLD_IMAGES_PER_AGENT);
	uint32_t other = (uint32_t)(next_random(state) % WORLD_OTHERS);

	(void)snprintf(agent->name, sizeof(agent->name), "agent-%05u-%04x", idx,
		       (unsigned int)(next_random(state) & 0xffff));
	agent->slots = 16 + (uint32_t)(next_random(state) % 49);
	for (uint32_t i = 0; i < WORLD_IMAGES_PER_AGENT; i++)
		agent->images[i] = (uint8_t)(WORLD_WANTED + (other + i * 7) % WORLD_OTHERS);
	agent->images[wanted_at] = (uint8_t)(next_random(state) % WORLD_WANTED);
}

/* Levels the loads. A quarter of at least 16 slots each on average is far below what any agent has,
 * so all reach one level. */
static void fill_world(struct world *world)
{
	uint32_t left = world->fill - WORLD_RING;

	for (uint32_t i = 0; i < world->agent_count; i++) {
		struct world_agent *agent = &world->agents[i];

		agent->held = left / world->agent_count + (i < left % world->agent_count);
		base_bug(agent->held > agent->slots);
	}
}

struct world *world_new(uint32_t agents)
{
	struct world *world = calloc(1, sizeof(*world));
	uint64_t state = 42, slots = 0;

	base_bug(!world);
	world->agent_count = agents;
	world->agents = calloc(agents, sizeof(*world->agents));
	base_bug(!world->agents);
	for (uint32_t i = 0; i < agents; i++) {
		fill_agent(&world->agents[i], i, &state);
		slots += world->agents[i].slots;
	}
	world->fill = (uint32_t)(slots / 4);
	fill_world(world);
	return world;
}

struct world *world_free(struct world *world)
{
	if (world)
		free(world->agents);
	free(world);
	return NULL;
}
