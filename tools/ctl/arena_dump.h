/* SPDX-License-Identifier: Apache-2.0 */
/* What `fsb-ctl arena dump` prints: the sections of an arena, as tables or as JSON. */
#ifndef CTL_ARENA_DUMP_H
#define CTL_ARENA_DUMP_H

#include "ctl.h"
#include "msg.h"
#include "registry/inspect.h"
#include "text.h"

enum { ARENA_UNREADABLE = 3 }; /* exit status */

enum {
	ARENA_HEADER = 1,
	ARENA_PARTICIPANTS = 2,
	ARENA_POOLS = 4,
	ARENA_AGENTS = 8,
	ARENA_SANDBOXES = 16,
	ARENA_ALL = 31,
};
#define ARENA_ANY UINT32_MAX /* state */

struct arena_dump {
	struct ctl *ctl;
	struct reg_inspect *ins;
	bool json;
	unsigned int sections;
	const char *pool;   /* NULL: all */
	unsigned int state; /* of sandboxes; ARENA_ANY */
};

/* Adds the section of that name; -EINVAL names what would be right. */
int arena_section(const char *name, unsigned int *sections, struct err *err);
/* Of an arena that can't be read only the header. */
void arena_dump(const struct arena_dump *what, const struct reg_inspect_header *header);

#endif
