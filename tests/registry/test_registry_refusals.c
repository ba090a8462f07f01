/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals: arguments out of range, limits of the arena, pools, capacity and ports; each typed, and
 * nothing stays held. */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text_of(uint32_t len)
{
	char *text = malloc(len + 1);

	CHECK(text);
	memset(text, 'x', len);
	text[len] = '\0';
	return text;
}

static void test_lengths(void **state)
{
	struct rig *rig = *state;
	struct {
		size_t offset;
		uint32_t max;
	} texts[] = {
		{offsetof(struct reg_request, ns), REG_NAMESPACE_MAX},
		{offsetof(struct reg_request, name), REG_NAME_MAX},
		{offsetof(struct reg_request, id), REG_ID_MAX},
		{offsetof(struct reg_request, image), REG_IMAGE_MAX},
		{offsetof(struct reg_request, request_id), REG_REQUEST_ID_MAX},
	};
	struct reg_lease lease;

	(void)rig_agent(rig, "a", 4);
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char *fits = text_of(texts[i].max), *long_one = text_of(texts[i].max + 1);
		struct reg_request req = rig_request("one");

		rig_note("text %u", i);
		*(const char **)((char *)&req + texts[i].offset) = long_one;
		CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_TOO_LARGE);
		*(const char **)((char *)&req + texts[i].offset) = fits;
		if (i > 0) { /* there is no pool in the long namespace */
			struct reg_sandbox_view view;

			CHECK_OK(reg_reserve(rig->me, &req, &lease));
			CHECK_OK(reg_view(rig->me, lease.sandbox, &view));
			CHECK_STR(view.name, req.name);
			CHECK_STR(view.id, req.id);
			CHECK_STR(view.image, req.image);
			CHECK_STR(view.request_id, req.request_id ? req.request_id : "");
			CHECK_OK(reg_abort(rig->me, &lease));
		} else {
			CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_POOL);
		}
		free(fits);
		free(long_one);
	}
	CHECK_EMPTY(rig);
}

static void test_blobs(void **state)
{
	struct rig *rig = *state;
	static const uint32_t sizes[] = {0,    1,    511,  512,	  513,	 2047,	2048, 2049,
					 8191, 8192, 8193, 32768, 65535, 65536, 65537};
	char *spec = text_of(REG_SPEC_MAX + 1), *got = text_of(REG_SPEC_MAX + 1);
	struct reg_lease lease;
	uint32_t len;

	(void)rig_agent(rig, "a", 1);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct reg_request req = rig_request("one");
		uint32_t n = sizes[i];

		rig_note("spec of %u bytes", n);
		for (uint32_t at = 0; at < n; at++)
			spec[at] = (char)(at * 31 + n);
		req.spec = spec;
		req.spec_len = n;
		req.labels = n <= REG_LABELS_MAX ? spec : NULL;
		req.labels_len = n <= REG_LABELS_MAX ? n : 0;
		if (n > REG_SPEC_MAX) {
			CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_TOO_LARGE);
			continue;
		}
		CHECK_OK(reg_reserve(rig->me, &req, &lease));
		CHECK_OK(reg_spec(rig->me, lease.sandbox, got, REG_SPEC_MAX, &len));
		CHECK_EQ(len, n);
		CHECK(memcmp(got, spec, n) == 0);
		CHECK_OK(reg_labels(rig->me, lease.sandbox, got, REG_SPEC_MAX, &len));
		CHECK_EQ(len, req.labels_len);
		CHECK(memcmp(got, spec, len) == 0);
		if (n > 0) {
			CHECK_ST(reg_spec(rig->me, lease.sandbox, got, n - 1, &len), REG_TOO_LARGE);
			CHECK_EQ(len, n);
		}
		CHECK_OK(reg_abort(rig->me, &lease));
	}
	free(spec);
	free(got);
	CHECK_EMPTY(rig);
}

