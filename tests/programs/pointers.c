/* Pointers and lengths that are no good: the errno must be the kernel's. pointers DIRECTORY IP PORT */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#define NOWHERE ((void *)0x10)

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    long page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + page, page);
    char name[256], longest[8192];
    snprintf(name, sizeof name, "%s/config.json", argv[1]);
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0;
    char *edge = pages + page - strlen(name) - 1;
    strcpy(edge, name);
    struct stat st;

    see_call("openat of NULL", syscall(SYS_openat, AT_FDCWD, NULL, O_RDONLY));
    see_call("openat of nowhere", syscall(SYS_openat, AT_FDCWD, NOWHERE, O_RDONLY));
    see_call("openat of the empty path", syscall(SYS_openat, AT_FDCWD, "", O_RDONLY));
    see_call("openat of a path too long", syscall(SYS_openat, AT_FDCWD, longest, O_RDONLY));
    int fd = syscall(SYS_openat, AT_FDCWD, edge, O_RDONLY);
    check("a path that ends with its page", fd >= 0);
    memset(pages + page - 8, 'x', 8);
    see_call("a path that runs off its page", syscall(SYS_openat, AT_FDCWD, pages + page - 8, O_RDONLY));
    see_call("fstat into nowhere", syscall(SYS_fstat, fd, NOWHERE));
    see_call("fstat into a page's end", syscall(SYS_fstat, fd, pages + page - 8));
    see_call("newfstatat into nowhere", syscall(SYS_newfstatat, AT_FDCWD, name, NOWHERE, 0));
    see_call("newfstatat with bad flags", syscall(SYS_newfstatat, AT_FDCWD, name, &st, 0x10000000));
    see_call("statx into nowhere", syscall(SYS_statx, AT_FDCWD, name, 0, 0x7ff, NOWHERE));
    see_call("readlinkat into nowhere", syscall(SYS_readlinkat, fd, NULL, NOWHERE, 10));
    see_call("readlinkat of size 0", syscall(SYS_readlinkat, AT_FDCWD, name, name, 0));
    see_call("read into nowhere", syscall(SYS_read, fd, NOWHERE, 10));
    see_call("read into a page's end", read(fd, pages + page - 4, 4));
    see_call("faccessat with bad mode", syscall(SYS_faccessat, AT_FDCWD, name, 0x1000));
    see_call("openat2 with a small struct", syscall(SYS_openat2, AT_FDCWD, name, &st, 4));
    see_call("openat2 from nowhere", syscall(SYS_openat2, AT_FDCWD, name, NOWHERE, 24));
    int directory = open(argv[1], O_RDONLY | O_DIRECTORY);
    see_call("getdents64 into nowhere", syscall(SYS_getdents64, directory, NOWHERE, 4096));
    see_call("getdents64 into 1 byte", syscall(SYS_getdents64, directory, longest, 1));
    see_call("uname into nowhere", syscall(SYS_uname, NOWHERE));

    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    inet_pton(AF_INET, argv[2], &peer.sin_addr);
    int one = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof peer;
    see_call("connect from nowhere", syscall(SYS_connect, one, NOWHERE, sizeof peer));
    see_call("connect of length 0", syscall(SYS_connect, one, &peer, 0));
    see_call("connect of length 3", syscall(SYS_connect, one, &peer, 3));
    see_call("connect of a huge length", syscall(SYS_connect, one, &peer, 0xFFFFFFFFu));
    see_call("connect of a closed descriptor", syscall(SYS_connect, 987, &peer, sizeof peer));
    see_call("connect of a file", syscall(SYS_connect, fd, &peer, sizeof peer));
    peer.sin_family = 77;
    see_call("connect of an unknown family", syscall(SYS_connect, one, &peer, sizeof peer));
    peer.sin_family = AF_INET;
    see_call("connect after all that", syscall(SYS_connect, one, &peer, sizeof peer));
    see_call("getpeername into nowhere", syscall(SYS_getpeername, one, NOWHERE, &size));
    see_call("getpeername without a length", syscall(SYS_getpeername, one, &peer, NOWHERE));
    size = -1;
    see_call("getpeername of a negative length", syscall(SYS_getpeername, one, &peer, &size));
    see_call("getsockopt into nowhere", syscall(SYS_getsockopt, one, SOL_SOCKET, SO_ERROR, NOWHERE, &size));
    see_call("bind from nowhere", syscall(SYS_bind, socket(AF_INET, SOCK_STREAM, 0), NOWHERE, sizeof peer));
    see_call("listen on a closed descriptor", syscall(SYS_listen, 987, 1));
    see_call("accept on no listener", syscall(SYS_accept4, one, NULL, NULL, 0));
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    peer.sin_port = htons(7);
    see_call("sendto from nowhere", sendto(datagrams, NOWHERE, 10, 0, (struct sockaddr *)&peer, sizeof peer));
    see_call("sendto to nowhere", sendto(datagrams, "x", 1, 0, NOWHERE, sizeof peer));
    see_call("sendmsg from nowhere", syscall(SYS_sendmsg, datagrams, NOWHERE, 0));
    struct msghdr huge = {.msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = NOWHERE, .msg_iovlen = 1 << 20};
    see_call("sendmsg of too many parts", syscall(SYS_sendmsg, datagrams, &huge, 0));
    return finish();
}
