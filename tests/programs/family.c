/* Many threads and processes, every kind of clone and of exec, orphans. family THREADS PROCESSES [POD-FILE]
   "family leaf WORD NODENAME" and "family chain COUNT OTHER NODENAME" are what it executes. */
#include "seen.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char self[4096], node[65];
static const char *pod_file = "/nowhere/at/all";
#define LEAF(code) ((char *[]){self, "leaf", code, node, NULL})

/* The errno of open(2) and the hostname: in a task that has got away from the tracer both would be others. */
static int look(void)
{
    struct utsname names;
    int fd = openat(AT_FDCWD, "/nowhere/at/all", O_RDONLY);
    return fd < 0 && errno == ENOENT && uname(&names) == 0 && strcmp(names.nodename, node) == 0;
}

static int status_of(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return 2000 + errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void *wait_for_ever(void *argument)
{
    for (;;)
        pause();
    return argument;
}

static void *look_for_ever(void *argument)
{
    for (;;) {
        look();
        close(open(pod_file, O_RDONLY));
    }
    return argument;
}

/* ---- many -------------------------------------------------------------------------------------------------------- */

static pthread_barrier_t all_there;

static void *one_of_many(void *argument)
{
    int before = look();
    pthread_barrier_wait(&all_there);
    return (void *)(long)(before && look() && argument);
}

static void *forks_some(void *argument)
{
    long right = 0;
    for (int number = 0; number < 20; number++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(look() ? 30 : 255);
        right += status_of(pid) == 30;
    }
    return argument ? (void *)right : NULL;
}

static long in_threads(int count, void *(*work)(void *))
{
    static pthread_t all[4096];
    pthread_attr_t small;
    void *result;
    long sum = 0;
    int made = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    while (made < count && pthread_create(&all[made], &small, work, self) == 0)
        made++;
    for (int number = 0; number < made; number++) {
        pthread_join(all[number], &result);
        sum += (long)result;
    }
    return sum;
}

static void many(int threads, int processes)
{
    pthread_barrier_init(&all_there, NULL, threads);
    check("threads that are all there at once", in_threads(threads, one_of_many) == threads);
    int gate[2], right = 0;
    check("pipe", pipe(gate) == 0);
    for (int number = 0; number < processes; number++)
        if (fork() == 0) {
            char byte;
            close(gate[1]);
            int before = look();
            if (read(gate[0], &byte, 1) != 0)
                _exit(254);
            _exit(before && look() ? 33 : 255);
        }
    close(gate[0]);
    close(gate[1]);
    for (int number = 0; number < processes; number++) {
        int status;
        right += waitpid(-1, &status, 0) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 33;
    }
    check("processes that are all there at once", right == processes);
    check("threads that fork", in_threads(8, forks_some) == 160);
}

/* Each process has two children, down to depth 0; its exit code is 1 if all below it were right. */
static int branch(int depth)
{
    pid_t one, other;
    if (depth == 0)
        return look();
    if ((one = fork()) == 0)
        _exit(branch(depth - 1));
    if ((other = fork()) == 0)
        _exit(branch(depth - 1));
    int first = status_of(one), second = status_of(other);
    return look() && first == 1 && second == 1;
}

/* ---- clone ------------------------------------------------------------------------------------------------------- */

static char stack[65536] __attribute__((aligned(16)));
static volatile int shared, signalled;
static int sink[2];

static void note(int number)
{
    signalled = number;
}

static int child_of_clone(void *argument)
{
    shared = 1;
    close(sink[0]);
    if (chdir("/usr") < 0)
        return 254;
    return look() ? (int)(long)argument : 255;
}

static int clone_once(int flags)
{
    shared = 0;
    if (chdir("/") < 0 || pipe(sink) < 0)
        return -1;
    int status = status_of(clone(child_of_clone, stack + sizeof stack, flags, (void *)5));
    char here[64] = "";
    getcwd(here, sizeof here);
    int closed = fcntl(sink[0], F_GETFD) < 0;
    close(sink[0]);
    close(sink[1]);
    /* status, memory shared, descriptors shared, working directory shared */
    return status * 1000 + shared * 100 + closed * 10 + (strcmp(here, "/usr") == 0);
}

static long clone3_of(unsigned long long flags, unsigned long long exit_signal, int *pidfd)
{
    /* struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls */
    unsigned long long arguments[8] = {flags, (unsigned long)pidfd, 0, 0, exit_signal};
    long pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0)
        _exit(look() ? 6 : 255);
    return pid;
}

