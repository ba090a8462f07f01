/* SPDX-License-Identifier: Apache-2.0 */
/* One command's memory, and the small growing lists that live in it. */
#include "mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mem_chunk {
	struct mem_chunk *next;
	max_align_t data[];
};

void *mem_alloc(struct mem *mem, size_t size)
{
	struct mem_chunk *chunk = calloc(1, sizeof(*chunk) + size);

	if (!chunk) {
		fputs("Error: out of memory\n", stderr);
		exit(1);
	}
	chunk->next = mem->chunks;
	mem->chunks = chunk;
	return chunk->data;
}

char *mem_strndup(struct mem *mem, const char *text, size_t len)
{
	char *copy = mem_alloc(mem, len + 1);

	memcpy(copy, text, len);
	return copy;
}

char *mem_strdup(struct mem *mem, const char *text)
{
	return mem_strndup(mem, text, strlen(text));
}

char *mem_printf(struct mem *mem, const char *fmt, ...)
{
	va_list args;
	char *text;
	int len;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	text = mem_alloc(mem, (size_t)len + 1);
	va_start(args, fmt);
	(void)vsnprintf(text, (size_t)len + 1, fmt, args);
	va_end(args);
	return text;
}

void mem_free(struct mem *mem)
{
	while (mem->chunks) {
		struct mem_chunk *next = mem->chunks->next;

		free(mem->chunks);
		mem->chunks = next;
	}
}

/* Lists double when their length is a power of two, so no capacity has to be kept. Old copies stay
 * until mem_free. */
static void *grow(struct mem *mem, void *items, size_t n, size_t item_size)
{
	void *larger;

	if (n & (n - 1))
		return items;
	larger = mem_alloc(mem, (n ? 2 * n : 1) * item_size);
	if (n)
		memcpy(larger, items, n * item_size);
	return larger;
}

void strv_add(struct mem *mem, struct strv *list, char *item)
{
	list->items = grow(mem, list->items, list->n, sizeof(*list->items));
	list->items[list->n++] = item;
}

void i32v_add(struct mem *mem, struct i32v *list, int item)
{
	list->items = grow(mem, list->items, list->n, sizeof(*list->items));
	list->items[list->n++] = item;
}

void kv_set(struct mem *mem, struct kv *map, char *key, char *value)
{
	for (size_t i = 0; i < map->keys.n; i++) {
		if (!strcmp(map->keys.items[i], key)) {
			map->values.items[i] = value;
			return;
		}
	}
	strv_add(mem, &map->keys, key);
	strv_add(mem, &map->values, value);
}

const char *kv_get(const struct kv *map, const char *key)
{
	for (size_t i = 0; i < map->keys.n; i++) {
		if (!strcmp(map->keys.items[i], key))
			return map->values.items[i];
	}
	return NULL;
}
