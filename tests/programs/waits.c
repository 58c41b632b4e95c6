/* What a parent is told of its children, and how processes end: statuses, cores, newborn that are killed. waits [ROUNDS] */
#include "seen.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t children, last_code, last_status;
static volatile pid_t last_pid;

static void child_changed(int number, siginfo_t *what, void *context)
{
    (void)context;
    children += number == SIGCHLD;
    last_code = what->si_code;
    last_status = what->si_status;
    last_pid = what->si_pid;
}

static void on_child(int flags)
{
    struct sigaction action = {0};
    action.sa_sigaction = child_changed;
    action.sa_flags = SA_SIGINFO | SA_RESTART | flags;
    sigaction(SIGCHLD, &action, NULL);
}

static int look(void)
{
    return openat(AT_FDCWD, "/nowhere/at/all", O_RDONLY) < 0 && errno == ENOENT;
}

static void *wait_for_ever(void *argument)
{
    for (;;)
        pause();
    return argument;
}

static void see_waitid(const char *what, idtype_t kind, id_t id, int options, pid_t wanted)
{
    siginfo_t info = {0};
    int result = waitid(kind, id, &info, options);
    if (result < 0)
        see_call(what, result);
    else
        see(what, "code %d status %d %s", info.si_code, info.si_status, info.si_pid == wanted ? "of it" : info.si_pid ? "of another" : "of none");
}

static void states(void)
{
    int status = 0, gate[2];
    char byte;
    struct rusage usage = {0};
    check("pipe", pipe(gate) == 0);
    on_child(0);
    children = 0;
    pid_t pid = fork();
    if (pid == 0) {
        close(gate[1]);
        _exit(look() && read(gate[0], &byte, 1) == 0 ? 41 : 255);
    }
    close(gate[0]);
    see_waitid("nothing yet", P_PID, pid, WEXITED | WSTOPPED | WCONTINUED | WNOHANG, pid);
    see_call("nothing yet by waitpid", waitpid(pid, &status, WNOHANG | WUNTRACED | WCONTINUED));
    kill(pid, SIGSTOP);
    see_waitid("stopped, left there", P_PID, pid, WSTOPPED | WNOWAIT, pid);
    see_waitid("stopped, taken", P_PID, pid, WSTOPPED, pid);
    see("SIGCHLD of it", "code %d status %d %s", last_code, last_status, last_pid == pid ? "of it" : "of another");
    see_waitid("stopped, once only", P_PID, pid, WSTOPPED | WNOHANG, pid);
    kill(pid, SIGCONT);
    see_waitid("continued, left there", P_PGID, getpgrp(), WCONTINUED | WNOWAIT, pid);
    see_waitid("continued, taken", P_ALL, 0, WCONTINUED, pid);
    see_waitid("continued, once only", P_ALL, 0, WCONTINUED | WNOHANG, pid);
    /* waitid(2) may tell of it before the child runs on and sends its SIGCHLD; if that is still pending, that of the end is lost. */
    while (last_code != CLD_CONTINUED)
        sched_yield();
    see("SIGCHLD of it", "code %d status %d %s", last_code, last_status, last_pid == pid ? "of it" : "of another");
    see_waitid("not of clone's kind", P_PID, pid, WEXITED | WNOHANG | __WCLONE, pid);
    close(gate[1]);
    see_waitid("ended, left there", P_PID, pid, WEXITED | WNOWAIT, pid);
    see_waitid("ended, left there again", P_ALL, 0, WEXITED | WNOWAIT, pid);
    check("ended, taken", wait4(pid, &status, __WALL, &usage) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 41);
    check("with its resources", usage.ru_minflt > 0);
    see("SIGCHLD of it", "code %d status %d %s", last_code, last_status, last_pid == pid ? "of it" : "of another");
    see_call("none is left", waitpid(-1, &status, 0));
    see_waitid("nobody's", P_PID, 1, WEXITED, pid);
    see_call("nobody's group", waitpid(-getpid() - 100000, &status, WNOHANG));
    see_call("wrong options", waitpid(-1, &status, 0x10000000 | 0x04000000));
}

