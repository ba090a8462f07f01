/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsing and checking of small texts. All return 0 or -EINVAL/-ERANGE and set the
 * out-parameter only on success. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal, whole string, within [min, max]. */
int str_to_i64(const char *text, int64_t min, int64_t max, int64_t *ret);
/* A Kubernetes quantity ("500m", "1.5", "64Mi", "1e3", "2G") in milli-units, rounded up; rejects
 * negatives and overflow. */
int str_to_quantity_milli(const char *text, int64_t *ret_milli);
/* DNS-1123 label ([a-z0-9]([-a-z0-9]*[a-z0-9])?, 1..63). */
bool str_is_dns1123_label(const char *text);
/* DNS-1123 subdomain as Kubernetes checks it: parts like labels joined by dots, 253 bytes in all (a
 * part may pass 63). */
bool str_is_dns1123_subdomain(const char *text);
/* Kubernetes label key ([prefix/]name) and value ("" or 1..63 of [A-Za-z0-9_.-], alphanumeric at
 * both ends). */
bool str_is_label_key(const char *text);
bool str_is_label_value(const char *text);
/* Well-formed UTF-8 without NUL in the first len bytes. */
bool str_is_utf8(const char *text, size_t len);
/*
 * Canonical image reference: "busybox" -> "docker.io/library/busybox:latest"; with a digest no tag
 * is added. -EINVAL when malformed; -ENAMETOOLONG when it is over the grammar's limits or does not
 * fit into size.
 */
int str_image_canonical(const char *ref, char *buf, size_t size);
/* Lower-case hex of len bytes into buf (2*len+1). */
char *str_hex(const void *data, size_t len, char *buf);

#endif
