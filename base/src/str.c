/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of small texts. Character classes are spelled out: isalnum() and friends depend on the
 * locale. */
#include "base/str.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_alnum(char c)
{
	return is_digit(c) || is_lower(c) || (c >= 'A' && c <= 'Z');
}

/* ---- numbers ---- */

int str_to_i64(const char *text, int64_t min, int64_t max, int64_t *ret)
{
	bool negative = *text == '-', over = false;
	const char *p = text + negative;
	int64_t value = 0;

	if (*p == '\0')
		return -EINVAL;
	for (; *p; p++) {
		int digit = *p - '0';

		if (!is_digit(*p))
			return -EINVAL;
		/* Downwards for negatives, so that INT64_MIN has no special case. */
		over |= __builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, negative ? -digit : digit, &value);
	}
	if (over || value < min || value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}

typedef unsigned __int128 u128;

struct quantity {
	u128 mantissa;
	int scale10; /* value = mantissa * 10^scale10 * 2^scale2 */
	int scale2;
	bool round_up; /* digits were dropped */
};

/*
 * digits[.digits] of at least one digit. 18 decimal places are kept: mantissa * 2^60 * 1000 stays
 * below 2^127 for every value that an int64 of milli-units can hold, so an overflow of the mantissa
 * is one of the result.
 */
static int take_mantissa(const char **p, struct quantity *q)
{
	bool dot = false, any = false;

	for (; is_digit(**p) || (**p == '.' && !dot); (*p)++) {
		if (**p == '.') {
			dot = true;
			continue;
		}
		any = true;
		if (dot && q->scale10 == -18) {
			q->round_up |= **p != '0';
			continue;
		}
		if (__builtin_mul_overflow(q->mantissa, (u128)10, &q->mantissa))
			return -ERANGE;
		q->mantissa += (u128)(**p - '0');
		q->scale10 -= dot;
	}
	return any ? 0 : -EINVAL;
}

static int take_exponent(const char **p, struct quantity *q)
{
	bool negative = **p == '-';
	int value = 0;

	if (**p == '-' || **p == '+')
		(*p)++;
	if (!is_digit(**p))
		return -EINVAL;
	for (; is_digit(**p); (*p)++)
		if (value < 1000)
			value = value * 10 + (**p - '0');
	q->scale10 += negative ? -value : value;
	return 0;
}

static int take_suffix(const char **p, struct quantity *q)
{
	static const char binary[] = "KMGTPE";
	static const struct {
		char letter;
		int scale10;
	} decimal[] = {{'n', -9}, {'u', -6}, {'m', -3}, {'k', 3},  {'M', 6},
		       {'G', 9},  {'T', 12}, {'P', 15}, {'E', 18}, {'\0', 0}};
	const char *at;

	if ((**p == 'e' || **p == 'E') && (*p)[1] != '\0' && (*p)[1] != 'i') {
		(*p)++;
		return take_exponent(p, q);
	}
	if (**p != '\0' && (*p)[1] == 'i') {
		at = strchr(binary, **p);
		if (!at)
			return -EINVAL;
		q->scale2 = 10 * (int)(at - binary + 1);
		*p += 2;
		return 0;
	}
	for (size_t i = 0; i < sizeof(decimal) / sizeof(decimal[0]); i++)
		if (decimal[i].letter == **p) {
			q->scale10 += decimal[i].scale10;
			*p += **p != '\0';
			return 0;
		}
	return -EINVAL;
}

static int quantity_value(const struct quantity *q, int64_t *ret)
{
	u128 value = q->mantissa, rest = 0;

	if (value == 0 && !q->round_up) {
		*ret = 0;
		return 0;
	}
	if (__builtin_mul_overflow(value, (u128)1 << q->scale2, &value))
		return -ERANGE;
	for (int i = 0; i < q->scale10; i++)
		if (__builtin_mul_overflow(value, (u128)10, &value))
			return -ERANGE;
	for (int i = q->scale10; i < 0 && value; i++) {
		rest |= value % 10;
		value /= 10;
	}
	value += rest || q->round_up; /* as Kubernetes: up to the next unit */
	if (value > INT64_MAX)
		return -ERANGE;
	*ret = (int64_t)value;
	return 0;
}

int str_to_quantity_milli(const char *text, int64_t *ret_milli)
{
	struct quantity q = {0};
	int r;

	text += *text == '+';
	r = take_mantissa(&text, &q);
	if (r < 0)
		return r;
	r = take_suffix(&text, &q);
	if (r < 0)
		return r;
	if (*text != '\0')
		return -EINVAL;
	q.scale10 += 3;
	return quantity_value(&q, ret_milli);
}

/* ---- names ---- */

/* One or more of [a-z0-9-], alphanumeric at both ends. */
static bool is_dns_part(const char *text, size_t len)
{
	if (len == 0 || text[0] == '-' || text[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_lower(text[i]) && !is_digit(text[i]) && text[i] != '-')
			return false;
	return true;
}

static bool is_subdomain(const char *text, size_t len)
{
	const char *end = text + len;

	if (len > 253)
		return false;
	for (;;) {
		const char *dot = memchr(text, '.', (size_t)(end - text));

		if (!is_dns_part(text, (size_t)((dot ? dot : end) - text)))
			return false;
		if (!dot)
			return true;
		text = dot + 1;
	}
}

bool str_is_dns1123_label(const char *text)
{
	size_t len = strlen(text);

	return len <= 63 && is_dns_part(text, len);
}

bool str_is_dns1123_subdomain(const char *text)
{
	return is_subdomain(text, strlen(text));
}

static bool is_label_text(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > 63 || !is_alnum(text[0]) || !is_alnum(text[len - 1]))
		return false;
	for (; *text; text++)
		if (!is_alnum(*text) && *text != '-' && *text != '_' && *text != '.')
			return false;
	return true;
}

bool str_is_label_key(const char *text)
{
	const char *slash = strchr(text, '/');

	if (!slash)
		return is_label_text(text);
	return is_subdomain(text, (size_t)(slash - text)) && is_label_text(slash + 1);
}

bool str_is_label_value(const char *text)
{
	return *text == '\0' || is_label_text(text);
}

/* ---- UTF-8 ---- */

/* Length of the well-formed sequence at p (table 3-7 of the Unicode standard), 0 when there is
 * none. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0; /* shorter form exists */
	if (p[0] == 0xed)
		high = 0x9f; /* surrogates */
	if (p[0] == 0xf0)
		low = 0x90;
	if (p[0] == 0xf4)
		high = 0x8f; /* beyond U+10FFFF */
	if (left < len || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool str_is_utf8(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;

	while (len) {
		size_t n = p[0] >= 0x01 && p[0] <= 0x7f ? 1 : utf8_sequence(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

char *str_hex(const void *data, size_t len, char *buf)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++) {
		buf[2 * i] = digits[p[i] >> 4];
		buf[2 * i + 1] = digits[p[i] & 15];
	}
	buf[2 * len] = '\0';
	return buf;
}
