/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandbox object → record. What stands in a store may have been edited by hand: every type and
 * range is checked, and the error names the field. Texts of the result point into the parsed
 * document, which the object owns.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/pb.h"
#include "base/str.h"
#include "object.h"
#include "spec.pb-c.h"

struct owned {
	json_t *root;
	void *spec, *labels;
	char image[REG_IMAGE_MAX + 1];
	uint16_t ports[REG_PORTS_MAX];
};

/* The document being read; the first error stays. */
struct parse {
	struct err *err;
	int code;
};

static void refuse(struct parse *p, const char *field, const char *wanted)
{
	if (!p->code)
		p->code = err_set(p->err, -EBADMSG, "field '%s' is not %s", field, wanted);
}

/* A member object; an empty one when it is absent. */
static const json_t *get_object(struct parse *p, const json_t *from, const char *key)
{
	const json_t *value = json_object_get(from, key);

	if (value && !json_is_object(value)) {
		refuse(p, key, "an object");
		return NULL;
	}
	return value;
}

static const char *get_text(struct parse *p, const json_t *from, const char *key)
{
	const json_t *value = json_object_get(from, key);

	if (!value)
		return "";
	if (!json_is_string(value) ||
	    strlen(json_string_value(value)) != json_string_length(value)) {
		refuse(p, key, "a text without NUL");
		return "";
	}
	return json_string_value(value);
}

static const char *get_required(struct parse *p, const json_t *from, const char *key, size_t max)
{
	const char *text = get_text(p, from, key);

	if (!text[0] || strlen(text) > max)
		refuse(p, key, "a text of the permitted length");
	return text;
}

static int64_t get_int(struct parse *p, const json_t *from, const char *key, int64_t min,
		       int64_t max)
{
	const json_t *value = json_object_get(from, key);
	int64_t n = json_integer_value(value);

	if (!value)
		return 0;
	if (!json_is_integer(value) || n < min || n > max) {
		refuse(p, key, "a whole number in range");
		return 0;
	}
	return n;
}

static int64_t get_time_ns(struct parse *p, const json_t *from, const char *key)
{
	const char *text = get_text(p, from, key);
	int64_t ns = 0;

	if (text[0] && clock_parse_rfc3339(text, &ns) < 0)
		refuse(p, key, "an RFC 3339 time");
	return ns;
}

int crd_time_parse(const char *text, int64_t *ret_unix_s)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	int64_t ns;
	int r;

	if (end && !*end) {
		*ret_unix_s = timegm(&tm);
		return 0;
	}
	r = clock_parse_rfc3339(text, &ns);
	if (r == 0)
		*ret_unix_s = ns / (int64_t)NS_PER_S;
	return r;
}

static int64_t get_seconds(struct parse *p, const json_t *from, const char *key)
{
	const char *text = get_text(p, from, key);
	int64_t s = 0;

	if (text[0] && crd_time_parse(text, &s) < 0)
		refuse(p, key, "an RFC 3339 time");
	return s;
}

/* A list of texts as a protobuf-c array (gives; its elements are the document's). */
static char **get_texts(struct parse *p, const json_t *from, const char *key, size_t *ret_n)
{
	const json_t *array = json_object_get(from, key);
	size_t n = json_array_size(array);
	char **texts;

	if (array && !json_is_array(array))
		refuse(p, key, "a list of texts");
	texts = n ? calloc(n, sizeof(*texts)) : NULL;
	if (n && !texts) {
		p->code = -ENOMEM;
		n = 0;
	}
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(array, i);

		if (!json_is_string(item))
			refuse(p, key, "a list of texts");
		texts[i] = (char *)(uintptr_t)(json_is_string(item) ? json_string_value(item) : "");
	}
	*ret_n = n;
	return texts;
}

/*
 * The generated map entries of spec.proto are distinct types of one shape (base, key, value): one
 * reader fills them all through the type that StringMap has.
 */
typedef Fsb__V1__StringMap__EntriesEntry pair_t;
_Static_assert(sizeof(pair_t) == sizeof(Fsb__V1__SandboxSpec__EnvsEntry) &&
		       sizeof(pair_t) == sizeof(Fsb__V1__SandboxSpec__ResourcesEntry),
	       "map entries have one shape");

