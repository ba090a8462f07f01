/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The --members file of a batch: one JSON object a line, {"command": [...], "args": [...], "envs":
 * {...}, "index": N}, all optional; without index the line's number (from 0) is the member's. Empty
 * lines are skipped and not counted.
 */
#ifndef CTL_MEMBERS_H
#define CTL_MEMBERS_H

#include <stddef.h>

#include "base/err.h"
#include "fsb.pb-c.h"

#include "mem.h"

struct members {
	Fsb__V1__MemberOverride **items;
	size_t n;
	int highest_index; /* -1: none */
};

/* 0, or -EINVAL with "FILE:LINE: what is wrong". */
int members_load(const char *path, struct mem *mem, struct members *ret, struct err *err);
int members_parse(const char *name, const char *text, struct mem *mem, struct members *ret,
		  struct err *err);

#endif
