/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one command: everything a command builds (requests, lists) is freed at once at its end.
 * Out of memory ends the program; this is for command-line programs only.
 */
#ifndef CTL_MEM_H
#define CTL_MEM_H

#include <stddef.h>

struct mem_chunk;
struct mem {
	struct mem_chunk *chunks;
};

/* Zeroed. */
void *mem_alloc(struct mem *mem, size_t size);
char *mem_strdup(struct mem *mem, const char *text);
char *mem_strndup(struct mem *mem, const char *text, size_t len);
char *mem_printf(struct mem *mem, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mem_free(struct mem *mem);

/* A growing list of strings. */
struct strv {
	char **items;
	size_t n;
};
void strv_add(struct mem *mem, struct strv *list, char *item);

/* A map of strings in order of insertion. */
struct kv {
	struct strv keys, values;
};
/* A key that is there already gets the new value. */
void kv_set(struct mem *mem, struct kv *map, char *key, char *value);
const char *kv_get(const struct kv *map, const char *key);

struct i32v {
	int *items;
	size_t n;
};
void i32v_add(struct mem *mem, struct i32v *list, int item);

#endif
