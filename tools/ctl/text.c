/* SPDX-License-Identifier: Apache-2.0 */
/* Text in and out for fsb-ctl; no calls are made here. */
#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

void table_row(struct table *table, ...)
{
	va_list args;

	va_start(args, table);
	for (int i = 0; i < table->columns; i++) {
		const char *cell = va_arg(args, const char *);

		strv_add(table->mem, &table->cells, mem_strdup(table->mem, cell ? cell : "-"));
	}
	va_end(args);
}

/* Code points, not bytes. */
static int width(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void table_print(const struct table *table)
{
	size_t columns = (size_t)table->columns;
	int widest[16] = {0};

	base_bug(columns > 16);
	for (size_t i = 0; i < table->cells.n; i++) {
		int w = width(table->cells.items[i]);

		if (w > widest[i % columns])
			widest[i % columns] = w;
	}
	for (size_t i = 0; i < table->cells.n; i++) {
		const char *cell = table->cells.items[i];

		if (i % columns == columns - 1)
			printf("%s\n", cell);
		else
			printf("%s%*s", cell, widest[i % columns] - width(cell) + 2, "");
	}
}

static void trim_zeros(char *number)
{
	size_t len = strlen(number);

	if (!strchr(number, '.'))
		return;
	while (number[len - 1] == '0')
		number[--len] = '\0';
	if (number[len - 1] == '.')
		number[--len] = '\0';
}

char *text_duration(uint64_t ns, char *buf, size_t size)
{
	uint64_t us = (ns + 500) / 1000;
	uint64_t minutes = us / 60000000;
	char number[32];

	if (us == 0) {
		(void)snprintf(buf, size, "0s");
	} else if (us < 1000) {
		(void)snprintf(buf, size, "%lluµs", (unsigned long long)us);
	} else if (us < 1000000) {
		(void)snprintf(number, sizeof(number), "%.3f", (double)us / 1e3);
		trim_zeros(number);
		(void)snprintf(buf, size, "%sms", number);
	} else {
		(void)snprintf(number, sizeof(number), "%.6f", (double)(us % 60000000) / 1e6);
		trim_zeros(number);
		if (minutes >= 60)
			(void)snprintf(buf, size, "%lluh%llum%ss", (unsigned long long)minutes / 60,
				       (unsigned long long)minutes % 60, number);
		else if (minutes)
			(void)snprintf(buf, size, "%llum%ss", (unsigned long long)minutes, number);
		else
			(void)snprintf(buf, size, "%ss", number);
	}
	return buf;
}

char *text_age(int64_t then_unix_s, char *buf, size_t size)
{
	int64_t now = clock_unix_ns() / (int64_t)NS_PER_S;

	buf[0] = '\0';
	if (then_unix_s > 0)
		text_duration(now > then_unix_s ? (uint64_t)(now - then_unix_s) * NS_PER_S : 0, buf,
			      size);
	return buf;
}

static int64_t unit_seconds(char unit)
{
	switch (unit) {
	case 's':
		return 1;
	case 'm':
		return 60;
	case 'h':
		return 3600;
	case 'd':
		return 86400;
	default:
		return 0;
	}
}

/* "90s" and the like. */
static int parse_from_now(const char *text, int64_t *ret_unix_s)
{
	char digits[16];
	size_t len = strlen(text);
	int64_t unit = len ? unit_seconds(text[len - 1]) : 0;
	int64_t n;

	if (!unit || len < 2 || len > sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, len - 1);
	digits[len - 1] = '\0';
	if (str_to_i64(digits, 1, INT64_C(100) * 366 * 86400, &n))
		return -EINVAL;
	*ret_unix_s = clock_unix_ns() / (int64_t)NS_PER_S + n * unit;
	return 0;
}

int text_parse_time(const char *what, const char *text, int64_t *ret_unix_s, struct err *err)
{
	int64_t value;

	if (!str_to_i64(text, 0, INT64_MAX / (int64_t)NS_PER_S, &value)) {
		*ret_unix_s = value;
		return 0;
	}
	if (!parse_from_now(text, ret_unix_s))
		return 0;
	if (!clock_parse_rfc3339(text, &value)) {
		*ret_unix_s = value / (int64_t)NS_PER_S;
		return 0;
	}
	return err_set(
		err, -EINVAL,
		"%s '%s' is not Unix seconds, RFC 3339, or a time from now like 90s, 10m, 2h, 1d",
		what, text);
}

static int parse_pair(struct mem *mem, const char *what, const char *pair, size_t len,
		      struct kv *map, struct err *err)
{
	const char *equals = memchr(pair, '=', len);

	if (!equals || equals == pair)
		return err_set(err, -EINVAL, "%s '%.*s' must be KEY=VALUE", what, (int)len, pair);
	kv_set(mem, map, mem_strndup(mem, pair, (size_t)(equals - pair)),
	       mem_strndup(mem, equals + 1, len - (size_t)(equals - pair) - 1));
	return 0;
}

int text_parse_map(struct mem *mem, const char *what, const char *text, struct kv *map,
		   struct err *err)
{
	while (*text) {
		size_t len = strcspn(text, ",");
		int rc = parse_pair(mem, what, text, len, map, err);

		if (rc)
			return rc;
		text += len + (text[len] == ',');
	}
	return 0;
}

int text_parse_pairs(struct mem *mem, const char *what, const struct opt_list *items,
		     struct kv *map, struct err *err)
{
	for (int i = 0; i < items->count; i++) {
		int rc = parse_pair(mem, what, items->items[i], strlen(items->items[i]), map, err);

		if (rc)
			return rc;
	}
	return 0;
}

int text_parse_ports(struct mem *mem, const char *text, struct i32v *list, struct err *err)
{
	while (*text) {
		size_t len = strcspn(text, ",");
		char *word = mem_strndup(mem, text, len);
		int64_t port;

		if (str_to_i64(word, 1, 65535, &port))
			return err_set(err, -EINVAL, "invalid port %s: must be between 1 and 65535",
				       word);
		i32v_add(mem, list, (int)port);
		text += len + (text[len] == ',');
	}
	return 0;
}

static bool yaml_plain(const char *value)
{
	static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "~"};

	if (!isalpha((unsigned char)value[0]) && value[0] != '/')
		return false;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!strcasecmp(value, words[i]))
			return false;
	}
	for (const char *p = value; *p; p++) {
		bool separator = *p == ':' && (p[1] == ' ' || !p[1]);

		if (separator || (!isalnum((unsigned char)*p) && !strchr(" :/._-@+", *p)))
			return false;
	}
	return value[strlen(value) - 1] != ' ';
}

void text_yaml_scalar(const char *value)
{
	if (*value && yaml_plain(value)) {
		fputs(value, stdout);
		return;
	}
	putchar('"');
	for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
		if (*p == '"' || *p == '\\')
			printf("\\%c", *p);
		else if (*p < 0x20 || *p == 0x7f)
			printf("\\x%02x", *p);
		else
			putchar(*p);
	}
	putchar('"');
}
