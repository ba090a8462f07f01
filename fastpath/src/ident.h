/* SPDX-License-Identifier: Apache-2.0 */
/* Identities: the sandbox id that either controller can derive again, and the hash that tells a
 * repeat from a misuse. */
#ifndef FASTPATH_IDENT_H
#define FASTPATH_IDENT_H

#include <stddef.h>
#include <stdint.h>

enum { FP_ID_LEN = 32 };

/* Lower-case hex md5 of "name:namespace:created_unix_ns" (the wire's own rule). 0, or -EIO when
 * libcrypto refuses md5. */
int fp_sandbox_id(const char *name, const char *ns, int64_t created_unix_ns,
		  char ret[FP_ID_LEN + 1]);

/* FNV-1a over length-prefixed parts, so that ("a", "bc") and ("ab", "c") differ. Start with
 * FP_HASH_INIT. */
#define FP_HASH_INIT UINT64_C(0xcbf29ce484222325)
uint64_t fp_hash_bytes(uint64_t hash, const void *data, size_t len);
uint64_t fp_hash_str(uint64_t hash, const char *text);
uint64_t fp_hash_i64(uint64_t hash, int64_t value);

#endif
