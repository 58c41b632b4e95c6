/* A timer of 1 kHz during opens and connects: no signal is lost or doubled, no call fails or is lost by it.
   storm IP PORT FILE COUNT [restart]: without the last word calls may fail with EINTR and are then finished by hand. */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <unistd.h>

static volatile sig_atomic_t ticks, queued, in_order = 1, wrong;

static void tick(int number)
{
    /* Calls of a signal handler, among those that it interrupts. */
    int before = errno;
    struct utsname names;
    wrong += number != SIGALRM || uname(&names) != 0;
    if (ticks % 4 == 0)
        wrong += open("/nowhere/at/all", O_RDONLY) >= 0 || errno != ENOENT;
    ticks++;
    errno = before;
}

static void count(int number, siginfo_t *what, void *context)
{
    (void)context;
    wrong += number != SIGRTMIN + 2 || what->si_code != SI_QUEUE || what->si_pid != getpid();
    in_order &= what->si_value.sival_int == queued;
    queued++;
}

static int connects(const struct sockaddr_in *peer)
{
    char byte = 0;
    int right = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (const struct sockaddr *)peer, sizeof *peer) < 0) {
        struct pollfd one = {fd, POLLOUT, 0};
        int verdict = -1;
        socklen_t size = sizeof verdict;
        if (errno == EINTR)
            while (poll(&one, 1, 20000) < 0 && errno == EINTR)
                ;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &verdict, &size);
        right = verdict == 0 && one.revents & POLLOUT;
    }
    struct sockaddr_in name = {0};
    socklen_t size = sizeof name;
    right &= getpeername(fd, (struct sockaddr *)&name, &size) == 0 && name.sin_addr.s_addr == peer->sin_addr.s_addr;
    right &= send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL) == 18;
    ssize_t got;
    while ((got = recv(fd, &byte, 1, 0)) < 0 && errno == EINTR)
        ;
    close(fd);
    return right && got == 1 && byte == 'H';
}

static int opens(const char *file, unsigned long *sum)
{
    unsigned char content[4096];
    struct stat st;
    int fd = open(file, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0)
        return 0;
    ssize_t size = read(fd, content, sizeof content);
    close(fd);
    unsigned long now = checksum(content, size > 0 ? size : 0);
    int same = *sum == 0 || *sum == now;
    *sum = now;
    return size == st.st_size && same;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    struct sigaction action = {0};
    unsigned long sum = 0;
    int connected = 0, opened = 0, sent = 0, total = atoi(argv[4]);
    inet_pton(AF_INET, argv[1], &peer.sin_addr);
    action.sa_handler = tick;
    action.sa_flags = argc > 5 ? SA_RESTART : 0;
    sigaction(SIGALRM, &action, NULL);
    action.sa_sigaction = count;
    action.sa_flags |= SA_SIGINFO;
    sigaction(SIGRTMIN + 2, &action, NULL);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (int number = 0; number < total; number++) {
        connected += connects(&peer);
        opened += opens(argv[3], &sum);
        sent += sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = number}) == 0;
    }
    while (ticks < 50)
        opened += opens(argv[3], &sum) - 1;
    setitimer(ITIMER_REAL, &never, NULL);
    check("every connect", connected == total);
    check("every open", opened == total);
    check("every queued signal once and in order", sent == total && queued == total && in_order);
    check("every call of the handler", wrong == 0);
    return finish();
}
