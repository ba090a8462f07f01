/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector over damaged contents: every look ends, every dump ends, no text without an end. */
#include <string.h>

#include "base/err.h"
#include "fuzz_bed.h"
#include "registry/inspect.h"

static void on_finding(void *arg, const struct reg_finding *f)
{
	uint64_t *n = arg;

	base_bug(!f->name || !f->text || !*f->where || strlen(f->where) >= sizeof(f->where));
	n[f->class_]++;
}

static void dump(struct reg_inspect *ins)
{
	static struct reg_inspect_sandbox sandbox;
	static struct reg_inspect_agent agent;
	struct reg_inspect_region region;
	struct reg_inspect_part part;
	struct reg_inspect_pool pool;
	uint32_t cursor;

	for (cursor = 0; reg_inspect_region_next(ins, &cursor, &region);)
		base_bug(!region.name);
	for (cursor = 0; reg_inspect_part_next(ins, &cursor, &part);)
		base_bug(part.idx >= REG_PARTICIPANTS_MAX);
	for (cursor = 0; reg_inspect_pool_next(ins, &cursor, &pool);)
		base_bug(strlen(pool.name) > REG_NAME_MAX);
	for (cursor = 0; reg_inspect_agent_next(ins, &cursor, &agent);)
		base_bug(strlen(agent.name) > REG_NAME_MAX || agent.held > REG_SLOTS_PER_AGENT_MAX);
	for (cursor = 0; reg_inspect_sandbox_next(ins, &cursor, &sandbox);)
		base_bug(sandbox.port_count > REG_PORTS_MAX || strlen(sandbox.id) > REG_ID_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t n[REG_FINDING_CLASSES] = {0};
	struct reg_inspect_header header;
	struct reg_inspect_sum sum;
	struct reg_inspect *ins;

	fuzz_restore();
	fuzz_patch(data, size);
	base_bug(reg_inspect_open(fuzz_path, &ins) != REG_OK);
	base_bug(reg_inspect_check(ins, on_finding, n, &sum) != REG_OK);
	for (int i = 0; i < REG_FINDING_CLASSES; i++)
		base_bug(n[i] != sum.findings[i]);
	reg_inspect_header(ins, &header);
	dump(ins);
	(void)reg_inspect_close(ins);
	return 0;
}
