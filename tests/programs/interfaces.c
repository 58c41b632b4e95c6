/* What a program can ask about interfaces, addresses and routes, in every way there is: as lines that only depend on the pod. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

struct question {
    struct nlmsghdr header;
    union {
        struct ifaddrmsg address;
        struct rtmsg route;
    };
    char room[64];
};

static void show(const char *what, const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN] = "none";
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
    if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof text);
    printf(" %s %s", what, text);
}

static void list(void)
{
    struct ifaddrs *all, *one;
    if (getifaddrs(&all) < 0) {
        printf("getifaddrs: %s\n", strerror(errno));
        return;
    }
    for (one = all; one; one = one->ifa_next) {
        if (!one->ifa_addr || (one->ifa_addr->sa_family != AF_INET && one->ifa_addr->sa_family != AF_INET6)) {
            printf("link %s index %u\n", one->ifa_name, if_nametoindex(one->ifa_name));
            continue;
        }
        printf("address %s", one->ifa_name);
        show("is", one->ifa_addr);
        show("mask", one->ifa_netmask);
        puts("");
    }
    freeifaddrs(all);
    struct if_nameindex *names = if_nameindex();
    for (struct if_nameindex *name = names; name && name->if_index; name++)
        printf("name %u %s\n", name->if_index, name->if_name);
    if_freenameindex(names);
}

static void ask(int fd, const char *name, const char *what, unsigned long command)
{
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(fd, command, &request) < 0) {
        printf("%s %s: %s\n", name, what, strerror(errno));
        return;
    }
    printf("%s %s:", name, what);
    for (int i = 0; i < 16; i++)
        printf(" %02x", ((unsigned char *)&request.ifr_addr)[i]);
    puts("");
}

#define ASK(fd, name, command) ask(fd, name, #command, command)

static void control(void)
{
    static const char *const names[] = {"lo", "eth0", "eth0:1", "nothing", ""};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), unix_socket = socket(AF_UNIX, SOCK_STREAM, 0), file = open("/dev/null", O_RDONLY);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        ASK(fd, names[i], SIOCGIFADDR);
        ASK(fd, names[i], SIOCGIFNETMASK);
        ASK(fd, names[i], SIOCGIFBRDADDR);
        ASK(fd, names[i], SIOCGIFDSTADDR);
        ASK(fd, names[i], SIOCGIFFLAGS);
        ASK(fd, names[i], SIOCGIFMTU);
        ASK(fd, names[i], SIOCGIFMETRIC);
        ASK(fd, names[i], SIOCGIFHWADDR);
        ASK(fd, names[i], SIOCGIFINDEX);
        ASK(fd, names[i], SIOCGIFTXQLEN);
        ASK(fd, names[i], SIOCGIFMAP);
    }
    ASK(unix_socket, "eth0", SIOCGIFINDEX);
    ASK(unix_socket, "eth0", SIOCGIFADDR);
    ASK(file, "eth0", SIOCGIFINDEX);
    ASK(-1, "eth0", SIOCGIFINDEX);
    printf("fault: %s\n", ioctl(fd, SIOCGIFMTU, (void *)8) < 0 ? strerror(errno) : "none");
    struct ifreq requests[8], by_index = {.ifr_ifindex = 2};
    struct ifconf size = {.ifc_len = 0, .ifc_buf = NULL}, one = {.ifc_len = sizeof *requests + 3, .ifc_req = requests},
                  all = {.ifc_len = sizeof requests, .ifc_req = requests};
    ioctl(fd, SIOCGIFCONF, &size);
    ioctl(fd, SIOCGIFCONF, &one);
    ioctl(fd, SIOCGIFCONF, &all);
    printf("conf: %d %d %d\n", size.ifc_len, one.ifc_len, all.ifc_len);
    for (int i = 0; i < all.ifc_len / (int)sizeof *requests; i++) {
        printf("conf %s", requests[i].ifr_name);
        show("is", &requests[i].ifr_addr);
        puts("");
    }
    int result = ioctl(fd, SIOCGIFNAME, &by_index);
    printf("index 2: %s\n", result < 0 ? strerror(errno) : by_index.ifr_name);
    by_index.ifr_ifindex = 4711;
    printf("index 4711: %s\n", ioctl(fd, SIOCGIFNAME, &by_index) < 0 ? strerror(errno) : by_index.ifr_name);
    close(fd), close(unix_socket), close(file);
}

static struct question dump(int type, int family, unsigned sequence)
{
    struct question question = {
        .header = {NLMSG_LENGTH(sizeof(struct rtmsg)), type, NLM_F_REQUEST | NLM_F_DUMP, sequence, 0},
    };
    question.route.rtm_family = family;
    return question;
}

/* All messages of an answer; who sent it, and whether it is addressed to `port` and answers `sequence`. */
static void answer(const char *what, int fd, unsigned port, unsigned sequence)
{
    static char buffer[65536];
    int count = 0, over = 0, strange = 0, number = 0;
    while (!over) {
        struct sockaddr_nl from;
        struct iovec piece = {buffer, sizeof buffer};
        struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &piece, .msg_iovlen = 1};
        struct pollfd ready = {fd, POLLIN, 0};
        memset(&from, 0xff, sizeof from);
        if (poll(&ready, 1, 10000) != 1) {
            printf("%s: no answer\n", what);
            return;
        }
        int got = recvmsg(fd, &message, 0);
        if (got < 0) {
            printf("%s: %s\n", what, strerror(errno));
            return;
        }
        strange += from.nl_family != AF_NETLINK || from.nl_pid || from.nl_groups || message.msg_namelen != sizeof from;
        for (struct nlmsghdr *one = (struct nlmsghdr *)buffer; NLMSG_OK(one, (unsigned)got); one = NLMSG_NEXT(one, got)) {
            strange += one->nlmsg_pid != port || one->nlmsg_seq != sequence;
            over = over || !(one->nlmsg_flags & NLM_F_MULTI) || one->nlmsg_type == NLMSG_DONE;
            if (one->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *error = NLMSG_DATA(one);
                strange += error->msg.nlmsg_seq != sequence;
                number = error->error;
            }
            count++;
        }
    }
    printf("%s: %d messages, %d strange, error %d\n", what, count, strange, number);
}

