/* Threads that wait in every call that blocks, and judge whether anything but what they wait for ends it.
 *
 * Commands on standard input, one a line, each answered by a line:
 *   open PATH       the first line of the file, or the errno
 *   connect IP PORT the own address and the first line of what the peer answers to a request, or the errno
 *   host            the nodename
 *   keep PATH       open it and keep it open
 *   again           read the first line of what is kept
 *   wake            let every waiting thread go on once, and wait until each has
 *   fork            a child that does `host`
 *   quit            "OK", or what went wrong; ends with 7
 */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 32
#define SHORT_MS 200

struct waiter {
    const char *name;
    long (*wait)(struct waiter *);
    void (*wake)(struct waiter *);
    long expected; /* result of `wait`, -errno if negative */
    int ends[2];
    int epoll, queue, listener;
    struct sockaddr_in address;
    atomic_int word;
    pthread_t thread;
    atomic_int rounds;
};

static atomic_int quitting, broken, handled;
static char complaint[256];

static void complain(const char *name, long result, long more)
{
    if (!atomic_exchange(&broken, 1))
        snprintf(complaint, sizeof complaint, "%s: %ld (%ld)", name, result, more);
}

static long outcome(long result)
{
    return result < 0 ? -errno : result;
}

static long long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static void put_a_byte(struct waiter *waiter)
{
    if (write(waiter->ends[1], "x", 1) != 1)
        complain("write", -errno, 0);
}

static void take_the_byte(struct waiter *waiter)
{
    char byte;
    if (read(waiter->ends[0], &byte, 1) != 1)
        complain("read of a byte that is there", -errno, 0);
}

static long in_read(struct waiter *waiter)
{
    char byte;
    return outcome(read(waiter->ends[0], &byte, 1));
}

static long in_poll(struct waiter *waiter)
{
    struct pollfd one = {waiter->ends[0], POLLIN, 0};
    long result = outcome(poll(&one, 1, -1));
    if (result == 1)
        take_the_byte(waiter);
    return result;
}

static long in_poll_with_a_limit(struct waiter *waiter)
{
    struct pollfd one = {waiter->ends[0], POLLIN, 0};
    long result = outcome(poll(&one, 1, 600000));
    if (result == 1)
        take_the_byte(waiter);
    return result;
}

static long in_select(struct waiter *waiter)
{
    fd_set set;
    struct timeval limit = {600, 0};
    FD_ZERO(&set);
    FD_SET(waiter->ends[0], &set);
    long result = outcome(select(waiter->ends[0] + 1, &set, NULL, NULL, &limit));
    if (result == 1)
        take_the_byte(waiter);
    return result;
}

static long in_epoll(struct waiter *waiter)
{
    struct epoll_event event;
    long result = outcome(epoll_wait(waiter->epoll, &event, 1, -1));
    if (result == 1)
        take_the_byte(waiter);
    return result;
}

static long in_epoll_with_a_limit(struct waiter *waiter)
{
    struct epoll_event event;
    long result = outcome(epoll_wait(waiter->epoll, &event, 1, 600000));
    if (result == 1)
        take_the_byte(waiter);
    return result;
}

static long in_accept(struct waiter *waiter)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    long result = outcome(accept4(waiter->listener, (struct sockaddr *)&peer, &size, 0));
    if (result >= 0) {
        close(result);
        result = 0;
    }
    return result;
}

static void connect_to_it(struct waiter *waiter)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&waiter->address, sizeof waiter->address) < 0)
        complain("connect", -errno, 0);
    close(fd);
}

static long in_receive_with_a_limit(struct waiter *waiter)
{
    char byte;
    return outcome(recv(waiter->ends[0], &byte, 1, 0));
}

static long in_futex(struct waiter *waiter)
{
    long result = outcome(syscall(SYS_futex, &waiter->word, FUTEX_WAIT, 0, NULL, NULL, 0));
    /* It may be woken before it sleeps. */
    if (result == -EAGAIN && waiter->word)
        result = 0;
    waiter->word = 0;
    return result;
}

