/* SPDX-License-Identifier: Apache-2.0 */
/* The index map against a plain array, with keys that crowd together. */
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "map.h"

enum { KEYS = 512, STEPS = 200000 };

static void test_against_array(void **state)
{
	static int values[KEYS];
	static void *oracle[KEYS];
	struct rd_map map = {0};
	uint32_t count = 0;
	unsigned int seed = 1;

	for (int i = 0; i < STEPS; i++) {
		uint32_t key = (uint32_t)rand_r(&seed) % KEYS;

		if (rand_r(&seed) % 2) {
			count += !oracle[key];
			oracle[key] = &values[rand_r(&seed) % KEYS];
			assert_int_equal(rd_map_put(&map, key, oracle[key]), 0);
		} else {
			count -= oracle[key] != NULL;
			assert_ptr_equal(rd_map_del(&map, key), oracle[key]);
			oracle[key] = NULL;
		}
		assert_int_equal(map.count, count);
		key = (uint32_t)rand_r(&seed) % KEYS;
		assert_ptr_equal(rd_map_get(&map, key), oracle[key]);
	}
	for (uint32_t key = 0; key < KEYS; key++)
		assert_ptr_equal(rd_map_get(&map, key), oracle[key]);
	rd_map_done(&map);
	assert_null(rd_map_get(&map, 1));
	assert_null(rd_map_del(&map, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_array)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
