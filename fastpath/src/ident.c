/* SPDX-License-Identifier: Apache-2.0 */
/* md5 ids through libcrypto's EVP, and the request hash. */
#include "ident.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "registry/registry.h"

int fp_sandbox_id(const char *name, const char *ns, int64_t created_unix_ns,
		  char ret[FP_ID_LEN + 1])
{
	/* Fetched once: a lookup by name for each digest costs more than the digest. */
	static const EVP_MD *md5;
	static EVP_MD_CTX *ctx;
	char text[REG_NAME_MAX + REG_NAMESPACE_MAX + 32];
	unsigned char digest[EVP_MAX_MD_SIZE];
	int len;

	if (!md5)
		md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	if (!ctx)
		ctx = EVP_MD_CTX_new();
	len = snprintf(text, sizeof(text), "%s:%s:%" PRId64, name, ns, created_unix_ns);
	if (!md5 || !ctx || len < 0 || (size_t)len >= sizeof(text))
		return -EIO;
	if (!EVP_DigestInit_ex2(ctx, md5, NULL) || !EVP_DigestUpdate(ctx, text, (size_t)len) ||
	    !EVP_DigestFinal_ex(ctx, digest, NULL))
		return -EIO;
	str_hex(digest, FP_ID_LEN / 2, ret);
	return 0;
}

/* Constants of the 64-bit Fowler-Noll-Vo hash. */
#define FNV_PRIME UINT64_C(0x100000001b3)

static uint64_t fnv(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * FNV_PRIME;
	return hash;
}

uint64_t fp_hash_bytes(uint64_t hash, const void *data, size_t len)
{
	return fnv(fp_hash_i64(hash, (int64_t)len), data, len);
}

uint64_t fp_hash_str(uint64_t hash, const char *text)
{
	return fp_hash_bytes(hash, text, strlen(text));
}

uint64_t fp_hash_i64(uint64_t hash, int64_t value)
{
	return fnv(hash, &value, sizeof(value));
}
