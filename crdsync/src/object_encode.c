/* SPDX-License-Identifier: Apache-2.0 */
/* Record → Sandbox object. Absent and empty are the same in the CRD, so empty fields are left out.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/pb.h"
#include "base/str.h"
#include "object.h"
#include "spec.pb-c.h"

/* The object being built; bad is set by the first value that JSON can't hold or by want of memory,
 * and checked once at the end. */
struct build {
	const struct reg_sandbox_view *view;
	const Fsb__V1__SandboxSpec *spec;
	const Fsb__V1__StringMap *labels;
	int64_t deleted_unix_ns;
	bool bad;
};

/* Takes value. */
static void put(struct build *b, json_t *to, const char *key, json_t *value)
{
	if (json_object_set_new(to, key, value) < 0)
		b->bad = true;
}

static void put_text(struct build *b, json_t *to, const char *key, const char *text)
{
	if (text[0])
		put(b, to, key, json_string(text));
}

/* Takes value. */
static void append(struct build *b, json_t *to, json_t *value)
{
	if (json_array_append_new(to, value) < 0)
		b->bad = true;
}

static void put_texts(struct build *b, json_t *to, const char *key, char *const *texts, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		append(b, array, json_string(texts[i]));
	if (n)
		put(b, to, key, array);
	else
		json_decref(array);
}

static void put_time(struct build *b, json_t *to, const char *key, int64_t unix_ns)
{
	char text[40];

	put_text(b, to, key, clock_rfc3339(unix_ns, text, sizeof(text)));
}

static void put_seconds(struct build *b, json_t *to, const char *key, int64_t unix_s)
{
	char text[32];

	if (unix_s)
		put_text(b, to, key, crd_time_format(unix_s, text, sizeof(text)));
}

const char *crd_phase(const struct reg_sandbox_view *view)
{
	switch (view->state) {
	case REG_STARTING:
		return "Bound";
	case REG_RUNNING:
		return "Running";
	case REG_STOPPING:
	case REG_GONE:
		return "Terminating";
	case REG_EXITED:
		return view->exit.code == 0 ? "Succeeded" : "Failed";
	case REG_EXPIRED:
		return "Expired";
	case REG_LOST:
		return "Lost";
	default:
		return "Pending";
	}
}

char *crd_time_format(int64_t unix_s, char *buf, size_t size)
{
	const int64_t last =
		INT64_C(253402300799); /* 9999-12-31T23:59:59Z: RFC 3339 has four digits */
	time_t t = unix_s > last ? last : unix_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm))
		buf[0] = '\0';
	return buf;
}

/* metadata.uid is a UUID where the API server makes it; here the id's 32 hex digits in that shape.
 */
static void put_uid(struct build *b, json_t *meta, const char *id)
{
	char uid[40];

	if (strlen(id) != 32) {
		put_text(b, meta, "uid", id);
		return;
	}
	snprintf(uid, sizeof(uid), "%.8s-%.4s-%.4s-%.4s-%.12s", id, id + 8, id + 12, id + 16,
		 id + 20);
	put_text(b, meta, "uid", uid);
}

static json_t *build_labels(struct build *b)
{
	json_t *labels = json_object();

	for (size_t i = 0; i < b->labels->n_entries; i++) {
		const Fsb__V1__StringMap__EntriesEntry *e = b->labels->entries[i];

		put(b, labels, e->key, json_string(e->value));
	}
	if (b->view->consistency == REG_FAST)
		put_text(b, labels, CRD_LABEL_CREATED_BY, CRD_CREATED_BY_FAST);
	else
		json_object_del(labels, CRD_LABEL_CREATED_BY);
	return labels;
}

static json_t *build_annotations(struct build *b)
{
	json_t *notes = json_object();
	char number[32];

	snprintf(number, sizeof(number), "%" PRId64, b->view->created_unix_ns);
	put_text(b, notes, CRD_ANNOTATION_CREATED, number);
	put_text(b, notes, CRD_ANNOTATION_REQUEST_ID, b->view->request_id);
	if (b->view->request_hash) {
		snprintf(number, sizeof(number), "%016" PRIx64, b->view->request_hash);
		put_text(b, notes, CRD_ANNOTATION_REQUEST_HASH, number);
	}
	return notes;
}

