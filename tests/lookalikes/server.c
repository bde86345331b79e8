/* A small threaded server that can be made sick in every way that looks like a lost wake-up: the look-alike suite's own.
 *
 * server DIRECTORY [KEY=VALUE...]
 *   loops=1          threads that serve; each prints what happens to it
 *   epolls=own|one   an epoll a thread, with a SO_REUSEPORT listener of its own; or one epoll and one listener for all
 *   trigger=level|edge|oneshot   of the listeners
 *   pool=0           workers that answer; 0: the loops answer themselves
 *   backlog=128  files=0 (RLIMIT_NOFILE)  address=127.0.0.1 (of the TCP listener and the SNMP agent)
 *
 * It answers "pong" to a line and "awake" to a GET, over TCP and over DIRECTORY/server.sock (which the first loop
 * serves), and SNMP from a thread of its own (agent.c). Its first line is "ready TCP-PORT UDP-PORT"; DIRECTORY/server.pid
 * holds its PID. It ends with its standard input. Orders are lines there; who carries one out prints it back first:
 *   park LOOP        the loop's thread loses a wake-up, in imitation: it waits without a time-out on an epoll that watches
 *                    nothing, until EINTR; then it prints "woken LOOP"
 *   spin|lock|fifo|vfork LOOP    it burns CPU; waits for a mutex; opens a FIFO that nobody writes to; sleeps in state D
 *   work LOOP MS     from now on it burns MS of CPU for each request
 *   deaf 0           from now on no loop takes a connection that it is told of
 *   forget 0         from now on a ONESHOT listener that has fired is not armed again
 *   slow|delay MS    from now on a loop sleeps so long for each connection; a worker for each answer
 *   exhaust 0        each worker that takes a request waits for a mutex
 *   emfile 0         all file descriptors are taken
 *   close 0          the listeners are closed
 *   pause MS         all loops and the agent stand still so long, as for a garbage collection; then "paused"
 *   pid NUMBER       the agent tells this PID
 *   free 0           ends spin, lock, fifo, vfork, exhaust, emfile, deaf, forget, slow and delay
 *
 * Sources: epoll(7), epoll_ctl(2), accept(2), vfork(2), fifo(7).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "server.h"

#define EVENTS 16
#define QUEUE 4096
#define HTTP "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nawake\n"

enum kind { BELL, LISTENER, CLIENT };

struct loop loops[MOST_LOOPS];
int loop_count = 1, one_epoll, trigger = EPOLLIN, unix_listener;
struct sickness sick = {.held = PTHREAD_MUTEX_INITIALIZER, .world = PTHREAD_RWLOCK_INITIALIZER};
static int workers, backlog = 128;

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t more;
	struct { struct loop *loop; int client, http; } items[QUEUE];
	unsigned in, out;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

void fail(const char *what)
{
	perror(what);
	_exit(1);
}

int sure(int result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

void sleep_ms(long ms)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&left, &left) < 0 && errno == EINTR);
}

void burn_ms(long ms)
{
	struct timespec begun, now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begun);
	do
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	while ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < ms);
}

static void watch(struct loop *loop, int how, enum kind kind, int fd, unsigned events)
{
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)kind << 32 | (unsigned)fd};

	if (epoll_ctl(loop->epoll, how, fd, &event) < 0 && errno != ENOENT && errno != EBADF)
		fail("epoll_ctl");
}

/* Again: a ONESHOT that has fired is not told of any more. */
void arm(struct loop *loop, int listener)
{
	if (trigger & EPOLLONESHOT)
		watch(loop, EPOLL_CTL_MOD, LISTENER, listener, (unsigned)trigger);
}

/* --- serving ------------------------------------------------------------------------------------------------------ */

/* Where threads share an epoll, a client is armed anew after each event, so that only one of them has it. */
static unsigned client_events(void)
{
	return EPOLLIN | (one_epoll ? EPOLLONESHOT : 0);
}

static void answer(struct loop *loop, int client, int http, int how)
{
	const char *text = http ? HTTP : "pong\n";

	if (send(client, text, strlen(text), MSG_NOSIGNAL) < 0 || http)
		close(client);
	else
		watch(loop, how, CLIENT, client, client_events());
}

