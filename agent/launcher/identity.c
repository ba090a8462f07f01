/* SPDX-License-Identifier: Apache-2.0 */
/* Who the sandbox's process is: users and groups by the image's own /etc/passwd and /etc/group,
 * capabilities, no_new_privs. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "child.h"

/* name is a number in the range of ids. */
static bool parse_id(const char *name, uint32_t *ret)
{
	int64_t value;

	if (str_to_i64(name, 0, UINT32_MAX - 1, &value))
		return false;
	*ret = (uint32_t)value;
	return true;
}

/* By name or number. False when passwd has no such line. */
static bool find_user(struct child *c, const char *user, char *ret_name, size_t size)
{
	cleanup_fclose FILE *f = fopen("/etc/passwd", "re");
	struct passwd *pw;
	uint32_t id = 0;
	bool numeric = parse_id(user, &id);

	while (f && (pw = fgetpwent(f))) {
		if (strcmp(pw->pw_name, user) && !(numeric && pw->pw_uid == id))
			continue;
		c->uid = pw->pw_uid;
		c->gid = pw->pw_gid;
		snprintf(c->home, sizeof(c->home), "%s",
			 pw->pw_dir && *pw->pw_dir ? pw->pw_dir : "/");
		snprintf(ret_name, size, "%s", pw->pw_name);
		return true;
	}
	return false;
}

static bool find_group(const char *group, uint32_t *ret_gid)
{
	cleanup_fclose FILE *f = fopen("/etc/group", "re");
	struct group *gr;

	while (f && (gr = fgetgrent(f))) {
		if (!strcmp(gr->gr_name, group)) {
			*ret_gid = gr->gr_gid;
			return true;
		}
	}
	return false;
}

/* The groups whose line lists the user. */
static void find_memberships(struct child *c, const char *name)
{
	cleanup_fclose FILE *f = fopen("/etc/group", "re");
	struct group *gr;

	while (f && (gr = fgetgrent(f))) {
		for (char **member = gr->gr_mem; *member; member++) {
			if (strcmp(*member, name))
				continue;
			if (c->ngroups < (int)(sizeof(c->groups) / sizeof(*c->groups)))
				c->groups[c->ngroups++] = gr->gr_gid;
			break;
		}
	}
}

/* -ENOENT: no such user or group. */
int identity_find(struct child *c)
{
	char user[256], name[256] = "", *group;

	strcpy(c->home, "/");
	if (snprintf(user, sizeof(user), "%s", c->request->user) >= (int)sizeof(user))
		return -ENAMETOOLONG;
	group = strchr(user, ':');
	if (group)
		*group++ = '\0';
	if (!find_user(c, *user ? user : "0", name, sizeof(name)) && *user &&
	    !parse_id(user, &c->uid))
		return -ENOENT;
	if (group && *group && !parse_id(group, &c->gid) && !find_group(group, &c->gid))
		return -ENOENT;
	if (*name && !(group && *group))
		find_memberships(c, name);
	return 0;
}

static int drop_bounding(uint64_t keep)
{
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		if (keep & (UINT64_C(1) << cap))
			continue;
		/* EINVAL: this kernel has no such capability. */
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) && errno != EINVAL)
			return -errno;
	}
	return 0;
}

/* Permitted and effective as kept, nothing inheritable or ambient. */
static int set_capabilities(uint64_t keep)
{
	cap_t caps = cap_init();
	int rc = caps ? 0 : -ENOMEM;

	for (int cap = 0; !rc && cap <= CAP_LAST_CAP; cap++) {
		cap_value_t value = cap;

		if (!(keep & (UINT64_C(1) << cap)))
			continue;
		if (cap_set_flag(caps, CAP_PERMITTED, 1, &value, CAP_SET) ||
		    cap_set_flag(caps, CAP_EFFECTIVE, 1, &value, CAP_SET))
			rc = -errno;
	}
	if (!rc && cap_set_proc(caps))
		rc = -errno;
	if (caps)
		cap_free(caps);
	return rc;
}

int identity_drop(struct child *c)
{
	uint64_t keep = c->request->shared_network ? c->l->cap_mask_shared : c->l->cap_mask;
	int rc = drop_bounding(keep);

	if (rc)
		return rc;
	if (setgroups((size_t)c->ngroups, c->groups) || setresgid(c->gid, c->gid, c->gid))
		return -errno;
	if (c->uid && setresuid(c->uid, c->uid, c->uid))
		return -errno;
	/* With another user the kernel has emptied the sets already. */
	rc = set_capabilities(c->uid ? 0 : keep);
	if (rc)
		return rc;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}
