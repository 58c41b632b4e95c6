/* Every way to make this machine send something to an address. leaks WAY IP; prints what the calls returned. */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT 4444
#ifndef TCP_FASTOPEN_CONNECT
#define TCP_FASTOPEN_CONNECT 30
#endif

static struct sockaddr_storage peer;
static socklen_t peer_size;

static void set_peer(const char *ip, int port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&peer;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&peer;
    memset(&peer, 0, sizeof peer);
    if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        peer_size = sizeof *v6;
    } else {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        inet_pton(AF_INET, ip, &v4->sin_addr);
        peer_size = sizeof *v4;
    }
}

static int open_socket(int type, int protocol)
{
    int fd = socket(peer.ss_family, type | SOCK_NONBLOCK, protocol);
    see_call("socket", fd);
    return fd;
}

static void connect_it(int fd)
{
    struct pollfd one = {fd, POLLOUT, 0};
    see_call("connect", connect(fd, (struct sockaddr *)&peer, peer_size));
    poll(&one, 1, 300);
}

static void by_connect(int type, int protocol)
{
    int fd = open_socket(type, protocol);
    if (fd < 0)
        return;
    connect_it(fd);
    see_call("write", write(fd, "leak", 4));
    see_call("send", send(fd, "leak", 4, MSG_NOSIGNAL));
}

static void by_sendto(int type, int protocol, int flags)
{
    char echo[16] = {peer.ss_family == AF_INET ? ICMP_ECHO : (char)128 /* ICMP6_ECHO_REQUEST */};
    int fd = open_socket(type, protocol);
    if (fd < 0)
        return;
    see_call("sendto", sendto(fd, echo, sizeof echo, flags | MSG_NOSIGNAL, (struct sockaddr *)&peer, peer_size));
}

static struct msghdr message(struct iovec *part)
{
    static char text[] = "leak";
    *part = (struct iovec){text, 4};
    return (struct msghdr){.msg_name = &peer, .msg_namelen = peer_size, .msg_iov = part, .msg_iovlen = 1};
}

static void by_sendmsg(int type, int flags, int many)
{
    struct iovec part;
    struct msghdr one = message(&part);
    struct mmsghdr two[2] = {{one, 0}, {one, 0}};
    int fd = open_socket(type, 0);
    if (many)
        see_call("sendmmsg", sendmmsg(fd, two, 2, flags | MSG_NOSIGNAL));
    else
        see_call("sendmsg", sendmsg(fd, &one, flags | MSG_NOSIGNAL));
}

/* Data calls after a connect: whatever carries the bytes, they go where the connect went. */
static void by_data_calls(void)
{
    char path[] = "/tmp/leaksXXXXXX";
    struct iovec part = {"leak", 4};
    int ends[2], file = mkstemp(path), fd = open_socket(SOCK_DGRAM, 0);
    unlink(path);
    connect_it(fd);
    see_call("pipe", pipe(ends));
    see_call("write to the file", write(file, "leak", 4));
    see_call("writev", writev(fd, &part, 1));
    off_t from = 0;
    see_call("sendfile", sendfile(fd, file, &from, 4));
    see_call("write to the pipe", write(ends[1], "leak", 4));
    see_call("splice", splice(ends[0], NULL, fd, NULL, 4, 0));
    see_call("write to the pipe", write(ends[1], "leak", 4));
    part = (struct iovec){"leak", 4};
    see_call("vmsplice", vmsplice(ends[1], &part, 1, 0));
    see_call("splice", splice(ends[0], NULL, fd, NULL, 8, 0));
}

static void by_fast_open_connect(void)
{
    int on = 1, fd = open_socket(SOCK_STREAM, 0);
    see_call("setsockopt", setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on));
    connect_it(fd);
    see_call("send", send(fd, "leak", 4, MSG_NOSIGNAL));
}

/* A connection that is restored, never opened. */
static void by_repair(void)
{
    int on = 1, fd = open_socket(SOCK_STREAM, 0);
    see_call("setsockopt", setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on));
    see_call("connect", connect(fd, (struct sockaddr *)&peer, peer_size));
    on = 0;
    see_call("setsockopt", setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on));
    see_call("send", send(fd, "leak", 4, MSG_NOSIGNAL));
}

static void by_device(void)
{
    int fd = open_socket(SOCK_DGRAM, 0);
    see_call("setsockopt", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "leak0", 6));
    see_call("sendto", sendto(fd, "leak", 4, 0, (struct sockaddr *)&peer, peer_size));
}

static void *in_a_thread(void *unused)
{
    (void)unused;
    by_connect(SOCK_STREAM, 0);
    by_sendto(SOCK_DGRAM, 0, 0);
    return NULL;
}

