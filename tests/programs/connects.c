/* The harder ways to use connect(2). connects GREETER PORT REFUSED_PORT BLACK_HOLE SCRIPTED_PORT POD_IP [exec], IPv4; the scripted
   server is at the greeter's address and does what the first line tells it. */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif
#ifndef TCP_FASTOPEN_CONNECT
#define TCP_FASTOPEN_CONNECT 30
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef SIOCATMARK
#define SIOCATMARK 0x8905
#endif

static const char *REQUEST = "GET /asked HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

static struct sockaddr_in at(const char *ip, int port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &name.sin_addr);
    return name;
}

static int dial(int fd, struct sockaddr_in peer)
{
    return connect(fd, (struct sockaddr *)&peer, sizeof peer);
}

static int so_error(int fd)
{
    int number = -1;
    socklen_t size = sizeof number;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size);
    return number;
}

static short events(int fd)
{
    struct pollfd one = {fd, POLLOUT, 0};
    poll(&one, 1, 10000);
    return one.revents;
}

static void blocking(int fd, int yes)
{
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, yes ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static void answer(const char *what, int fd, int ask)
{
    char text[4096];
    ssize_t got, whole = 0;
    blocking(fd, 1);
    if (ask && send(fd, REQUEST, strlen(REQUEST), MSG_NOSIGNAL) < 0) {
        see_call(what, -1);
        return;
    }
    while ((got = read(fd, text + whole, sizeof text - 1 - whole)) > 0)
        whole += got;
    text[whole] = 0;
    char *body = strstr(text, "\r\n\r\n");
    see(what, "%s", body ? strtok(body + 4, "\n") : "no answer");
}

static void disconnect(const char *what, int fd)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    see_call(what, connect(fd, &none, sizeof none));
}

static volatile int alarms;

static void on_alarm(int number)
{
    (void)number;
    if (++alarms == 3) {
        struct sigaction plain = {.sa_handler = on_alarm};
        sigaction(SIGALRM, &plain, NULL);
    }
}

static void signals(struct sockaddr_in hole)
{
    struct itimerval often = {{0, 60000}, {0, 60000}}, never = {{0, 0}, {0, 0}};
    struct sigaction restart = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    sigaction(SIGALRM, &restart, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    see_call("connect restarted by signals, then interrupted", dial(fd, hole));
    setitimer(ITIMER_REAL, &never, NULL);
    see("signals", "%d", alarms);
    blocking(fd, 0);
    see_call("it goes on in the background", dial(fd, hole));
    see("SO_ERROR meanwhile", "%d", so_error(fd));
    close(fd);
    struct timeval limit = {0, 150000};
    fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    see_call("timed out", dial(fd, hole));
    see_call("timed out again", dial(fd, hole));
    see_call("shutdown takes it back", shutdown(fd, SHUT_RDWR));
    see("SO_ERROR after that", "%d", so_error(fd));
    see_call("a new attempt", dial(fd, hole));
    close(fd);
}

static void once_more(struct sockaddr_in greeter, struct sockaddr_in refused, struct sockaddr_in hole)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    see_call("refused", dial(fd, refused));
    see_call("refused again", dial(fd, refused));
    see_call("the same socket to another peer", dial(fd, greeter));
    see_call("once more", dial(fd, greeter));
    answer("it answers", fd, 1);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    dial(fd, refused);
    see("events of a refused one", "%x", events(fd));
    see_call("connect tells why", dial(fd, refused));
    int result = dial(fd, greeter);
    see_call("and then begins anew", result);
    see("events", "%x", events(fd));
    see_call("connected, says connect", dial(fd, greeter));
    see_call("twice", dial(fd, greeter));
    answer("it answers", fd, 1);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    dial(fd, refused);
    events(fd);
    see("SO_ERROR tells why", "%d, then %d", so_error(fd), so_error(fd));
    see_call("connect has nothing to tell", dial(fd, greeter));
    blocking(fd, 1);
    see_call("blocking, and begins anew", dial(fd, greeter));
    answer("it answers", fd, 1);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    dial(fd, greeter);
    disconnect("disconnect", fd);
    see_call("getpeername", getpeername(fd, (struct sockaddr *)&hole, &(socklen_t){sizeof hole}));
    see_call("connect after it", dial(fd, greeter));
    answer("it answers", fd, 1);
    close(fd);
}

