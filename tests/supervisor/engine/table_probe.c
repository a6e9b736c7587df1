/*
 * Versions of the mount table (table.c, namespace.c, claims.c) by themselves, under a sanitizer: threads look at pinned, shared and
 * held versions while one thread mounts and unmounts.
 *
 * Usage: table_probe DIRECTORY ROUNDS. Prints the milliseconds that a mount and an unmount take where there are 1000.
 */
#include "stack.h"
#include "wired.h"

#include <stdio.h>
#include <time.h>

enum { READERS = 4, MANY = 1000, CLAIM = 7 };

/* There are no stacks here, no wire mounts, and no listener. */
void vu_stack_free(struct vu_stack *stack)
{
	(void)stack;
}

char *vu_tree_path(const struct vu_tree *tree, const char *base, size_t *length)
{
	(void)tree, (void)base, (void)length;
	return NULL;
}

int vu_tree_wire(struct vu_tree *tree, const struct vu_mount *mount)
{
	(void)tree, (void)mount;
	return -ENOTSUP;
}

struct vu_mount *vu_mount_within(struct vu_namespace *names, const struct vu_spot *spot, const char *target)
{
	(void)names, (void)spot, (void)target;
	return NULL;
}

bool vu_moved_to(struct vu_stack *stack, char *path, size_t room)
{
	(void)stack;
	(void)path;
	(void)room;
	return false;
}

void vu_stack_close(struct vu_stack *stack)
{
	(void)stack;
}

bool *vu_wired_settling(struct vu_wired *wired)
{
	static bool never;
	(void)wired;
	return &never;
}

struct vu_wire *vu_wired_wire(struct vu_wired *wired)
{
	(void)wired;
	return NULL;
}

int vu_wired_root(struct vu_namespace *names, struct vu_mount *mount)
{
	(void)names;
	(void)mount;
	return -ENOENT;
}

void vu_wired_leave(struct vu_mount *mount)
{
	(void)mount;
}

void vu_wire_hold_again(struct vu_wire *wire, struct vu_wire_node *node)
{
	(void)wire;
	(void)node;
}

unsigned vu_wired_end(struct vu_wired *wired, struct vu_wire_lost *lost)
{
	(void)lost;
	(void)wired;
	return 0;
}

/* Nor are there processes, which would have states. */
void vu_states_end(struct vu_session *unused, unsigned space)
{
	(void)unused;
	(void)space;
}

const struct vu_state *vu_state_of(struct vu_call *call)
{
	(void)call;
	return NULL;
}

const struct vu_mount *vu_state_meant(const struct vu_state *state, bool cwd)
{
	(void)cwd;
	return state->cwd_mount;
}

static struct vu_session session;
static atomic_bool done;
static char source[PATH_MAX];

#define CHECK(condition) ((condition) ? (void)0 : fail(__LINE__, #condition))

static void fail(int line, const char *what)
{
	fprintf(stderr, "line %d: %s: %s\n", line, what, strerror(errno));
	abort();
}

static void look(const struct vu_table *table)
{
	struct vu_spot spot;
	char view[VU_TEXT];
	const struct vu_mount *mount;
	vu_table_find(table, "/over/x", &spot);
	CHECK(spot.mount == table->root || (!strcmp(spot.mount->target, "/over") && !strcmp(spot.rest, "x")));
	CHECK(fcntl(spot.mount->fd, F_GETFD) >= 0); /* it stays open */
	CHECK(vu_table_has(table, spot.mount));
	CHECK(!vu_table_reverse(table, source, NULL, view, &mount, NULL));
	CHECK(fcntl(mount->fd, F_GETFD) >= 0);
	/* What is unreal is what is there, twice. */
	struct vu_spot unreal, deep;
	vu_table_find(table, "/unreal", &unreal);
	vu_table_find(table, "/over/x", &spot);
	const char *const again[] = { "/unreal/over/x", "/unreal/unreal/over/x" };
	for (int i = 0; i < 2 && unreal.mount != table->root; i++) {
		vu_table_find(table, again[i], &deep);
		CHECK(deep.mount->unreal == unreal.mount && fcntl(deep.mount->fd, F_GETFD) >= 0);
		CHECK(spot.mount == table->root ? !strcmp(deep.rest, "over/x") : deep.mount->of == spot.mount);
	}
	vu_table_find(table, "/unreal/unreal/unreal", &deep);
	CHECK(unreal.mount == table->root || !strcmp(deep.rest, "unreal"));
	/* Claims are those of the version, whatever has been claimed since. */
	struct vu_call call = { .session = &session, .table = table, .row = &session.rows[2], .nr = 63 };
	uint32_t claim = vu_claims_call(&call);
	CHECK(claim == 0 || claim == CLAIM);
	CHECK(vu_claims_path(&call, "/claimed/x") == (claim ? -VU_LATER : 0));
	CHECK(!vu_claims_path(&call, "/claimedx") && !vu_claims_path(&call, "/"));
	CHECK(vu_claims_call(&call) == claim);
	call.nr = 64;
	CHECK(!vu_claims_call(&call));
}

