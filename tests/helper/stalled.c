/* A server that the drill's stall is tried on: it checks that its waits leave it as they found it.
 *
 * stalled KIND NUMBER DIRECTORY  serves in NUMBER threads (1: in the first one), each with its own epoll and its own
 *                                socket DIRECTORY/0, 1, …, until it is killed; prints "ready". KIND is how it waits:
 *                                wait (libc's epoll_wait), timed (the same for at most an hour), raw, rawtimed, rawpwait
 *                                and rawpwait2: a bare system call with all registers, the flags and the red zone filled,
 *                                compared after each return. Who connects is told "EINTRS DAMAGED": how often its thread's
 *                                wait returned EINTR, and how often something was not as it was before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct call {
	/* 0: rax rdi rsi rdx r10 r8 r9; 56: rbx rbp r12 r13 r14 r15 */
	long in[13];
	/* 104: rax rdi rsi rdx r10 r8 r9; 160: rbx rbp r12 r13 r14 r15; 208: rcx r11; 224: after; 232: the red zone */
	long out[13], rcx, r11, after, red[16];
};

void bare(struct call *call);

__asm__(".text\n.type bare, @function\n"
	"bare: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdi\n"
	"mov %rdi, %rcx; lea 2f(%rip), %rax; mov %rax, 224(%rcx)\n"
	"mov $16, %eax; 1: lea 0x5ed(%rax), %rdx; neg %rax; mov %rdx, (%rsp,%rax,8); neg %rax; dec %eax; jnz 1b\n"
	"mov (%rcx), %rax; mov 8(%rcx), %rdi; mov 16(%rcx), %rsi; mov 24(%rcx), %rdx; mov 32(%rcx), %r10\n"
	"mov 40(%rcx), %r8; mov 48(%rcx), %r9; mov 56(%rcx), %rbx; mov 64(%rcx), %rbp; mov 72(%rcx), %r12\n"
	"mov 80(%rcx), %r13; mov 88(%rcx), %r14; mov 96(%rcx), %r15\n"
	"stc\n"
	"syscall\n"
	"2: xchg %rcx, (%rsp)\n"
	"mov %rax, 104(%rcx); mov %rdi, 112(%rcx); mov %rsi, 120(%rcx); mov %rdx, 128(%rcx); mov %r10, 136(%rcx)\n"
	"mov %r8, 144(%rcx); mov %r9, 152(%rcx); mov %rbx, 160(%rcx); mov %rbp, 168(%rcx); mov %r12, 176(%rcx)\n"
	"mov %r13, 184(%rcx); mov %r14, 192(%rcx); mov %r15, 200(%rcx); mov %r11, 216(%rcx)\n"
	"setc %al; movzbl %al, %eax; add %rax, %rax; add %rax, 216(%rcx)\n" /* the flag itself: 2 more than r11's copy */
	"mov $16, %eax; 3: neg %rax; mov (%rsp,%rax,8), %rdx; neg %rax; mov %rdx, 224(%rcx,%rax,8); dec %eax; jnz 3b\n"
	"pop 208(%rcx)\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

struct serving {
	const char *kind, *directory;
	int number, epoll, listener;
	struct epoll_event *events;
	long eintrs, damaged;
};

static atomic_long begun;

/* r11 holds the flags as the kernel saw them; all but carry are as the instructions before have left them. */
static int intact(const struct call *call, long flags)
{
	int good = !memcmp(call->in + 1, call->out + 1, 12 * sizeof(long));

	for (int i = 0; i < 16; i++)
		good &= call->red[i] == 0x5ed + i + 1;
	return good && call->rcx == call->after && call->r11 == flags;
}

static long bare_wait(struct serving *own, const char *kind)
{
	static const sigset_t none;
	static const long flags = 0x246 + 1 + 2; /* of `dec` to 0: ZF and PF; IF; bit 1; carry; and what setc adds */
	struct call call = {.in = {SYS_epoll_wait, own->epoll, (long)own->events, 4, -1, 0x8888888888888888, 0x99}};

	if (!strcmp(kind, "timed"))
		call.in[4] = 3600 * 1000;
	else if (!strcmp(kind, "pwait")) {
		call.in[0] = SYS_epoll_pwait;
		call.in[1] |= 0x7ffffffel << 32; /* the kernel takes an int */
		call.in[5] = (long)&none, call.in[6] = 8;
	} else if (!strcmp(kind, "pwait2"))
		call.in[0] = SYS_epoll_pwait2, call.in[4] = 0, call.in[5] = (long)&none, call.in[6] = 8;
	for (int i = 7; i < 13; i++)
		call.in[i] = 0x1111111111111111 * (i - 5) + own->number;
	bare(&call);
	own->damaged += !intact(&call, flags);
	if (call.out[0] < 0)
		errno = -call.out[0];
	return call.out[0] < 0 ? -1 : call.out[0];
}

static long wait_for(struct serving *own)
{
	if (!strncmp(own->kind, "raw", 3))
		return bare_wait(own, own->kind + 3);
	return epoll_wait(own->epoll, own->events, 4, strcmp(own->kind, "timed") ? -1 : 3600 * 1000);
}

static void *serve(void *argument)
{
	struct serving *own = argument;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 0x600d};

	own->events = calloc(4, sizeof wanted);
	own->epoll = epoll_create1(EPOLL_CLOEXEC);
	own->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s/%d", own->directory, own->number);
	if (bind(own->listener, (struct sockaddr *)&address, sizeof address) || listen(own->listener, 64))
		exit(1);
	epoll_ctl(own->epoll, EPOLL_CTL_ADD, own->listener, &wanted);
	begun++;
	for (;;) {
		long ready = wait_for(own);
		char text[64];
		int peer;

		if (ready < 0 && errno == EINTR)
			own->eintrs++;
		else if (ready != 1 || own->events->data.u64 != 0x600d || (peer = accept(own->listener, NULL, NULL)) < 0)
			own->damaged++;
		else {
			int length = snprintf(text, sizeof text, "%ld %ld\n", own->eintrs, own->damaged);

			if (write(peer, text, length) != length)
				own->damaged++;
			close(peer);
		}
	}
	return NULL;
}

static void ignore(int number)
{
	(void)number;
}

int main(int count, char **arguments)
{
	int number = count == 4 ? atoi(arguments[2]) : 0;
	struct serving *all = calloc(number + 1, sizeof *all);
	pthread_t created;

	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = ignore, .sa_flags = SA_RESTART}, NULL);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < number; i++) {
		all[i] = (struct serving){.kind = arguments[1], .number = i, .directory = arguments[3]};
		if (number > 1 && pthread_create(&created, NULL, serve, all + i))
			return 1;
	}
	if (number == 1) {
		puts("ready");
		fflush(stdout);
		serve(all);
	}
	while (number && begun < number)
		usleep(1000);
	puts("ready");
	fflush(stdout);
	for (; number;)
		pause();
	return 2;
}
