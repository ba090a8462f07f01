/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the quick start's run. */
#ifndef QS_DRIVE_INT_H
#define QS_DRIVE_INT_H

#include "drive.h"
#include "fsb.pb-c.h"

#define FSB_V1	  "/fsb.v1.SandboxService/"
#define FSB_ADMIN "/fsb.v1.AdminService/"

/* Counts a failed check and prints it (the first ten). status 0: message alone. */
void drive_fail(struct drive *d, const char *what, const char *name, int status,
		const char *message);
/* Which worker and agent served this create. */
void drive_note_use(struct drive *d, const Fsb__V1__Sandbox *sandbox);

/*
 * Calls start for each member, at most limit calls open at once, until all have ended. start is
 * called with the call counted in parallel.open; its callback, or start itself when there is
 * nothing to do, takes it off. False: out of memory.
 */
int drive_all(struct drive *d, int first, int count, int limit,
	      bool (*start)(struct member *member), struct err *err);
struct gchannel *drive_channel(const struct member *member);

#endif