static json_t *build_metadata(struct build *b)
{
	const struct reg_sandbox_view *v = b->view;
	json_t *meta = json_object();
	char revision[24];

	put_text(b, meta, "name", v->name);
	put_text(b, meta, "namespace", v->ns);
	put_uid(b, meta, v->id);
	snprintf(revision, sizeof(revision), "%" PRIu64, v->revision);
	put_text(b, meta, "resourceVersion", revision);
	put(b, meta, "generation", json_integer(v->generation));
	put_seconds(b, meta, "creationTimestamp", v->created_unix_ns / (int64_t)NS_PER_S);
	if (v->deleting)
		put_seconds(b, meta, "deletionTimestamp", b->deleted_unix_ns / (int64_t)NS_PER_S);
	put(b, meta, "labels", build_labels(b));
	put(b, meta, "annotations", build_annotations(b));
	return meta;
}

static void put_envs(struct build *b, json_t *spec)
{
	json_t *envs = json_array();

	for (size_t i = 0; i < b->spec->n_envs; i++) {
		json_t *env = json_object();

		put(b, env, "name", json_string(b->spec->envs[i]->key));
		put(b, env, "value", json_string(b->spec->envs[i]->value));
		append(b, envs, env);
	}
	if (b->spec->n_envs)
		put(b, spec, "envs", envs);
	else
		json_decref(envs);
}

static void put_ports(struct build *b, json_t *spec)
{
	json_t *ports = json_array();

	for (size_t i = 0; i < b->spec->n_exposed_ports; i++)
		append(b, ports, json_integer(b->spec->exposed_ports[i]));
	if (b->spec->n_exposed_ports)
		put(b, spec, "exposedPorts", ports);
	else
		json_decref(ports);
}

static void put_resources(struct build *b, json_t *spec)
{
	json_t *resources = json_object();

	for (size_t i = 0; i < b->spec->n_resources; i++)
		put(b, resources, b->spec->resources[i]->key,
		    json_string(b->spec->resources[i]->value));
	if (b->spec->n_resources)
		put(b, spec, "resources", resources);
	else
		json_decref(resources);
}

static json_t *build_spec(struct build *b)
{
	json_t *spec = json_object();

	put_text(b, spec, "image", b->spec->image);
	put_text(b, spec, "poolRef", b->view->pool);
	put_texts(b, spec, "command", b->spec->command, b->spec->n_command);
	put_texts(b, spec, "args", b->spec->args, b->spec->n_args);
	put_envs(b, spec);
	put_text(b, spec, "workingDir", b->spec->working_dir);
	put_ports(b, spec);
	put_seconds(b, spec, "expireTime", b->view->expire_unix_s);
	put_text(b, spec, "failurePolicy",
		 b->view->policy == REG_AUTO_RECREATE ? "AutoRecreate" : "Manual");
	if (b->view->recovery_timeout_s)
		put(b, spec, "recoveryTimeoutSeconds", json_integer(b->view->recovery_timeout_s));
	put_resources(b, spec);
	put_text(b, spec, "network", b->spec->network);
	return spec;
}

/* host:port in the order of the request; only a sandbox in its agent's network can be reached so.
 */
static void put_endpoints(struct build *b, json_t *status)
{
	const char *network = b->spec->network;
	bool shared = *network ? !strcmp(network, "shared") : b->view->agent_shared_network;
	json_t *endpoints;

	if (!shared || !b->view->agent_host_ip[0] || !b->spec->n_exposed_ports)
		return;
	endpoints = json_array();
	for (size_t i = 0; i < b->spec->n_exposed_ports; i++)
		append(b, endpoints,
		       json_sprintf("%s:%d", b->view->agent_host_ip, b->spec->exposed_ports[i]));
	put(b, status, "endpoints", endpoints);
}

/* The record's message is cut at a byte count: leave off what is left of a cut character. */
static void message_text(const char *message, char buf[REG_MESSAGE_MAX + 1])
{
	size_t len = strnlen(message, REG_MESSAGE_MAX);

	while (len && !str_is_utf8(message, len))
		len--;
	memcpy(buf, message, len);
	buf[len] = '\0';
}