static void test_labels_too_large(void **state)
{
	struct rig *rig = *state;
	char *labels = text_of(REG_LABELS_MAX + 1);
	struct reg_request req = rig_request("one");
	struct reg_update update = {.fields = REG_SET_LABELS, .labels = labels};
	struct reg_lease lease;

	(void)rig_agent(rig, "a", 1);
	req.labels = labels;
	req.labels_len = REG_LABELS_MAX + 1;
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_TOO_LARGE);
	req.labels_len = REG_LABELS_MAX;
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	update.labels_len = REG_LABELS_MAX + 1;
	CHECK_ST(reg_update(rig->me, lease.sandbox, &update), REG_TOO_LARGE);
	CHECK_OK(reg_abort(rig->me, &lease));
	free(labels);
	CHECK_EMPTY(rig);
}

static void test_invalid_arguments(void **state)
{
	struct rig *rig = *state;
	uint16_t twice[] = {80, 80}, zero[] = {0}, many[REG_PORTS_MAX + 1];
	struct reg_request req;
	struct reg_lease lease;

	(void)rig_agent(rig, "a", 4);
	for (int i = 0; i <= REG_PORTS_MAX; i++)
		many[i] = (uint16_t)(1000 + i);
	for (int i = 0; i < 7; i++) {
		req = rig_request("one");
		rig_note("case %d", i);
		switch (i) {
		case 0:
			req.name = "";
			break;
		case 1:
			req.name = NULL;
			break;
		case 2:
			req.id = "";
			break;
		case 3:
			req.ns = NULL;
			break;
		case 4:
			req.ports = twice;
			req.port_count = 2;
			break;
		case 5:
			req.ports = zero;
			req.port_count = 1;
			break;
		default:
			req.ports = many;
			req.port_count = REG_PORTS_MAX + 1;
			break;
		}
		CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_INVALID);
	}
	req = rig_request("one");
	req.ports = many;
	req.port_count = REG_PORTS_MAX;
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_OK(reg_abort(rig->me, &lease));
	CHECK_EMPTY(rig);
}

static void test_capacity_and_pools(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_pool_view pool;
	struct reg_agent_view agent;
	struct reg_lease lease;
	reg_agent_id a;
	uint32_t cursor = 0;

	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_POOL);
	a = rig_agent(rig, "a", 3);
	(void)rig_agent_in(rig, "b", "other", 0); /* unlimited: the configured maximum */
	rig_check_free_slots(rig, "pool", 3);
	rig_check_free_slots(rig, "other", rig_limits.slots_per_agent_unlimited);
	CHECK_OK(reg_agent_set_ready(rig->me, a, false));
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_CAPACITY);
	CHECK_OK(reg_agent_set_ready(rig->me, a, true));
	rig_check_free_slots(rig, "pool", 3);
	CHECK_OK(reg_agent_get(rig->me, a, &agent));
	CHECK_EQ(agent.capacity, 3);
	CHECK_EQ(agent.slots, 3);
	CHECK_STR(agent.pool, "pool");
	(void)rig_agent(rig, "a", 5); /* joins again with more */
	rig_check_free_slots(rig, "pool", 5);
	(void)rig_agent(rig, "a", 2); /* and with less */
	rig_check_free_slots(rig, "pool", 2);
	while (reg_pool_next(rig->me, &cursor, &pool))
		if (strcmp(pool.name, "pool") == 0)
			break;
	CHECK_STR(pool.name, "pool");
	CHECK_EQ(pool.agents, 1);
	CHECK_EQ(pool.ready_agents, 1);
	CHECK_EQ(pool.slots, 2);
	CHECK_EQ(pool.allocated, 0);
	CHECK_EQ(pool.unmet_demand, 5);
	req.ns = "elsewhere";
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_POOL);
	CHECK_EMPTY(rig);
}

