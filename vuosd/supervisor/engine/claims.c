/*
 * What modules answer (docs/plugins.md). The claims of all modules together are part of a version of the mount table: so they are
 * exchanged between two calls, and a call that nobody claims costs one look at a bit of its row. What is claimed is asked of
 * Python, which may say that it goes on as if nobody had claimed it: vu_session_proceed().
 */
#include "engine.h"

#include "wired.h"

struct vu_claims {
	uint64_t rows[VU_MAX_NR / 64]; /* of calls that a claim names */
	uint64_t ops; /* that some claim has by a path */
	struct vu_claims *next; /* all that the session ever had */
	uint32_t count;
	struct vu_claim claims[];
};

_Static_assert(VU_OP_COUNT <= 64, "operations are bits of struct vu_claim.ops");

void vu_claims_free(struct vu_claims *claims)
{
	for (struct vu_claims *next; claims; claims = next) {
		next = claims->next;
		for (uint32_t i = 0; i < claims->count; i++)
			free((char *)claims->claims[i].path);
		free(claims);
	}
}

void vu_claims_keep(struct vu_claims **list, struct vu_claims *claims)
{
	claims->next = *list;
	*list = claims;
}

bool vu_claims_paths(const struct vu_claims *claims)
{
	return claims && claims->ops;
}

static int fill(struct vu_claims *claims, const struct vu_claim *from, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct vu_claim *claim = &claims->claims[i];
		*claim = from[i];
		claim->path = NULL;
		claims->count++;
		if (from[i].path && !(claim->path = strdup(from[i].path)))
			return -ENOMEM;
		if (claim->path)
			claims->ops |= claim->ops;
		else if (claim->nr < 0 || claim->nr >= VU_MAX_NR || claim->arg >= 6)
			return -EINVAL;
		else
			claims->rows[claim->nr / 64] |= UINT64_C(1) << claim->nr % 64;
	}
	return 0;
}

int vu_session_claim(vu_session *session, const struct vu_claim *claims, uint32_t count)
{
	struct vu_claims *made = calloc(1, sizeof *made + count * sizeof *claims);
	if (!made)
		return -ENOMEM;
	int error = fill(made, claims, count);
	if (!error)
		error = vu_namespace_claim(&session->names, made);
	if (error < 0)
		vu_claims_free(made);
	return error;
}

uint32_t vu_claims_call(struct vu_call *call)
{
	const struct vu_claims *claims = call->table->claims;
	if (!claims || call->passed || !(claims->rows[call->nr / 64] >> call->nr % 64 & 1))
		return 0;
	for (uint32_t i = 0; i < claims->count; i++) {
		const struct vu_claim *claim = &claims->claims[i];
		if (!claim->path && claim->nr == call->nr &&
		    (claim->arg < 0 || (call->args[claim->arg] & claim->mask) == claim->value))
			return claim->id;
	}
	return 0;
}

/* Is it what the claim names, or below that? */
static bool lies_at(const char *view, const char *path)
{
	size_t length = strcmp(path, "/") ? strlen(path) : 0;
	return !strncmp(view, path, length) && (!view[length] || view[length] == '/');
}

/*
 * Has the module been asked about this path, so that the call may go on? A call that goes on is resolved anew, and its paths may
 * have been exchanged in its caller's memory: under enforcement what it was not asked about it is.
 */
static bool is_passed(const struct vu_call *call, const char *view)
{
	if (!call->passed || !call->session->enforce || !call->passed_paths)
		return call->passed;
	for (int i = 0; i < VU_PASSED; i++)
		if (call->passed_paths[i] && !strcmp(call->passed_paths[i], view))
			return true;
	return false;
}

int vu_claims_path(struct vu_call *call, const char *view)
{
	const struct vu_claims *claims = call->table->claims;
	if (!claims || !(claims->ops >> call->row->op & 1) || is_passed(call, view))
		return 0;
	for (uint32_t i = 0; i < claims->count; i++) {
		const struct vu_claim *claim = &claims->claims[i];
		if (claim->path && (claim->ops >> call->row->op & 1) && lies_at(view, claim->path)) {
			call->claim = claim->id;
			call->claimed = view;
			return -VU_LATER; /* nothing has happened yet */
		}
	}
	return 0;
}

/* Would the filter have trapped this call if no module had asked for it? */
bool vu_claims_ordinary(const struct vu_call *call)
{
	const struct vu_session *session = call->session;
	if (!(session->announced[call->nr / 64] >> call->nr % 64 & 1))
		return true;
	for (uint32_t i = 0; i < session->ordinary_count; i++) {
		const struct vu_ordinary *when = &session->ordinary[i];
		if (when->nr == call->nr &&
		    (when->arg < 0 || ((call->args[when->arg] & when->mask) == when->value) == !!when->equal))
			return true;
	}
	return false;
}

int vu_session_announce(vu_session *session, const uint32_t *calls, uint32_t count, const struct vu_ordinary *ordinary,
			uint32_t ordinary_count)
{
	for (uint32_t i = 0; i < count; i++)
		if (calls[i] >= VU_MAX_NR)
			return -EINVAL;
	if (ordinary_count && !(session->ordinary = calloc(ordinary_count, sizeof *ordinary)))
		return -ENOMEM;
	if (ordinary_count)
		memcpy(session->ordinary, ordinary, ordinary_count * sizeof *ordinary);
	session->ordinary_count = ordinary_count;
	for (uint32_t i = 0; i < count; i++)
		session->announced[calls[i] / 64] |= UINT64_C(1) << calls[i] % 64;
	return 0;
}