static long in_futex_with_a_limit(struct waiter *waiter)
{
    struct timespec limit = {600, 0};
    long result = outcome(syscall(SYS_futex, &waiter->word, FUTEX_WAIT, 0, &limit, NULL, 0));
    if (result == -EAGAIN && waiter->word)
        result = 0;
    waiter->word = 0;
    return result;
}

static void wake_the_futex(struct waiter *waiter)
{
    waiter->word = 1;
    syscall(SYS_futex, &waiter->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static long in_semaphore(struct waiter *waiter)
{
    struct sembuf one = {0, -1, 0};
    return outcome(semop(waiter->queue, &one, 1));
}

static void raise_the_semaphore(struct waiter *waiter)
{
    struct sembuf one = {0, 1, 0};
    if (semop(waiter->queue, &one, 1) < 0)
        complain("semop", -errno, 0);
}

static long in_message(struct waiter *waiter)
{
    struct { long kind; char text[8]; } message;
    return outcome(msgrcv(waiter->queue, &message, sizeof message.text, 0, 0));
}

static void send_a_message(struct waiter *waiter)
{
    struct { long kind; char text[8]; } message = {1, "x"};
    if (msgsnd(waiter->queue, &message, 1, 0) < 0)
        complain("msgsnd", -errno, 0);
}

/* The raw call: the C libraries hide EINTR. */
static long in_signal_wait(struct waiter *waiter)
{
    sigset_t set;
    struct timespec limit = {600, 0};
    (void)waiter;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return outcome(syscall(SYS_rt_sigtimedwait, &set, NULL, &limit, 8));
}

static void send_the_signal(struct waiter *waiter)
{
    pthread_kill(waiter->thread, SIGUSR2);
}

/* EINTR by a signal that it does want, and nothing else. */
static long in_pause(struct waiter *waiter)
{
    sigset_t none;
    (void)waiter;
    sigfillset(&none);
    sigdelset(&none, SIGUSR1);
    return outcome(sigsuspend(&none));
}

static long in_epoll_until_a_signal(struct waiter *waiter)
{
    struct epoll_event event;
    sigset_t none;
    sigfillset(&none);
    sigdelset(&none, SIGUSR1);
    return outcome(epoll_pwait(waiter->epoll, &event, 1, -1, &none));
}

static void interrupt_it(struct waiter *waiter)
{
    pthread_kill(waiter->thread, SIGUSR1);
}

/* These end by themselves, and must do so in time. */
static long timed(struct waiter *waiter, long long began, long result)
{
    long long took = now_ms() - began;
    (void)waiter;
    if (took < SHORT_MS - 1 || took > SHORT_MS + 2500)
        return 100000 + took;
    return result;
}

static long in_nanosleep(struct waiter *waiter)
{
    struct timespec limit = {0, SHORT_MS * 1000000}, rest;
    long long began = now_ms();
    return timed(waiter, began, outcome(syscall(SYS_nanosleep, &limit, &rest)));
}

static long in_short_poll(struct waiter *waiter)
{
    struct pollfd one = {waiter->ends[0], POLLIN, 0};
    long long began = now_ms();
    return timed(waiter, began, outcome(poll(&one, 1, SHORT_MS)));
}

static long in_short_epoll(struct waiter *waiter)
{
    struct epoll_event event;
    long long began = now_ms();
    return timed(waiter, began, outcome(epoll_wait(waiter->epoll, &event, 1, SHORT_MS)));
}

static long in_a_loop(struct waiter *waiter)
{
    volatile double sum = 0;
    unsigned long whole = 0;
    (void)waiter;
    for (int at = 1; at <= 200000; at++) {
        sum += at;
        whole += at;
    }
    return sum != 200000.0 * 200001.0 / 2 || whole != 200000UL * 200001UL / 2;
}

static long in_short_calls(struct waiter *waiter)
{
    (void)waiter;
    for (int at = 0; at < 50; at++) {
        if (syscall(SYS_getppid) < 0 || syscall(SYS_lseek, 999, 0, 0) != -1 || errno != EBADF)
            return 1;
        int fd = open("/nowhere/at/all", O_RDONLY);
        if (fd >= 0 || errno != ENOENT)
            return 2;
    }
    usleep(1000);
    return 0;
}

static struct waiter waiters[MOST] = {
    {.name = "read", .wait = in_read, .wake = put_a_byte, .expected = 1},
    {.name = "poll", .wait = in_poll, .wake = put_a_byte, .expected = 1},
    {.name = "poll with a limit", .wait = in_poll_with_a_limit, .wake = put_a_byte, .expected = 1},
    {.name = "select", .wait = in_select, .wake = put_a_byte, .expected = 1},
    {.name = "epoll", .wait = in_epoll, .wake = put_a_byte, .expected = 1},
    {.name = "epoll with a limit", .wait = in_epoll_with_a_limit, .wake = put_a_byte, .expected = 1},
    {.name = "accept", .wait = in_accept, .wake = connect_to_it},
    {.name = "receive with a limit", .wait = in_receive_with_a_limit, .wake = put_a_byte, .expected = 1},
    {.name = "futex", .wait = in_futex, .wake = wake_the_futex},
    {.name = "futex with a limit", .wait = in_futex_with_a_limit, .wake = wake_the_futex},
    {.name = "semaphore", .wait = in_semaphore, .wake = raise_the_semaphore},
    {.name = "message", .wait = in_message, .wake = send_a_message, .expected = 1},
    {.name = "signal", .wait = in_signal_wait, .wake = send_the_signal, .expected = SIGUSR2},
    {.name = "pause", .wait = in_pause, .wake = interrupt_it, .expected = -EINTR},
    {.name = "epoll until a signal", .wait = in_epoll_until_a_signal, .wake = interrupt_it, .expected = -EINTR},
    {.name = "nanosleep", .wait = in_nanosleep},
    {.name = "short poll", .wait = in_short_poll},
    {.name = "short epoll", .wait = in_short_epoll},
    {.name = "loop", .wait = in_a_loop},
    {.name = "calls", .wait = in_short_calls},
};

/* Shared by all the further threads. */
static struct waiter sleeper = {.name = "sleeper", .wait = in_nanosleep};

static void *keep_waiting(void *argument)
{
    struct waiter *waiter = argument;
    while (!quitting) {
        long result = waiter->wait(waiter);
        if (result != waiter->expected && !quitting)
            complain(waiter->name, result, waiter->rounds);
        waiter->rounds++;
    }
    return NULL;
}

static void take(int number)
{
    handled += number == SIGUSR1;
}

static void prepare(struct waiter *waiter)
{
    struct epoll_event event = {EPOLLIN, {.fd = 0}};
    struct sockaddr_in *address = &waiter->address;
    socklen_t size = sizeof *address;
    struct timeval limit = {600, 0};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, waiter->ends) < 0)
        complain("socketpair", -errno, 0);
    if (waiter->wait == in_receive_with_a_limit)
        setsockopt(waiter->ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    waiter->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(waiter->epoll, EPOLL_CTL_ADD, waiter->ends[0], &event);
    if (waiter->wait == in_semaphore)
        waiter->queue = semget(IPC_PRIVATE, 1, 0600);
    if (waiter->wait == in_message)
        waiter->queue = msgget(IPC_PRIVATE, 0600);
    if (waiter->wait == in_accept) {
        waiter->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        address->sin_family = AF_INET;
        address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (bind(waiter->listener, (struct sockaddr *)address, size) < 0 || listen(waiter->listener, 8) < 0)
            complain("listen", -errno, 0);
        getsockname(waiter->listener, (struct sockaddr *)address, &size);
    }
}

/* A thread on its way back to its call would not wait yet for a signal, so those are sent until one has counted. */
static void wake_all(void)
{
    for (struct waiter *waiter = waiters; waiter->name; waiter++) {
        int before = waiter->rounds;
        int again = waiter->wake == interrupt_it || waiter->wake == wake_the_futex;
        long long end = now_ms() + 20000, next = 0;
        int sent = 0;
        while (waiter->rounds == before && now_ms() < end) {
            if (waiter->wake && (!sent || (again && now_ms() >= next))) {
                waiter->wake(waiter);
                sent = 1;
                next = now_ms() + 5000;
            }
            usleep(200);
        }
        if (waiter->rounds == before)
            complain("not woken", 0, waiter - waiters);
    }
    printf("%s\n", broken ? complaint : "woken");
}

static void show_first_line(int fd)
{
    char line[256];
    ssize_t size = read(fd, line, sizeof line - 1);
    line[size > 0 ? size : 0] = 0;
    line[strcspn(line, "\n")] = 0;
    if (size < 0)
        printf("errno %d\n", errno);
    else
        printf("%s\n", line);
}

static void show_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        printf("errno %d\n", errno);
        return;
    }
    show_first_line(fd);
    close(fd);
}