static int64_t last_transition_unix_ns(const struct reg_sandbox_view *v)
{
	if (v->exit.finished_unix_ns)
		return v->exit.finished_unix_ns;
	return v->started_unix_ns ? v->started_unix_ns : v->created_unix_ns;
}

static void put_condition(struct build *b, json_t *status, const char *message)
{
	json_t *conditions = json_array(), *ready = json_object();

	put_text(b, ready, "type", "Ready");
	put_text(b, ready, "status", b->view->state == REG_RUNNING ? "True" : "False");
	put_text(b, ready, "reason", crd_phase(b->view));
	put_text(b, ready, "message", message);
	put_seconds(b, ready, "lastTransitionTime",
		    last_transition_unix_ns(b->view) / (int64_t)NS_PER_S);
	append(b, conditions, ready);
	put(b, status, "conditions", conditions);
}

/* finishedAt alone says that there was an exit; it is what a rebuild looks at. */
static void put_exit(struct build *b, json_t *status)
{
	const struct reg_exit *e = &b->view->exit;

	if (!e->finished_unix_ns)
		return;
	put_time(b, status, "finishedAt", e->finished_unix_ns);
	put(b, status, "exitCode", json_integer(e->code));
	if (e->signal)
		put(b, status, "signal", json_integer(e->signal));
	if (e->oom_killed)
		put(b, status, "oomKilled", json_true());
	if (e->unknown)
		put(b, status, "exitUnknown", json_true());
}

static json_t *build_status(struct build *b)
{
	const struct reg_sandbox_view *v = b->view;
	json_t *status = json_object();
	char message[REG_MESSAGE_MAX + 1];

	message_text(v->message, message);
	put_text(b, status, "phase", crd_phase(v));
	put_text(b, status, "assignedPod", v->agent_name);
	put_text(b, status, "nodeName", v->agent_node);
	put_text(b, status, "sandboxID", v->id);
	put_text(b, status, "image", v->image);
	put_endpoints(b, status);
	put_time(b, status, "startedAt", v->started_unix_ns);
	put_exit(b, status);
	put_text(b, status, "message", message);
	put_condition(b, status, message);
	return status;
}

static int dump(struct build *b, char **ret_json, size_t *ret_len, struct err *err)
{
	json_t *root = json_object();
	char *json = NULL;

	put_text(b, root, "apiVersion", CRD_API_VERSION);
	put_text(b, root, "kind", "Sandbox");
	put(b, root, "metadata", build_metadata(b));
	put(b, root, "spec", build_spec(b));
	put(b, root, "status", build_status(b));
	if (!b->bad)
		json = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (!json)
		return err_set(err, -EBADMSG, "sandbox '%s/%s' can't be expressed as JSON",
			       b->view->ns, b->view->name);
	*ret_json = json;
	*ret_len = strlen(json);
	return 0;
}

int crd_object_encode(const struct reg_sandbox_view *view, const void *spec, const void *labels,
		      int64_t deleted_unix_ns, char **ret_json, size_t *ret_len, struct err *err)
{
	struct build b = {.view = view, .deleted_unix_ns = deleted_unix_ns};
	struct pb_arena *spec_arena = NULL, *labels_arena = NULL;
	ProtobufCMessage *msg;
	int r;

	r = pb_unpack(&fsb__v1__sandbox_spec__descriptor, spec, view->spec_len, NULL, &spec_arena,
		      &msg, err);
	if (r < 0)
		return err_wrap(err, "spec of sandbox '%s/%s'", view->ns, view->name);
	b.spec = (const Fsb__V1__SandboxSpec *)msg;
	r = pb_unpack(&fsb__v1__string_map__descriptor, labels, view->labels_len, NULL,
		      &labels_arena, &msg, err);
	if (r < 0) {
		err_wrap(err, "labels of sandbox '%s/%s'", view->ns, view->name);
	} else {
		b.labels = (const Fsb__V1__StringMap *)msg;
		r = dump(&b, ret_json, ret_len, err);
	}
	pb_free(labels_arena);
	pb_free(spec_arena);
	return r;
}
