/* Says each signal that comes, until a real-time one. signalled [apart]: in a process group of its own. */
#include "seen.h"
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const int taken[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGWINCH};
    sigset_t set;
    siginfo_t what;
    if (argc > 1 && strcmp(argv[1], "apart") == 0)
        setpgid(0, 0);
    sigemptyset(&set);
    for (size_t number = 0; number < sizeof taken / sizeof *taken; number++)
        sigaddset(&set, taken[number]);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("ready %d\n", getpid());
    fflush(stdout);
    while (sigwaitinfo(&set, &what) >= 0 && what.si_signo != SIGRTMIN + 1) {
        open("/nowhere/at/all", O_RDONLY);
        printf("%d\n", what.si_signo);
        fflush(stdout);
    }
    return 0;
}
