/*
 * The mount namespaces of nested views. A process belongs to one by its state, which it hands down to what it starts; so nothing is
 * to be done when processes are born, and only Python, which looks, knows when the last one of a namespace has gone.
 *
 * A second listener below the first is EBUSY for the kernel, so a nested view is no session of its own: the listener, the filter and
 * the Landlock floor of its processes are those of the session.
 */
#include "engine.h"

int vu_session_space(vu_session *session, uint32_t from)
{
	struct vu_namespace *names = &session->names;
	int space = -ENOSPC;
	pthread_mutex_lock(&names->lock);
	const struct vu_table *now = from < VU_SPACES ? atomic_load(&names->tables[from]) : NULL;
	for (unsigned i = 1; now && space < 0 && i < VU_SPACES; i++)
		if (!atomic_load(&names->tables[i]))
			space = (int)i;
	struct vu_table *table = now && space > 0 ? vu_table_new() : NULL;
	int error = table ? 0 : -ENOMEM;
	for (unsigned i = 0; !error && i < now->count; i++)
		error = vu_table_add(table, now->mounts[i]);
	if (!error) {
		table->empty = false; /* processes may hold what its view covers */
		table->reduced = now->reduced;
		table->detached = now->detached;
		table->claims = now->claims;
		atomic_store(&names->several, true);
		vu_namespace_publish(names, (unsigned)space, table);
	} else if (table) {
		vu_table_free(table);
	}
	pthread_mutex_unlock(&names->lock);
	return !now ? -ESRCH : space < 0 ? space : error < 0 ? error : space;
}

int vu_session_space_end(vu_session *session, uint32_t space)
{
	struct vu_namespace *names = &session->names;
	if (!space || space >= VU_SPACES)
		return -EINVAL;
	vu_states_end(session, space);
	pthread_mutex_lock(&names->lock);
	bool there = atomic_load(&names->tables[space]);
	if (there)
		vu_namespace_publish(names, space, NULL);
	pthread_mutex_unlock(&names->lock);
	return there ? 0 : -ESRCH;
}

unsigned vu_space_of(struct vu_call *call)
{
	return atomic_load_explicit(&call->session->names.several, memory_order_acquire) ? vu_state_of(call)->space : 0;
}

int vu_session_space_of(vu_session *session, uint32_t state)
{
	pthread_mutex_lock(&session->state_lock);
	bool there = state < atomic_load(&session->state_count);
	unsigned space = there ? session->states[state]->space : VU_GONE;
	pthread_mutex_unlock(&session->state_lock);
	return space == VU_GONE ? -ESRCH : (int)space;
}

int vu_session_came_by(vu_session *session, uint32_t state, int cwd)
{
	pthread_mutex_lock(&session->state_lock);
	bool there = state < atomic_load(&session->state_count);
	const struct vu_mount *mount = there ? vu_state_meant(session->states[state], cwd) : NULL;
	pthread_mutex_unlock(&session->state_lock);
	return !there ? -ESRCH : mount ? (int)mount->index : 0;
}
