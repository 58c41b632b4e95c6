/* What else there is to datagrams: several peers, batches, truncation, refusals, segments. datagrams ECHO PORT REFUSED DNS */
#include "seen.h"
#include <arpa/inet.h>
#include <time.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

static struct sockaddr_storage echo, refused, names, from;
static socklen_t size;
static int family;
static char bytes[70000];

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

static int is(const struct sockaddr_storage *peer)
{
    return memcmp(&from, peer, size) == 0;
}

static ssize_t receive(int fd, size_t room, int flags)
{
    struct iovec into = {bytes, room};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &into, .msg_iovlen = 1};
    memset(&from, 0, sizeof from);
    ssize_t result = recvmsg(fd, &message, flags);
    if (result >= 0)
        see("flags", "%s%s", message.msg_flags & MSG_TRUNC ? "truncated" : "whole", message.msg_namelen == size ? "" : " (?)");
    return result;
}

static void connected(void)
{
    int fd = socket(family, SOCK_DGRAM, 0);
    see_call("connect", connect(fd, (struct sockaddr *)&echo, size));
    see_call("send", send(fd, "0123456789", 10, 0));
    see_call("ready", ready(fd));
    see_call("peek", receive(fd, 4, MSG_PEEK));
    check("recvmsg names the peer of a connected socket", is(&echo));
    see_call("short", receive(fd, 4, 0));
    see_call("send", send(fd, "0123456789", 10, 0));
    see_call("ready", ready(fd));
    see_call("true length", recv(fd, bytes, 4, MSG_TRUNC));
    see_call("too large", send(fd, bytes, 65528, 0));
    size_t most = 65507;
    memset(bytes, 'x', most);
    see_call("largest", send(fd, bytes, most, 0));
    see_call("ready", ready(fd));
    see_call("comes back", receive(fd, sizeof bytes, 0));
    see_call("connect to another", connect(fd, (struct sockaddr *)&refused, size));
    see_call("send to nobody", send(fd, "?", 1, 0));
    see_call("ready", ready(fd));
    see_call("is refused", recv(fd, bytes, sizeof bytes, 0));
    see_call("and again", send(fd, "?", 1, 0));
    see_call("ready", ready(fd));
    see_call("is refused", recv(fd, bytes, sizeof bytes, 0));
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    see_call("disconnect", connect(fd, &nothing, sizeof nothing));
    see_call("send without a peer", send(fd, "?", 1, 0));
    see_call("sendto", sendto(fd, "free", 4, 0, (struct sockaddr *)&echo, size));
    see_call("ready", ready(fd));
    see_call("free", receive(fd, sizeof bytes, 0));
    check("it came from the echo", is(&echo));
    close(fd);
}

static void several(void)
{
    static const char query[] = "\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x09only-ipv4\x04""demo\x03svc\x07""cluster\x05local\0\0\x01\0\x01";
    int fd = socket(family, SOCK_DGRAM, 0), from_echo = 0, from_names = 0;
    for (int round = 0; round < 2; round++) {
        see_call("to the echo", sendto(fd, "echo", 4, 0, (struct sockaddr *)&echo, size));
        see_call("to the name server", sendto(fd, query, sizeof query - 1, 0, (struct sockaddr *)&names, size));
        for (int count = 0; count < 2; count++) {
            if (ready(fd) != 1)
                break;
            socklen_t length = sizeof from;
            memset(&from, 0, sizeof from);
            recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length);
            from_echo += is(&echo) && memcmp(bytes, "echo", 4) == 0;
            from_names += is(&names) && memcmp(bytes, "\x12\x34", 2) == 0;
        }
    }
    see("answers", "%d %d", from_echo, from_names);
    int none = 0;
    see_call("nobody listens there", sendto(fd, "?", 1, 0, (struct sockaddr *)&refused, size));
    see_call("which an unconnected socket does not learn", sendto(fd, "echo", 4, 0, (struct sockaddr *)&echo, size));
    see_call("ready", ready(fd));
    see_call("the echo", recv(fd, bytes, sizeof bytes, 0));
    socklen_t length = sizeof none;
    see_call("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &none, &length));
    see("SO_ERROR", "%d", none);
    close(fd);
}

#define BATCH 8
static void batches(void)
{
    int fd = socket(family, SOCK_DGRAM, 0), sent = 0, received = 0, right = 0;
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_storage senders[BATCH];
    char texts[BATCH][16];
    memset(messages, 0, sizeof messages);
    for (int index = 0; index < BATCH; index++) {
        parts[index] = (struct iovec){texts[index], snprintf(texts[index], sizeof texts[index], "number %d", index)};
        messages[index].msg_hdr = (struct msghdr){.msg_name = &echo, .msg_namelen = size, .msg_iov = &parts[index], .msg_iovlen = 1};
    }
    while (sent < BATCH) {
        int result = sendmmsg(fd, messages + sent, BATCH - sent, 0);
        if (result <= 0)
            break;
        sent += result;
    }
    see("sent", "%d of %u bytes", sent, messages[BATCH - 1].msg_len);
    while (received < BATCH && ready(fd) == 1) {
        for (int index = 0; index < BATCH; index++)
            messages[index].msg_hdr = (struct msghdr){.msg_name = &senders[index], .msg_namelen = sizeof senders[index], .msg_iov = &parts[index], .msg_iovlen = 1};
        int result = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
        for (int index = 0; index < result; index++)
            right += memcmp(&senders[index], &echo, size) == 0 && messages[index].msg_hdr.msg_namelen == size;
        received += result > 0 ? result : 0;
    }
    see("received", "%d, named right %d", received, right);
    close(fd);
}