static void hand_over(struct loop *loop, int client, int http)
{
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, client, NULL); /* a worker has it now */
	pthread_mutex_lock(&pool.mutex);
	if (pool.in - pool.out == QUEUE)
		fail("the queue is full");
	pool.items[pool.in % QUEUE].loop = loop;
	pool.items[pool.in % QUEUE].client = client;
	pool.items[pool.in++ % QUEUE].http = http;
	pthread_cond_signal(&pool.more);
	pthread_mutex_unlock(&pool.mutex);
}

static void *work(void *unused)
{
	(void)unused;
	for (;;) {
		pthread_mutex_lock(&pool.mutex);
		while (pool.in == pool.out)
			pthread_cond_wait(&pool.more, &pool.mutex);
		unsigned at = pool.out++ % QUEUE;
		struct loop *loop = pool.items[at].loop;
		int client = pool.items[at].client, http = pool.items[at].http;
		pthread_mutex_unlock(&pool.mutex);
		if (sick.exhausted) {
			pthread_mutex_lock(&sick.held);
			pthread_mutex_unlock(&sick.held);
		}
		sleep_ms(sick.delay);
		answer(loop, client, http, EPOLL_CTL_ADD);
	}
	return NULL;
}

static void serve(struct loop *loop, int client)
{
	char request[4096];
	ssize_t got = recv(client, request, sizeof request, 0);

	if (got < 0 && errno == EAGAIN) {
		watch(loop, EPOLL_CTL_MOD, CLIENT, client, client_events());
		return;
	}
	if (got <= 0) {
		close(client);
		return;
	}
	burn_ms(loop->work);
	int http = got > 4 && !memcmp(request, "GET ", 4);
	if (workers)
		hand_over(loop, client, http);
	else
		answer(loop, client, http, EPOLL_CTL_MOD);
}

static void take(struct loop *loop, int listener)
{
	int client;

	if (sick.deaf)
		return;
	while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		sleep_ms(sick.slow);
		watch(loop, EPOLL_CTL_ADD, CLIENT, client, client_events());
		if (sick.slow) /* one at a time, so that those who were taken are answered in between */
			break;
	}
	if (!sick.forgetful)
		arm(loop, listener);
}

static void *run(void *argument)
{
	struct loop *loop = argument;
	struct epoll_event events[EVENTS];

	for (;;) {
		int count = epoll_wait(loop->epoll, events, EVENTS, -1);

		pthread_rwlock_rdlock(&sick.world);
		for (int i = 0; i < count; i++) {
			int fd = (int)(events[i].data.u64 & 0xffffffff);
			eventfd_t rings;

			switch ((enum kind)(events[i].data.u64 >> 32)) {
			case BELL:
				if (eventfd_read(fd, &rings) == 0)
					loop->order->by_loop(loop, loop->argument);
				break;
			case LISTENER:
				take(loop, fd);
				break;
			case CLIENT:
				serve(loop, fd);
			}
		}
		pthread_rwlock_unlock(&sick.world);
	}
	return NULL;
}

