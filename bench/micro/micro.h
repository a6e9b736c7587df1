/*
 * One operation, timed: every file here has setup() and operation() and gets its main from this header.
 *
 *     PROGRAM PATH [-m MILLISECONDS] [-t THREADS | -p PROCESSES]
 *
 * Prints "MINIMUM MEDIAN OPERATIONS": nanoseconds for each operation in the best and in the middle batch, and how many
 * there were in all, for whoever knows the CPU time of the whole. With several threads or processes at once it is elapsed
 * time by operations of all together. 0 milliseconds: everything but the operation, to be subtracted.
 */
#ifndef MICRO_H
#define MICRO_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void setup(const char *path);
static void operation(void);

#define BATCH_NS 500000
#define ROUND_NS 50000000
#define MOST 65536

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

__attribute__((unused)) static void must(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void report(double *batches, int count, uint64_t operations)
{
	qsort(batches, (size_t)count, sizeof *batches, compare);
	printf("%.1f %.1f %lu\n", count ? batches[0] : 0, count ? batches[count / 2] : 0, (unsigned long)operations);
}

static void one(int64_t budget)
{
	static double batches[MOST];
	uint64_t operations = 0, size = 1;
	int count = 0;
	int64_t end = now() + budget;
	while (budget && count < MOST) {
		int64_t begin = now(), after;
		for (uint64_t i = 0; i < size; i++)
			operation();
		after = now();
		operations += size;
		if (after - begin >= BATCH_NS || size * 2 == 0)
			batches[count++] = (double)(after - begin) / (double)size;
		else
			size *= 2;
		if (after >= end && count)
			break;
	}
	report(batches, count, operations);
}

static struct shared {
	atomic_uint stop;
	struct {
		_Alignas(64) atomic_uint_fast64_t count;
	} worker[64];
} *shared;

static void *work(void *argument)
{
	atomic_uint_fast64_t *count = argument;
	while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
		operation();
		atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	}
	return NULL;
}

static uint64_t total(int workers)
{
	uint64_t sum = 0;
	for (int i = 0; i < workers; i++)
		sum += atomic_load(&shared->worker[i].count);
	return sum;
}

static void several(int threads, int processes, int64_t budget)
{
	static double rounds[MOST];
	pthread_t thread[64];
	int workers = threads + processes, count = 0;
	struct timespec round = { .tv_nsec = ROUND_NS };
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	atomic_store(&shared->stop, budget == 0);
	for (int i = 0; i < workers; i++) {
		if (threads) {
			pthread_create(&thread[i], NULL, work, &shared->worker[i].count);
		} else if (!fork()) {
			work(&shared->worker[i].count);
			_exit(0);
		}
	}
	for (int64_t end = now() + budget; budget && now() < end && count < MOST;) {
		int64_t begin = now();
		uint64_t before = total(workers);
		nanosleep(&round, NULL);
		int64_t after = now();
		uint64_t done = total(workers) - before;
		if (done)
			rounds[count++] = (double)(after - begin) / (double)done;
	}
	atomic_store(&shared->stop, 1);
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	while (wait(NULL) > 0)
		;
	report(rounds, count, total(workers));
}

int main(int argc, char **argv)
{
	int option, threads = 0, processes = 0;
	int64_t budget = 200;
	while ((option = getopt(argc, argv, "m:t:p:")) != -1) {
		if (option == 'm')
			budget = atoll(optarg);
		else if (option == 't')
			threads = atoi(optarg);
		else if (option == 'p')
			processes = atoi(optarg);
		else
			return 2;
	}
	if (threads < 0 || processes < 0 || threads + processes > 64)
		return 2;
	setup(optind < argc ? argv[optind] : "/");
	if (threads || processes)
		several(threads, processes, budget * 1000000);
	else
		one(budget * 1000000);
	return 0;
}

#endif