static void *reader(void *argument)
{
	struct vu_namespace *names = &session.names;
	struct vu_pin *pin = argument;
	for (unsigned i = 0; !atomic_load(&done); i++) {
		const struct vu_table *table = vu_table_pin(names, 0, pin);
		look(table);
		if (i % 3 == 0) { /* as a call that leaves its thread */
			vu_table_share(table);
			vu_table_unpin(names, pin);
			look(table);
			vu_table_release(names, table);
		} else {
			vu_table_unpin(names, pin);
		}
		if (i % 2 == 0 && (table = vu_table_pin(names, 1, pin))) { /* unless it has ended */
			look(table);
			vu_table_unpin(names, pin);
		}
		if (i % 5 == 0) {
			table = vu_table_hold(names, 0);
			look(table);
			vu_table_release(names, table);
		}
	}
	return NULL;
}

static int mount(const char *target)
{
	struct vu_mount_options options = {
		.target = target,
		.kind = VU_BIND,
		.source = open(source, O_PATH | O_CLOEXEC),
		.source_path = source,
		.type = "probe",
	};
	int number = vu_session_mount(&session, &options);
	CHECK(number > 0);
	return number;
}

/* A nested view comes and goes: what it has mounted takes along what lies below its source. */
static void nest(bool ends)
{
	CHECK(vu_session_space(&session, 0) == 1);
	struct vu_mount_options options = {
		.target = "/over",
		.kind = VU_BIND,
		.flags = VU_ENTRY_COVERS | VU_ENTRY_ALL,
		.source = open(source, O_PATH | O_CLOEXEC),
		.source_path = source,
		.space = 1,
		.below = "/over",
	};
	int number = vu_session_mount(&session, &options);
	CHECK(number > 0);
	CHECK(vu_session_unmount(&session, 0, number) == -EINVAL);
	CHECK(!ends || vu_session_unmount(&session, 1, number) >= 0);
	CHECK(!vu_session_space_end(&session, 1));
	CHECK(vu_session_space_end(&session, 1) == -ESRCH);
}

static int mount_unreal(void)
{
	struct vu_mount_options options = { .target = "/unreal", .kind = VU_UNREAL, .type = "unreal" };
	int number = vu_session_mount(&session, &options);
	CHECK(number > 0);
	return number;
}

static void claim(bool something)
{
	struct vu_claim claims[] = {
		{ .id = CLAIM, .nr = 63, .arg = -1 },
		{ .id = CLAIM, .nr = -1, .arg = -1, .ops = 1 << VU_OP_OPEN, .path = "/claimed" },
	};
	CHECK(!vu_session_claim(&session, claims, something ? 2 : 0));
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

int main(int count, char **arguments)
{
	CHECK(count == 3 && realpath(arguments[1], source));
	CHECK(!vu_namespace_init(&session.names, false));
	CHECK(((const struct vu_table *)atomic_load(&session.names.tables[0]))->empty);
	session.rows[2].op = VU_OP_OPEN;
	claim(false);
	CHECK(((const struct vu_table *)atomic_load(&session.names.tables[0]))->empty);
	struct vu_pin pins[READERS] = {};
	pthread_t threads[READERS];
	for (int i = 0; i < READERS; i++) {
		vu_namespace_add_pin(&session.names, &pins[i]);
		CHECK(!pthread_create(&threads[i], NULL, reader, &pins[i]));
	}
	for (int i = atoi(arguments[2]); i--;) {
		int unreal = i % 3 == 0 ? mount_unreal() : 0;
		int first = mount("/over");
		if (i % 3 == 1)
			unreal = mount_unreal();
		int second = mount("/over");
		claim(i % 2);
		nest(i % 4 < 2);
		if (i % 2 && unreal)
			CHECK(vu_session_unmount(&session, 0, unreal) >= 0);
		CHECK(vu_session_unmount(&session, 0, i % 2 ? first : second) >= 0);
		CHECK(vu_session_unmount(&session, 0, i % 2 ? second : first) >= 0);
		CHECK(vu_session_unmount(&session, 0, first) == -EINVAL);
		if (i % 2 == 0 && unreal)
			CHECK(vu_session_unmount(&session, 0, unreal) >= 0);
	}
	atomic_store(&done, true);
	for (int i = 0; i < READERS; i++) {
		CHECK(!pthread_join(threads[i], NULL));
		vu_namespace_remove_pin(&session.names, &pins[i]);
	}
	CHECK(!session.names.old);
	for (const struct vu_mount *one = session.names.all; one; one = one->next)
		CHECK((one->fd >= 0) == !one->late); /* what is mounted no more is closed */
	int numbers[MANY];
	char target[64];
	for (int i = 0; i < MANY; i++) {
		snprintf(target, sizeof target, "/some/where/%d", i);
		numbers[i] = mount(target);
	}
	double begun = now();
	CHECK(vu_session_unmount(&session, 0, mount("/over")) == 0);
	printf("%.3f\n", (now() - begun) / 2);
	for (int i = 0; i < MANY; i++)
		CHECK(vu_session_unmount(&session, 0, numbers[i]) == 0);
	vu_namespace_free(&session.names);
	return 0;
}
