/* A signal interrupts each call that blocks, with and without SA_RESTART; stops and continuations; real-time signals. */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t taken;
static pid_t sleeper;
static pthread_t main_thread;
static int ends[2], listener, full, epoll, queue;
static struct sockaddr_in address, full_address;
static char fifo[64];
static volatile int wanted, word;
static pid_t child;

static void take(int number)
{
    taken += number == SIGUSR1;
}

/* Until the main thread sleeps in the call `wanted` (or in its continuation, restart_syscall), as /proc tells. */
static void until_it_blocks(void)
{
    char path[64], line[256];
    for (;;) {
        int number = -1, fd;
        snprintf(path, sizeof path, "/proc/self/task/%d/syscall", sleeper);
        fd = open(path, O_RDONLY);
        ssize_t size = read(fd, line, sizeof line - 1);
        close(fd);
        line[size > 0 ? size : 0] = 0;
        if (sscanf(line, "%d", &number) == 1 && (number == wanted || number == SYS_restart_syscall)) {
            snprintf(path, sizeof path, "/proc/self/task/%d/stat", sleeper);
            fd = open(path, O_RDONLY);
            size = read(fd, line, sizeof line - 1);
            close(fd);
            line[size > 0 ? size : 0] = 0;
            if (strstr(line, ") S"))
                return;
        }
        sched_yield();
    }
}

static void (*finisher)(void);

static void *interrupt(void *argument)
{
    until_it_blocks();
    pthread_kill(main_thread, SIGUSR1);
    while (!taken)
        sched_yield();
    /* NULL: it has to come back by itself. */
    if (argument) {
        until_it_blocks();
        finisher();
    }
    return NULL;
}

static void ring(int flags)
{
    struct sigaction action = {0};
    action.sa_handler = take;
    action.sa_flags = flags;
    sigaction(SIGUSR1, &action, NULL);
}

struct call {
    const char *name;
    int number;
    long (*make)(void);
    void (*finish)(void); /* NULL: SA_RESTART does not restart it */
};

static void write_a_byte(void)
{
    if (write(ends[1], "x", 1) != 1)
        failures++;
}

static void connect_to_it(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        failures++;
}

static void make_room(void)
{
    close(accept(full, NULL, NULL));
}

static void open_for_writing(void)
{
    close(open(fifo, O_WRONLY));
}

static void end_child(void)
{
    kill(child, SIGKILL);
}

static void send_a_datagram(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {0};
    socklen_t size = sizeof to;
    getsockname(ends[0], (struct sockaddr *)&to, &size);
    if (sendto(fd, "x", 1, 0, (struct sockaddr *)&to, size) != 1)
        failures++;
    close(fd);
}

static void wake_it(void)
{
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static long call_read(void)
{
    char byte;
    return read(ends[0], &byte, 1);
}

static long call_accept(void)
{
    int fd = syscall(SYS_accept4, listener, NULL, NULL, 0);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : 0;
}

static long call_accept_address(void)
{
    struct sockaddr_in peer = {0};
    socklen_t size = sizeof peer;
    int fd = syscall(SYS_accept4, listener, &peer, &size, 0);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : peer.sin_addr.s_addr != htonl(INADDR_LOOPBACK);
}

static long call_connect(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    long result = connect(fd, (struct sockaddr *)&full_address, sizeof full_address);
    int number = errno;
    close(fd);
    errno = number;
    return result;
}

static long call_recvfrom(void)
{
    char byte;
    struct sockaddr_in peer = {0};
    socklen_t size = sizeof peer;
    return recvfrom(ends[0], &byte, 1, 0, (struct sockaddr *)&peer, &size);
}

static long call_open_fifo(void)
{
    int fd = openat(AT_FDCWD, fifo, O_RDONLY);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : 0;
}

static long call_wait(void)
{
    int status;
    return waitpid(child, &status, 0) > 0 ? 0 : -1;
}

static long call_nanosleep(void)
{
    struct timespec long_time = {100, 0}, rest = {0, 0};
    long result = syscall(SYS_nanosleep, &long_time, &rest);
    return result < 0 && (rest.tv_sec < 60 || rest.tv_sec > 100) ? 99 : result;
}

static long call_clock_nanosleep(void)
{
    struct timespec then;
    clock_gettime(CLOCK_MONOTONIC, &then);
    then.tv_sec += 100;
    return -syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL) ? -1 : 0;
}

static long call_poll(void)
{
    struct pollfd one = {ends[0], POLLIN, 0};
    return poll(&one, 1, 100000);
}

static long call_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timespec limit = {100, 0};
    return syscall(SYS_pselect6, ends[0] + 1, &set, NULL, NULL, &limit, NULL);
}

static long call_epoll(void)
{
    struct epoll_event event;
    return syscall(SYS_epoll_pwait, epoll, &event, 1, 100000, NULL, 8);
}

static long call_pause(void)
{
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}

static long call_sigwait(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8); /* the C libraries differ */
}

static long call_futex(void)
{
    word = 0;
    return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static long call_futex_with_a_limit(void)
{
    struct timespec limit = {100, 0};
    word = 0;
    return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &limit, NULL, 0);
}

static long call_message(void)
{
    struct { long kind; char text[8]; } message;
    return msgrcv(queue, &message, sizeof message.text, 0, 0);
}

