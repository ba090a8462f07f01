/* SPDX-License-Identifier: Apache-2.0 */
/* How fsb-ctl shows things: tables, durations, ages; and how it reads "k=v" lists, ports and points
 * in time. */
#ifndef CTL_TEXT_H
#define CTL_TEXT_H

#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"

#include "mem.h"

/* Rows of cells; columns are as wide as their widest cell, two blanks between them, the last one is
 * not padded. */
struct table {
	struct mem *mem;
	int columns;
	struct strv cells;
};
/* Adds a row: columns strings (kept until text_table_print; NULL shows as "-"). */
void table_row(struct table *table, ...);
void table_print(const struct table *table);

/* As Go writes durations: "1h2m3s", "1.5s", "12.345ms", "0s". Rounded to µs. buf holds at least 40
 * bytes. Returns buf. */
char *text_duration(uint64_t ns, char *buf, size_t size);
/* From then to now, cut to seconds; "" when then is 0. */
char *text_age(int64_t then_unix_s, char *buf, size_t size);

/*
 * A point in time: Unix seconds, RFC 3339, or a time from now ("90s", "10m", "2h", "1d"). 0 stays 0
 * (never). -EINVAL names what.
 */
int text_parse_time(const char *what, const char *text, int64_t *ret_unix_s, struct err *err);

/* "k=v,k2=v2" into map. what names it in messages. */
int text_parse_map(struct mem *mem, const char *what, const char *text, struct kv *map,
		   struct err *err);
/* One "K=V" for each item; values may hold commas. */
int text_parse_pairs(struct mem *mem, const char *what, const struct opt_list *items,
		     struct kv *map, struct err *err);
/* "80,443" into list; each 1..65535. */
int text_parse_ports(struct mem *mem, const char *text, struct i32v *list, struct err *err);

/* A YAML scalar: as it is when that is unambiguous, else in double quotes. */
void text_yaml_scalar(const char *value);

#endif
