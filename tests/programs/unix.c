/* unix STREAM SEQPACKET DATAGRAM ABSTRACT MISSING: unix sockets of every kind, against echo servers at these names.
 * ABSTRACT is written with "@". What is seen must be the same wherever the servers are. */
#include "seen.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LARGE 150000

static unsigned char large[LARGE], back[LARGE + 1];

static socklen_t name(struct sockaddr_un *to, const char *path)
{
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    strncpy(to->sun_path, path, sizeof to->sun_path - 1);
    if (path[0] != '@')
        return sizeof *to;
    to->sun_path[0] = 0;
    return offsetof(struct sockaddr_un, sun_path) + strlen(path);
}

static int connected(const char *what, const char *path, int kind)
{
    struct sockaddr_un to;
    socklen_t length = name(&to, path);
    int fd = socket(AF_UNIX, kind, 0);
    see_call(what, connect(fd, (struct sockaddr *)&to, length));
    return fd;
}

static void see_names(int fd)
{
    struct sockaddr_un at;
    socklen_t length = sizeof at;
    memset(&at, 0, sizeof at);
    see_call("getpeername", getpeername(fd, (struct sockaddr *)&at, &length));
    see("peer", "%u bytes, family %d, %c%s", length, at.sun_family, at.sun_path[0] ? at.sun_path[0] : '@', at.sun_path + 1);
    length = sizeof at;
    see_call("getsockname", getsockname(fd, (struct sockaddr *)&at, &length));
    see("own", "%u bytes, family %d", length, at.sun_family);
}

static void stream(const char *path)
{
    int fd = connected("stream", path, SOCK_STREAM);
    size_t have = 0;
    struct sockaddr_un to;
    socklen_t length = name(&to, path);
    see_names(fd);
    see_call("connected again", connect(fd, (struct sockaddr *)&to, length));
    for (size_t sent = 0; sent < LARGE;) {
        ssize_t more = write(fd, large + sent, LARGE - sent);
        if (more <= 0)
            break;
        sent += more;
    }
    while (have < LARGE) {
        ssize_t more = read(fd, back + have, LARGE - have);
        if (more <= 0)
            break;
        have += more;
    }
    see("echo", "%zu bytes, %s", have, memcmp(large, back, LARGE) ? "others" : "the same");
    see_call("shutdown", shutdown(fd, SHUT_WR));
    see_call("end", read(fd, back, 1));
    close(fd);
}

static void nonblocking(const char *path)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
    int fd, set = epoll_create1(0);
    struct sockaddr_un to;
    socklen_t length = name(&to, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    see_call("non-blocking", connect(fd, (struct sockaddr *)&to, length));
    see_call("epoll", epoll_wait(set, &event, 1, 5000));
    see("events", "%#x", event.events);
    see_call("nothing there", read(fd, back, 1));
    see_call("write", write(fd, "x", 1));
    poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 5000);
    see_call("read", read(fd, back, 1));
    close(fd);
    close(set);
}

static void seqpacket(const char *path)
{
    static const size_t sizes[] = {1, 1000, LARGE, 0, 7};
    int fd = connected("seqpacket", path, SOCK_SEQPACKET);
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
        see_call("send", send(fd, large, sizes[at], 0));
        see_call("receive", recv(fd, back, sizeof back, 0));
    }
    send(fd, large, 1000, 0);
    see_call("cut short", recv(fd, back, 10, MSG_TRUNC));
    see_call("shutdown", shutdown(fd, SHUT_WR));
    see_call("end", recv(fd, back, 10, 0));
    close(fd);
}

static void see_sender(const struct sockaddr_un *at, socklen_t length)
{
    see("from", "%u bytes, %c%s", length, at->sun_path[0] ? at->sun_path[0] : '@', at->sun_path + 1);
}

static void datagrams(const char *path)
{
    struct sockaddr_un to, at = {.sun_family = AF_UNIX};
    socklen_t length = name(&to, path), size = sizeof at;
    struct iovec parts[2] = {{"two ", 4}, {"parts", 5}}, room = {back, 100};
    struct msghdr message = {.msg_name = &to, .msg_namelen = length, .msg_iov = parts, .msg_iovlen = 2};
    struct mmsghdr messages[3];
    int fd = connected("datagrams", path, SOCK_DGRAM);
    ssize_t sent;

    see_call("send", send(fd, "no answer", 9, 0));
    see_names(fd);
    close(fd);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    see_call("bind", bind(fd, (struct sockaddr *)&at, sizeof at.sun_family));
    sent = sendto(fd, "hello", 5, 0, (struct sockaddr *)&to, length);
    see_call("sendto", sent);
    if (sent < 0) { /* nobody will answer */
        close(fd);
        return;
    }
    see_call("recvfrom", recvfrom(fd, back, 100, 0, (struct sockaddr *)&at, &size));
    see_sender(&at, size);
    see_call("sendmsg", sendmsg(fd, &message, 0));
    message = (struct msghdr){.msg_name = &at, .msg_namelen = sizeof at, .msg_iov = &room, .msg_iovlen = 1};
    see_call("recvmsg", recvmsg(fd, &message, 0));
    see_sender(&at, message.msg_namelen);
    for (int number = 0; number < 3; number++)
        messages[number].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = length, .msg_iov = parts, .msg_iovlen = 1};
    see_call("sendmmsg", sendmmsg(fd, messages, 3, 0));
    for (int number = 0; number < 3; number++)
        see_call("recv", recv(fd, back, 100, 0));
    close(fd);
}

int main(int count, char **words)
{
    if (count != 6)
        return 2;
    for (size_t at = 0; at < LARGE; at++)
        large[at] = at * 31 + at / 256;
    stream(words[1]);
    nonblocking(words[1]);
    stream(words[4]);
    seqpacket(words[2]);
    datagrams(words[3]);
    close(connected("missing", words[5], SOCK_STREAM));
    close(connected("datagrams to missing", words[5], SOCK_DGRAM));
    close(connected("wrong type", words[2], SOCK_STREAM));
    close(connected("stream as datagrams", words[1], SOCK_DGRAM));
    return finish();
}
