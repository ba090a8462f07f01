/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf-c makes every map<string, string> an array of messages of a type of its own, with
 * duplicates kept and in wire order. All these types have one layout (asserted in map.c), so that
 * one struct serves them; sorted and without duplicates is how we encode and hash them.
 */
#ifndef FASTPATH_MAP_H
#define FASTPATH_MAP_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct fp_entry {
	ProtobufCMessage base;
	char *key;
	char *value;
};

/* protobuf-c's strings are char *, though packing never writes to them. */
static inline char *fp_borrow(const char *text)
{
	union {
		const char *in;
		char *out;
	} u = {.in = text};

	return u.out;
}

/* Borrows the entries. */
struct fp_map {
	size_t n;
	struct fp_entry **entries;
};

#define FP_MAP(msg, field)                                                                         \
	((struct fp_map){.n = (msg)->n_##field, .entries = (struct fp_entry **)(msg)->field})

/*
 * base's entries overlaid by over's (may be NULL), sorted by key, of equal keys the last one given.
 * The array is malloc'ed (gives: fp_map_free), the entries stay borrowed. 0 or -ENOMEM.
 */
int fp_map_sorted(const struct fp_map *base, const struct fp_map *over, struct fp_map *ret);
void fp_map_free(struct fp_map *map);
/* NULL when absent. map is sorted. */
const char *fp_map_get(const struct fp_map *map, const char *key);
/* Every entry of want is in map with the same value. Both are sorted. */
bool fp_map_has_all(const struct fp_map *map, const struct fp_map *want);

#endif
