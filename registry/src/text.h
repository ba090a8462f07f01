/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Short texts and runs of words, inline: lengths, comparison, and stores into shared memory. A
 * reservation handles a dozen of them, most of less than 40 bytes.
 */
#ifndef REGISTRY_SRC_TEXT_H
#define REGISTRY_SRC_TEXT_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* gcc defines a macro, clang has a feature */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define REG_SANITIZED 1
#else
#define REG_SANITIZED 0
#endif

#ifdef __SANITIZE_THREAD__
#define PAIRS 0
#else
#define PAIRS 1 /* two words per store */
#endif

static inline uint64_t reg__eight(const void *text)
{
	uint64_t w;

	memcpy(&w, text, 8);
	return w;
}

/* The last 0 to 7 bytes of a text as a word, filled with 0. */
static inline uint64_t reg__tail_word(const void *text, uint32_t len)
{
	const uint8_t *src = text;
	uint64_t w = 0;
	uint32_t four;
	uint16_t two;

	if (len & 4) {
		memcpy(&four, src, 4);
		w = four;
	}
	if (len & 2) {
		memcpy(&two, src + (len & 4), 2);
		w |= (uint64_t)two << (8 * (len & 4));
	}
	if (len & 1)
		w |= (uint64_t)src[len & 6] << (8 * (len & 6));
	return w;
}

/* As strnlen(text, max + 1); of a longer one any number above max. */
static inline uint32_t reg__text_len(const char *text, uint32_t max)
{
#if REG_SANITIZED
	return (uint32_t)strnlen(text, max + 1);
#else
	/* aligned blocks that hold a byte of the text each: none reaches into another page */
	uint32_t before = (uint32_t)((uintptr_t)text & 15), len = 16 - before;
	const __m128i *at = (const __m128i *)(const void *)(text - before);
	const __m128i zero = _mm_setzero_si128();
	uint32_t ends = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(at), zero));

	if (ends >>= before)
		return (uint32_t)__builtin_ctz(ends);
	for (; len <= max; len += 16) {
		ends = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(++at), zero));
		if (ends)
			return len + (uint32_t)__builtin_ctz(ends);
	}
	return len;
#endif
}

static inline bool reg__same_16(const char *a, const char *b)
{
	return _mm_movemask_epi8(
		       _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)a),
				      _mm_loadu_si128((const __m128i *)(const void *)b))) == 0xffff;
}

/* Two texts of that length; what is compared last may overlap what came before. */
static inline bool reg__text_same(const char *a, const char *b, uint32_t len)
{
	if (len < 8)
		return reg__tail_word(a, len) == reg__tail_word(b, len);
	if (len < 16)
		return reg__eight(a) == reg__eight(b) &&
		       reg__eight(a + len - 8) == reg__eight(b + len - 8);
	for (uint32_t i = 0; i + 16 < len; i += 16)
		if (!reg__same_16(a + i, b + i))
			return false;
	return reg__same_16(a + len - 16, b + len - 16);
}

/* A text in shared memory, in whole words, is this one; of at most cap bytes. */
static inline bool reg__text_is(const void *there, const char *text, uint32_t cap)
{
	const uint64_t *shared = there;
	size_t len = strlen(text) + 1;

	for (size_t i = 0; i < len && i < cap; i += 8) {
		uint64_t w = __atomic_load_n(&shared[i / 8], __ATOMIC_ACQUIRE); /* acquire [R2] */

		if (memcmp(&w, text + i, len - i < 8 ? len - i : 8))
			return false;
	}
	return true;
}

/*
 * Release stores [R2] [B1]: pair with reg__words_out and reg__text_read; who sees these bytes sees
 * the record or blob word that allowed them. Two words at once where ThreadSanitizer does not look:
 * the processor keeps each aligned half whole and its stores in order, and the compiler moves none
 * of them over the exchange that claimed the place nor over the release that publishes it.
 */
static inline void reg__word_in(uint64_t *dst, uint64_t w)
{
	__atomic_store_n(dst, w, __ATOMIC_RELEASE); /* [R2] [B1] */
}

static inline void reg__pair_in(uint64_t *dst, const uint8_t *src)
{
	_mm_store_si128((__m128i *)(void *)dst,
			_mm_loadu_si128((const __m128i *)(const void *)src));
}

static inline void reg__line_in(uint64_t *dst, const uint8_t *src)
{
	reg__pair_in(dst, src);
	reg__pair_in(dst + 2, src + 16);
	reg__pair_in(dst + 4, src + 32);
	reg__pair_in(dst + 6, src + 48);
}

/* Whole words. */
static inline void reg__words_in(uint64_t *dst, const void *src, uint32_t len)
{
	const uint8_t *from = src;
	uint32_t i = 0;

	if (PAIRS && (uintptr_t)dst & 8 && len >= 8) {
		reg__word_in(dst, reg__eight(from));
		i = 8;
	}
	for (; PAIRS && i + 64 <= len; i += 64)
		reg__line_in(dst + i / 8, from + i);
	for (; PAIRS && i + 16 <= len; i += 16)
		reg__pair_in(dst + i / 8, from + i);
	for (; i + 8 <= len; i += 8)
		reg__word_in(dst + i / 8, reg__eight(from + i));
}

/* The last word filled with 0. */
static inline void reg__tail_in(uint64_t *dst, const void *src, uint32_t len)
{
	const uint8_t *from = src;
	uint32_t i = 0;

	if (len < 8) {
		if (len)
			reg__word_in(dst, reg__tail_word(from, len));
		return;
	}
	if (PAIRS && (uintptr_t)dst & 8) {
		reg__word_in(dst, reg__eight(from));
		i = 8;
	}
	for (; PAIRS && i + 16 <= len; i += 16)
		reg__pair_in(dst + i / 8, from + i);
	for (; i + 8 <= len; i += 8)
		reg__word_in(dst + i / 8, reg__eight(from + i));
	if (len & 7) /* of the last eight bytes those that are not written yet */
		reg__word_in(dst + i / 8, reg__eight(from + len - 8) >> (64 - 8 * (len & 7)));
}

/* At most size - 1 bytes and always a NUL, whatever src holds. */
static inline void reg__text_copy(char *dst, size_t size, const char *src)
{
	size_t len = strnlen(src, size - 1);

	memcpy(dst, src, len);
	dst[len] = 0;
}

#endif
