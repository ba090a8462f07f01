/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf-c with limits. First a walk over the wire format by descriptor checks what the library
 * does not (text, nesting); then the library unpacks with an allocator that bumps through chunks
 * and counts.
 */
#include "base/pb.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum {
	PB_DEPTH_MAX = 32,
	PB_ALIGN = 16,
	PB_CHUNK_MIN = 2048,
	PB_CHUNK_MAX = 65536,
};

/* ---- the arena ---- */

struct chunk {
	struct chunk *next;
	size_t size, used; /* of data */
	_Alignas(PB_ALIGN) unsigned char data[];
};

struct pb_arena {
	struct chunk *chunks; /* newest first */
	struct pb_limits left;
	bool over_limit, no_memory;
};

static struct chunk *chunk_add(struct pb_arena *arena, size_t size)
{
	struct chunk *chunk = malloc(sizeof(*chunk) + size);

	if (!chunk) {
		arena->no_memory = true;
		return NULL;
	}
	chunk->next = arena->chunks;
	chunk->size = size;
	chunk->used = 0;
	arena->chunks = chunk;
	return chunk;
}

static size_t chunk_size_for(const struct pb_arena *arena, size_t size)
{
	size_t next = arena->chunks ? arena->chunks->size * 2 : PB_CHUNK_MIN;

	if (next > PB_CHUNK_MAX)
		next = PB_CHUNK_MAX;
	return size > next ? size : next;
}

static void *arena_alloc(void *data, size_t size)
{
	struct pb_arena *arena = data;
	struct chunk *chunk = arena->chunks;
	void *p;

	if (size > arena->left.max_bytes || arena->left.max_objects == 0) {
		arena->over_limit = true;
		return NULL;
	}
	arena->left.max_bytes -= size;
	arena->left.max_objects--;
	size = (size + PB_ALIGN - 1) & ~(size_t)(PB_ALIGN - 1);
	if (!chunk || chunk->size - chunk->used < size)
		chunk = chunk_add(arena, chunk_size_for(arena, size));
	if (!chunk)
		return NULL;
	p = chunk->data + chunk->used;
	chunk->used += size;
	return p;
}

static void arena_free(void *data, void *p)
{
	(void)data;
	(void)p; /* all at once, in pb_free */
}

static struct pb_arena *arena_new(const struct pb_limits *limits)
{
	struct pb_arena *arena = calloc(1, sizeof(*arena));

	if (!arena)
		return NULL;
	arena->left.max_bytes = limits && limits->max_bytes ? limits->max_bytes : 16u << 20;
	arena->left.max_objects = limits && limits->max_objects ? limits->max_objects : 100000;
	return arena;
}

void *pb_free(struct pb_arena *arena)
{
	struct chunk *chunk = arena ? arena->chunks : NULL;

	while (chunk) {
		struct chunk *next = chunk->next;

		free(chunk);
		chunk = next;
	}
	free(arena);
	return NULL;
}

/* ---- the wire walk ---- */

struct wire {
	const uint8_t *p, *end;
};

