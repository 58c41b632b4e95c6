/* What execve(2) hands on. handed: says it. handed WHAT... -- COMMAND...: sets it and executes; WHAT is +SIGNAL to ignore,
 * -SIGNAL to block (a number, or all) and subreaper. Past the C library, which keeps two signals to itself. */
#include "seen.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As the kernel has it on x86-64; where it has no restorer, the mask comes earlier and is not of interest. */
struct disposition {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

static unsigned long mask_of(const char *which)
{
    return strcmp(which, "all") == 0 ? ~0UL : 1UL << (atoi(which) - 1);
}

static void ignore(unsigned long mask)
{
    for (int number = 1; number <= 64; number++) {
        struct disposition wanted = {.handler = SIG_IGN};
        if (mask >> (number - 1) & 1)
            syscall(SYS_rt_sigaction, number, &wanted, NULL, 8L);
    }
}

static void say(void)
{
    unsigned long ignored = 0, blocked = 0;
    int subreaper = 0;
    for (int number = 1; number <= 64; number++) {
        struct disposition found = {0};
        syscall(SYS_rt_sigaction, number, NULL, &found, 8L);
        if (found.handler == SIG_IGN)
            ignored |= 1UL << (number - 1);
        else if (found.handler != SIG_DFL || found.flags)
            see("a handler or flags", "%d", number);
    }
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, 8L);
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
    see("ignored", "%016lx", ignored);
    see("blocked", "%016lx", blocked);
    see("subreaper", "%d", subreaper);
}

int main(int argc, char **argv)
{
    int at;
    for (at = 1; at < argc && strcmp(argv[at], "--") != 0; at++) {
        unsigned long mask = mask_of(argv[at] + 1);
        if (argv[at][0] == '+')
            ignore(mask);
        else if (argv[at][0] == '-')
            syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, NULL, 8L);
        else
            prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
    if (at < argc) {
        execvp(argv[at + 1], argv + at + 1);
        return 127;
    }
    say();
    return finish();
}
