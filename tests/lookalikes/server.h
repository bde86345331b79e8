/* What server.c and orders.c share: the loops, and the switches that make them sick. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#define MOST_LOOPS 64

struct loop {
	int number, epoll, bell, tcp;
	const struct order *_Atomic order; /* to be carried out when the bell rings */
	_Atomic long argument;
	_Atomic long work; /* ms of CPU a request */
};

struct order {
	const char *word;
	void (*by_loop)(struct loop *loop, long argument); /* the first number says which loop */
	void (*by_main)(long argument);
};

struct sickness {
	_Atomic int deaf, forgetful, exhausted;
	_Atomic long slow, delay; /* ms */
	pthread_mutex_t held;	  /* by main, until "free" */
	pthread_rwlock_t world;	  /* written to by who stops it */
};

extern struct loop loops[MOST_LOOPS];
extern int loop_count, one_epoll, trigger, unix_listener;
extern struct sickness sick;

void fail(const char *what);
int sure(int result, const char *what);
void sleep_ms(long ms);
void burn_ms(long ms);
void arm(struct loop *loop, int listener);

/* Make ready for orders whose means lie in `directory`. */
void prepare_orders(const char *directory);

/* Carry out the order on this line, or hand it to its loop. */
void obey(char *line);
