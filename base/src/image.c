/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image references by the rules of the distribution project (its "reference" grammar and Docker's
 * familiar names): [host/]path[:tag][@digest], where the first component is a host when it has a
 * '.' or ':' or is "localhost".
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

/* Not terminated; of the caller's text. */
struct span {
	const char *p;
	size_t len;
};

struct image_ref {
	struct span host, path, tag, digest; /* len 0: absent */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z');
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f');
}

static bool span_is(struct span s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.p, text, s.len) == 0;
}

static bool all_hex(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_hex(s.p[i]))
			return false;
	return true;
}

/* Alphanumerics separated by one '.', one or two '_', or any number of '-'. */
static bool is_path_component(struct span s)
{
	size_t i = 0;

	if (s.len == 0 || !is_lower_alnum(s.p[0]) || !is_lower_alnum(s.p[s.len - 1]))
		return false;
	while (i < s.len) {
		size_t start = i;

		for (; i < s.len && is_lower_alnum(s.p[i]); i++)
			;
		if (i == start)
			return false;
		if (i == s.len)
			return true;
		if (s.p[i] == '.')
			i++;
		else if (s.p[i] == '_')
			i += 1 + (s.p[i + 1] == '_'); /* the last character is none of these */
		else
			for (; s.p[i] == '-'; i++)
				;
	}
	return false;
}

static bool is_path(struct span s)
{
	for (;;) {
		const char *slash = memchr(s.p, '/', s.len);
		size_t len = slash ? (size_t)(slash - s.p) : s.len;

		if (!is_path_component((struct span){s.p, len}))
			return false;
		if (!slash)
			return true;
		s = (struct span){slash + 1, s.len - len - 1};
	}
}

/* Letters, digits, inner '-', parts joined by dots. */
static bool is_host_name(struct span s)
{
	char before = '.';

	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c == '.' || c == '-') {
			if (before == '.' || (c == '.' && before == '-'))
				return false;
		} else if (!is_letter(c) && !is_digit(c)) {
			return false;
		}
		before = c;
	}
	return before != '.' && before != '-';
}

/* [::1] */
static bool is_bracketed(struct span s)
{
	if (s.len < 4 || s.p[0] != '[' || s.p[s.len - 1] != ']')
		return false;
	for (size_t i = 1; i < s.len - 1; i++)
		if (!is_hex(s.p[i]) && s.p[i] != ':' && !(s.p[i] >= 'A' && s.p[i] <= 'F'))
			return false;
	return true;
}

static bool is_host(struct span s)
{
	const char *colon = memrchr(s.p, ':', s.len);
	struct span name = s;

	if (colon && !(s.p[0] == '[' && s.p[s.len - 1] == ']')) {
		name.len = (size_t)(colon - s.p);
		if (name.len + 1 == s.len)
			return false;
		for (size_t i = name.len + 1; i < s.len; i++)
			if (!is_digit(s.p[i]))
				return false;
	}
	return s.p[0] == '[' ? is_bracketed(name) : is_host_name(name);
}

static bool is_tag(struct span s)
{
	if (s.len == 0 || s.len > 128 || s.p[0] == '.' || s.p[0] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_letter(s.p[i]) && !is_digit(s.p[i]) && !strchr("_.-", s.p[i]))
			return false;
	return true;
}

/* algorithm:hex, e.g. sha256: and 64 digits. */
static bool is_digest(struct span s)
{
	const char *colon = memchr(s.p, ':', s.len);
	struct span algorithm, hex;
	char before = '.';

	if (!colon)
		return false;
	algorithm = (struct span){s.p, (size_t)(colon - s.p)};
	hex = (struct span){colon + 1, s.len - algorithm.len - 1};
	for (size_t i = 0; i < algorithm.len; i++) {
		char c = algorithm.p[i];
		bool separator = strchr("+._-", c);
		bool starts = strchr("+._-", before);

		if (starts ? !is_letter(c) : !separator && !is_letter(c) && !is_digit(c))
			return false;
		before = c;
	}
	if (strchr("+._-", before))
		return false;
	if (span_is(algorithm, "sha256") && hex.len != 64)
		return false;
	return hex.len >= 32 && all_hex(hex);
}

/* Cuts the text at its separators; no checks yet. */
static struct image_ref split(const char *text)
{
	struct image_ref ref = {.path = {text, strlen(text)}};
	const char *at = memchr(text, '@', ref.path.len), *slash, *colon;

	if (at) {
		ref.digest = (struct span){at + 1, ref.path.len - (size_t)(at + 1 - text)};
		ref.path.len = (size_t)(at - text);
	}
	slash = memchr(text, '/', ref.path.len);
	if (slash) {
		struct span first = {text, (size_t)(slash - text)};

		if (memchr(first.p, '.', first.len) || memchr(first.p, ':', first.len) ||
		    span_is(first, "localhost")) {
			ref.host = first;
			ref.path = (struct span){slash + 1, ref.path.len - first.len - 1};
		}
	}
	colon = memchr(ref.path.p, ':', ref.path.len);
	if (colon) {
		ref.tag = (struct span){colon + 1, ref.path.len - (size_t)(colon + 1 - ref.path.p)};
		ref.path.len = (size_t)(colon - ref.path.p);
	}
	return ref;
}

static int check(const struct image_ref *ref)
{
	if (!is_path(ref->path) || (ref->path.len == 64 && all_hex(ref->path)))
		return -EINVAL; /* 64 hex digits would be an image id */
	if (ref->host.p && (ref->host.len == 0 || !is_host(ref->host)))
		return -EINVAL;
	if ((ref->tag.p && !is_tag(ref->tag)) || (ref->digest.p && !is_digest(ref->digest)))
		return -EINVAL;
	return 0;
}

int str_image_canonical(const char *text, char *buf, size_t size)
{
	struct image_ref ref = split(text);
	const char *library = "";
	int r = check(&ref), n;

	if (r < 0)
		return r;
	if (!ref.host.p || span_is(ref.host, "index.docker.io"))
		ref.host = (struct span){"docker.io", 9};
	if (span_is(ref.host, "docker.io") && !memchr(ref.path.p, '/', ref.path.len))
		library = "library/";
	if (!ref.tag.p && !ref.digest.p)
		ref.tag = (struct span){"latest", 6};
	if (ref.host.len + 1 + strlen(library) + ref.path.len > 255) /* the grammar's limit */
		return -ENAMETOOLONG;
	n = snprintf(buf, size, "%.*s/%s%.*s%s%.*s%s%.*s", (int)ref.host.len, ref.host.p, library,
		     (int)ref.path.len, ref.path.p, ref.tag.p ? ":" : "", (int)ref.tag.len,
		     ref.tag.p ? ref.tag.p : "", ref.digest.p ? "@" : "", (int)ref.digest.len,
		     ref.digest.p ? ref.digest.p : "");
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}
