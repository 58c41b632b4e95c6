/* Signals: each exactly once and in order, interrupted and restarted calls, group stops. */
#include "seen.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define QUEUED 2000

static volatile sig_atomic_t counted, in_order = 1, ticks, last_code, last_value;

static void count(int number, siginfo_t *what, void *context)
{
    (void)number;
    (void)context;
    in_order &= what->si_value.sival_int == counted;
    last_code = what->si_code;
    counted++;
}

static void tick(int number)
{
    (void)number;
    ticks++;
}

static void handle(int number, void (*plain)(int), void (*full)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_flags = flags | (full ? SA_SIGINFO : 0);
    if (full)
        action.sa_sigaction = full;
    else
        action.sa_handler = plain;
    sigaction(number, &action, NULL);
}

/* Queued real-time signals, while calls are made that a tracer stops at. */
static void queued(void)
{
    handle(SIGRTMIN, NULL, count, SA_RESTART);
    for (int number = 0; number < QUEUED; number++) {
        union sigval value = {.sival_int = number};
        while (sigqueue(getpid(), SIGRTMIN, value) < 0 && errno == EAGAIN)
            ;
        open("/nowhere/at/all", O_RDONLY);
    }
    check("each queued signal came once", counted == QUEUED);
    check("in order", in_order);
    check("with its siginfo", last_code == SI_QUEUE);
}

static void blocked(void)
{
    sigset_t set, pending;
    counted = 0;
    in_order = 1;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int number = 0; number < 10; number++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = number});
    sigpending(&pending);
    check("blocked signals wait", counted == 0 && sigismember(&pending, SIGRTMIN));
    siginfo_t what;
    check("sigwaitinfo takes the first", sigwaitinfo(&set, &what) == SIGRTMIN && what.si_value.sival_int == 0);
    counted = 1;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    check("the rest comes at once", counted == 10 && in_order);
}

/* Every tick interrupts something; no call may fail or be lost by it. */
static void interval(void)
{
    handle(SIGALRM, tick, NULL, SA_RESTART);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    int right = 0, made = 0;
    while (ticks < 100 && made < 1000000) {
        right += open("/nowhere/at/all", O_RDONLY) == -1 && errno == ENOENT;
        made++;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    check("calls under a timer are not disturbed", right == made && ticks >= 100);
}

static void interrupted(void)
{
    int ends[2];
    char byte;
    struct itimerval soon = {{0, 0}, {0, 20000}};
    check("pipe", pipe(ends) == 0);
    handle(SIGALRM, tick, NULL, 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    see_call("read without SA_RESTART", read(ends[0], &byte, 1));
    setitimer(ITIMER_REAL, &soon, NULL);
    struct timespec second = {5, 0}, rest = {0, 0};
    see_call("nanosleep", nanosleep(&second, &rest));
    check("nanosleep tells the rest", rest.tv_sec == 4);
    handle(SIGALRM, tick, NULL, SA_RESTART);
    pid_t pid = fork();
    if (pid == 0) {
        struct timespec while_it_reads = {0, 60000000};
        nanosleep(&while_it_reads, NULL);
        _exit(write(ends[1], "x", 1) != 1);
    }
    setitimer(ITIMER_REAL, &soon, NULL);
    see_call("read with SA_RESTART", read(ends[0], &byte, 1));
    waitpid(pid, NULL, 0);
}

static void *loop(void *argument)
{
    (void)argument;
    for (;;)
        open("/nowhere/at/all", O_RDONLY);
    return NULL;
}

static void group_stop(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t one;
        pthread_create(&one, NULL, loop, NULL);
        loop(NULL);
    }
    int status = 0;
    for (int number = 0; number < 5; number++) {
        kill(pid, SIGSTOP);
        check("waitpid sees the stop", waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
        check("by SIGSTOP", WSTOPSIG(status) == SIGSTOP);
        kill(pid, SIGCONT);
        check("and the continuation", waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    }
    kill(pid, SIGTERM);
    check("and the end", waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void own_traps(void)
{
    handle(SIGTRAP, tick, NULL, 0);
    handle(SIGSYS, tick, NULL, 0);
    int before = ticks;
    raise(SIGTRAP);
    raise(SIGSYS);
    check("its own SIGTRAP and SIGSYS arrive", ticks == before + 2);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGTRAP);
    check("tgkill too", ticks == before + 3);
}

int main(void)
{
    queued();
    blocked();
    interval();
    interrupted();
    group_stop();
    own_traps();
    return finish();
}
