/* Times system calls in loops, each with arguments that are this machine's business: openat, newfstatat of a missing file
 * and connect of a datagram socket to loopback, which every tracer here stops, and getppid, read and write, which a filter
 * leaves alone. Prints nanoseconds per call: "NAME NS NAME NS ...". calls [STOPPED [UNTOUCHED [NAME...]]] */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char missing[] = "/usr/no/such/file";
static struct sockaddr_in nobody = {.sin_family = AF_INET};
static struct stat about;
static char buffer[64];
static int datagrams, zero, null;

static void call_openat(void) { syscall(SYS_openat, AT_FDCWD, missing, O_RDONLY); }
static void call_stat(void) { syscall(SYS_newfstatat, AT_FDCWD, missing, &about, 0); }
static void call_connect(void) { connect(datagrams, (struct sockaddr *)&nobody, sizeof nobody); }
static void call_getppid(void) { syscall(SYS_getppid); }
static void call_read(void) { if (read(zero, buffer, sizeof buffer) < 0) _exit(1); }
static void call_write(void) { if (write(null, buffer, sizeof buffer) < 0) _exit(1); }

static const struct { const char *name; void (*make)(void); int stops; } calls[] = {
    {"openat", call_openat, 1}, {"stat", call_stat, 1}, {"connect", call_connect, 1},
    {"getppid", call_getppid, 0}, {"read", call_read, 0}, {"write", call_write, 0},
};

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int is_wanted(int argc, char **argv, const char *name) {
    for (int at = 3; at < argc; at++)
        if (!strcmp(argv[at], name))
            return 1;
    return argc <= 3;
}

int main(int argc, char **argv) {
    int stopped = argc > 1 ? atoi(argv[1]) : 20000;
    int untouched = argc > 2 ? atoi(argv[2]) : 300000;
    nobody.sin_port = htons(9);
    nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    zero = open("/dev/zero", O_RDONLY);
    null = open("/dev/null", O_WRONLY);
    for (unsigned at = 0; at < sizeof calls / sizeof *calls; at++) {
        if (!is_wanted(argc, argv, calls[at].name))
            continue;
        int count = calls[at].stops ? stopped : untouched;
        calls[at].make();
        double began = now_ns();
        for (int done = 0; done < count; done++)
            calls[at].make();
        printf("%s %.1f ", calls[at].name, (now_ns() - began) / count);
    }
    printf("\n");
    return 0;
}
