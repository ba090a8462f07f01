/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table of nodes that are part of the caller's structs; grows, never shrinks. */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_node {
	struct table_node *next;
	uint64_t hash;
};

struct table {
	struct table_node **buckets;
	size_t size, count; /* size: a power of two, or 0 */
};

uint64_t table_hash(const char *text, uint64_t seed);
/* -ENOMEM only for the first node: a table that can't grow becomes slow. */
int table_add(struct table *table, struct table_node *node, uint64_t hash);
void table_del(struct table *table, struct table_node *node);
/* The chain to look through; nodes of other hashes are in it, too. */
struct table_node *table_chain(const struct table *table, uint64_t hash);
/* Frees the buckets, not the nodes. */
void table_done(struct table *table);

#endif
