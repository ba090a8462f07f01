/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a request is refused: a gRPC status and one sentence. Functions that can refuse return the
 * status, G_OK when they did not, and fill a caller-owned struct fp_fail, which may not be NULL.
 */
#ifndef FASTPATH_FAIL_H
#define FASTPATH_FAIL_H

#include "base/gloop.h"

struct fp_fail {
	int status;    /* enum gstatus */
	char msg[640]; /* cut at a byte of UTF-8 that begins a character */
};

/* Sets the sentence, returns the status. */
int fp_fail(struct fp_fail *fail, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Room for a value that a client gave in a sentence: longer ones are cut, with "…". */
enum { FP_QUOTED_MAX = 100 };
/* buf: FP_QUOTED_MAX + 8 bytes. Returns buf: the text with its control characters as '?'. */
const char *fp_quote(const char *text, char buf[FP_QUOTED_MAX + 8]);

#endif
