/* SPDX-License-Identifier: Apache-2.0 */
/* uint32 index → pointer, open addressing. Process-local bookkeeping only; nothing of it is in the
 * arena. */
#ifndef REGISTRYD_MAP_H
#define REGISTRYD_MAP_H

#include <stdbool.h>
#include <stdint.h>

struct rd_map {
	struct rd_map_cell *cells;
	uint32_t size; /* power of two or 0 */
	uint32_t count;
};

struct rd_map_cell {
	uint32_t key;
	void *value; /* NULL: empty */
};

void *rd_map_get(const struct rd_map *map, uint32_t key);
/* Replaces. value is not NULL. -ENOMEM. */
int rd_map_put(struct rd_map *map, uint32_t key, void *value);
/* Returns what was there, or NULL. */
void *rd_map_del(struct rd_map *map, uint32_t key);
/* Frees the cells, not the values. */
void rd_map_done(struct rd_map *map);

#endif
