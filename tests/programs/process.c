/* Threads, forks, vforks, clones and execs, each checked by itself. process [storm-size] ; "process leaf WORD..." ends at once. */
#include "seen.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char self[4096];

/* A call that the tracer looks at, so that every new thread and process meets it. */
static int look(void)
{
    int fd = openat(AT_FDCWD, "/nowhere/at/all", O_RDONLY);
    return fd < 0 && errno == ENOENT;
}

static int status_of(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void *thread_looks(void *argument)
{
    long count = 0;
    for (int number = 0; number < 50; number++)
        count += look();
    return (void *)(count + (long)argument);
}

static void threads(void)
{
    pthread_t all[16];
    long right = 0;
    for (long number = 0; number < 16; number++)
        pthread_create(&all[number], NULL, thread_looks, (void *)number);
    for (long number = 0; number < 16; number++) {
        void *result;
        pthread_join(all[number], &result);
        right += (long)result == 50 + number;
    }
    check("16 threads of 50 calls", right == 16);
}

static void forks(int size)
{
    int right = 0;
    for (int number = 0; number < size; number++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(look() ? number % 100 : 255);
        right += status_of(pid) == number % 100;
    }
    check("forks one by one", right == size);
    right = 0;
    for (int number = 0; number < size; number++)
        if (fork() == 0)
            _exit(look() ? 7 : 255);
    for (int number = 0; number < size; number++) {
        int status;
        right += waitpid(-1, &status, 0) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    check("forks at once", right == size);
    check("no child is left", waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}

static void vforks(void)
{
    /* volatile: the child runs in this very frame. */
    volatile int right = 0;
    for (volatile int number = 0; number < 20; number++) {
        char *arguments[] = {self, "leaf", "9", NULL};
        pid_t pid = vfork();
        if (pid == 0) {
            execve(self, arguments, environ);
            _exit(254);
        }
        right += status_of(pid) == 9;
    }
    check("vfork and exec", right == 20);
    right = 0;
    for (int number = 0; number < 20; number++) {
        char *arguments[] = {self, "leaf", "8", NULL};
        pid_t pid = -1;
        if (posix_spawn(&pid, self, NULL, NULL, arguments, environ) == 0)
            right += status_of(pid) == 8;
    }
    check("posix_spawn", right == 20);
}

static int cloned(void *argument)
{
    return look() ? *(int *)argument : 255;
}

static void clones(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    int wanted = 5;
    pid_t pid = clone(cloned, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &wanted);
    check("clone with CLONE_VM and CLONE_VFORK", status_of(pid) == 5);
    pid = clone(cloned, stack + sizeof stack, CLONE_FILES | CLONE_FS | SIGCHLD, &wanted);
    check("clone with CLONE_FILES and CLONE_FS", status_of(pid) == 5);
    pid = clone(cloned, stack + sizeof stack, CLONE_UNTRACED | SIGCHLD, &wanted);
    check("clone with CLONE_UNTRACED", status_of(pid) == 5);
    /* exit_signal is the fifth field of struct clone_args. */
    unsigned long long arguments[8] = {0, 0, 0, 0, SIGCHLD};
    pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0)
        _exit(look() ? 6 : 255);
    check("clone3", pid > 0 && status_of(pid) == 6);
}

static void *exec_now(void *argument)
{
    char *arguments[] = {self, "leaf", "11", NULL};
    (void)argument;
    execve(self, arguments, environ);
    return NULL;
}

static void *wait_for_ever(void *argument)
{
    (void)argument;
    for (;;)
        pause();
    return NULL;
}

static void execs(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t one, other;
        pthread_create(&other, NULL, wait_for_ever, NULL);
        pthread_create(&one, NULL, exec_now, NULL);
        wait_for_ever(NULL);
    }
    check("exec by a thread that is not the leader", status_of(pid) == 11);
    pid = fork();
    if (pid == 0) {
        pthread_t all[4];
        for (int number = 0; number < 4; number++)
            pthread_create(&all[number], NULL, exec_now, NULL);
        wait_for_ever(NULL);
    }
    check("exec by threads that race", status_of(pid) == 11);
    pid = fork();
    if (pid == 0) {
        char *arguments[] = {"missing", NULL};
        execve("/nowhere/at/all", arguments, environ);
        int number = errno;
        _exit(number == ENOENT && look() ? 12 : 255);
    }
    check("a failed exec changes nothing", status_of(pid) == 12);
    pid = fork();
    if (pid == 0) {
        char *arguments[] = {self, "leaf", "13", NULL};
        int fd = open(self, O_RDONLY | O_CLOEXEC);
        syscall(SYS_execveat, fd, "", arguments, environ, AT_EMPTY_PATH);
        _exit(255);
    }
    check("execveat of a descriptor", status_of(pid) == 13);
}

static void deaths(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    check("death by SIGSEGV", status_of(pid) == 1000 + SIGSEGV);
    pid = fork();
    if (pid == 0)
        wait_for_ever(NULL);
    kill(pid, SIGKILL);
    check("death by SIGKILL", status_of(pid) == 1000 + SIGKILL);
    pid = fork();
    if (pid == 0) {
        pthread_t one;
        pthread_create(&one, NULL, thread_looks, NULL);
        syscall(SYS_exit, 0);
    }
    check("the leader ends before its thread", status_of(pid) == 0);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "leaf") == 0)
        return look() ? atoi(argv[2]) : 255;
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    check("its own path", size > 0);
    int storm = argc > 1 ? atoi(argv[1]) : 40;
    threads();
    forks(storm);
    vforks();
    clones();
    execs();
    deaths();
    return finish();
}
