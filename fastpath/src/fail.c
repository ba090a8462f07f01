/* SPDX-License-Identifier: Apache-2.0 */
/* Sentences for refusals: formatting, and quoting what a client gave so that neither length nor
 * control characters get through. */
#include "fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The longest prefix of at most max bytes that does not end inside a character. */
static size_t utf8_cut(const char *text, size_t max)
{
	size_t n = strnlen(text, max + 1);

	if (n <= max)
		return n;
	n = max;
	while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	return n;
}

int fp_fail(struct fp_fail *fail, int status, const char *fmt, ...)
{
	va_list ap;

	fail->status = status;
	va_start(ap, fmt);
	vsnprintf(fail->msg, sizeof(fail->msg), fmt, ap);
	va_end(ap);
	/* One byte to spare, so that a full buffer is one that may end inside a character. */
	fail->msg[utf8_cut(fail->msg, sizeof(fail->msg) - 2)] = '\0';
	return status;
}

const char *fp_quote(const char *text, char buf[FP_QUOTED_MAX + 8])
{
	size_t n = utf8_cut(text, FP_QUOTED_MAX);

	for (size_t i = 0; i < n; i++)
		buf[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
	memcpy(buf + n, text[n] ? "\xe2\x80\xa6" : "", text[n] ? 4 : 1);
	return buf;
}
