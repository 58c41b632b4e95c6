/* The same operation N times, for budgets: loop OPERATION N [ARGUMENT...]; nothing else depends on N. */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int dial(const char *ip, int port)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &peer.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static int opened(const char *path)
{
    int fd = openat(AT_FDCWD, path, O_RDONLY);
    if (fd < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const char *operation = argv[1];
    long times = atol(argv[2]);
    char bytes[4096];
    struct stat st;
    int fd = -1;
    if (strcmp(operation, "read") == 0)
        fd = opened(argv[3]);
    if (strcmp(operation, "echo") == 0)
        fd = dial(argv[3], atoi(argv[4]));
    for (long number = 0; number < times; number++) {
        if (strcmp(operation, "getppid") == 0) {
            syscall(SYS_getppid);
        } else if (strcmp(operation, "open-close") == 0) {
            close(opened(argv[3]));
        } else if (strcmp(operation, "open-read-close") == 0) {
            int one = opened(argv[3]);
            if (read(one, bytes, sizeof bytes) <= 0)
                return 1;
            close(one);
        } else if (strcmp(operation, "open-read-close-each") == 0) {
            snprintf(bytes, sizeof bytes, argv[3], number);
            int one = opened(bytes);
            if (read(one, bytes, sizeof bytes) <= 0)
                return 1;
            close(one);
        } else if (strcmp(operation, "stat-each") == 0) {
            snprintf(bytes, sizeof bytes, argv[3], number);
            if (stat(bytes, &st) < 0)
                return 1;
        } else if (strcmp(operation, "write") == 0) {
            if (fd < 0 && (fd = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0644)) < 0)
                return 1;
            if (write(fd, bytes, sizeof bytes) != sizeof bytes)
                return 1;
        } else if (strcmp(operation, "missing") == 0) {
            if (stat(argv[3], &st) == 0)
                return 1;
        } else if (strcmp(operation, "fstat") == 0) {
            if (fd < 0)
                fd = opened(argv[3]);
            if (fstat(fd, &st) < 0)
                return 1;
        } else if (strcmp(operation, "stat") == 0) {
            if (stat(argv[3], &st) < 0)
                return 1;
        } else if (strcmp(operation, "read") == 0) {
            if (pread(fd, bytes, sizeof bytes, 0) <= 0)
                return 1;
        } else if (strcmp(operation, "connect-close") == 0) {
            close(dial(argv[3], atoi(argv[4])));
        } else if (strcmp(operation, "unix-connect-close") == 0) {
            struct sockaddr_un peer = {.sun_family = AF_UNIX};
            strncpy(peer.sun_path, argv[3], sizeof peer.sun_path - 1);
            int own = socket(AF_UNIX, SOCK_STREAM, 0);
            if (connect(own, (struct sockaddr *)&peer, sizeof peer) < 0)
                return 1;
            close(own);
        } else if (strcmp(operation, "unix-socket") == 0) {
            close(socket(AF_UNIX, SOCK_DGRAM, 0));
        } else if (strcmp(operation, "unix-datagrams") == 0) {
            struct sockaddr_un peer = {.sun_family = AF_UNIX};
            strncpy(peer.sun_path, argv[3], sizeof peer.sun_path - 1);
            if (number == 0) {
                fd = socket(AF_UNIX, SOCK_DGRAM, 0);
                if (connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0)
                    return 1;
            }
            if (send(fd, "x", 1, 0) < 0)
                return 1;
        } else if (strcmp(operation, "addresses") == 0) {
            struct ifaddrs *all;
            if (getifaddrs(&all) < 0)
                return 1;
            freeifaddrs(all);
        } else if (strcmp(operation, "echo") == 0) {
            if (write(fd, "x", 1) != 1 || read(fd, bytes, 1) != 1)
                return 1;
        } else {
            return 2;
        }
    }
    return 0;
}