static void clones(void)
{
    int pidfd = -1;
    check("clone", clone_once(SIGCHLD) == 5000);
    check("clone with CLONE_VM", clone_once(CLONE_VM | SIGCHLD) == 5100);
    check("clone with CLONE_FILES", clone_once(CLONE_FILES | SIGCHLD) == 5010);
    check("clone with CLONE_FS", clone_once(CLONE_FS | SIGCHLD) == 5001);
    check("clone with all of them", clone_once(CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_VFORK | SIGCHLD) == 5111);
    check("clone with CLONE_UNTRACED and all", clone_once(CLONE_UNTRACED | CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD) == 5111);
    check("clone with CLONE_UNTRACED and CLONE_VFORK", clone_once(CLONE_UNTRACED | CLONE_VM | CLONE_VFORK | SIGCHLD) == 5100);
    check("clone without a signal at its end", clone_once(0) == 5000);
    check("clone3", status_of(clone3_of(0, SIGCHLD, NULL)) == 6);
    check("clone3 with CLONE_UNTRACED", status_of(clone3_of(CLONE_UNTRACED, SIGCHLD, NULL)) == 6);
    pid_t pid = clone3_of(CLONE_PIDFD, SIGCHLD, &pidfd);
    siginfo_t what = {0};
    check("clone3 with CLONE_PIDFD", waitid(3 /* P_PIDFD */, pidfd, &what, WEXITED) == 0 && what.si_pid == pid && what.si_status == 6);
    signal(SIGUSR1, note);
    signalled = 0;
    check("clone3 with SIGUSR1 at its end", status_of(clone3_of(0, SIGUSR1, NULL)) == 6 && signalled == SIGUSR1);
    see_call("clone3 of no size", syscall(SYS_clone3, &pidfd, 0));
    see_call("clone3 from nowhere", syscall(SYS_clone3, NULL, 64));
    see_call("clone3 of a huge size", syscall(SYS_clone3, stack, 1 << 20));
    check("clone3 with flags that exclude each other", clone3_of(CLONE_FS | CLONE_NEWNS, SIGCHLD, NULL) == -1 && errno == EINVAL);
    pid_t middle = fork();
    if (middle == 0) {
        pid = clone3_of(CLONE_PARENT, 0, NULL);
        _exit(pid > 0 && waitpid(pid, NULL, __WALL) == -1 && errno == ECHILD ? 7 : 255);
    }
    int statuses = 0, status;
    for (int number = 0; number < 2; number++)
        if (waitpid(-1, &status, __WALL) > 0)
            statuses += WEXITSTATUS(status);
    check("clone with CLONE_PARENT is a child of the grandparent", statuses == 13);
}

static void *write_gate(void *argument)
{
    long right = 0;
    for (int number = 0; number < 50; number++)
        right += look();
    return (void *)(right + (write(*(int *)argument, "x", 1) == 1));
}

/* The parent's other threads go on while it waits for the child of its vfork. */
static void vfork_with_threads(void)
{
    int gate[2];
    char byte;
    void *result;
    pthread_t thread;
    check("pipe", pipe(gate) == 0);
    pthread_create(&thread, NULL, write_gate, &gate[1]);
    pid_t pid = vfork();
    if (pid == 0) {
        if (read(gate[0], &byte, 1) == 1)
            execve(self, LEAF("14"), environ);
        _exit(254);
    }
    check("vfork while other threads run", status_of(pid) == 14);
    pthread_join(thread, &result);
    check("and these were not held up", (long)result == 51);
    pid = vfork();
    if (pid == 0) {
        execve("/nowhere/at/all", LEAF("1"), environ);
        _exit(errno == ENOENT ? 15 : 255);
    }
    check("vfork and a failed exec", status_of(pid) == 15);
}