struct pairs {
	pair_t **items;
	pair_t *pool;
	size_t n;
};

static bool pairs_alloc(struct parse *p, struct pairs *pairs, size_t n)
{
	*pairs = (struct pairs){0};
	if (!n)
		return false;
	pairs->items = calloc(n, sizeof(*pairs->items));
	pairs->pool = calloc(n, sizeof(*pairs->pool));
	if (!pairs->items || !pairs->pool) {
		p->code = -ENOMEM;
		return false;
	}
	return true;
}

static void pairs_free(struct pairs *pairs)
{
	free(pairs->items);
	free(pairs->pool);
}

static void pairs_add(struct pairs *pairs, const ProtobufCMessageDescriptor *type, const char *key,
		      const char *value)
{
	pair_t *pair = &pairs->pool[pairs->n];

	protobuf_c_message_init(type, pair);
	pair->key = (char *)(uintptr_t)key;
	pair->value = (char *)(uintptr_t)value;
	pairs->items[pairs->n++] = pair;
}

/* {"k": "v"} without the key skip (NULL: none). */
static void get_map(struct parse *p, const json_t *from, const char *field,
		    const ProtobufCMessageDescriptor *type, bool skip_created_by, struct pairs *ret)
{
	const json_t *map = get_object(p, from, field);
	const char *key;
	json_t *value;

	if (!pairs_alloc(p, ret, json_object_size(map)))
		return;
	json_object_foreach((json_t *)(uintptr_t)map, key, value)
	{
		if (skip_created_by && strcmp(key, CRD_LABEL_CREATED_BY) == 0)
			continue;
		if (json_is_string(value))
			pairs_add(ret, type, key, json_string_value(value));
		else
			refuse(p, field, "a map of texts");
	}
}

/* [{"name": "k", "value": "v"}] */
static void get_envs(struct parse *p, const json_t *spec, struct pairs *ret)
{
	const json_t *envs = json_object_get(spec, "envs");

	if (envs && !json_is_array(envs))
		refuse(p, "envs", "a list of name and value");
	if (!pairs_alloc(p, ret, json_array_size(envs)))
		return;
	for (size_t i = 0; i < json_array_size(envs); i++) {
		const json_t *env = json_array_get(envs, i);

		if (!json_is_object(env))
			refuse(p, "envs", "a list of name and value");
		pairs_add(ret, &fsb__v1__sandbox_spec__envs_entry__descriptor,
			  get_text(p, env, "name"), get_text(p, env, "value"));
	}
}

static void get_ports(struct parse *p, const json_t *spec, struct owned *own, int32_t *ports,
		      struct reg_request *req)
{
	const json_t *list = json_object_get(spec, "exposedPorts");
	size_t n = json_array_size(list);

	if ((list && !json_is_array(list)) || n > REG_PORTS_MAX) {
		refuse(p, "exposedPorts", "a list of at most 32 ports");
		n = 0;
	}
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(list, i);
		json_int_t port = json_integer_value(item);

		if (!json_is_integer(item) || port < 1 || port > UINT16_MAX)
			refuse(p, "exposedPorts", "a list of ports from 1 to 65535");
		own->ports[i] = (uint16_t)port;
		ports[i] = (int32_t)port;
	}
	req->ports = own->ports;
	req->port_count = (uint32_t)n;
}

static void pack(struct parse *p, const void *msg, uint32_t max, void **ret, uint32_t *ret_len)
{
	size_t len = 0;

	if (p->code || !protobuf_c_message_get_packed_size(msg))
		return;
	*ret = pb_pack(msg, &len);
	if (!*ret)
		p->code = -ENOMEM;
	else if (len > max)
		p->code = err_set(p->err, -EBADMSG, "%zu bytes encoded, at most %u are possible",
				  len, max);
	*ret_len = (uint32_t)len;
}

static void read_spec(struct parse *p, const json_t *spec, struct owned *own,
		      struct reg_request *req)
{
	Fsb__V1__SandboxSpec msg = FSB__V1__SANDBOX_SPEC__INIT;
	struct pairs envs, resources;
	int32_t ports[REG_PORTS_MAX];

