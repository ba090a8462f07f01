/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors outside registry/: functions return 0 or a negative errno, and fill an optional
 * caller-owned struct err with one sentence that says what was wrong, with which value, and what
 * would be right. err may be NULL: "don't care".
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

struct err {
	int code; /* negative errno; 0: nothing set */
	char msg[256];
};

#define ERR_INIT                                                                                   \
	{                                                                                          \
		0, ""                                                                              \
	}

/* Sets err to code (a negative errno) and the formatted text, nothing appended; returns code.
 * Arguments may lie in err->msg. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set with -errno_value and ": <strerror>" appended; returns -errno_value. */
int err_errno(struct err *err, int errno_value, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "text: " before the message; keeps and returns the code. With a NULL err it returns 0, so
 * return your own code. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A broken invariant of our own code: logs and aborts. Always compiled in. */
#define base_bug(cond)                                                                             \
	do {                                                                                       \
		if (__builtin_expect(!!(cond), 0))                                                 \
			base_bug_die(#cond, __FILE__, __LINE__);                                   \
	} while (0)
_Noreturn void base_bug_die(const char *cond, const char *file, int line);

#endif
