/* SPDX-License-Identifier: Apache-2.0 */
/* The agents and requests of a case, by a generator with a fixed seed. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "world.h"

const char *world_images_name(enum world_images images)
{
	static const char *const names[IMAGES_MAX] = {"all",  "half", "uniform",
						      "zipf", "hot",  "none"};

	return names[images];
}

const char *world_image(uint32_t idx)
{
	static const char *const names[] = {"python",  "swe-bench", "terminal", "node",
					    "golang",  "browser",   "pytorch",	"rust",
					    "jupyter", "ruby",	    "postgres", "lean",
					    "java",    "android",   "verilog",	"ubuntu"};
	static char refs[WORLD_IMAGES][64];

	base_bug(idx >= WORLD_IMAGES);
	if (refs[idx][0] == '\0')
		(void)snprintf(refs[idx], sizeof(refs[idx]), "registry.example.com/team/%s:%u",
			       names[idx % 16], 3 + idx / 16);
	return refs[idx];
}

/* Image i with a weight of 1 / (i + 1). */
static uint32_t zipf_draw(uint64_t *state)
{
	static double sums[WORLD_IMAGES];
	double at;
	uint32_t i = 0;

	if (sums[0] == 0)
		for (uint32_t k = 0; k < WORLD_IMAGES; k++)
			sums[k] = (k ? sums[k - 1] : 0) + 1.0 / (k + 1);
	at = (double)(world_random(state) >> 11) * 0x1p-53 * sums[WORLD_IMAGES - 1];
	while (i < WORLD_IMAGES - 1 && sums[i] <= at)
		i++;
	return i;
}

static uint32_t request_image(enum world_images images, uint64_t *state)
{
	switch (images) {
	case IMAGES_UNIFORM:
		return (uint32_t)(world_random(state) % 16);
	case IMAGES_ZIPF:
		return zipf_draw(state);
	case IMAGES_NONE:
		return WORLD_IMAGES - 1;
	default:
		return 0;
	}
}

/* One of the images that an agent has beside those that the case gives it. */
static uint32_t agent_image(enum world_images images, uint64_t *state)
{
	switch (images) {
	case IMAGES_UNIFORM:
		return (uint32_t)(world_random(state) % 16);
	case IMAGES_ZIPF:
		return zipf_draw(state);
	default:
		return 1 + (uint32_t)(world_random(state) % (WORLD_IMAGES - 2));
	}
}

/* Of those that ask for one image: spread over the table. */
static bool has_image_0(enum world_images images, uint32_t idx, uint64_t *state)
{
	switch (images) {
	case IMAGES_ALL:
		return true;
	case IMAGES_HALF:
		return world_random(state) & 1;
	case IMAGES_HOT:
		return idx % 100 == 37;
	default:
		return false;
	}
}

static void fill_agent(struct world_agent *agent, uint32_t idx, const struct world_spec *spec,
		       uint64_t *state)
{
	uint32_t n = 0;

	(void)snprintf(agent->name, sizeof(agent->name), "agent-%06u-%04x", idx,
		       (unsigned int)(world_random(state) & 0xffff));
	if (has_image_0(spec->images, idx, state))
		agent->images[n++] = 0;
	agent->image_bits = n;
	while (n < WORLD_IMAGES_PER_AGENT) {
		uint32_t image = agent_image(spec->images, state);

		if (agent->image_bits >> image & 1)
			continue;
		agent->image_bits |= UINT64_C(1) << image;
		agent->images[n++] = (uint8_t)image;
	}
}

static void fill_counts(struct world *world)
{
	const struct world_spec *spec = &world->spec;

	world->slots = (uint64_t)spec->agents * WORLD_SLOTS;
	world->fill = spec->free_slots >= 0 ? world->slots - (uint64_t)spec->free_slots
					    : world->slots * spec->fill_percent / 100;
	world->circulating = spec->still ? 0 : WORLD_CIRCULATING;
	while (world->circulating > world->fill / 2)
		world->circulating /= 2;
}

struct world *world_new(const struct world_spec *spec)
{
	struct world *world = calloc(1, sizeof(*world));
	uint64_t state = 42;

	base_bug(!world);
	world->spec = *spec;
	world->agents = calloc(spec->agents, sizeof(*world->agents));
	world->by_id = calloc(WORLD_AGENTS_MAX, sizeof(*world->by_id));
	base_bug(!world->agents || !world->by_id);
	for (uint32_t i = 0; i < spec->agents; i++)
		fill_agent(&world->agents[i], i, spec, &state);
	for (uint32_t i = 0; i < WORLD_DRAWS; i++)
		world->draws[i] = (uint8_t)request_image(spec->images, &state);
	fill_counts(world);
	return world;
}

uint32_t world_image_agents(const struct world *world, uint32_t image)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < world->spec.agents; i++)
		count += world->agents[i].image_bits >> image & 1;
	return count;
}

uint32_t world_base_of(const struct world *world, uint32_t idx)
{
	uint64_t base = world->fill - world->circulating, agents = world->spec.agents;

	return (uint32_t)(base / agents + (idx < base % agents));
}

struct world *world_free(struct world *world)
{
	if (world) {
		free(world->agents);
		free(world->by_id);
	}
	free(world);
	return NULL;
}
