/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named failpoints for tests, compiled in with -DFSB_FAILPOINTS only (the release preset has none).
 * $FSB_FAILPOINT is "name=action[@count][,…]": action kill (SIGKILL), stop (SIGSTOP), exit,
 * sleep:MS or err; @N acts at the Nth pass only. $FSB_FAILPOINT_ROLE, when set, limits them to
 * processes that called failpoint_role() with that text. A pass that acts first writes the
 * failpoint's name to $FSB_FAILPOINT_TRACE (append) when that is set.
 */
#ifndef BASE_FAILPOINT_H
#define BASE_FAILPOINT_H

#include <stdbool.h>

#ifdef FSB_FAILPOINTS
extern bool failpoint_armed; /* any failpoint is set in this process */
/* true: the action is "err" and the caller shall fail at this place. */
bool failpoint_hit(const char *name);
/* Re-reads the environment text; for tests inside one process. NULL disarms. */
void failpoint_set(const char *text);
void failpoint_role(const char *role);
/* Called at each pass of every failpoint, before what is set for it; for tests that stir up the
 * order of threads. NULL: nobody. */
void failpoint_hook(void (*fn)(const char *name));
#define FAILPOINT(name) (__builtin_expect(failpoint_armed, 0) && failpoint_hit(name))
#else
#define FAILPOINT(name) false
static inline void failpoint_role(const char *role)
{
	(void)role;
}
#endif

#endif
