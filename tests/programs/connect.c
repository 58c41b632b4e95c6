/* TCP connections of every kind. connect GREETER PORT REFUSED_PORT ECHO ECHO_PORT [UNREACHABLE] [BLACK_HOLE], IPs of one family. */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static socklen_t address(struct sockaddr_storage *out, const char *ip, int port)
{
    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        return sizeof *v6;
    }
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    inet_pton(AF_INET, ip, &v4->sin_addr);
    return sizeof *v4;
}

static void see_address(const char *what, int result, const struct sockaddr_storage *name, socklen_t size, int with_port)
{
    char ip[64] = "?";
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)name;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)name;
    if (result < 0) {
        see_call(what, result);
        return;
    }
    if (name->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, ip, sizeof ip);
    else
        inet_ntop(AF_INET, &v4->sin_addr, ip, sizeof ip);
    int port = ntohs(v4->sin_port);
    see(what, "family %d ip %s port %d length %d", name->ss_family, ip, with_port ? port : port > 0, (int)size);
}

static int new_socket(const char *ip, int flags)
{
    return socket(strchr(ip, ':') ? AF_INET6 : AF_INET, SOCK_STREAM | flags, 0);
}

static int so_error(int fd)
{
    int number = -1;
    socklen_t size = sizeof number;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size);
    return number;
}

static void ask(const char *what, int fd)
{
    const char *request = "GET /asked HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    char answer[4096];
    ssize_t got, whole = 0;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    if (write(fd, request, strlen(request)) < 0) {
        see_call(what, -1);
        return;
    }
    while ((got = read(fd, answer + whole, sizeof answer - 1 - whole)) > 0)
        whole += got;
    answer[whole] = 0;
    char *body = strstr(answer, "\r\n\r\n");
    see(what, "%s", body ? strtok(body + 4, "\n") : "no answer");
}

static void blocking(const char *ip, int port)
{
    struct sockaddr_storage peer, before, name;
    socklen_t size = address(&peer, ip, port), length = sizeof name;
    memcpy(&before, &peer, sizeof peer);
    int fd = new_socket(ip, 0);
    see_call("getpeername before", getpeername(fd, (struct sockaddr *)&name, &length));
    see_call("blocking connect", connect(fd, (struct sockaddr *)&peer, size));
    check("the caller's address is untouched", memcmp(&peer, &before, sizeof peer) == 0);
    length = sizeof name;
    see_address("getpeername", getpeername(fd, (struct sockaddr *)&name, &length), &name, length, 1);
    length = sizeof name;
    see_address("getsockname", getsockname(fd, (struct sockaddr *)&name, &length), &name, length, 0);
    length = 4;
    see_call("getpeername cut short", getpeername(fd, (struct sockaddr *)&name, &length));
    see("length it tells", "%d", (int)length);
    see_call("second connect", connect(fd, (struct sockaddr *)&peer, size));
    see("SO_ERROR", "%d", so_error(fd));
    ask("answer", fd);
    close(fd);
}

/* Waits for the verdict of a connect in progress, in one of three ways. */
static int settle(int fd, const char *way)
{
    if (strcmp(way, "poll") == 0) {
        struct pollfd one = {fd, POLLOUT, 0};
        return poll(&one, 1, 10000);
    }
    if (strcmp(way, "select") == 0) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        struct timeval limit = {10, 0};
        return select(fd + 1, NULL, &set, NULL, &limit);
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data = {.fd = fd}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    int count = epoll_wait(epoll, &event, 1, 10000);
    if (count == 1 && event.data.fd != fd)
        count = -2;
    close(epoll);
    return count;
}

