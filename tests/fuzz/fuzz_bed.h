/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena that the fuzzers damage: a small one with every kind of thing in it, made once, put
 * back before each input. An input is a list of patches, each aimed at the used part of a region,
 * so that the fuzzer's bytes reach words that mean something.
 */
#ifndef TESTS_FUZZ_BED_H
#define TESTS_FUZZ_BED_H

#include <stddef.h>
#include <stdint.h>

extern const char *fuzz_path; /* $FSB_FUZZ_ARENA */
extern uint8_t *fuzz_map;
extern size_t fuzz_bytes;

/* Makes the arena, once; with $FSB_FUZZ_SEEDS writes inputs for a corpus there. */
void fuzz_begin(void);
/* The bytes and the length as they were made. */
void fuzz_restore(void);
/* 16 bytes a patch: operation, region, 2 unused, offset 4, value 8. */
void fuzz_patch(const uint8_t *data, size_t size);

/* libFuzzer's names */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that a reader can ask of an arena; with change what a worker and registryd do, too. */
void fuzz_use(int change);

#endif