static const struct call CALLS[] = {
    {"read", SYS_read, call_read, write_a_byte},
    {"accept4", SYS_accept4, call_accept, connect_to_it},
    {"accept4 with an address", SYS_accept4, call_accept_address, connect_to_it},
    {"connect", SYS_connect, call_connect, make_room},
    {"open of a fifo", SYS_openat, call_open_fifo, open_for_writing},
    {"wait4", SYS_wait4, call_wait, end_child},
    {"nanosleep", SYS_nanosleep, call_nanosleep, NULL},
    {"clock_nanosleep until", SYS_clock_nanosleep, call_clock_nanosleep, NULL},
    {"poll", SYS_poll, call_poll, NULL},
    {"pselect6", SYS_pselect6, call_select, NULL},
    {"epoll_pwait", SYS_epoll_pwait, call_epoll, NULL},
    {"rt_sigsuspend", SYS_rt_sigsuspend, call_pause, NULL},
    {"rt_sigtimedwait", SYS_rt_sigtimedwait, call_sigwait, NULL},
    {"futex", SYS_futex, call_futex, wake_it},
    {"futex with a limit", SYS_futex, call_futex_with_a_limit, NULL},
    {"msgrcv", SYS_msgrcv, call_message, NULL},
    {"recvfrom with an address", SYS_recvfrom, call_recvfrom, send_a_datagram},
};

static void prepare(void)
{
    socklen_t size = sizeof address;
    check("pipe", pipe(ends) == 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    full_address = address;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    check("bind", bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 8) == 0);
    getsockname(listener, (struct sockaddr *)&address, &size);
    full = socket(AF_INET, SOCK_STREAM, 0);
    check("bind", bind(full, (struct sockaddr *)&full_address, size) == 0 && listen(full, 0) == 0);
    getsockname(full, (struct sockaddr *)&full_address, &size);
    epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.fd = ends[0]}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    queue = msgget(IPC_PRIVATE, 0600);
    snprintf(fifo, sizeof fifo, "./fifo-%d", getpid());
    check("fifo", mkfifo(fifo, 0600) == 0);
    ring(0);
}

static void one_call(const struct call *call, int restart)
{
    pthread_t thread;
    char what[128];
    int filler = -1;
    if (call->make == call_wait && (child = fork()) == 0)
        for (;;)
            pause();
    if (call->make == call_connect) {
        /* A backlog of 0 has room for one. */
        filler = socket(AF_INET, SOCK_STREAM, 0);
        check("the backlog is full", connect(filler, (struct sockaddr *)&full_address, sizeof full_address) == 0);
    }
    wanted = call->number;
    taken = 0;
    ring(restart ? SA_RESTART : 0);
    finisher = call->finish;
    int comes_back = restart && call->finish;
    pthread_create(&thread, NULL, interrupt, comes_back ? (void *)call : NULL);
    long result = call->make();
    int number = errno;
    pthread_join(thread, NULL);
    errno = number;
    snprintf(what, sizeof what, "%s %s SA_RESTART", call->name, restart ? "with" : "without");
    see_call(what, result);
    check("one signal", taken == 1);
    if (call->make == call_wait && !comes_back) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    if (call->make == call_connect) {
        close(filler);
        if (!comes_back)
            make_room();
        int flags = fcntl(full, F_GETFL);
        fcntl(full, F_SETFL, flags | O_NONBLOCK);
        while ((number = accept(full, NULL, NULL)) >= 0)
            close(number);
        fcntl(full, F_SETFL, flags);
    }
}

static long short_sleep(void)
{
    struct timespec limit = {1, 0};
    return syscall(SYS_nanosleep, &limit, NULL);
}

static long poll_for_long(void)
{
    struct pollfd one = {ends[0], POLLIN, 0};
    return poll(&one, 1, 100000) - 1;
}

/* A stop and SIGCONT in the midst of a call that then goes on by restart_syscall(2), as if nothing had been. */
static void stopped(const char *what, int number, long (*make)(void))
{
    int status;
    char path[64], line[256];
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGUSR1, SIG_DFL);
        _exit(make() == 0 ? 44 : 255);
    }
    for (int round = 0; round < 3; round++) {
        int now = -1;
        while (now != number && now != SYS_restart_syscall) {
            snprintf(path, sizeof path, "/proc/%d/syscall", pid);
            int fd = open(path, O_RDONLY);
            ssize_t size = read(fd, line, sizeof line - 1);
            close(fd);
            if (size <= 0)
                break; /* it has ended too early, as the check of its status will say */
            line[size] = 0;
            if (sscanf(line, "%d", &now) != 1)
                now = -1;
            sched_yield();
        }
        kill(pid, SIGSTOP);
        check("stopped", waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
        kill(pid, SIGCONT);
        check("continued", waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    }
    if (make == poll_for_long)
        write_a_byte();
    check(what, waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 44);
}

int main(int argc, char **argv)
{
    sleeper = syscall(SYS_gettid);
    main_thread = pthread_self();
    prepare();
    int with_stops = argc > 1 && strcmp(argv[1], "stops") == 0;
    size_t count = sizeof CALLS / sizeof *CALLS;
    for (size_t number = 0; number < count && !with_stops; number++) {
        if (CALLS[number].make == call_recvfrom) {
            struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
            ends[0] = socket(AF_INET, SOCK_DGRAM, 0);
            check("a socket", bind(ends[0], (struct sockaddr *)&any, sizeof any) == 0);
        }
        one_call(&CALLS[number], 0);
        one_call(&CALLS[number], 1);
    }
    if (with_stops) {
        stopped("nanosleep goes on", SYS_nanosleep, short_sleep);
        stopped("poll goes on", SYS_poll, poll_for_long);
    }
    unlink(fifo);
    msgctl(queue, IPC_RMID, NULL);
    return finish();
}
