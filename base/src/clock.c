/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and RFC 3339. The parser takes what Kubernetes and OpenSandbox send: fraction optional,
 * any numeric offset. */
#include "base/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "base/err.h"

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	/* Fails only for an unknown clock. */
	base_bug(clock_gettime(id, &ts) != 0);
	return (int64_t)ts.tv_sec * (int64_t)NS_PER_S + ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	return (uint64_t)clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_unix_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

char *clock_rfc3339(int64_t unix_ns, char *buf, size_t size)
{
	int64_t sec = unix_ns / (int64_t)NS_PER_S, ns = unix_ns % (int64_t)NS_PER_S;
	struct tm tm;
	time_t t;

	base_bug(size < 36);
	buf[0] = '\0';
	if (unix_ns == 0)
		return buf;
	if (ns < 0) {
		ns += (int64_t)NS_PER_S;
		sec--;
	}
	t = (time_t)sec;
	base_bug(!gmtime_r(&t, &tm)); /* an int64 of ns is within 1677..2262 */
	(void)snprintf(buf, size, "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", tm.tm_year + 1900,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)ns);
	return buf;
}

/* Reads exactly digits digits; -1 when there are fewer. */
static int take_number(const char **p, int digits)
{
	int value = 0;

	for (int i = 0; i < digits; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return -1;
		value = value * 10 + (**p - '0');
	}
	return value;
}

static bool take_char(const char **p, char upper, char lower)
{
	if (**p != upper && **p != lower)
		return false;
	(*p)++;
	return true;
}

/* ".123" in ns, digits beyond the ninth dropped; 0 when there is no fraction, -1 for a dot without
 * digits. */
static int take_fraction(const char **p)
{
	int ns = 0, digits = 0;

	if (**p != '.')
		return 0;
	for ((*p)++; **p >= '0' && **p <= '9'; (*p)++, digits++)
		if (digits < 9)
			ns = ns * 10 + (**p - '0');
	for (int i = digits; i < 9; i++)
		ns *= 10;
	return digits ? ns : -1;
}

/* "Z", "+hh:mm" or "-hh:mm" in seconds east of UTC. */
static int take_offset(const char **p, int *ret_seconds)
{
	int sign, hours, minutes;

	*ret_seconds = 0;
	if (take_char(p, 'Z', 'z'))
		return 0;
	sign = **p == '-' ? -1 : 1;
	if (!take_char(p, '+', '-'))
		return -EINVAL;
	hours = take_number(p, 2);
	if (hours < 0 || hours > 23 || !take_char(p, ':', ':'))
		return -EINVAL;
	minutes = take_number(p, 2);
	if (minutes < 0 || minutes > 59)
		return -EINVAL;
	*ret_seconds = sign * (hours * 3600 + minutes * 60);
	return 0;
}

static int days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

static int take_date_time(const char **p, struct tm *tm)
{
	int year = take_number(p, 4), month, day;

	if (year < 0 || !take_char(p, '-', '-'))
		return -EINVAL;
	month = take_number(p, 2);
	if (month < 1 || month > 12 || !take_char(p, '-', '-'))
		return -EINVAL;
	day = take_number(p, 2);
	if (day < 1 || day > days_in_month(year, month) || !take_char(p, 'T', 't'))
		return -EINVAL;
	*tm = (struct tm){.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
	tm->tm_hour = take_number(p, 2);
	if (tm->tm_hour < 0 || tm->tm_hour > 23 || !take_char(p, ':', ':'))
		return -EINVAL;
	tm->tm_min = take_number(p, 2);
	if (tm->tm_min < 0 || tm->tm_min > 59 || !take_char(p, ':', ':'))
		return -EINVAL;
	tm->tm_sec = take_number(p, 2);
	return tm->tm_sec < 0 || tm->tm_sec > 60 ? -EINVAL : 0; /* 60: a leap second */
}

int clock_parse_rfc3339(const char *text, int64_t *ret_unix_ns)
{
	int64_t sec, ns;
	int fraction, offset;
	struct tm tm;

	if (take_date_time(&text, &tm) != 0)
		return -EINVAL;
	fraction = take_fraction(&text);
	if (fraction < 0 || take_offset(&text, &offset) != 0 || *text != '\0')
		return -EINVAL;
	sec = (int64_t)timegm(&tm) - offset;
	if (__builtin_mul_overflow(sec, (int64_t)NS_PER_S, &ns) ||
	    __builtin_add_overflow(ns, fraction, &ns))
		return -EINVAL;
	*ret_unix_ns = ns;
	return 0;
}
