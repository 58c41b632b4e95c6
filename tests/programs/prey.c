/* Processes that make all kinds of calls without end, and are killed at random moments.
   prey hunt ROUNDS SEED IP PORT FILE: kills its own children, and judges. prey IP PORT FILE: is for others to kill. */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char self[4096];
static const char *file;
static struct sockaddr_in peer;

static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 16;
}

static int reads_file(void)
{
    char bytes[64];
    int fd = open(file, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    close(fd);
    return size > 0;
}

static int connects(int flags)
{
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    int result = connect(fd, (struct sockaddr *)&peer, sizeof peer);
    int right = result == 0 || (flags && errno == EINPROGRESS);
    close(fd);
    return right;
}

static void datagram(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = &part, .msg_iovlen = 1};
    sendmsg(fd, &message, MSG_DONTWAIT);
    close(fd);
}

static void *little_thread(void *argument)
{
    struct stat st;
    stat(file, &st);
    return argument;
}

static void step(unsigned what)
{
    struct utsname names;
    struct stat st;
    pthread_t thread;
    pid_t pid;
    switch (what % 10) {
    case 0: reads_file(); break;
    case 1: connects(0); break;
    case 2: connects(SOCK_NONBLOCK); break;
    case 3: uname(&names); break;
    case 4: stat(file, &st); break;
    case 5: open("/nowhere/at/all", O_RDONLY); break;
    case 6: datagram(); break;
    case 7:
        if (pthread_create(&thread, NULL, little_thread, NULL) == 0)
            pthread_join(thread, NULL);
        break;
    case 8:
        if ((pid = fork()) == 0)
            _exit(reads_file());
        waitpid(pid, NULL, 0);
        break;
    default:
        if ((pid = vfork()) == 0) {
            execve(self, (char *[]){self, "leaf", NULL}, environ);
            _exit(1);
        }
        waitpid(pid, NULL, 0);
    }
}

static void *run_for_ever(void *argument)
{
    unsigned state = (unsigned)(long)argument;
    for (;;)
        step(next_random(&state));
    return argument;
}

static void hunt_one(unsigned *state, int *right)
{
    int status;
    unsigned threads = next_random(state) % 4, seed = next_random(state);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        /* What it has forked itself goes with it: nothing may be left. */
        setpgid(0, 0);
        for (unsigned number = 0; number < threads; number++)
            pthread_create(&thread, NULL, run_for_ever, (void *)(long)(seed + number));
        run_for_ever((void *)(long)(seed + 99));
    }
    setpgid(pid, pid);
    for (unsigned spin = next_random(state) % 40; spin > 0; spin--)
        sched_yield();
    for (volatile unsigned spin = next_random(state) * 20; spin > 0; spin--)
        ;
    kill(-pid, SIGKILL);
    *right += waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static int hunt(int rounds, unsigned seed)
{
    int right = 0;
    /* Children of killed children come here, so that none gets lost. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int round = 0; round < rounds; round++)
        hunt_one(&seed, &right);
    check("all were killed as they should be", right == rounds);
    while (waitpid(-1, NULL, __WALL) > 0)
        ;
    check("no child is left", errno == ECHILD);
    check("files and connections of the pod are still to be had", reads_file() && connects(0));
    return finish();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "leaf") == 0)
        return 0;
    int first = argc > 6 ? 4 : 1;
    if (argc < first + 3 || readlink("/proc/self/exe", self, sizeof self - 1) <= 0)
        return 2;
    peer.sin_family = AF_INET;
    inet_pton(AF_INET, argv[first], &peer.sin_addr);
    peer.sin_port = htons(atoi(argv[first + 1]));
    file = argv[first + 2];
    if (first == 4)
        return hunt(atoi(argv[2]), strtoul(argv[3], NULL, 10));
    printf("ready %d\n", getpid());
    fflush(stdout);
    pthread_t thread;
    for (long number = 0; number < 3; number++)
        pthread_create(&thread, NULL, run_for_ever, (void *)number);
    run_for_ever((void *)99);
}
