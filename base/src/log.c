/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logfmt. The line is built in a buffer on the stack and leaves by one write(2), so lines of
 * several threads and processes don't mix. What does not fit is cut and ends in "...".
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static const char *log_comp = "?";
static _Atomic int log_level_now = LOG_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

struct line {
	char buf[4096];
	size_t len;
	bool cut;
};

/* Room is kept for "...\n". */
static void line_bytes(struct line *line, const char *data, size_t len)
{
	size_t room = sizeof(line->buf) - 4 - line->len;

	if (line->cut)
		return;
	if (len > room) {
		len = room;
		line->cut = true;
	}
	memcpy(line->buf + line->len, data, len);
	line->len += len;
}

static void line_text(struct line *line, const char *text)
{
	line_bytes(line, text, strlen(text));
}

static bool needs_quotes(const char *text)
{
	if (*text == '\0')
		return true;
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || *text == '"' || *text == '\\' || *text == '=' ||
		    *text == 0x7f)
			return true;
	return false;
}

static void line_escaped(struct line *line, char c)
{
	char hex[8];

	switch (c) {
	case '\n':
		line_text(line, "\\n");
		break;
	case '\t':
		line_text(line, "\\t");
		break;
	case '"':
		line_text(line, "\\\"");
		break;
	case '\\':
		line_text(line, "\\\\");
		break;
	default:
		if ((unsigned char)c >= ' ' && c != 0x7f) {
			line_bytes(line, &c, 1);
			break;
		}
		(void)snprintf(hex, sizeof(hex), "\\x%02x", (unsigned int)(unsigned char)c);
		line_text(line, hex);
	}
}

static void line_quoted(struct line *line, const char *text)
{
	line_text(line, "\"");
	for (; *text; text++)
		line_escaped(line, *text);
	line_text(line, "\"");
}

static void line_value(struct line *line, const char *text)
{
	if (!text)
		text = "(null)";
	if (needs_quotes(text))
		line_quoted(line, text);
	else
		line_text(line, text);
}

enum int_size { SIZE_INT, SIZE_LONG, SIZE_LONG_LONG, SIZE_SIZE };

static enum int_size take_size(const char **p)
{
	if ((*p)[0] == 'l' && (*p)[1] == 'l') {
		*p += 2;
		return SIZE_LONG_LONG;
	}
	if (**p == 'l') {
		(*p)++;
		return SIZE_LONG;
	}
	if (**p == 'z') {
		(*p)++;
		return SIZE_SIZE;
	}
	return SIZE_INT;
}

struct args {
	va_list ap; /* in a struct, so that it can be passed by pointer everywhere */
};

static long long take_signed(struct args *args, enum int_size size)
{
	switch (size) {
	case SIZE_LONG:
		return va_arg(args->ap, long);
	case SIZE_LONG_LONG:
		return va_arg(args->ap, long long);
	case SIZE_SIZE:
		return va_arg(args->ap, ssize_t);
	default:
		return va_arg(args->ap, int);
	}
}

static unsigned long long take_unsigned(struct args *args, enum int_size size)
{
	switch (size) {
	case SIZE_LONG:
		return va_arg(args->ap, unsigned long);
	case SIZE_LONG_LONG:
		return va_arg(args->ap, unsigned long long);
	case SIZE_SIZE:
		return va_arg(args->ap, size_t);
	default:
		return va_arg(args->ap, unsigned int);
	}
}

/* One conversion, spec behind the '%'. Returns what follows it, or NULL for one that is not known.
 */
static const char *line_conversion(struct line *line, const char *spec, struct args *args)
{
	enum int_size size = take_size(&spec);
	char text[32];

	switch (*spec) {
	case 's':
		line_value(line, va_arg(args->ap, const char *));
		return spec + 1;
	case '%':
		line_text(line, "%");
		return spec + 1;
	case 'c':
		line_escaped(line, (char)va_arg(args->ap, int));
		return spec + 1;
	case 'd':
		(void)snprintf(text, sizeof(text), "%lld", take_signed(args, size));
		break;
	case 'u':
		(void)snprintf(text, sizeof(text), "%llu", take_unsigned(args, size));
		break;
	case 'x':
		(void)snprintf(text, sizeof(text), "%llx", take_unsigned(args, size));
		break;
	default:
		return NULL;
	}
	line_text(line, text);
	return spec + 1;
}

static void line_format(struct line *line, const char *fmt, struct args *args)
{
	while (*fmt) {
		size_t plain = strcspn(fmt, "%");
		const char *next;

		line_bytes(line, fmt, plain);
		fmt += plain;
		if (*fmt == '\0')
			return;
		next = line_conversion(line, fmt + 1, args);
		if (!next) { /* its argument's type is unknown, so no later one can be read */
			line_text(line, fmt);
			return;
		}
		fmt = next;
	}
}

static void line_head(struct line *line, enum log_level level, const char *event)
{
	char ts[36], pid[16];

	line_text(line, "ts=");
	line_text(line, clock_rfc3339(clock_unix_ns(), ts, sizeof(ts)));
	line_text(line, " level=");
	line_text(line, level_names[level]);
	line_text(line, " comp=");
	line_value(line, log_comp);
	(void)snprintf(pid, sizeof(pid), " pid=%d", (int)getpid());
	line_text(line, pid);
	line_text(line, " event=");
	line_quoted(line, event);
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	struct line line;
	struct args args;
	ssize_t n;

	if (level < log_get_level())
		return;
	line.len = 0;
	line.cut = false;
	line_head(&line, level, event);
	if (fmt && *fmt) {
		line_text(&line, " ");
		va_start(args.ap, fmt);
		line_format(&line, fmt, &args);
		va_end(args.ap);
	}
	if (line.cut) {
		memcpy(line.buf + line.len, "...", 3);
		line.len += 3;
	}
	line.buf[line.len++] = '\n';
	n = write(STDERR_FILENO, line.buf, line.len);
	(void)n; /* nowhere to complain */
}

void log_init(const char *comp)
{
	const char *text = getenv("FSB_LOG");

	log_comp = comp;
	for (int i = LOG_DEBUG; text && i <= LOG_ERROR; i++)
		if (strcmp(text, level_names[i]) == 0)
			log_set_level((enum log_level)i);
}

void log_set_level(enum log_level level)
{
	/* relaxed: a level alone, nothing is published with it */
	atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	/* relaxed: as above */
	return (enum log_level)atomic_load_explicit(&log_level_now, memory_order_relaxed);
}