static void quiet(void)
{
    int status;
    on_child(SA_NOCLDSTOP);
    children = 0;
    pid_t pid = fork();
    if (pid == 0)
        wait_for_ever(NULL);
    kill(pid, SIGSTOP);
    check("stopped", waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    kill(pid, SIGCONT);
    check("continued", waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    kill(pid, SIGTERM);
    check("ended", waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    check("SA_NOCLDSTOP: one signal only", children == 1 && last_code == CLD_KILLED && last_status == SIGTERM);
    on_child(SA_NOCLDWAIT);
    pid = fork();
    if (pid == 0)
        _exit(0);
    see_call("SA_NOCLDWAIT leaves nothing to wait for", waitpid(pid, &status, 0));
    signal(SIGCHLD, SIG_IGN);
    pid = fork();
    if (pid == 0)
        _exit(0);
    see_call("ignored SIGCHLD leaves nothing to wait for", waitpid(pid, &status, 0));
    signal(SIGCHLD, SIG_DFL);
}

static void *wait_elsewhere(void *argument)
{
    int status;
    pid_t pid = *(pid_t *)argument;
    long others = waitpid(pid, &status, WNOHANG | __WNOTHREAD) == -1 && errno == ECHILD;
    return (void *)(others + 2 * (waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 42));
}

static void *end_gate(void *argument)
{
    char byte;
    int fd = *(int *)argument;
    if (read(fd, &byte, 1) >= 0)
        syscall(SYS_exit_group, look() ? 43 : 255);
    return NULL;
}

static void threads(void)
{
    pthread_t thread;
    void *result;
    int gate[2], status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(42);
    pthread_create(&thread, NULL, wait_elsewhere, &pid);
    pthread_join(thread, &result);
    check("another thread waits", (long)result == 3);
    check("pipe", pipe(gate) == 0);
    pid = fork();
    if (pid == 0) {
        close(gate[1]);
        pthread_create(&thread, NULL, end_gate, &gate[0]);
        syscall(SYS_exit, 7);
    }
    close(gate[0]);
    /* The leader has ended once /proc shows a zombie; the process has not. */
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    do {
        int fd = open(path, O_RDONLY);
        line[read(fd, line, sizeof line - 1)] = 0;
        close(fd);
    } while (!strstr(line, ") Z"));
    check("a process whose leader has ended still runs", waitpid(pid, &status, WNOHANG) == 0);
    close(gate[1]);
    check("and ends as its last thread says", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 43);
}

static void crash(int number)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(number, SIG_DFL);
    look();
    if (number == SIGSEGV)
        *(volatile int *)8 = 1;
    if (number == SIGABRT)
        abort();
    if (number == SIGILL)
        __builtin_trap();
    raise(number);
}

static void ends(void)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGSYS, SIGTRAP, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE,
                                  SIGALRM, SIGUSR1, SIGXCPU, SIGKILL};
    int status, right = 0;
    for (size_t number = 0; number < sizeof signals / sizeof *signals; number++) {
        pid_t pid = fork();
        if (pid == 0) {
            crash(signals[number]);
            _exit(0);
        }
        if (waitpid(pid, &status, 0) == pid)
            see("ended by a signal", "%d as %#x", signals[number], status);
    }
    for (int code = 0; code < 256; code += 15) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(code);
        right += waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == code;
    }
    check("exit codes", right == 18);
}

static void *another(void *argument)
{
    look();
    return argument;
}

static void make_others_for_ever(int by_vfork)
{
    for (;;) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, another, NULL) == 0)
            pthread_join(thread, NULL);
        pid_t pid = by_vfork ? vfork() : fork();
        if (pid == 0)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
}

static void newborn(int rounds)
{
    int right = 0, status;
    for (int round = 0; round < rounds; round++) {
        pid_t pid = fork();
        if (pid == 0)
            make_others_for_ever(round % 2);
        /* From nothing at all to some thousand instructions later. */
        for (volatile int spin = 0; spin < round % 50 * 2000; spin++)
            ;
        kill(pid, SIGKILL);
        right += waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    }
    check("newborn that are killed", right == rounds);
    right = 0;
    for (int round = 0; round < rounds; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            pthread_t thread;
            for (int number = 0; number < round % 8; number++)
                pthread_create(&thread, NULL, another, NULL);
            syscall(SYS_exit_group, round % 100);
        }
        right += waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == round % 100;
    }
    check("exit_group while threads begin", right == rounds);
    see_call("no child is left", waitpid(-1, NULL, __WALL));
}

int main(int argc, char **argv)
{
    states();
    quiet();
    threads();
    ends();
    newborn(argc > 1 ? atoi(argv[1]) : 200);
    return finish();
}
