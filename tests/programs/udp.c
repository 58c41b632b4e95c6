/* Datagrams, connected and not. udp ECHO PORT REFUSED_PORT */
#include "seen.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
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

static int ready(int fd)
{
    struct pollfd one = {fd, POLLIN, 0};
    return poll(&one, 1, 5000);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    struct sockaddr_storage peer, from;
    socklen_t size = address(&peer, argv[1], atoi(argv[2])), length;
    int family = peer.ss_family;
    char bytes[2048] = {0};

    int fd = socket(family, SOCK_DGRAM, 0);
    see_call("connect", connect(fd, (struct sockaddr *)&peer, size));
    see_call("send", send(fd, "connected", 9, 0));
    see_call("ready", ready(fd));
    see("recv", "%zd %.9s", recv(fd, bytes, sizeof bytes, 0), bytes);
    length = sizeof from;
    see_call("getpeername", getpeername(fd, (struct sockaddr *)&from, &length));
    check("the peer is the peer", length == size && memcmp(&from, &peer, size) == 0);
    see_call("write", write(fd, "again", 5));
    see_call("ready again", ready(fd));
    length = sizeof from;
    memset(&from, 0, sizeof from);
    see("recvfrom", "%zd", recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length));
    check("recvfrom names the peer", length == size && memcmp(&from, &peer, size) == 0);
    close(fd);

    fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    see_call("recv of nothing", recv(fd, bytes, sizeof bytes, 0));
    for (int number = 0; number < 3; number++) {
        char text[16];
        int count = snprintf(text, sizeof text, "number %d", number);
        see_call("sendto", sendto(fd, text, count, 0, (struct sockaddr *)&peer, size));
        see_call("ready", ready(fd));
        length = sizeof from;
        memset(&from, 0, sizeof from);
        memset(bytes, 0, sizeof bytes);
        see("recvfrom", "%zd %s", recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length), bytes);
        check("it came from where it went", length == size && memcmp(&from, &peer, size) == 0);
    }
    struct iovec part = {"message", 7}, into = {bytes, sizeof bytes};
    struct msghdr message = {.msg_name = &peer, .msg_namelen = size, .msg_iov = &part, .msg_iovlen = 1};
    see_call("sendmsg", sendmsg(fd, &message, 0));
    see_call("ready", ready(fd));
    memset(&from, 0, sizeof from);
    struct msghdr answer = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &into, .msg_iovlen = 1};
    see("recvmsg", "%zd %.7s", recvmsg(fd, &answer, 0), bytes);
    check("recvmsg names the peer", answer.msg_namelen == size && memcmp(&from, &peer, size) == 0);
    see_call("an empty datagram", sendto(fd, "", 0, 0, (struct sockaddr *)&peer, size));
    see_call("ready", ready(fd));
    see_call("comes back empty", recv(fd, bytes, sizeof bytes, 0));
    close(fd);
    return finish();
}
