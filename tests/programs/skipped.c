/* Says as whom it sees the machine, in every way in which a process gets on: threads, children, programs it executes.
   skipped FILE HOST [NEXT...]: "host" and "file" are there if it sees HOST and can open FILE. Then NEXT is executed.
   skipped filter: puts a filter on itself and says what becomes of its calls. */
#include "seen.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_UNTRACED
#define CLONE_UNTRACED 0x00800000
#endif

extern char **environ;
static const char *name, *file, *host;

static void look(const char *who)
{
    struct utsname names;
    int fd = open(file, O_RDONLY);
    int has_file = fd >= 0;
    close(fd);
    int has_host = uname(&names) == 0 && strcmp(names.nodename, host) == 0;
    char line[256];
    int size = snprintf(line, sizeof line, "%s, %s:%s%s\n", name, who, has_host ? " host" : "", has_file ? " file" : "");
    if (write(1, line, size) != size)
        _exit(3);
}

static void *in_thread(void *argument)
{
    look("thread");
    return argument;
}

static int in_clone(void *argument)
{
    look(argument);
    return 0;
}

static void await(pid_t pid)
{
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, __WALL) != pid || status != 0)
        see("wrong", "pid %d, status %#x", pid, status);
}

static void filtered(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_uname, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | E2BIG),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    struct utsname names;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    see_call("filter", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    see_call("uname", syscall(SYS_uname, &names));
    see_call("getppid", syscall(SYS_getppid));
    see_call("openat", open("/nowhere/at/all", O_RDONLY));
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "filter") == 0)
        return filtered(), 0;
    if (argc < 3)
        return 2;
    const char *slash = strrchr(argv[0], '/');
    name = slash ? slash + 1 : argv[0], file = argv[1], host = argv[2];
    look("main");
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_thread, NULL) == 0)
        pthread_join(thread, NULL);
    pid_t pid = fork();
    if (pid == 0)
        look("child"), _exit(0);
    await(pid);
    pid = vfork();
    if (pid == 0)
        look("child of vfork"), _exit(0);
    await(pid);
    static char stack[65536] __attribute__((aligned(16)));
    await(clone(in_clone, stack + sizeof stack, CLONE_UNTRACED | SIGCHLD, "untraced"));
    if (argc == 3)
        return 0;
    char *spawned[] = {argv[3], argv[1], argv[2], NULL};
    if (posix_spawn(&pid, argv[3], NULL, NULL, spawned, environ) == 0)
        await(pid);
    execve(argv[3], (char *[]){argv[3], argv[1], argv[2], argc > 4 ? argv[4] : NULL, NULL}, environ);
    return 4;
}
