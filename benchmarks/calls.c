/* Times two system calls in a loop: one that every tracer here stops (openat of a missing file) and one that none
 * does (getppid). Prints nanoseconds per call: "openat NS getppid NS". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv) {
    int stopped = argc > 1 ? atoi(argv[1]) : 20000;
    int untouched = argc > 2 ? atoi(argv[2]) : 300000;
    double began = now_ns();
    for (int i = 0; i < stopped; i++)
        syscall(SYS_openat, AT_FDCWD, "/etc/no/such/file", O_RDONLY);
    double between = now_ns();
    for (int i = 0; i < untouched; i++)
        syscall(SYS_getppid);
    double end = now_ns();
    printf("openat %.1f getppid %.1f\n", (between - began) / stopped, (end - between) / untouched);
    return 0;
}
