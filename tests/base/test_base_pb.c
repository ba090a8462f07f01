/* SPDX-License-Identifier: Apache-2.0 */
/* pb.c: what the library accepts and we refuse (NUL, bad UTF-8, nesting, size), and that what is
 * fine comes through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "base/pb.h"
#include "pbtest.pb-c.h"

/* Wire bytes under construction. */
struct bytes {
	uint8_t p[1 << 17];
	size_t len;
};

static struct bytes buf;

static void put_varint(uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		buf.p[buf.len++] = (uint8_t)(v | 0x80);
	buf.p[buf.len++] = (uint8_t)v;
}

static void put_field(unsigned int number, const void *data, size_t len)
{
	put_varint(number << 3 | 2);
	put_varint(len);
	memcpy(buf.p + buf.len, data, len);
	buf.len += len;
}

/* Makes what was built so far the content of a field. */
static void wrap(unsigned int number)
{
	static uint8_t copy[sizeof(buf.p)];
	size_t len = buf.len;

	memcpy(copy, buf.p, len);
	buf.len = 0;
	put_field(number, copy, len);
}

static int unpack(const struct pb_limits *limits, struct err *err)
{
	uint8_t *exact =
		malloc(buf.len); /* so that a read past the end is seen by AddressSanitizer */
	struct pb_arena *arena = NULL;
	ProtobufCMessage *msg = NULL;
	int r;

	if (buf.len)
		memcpy(exact, buf.p, buf.len);
	r = pb_unpack(&pbtest__node__descriptor, exact, buf.len, limits, &arena, &msg, err);
	free(exact);
	if (r == 0)
		assert_non_null(msg);
	else
		assert_null(arena);
	pb_free(arena);
	return r;
}

static int start(void **state)
{
	buf.len = 0;
	return 0;
}

static void test_round_trip(void **state)
{
	char *texts[] = {(char[]){"one"}, (char[]){""}, (char[]){"dr\xc3\xa4i"}};
	char key[] = "k", value[] = "v", text[] = "hello";
	Pbtest__Node__EntriesEntry entry = PBTEST__NODE__ENTRIES_ENTRY__INIT;
	Pbtest__Node__EntriesEntry *entries[] = {&entry};
	Pbtest__Node node = PBTEST__NODE__INIT, child = PBTEST__NODE__INIT, *got;
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	struct err err = ERR_INIT;
	size_t len;
	void *data;

	entry.key = key;
	entry.value = value;
	node.text = text;
	node.child = &child;
	node.n_texts = 3;
	node.texts = texts;
	node.n_entries = 1;
	node.entries = entries;
	node.raw = (ProtobufCBinaryData){3, (uint8_t[]){0, 0xff, 0}};
	node.number = -5;
	node.wide = UINT64_MAX;
	node.narrow = 7;
	child.choice_case = PBTEST__NODE__CHOICE_CHOICE_TEXT;
	child.choice_text = text;
	data = pb_pack(&node.base, &len);
	assert_non_null(data);
	assert_int_equal(pb_unpack(&pbtest__node__descriptor, data, len, NULL, &arena, &msg, &err),
			 0);
	free(data);
	got = (Pbtest__Node *)msg;
	assert_string_equal(got->text, "hello");
	assert_string_equal(got->child->choice_text, "hello");
	assert_int_equal(got->n_texts, 3);
	assert_string_equal(got->texts[2], "dr\xc3\xa4i");
	assert_string_equal(got->entries[0]->value, "v");
	assert_int_equal(got->raw.len, 3);
	assert_memory_equal(got->raw.data, "\0\xff\0", 3);
	assert_int_equal(got->number, -5);
	assert_true(got->wide == UINT64_MAX);
	assert_int_equal(got->narrow, 7);
	assert_null(pb_free(arena));
}

static void test_empty(void **state)
{
	Pbtest__Node node = PBTEST__NODE__INIT;
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	size_t len = 1;
	void *data = pb_pack(&node.base, &len);

	assert_non_null(data);
	assert_int_equal(len, 0);
	free(data);
	assert_int_equal(pb_unpack(&pbtest__node__descriptor, NULL, 0, NULL, &arena, &msg, NULL),
			 0);
	assert_string_equal(((Pbtest__Node *)msg)->text, "");
	pb_free(arena);
	assert_null(pb_free(NULL));
}

static void expect_refused(int code, const char *part)
{
	struct err err = ERR_INIT;
	int r = unpack(NULL, &err);

	assert_int_equal(r, code);
	assert_int_equal(err.code, code);
	if (!strstr(err.msg, part))
		fail_msg("'%s' does not say '%s'", err.msg, part);
	assert_int_equal(unpack(NULL, NULL), code);
}

