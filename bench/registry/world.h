/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agents and the requests of a case, the same at each call with the same numbers: every subject
 * meets the same ones.
 */
#ifndef BENCH_WORLD_H
#define BENCH_WORLD_H

#include <stdbool.h>
#include <stdint.h>

enum {
	WORLD_AGENTS_MAX = 131072,
	WORLD_IMAGES = 64, /* an image is a bit of a word */
	WORLD_IMAGES_PER_AGENT = 8,
	WORLD_SLOTS = 16, /* of each agent: all are equal */
	WORLD_DRAWS = 4096,
	WORLD_CIRCULATING = 256, /* leases that come and go, over all processes */
	WORLD_PORTS = 64,	 /* port numbers that requests choose from */
};

#define WORLD_NAMESPACE "default"
#define WORLD_POOL	"default-pool"

enum world_images {
	IMAGES_ALL,	/* one image is asked for, every agent has it */
	IMAGES_HALF,	/* one image is asked for, half of the agents have it */
	IMAGES_UNIFORM, /* 16 images are asked for alike, each agent has 8 of them */
	IMAGES_ZIPF, /* 64 images, asked for and cached by Zipf's law: often means on nearly all */
	IMAGES_HOT,  /* one image is asked for, 1 % of the agents have it */
	IMAGES_NONE, /* the image that is asked for is on no agent */
	IMAGES_MAX
};

struct world_spec {
	uint32_t agents;
	uint32_t fill_percent;
	int64_t free_slots;	/* -1: by fill_percent */
	int64_t free_hot_slots; /* IMAGES_HOT: of agents with the image; -1: as it comes */
	enum world_images images;
	bool ports; /* each request wants one of WORLD_PORTS */
	bool still; /* nothing circulates: all that is held is base */
};

struct world_agent {
	char name[32];
	uint8_t images[WORLD_IMAGES_PER_AGENT];
	uint64_t image_bits;
};

struct world {
	struct world_spec spec;
	uint64_t slots;	      /* of all agents */
	uint64_t fill;	      /* held while measuring */
	uint32_t circulating; /* the part of it that comes and goes; a power of two */
	struct world_agent *agents;
	uint8_t draws[WORLD_DRAWS];	  /* images of requests, in this order */
	const struct world_agent **by_id; /* agents by the registry's ids; filled by arena_new */
};

/* Aborts when out of memory. gives. */
struct world *world_new(const struct world_spec *spec);
struct world *world_free(struct world *world);
/* Canonical reference. */
const char *world_image(uint32_t idx);
const char *world_images_name(enum world_images images);
/* Agents that have the image. */
uint32_t world_image_agents(const struct world *world, uint32_t image);
/* Slots of agent idx that are held and don't circulate, level over all agents. */
uint32_t world_base_of(const struct world *world, uint32_t idx);

/* splitmix64, public domain (S. Vigna) */
static inline uint64_t world_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

#endif
