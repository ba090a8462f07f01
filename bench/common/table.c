/* SPDX-License-Identifier: Apache-2.0 */
/* See table.h. */
#include "table.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_SIZE = 1024 };

/* FNV-1a, then a finaliser, since only the low bits choose the bucket. */
uint64_t table_hash(const char *text, uint64_t seed)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ seed;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	h ^= h >> 32;
	return h * UINT64_C(0x9e3779b97f4a7c15) >> 16;
}

static int grow(struct table *table)
{
	size_t size = table->size ? 2 * table->size : FIRST_SIZE;
	struct table_node **buckets = calloc(size, sizeof(struct table_node *));

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; i < table->size; i++) {
		struct table_node *node = table->buckets[i], *next;

		for (; node; node = next) {
			next = node->next;
			node->next = buckets[node->hash & (size - 1)];
			buckets[node->hash & (size - 1)] = node;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->size = size;
	return 0;
}

int table_add(struct table *table, struct table_node *node, uint64_t hash)
{
	struct table_node **at;

	if (table->count >= table->size && grow(table) && !table->size)
		return -ENOMEM;
	at = &table->buckets[hash & (table->size - 1)];
	node->hash = hash;
	node->next = *at;
	*at = node;
	table->count++;
	return 0;
}

void table_del(struct table *table, struct table_node *node)
{
	struct table_node **at = &table->buckets[node->hash & (table->size - 1)];

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	table->count--;
}

struct table_node *table_chain(const struct table *table, uint64_t hash)
{
	return table->size ? table->buckets[hash & (table->size - 1)] : NULL;
}

void table_done(struct table *table)
{
	free(table->buckets);
	*table = (struct table){0};
}