/* ---- exec -------------------------------------------------------------------------------------------------------- */

static void *exec_leaf(void *code)
{
    execve(self, LEAF(code), environ);
    return NULL;
}

static void exec_with_threads(void)
{
    int right = 0;
    for (int round = 0; round < 10; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            pthread_t thread;
            for (int number = 0; number < 6; number++)
                pthread_create(&thread, NULL, number % 2 ? look_for_ever : wait_for_ever, NULL);
            pthread_create(&thread, NULL, exec_leaf, "16");
            look_for_ever(NULL);
        }
        right += status_of(pid) == 16;
    }
    check("exec by one thread of many that make calls", right == 10);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, wait_for_ever, NULL);
        execve(self, LEAF("17"), environ);
    }
    check("exec by the leader", status_of(pid) == 17);
    pid = fork();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, exec_leaf, "18");
        pthread_exit(NULL);
    }
    check("exec after the leader has ended", status_of(pid) == 18);
}

static void failed_execs(const char *script)
{
    char *arguments[] = {"x", NULL};
    see_call("exec of nothing", execve("/nowhere/at/all", arguments, environ));
    see_call("exec of the empty path", execve("", arguments, environ));
    see_call("exec of a directory", execve("/", arguments, environ));
    see_call("exec of a pointer to nowhere", syscall(SYS_execve, 8, arguments, environ));
    see_call("exec of arguments from nowhere", syscall(SYS_execve, self, 8, environ));
    see_call("exec below a file", execve("/etc/passwd/x", arguments, environ));
    see_call("exec of what is not executable", execve("/dev/null", arguments, environ));
    chmod(script, 0755);
    see_call("exec of a script without a first line", execve(script, arguments, environ));
    check("nothing has changed after all that", look());
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    check("write a file", write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static int copy_to(int to)
{
    char block[65536];
    ssize_t size;
    int from = open(self, O_RDONLY | O_CLOEXEC);
    while ((size = read(from, block, sizeof block)) > 0)
        if (write(to, block, size) != size)
            return 0;
    close(from);
    return size == 0;
}

static void run_leaf(const char *what, int fd, const char *path, int flags, int wanted)
{
    pid_t pid = fork();
    if (pid == 0) {
        char code[16];
        snprintf(code, sizeof code, "%d", wanted);
        syscall(SYS_execveat, fd, path, LEAF(code), environ, flags);
        _exit(250);
    }
    check(what, status_of(pid) == wanted);
}

static void execs(void)
{
    char script[64], first[4200];
    snprintf(script, sizeof script, "./script-%d", getpid());
    write_file(script, "exit 3\n");
    failed_execs(script);
    exec_with_threads();
    int memory = syscall(SYS_memfd_create, "program", MFD_CLOEXEC), fd = open(self, O_RDONLY | O_CLOEXEC);
    check("a copy of itself in memory", copy_to(memory));
    run_leaf("exec of a memfd", memory, "", AT_EMPTY_PATH, 20);
    run_leaf("exec of a descriptor", fd, "", AT_EMPTY_PATH, 21);
    run_leaf("execveat of an absolute path", -1, self, 0, 22);
    run_leaf("execveat of a closed descriptor fails", 987, "", AT_EMPTY_PATH, 250);
    /* The kernel gives a script to `first line, script, arguments`: "family leaf SCRIPT leaf 23 NODENAME". */
    snprintf(first, sizeof first, "#!%s leaf\n", self);
    write_file(script, first);
    run_leaf("a script that this program interprets", AT_FDCWD, script, 0, 23);
    close(fd);
    fd = open(script, O_RDONLY | O_CLOEXEC);
    run_leaf("a script by a descriptor that closes at exec", fd, "", AT_EMPTY_PATH, 250);
    write_file(script, "#!/bin/sh\nexit 24\n");
    run_leaf("a shell script", AT_FDCWD, script, 0, 24);
    unlink(script);
}

/* From one program to the other and back: other calls, another loader, other memory. */
static int chain(int left, char *other)
{
    char count[16];
    snprintf(count, sizeof count, "%d", left - 1);
    if (!look() || left == 0)
        return look() ? 25 : 255;
    execve(other, (char *[]){other, "chain", count, self, node, NULL}, environ);
    return 254;
}

/* ---- orphans ----------------------------------------------------------------------------------------------------- */

static void *fork_and_end(void *argument)
{
    int *ends = argument;
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        sigprocmask(SIG_BLOCK, &set, NULL);
        prctl(PR_SET_PDEATHSIG, SIGUSR2);
        if (write(ends[1], "x", 1) != 1 || read(ends[2], &byte, 1) != 1)
            _exit(255);
        /* The thread that made this process has ended. */
        siginfo_t what;
        _exit(sigwaitinfo(&set, &what) == SIGUSR2 && look() ? 26 : 254);
    }
    char byte;
    if (read(ends[0], &byte, 1) != 1)
        return NULL;
    return (void *)(long)pid;
}

static void orphans(void)
{
    int up[2], down[2];
    char byte;
    void *result;
    pthread_t thread;
    check("pipes", pipe(up) == 0 && pipe(down) == 0);
    int ends[3] = {up[0], up[1], down[0]};
    pthread_create(&thread, NULL, fork_and_end, ends);
    pthread_join(thread, &result);
    check("write", write(down[1], "x", 1) == 1);
    check("a parent's thread ends: PDEATHSIG", status_of((pid_t)(long)result) == 26);
    check("subreaper", prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t main_pid = getpid(), pid = fork();
    if (pid == 0) {
        if (fork() == 0) {
            setsid();
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            prctl(PR_SET_PDEATHSIG, 0);
            if (read(down[0], &byte, 1) != 1)
                _exit(255);
            _exit(getppid() == main_pid && getsid(0) == getpid() && look() ? 27 : 254);
        }
        _exit(28);
    }
    check("the middle of a double fork", status_of(pid) == 28);
    check("write", write(down[1], "x", 1) == 1);
    check("the orphan is the subreaper's child", status_of(-1) == 27);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    pid = fork();
    if (pid == 0) {
        pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (write(up[1], "x", 1) != 1)
                _exit(1);
            wait_for_ever(NULL);
        }
        _exit(read(up[0], &byte, 1) == 1 ? 29 : 255);
    }
    close(up[1]);
    check("a parent ends", status_of(pid) == 29);
    check("PDEATHSIG kills its child", read(up[0], &byte, 1) == 0);
    check("no child is left", waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
}

int main(int argc, char **argv)
{
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (size <= 0 || argc < 3)
        return 2;
    if (strcmp(argv[1], "leaf") == 0) {
        snprintf(node, sizeof node, "%s", argv[argc - 1]);
        return look() ? atoi(argv[argc - 2]) : 255;
    }
    if (strcmp(argv[1], "chain") == 0) {
        struct utsname names;
        uname(&names);
        snprintf(node, sizeof node, "%s", argc > 4 ? argv[4] : names.nodename);
        return chain(atoi(argv[2]), argv[3]);
    }
    struct utsname names;
    uname(&names);
    snprintf(node, sizeof node, "%s", names.nodename);
    if (argc > 3)
        pod_file = argv[3];
    many(atoi(argv[1]), atoi(argv[2]));
    check("a tree of forks", branch(7) == 1);
    int here = open(".", O_RDONLY | O_CLOEXEC);
    clones();
    check("back where it began", fchdir(here) == 0);
    close(here);
    vfork_with_threads();
    execs();
    orphans();
    return finish();
}