static void by_children(void)
{
    int status;
    pthread_t thread;
    int fd = open_socket(SOCK_DGRAM, 0);
    if (fork() == 0) {
        see_call("sendto", sendto(fd, "leak", 4, 0, (struct sockaddr *)&peer, peer_size));
        by_connect(SOCK_STREAM, 0);
        _exit(0);
    }
    wait(&status);
    pthread_create(&thread, NULL, in_a_thread, NULL);
    pthread_join(thread, NULL);
    if (vfork() == 0) {
        connect(fd, (struct sockaddr *)&peer, peer_size);
        (void)!write(fd, "leak", 4);
        _exit(0);
    }
    wait(&status);
}

/* First from here, where it may go, then the same socket elsewhere. */
static void by_second_connect(void)
{
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    int fd = open_socket(SOCK_DGRAM, 0);
    for (int round = 0; round < 2; round++) {
        connect_it(fd);
        see_call("write", write(fd, "leak", 4));
        see_call("disconnect", connect(fd, &nowhere, sizeof nowhere));
    }
    fd = open_socket(SOCK_STREAM, 0);
    connect_it(fd);
    see_call("disconnect", connect(fd, &nowhere, sizeof nowhere));
    connect_it(fd);
}

static void by_mapped_address(void)
{
    struct sockaddr_in v4 = *(struct sockaddr_in *)&peer;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&peer;
    if (peer.ss_family != AF_INET)
        return;
    memset(&peer, 0, sizeof peer);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = v4.sin_port;
    memset(v6->sin6_addr.s6_addr + 10, 0xff, 2);
    memcpy(v6->sin6_addr.s6_addr + 12, &v4.sin_addr, 4);
    peer_size = sizeof *v6;
    by_connect(SOCK_STREAM, 0);
    by_connect(SOCK_DGRAM, 0);
    by_sendto(SOCK_DGRAM, 0, 0);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const char *way = argv[1];
    set_peer(argv[2], PORT);
    if (!strcmp(way, "connect")) by_connect(SOCK_STREAM, 0);
    else if (!strcmp(way, "connect-udp")) by_connect(SOCK_DGRAM, 0);
    else if (!strcmp(way, "connect-mptcp")) by_connect(SOCK_STREAM, 262);
    else if (!strcmp(way, "connect-sctp")) by_connect(SOCK_STREAM, 132);
    else if (!strcmp(way, "connect-sctp-many")) by_sendto(SOCK_SEQPACKET, 132, 0);
    else if (!strcmp(way, "connect-dccp")) by_connect(6, 33);
    else if (!strcmp(way, "connect-udplite")) by_connect(SOCK_DGRAM, 136);
    else if (!strcmp(way, "sendto")) by_sendto(SOCK_DGRAM, 0, 0);
    else if (!strcmp(way, "sendto-dns")) { set_peer(argv[2], 53); by_sendto(SOCK_DGRAM, 0, 0); }
    else if (!strcmp(way, "sendto-udplite")) by_sendto(SOCK_DGRAM, 136, 0);
    else if (!strcmp(way, "sendto-fastopen")) by_sendto(SOCK_STREAM, 0, MSG_FASTOPEN);
    else if (!strcmp(way, "sendto-ping")) by_sendto(SOCK_DGRAM, peer.ss_family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6, 0);
    else if (!strcmp(way, "sendto-raw")) { ((struct sockaddr_in *)&peer)->sin_port = 0; by_sendto(SOCK_RAW, IPPROTO_ICMP, 0); }
    else if (!strcmp(way, "sendmsg")) by_sendmsg(SOCK_DGRAM, 0, 0);
    else if (!strcmp(way, "sendmsg-fastopen")) by_sendmsg(SOCK_STREAM, MSG_FASTOPEN, 0);
    else if (!strcmp(way, "sendmmsg")) by_sendmsg(SOCK_DGRAM, 0, 1);
    else if (!strcmp(way, "sendmmsg-fastopen")) by_sendmsg(SOCK_STREAM, MSG_FASTOPEN, 1);
    else if (!strcmp(way, "data-calls")) by_data_calls();
    else if (!strcmp(way, "fast-open-connect")) by_fast_open_connect();
    else if (!strcmp(way, "repair")) by_repair();
    else if (!strcmp(way, "device")) by_device();
    else if (!strcmp(way, "children")) by_children();
    else if (!strcmp(way, "second-connect")) by_second_connect();
    else if (!strcmp(way, "mapped")) by_mapped_address();
    else return 2;
    return 0;
}