static unsigned port_of(int fd)
{
    struct sockaddr_nl name;
    socklen_t length = sizeof name;
    memset(&name, 0xff, sizeof name);
    if (getsockname(fd, (struct sockaddr *)&name, &length) < 0 || length != sizeof name || name.nl_family != AF_NETLINK)
        printf("getsockname: wrong\n");
    return name.nl_pid;
}

static void sending(void)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK}, other = {.nl_family = AF_NETLINK, .nl_pid = 1};
    struct question question = dump(RTM_GETADDR, AF_UNSPEC, 1);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    printf("send %d\n", send(fd, &question, question.header.nlmsg_len, 0) == (int)question.header.nlmsg_len);
    answer("send", fd, port_of(fd), 1);
    question.header.nlmsg_seq = 2;
    sendto(fd, &question, question.header.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel);
    answer("sendto", fd, port_of(fd), 2);
    question.header.nlmsg_seq = 3;
    struct iovec piece = {&question, question.header.nlmsg_len};
    struct mmsghdr many[2] = {{.msg_hdr = {.msg_name = &kernel, .msg_namelen = sizeof kernel, .msg_iov = &piece, .msg_iovlen = 1}}};
    sendmsg(fd, &many[0].msg_hdr, 0);
    answer("sendmsg", fd, port_of(fd), 3);
    question.header.nlmsg_seq = 4;
    printf("sendmmsg %d", sendmmsg(fd, many, 1, 0));
    printf(" %d\n", many[0].msg_len == question.header.nlmsg_len);
    answer("sendmmsg", fd, port_of(fd), 4);
    question.header.nlmsg_seq = 5;
    printf("write %d\n", write(fd, &question, question.header.nlmsg_len) == (int)question.header.nlmsg_len);
    answer("write", fd, port_of(fd), 5);
    printf("short address: %d\n", sendto(fd, &question, 4, 0, (struct sockaddr *)&kernel, 4) < 0 ? errno : 0);
    printf("connect: %d\n", connect(fd, (struct sockaddr *)&kernel, sizeof kernel));
    socklen_t length = sizeof other;
    printf("peer: %d %u\n", getpeername(fd, (struct sockaddr *)&other, &length), other.nl_pid);
    question.header.nlmsg_seq = 6;
    send(fd, &question, question.header.nlmsg_len, 0);
    answer("connected", fd, port_of(fd), 6);
    close(fd);
}

static void bound(void)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK};
    struct question question = dump(RTM_GETLINK, AF_UNSPEC, 7);
    int fd = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE), group = RTNLGRP_LINK, later = RTNLGRP_IPV4_ROUTE;
    printf("bind: %d\n", bind(fd, (struct sockaddr *)&name, sizeof name));
    printf("own: %d\n", port_of(fd) == (unsigned)getpid());
    send(fd, &question, question.header.nlmsg_len, 0);
    answer("bound", fd, port_of(fd), 7);
    name.nl_pid = 4711;
    printf("again: %d\n", bind(fd, (struct sockaddr *)&name, sizeof name) < 0 ? errno : 0);
    int second = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    name.nl_pid = 0x40000000 | getpid();
    name.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR;
    printf("port and groups: %d\n", bind(second, (struct sockaddr *)&name, sizeof name));
    printf("port: %d\n", port_of(second) == name.nl_pid);
    printf("join: %d", setsockopt(second, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &later, sizeof later));
    printf(" leave: %d\n", setsockopt(second, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof group));
    question = dump(RTM_GETROUTE, AF_INET, 8);
    send(second, &question, question.header.nlmsg_len, 0);
    answer("routes", second, name.nl_pid, 8);
    struct question change = {.header = {NLMSG_LENGTH(sizeof(struct ifaddrmsg)), RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK, 9, 0}};
    send(second, &change, change.header.nlmsg_len, 0);
    if (getenv("ORDINARY"))
        answer("change", second, name.nl_pid, 9);
    close(fd), close(second);
}

static void look_up(const char *text)
{
    struct question question = {.header = {NLMSG_LENGTH(sizeof(struct rtmsg)) + RTA_LENGTH(4), RTM_GETROUTE, NLM_F_REQUEST, 10, 0}};
    struct rtattr *attribute = (struct rtattr *)((char *)&question + NLMSG_LENGTH(sizeof(struct rtmsg)));
    question.route.rtm_family = AF_INET;
    question.route.rtm_dst_len = 32;
    attribute->rta_type = RTA_DST;
    attribute->rta_len = RTA_LENGTH(4);
    inet_pton(AF_INET, text, RTA_DATA(attribute));
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    send(fd, &question, question.header.nlmsg_len, 0);
    answer(text, fd, port_of(fd), 10);
    question.header.nlmsg_flags |= NLM_F_ACK;
    question.header.nlmsg_seq = 11;
    send(fd, &question, question.header.nlmsg_len, 0);
    answer("acknowledged", fd, port_of(fd), 11);
    close(fd);
}

int main(void)
{
    list();
    control();
    sending();
    bound();
    look_up("10.96.0.20");
    look_up("10.96.0.99");
    return 0;
}