static void taken_back(struct sockaddr_in greeter, struct sockaddr_in hole)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in own = at("0.0.0.0", 21999);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    see_call("bind", bind(fd, (struct sockaddr *)&own, sizeof own));
    see_call("into the black hole", dial(fd, hole));
    disconnect("disconnect while pending", fd);
    see_call("elsewhere from the same port", dial(fd, greeter));
    see("events", "%x", events(fd));
    answer("it answers", fd, 1);
    close(fd);
}

static void see_own(const char *what, int fd, int with_port)
{
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    char ip[32] = "?";
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0) {
        see_call(what, -1);
        return;
    }
    inet_ntop(AF_INET, &name.sin_addr, ip, sizeof ip);
    see(what, "%s %d", ip, with_port ? ntohs(name.sin_port) : name.sin_port != 0);
}

static void bound(struct sockaddr_in greeter, const char *own_ip)
{
    struct sockaddr_in name;
    int one = 1, fd;
    const char *places[] = {"0.0.0.0", own_ip};
    for (int index = 0; index < 2; index++) {
        fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        name = at(places[index], 22001 + index);
        see_call("bind", bind(fd, (struct sockaddr *)&name, sizeof name));
        see_own("bound to", fd, 1);
        see_call("connect", dial(fd, greeter));
        see_own("connected from", fd, 1);
        answer("it answers", fd, 1);
        close(fd);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        name = at(places[index], 0);
        see_call("bind without port", bind(fd, (struct sockaddr *)&name, sizeof name));
        see_call("connect", dial(fd, greeter));
        see_own("connected from", fd, 0);
        answer("it answers", fd, 1);
        close(fd);
    }
    fd = socket(AF_INET, SOCK_STREAM, 0);
    name = at("127.0.0.1", 0);
    bind(fd, (struct sockaddr *)&name, sizeof name);
    see_call("from loopback to elsewhere", dial(fd, greeter));
    close(fd);
}

static void pass(int channel, int fd)
{
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 'x';
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    sendmsg(channel, &message, 0);
}

static int passed(int channel)
{
    int fd = -1;
    char control[CMSG_SPACE(sizeof fd)], byte;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    recvmsg(channel, &message, 0);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void handed_on(struct sockaddr_in greeter, struct sockaddr_in refused)
{
    for (int round = 0; round < 3; round++) {
        /* connected; pending; pending and bound to fail */
        int fd = socket(AF_INET, SOCK_STREAM | (round ? SOCK_NONBLOCK : 0), 0), channel[2], status;
        socketpair(AF_UNIX, SOCK_STREAM, 0, channel);
        pid_t child = fork();
        if (child == 0) {
            close(fd);
            int other = dup(passed(channel[1]));
            see("events in the child", "%x", events(other));
            see("SO_ERROR in the child", "%d, then %d", so_error(other), so_error(other));
            struct sockaddr_in peer = {0};
            socklen_t size = sizeof peer;
            int result = getpeername(other, (struct sockaddr *)&peer, &size);
            see_call("getpeername in the child", result);
            if (result == 0)
                check("the same peer", peer.sin_addr.s_addr == greeter.sin_addr.s_addr && peer.sin_port == greeter.sin_port);
            if (round < 2)
                answer("it answers the child", other, 1);
            _exit(0);
        }
        if (dial(fd, round == 2 ? refused : greeter) < 0 && errno != EINPROGRESS)
            see_call("connect", -1);
        pass(channel[0], fd);
        close(fd);
        waitpid(child, &status, 0);
        see("the child's end", "%d", status);
        close(channel[0]);
        close(channel[1]);
    }
}

static void inherited(const char *program, struct sockaddr_in greeter)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), status;
    char number[16];
    dial(fd, greeter);
    snprintf(number, sizeof number, "%d", fd);
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", program, number, (char *)NULL);
        _exit(127);
    }
    close(fd);
    waitpid(child, &status, 0);
    see("the other program's end", "%d", status);
}