	msg.image = (char *)(uintptr_t)get_required(p, spec, "image", REG_IMAGE_MAX);
	msg.command = get_texts(p, spec, "command", &msg.n_command);
	msg.args = get_texts(p, spec, "args", &msg.n_args);
	msg.working_dir = (char *)(uintptr_t)get_text(p, spec, "workingDir");
	msg.network = (char *)(uintptr_t)get_text(p, spec, "network");
	get_envs(p, spec, &envs);
	msg.n_envs = envs.n;
	msg.envs = (Fsb__V1__SandboxSpec__EnvsEntry **)(void *)envs.items;
	get_map(p, spec, "resources", &fsb__v1__sandbox_spec__resources_entry__descriptor, false,
		&resources);
	msg.n_resources = resources.n;
	msg.resources = (Fsb__V1__SandboxSpec__ResourcesEntry **)(void *)resources.items;
	get_ports(p, spec, own, ports, req);
	msg.n_exposed_ports = req->port_count;
	msg.exposed_ports = ports;
	pack(p, &msg, REG_SPEC_MAX, &own->spec, &req->spec_len);
	req->spec = own->spec;
	free(msg.command);
	free(msg.args);
	pairs_free(&envs);
	pairs_free(&resources);
}

static void read_policy(struct parse *p, const json_t *spec, struct reg_request *req)
{
	const char *policy = get_text(p, spec, "failurePolicy");

	req->pool = get_required(p, spec, "poolRef", REG_NAME_MAX);
	req->expire_unix_s = get_seconds(p, spec, "expireTime");
	req->recovery_timeout_s =
		(int32_t)get_int(p, spec, "recoveryTimeoutSeconds", INT32_MIN, INT32_MAX);
	if (strcmp(policy, "AutoRecreate") == 0)
		req->policy = REG_AUTO_RECREATE;
	else if (policy[0] && strcmp(policy, "Manual") != 0)
		refuse(p, "failurePolicy", "Manual or AutoRecreate");
}

static void read_labels(struct parse *p, const json_t *meta, struct owned *own,
			struct reg_request *req)
{
	const json_t *labels = get_object(p, meta, "labels");
	Fsb__V1__StringMap msg = FSB__V1__STRING_MAP__INIT;
	struct pairs pairs;

	req->consistency = json_object_get(labels, CRD_LABEL_CREATED_BY) ? REG_FAST : REG_STRONG;
	get_map(p, meta, "labels", &fsb__v1__string_map__entries_entry__descriptor, true, &pairs);
	msg.n_entries = pairs.n;
	msg.entries = pairs.items;
	pack(p, &msg, REG_LABELS_MAX, &own->labels, &req->labels_len);
	req->labels = own->labels;
	pairs_free(&pairs);
}

static void read_annotations(struct parse *p, const json_t *meta, struct reg_request *req)
{
	const json_t *notes = get_object(p, meta, "annotations");
	const char *created = get_text(p, notes, CRD_ANNOTATION_CREATED);
	const char *hash = get_text(p, notes, CRD_ANNOTATION_REQUEST_HASH);
	char *end = NULL;

	req->request_id = get_text(p, notes, CRD_ANNOTATION_REQUEST_ID);
	if (created[0]) {
		if (str_to_i64(created, 0, INT64_MAX, &req->created_unix_ns) < 0)
			refuse(p, CRD_ANNOTATION_CREATED, "a decimal number");
	} else {
		req->created_unix_ns = get_time_ns(p, meta, "creationTimestamp");
	}
	if (hash[0]) {
		req->request_hash = strtoull(hash, &end, 16);
		if (*end || strlen(hash) != 16)
			refuse(p, CRD_ANNOTATION_REQUEST_HASH, "16 hexadecimal digits");
	}
}

/* What the record is on an arena that has just been made; whether it still runs, its agent will
 * tell. */
