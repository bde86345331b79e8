/* A program with threads that wait in known system calls: what the nudge is tried on.
 *
 * victim KIND:NUMBER...   starts NUMBER threads that wait in KIND: wait, timed, pwait, pwait2 (the epoll calls; timed and
 *                         timed2, which is epoll_pwait2, have a time-out of an hour), read (an empty pipe), futex (a
 *                         condition that never comes), or the system call of that name: ppoll, pselect6, nanosleep,
 *                         clock_nanosleep, accept, recvfrom, recvmsg, flock, tee. Prints "ready" once all threads run. A
 *                         line on its standard input is answered with "EINTRS SIGNALS REPEATED": how often an epoll
 *                         wait returned EINTR, how many different values came by SIGRTMIN, and how many came more than
 *                         once. "open:NUMBER" has that many sockets open; with "leave:1" the main thread then ends,
 *                         and nobody answers.
 * victim send PID NUMBER  sends the values 0 to NUMBER - 1 by SIGRTMIN, none twice, 20 in half a millisecond or more.
 * victim vfork            waits uninterruptibly (state D) in vfork until its standard input is closed; then prints "on".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define VALUES 65536

static atomic_long begun, eintrs, signals, repeated;
static atomic_char seen[VALUES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	if (atomic_exchange(&seen[info->si_value.sival_int % VALUES], 1))
		repeated++;
	else
		signals++;
}

static int wait_in(const char *kind, int epoll)
{
	struct epoll_event event;

	if (!strcmp(kind, "timed"))
		return epoll_wait(epoll, &event, 1, 3600 * 1000);
	if (!strcmp(kind, "pwait"))
		return epoll_pwait(epoll, &event, 1, -1, &(sigset_t){0});
	if (!strcmp(kind, "pwait2"))
		return syscall(SYS_epoll_pwait2, epoll, &event, 1, NULL, NULL, 0);
	if (!strcmp(kind, "timed2"))
		return syscall(SYS_epoll_pwait2, epoll, &event, 1, &(struct timespec){3600}, NULL, 0);
	return epoll_wait(epoll, &event, 1, -1);
}

static int listener(void)
{
	int unnamed = socket(AF_UNIX, SOCK_STREAM, 0);

	bind(unnamed, &(struct sockaddr){.sa_family = AF_UNIX}, sizeof(sa_family_t)); /* takes any abstract name */
	listen(unnamed, 1);
	return unnamed;
}

/* Whether the kind is one of the other calls, which end only when they fail. */
static int sleep_in(const char *kind)
{
	struct timespec hour = {3600};
	struct msghdr message = {0};
	int from[2], to[2];
	char byte;
	long result;

	if (!strcmp(kind, "ppoll"))
		result = syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
	else if (!strcmp(kind, "pselect6"))
		result = syscall(SYS_pselect6, 0, NULL, NULL, NULL, NULL, NULL);
	else if (!strcmp(kind, "nanosleep"))
		result = syscall(SYS_nanosleep, &hour, NULL);
	else if (!strcmp(kind, "clock_nanosleep"))
		result = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &hour, NULL);
	else if (!strcmp(kind, "accept"))
		result = syscall(SYS_accept, listener(), NULL, NULL);
	else if (!strcmp(kind, "recvfrom"))
		result = syscall(SYS_recvfrom, socket(AF_INET, SOCK_DGRAM, 0), &byte, 1, 0, NULL, NULL);
	else if (!strcmp(kind, "recvmsg"))
		result = syscall(SYS_recvmsg, socket(AF_INET, SOCK_DGRAM, 0), &message, 0);
	else if (!strcmp(kind, "tee")) {
		result = pipe(from) | pipe(to);
		result = syscall(SYS_tee, from[0], to[1], 1, 0);
	} else if (!strcmp(kind, "flock")) {
		flock(open("/proc/self/exe", O_RDONLY), LOCK_EX);
		result = syscall(SYS_flock, open("/proc/self/exe", O_RDONLY), LOCK_EX);
	} else
		return 0;
	return result | 1;
}

static void *thread(void *argument)
{
	const char *kind = argument;
	int epoll = epoll_create1(EPOLL_CLOEXEC), ends[2];
	char byte;

	begun++;
	if (!strcmp(kind, "read")) {
		if (pipe(ends) == 0)
			while (read(ends[0], &byte, 1) < 0);
	} else if (!strcmp(kind, "futex")) {
		pthread_mutex_lock(&mutex);
		for (;;)
			pthread_cond_wait(&never, &mutex);
	} else if (!sleep_in(kind)) {
		for (;;)
			if (wait_in(kind, epoll) < 0 && errno == EINTR)
				eintrs++;
	}
	return NULL;
}

static int sender(pid_t pid, int number)
{
	for (int value = 0; value < number; value++) {
		if (value % 20 == 0) /* so that it lasts: a nudge meets few of the signals of one burst */
			nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
		while (sigqueue(pid, SIGRTMIN, (union sigval){.sival_int = value}) < 0) {
			if (errno != EAGAIN) /* else the queue is full: RLIMIT_SIGPENDING */
				return 1;
			sched_yield();
		}
	}
	return 0;
}

static int vforked(void)
{
	char byte;

	puts("ready");
	fflush(stdout);
	if (vfork() == 0) {
		while (read(0, &byte, 1) > 0);
		_exit(0);
	}
	puts("on");
	return 0;
}

int main(int count, char **arguments)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	pthread_attr_t small;
	char line[64];
	long made = 0;
	int leave = 0;

	if (count == 4 && !strcmp(arguments[1], "send"))
		return sender(atoi(arguments[2]), atoi(arguments[3]));
	if (count == 2 && !strcmp(arguments[1], "vfork"))
		return vforked();
	sigaction(SIGRTMIN, &action, NULL);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int i = 1; i < count; i++) {
		char *kind = strtok(arguments[i], ":");
		int number = atoi(strtok(NULL, ":"));
		pthread_t created;

		leave = !strcmp(kind, "leave");
		for (; !strcmp(kind, "open") && number; number--)
			socket(AF_INET, SOCK_STREAM, 0);
		for (; !leave && number--; made++)
			if (pthread_create(&created, &small, thread, kind))
				return 1;
	}
	while (begun < made)
		sched_yield();
	puts("ready");
	fflush(stdout);
	if (leave)
		pthread_exit(NULL);
	for (;;) {
		ssize_t got = read(0, line, sizeof line);

		if (got == 0 || (got < 0 && errno != EINTR))
			return 0;
		if (got > 0) {
			printf("%ld %ld %ld\n", (long)eintrs, (long)signals, (long)repeated);
			fflush(stdout);
		}
	}
}
