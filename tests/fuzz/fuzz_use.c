/* SPDX-License-Identifier: Apache-2.0 */
/* What a process does with a damaged arena that it could attach: every reader, and on demand what
 * workers and registryd change. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "fuzz_bed.h"
#include "registry/registry.h"

enum { MANY = 10000 };

static void use_sandboxes(struct reg_self *me)
{
	static const char *const names[] = {"r1", "s1", "b1", "b2", "e1", "l1", "g1", "t1", "no"};
	static char buf[REG_SPEC_MAX];
	struct reg_sandbox_view view;
	uint32_t cursor = 0, len;

	for (int n = 0; n < MANY && reg_next(me, &cursor, NULL, &view); n++) {
		base_bug(strnlen(view.name, sizeof(view.name)) == sizeof(view.name));
		base_bug(view.port_count > REG_PORTS_MAX);
		(void)!reg_spec(me, view.sandbox, buf, sizeof(buf), &len);
		(void)!reg_labels(me, view.sandbox, buf, sizeof(buf), &len);
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)!reg_get(me, "default", names[i], &view);
}

static void use_rows(struct reg *reg, struct reg_self *me)
{
	struct reg_agent_view agent;
	struct reg_pool_view pool;
	struct reg_participant part;
	struct reg_hist_view hist;
	struct reg_counters counters;
	char ref[REG_IMAGE_MAX + 1];
	uint32_t cursor, count;

	cursor = 0;
	for (int n = 0; n < MANY && reg_agent_next(me, &cursor, &agent); n++)
		for (uint32_t at = 0, i = 0;
		     i < 100 && reg_agent_image_next(me, agent.id, &at, ref);)
			i++;
	cursor = 0;
	for (int n = 0; n < MANY && reg_image_next(me, &cursor, ref, &count); n++)
		base_bug(strlen(ref) > REG_IMAGE_MAX);
	cursor = 0;
	for (int n = 0; n < MANY && reg_pool_next(me, &cursor, &pool); n++)
		base_bug(strlen(pool.name) > REG_NAME_MAX);
	cursor = 0;
	for (int n = 0; n < MANY && reg_participant_next(me, &cursor, &part); n++)
		;
	for (int i = 0; i < REG_HIST_MAX; i++)
		reg_hist_get(reg, (enum reg_hist)i, &hist);
	reg_counters_get(reg, &counters);
	(void)reg_dirty_count(reg);
	(void)reg_store_lag_ns(me);
}

static void abort_orphan(void *me, const struct reg_orphan *orphan)
{
	(void)reg_abort(me, &orphan->lease);
}

static void change(struct reg_self *me)
{
	uint16_t ports[2] = {81, 80};
	struct reg_request req = {.ns = "default",
				  .name = "new",
				  .id = "new",
				  .pool = "pool",
				  .image = "img",
				  .request_id = "new",
				  .ports = ports,
				  .port_count = 2};
	struct reg_reap_result result;
	struct reg_sandbox_view view;
	struct reg_lease lease;
	reg_sandbox_id taken[16];
	uint32_t cursor = 0;

	for (int i = 0; i < 3; i++, req.port_count = 0)
		if (reg_reserve(me, &req, &lease) == REG_OK)
			(void)reg_abort(me, &lease);
	(void)reg_reap(me, abort_orphan, me, &result);
	for (int n = 0; n < 100 && reg_next(me, &cursor, NULL, &view); n++) {
		(void)reg_update(me, view.sandbox,
				 &(struct reg_update){
					 .fields = REG_SET_LABELS, .labels = "l", .labels_len = 1});
		(void)!reg_stop(me, view.sandbox, REG_STOP_DELETE, NULL);
		(void)reg_stopped(me, view.sandbox, NULL);
	}
	for (uint32_t n = reg_dirty_take(me, taken, 16); n > 0 && n <= 16; n--)
		if (reg_store_begin(me, taken[n - 1], &view) == REG_OK)
			(void)reg_store_forgotten(me, taken[n - 1]);
	(void)reg_scrub(me);
}

void fuzz_use(int changes)
{
	struct reg_books books;
	struct reg_self *me;
	struct reg *reg;

	if (reg_attach(fuzz_path, &reg) != REG_OK)
		return;
	if (reg_join(reg, REG_KIND_WORKER, &me) == REG_OK) {
		use_sandboxes(me);
		use_rows(reg, me);
		reg_books(me, &books);
		if (changes) {
			change(me);
			use_sandboxes(me);
		}
		(void)reg_leave(me);
	}
	(void)reg_detach(reg);
}
