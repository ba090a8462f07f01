/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dead arena to be poked: made by a process that is gone, mapped by the test without attaching,
 * so that the inspector may open and close the file here. Every word is reached by the layout's
 * arithmetic.
 */
#ifndef TESTS_REGISTRY_BED_H
#define TESTS_REGISTRY_BED_H

#include "internal.h"
#include "registry/inspect.h"
#include "rig.h"

struct bed {
	struct rig rig; /* the path only */
	struct reg geo; /* constants and spans */
	uint8_t *map;
	uint64_t size;
	/* what was in the file's pages when it was made */
	struct bed_extent {
		uint64_t at, len;
		uint8_t *bytes;
	} extents[512];
	uint32_t n_extents;
};

/* Every kind of thing in it, all participants gone in peace: nothing to find. */
void bed_make(struct bed *bed);
/* The same, and one more participant that was killed with every kind of thing in its hands. */
void bed_make_killed(struct bed *bed);
void bed_free(struct bed *bed);
/* The bytes as they were made. */
void bed_restore(struct bed *bed);
/* How many bytes of the file differ from what was made; pages that were holes must be holes still.
 */
uint64_t bed_changed(const struct bed *bed);

void *bed_at(const struct bed *bed, enum reg_region region, uint64_t off);
struct reg_header *bed_header(const struct bed *bed);
struct reg_part *bed_part(const struct bed *bed, uint32_t idx);
struct reg_rec *bed_rec(const struct bed *bed, uint32_t idx);
struct reg_agent *bed_agent(const struct bed *bed, uint32_t idx);
a64 *bed_cell(const struct bed *bed, enum reg_cells_kind kind, uint32_t idx);
/* Index of the record of that name; fails the test when there is none. */
uint32_t bed_find(const struct bed *bed, const char *name);
a64 *bed_slot_of(const struct bed *bed, uint32_t record);
/* The entry that leads to that cell; the first of them. *ret_bucket may be NULL. */
a64 *bed_entry(const struct bed *bed, enum reg_index_kind kind, uint32_t cell,
	       uint32_t *ret_bucket);
struct reg_bucket *bed_bucket(const struct bed *bed, enum reg_index_kind kind, uint32_t bucket);

#endif
