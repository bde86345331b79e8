/* A process with THREADS threads in epoll_wait(-1); each counts its EINTRs in FILE (a uint32_t a thread).

   One epoll for all of them. It watches SOCKETS sockets, on which nothing comes. ptrace(2), epoll_wait(2). */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static int epfd;

static void *wait_for_ever(void *count)
{
	struct epoll_event event;

	for (;;)
		if (epoll_wait(epfd, &event, 1, -1) < 0 && errno == EINTR)
			__atomic_add_fetch((uint32_t *)count, 1, __ATOMIC_RELAXED);
	return NULL;
}

static int watch_sockets(int number)
{
	struct epoll_event input = {.events = EPOLLIN};

	for (; number > 0; number--) {
		int made = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (made < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, made, &input) < 0)
			return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int threads = argc == 4 ? atoi(argv[1]) : 0;
	size_t size = sizeof(uint32_t) * threads;
	int file = argc == 4 ? open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	pthread_attr_t small;

	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (threads < 1 || file < 0 || epfd < 0 || ftruncate(file, size) < 0) {
		fprintf(stderr, "usage: %s THREADS FILE SOCKETS\n", argv[0]);
		return 2;
	}
	uint32_t *counts = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (counts == MAP_FAILED)
		return 1;
	if (watch_sockets(atoi(argv[3])) < 0) {
		perror("socket");
		return 1;
	}
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 * 1024);
	for (int i = 1; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, &small, wait_for_ever, counts + i) != 0) {
			perror("pthread_create");
			return 1;
		}
	}
	wait_for_ever(counts);
	return 0;
}
