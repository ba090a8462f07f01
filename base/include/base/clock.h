/* SPDX-License-Identifier: Apache-2.0 */
/* Time in ns: monotonic for durations and deadlines, Unix for what users and stores see. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

uint64_t clock_mono_ns(void);
int64_t clock_unix_ns(void);

/* RFC 3339 in UTC with ns, e.g. 2026-01-02T03:04:05.000000006Z; 0 gives "". buf holds at least 36
 * bytes. Returns buf. */
char *clock_rfc3339(int64_t unix_ns, char *buf, size_t size);
/* Parses RFC 3339 with optional fraction and any offset. 0 or -EINVAL. */
int clock_parse_rfc3339(const char *text, int64_t *ret_unix_ns);

#endif
