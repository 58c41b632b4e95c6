/* UDP servers: answers HOW PORT [IP]. Says "ready PORT", answers each datagram with "HOW: IP: content", ends at SIGTERM. */
#include "seen.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int number)
{
    (void)number;
    _exit(0);
}

static int server(const char *ip, int port)
{
    struct sockaddr_in6 name6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in name4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    int is_v6 = strchr(ip, ':') != NULL, one = 1, sock = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
    inet_pton(is_v6 ? AF_INET6 : AF_INET, ip, is_v6 ? (void *)&name6.sin6_addr : (void *)&name4.sin_addr);
    setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (is_v6 ? bind(sock, (struct sockaddr *)&name6, sizeof name6) : bind(sock, (struct sockaddr *)&name4, sizeof name4)) {
        perror("bind");
        exit(1);
    }
    return sock;
}

static int port_of(int sock)
{
    struct sockaddr_in6 name;
    socklen_t size = sizeof name;
    getsockname(sock, (struct sockaddr *)&name, &size);
    return ntohs(name.sin6_port);
}

static void show(const struct sockaddr_storage *peer, char *ip, size_t size)
{
    if (peer->ss_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)peer)->sin_addr, ip, size);
    else
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)peer)->sin6_addr, ip, size);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const char *how = argv[1], *ip = argc > 3 ? argv[3] : "0.0.0.0";
    signal(SIGTERM, end);
    int sock = server(ip, atoi(argv[2]));
    see("ready", "%d", port_of(sock));
    for (;;) {
        struct sockaddr_storage peer;
        char content[2048], answer[3000], shown[64];
        socklen_t size = sizeof peer;
        struct iovec one = {content, sizeof content - 1};
        struct msghdr message = {.msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = &one, .msg_iovlen = 1};
        ssize_t got;
        if (!strcmp(how, "messages")) {
            got = recvmsg(sock, &message, 0);
            size = message.msg_namelen;
        } else {
            got = recvfrom(sock, content, sizeof content - 1, 0, (struct sockaddr *)&peer, &size);
        }
        if (got < 0)
            continue;
        content[got] = 0;
        show(&peer, shown, sizeof shown);
        int count = snprintf(answer, sizeof answer, "%s: %s: %s", how, shown, content);
        if (!strcmp(how, "messages")) {
            one.iov_base = answer;
            one.iov_len = count;
            got = sendmsg(sock, &message, 0);
        } else if (!strcmp(how, "connected")) { /* a socket for this client, as DTLS servers have it */
            int own = server(ip, port_of(sock));
            if (connect(own, (struct sockaddr *)&peer, size))
                perror("connect");
            got = send(own, answer, count, 0);
            close(own);
        } else {
            got = sendto(sock, answer, count, 0, (struct sockaddr *)&peer, size);
        }
        if (got != count)
            perror("send");
    }
}