static void *run_agent(void *argument)
{
	int udp = *(int *)argument;
	uint8_t request[1500], reply[1500];
	struct sockaddr_in peer;

	for (;;) {
		socklen_t size = sizeof peer;
		ssize_t got = recvfrom(udp, request, sizeof request, 0, (void *)&peer, &size);

		pthread_rwlock_rdlock(&sick.world);
		size_t length = got > 0 ? agent_reply(request, (size_t)got, reply, sizeof reply) : 0;
		if (length)
			sendto(udp, reply, length, 0, (void *)&peer, size);
		pthread_rwlock_unlock(&sick.world);
	}
	return NULL;
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

static int listen_at(struct sockaddr_in *address)
{
	int yes = 1, sock = sure(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
	socklen_t size = sizeof *address;

	setsockopt(sock, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
	sure(bind(sock, (void *)address, sizeof *address), "bind");
	sure(listen(sock, backlog), "listen");
	sure(getsockname(sock, (void *)address, &size), "getsockname");
	return sock;
}

static int listen_at_path(const char *directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = sure(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");

	snprintf(address.sun_path, sizeof address.sun_path, "%s/server.sock", directory);
	sure(bind(sock, (void *)&address, sizeof address), address.sun_path);
	sure(listen(sock, backlog), "listen");
	return sock;
}

static void start(const char *name, int number, void *(*what)(void *), void *argument)
{
	pthread_t thread;
	char full[16];

	snprintf(full, sizeof full, "%s-%d", name, number);
	if (pthread_create(&thread, NULL, what, argument))
		fail("pthread_create");
	pthread_setname_np(thread, full);
}

static void start_loops(struct sockaddr_in *tcp)
{
	for (int i = 0; i < loop_count; i++) {
		int shared = one_epoll && i > 0;

		loops[i].number = i;
		loops[i].epoll = shared ? loops[0].epoll : sure(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
		loops[i].bell = sure(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
		watch(&loops[i], EPOLL_CTL_ADD, BELL, loops[i].bell, EPOLLIN | EPOLLET);
		if (!shared) {
			loops[i].tcp = listen_at(tcp);
			watch(&loops[i], EPOLL_CTL_ADD, LISTENER, loops[i].tcp, trigger);
		}
	}
	watch(&loops[0], EPOLL_CTL_ADD, LISTENER, unix_listener, trigger);
	for (int i = 0; i < loop_count; i++)
		start("loop", i, run, &loops[i]);
	for (int i = 0; i < workers; i++)
		start("worker", i, work, NULL);
}

static void write_pid(const char *directory)
{
	char new[256], final[256];

	snprintf(new, sizeof new, "%s/server.pid.new", directory);
	snprintf(final, sizeof final, "%s/server.pid", directory);
	FILE *file = fopen(new, "w");
	if (!file)
		fail(new);
	fprintf(file, "%d\n", getpid());
	fclose(file);
	sure(rename(new, final), final);
}

static void read_options(int count, char **options, struct sockaddr_in *address)
{
	struct rlimit files;

	for (int i = 0; i < count; i++) {
		char *value = strchr(options[i], '=');

		if (!value)
			fail(options[i]);
		*value++ = 0;
		if (!strcmp(options[i], "loops"))
			loop_count = atoi(value);
		else if (!strcmp(options[i], "epolls"))
			one_epoll = !strcmp(value, "one");
		else if (!strcmp(options[i], "trigger"))
			trigger |= !strcmp(value, "edge") ? EPOLLET : !strcmp(value, "oneshot") ? EPOLLONESHOT : 0;
		else if (!strcmp(options[i], "pool"))
			workers = atoi(value);
		else if (!strcmp(options[i], "backlog"))
			backlog = atoi(value);
		else if (!strcmp(options[i], "address"))
			inet_pton(AF_INET, value, &address->sin_addr);
		else if (!strcmp(options[i], "files")) {
			files.rlim_cur = files.rlim_max = (rlim_t)atoi(value);
			sure(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
		} else
			fail(options[i]);
	}
}

int main(int count, char **arguments)
{
	struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, snmp;
	socklen_t size = sizeof snmp;
	char line[64];

	if (count < 2)
		fail("server DIRECTORY [KEY=VALUE...]");
	read_options(count - 2, arguments + 2, &tcp);
	snmp = tcp;
	prepare_orders(arguments[1]);
	unix_listener = listen_at_path(arguments[1]);
	int udp = sure(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
	sure(bind(udp, (void *)&snmp, sizeof snmp), "bind");
	sure(getsockname(udp, (void *)&snmp, &size), "getsockname");
	agent_pid = getpid();
	start_loops(&tcp);
	start("agent", 0, run_agent, &udp);
	write_pid(arguments[1]);
	dprintf(1, "ready %d %d\n", ntohs(tcp.sin_port), ntohs(snmp.sin_port));
	while (fgets(line, sizeof line, stdin))
		obey(line);
	return 0;
}
