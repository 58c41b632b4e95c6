/* The floor: what any ptrace supervisor that looks at a path must do, and nothing else. A seccomp filter selects openat,
 * newfstatat and connect; at each stop the call's registers and the memory that its second argument points to are read, and
 * the tracee is resumed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

static void install_filter(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_newfstatat, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) {
        perror("seccomp");
        _exit(125);
    }
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    int go[2];
    if (pipe(go))
        return 125;
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(go[1]);
        if (read(go[0], &byte, 1) != 1)
            _exit(125);
        close(go[0]);
        install_filter();
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
    if (ptrace(PTRACE_SEIZE, child, 0, options | PTRACE_O_EXITKILL)) {
        perror("ptrace");
        return 125;
    }
    if (write(go[1], ".", 1) != 1)
        return 125;
    int memory = -1, status;
    for (;;) {
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0)
            return errno == ECHILD ? 125 : 1;
        if (WIFEXITED(status) && tid == child)
            return WEXITSTATUS(status);
        if (WIFSIGNALED(status) && tid == child)
            return 128 + WTERMSIG(status);
        if (!WIFSTOPPED(status))
            continue;
        int event = status >> 16;
        if (event == PTRACE_EVENT_SECCOMP) {
            struct __ptrace_syscall_info info;
            char path[256];
            ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
            if (pread(memory, path, sizeof path, info.seccomp.args[1]) < 0)
                path[0] = 0;
            ptrace(PTRACE_CONT, tid, 0, 0);
        } else if (event == PTRACE_EVENT_EXEC) {
            char name[64];
            if (memory >= 0)
                close(memory);
            snprintf(name, sizeof name, "/proc/%d/mem", tid);
            memory = open(name, O_RDONLY | O_CLOEXEC);
            ptrace(PTRACE_CONT, tid, 0, 0);
        } else {
            ptrace(PTRACE_CONT, tid, 0, event ? 0 : WSTOPSIG(status));
        }
    }
}
