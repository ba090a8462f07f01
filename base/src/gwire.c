/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf-c messages as gRPC byte buffers. Encoding goes straight into a slice and decoding reads
 * the received slice in place where it is one piece, so a small message is copied once each way.
 */
#include <errno.h>
#include <grpc/byte_buffer_reader.h>
#include <stdlib.h>
#include <string.h>

#include "gint.h"

grpc_byte_buffer *gwire__encode(const ProtobufCMessage *msg, size_t *ret_len)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	grpc_slice slice = grpc_slice_malloc(len); /* aborts when out of memory, like all of gRPC */
	grpc_byte_buffer *buf;

	(void)protobuf_c_message_pack(msg, GRPC_SLICE_START_PTR(slice));
	buf = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	*ret_len = len;
	return buf;
}

static int wire_decode_whole(const ProtobufCMessageDescriptor *desc, grpc_byte_buffer *buf,
			     const struct pb_limits *limits, struct pb_arena **ret_arena,
			     ProtobufCMessage **ret_msg, struct err *err)
{
	grpc_byte_buffer_reader reader;
	grpc_slice whole;
	int r;

	if (!grpc_byte_buffer_reader_init(&reader, buf))
		return err_set(err, -EBADMSG, "the message can't be decompressed");
	whole = grpc_byte_buffer_reader_readall(&reader);
	r = pb_unpack(desc, GRPC_SLICE_START_PTR(whole), GRPC_SLICE_LENGTH(whole), limits,
		      ret_arena, ret_msg, err);
	grpc_slice_unref(whole);
	grpc_byte_buffer_reader_destroy(&reader);
	return r;
}

int gwire__decode(const ProtobufCMessageDescriptor *desc, grpc_byte_buffer *buf,
		  const struct pb_limits *limits, struct pb_arena **ret_arena,
		  ProtobufCMessage **ret_msg, struct err *err)
{
	grpc_byte_buffer_reader reader;
	grpc_slice *first = NULL, *second = NULL;
	static const uint8_t nothing[1];
	bool many;

	if (!buf)
		return err_set(err, -EBADMSG, "no message was sent");
	if (!grpc_byte_buffer_reader_init(&reader, buf))
		return err_set(err, -EBADMSG, "the message can't be decompressed");
	many = grpc_byte_buffer_reader_peek(&reader, &first) &&
	       grpc_byte_buffer_reader_peek(&reader, &second);
	grpc_byte_buffer_reader_destroy(&reader);
	if (many)
		return wire_decode_whole(desc, buf, limits, ret_arena, ret_msg, err);
	if (!first)
		return pb_unpack(desc, nothing, 0, limits, ret_arena, ret_msg, err);
	return pb_unpack(desc, GRPC_SLICE_START_PTR(*first), GRPC_SLICE_LENGTH(*first), limits,
			 ret_arena, ret_msg, err);
}

int gout__push(struct gout_queue *queue, const ProtobufCMessage *msg)
{
	struct gout *out = malloc(sizeof(*out));

	if (!out)
		return -ENOMEM;
	out->next = NULL;
	out->buf = gwire__encode(msg, &out->len);
	if (queue->tail)
		queue->tail->next = out;
	else
		queue->head = out;
	queue->tail = out;
	queue->bytes += out->len;
	return 0;
}

static grpc_byte_buffer *out_pop(struct gout_queue *queue, size_t *ret_len)
{
	struct gout *out = queue->head;
	grpc_byte_buffer *buf = out->buf;

	*ret_len = out->len;
	queue->head = out->next;
	if (!queue->head)
		queue->tail = NULL;
	free(out);
	return buf;
}

void gout__start(struct gout_queue *queue, grpc_op *op)
{
	queue->in_flight = out_pop(queue, &queue->in_flight_bytes);
	op->op = GRPC_OP_SEND_MESSAGE;
	op->flags = queue->head ? GRPC_WRITE_BUFFER_HINT : 0;
	op->data.send_message.send_message = queue->in_flight;
}

void gout__sent(struct gout_queue *queue)
{
	if (!queue->in_flight)
		return;
	grpc_byte_buffer_destroy(queue->in_flight);
	queue->in_flight = NULL;
	queue->bytes -= queue->in_flight_bytes;
	queue->in_flight_bytes = 0;
}

void gout__clear(struct gout_queue *queue)
{
	while (queue->head) {
		size_t len;

		grpc_byte_buffer_destroy(out_pop(queue, &len));
		queue->bytes -= len;
	}
}
