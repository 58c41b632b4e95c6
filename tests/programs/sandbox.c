/* A program with seccomp filters of its own, and ways into the kernel that no filter sees.
   sandbox filters | vsyscall */
#include "seen.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* `number` gets `action`, everything else is allowed. */
static int install(int number, unsigned action, unsigned flags)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static int look(void)
{
    return openat(AT_FDCWD, "/nowhere/at/all", O_RDONLY) < 0 && errno == ENOENT;
}

static volatile int trapped, trapped_number;

static void on_sigsys(int number, siginfo_t *what, void *context)
{
    ucontext_t *at = context;
    trapped = number == SIGSYS && what->si_code == 1 /* SYS_SECCOMP */;
    trapped_number = what->si_syscall;
#ifdef __x86_64__
    at->uc_mcontext.gregs[REG_RAX] = -EXDEV;
#elif defined(__aarch64__)
    at->uc_mcontext.regs[0] = -EXDEV;
#endif
}

static void *look_in_thread(void *argument)
{
    return (void *)(long)(look() && argument);
}

static int filters(void)
{
    struct utsname names;
    struct sigaction action = {0};
    pthread_t thread;
    void *result;
    check("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    check("a filter that answers with an errno", install(SYS_uname, SECCOMP_RET_ERRNO | ENOTTY, 0) == 0);
    see_call("uname", uname(&names));
    check("a filter that traps", install(SYS_mkdir, SECCOMP_RET_TRAP, 0) == 0);
    action.sa_sigaction = on_sigsys;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &action, NULL);
    see_call("mkdir", syscall(SYS_mkdir, "/nowhere/at/all", 0));
    check("SIGSYS with its siginfo", trapped && trapped_number == SYS_mkdir);
    trapped = 0;
    check("a filter that traps a call of the table", install(SYS_readlink, SECCOMP_RET_TRAP, 0) == 0);
    see_call("readlink", syscall(SYS_readlink, "/proc/self/exe", &names, 10));
    check("SIGSYS with its siginfo", trapped && trapped_number == SYS_readlink);
    pid_t pid = fork();
    if (pid == 0) {
        install(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0);
        look();
        getppid();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    see("a filter that kills", "signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status));
    pid = fork();
    if (pid == 0) {
        install(SYS_openat, SECCOMP_RET_KILL_PROCESS, 0);
        look();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    see("a filter that kills at a call of the table", "signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status));
    pthread_create(&thread, NULL, look_in_thread, "");
    pthread_join(thread, &result);
    check("a thread of a program with filters", result != NULL);
    int made = 0;
    for (int number = 0; number < 20; number++)
        made += install(SYS_getpgid, SECCOMP_RET_ERRNO | (number + 1), SECCOMP_FILTER_FLAG_TSYNC) == 0;
    check("20 filters more", made == 20);
    see_call("the last of them counts", syscall(SYS_getpgid, 0));
    int right = 0;
    for (int number = 0; number < 1000; number++)
        right += look();
    check("and calls go on", right == 1000);
    see_call("seccomp as to the mode", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    return finish();
}

/* The old page at a fixed address, from which the kernel is entered by a fault. */
static int vsyscall(void)
{
#ifdef __x86_64__
    time_t (*old_time)(time_t *) = (time_t (*)(time_t *))0xffffffffff600400;
    pid_t pid = fork();
    if (pid == 0) {
        time_t now = time(NULL), then = old_time(NULL);
        _exit(look() && then - now >= 0 && then - now < 60 ? 45 : 255);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    /* A kernel with vsyscall=none kills it. */
    see("time by the vsyscall page", "%#x", status);
#endif
    struct timespec now;
    check("time by the vdso", clock_gettime(CLOCK_REALTIME, &now) == 0 && time(NULL) - now.tv_sec < 60);
    return finish();
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    if (strcmp(way, "filters") == 0)
        return filters();
    return strcmp(way, "vsyscall") == 0 ? vsyscall() : 2;
}