static void fast_open(struct sockaddr_in greeter, struct sockaddr_in refused)
{
    struct iovec piece = {(void *)REQUEST, strlen(REQUEST)};
    struct mmsghdr messages[2] = {{.msg_hdr = {&greeter, sizeof greeter, &piece, 1, NULL, 0, 0}}};
    for (int way = 0; way < 3; way++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        long sent = way == 0 ? sendto(fd, REQUEST, strlen(REQUEST), MSG_FASTOPEN, (struct sockaddr *)&greeter, sizeof greeter)
                  : way == 1 ? sendmsg(fd, &messages[0].msg_hdr, MSG_FASTOPEN)
                             : sendmmsg(fd, messages, 1, MSG_FASTOPEN);
        see_call("sent with MSG_FASTOPEN", sent);
        if (way == 2)
            see("length", "%u", messages[0].msg_len);
        answer("it answers", fd, 0);
        close(fd);
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    see_call("without waiting", sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&greeter, sizeof greeter));
    see("events", "%x", events(fd));
    see_call("connected already", sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&greeter, sizeof greeter));
    answer("nothing had been sent", fd, 1);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    see_call("refused", sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&refused, sizeof refused));
    see("SO_ERROR", "%d", so_error(fd));
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
    see_call("connect with TCP_FASTOPEN_CONNECT", dial(fd, greeter));
    answer("it answers", fd, 1);
    close(fd);
}

static int scripted(struct sockaddr_in server, const char *order)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    see_call(order, dial(fd, server));
    dprintf(fd, "%s\n", order);
    return fd;
}

static volatile int urgent_signals;

static void on_urgent(int number)
{
    (void)number;
    urgent_signals++;
}

static void ends(struct sockaddr_in server)
{
    char text[64] = {0}, byte = 0;
    int mark = -1, fd = scripted(server, "urgent");
    struct pollfd one = {fd, POLLPRI, 0};
    struct sigaction action = {.sa_handler = on_urgent, .sa_flags = SA_RESTART};
    sigaction(SIGURG, &action, NULL);
    fcntl(fd, F_SETOWN, getpid());
    write(fd, "go\n", 3);
    while (poll(&one, 1, 10000) < 0)
        ;
    see_call("the urgent byte", recv(fd, &byte, 1, MSG_OOB));
    see("it is", "%c", byte);
    see_call("before it", recv(fd, text, 5, MSG_WAITALL));
    ioctl(fd, SIOCATMARK, &mark);
    see("at the mark", "%d %s", mark, text);
    see_call("after it", recv(fd, text, 5, MSG_WAITALL));
    see("text", "%s", text);
    check("SIGURG came", urgent_signals > 0);
    see_call("three, urgent, three", send(fd, "one", 3, 0));
    see_call("urgent", send(fd, "!", 1, MSG_OOB));
    see_call("more", send(fd, "two", 3, 0));
    shutdown(fd, SHUT_WR);
    see("the server saw", "%.*s", (int)recv(fd, text, sizeof text, MSG_WAITALL), text);
    close(fd);

    fd = scripted(server, "reset");
    see_call("read from a server that resets", read(fd, text, 1));
    see_call("read again", read(fd, text, 1));
    see_call("write then", send(fd, "x", 1, MSG_NOSIGNAL));
    close(fd);

    fd = scripted(server, "how it ends");
    struct linger at_once = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    fd = scripted(server, "how it ends");
    shutdown(fd, SHUT_WR);
    see_call("half closed by us", read(fd, text, 1));
    close(fd);
    fd = scripted(server, "how it ends after you spoke");
    see_call("wait for some of it", recv(fd, text, 1, 0));
    close(fd); /* with unread data: a reset */
    fd = scripted(server, "half close, then listen");
    see_call("half closed by the server", read(fd, text, 1));
    see_call("we still send", send(fd, "still here\n", 11, 0));
    shutdown(fd, SHUT_WR);
    close(fd);
    fd = scripted(server, "what was said");
    memset(text, 0, sizeof text);
    while (recv(fd, text, sizeof text - 1, 0) > 0) {
        see("server", "%s", text);
        memset(text, 0, sizeof text);
    }
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        int fd = atoi(argv[1]);
        see("events after exec", "%x", events(fd));
        see("SO_ERROR after exec", "%d", so_error(fd));
        answer("it answers after exec", fd, 1);
        return 0;
    }
    if (argc < 7)
        return 2;
    struct sockaddr_in greeter = at(argv[1], atoi(argv[2])), refused = at(argv[1], atoi(argv[3]));
    struct sockaddr_in hole = at(argv[4], atoi(argv[2])), server = at(argv[1], atoi(argv[5]));
    signals(hole);
    once_more(greeter, refused, hole);
    taken_back(greeter, hole);
    bound(greeter, argv[6]);
    handed_on(greeter, refused);
    if (argc > 7)
        inherited(argv[0], greeter);
    fast_open(greeter, refused);
    ends(server);
    return finish();
}