static void burst(void)
{
    int fd = socket(family, SOCK_DGRAM, 0), room = 4 << 20, received = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    connect(fd, (struct sockaddr *)&echo, size);
    /* Datagrams may be lost when nobody waits for them: fifty at a time, a thousand in all. */
    for (int round = 0; round < 20; round++) {
        for (int index = 0; index < 50; index++)
            send(fd, bytes, 200, 0);
        for (int index = 0; index < 50 && ready(fd) == 1; index++)
            received += recv(fd, bytes, sizeof bytes, 0) == 200;
    }
    see("burst", "%d", received);
    close(fd);
}

static void segments(void)
{
    int fd = socket(family, SOCK_DGRAM, 0), received = 0, on = 1;
    setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
    char control[CMSG_SPACE(sizeof(unsigned short)) + CMSG_SPACE(sizeof(int))];
    struct iovec part = {bytes, 5 * 1000 + 7};
    struct msghdr message = {.msg_name = &echo, .msg_namelen = size, .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    memset(control, 0, sizeof control);
    struct cmsghdr *one = CMSG_FIRSTHDR(&message);
    one->cmsg_level = SOL_UDP;
    one->cmsg_type = UDP_SEGMENT;
    one->cmsg_len = CMSG_LEN(sizeof(unsigned short));
    unsigned short segment = 1000;
    memcpy(CMSG_DATA(one), &segment, sizeof segment);
    one = CMSG_NXTHDR(&message, one);
    int mark = 2; /* ECT(0), as QUIC has it */
    one->cmsg_level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    one->cmsg_type = family == AF_INET ? IP_TOS : IPV6_TCLASS;
    one->cmsg_len = CMSG_LEN(sizeof mark);
    memcpy(CMSG_DATA(one), &mark, sizeof mark);
    see_call("segments", sendmsg(fd, &message, 0));
    long total = 0;
    while (total < 5007 && ready(fd) == 1) {
        ssize_t count = recv(fd, bytes, sizeof bytes, 0);
        total += count;
        received += (count + 999) / 1000;
    }
    see("in", "%d pieces, %ld bytes", received, total);
    close(fd);
}

static void errors(void)
{
    int fd = socket(family, SOCK_DGRAM, 0), on = 1;
    if (family == AF_INET)
        setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on);
    else
        setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on);
    see_call("sendto nobody", sendto(fd, "?", 1, 0, (struct sockaddr *)&refused, size));
    struct pollfd one = {fd, POLLIN, 0};
    see_call("told at once", poll(&one, 1, 5000));
    see("POLLERR", "%d", !!(one.revents & POLLERR));
    char control[512];
    struct iovec into = {bytes, sizeof bytes};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    memset(&from, 0, sizeof from);
    see("error queue", "%d", recvmsg(fd, &message, MSG_ERRQUEUE) >= 0);
    check("it names the peer", is(&refused));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header)
        see("errno", "%u", ((struct sock_extended_err *)CMSG_DATA(header))->ee_errno);
    close(fd);
}

static void broadcast(void)
{
    struct sockaddr_storage all;
    if (family == AF_INET) {
        socklen_t length = address(&all, "255.255.255.255", 9);
        int fd = socket(family, SOCK_DGRAM, 0), on = 1;
        see_call("broadcast", sendto(fd, "!", 1, 0, (struct sockaddr *)&all, length));
        setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
        see_call("allowed", sendto(fd, "!", 1, 0, (struct sockaddr *)&all, length));
        close(fd);
    }
}

static void port(void)
{
    struct sockaddr_storage own, told;
    socklen_t length = address(&own, family == AF_INET ? "0.0.0.0" : "::", 40123);
    int fd = socket(family, SOCK_DGRAM, 0);
    see_call("bind", bind(fd, (struct sockaddr *)&own, length));
    see_call("connect", connect(fd, (struct sockaddr *)&echo, size));
    length = sizeof told;
    see_call("getsockname", getsockname(fd, (struct sockaddr *)&told, &length));
    char text[INET6_ADDRSTRLEN];
    void *ip = family == AF_INET ? (void *)&((struct sockaddr_in *)&told)->sin_addr : (void *)&((struct sockaddr_in6 *)&told)->sin6_addr;
    see("own name", "%s %d", inet_ntop(family, ip, text, sizeof text), ntohs(((struct sockaddr_in *)&told)->sin_port));
    see_call("send", send(fd, "port", 4, 0));
    see_call("ready", ready(fd));
    see_call("answer", recv(fd, bytes, sizeof bytes, 0));
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    size = address(&echo, argv[1], atoi(argv[2]));
    address(&refused, argv[1], atoi(argv[3]));
    address(&names, argv[4], 53);
    family = echo.ss_family;
    connected();
    several();
    batches();
    burst();
    segments();
    errors();
    broadcast();
    port();
    return finish();
}
