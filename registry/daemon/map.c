/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing with backward-shift deletion, so there are no tombstones; at most half full. */
#include "map.h"

#include <errno.h>
#include <stdlib.h>

static uint32_t home(const struct rd_map *map, uint32_t key)
{
	return (key * UINT32_C(2654435761)) & (map->size - 1);
}

/* The cell of key, or the empty one where it would go. */
static uint32_t find(const struct rd_map *map, uint32_t key)
{
	uint32_t i = home(map, key);

	while (map->cells[i].value && map->cells[i].key != key)
		i = (i + 1) & (map->size - 1);
	return i;
}

void *rd_map_get(const struct rd_map *map, uint32_t key)
{
	return map->size ? map->cells[find(map, key)].value : NULL;
}

static int grow(struct rd_map *map)
{
	struct rd_map bigger = {.size = map->size ? map->size * 2 : 64, .count = map->count};

	bigger.cells = calloc(bigger.size, sizeof(*bigger.cells));
	if (!bigger.cells)
		return -ENOMEM;
	for (uint32_t i = 0; i < map->size; i++) {
		if (map->cells[i].value)
			bigger.cells[find(&bigger, map->cells[i].key)] = map->cells[i];
	}
	free(map->cells);
	*map = bigger;
	return 0;
}

int rd_map_put(struct rd_map *map, uint32_t key, void *value)
{
	uint32_t i;

	if (map->count * 2 >= map->size) {
		int r = grow(map);

		if (r < 0)
			return r;
	}
	i = find(map, key);
	if (!map->cells[i].value)
		map->count++;
	map->cells[i] = (struct rd_map_cell){.key = key, .value = value};
	return 0;
}

/* A cell may move back into the hole unless its home lies cyclically after the hole. */
static bool may_fill(const struct rd_map *map, uint32_t hole, uint32_t i)
{
	uint32_t mask = map->size - 1;

	return ((i - home(map, map->cells[i].key)) & mask) >= ((i - hole) & mask);
}

void *rd_map_del(struct rd_map *map, uint32_t key)
{
	uint32_t hole, i;
	void *value;

	if (!map->size)
		return NULL;
	hole = find(map, key);
	value = map->cells[hole].value;
	if (!value)
		return NULL;
	for (i = (hole + 1) & (map->size - 1); map->cells[i].value; i = (i + 1) & (map->size - 1)) {
		if (may_fill(map, hole, i)) {
			map->cells[hole] = map->cells[i];
			hole = i;
		}
	}
	map->cells[hole].value = NULL;
	map->count--;
	return value;
}

void rd_map_done(struct rd_map *map)
{
	free(map->cells);
	*map = (struct rd_map){0};
}