static void test_nul(void **state)
{
	put_field(1, "a\0b", 3);
	expect_refused(-EBADMSG, "field 'text' of pbtest.Node holds a NUL byte");
	wrap(2);
	wrap(3);
	expect_refused(-EBADMSG, "NUL byte");
	buf.len = 0;
	put_field(4, "\0", 1);
	expect_refused(-EBADMSG, "'texts'");
	buf.len = 0;
	put_field(2, "\0v", 2); /* a map's value */
	wrap(5);
	expect_refused(-EBADMSG, "'value' of pbtest.Node.EntriesEntry");
	buf.len = 0;
	put_field(8, "x\0", 2);
	expect_refused(-EBADMSG, "'choice_text'");
	buf.len = 0;
	put_field(1, "fine",
		  4); /* a later one of a singular field counts, too, and an earlier one as well */
	put_field(1, "no\0", 3);
	put_field(1, "fine", 4);
	expect_refused(-EBADMSG, "'text'");
	buf.len = 0;
	put_field(6, "a\0b", 3);
	assert_int_equal(unpack(NULL, NULL), 0);
	put_field(99, "a\0b", 3); /* unknown: nobody reads it */
	assert_int_equal(unpack(NULL, NULL), 0);
}

static void test_utf8(void **state)
{
	put_field(1, "\xc3\xa4", 2);
	assert_int_equal(unpack(NULL, NULL), 0);
	put_field(4, "\xff", 1);
	expect_refused(-EBADMSG, "field 'texts' of pbtest.Node is not valid UTF-8");
	buf.len = 0;
	put_field(1, "\xc3", 1);
	wrap(9);
	expect_refused(-EBADMSG, "UTF-8");
}

static void test_malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{"\x0a", 1}, /* no length */
		{"\x0a\x05"
		 "abc",
		 5},						      /* length past the end */
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* huge length */
		{"\x80", 1},					      /* tag not ended */
		{"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11}, /* varint of 11 bytes */
		{"\x00\x01", 2},				      /* field 0 */
		{"\x0b", 1},					      /* group */
		{"\x0c", 1},					      /* end of group */
		{"\x0f\x01", 2},				      /* wire type 7 */
		{"\x51\x01\x02", 3},				      /* fixed64 cut */
		{"\x5d\x01\x02", 3},				      /* fixed32 cut */
		{"\x38\xff", 2},				      /* varint cut */
		{"\x08\x01", 2},	 /* a varint where a string belongs */
		{"\x12\x02\x0a\x05", 4}, /* bad inside a child */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = ERR_INIT;

		memcpy(buf.p, cases[i].bytes, cases[i].len);
		buf.len = cases[i].len;
		if (unpack(NULL, &err) != -EBADMSG)
			fail_msg("case %zu was accepted", i);
		assert_non_null(strstr(err.msg, "not a valid pbtest.Node"));
	}
}

static void test_every_cut(void **state)
{
	size_t full;

	put_field(1, "text", 4);
	put_field(4, "more", 4);
	wrap(2);
	put_field(6, "raw", 3);
	full = buf.len;
	for (size_t len = 0; len <= full; len++) {
		int r;

		buf.len = len;
		r = unpack(NULL, NULL);
		assert_true(r == 0 || r == -EBADMSG);
	}
}

static void test_depth(void **state)
{
	for (int depth = 1; depth < 32; depth++)
		wrap(depth % 2 ? 2 : 9);
	assert_int_equal(unpack(NULL, NULL), 0);
	wrap(3);
	expect_refused(-E2BIG, "more than 32 deep");
}

static void test_limits(void **state)
{
	struct pb_limits few = {.max_objects = 10}, small = {.max_bytes = 4096};
	struct err err = ERR_INIT;

	for (int i = 0; i < 50; i++)
		put_field(3, "", 0);
	assert_int_equal(unpack(NULL, NULL), 0);
	assert_int_equal(unpack(&few, &err), -E2BIG);
	assert_non_null(strstr(err.msg, "more than is allowed"));
	assert_int_equal(unpack(&small, &err), -E2BIG);
	for (int i = 0; i < 50000; i++)
		put_field(3, "", 0);
	assert_int_equal(unpack(NULL, NULL), 0); /* 50,050 objects */
	buf.len = 0;
	memset(buf.p, 'a', 60000);
	buf.len = 60000;
	wrap(1);
	assert_int_equal(unpack(&small, &err), -E2BIG);
	assert_int_equal(unpack(NULL, &err), 0);
}

static void test_default_limits(void **state)
{
	size_t n = 200000;
	uint8_t *data = malloc(2 * n);
	struct pb_arena *arena;
	ProtobufCMessage *msg;

	for (size_t i = 0; i < n; i++) {
		data[2 * i] = 3 << 3 | 2;
		data[2 * i + 1] = 0;
	}
	assert_int_equal(
		pb_unpack(&pbtest__node__descriptor, data, 2 * n, NULL, &arena, &msg, NULL),
		-E2BIG);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_round_trip, start),
		cmocka_unit_test_setup(test_empty, start),
		cmocka_unit_test_setup(test_nul, start),
		cmocka_unit_test_setup(test_utf8, start),
		cmocka_unit_test_setup(test_malformed, start),
		cmocka_unit_test_setup(test_every_cut, start),
		cmocka_unit_test_setup(test_depth, start),
		cmocka_unit_test_setup(test_limits, start),
		cmocka_unit_test_setup(test_default_limits, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
