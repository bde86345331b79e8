/* The orders of server.c: what makes its loops sick. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "server.h"

#define MOST_FILES 1024

static char fifo[256];
static int gate[2]; /* the end of the child that "vfork" waits for */
static int taken[MOST_FILES], taken_count;
static _Atomic int freed;

void prepare_orders(const char *directory)
{
	snprintf(fifo, sizeof fifo, "%s/fifo", directory);
	sure(mkfifo(fifo, 0600), fifo);
	sure(pipe2(gate, O_CLOEXEC), "pipe2");
	pthread_mutex_lock(&sick.held);
}

/* --- orders for a loop -------------------------------------------------------------------------------------------- */

static void park(struct loop *loop, long unused)
{
	struct epoll_event event;
	int nothing = sure(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");

	(void)unused;
	dprintf(1, "park %d\n", loop->number);
	while (epoll_wait(nothing, &event, 1, -1) >= 0);
	close(nothing);
	dprintf(1, "woken %d\n", loop->number);
}

static void spin(struct loop *loop, long unused)
{
	(void)unused;
	dprintf(1, "spin %d\n", loop->number);
	while (!freed)
		burn_ms(10);
}

static void lock(struct loop *loop, long unused)
{
	(void)unused;
	dprintf(1, "lock %d\n", loop->number);
	pthread_mutex_lock(&sick.held);
	pthread_mutex_unlock(&sick.held);
}

static void wait_for_fifo(struct loop *loop, long unused)
{
	(void)unused;
	dprintf(1, "fifo %d\n", loop->number);
	close(sure(open(fifo, O_RDONLY | O_CLOEXEC), fifo));
}

static void wait_for_child(struct loop *loop, long unused)
{
	char byte;

	(void)unused;
	dprintf(1, "vfork %d\n", loop->number);
	if (vfork() == 0) {
		close(gate[1]);
		while (read(gate[0], &byte, 1) > 0);
		_exit(0);
	}
}

static void set_work(struct loop *loop, long ms)
{
	loop->work = ms;
	dprintf(1, "work %d %ld\n", loop->number, ms);
}

/* --- orders for the whole ----------------------------------------------------------------------------------------- */

static void set_deaf(long unused) { (void)unused; sick.deaf = 1; }
static void set_forgetful(long unused) { (void)unused; sick.forgetful = 1; }
static void set_slow(long ms) { sick.slow = ms; }
static void set_delay(long ms) { sick.delay = ms; }
static void set_exhausted(long unused) { (void)unused; sick.exhausted = 1; }
static void set_pid(long pid) { agent_pid = (int)pid; }

static void take_all_files(long unused)
{
	(void)unused;
	while ((taken[taken_count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		if (++taken_count == MOST_FILES)
			fail("files= is too large");
}

static void close_listeners(long unused)
{
	(void)unused;
	close(unix_listener);
	for (int i = 0; i < (one_epoll ? 1 : loop_count); i++)
		close(loops[i].tcp);
}

static void stop_the_world(long ms)
{
	pthread_rwlock_wrlock(&sick.world);
	sleep_ms(ms);
	pthread_rwlock_unlock(&sick.world);
	dprintf(1, "paused\n");
}

static void set_free(long unused)
{
	(void)unused;
	freed = 1;
	sick.deaf = sick.forgetful = sick.exhausted = 0;
	sick.slow = sick.delay = 0;
	pthread_mutex_unlock(&sick.held);
	close(gate[1]);
	int writer = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC); /* ENXIO where nobody waits to read */
	if (writer >= 0)
		close(writer);
	while (taken_count)
		close(taken[--taken_count]);
	for (int i = 0; i < (one_epoll ? 1 : loop_count); i++)
		arm(&loops[i], loops[i].tcp);
	arm(&loops[0], unix_listener);
	dprintf(1, "freed\n");
}

static const struct order ORDERS[] = {
    {"park", park, NULL},		{"spin", spin, NULL},		   {"lock", lock, NULL},
    {"fifo", wait_for_fifo, NULL},	{"vfork", wait_for_child, NULL},  {"work", set_work, NULL},
    {"deaf", NULL, set_deaf},		{"forget", NULL, set_forgetful},  {"slow", NULL, set_slow},
    {"delay", NULL, set_delay},		{"exhaust", NULL, set_exhausted}, {"emfile", NULL, take_all_files},
    {"close", NULL, close_listeners},	{"pause", NULL, stop_the_world},  {"pid", NULL, set_pid},
    {"free", NULL, set_free},		{NULL, NULL, NULL},
};

void obey(char *line)
{
	char word[16];
	long first = 0, second = 0;

	line[strcspn(line, "\n")] = 0;
	if (sscanf(line, "%15s %ld %ld", word, &first, &second) < 2)
		fail(line);
	for (const struct order *order = ORDERS; order->word; order++) {
		if (strcmp(order->word, word))
			continue;
		if (order->by_main) {
			dprintf(1, "%s\n", line);
			order->by_main(first);
		} else {
			loops[first].argument = second;
			loops[first].order = order;
			eventfd_write(loops[first].bell, 1);
		}
		return;
	}
	fail(line);
}

