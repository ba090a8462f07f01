/* SPDX-License-Identifier: Apache-2.0 */
/* One view over all generated map types; sorting, last-wins, lookups. Owns only the arrays that
 * fp_map_sorted gives. */
#include "map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.pb-c.h"
#include "fastpath.pb-c.h"
#include "fsb.pb-c.h"

#define ASSERT_ENTRY(type)                                                                         \
	_Static_assert(sizeof(type) == sizeof(struct fp_entry) &&                                  \
			       offsetof(type, key) == offsetof(struct fp_entry, key) &&            \
			       offsetof(type, value) == offsetof(struct fp_entry, value),          \
		       #type " is not laid out as struct fp_entry")

ASSERT_ENTRY(Fsb__V1__SandboxSpec__EnvsEntry);
ASSERT_ENTRY(Fsb__V1__SandboxSpec__ResourcesEntry);
ASSERT_ENTRY(Fsb__V1__SandboxMeta__LabelsEntry);
ASSERT_ENTRY(Fsb__V1__StringMap__EntriesEntry);
ASSERT_ENTRY(Fsb__V1__SandboxOptions__LabelsEntry);
ASSERT_ENTRY(Fsb__V1__MemberOverride__EnvsEntry);
ASSERT_ENTRY(Fsb__V1__Sandbox__LabelsEntry);
ASSERT_ENTRY(Fsb__V1__ListSandboxesRequest__LabelsEntry);
ASSERT_ENTRY(Fastpath__V1__CreateRequest__EnvsEntry);
ASSERT_ENTRY(Fastpath__V1__CreateRequest__LabelsEntry);
ASSERT_ENTRY(Fastpath__V1__CreateRequest__ResourcesEntry);
ASSERT_ENTRY(Fastpath__V1__UpdateRequest__LabelsEntry);

/* An entry and its place in the input: qsort is not stable, and the last of equal keys wins. */
struct placed {
	struct fp_entry *entry;
	size_t place;
};

static int placed_cmp(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;
	int c = strcmp(x->entry->key, y->entry->key);

	if (c)
		return c;
	return x->place < y->place ? -1 : x->place > y->place;
}

static size_t unique_last(const struct placed *from, size_t n, struct fp_entry **to)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (i + 1 < n && !strcmp(from[i].entry->key, from[i + 1].entry->key))
			continue;
		to[kept++] = from[i].entry;
	}
	return kept;
}

int fp_map_sorted(const struct fp_map *base, const struct fp_map *over, struct fp_map *ret)
{
	size_t n = base->n + (over ? over->n : 0);
	struct placed *placed;
	struct fp_entry **entries;

	*ret = (struct fp_map){0};
	if (n == 0)
		return 0;
	placed = calloc(n, sizeof(*placed));
	entries = calloc(n, sizeof(struct fp_entry *));
	if (!placed || !entries) {
		free(placed);
		free(entries);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++)
		placed[i] = (struct placed){
			i < base->n ? base->entries[i] : over->entries[i - base->n], i};
	qsort(placed, n, sizeof(*placed), placed_cmp);
	ret->n = unique_last(placed, n, entries);
	ret->entries = entries;
	free(placed);
	return 0;
}

void fp_map_free(struct fp_map *map)
{
	free(map->entries);
	*map = (struct fp_map){0};
}

const char *fp_map_get(const struct fp_map *map, const char *key)
{
	size_t low = 0, high = map->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(map->entries[mid]->key, key);

		if (c == 0)
			return map->entries[mid]->value;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

bool fp_map_has_all(const struct fp_map *map, const struct fp_map *want)
{
	for (size_t i = 0; i < want->n; i++) {
		const char *value = fp_map_get(map, want->entries[i]->key);

		if (!value || strcmp(value, want->entries[i]->value))
			return false;
	}
	return true;
}