static void show_peer(const char *ip, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &peer.sin_addr);
    struct sockaddr_in own = {0};
    socklen_t size = sizeof own;
    const char *request = "GET / HTTP/1.0\r\n\r\n";
    if (connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0 || getsockname(fd, (struct sockaddr *)&own, &size) < 0 ||
        write(fd, request, strlen(request)) < 0)
        printf("errno %d\n", errno);
    else {
        printf("%s ", inet_ntoa(own.sin_addr));
        show_first_line(fd);
    }
    close(fd);
}

static void show_host(void)
{
    struct utsname names;
    uname(&names);
    printf("%s\n", names.nodename);
}

static void obey(char *line)
{
    static int kept = -1;
    char word[256];
    int port;
    if (sscanf(line, "open %255s", word) == 1)
        show_file(word);
    else if (sscanf(line, "connect %255s %d", word, &port) == 2)
        show_peer(word, port);
    else if (sscanf(line, "keep %255s", word) == 1)
        printf("%s\n", (kept = open(word, O_RDONLY)) < 0 ? strerror(errno) : "kept");
    else if (strcmp(line, "again\n") == 0) {
        lseek(kept, 0, SEEK_SET);
        show_first_line(kept);
    } else if (strcmp(line, "host\n") == 0)
        show_host();
    else if (strcmp(line, "wake\n") == 0)
        wake_all();
    else if (strcmp(line, "fork\n") == 0) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            show_host();
            fflush(stdout);
            _exit(0);
        }
        while (waitpid(child, NULL, 0) < 0)
            complain("waitpid", -errno, 0);
    } else
        printf("what?\n");
}

/* Arguments: further threads that only sleep. */
int main(int argc, char **argv)
{
    static char line[512];
    sigset_t blocked;
    pthread_attr_t small;
    struct sigaction action = {0};
    action.sa_handler = take;
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (struct waiter *waiter = waiters; waiter->name; waiter++)
        prepare(waiter);
    for (struct waiter *waiter = waiters; waiter->name; waiter++)
        pthread_create(&waiter->thread, &small, keep_waiting, waiter);
    for (int more = argc > 1 ? atoi(argv[1]) : 0; more > 0; more--) {
        pthread_t thread;
        if (pthread_create(&thread, &small, keep_waiting, &sleeper) != 0)
            complain("pthread_create", 0, more);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready %d\n", getpid());
    while (fgets(line, sizeof line, stdin) && strcmp(line, "quit\n"))
        obey(line);
    printf("%s\n", broken ? complaint : "OK");
    for (struct waiter *waiter = waiters; waiter->name; waiter++)
        if (waiter->wait == in_semaphore)
            semctl(waiter->queue, 0, IPC_RMID);
        else if (waiter->wait == in_message)
            msgctl(waiter->queue, IPC_RMID, NULL);
    fflush(stdout);
    _exit(7);
}
