/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf-c with limits. The library takes any UTF-8, cuts strings at an embedded NUL and turns 4
 * MiB of empty submessages into two million objects; pb_unpack refuses all three. The message lives
 * in one arena that pb_free releases at once.
 */
#ifndef BASE_PB_H
#define BASE_PB_H

#include <protobuf-c/protobuf-c.h>

#include "base/err.h"

struct pb_arena;

struct pb_limits {
	size_t max_bytes;   /* memory of the unpacked form; 0: 16 MiB */
	size_t max_objects; /* allocations; 0: 100000 */
};

/* *ret_msg is valid until pb_free(*ret_arena) (gives). -EBADMSG: malformed, invalid UTF-8 or NUL in
 * a string; -E2BIG: limits. */
int pb_unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len,
	      const struct pb_limits *limits, struct pb_arena **ret_arena,
	      ProtobufCMessage **ret_msg, struct err *err);
void *pb_free(struct pb_arena *arena);

/* Encodes into a malloc'ed buffer (gives); NULL on out of memory. */
void *pb_pack(const ProtobufCMessage *msg, size_t *ret_len);

/* A number in the wire format; room for ten bytes. Returns how many were written. */
size_t pb_put_varint(uint8_t *to, size_t value);

#endif