static void test_ports(void **state)
{
	struct rig *rig = *state;
	struct reg_request one = rig_request("one"), two = rig_request("two");
	uint16_t first[] = {90, 80}, second[] = {70, 80}, third[] = {70, 60};
	struct reg_lease a, b, c;

	(void)rig_agent(rig, "a", 4);
	one.ports = first;
	one.port_count = two.port_count = 2;
	two.ports = second;
	CHECK_OK(reg_reserve(rig->me, &one, &a));
	CHECK_ST(reg_reserve(rig->me, &two, &b), REG_PORT_CONFLICT);
	(void)rig_agent(rig, "b", 1); /* another agent, other ports */
	CHECK_OK(reg_reserve(rig->me, &two, &b));
	CHECK(b.agent.idx != a.agent.idx);
	two = rig_request("three");
	two.ports = third;
	two.port_count = 2;
	CHECK_OK(
		reg_reserve(rig->me, &two, &c)); /* 70 is free on a: the refused one gave it back */
	CHECK_EQ(c.agent.idx, a.agent.idx);
	CHECK_OK(reg_abort(rig->me, &a));
	CHECK_OK(reg_abort(rig->me, &b));
	CHECK_OK(reg_abort(rig->me, &c));
	CHECK_EMPTY(rig);
}

static void test_limit_sandboxes(void **state)
{
	struct rig rig = {0};
	struct reg_limits limits = rig_limits;
	struct reg_lease leases[33];
	struct reg_request req;
	char name[16];

	limits.sandboxes = 32;
	rig_open(&rig, &limits);
	(void)rig_agent(&rig, "a", 64);
	reg_limits_get(rig.reg, &limits);
	CHECK(limits.sandboxes >= 32);
	for (int i = 0; i < 33; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		req = rig_request(name);
		req.request_id = name;
		CHECK_ST(reg_reserve(rig.me, &req, &leases[i]),
			 i < 32 ? REG_OK : REG_LIMIT_SANDBOXES);
	}
	CHECK_OK(reg_abort(rig.me, &leases[7]));
	CHECK_OK(reg_reserve(rig.me, &req, &leases[7]));
	rig_delete_all(&rig);
	CHECK_EMPTY(&rig);
	rig_close(&rig);
}

static void test_limits_of_agents_pools_images(void **state)
{
	struct rig rig = {0};
	struct reg_limits limits = {.agents = 4, .sandboxes = 64, .pools = 3, .images = 4};
	struct reg_agent_info info = {
		.ns = "default", .node = "", .address = "x", .host_ip = "", .capacity = 1};
	const char *images[] = {"i0", "i1", "i2", "i3", "i4"};
	reg_agent_id id;
	char name[16];

	rig_open(&rig, &limits);
	for (int i = 0; i < 5; i++) {
		(void)snprintf(name, sizeof(name), "a%d", i);
		info.name = name;
		info.pool = "p";
		CHECK_ST(reg_agent_join(rig.me, &info, &id), i < 4 ? REG_OK : REG_LIMIT_AGENTS);
	}
	info.name = "a0";
	for (int i = 0; i < 3; i++) {
		(void)snprintf(name, sizeof(name), "p%d", i);
		info.pool = name;
		CHECK_ST(reg_agent_join(rig.me, &info, &id), i < 2 ? REG_OK : REG_LIMIT_POOLS);
	}
	CHECK_OK(reg_agent_find(rig.me, "default", "a0", &id));
	CHECK_OK(reg_agent_set_images(rig.me, id, images, 4));
	CHECK_ST(reg_agent_set_images(rig.me, id, images, 5), REG_LIMIT_IMAGES);
	CHECK_ST(reg_agent_find(rig.me, "default", "a9", &id), REG_NOT_FOUND);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lengths, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_blobs, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_labels_too_large, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_invalid_arguments, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_capacity_and_pools, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_ports, rig_setup, rig_teardown),
		cmocka_unit_test(test_limit_sandboxes),
		cmocka_unit_test(test_limits_of_agents_pools_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
