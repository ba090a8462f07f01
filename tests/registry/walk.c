/* SPDX-License-Identifier: Apache-2.0 */
/* Makes worlds and scripts from seeds; see walk.h. */
#include "walk.h"

static const struct walk_world worlds[] = {
	/* every slot, name and port is fought over */
	{"tiny", .agents = 3, .pools = 1, .images = 2, .capacity = 3, .unlimited = 4,
	 .records = 4096, .names = 12, .rids = 8, .ports = 3, .parts = 3},
	/* so few records that their limit is met */
	{"scarce", .agents = 6, .pools = 2, .images = 3, .capacity = 8, .unlimited = 16,
	 .records = 64, .names = 120, .rids = 40, .ports = 4, .parts = 2},
	{"small", .agents = 40, .pools = 3, .images = 6, .capacity = 8, .unlimited = 16,
	 .records = 4096, .names = 400, .rids = 300, .ports = 6, .parts = 3},
	/* several stripes of 64 agents, pools that share them */
	{"wide", .agents = 300, .pools = 3, .images = 8, .capacity = 6, .unlimited = 12,
	 .records = 4096, .names = 2000, .rids = 900, .ports = 4, .parts = 3},
	/* one pool over all stripes, nearly level, so that every load counts */
	{"level", .agents = 200, .pools = 1, .images = 1, .capacity = 64, .unlimited = 64,
	 .records = 4096, .names = 2400, .rids = 900, .ports = 2, .level = true, .parts = 2},
};

/* Loads above the 1,000 that a missing image weighs. */
static const struct walk_world deep = {"deep",		.agents = 3,	  .pools = 1,
				       .images = 1,	.capacity = 1400, .unlimited = 1400,
				       .records = 4096, .names = 60000,	  .rids = 900,
				       .ports = 1,	.level = true,	  .parts = 2};

const char *walk_kind_name(unsigned kind)
{
#define WALK_NAME(name, weight) #name,
	static const char *const names[] = {WALK_KINDS(WALK_NAME)};
#undef WALK_NAME

	return kind < WALK_KIND_MAX ? names[kind] : "?";
}

/* pace 0: mostly ends, 9: mostly begins. */
static unsigned random_kind(uint64_t *random, uint32_t pace)
{
#define WALK_WEIGHT(name, weight) weight,
	static const uint8_t weights[] = {WALK_KINDS(WALK_WEIGHT)};
#undef WALK_WEIGHT
	uint32_t total = 0, at;

	if (rig_below(random, 20) < pace)
		return WALK_RESERVE;
	for (unsigned i = 0; i < WALK_KIND_MAX; i++)
		total += weights[i];
	at = rig_below(random, total);
	for (unsigned i = 0;; i++) {
		if (at < weights[i])
			return i;
		at -= weights[i];
	}
}

void walk_make(struct walk *walk, uint64_t seed)
{
	/* splitmix64: neighbouring seeds have nothing in common */
	uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	bool is_deep = seed % 40 == 39;
	uint32_t pace = 5;

	walk->seed = seed;
	for (int i = 0; i < 8; i++)
		(void)rig_random(&random);
	walk->world = is_deep ? deep : worlds[seed % (sizeof(worlds) / sizeof(*worlds))];
	walk->count = is_deep ? WALK_OPS : WALK_OPS / 2;
	for (uint32_t i = 0; i < walk->count; i++) {
		struct walk_op *op = &walk->ops[i];

		if (i % 300 == 0)
			pace = is_deep ? 19 : rig_below(&random, 10);
		*op = (struct walk_op){.kind = (uint8_t)random_kind(&random, pace),
				       .who = (uint8_t)rig_below(&random, 255),
				       .a = (uint16_t)rig_random(&random),
				       .b = (uint16_t)(rig_random(&random) >> 20),
				       .c = (uint16_t)(rig_random(&random) >> 20),
				       .d = (uint16_t)(rig_random(&random) >> 20),
				       .e = (uint16_t)(rig_random(&random) >> 20)};
		if (i < 30) { /* nothing happens without agents; many at once: walk_span */
			op->kind = i % 3 == 0 ? WALK_JOIN : i % 3 == 1 ? WALK_IMAGES : WALK_READY;
			op->e = 0;
		} else if (is_deep && op->kind <= WALK_REMOVE && op->a % 16) {
			op->kind = WALK_RESERVE; /* a change would undo the work of hundreds */
		}
	}
}