static enum reg_state state_of_phase(struct parse *p, const char *phase)
{
	static const struct {
		const char *phase;
		enum reg_state state;
	} phases[] = {
		{"", REG_RESTORED},	   {"Pending", REG_RESTORED},	  {"Bound", REG_RESTORED},
		{"Running", REG_RESTORED}, {"Terminating", REG_RESTORED}, {"Succeeded", REG_EXITED},
		{"Failed", REG_EXITED},	   {"Expired", REG_EXPIRED},	  {"Lost", REG_LOST},
	};

	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
		if (strcmp(phase, phases[i].phase) == 0)
			return phases[i].state;
	}
	refuse(p, "phase", "a known phase");
	return REG_RESTORED;
}

static void read_image(struct parse *p, const json_t *status, const json_t *spec, struct owned *own,
		       struct reg_request *req)
{
	const char *image = get_text(p, status, "image");

	if (!image[0] && !p->code) {
		if (str_image_canonical(get_text(p, spec, "image"), own->image,
					sizeof(own->image)) < 0)
			refuse(p, "image", "an image reference");
		image = own->image;
	}
	req->image = image;
}

static void read_status(struct parse *p, const json_t *status, struct reg_restore *restore)
{
	struct reg_exit *e = &restore->exit;

	restore->req.id = get_required(p, status, "sandboxID", REG_ID_MAX);
	restore->state = state_of_phase(p, get_text(p, status, "phase"));
	restore->agent_name = get_text(p, status, "assignedPod");
	restore->message = get_text(p, status, "message");
	restore->started_unix_ns = get_time_ns(p, status, "startedAt");
	e->finished_unix_ns = get_time_ns(p, status, "finishedAt");
	e->code = (int32_t)get_int(p, status, "exitCode", INT32_MIN, INT32_MAX);
	e->signal = (int32_t)get_int(p, status, "signal", 0, INT32_MAX);
	e->oom_killed = json_is_true(json_object_get(status, "oomKilled"));
	e->unknown = json_is_true(json_object_get(status, "exitUnknown"));
}

static void read_object(struct parse *p, struct owned *own, struct crd_object *ret)
{
	const json_t *meta = get_object(p, own->root, "metadata");
	const json_t *spec = get_object(p, own->root, "spec");
	const json_t *status = get_object(p, own->root, "status");
	struct reg_request *req = &ret->restore.req;

	if (strcmp(get_text(p, own->root, "apiVersion"), CRD_API_VERSION) != 0 ||
	    strcmp(get_text(p, own->root, "kind"), "Sandbox") != 0)
		refuse(p, "apiVersion/kind", CRD_API_VERSION " Sandbox");
	req->ns = get_required(p, meta, "namespace", REG_NAMESPACE_MAX);
	req->name = get_required(p, meta, "name", REG_NAME_MAX);
	ret->restore.generation = get_int(p, meta, "generation", 0, INT64_MAX);
	ret->deleting = json_object_get(meta, "deletionTimestamp") != NULL;
	read_annotations(p, meta, req);
	read_labels(p, meta, own, req);
	read_spec(p, spec, own, req);
	read_policy(p, spec, req);
	read_status(p, status, &ret->restore);
	read_image(p, status, spec, own, req);
	ret->restore.from_store = true;
}

int crd_object_decode(const char *json, size_t len, struct crd_object *ret, struct err *err)
{
	struct parse p = {.err = err};
	struct owned *own = calloc(1, sizeof(*own));
	json_error_t why;

	*ret = (struct crd_object){.owned = own};
	if (!own)
		return err_set(err, -ENOMEM, "out of memory");
	own->root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(own->root))
		p.code = err_set(err, -EBADMSG, "not a JSON object: %s (line %d)",
				 own->root ? "another type" : why.text, why.line);
	else
		read_object(&p, own, ret);
	if (p.code == -ENOMEM)
		err_set(err, -ENOMEM, "out of memory");
	if (p.code)
		crd_object_clear(ret);
	return p.code;
}

void crd_object_clear(struct crd_object *object)
{
	struct owned *own = object->owned;

	if (own) {
		json_decref(own->root);
		free(own->spec);
		free(own->labels);
		free(own);
	}
	*object = (struct crd_object){0};
}