static bool wire_varint(struct wire *wire, uint64_t *ret)
{
	uint64_t value = 0;

	for (int shift = 0; shift < 70 && wire->p < wire->end; shift += 7) {
		uint8_t byte = *wire->p++;

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

static bool wire_skip(struct wire *wire, uint64_t len)
{
	if (len > (uint64_t)(wire->end - wire->p))
		return false;
	wire->p += len;
	return true;
}

static int wire_message(const ProtobufCMessageDescriptor *desc, struct wire wire, int depth,
			struct err *err);

static int check_text(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *field,
		      const struct wire *text, struct err *err)
{
	size_t len = (size_t)(text->end - text->p);

	if (memchr(text->p, 0, len))
		return err_set(err, -EBADMSG, "field '%s' of %s holds a NUL byte", field->name,
			       desc->name);
	if (!str_is_utf8((const char *)text->p, len))
		return err_set(err, -EBADMSG, "field '%s' of %s is not valid UTF-8", field->name,
			       desc->name);
	return 0;
}

/* A length-delimited field whose length is next. */
static int wire_delimited(const ProtobufCMessageDescriptor *desc,
			  const ProtobufCFieldDescriptor *field, struct wire *wire, int depth,
			  struct err *err)
{
	struct wire inner;
	uint64_t len;

	if (!wire_varint(wire, &len))
		return -EBADMSG;
	inner.p = wire->p;
	if (!wire_skip(wire, len))
		return -EBADMSG;
	inner.end = wire->p;
	if (field && field->type == PROTOBUF_C_TYPE_STRING)
		return check_text(desc, field, &inner, err);
	if (field && field->type == PROTOBUF_C_TYPE_MESSAGE)
		return wire_message(field->descriptor, inner, depth + 1, err);
	return 0;
}

static int wire_field(const ProtobufCMessageDescriptor *desc, struct wire *wire, int depth,
		      struct err *err)
{
	const ProtobufCFieldDescriptor *field;
	uint64_t tag, value;

	if (!wire_varint(wire, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
		return -EBADMSG;
	field = protobuf_c_message_descriptor_get_field(desc, (unsigned int)(tag >> 3));
	switch (tag & 7) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		return wire_varint(wire, &value) ? 0 : -EBADMSG;
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		return wire_skip(wire, 8) ? 0 : -EBADMSG;
	case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
		return wire_delimited(desc, field, wire, depth, err);
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		return wire_skip(wire, 4) ? 0 : -EBADMSG;
	default: /* groups; the library refuses them, too */
		return -EBADMSG;
	}
}

static int wire_message(const ProtobufCMessageDescriptor *desc, struct wire wire, int depth,
			struct err *err)
{
	if (depth > PB_DEPTH_MAX)
		return err_set(err, -E2BIG, "messages are nested more than %d deep", PB_DEPTH_MAX);
	while (wire.p < wire.end) {
		int r = wire_field(desc, &wire, depth, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the calls ---- */

static int malformed(const ProtobufCMessageDescriptor *desc, size_t len, struct err *err)
{
	return err_set(err, -EBADMSG, "%zu bytes are not a valid %s", len, desc->name);
}

static int unpack_failed(const struct pb_arena *arena, const ProtobufCMessageDescriptor *desc,
			 size_t len, struct err *err)
{
	if (arena->over_limit)
		return err_set(err, -E2BIG, "a %s of %zu bytes unpacks to more than is allowed",
			       desc->name, len);
	if (arena->no_memory)
		return err_set(err, -ENOMEM, "out of memory for a %s", desc->name);
	return malformed(desc, len, err);
}

int pb_unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len,
	      const struct pb_limits *limits, struct pb_arena **ret_arena,
	      ProtobufCMessage **ret_msg, struct err *err)
{
	static const uint8_t nothing[1];
	const uint8_t *bytes = data && len ? data : nothing; /* an empty message may come as NULL */
	struct err inner = ERR_INIT;
	struct pb_arena *arena;
	ProtobufCAllocator allocator = {.alloc = arena_alloc, .free = arena_free};
	ProtobufCMessage *msg;
	int r;

	r = wire_message(desc, (struct wire){bytes, bytes + len}, 1, &inner);
	if (r < 0)
		return inner.code ? err_set(err, r, "%s", inner.msg) : malformed(desc, len, err);
	arena = arena_new(limits);
	if (!arena)
		return err_set(err, -ENOMEM, "out of memory for a %s", desc->name);
	allocator.allocator_data = arena;
	msg = protobuf_c_message_unpack(desc, &allocator, len, bytes);
	if (!msg) {
		r = unpack_failed(arena, desc, len, err);
		pb_free(arena);
		return r;
	}
	*ret_arena = arena;
	*ret_msg = msg;
	return 0;
}

void *pb_pack(const ProtobufCMessage *msg, size_t *ret_len)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	uint8_t *buf = malloc(len ? len : 1);

	if (!buf)
		return NULL;
	*ret_len = protobuf_c_message_pack(msg, buf);
	return buf;
}

size_t pb_put_varint(uint8_t *to, size_t value)
{
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		to[n++] = (uint8_t)(value | 0x80);
	to[n++] = (uint8_t)value;
	return n;
}
