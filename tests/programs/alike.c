/* What is this machine's own business, seen from a socket or a descriptor: vsock, kcmp(2), the state of a local connection. */
#include "seen.h"
#include <arpa/inet.h>
#include <linux/kcmp.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORIGINAL_DST 80

static void vsock(void)
{
    struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    struct sockaddr_vm nobody = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = 9};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    see("vsock", "%s", fd < 0 ? strerror(errno) : "a socket");
    struct timeval soon = {.tv_usec = 10000};
    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &soon, sizeof soon);
    see_call("vsock bind", bind(fd, (struct sockaddr *)&any, sizeof any));
    see_call("vsock connect", connect(fd, (struct sockaddr *)&nobody, sizeof nobody));
    close(fd);
}

static long same(pid_t one, pid_t other, int what, unsigned long first, unsigned long second)
{
    return syscall(SYS_kcmp, one, other, what, first, second) != 0;
}

static void compared(int fd, int other)
{
    pid_t own = getpid();
    int copy = dup(fd), status = -1;
    see_call("kcmp of a copy", same(own, own, KCMP_FILE, fd, copy));
    see_call("kcmp of another", same(own, own, KCMP_FILE, fd, other));
    pid_t pid = fork();
    if (pid == 0) {
        /* The order of two things in memory is no fact that stays, only whether they are the same. */
        int results = same(own, getpid(), KCMP_FILE, fd, fd) | same(own, getpid(), KCMP_FILES, 0, 0) << 1 |
                      same(own, getpid(), KCMP_VM, 0, 0) << 2 | same(own, getpid(), KCMP_FS, 0, 0) << 3;
        _exit(results);
    }
    waitpid(pid, &status, 0);
    see("kcmp with a child", "%x", status >> 8);
    see_call("kcmp of what is not open", syscall(SYS_kcmp, own, own, KCMP_FILE, fd, 9999) < 0 ? -1 : 0);
}

static void see_state(const char *what, int fd)
{
    struct tcp_info state = {0};
    struct sockaddr_in original = {0};
    socklen_t size = sizeof state;
    int result = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &size);
    see(what, "%d: state %d, options %x, sent mss %u", result, state.tcpi_state, state.tcpi_options, state.tcpi_snd_mss);
    size = sizeof original;
    see_call("its SO_ORIGINAL_DST", getsockopt(fd, IPPROTO_IP, ORIGINAL_DST, &original, &size));
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), peer;
    vsock();
    see_state("closed", fd);
    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&address, &size);
    see_call("connect", connect(fd, (struct sockaddr *)&address, sizeof address));
    peer = accept(listener, NULL, NULL);
    see_state("connected", fd);
    see_state("accepted", peer);
    see_state("listening", listener);
    compared(fd, peer);
    shutdown(peer, SHUT_WR);
    see("end", "%zd", read(fd, &size, sizeof size));
    see_state("its peer has ended", fd);
    return finish();
}