static void in_progress(const char *ip, int port, const char *way, const char *what)
{
    char label[64];
    struct sockaddr_storage peer;
    socklen_t size = address(&peer, ip, port);
    int fd = new_socket(ip, SOCK_NONBLOCK | SOCK_CLOEXEC);
    snprintf(label, sizeof label, "%s: verdict by %s", what, way);
    int result = connect(fd, (struct sockaddr *)&peer, size);
    /* Whether the verdict comes at once or after EINPROGRESS is the network's affair. */
    if (result < 0 && errno == EINPROGRESS) {
        int count = settle(fd, way), first = so_error(fd);
        see(label, "%d events %d, then %d", count, first, so_error(fd));
    } else {
        see(label, "1 events %d, then %d", result < 0 ? errno : 0, so_error(fd));
    }
    check("still non-blocking", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    if (strcmp(what, "greeter") == 0) {
        see_call("connect once more", connect(fd, (struct sockaddr *)&peer, size));
        ask("answer", fd);
    }
    close(fd);
}

static void refused(const char *ip, int port)
{
    struct sockaddr_storage peer, name;
    socklen_t size = address(&peer, ip, port), length = sizeof name;
    int fd = new_socket(ip, 0);
    see_call("refused connect", connect(fd, (struct sockaddr *)&peer, size));
    see("SO_ERROR after it", "%d", so_error(fd));
    see_call("getpeername after it", getpeername(fd, (struct sockaddr *)&name, &length));
    close(fd);
    in_progress(ip, port, "poll", "refused");
    in_progress(ip, port, "epoll", "refused");
}

static void half_close(const char *ip, int port)
{
    struct sockaddr_storage peer;
    socklen_t size = address(&peer, ip, port);
    static unsigned char out[1 << 20], back[1 << 20];
    int fd = new_socket(ip, 0), one = 1;
    see_call("setsockopt", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    see_call("connect to echo", connect(fd, (struct sockaddr *)&peer, size));
    for (size_t number = 0; number < sizeof out; number++)
        out[number] = (unsigned char)(number * 7 + (number >> 9));
    size_t sent = 0, got = 0;
    while (got < sizeof out) {
        struct pollfd both = {fd, POLLIN | (sent < sizeof out ? POLLOUT : 0), 0};
        poll(&both, 1, 10000);
        if (both.revents & POLLOUT) {
            ssize_t part = send(fd, out + sent, sizeof out - sent, MSG_DONTWAIT);
            sent += part > 0 ? (size_t)part : 0;
            if (sent == sizeof out)
                shutdown(fd, SHUT_WR);
        }
        if (both.revents & (POLLIN | POLLHUP)) {
            ssize_t part = recv(fd, back + got, sizeof back - got, MSG_DONTWAIT);
            if (part == 0)
                break;
            got += part > 0 ? (size_t)part : 0;
        }
    }
    check("a megabyte came back as it was", got == sizeof out && memcmp(out, back, got) == 0);
    see_call("the end came back after SHUT_WR", read(fd, back, 1));
    close(fd);
}

static void timed_out(const char *ip, int port)
{
    struct sockaddr_storage peer;
    socklen_t size = address(&peer, ip, port);
    int fd = new_socket(ip, 0);
    struct timeval limit = {0, 200000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    see_call("connect into a black hole with SO_SNDTIMEO", connect(fd, (struct sockaddr *)&peer, size));
    close(fd);
    fd = new_socket(ip, SOCK_NONBLOCK);
    see_call("the same without blocking", connect(fd, (struct sockaddr *)&peer, size));
    struct pollfd one = {fd, POLLOUT, 0};
    see_call("no event of it", poll(&one, 1, 200));
    see_call("connect while it is under way", connect(fd, (struct sockaddr *)&peer, size));
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    int port = atoi(argv[2]);
    blocking(argv[1], port);
    in_progress(argv[1], port, "poll", "greeter");
    in_progress(argv[1], port, "select", "greeter");
    in_progress(argv[1], port, "epoll", "greeter");
    refused(argv[1], atoi(argv[3]));
    half_close(argv[4], atoi(argv[5]));
    if (argc > 6)
        in_progress(argv[6], port, "poll", "unreachable");
    if (argc > 7)
        timed_out(argv[7], port);
    return finish();
}
