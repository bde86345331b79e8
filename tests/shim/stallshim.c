/* Makes a program that nobody here wrote lose a wake-up: LD_PRELOAD of tests/stall.py.
 *
 * When the file named by $STALL_TRIGGER appears (or is replaced by a new one), each thread's next epoll_wait, epoll_pwait
 * or epoll_pwait2 waits on an epoll that watches nothing, without a time-out, whatever time-out its caller gave, until
 * EINTR; then it returns EINTR to its caller. One file, one stall a thread. The file holds a number: how many EINTRs the
 * stall outlives (-1: every one). What happens is appended to the file named by $STALL_LOG, a line each:
 * "lost|useless|woken PID TID CLOCK_MONOTONIC".
 *
 * The environment is copied in the constructor: nginx and redis overwrite theirs (setproctitle).
 * Only async-signal-safe calls, for nobody knows what the program was doing. epoll_wait(2), ld.so(8).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define KERNEL_SIGSET 8 /* bytes; the kernel's own sigset_t, smaller than the C library's */

static char trigger[PATH_MAX];
static char log_path[PATH_MAX];

static int (*real_wait)(int, struct epoll_event *, int, int);
static int (*real_pwait)(int, struct epoll_event *, int, int, const sigset_t *);
static int (*real_pwait2)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);

/* The trigger that this thread has stalled for already. */
static __thread ino_t seen_inode;
static __thread struct timespec seen_changed;

__attribute__((constructor)) static void prepare(void)
{
	const char *value = getenv("STALL_TRIGGER");
	if (value)
		snprintf(trigger, sizeof trigger, "%s", value);
	value = getenv("STALL_LOG");
	if (value)
		snprintf(log_path, sizeof log_path, "%s", value);
	*(void **)&real_wait = dlsym(RTLD_NEXT, "epoll_wait");
	*(void **)&real_pwait = dlsym(RTLD_NEXT, "epoll_pwait");
	*(void **)&real_pwait2 = dlsym(RTLD_NEXT, "epoll_pwait2");
}

static void tell(const char *what)
{
	char line[128];
	struct timespec now;
	int fd = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int length = snprintf(line, sizeof line, "%s %d %ld %lld.%09ld\n", what, (int)getpid(), syscall(SYS_gettid),
			      (long long)now.tv_sec, now.tv_nsec);
	if (write(fd, line, (size_t)length) < 0)
		abort(); /* the tests wait for this line */
	close(fd);
}

/* How many EINTRs the stall that begins now outlives; INT_MIN: no stall. */
static int stall_due(void)
{
	char text[16] = "";
	struct stat now;
	int fd = trigger[0] ? open(trigger, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return INT_MIN;
	int known = fstat(fd, &now) != 0 || (now.st_ino == seen_inode && now.st_ctim.tv_sec == seen_changed.tv_sec &&
					      now.st_ctim.tv_nsec == seen_changed.tv_nsec);
	if (!known && read(fd, text, sizeof text - 1) < 0)
		known = 1;
	close(fd);
	if (known)
		return INT_MIN;
	seen_inode = now.st_ino;
	seen_changed = now.st_ctim;
	return atoi(text);
}

/* Whether a stall was due, and is over by now. The caller then returns -1 with errno EINTR. */
static int stalled(const sigset_t *mask)
{
	struct epoll_event none;
	int saved = errno;
	int outlives = stall_due();
	if (outlives == INT_MIN) {
		errno = saved;
		return 0;
	}
	int nothing = epoll_create1(EPOLL_CLOEXEC);
	tell("lost");
	for (;;) {
		long got = syscall(SYS_epoll_pwait, nothing, &none, 1, -1, mask, KERNEL_SIGSET);
		if (got != -1 || errno != EINTR)
			abort();
		if (outlives == 0)
			break;
		if (outlives > 0)
			outlives--;
		tell("useless");
	}
	close(nothing);
	tell("woken");
	errno = EINTR;
	return 1;
}

int epoll_wait(int epfd, struct epoll_event *events, int most, int timeout)
{
	return stalled(NULL) ? -1 : real_wait(epfd, events, most, timeout);
}

int epoll_pwait(int epfd, struct epoll_event *events, int most, int timeout, const sigset_t *mask)
{
	return stalled(mask) ? -1 : real_pwait(epfd, events, most, timeout, mask);
}

int epoll_pwait2(int epfd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *mask)
{
	return stalled(mask) ? -1 : real_pwait2(epfd, events, most, timeout, mask);
}
