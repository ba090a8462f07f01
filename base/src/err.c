/* SPDX-License-Identifier: Apache-2.0 */
/* struct err: formatted without allocation; a text that does not fit ends in "...". */
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static void ellipsis(char *buf, size_t size, size_t wanted)
{
	if (wanted >= size)
		memcpy(buf + size - 4, "...", 4);
}

static void format(char *buf, size_t size, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

static void format(char *buf, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(buf, size, fmt, ap);

	if (n < 0)
		buf[0] = '\0';
	else
		ellipsis(buf, size, (size_t)n);
}

static const char *errno_text(int errno_value)
{
	const char *text = strerrordesc_np(errno_value);

	return text ? text : "unknown error";
}

/* msg becomes "head: tail". By way of a copy: head and tail may lie in msg. */
static void join(struct err *err, const char *head, const char *tail)
{
	char tmp[sizeof(err->msg) * 2 + 3];
	size_t len;

	(void)snprintf(tmp, sizeof(tmp), "%s: %s", head, tail);
	len = strlen(tmp);
	memcpy(err->msg, tmp, len < sizeof(err->msg) ? len + 1 : sizeof(err->msg));
	ellipsis(err->msg, sizeof(err->msg), len);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	char tmp[sizeof(err->msg)]; /* an argument may lie in err->msg */
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	format(tmp, sizeof(tmp), fmt, ap);
	va_end(ap);
	err->code = code;
	memcpy(err->msg, tmp, sizeof(tmp));
	return code;
}

int err_errno(struct err *err, int errno_value, const char *fmt, ...)
{
	char tmp[sizeof(err->msg)];
	va_list ap;

	if (!err)
		return -errno_value;
	va_start(ap, fmt);
	format(tmp, sizeof(tmp), fmt, ap);
	va_end(ap);
	err->code = -errno_value;
	join(err, tmp, errno_text(errno_value));
	return -errno_value;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	char tmp[sizeof(err->msg)];
	va_list ap;

	if (!err)
		return 0;
	va_start(ap, fmt);
	format(tmp, sizeof(tmp), fmt, ap);
	va_end(ap);
	join(err, tmp, err->msg);
	return err->code;
}

void base_bug_die(const char *cond, const char *file, int line)
{
	log_event(LOG_ERROR, "broken invariant", "cond=%s file=%s line=%d", cond, file, line);
	abort();
}
