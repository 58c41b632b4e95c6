/* Servers that come by their listener in every way: listeners HOW PORT. Says "ready PORT", answers HTTP, ends at SIGTERM. */
#include "seen.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *how;

static void end(int number)
{
    (void)number;
    _exit(0);
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int bound(int family, int port, int option)
{
    struct sockaddr_in6 name6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in name4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, listener = socket(family, SOCK_STREAM, 0);
    if (listener < 0)
        fail("socket");
    setsockopt(listener, SOL_SOCKET, option, &one, sizeof one);
    if (family == AF_INET ? bind(listener, (struct sockaddr *)&name4, sizeof name4)
                          : bind(listener, (struct sockaddr *)&name6, sizeof name6))
        fail("bind");
    return listener;
}

static int listening(int family, int port, int option)
{
    int listener = bound(family, port, option);
    if (listen(listener, 16))
        fail("listen");
    return listener;
}

static int port_of(int listener)
{
    struct sockaddr_in6 name;
    socklen_t size = sizeof name;
    if (getsockname(listener, (struct sockaddr *)&name, &size))
        fail("getsockname");
    return ntohs(name.sin6_port);
}

static void serve(int listener, int worker)
{
    for (;;) {
        char request[4096], answer[512], body[256], ip[64];
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        int connection = accept(listener, (struct sockaddr *)&peer, &size);
        if (connection < 0)
            continue;
        if (peer.ss_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)&peer)->sin_addr, ip, sizeof ip);
        else
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&peer)->sin6_addr, ip, sizeof ip);
        ssize_t got = read(connection, request, sizeof request);
        snprintf(body, sizeof body, "%s worker %d, asked by %s\n", how, worker, ip);
        int count = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                             strlen(body), body);
        if (got > 0 && write(connection, answer, count) != count)
            perror("write");
        close(connection);
    }
}

static pid_t start(int listener, int worker)
{
    pid_t child = fork();
    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve(listener, worker);
    return 0;
}

static void pass(int over, int fd)
{
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(over, &message, 0) != 1)
        fail("sendmsg");
}

static int passed(int over)
{
    int fd;
    char control[CMSG_SPACE(sizeof fd)], byte;
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(over, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
        fail("recvmsg");
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* Connects to its own listener on loopback. */
static void reach_myself(int listener)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port_of(listener))};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = socket(AF_INET, SOCK_STREAM, 0), other;
    char byte;
    if (connect(client, (struct sockaddr *)&name, sizeof name))
        fail("connect");
    if ((other = accept(listener, NULL, NULL)) < 0)
        fail("accept");
    if (write(client, "x", 1) != 1 || read(other, &byte, 1) != 1)
        fail("read");
    close(client);
    close(other);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    how = argv[1];
    int port = atoi(argv[2]), listener = -1, pair[2];
    signal(SIGTERM, end);
    if (!strcmp(how, "reuseport")) { /* each worker its own socket */
        for (int worker = 1; worker < 4; worker++)
            start(listening(AF_INET, port, SO_REUSEPORT), worker);
        listener = listening(AF_INET, port, SO_REUSEPORT);
    } else if (!strcmp(how, "prefork")) { /* all workers one socket, which the parent has closed */
        listener = listening(AF_INET, port, SO_REUSEADDR);
        start(listener, 1);
        start(listener, 2);
        see("ready", "%d", port_of(listener));
        close(listener);
        for (;;)
            pause();
    } else if (!strcmp(how, "dup")) {
        int first = listening(AF_INET, port, SO_REUSEADDR);
        listener = dup(first);
        close(first);
    } else if (!strcmp(how, "passed")) { /* over a unix socket to a child; nobody else has it then */
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
            fail("socketpair");
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(passed(pair[1]), 1);
        }
        listener = listening(AF_INET, port, SO_REUSEADDR);
        pass(pair[0], listener);
        see("ready", "%d", port_of(listener));
        close(listener);
        for (;;)
            pause();
    } else if (!strcmp(how, "twice")) {
        listener = listening(AF_INET, port, SO_REUSEADDR);
        if (listen(listener, 1) || listen(listener, 64))
            fail("listen");
    } else if (!strcmp(how, "again")) { /* closed and opened anew, several times */
        for (int round = 0; round < 3; round++)
            close(listening(AF_INET, port, SO_REUSEADDR));
        listener = listening(AF_INET, port, SO_REUSEADDR);
    } else if (!strcmp(how, "dual")) {
        listener = listening(AF_INET6, port, SO_REUSEADDR);
    } else if (!strcmp(how, "rebind")) { /* a free port to begin with */
        listener = listening(AF_INET, 0, SO_REUSEADDR);
        reach_myself(listener);
        close(listener);
        listener = listening(AF_INET, port, SO_REUSEADDR);
    } else if (!strcmp(how, "zero")) { /* a free port, of which nobody else is to know */
        listener = listening(AF_INET, 0, SO_REUSEADDR);
        reach_myself(listener);
        see("reached", "myself");
        return 0;
    } else if (!strcmp(how, "unbound")) {
        listener = socket(AF_INET, SOCK_STREAM, 0);
        if (listen(listener, 16) || listen(listener, 8))
            fail("listen");
        reach_myself(listener);
        see("reached", "myself");
        return 0;
    } else {
        return 2;
    }
    see("ready", "%d", port_of(listener));
    serve(listener, 0);
}
