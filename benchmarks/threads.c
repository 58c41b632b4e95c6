/* Threads that open a missing local file again and again, and how long each call takes. Prints "CALLS P50_NS P99_NS".
 * threads NUMBER SECONDS [PORT [BULK...]]: one more thread connects to this port of loopback meanwhile, where nobody listens,
 * and one reads the files BULK ("-": nobody does). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 16, BUCKETS = 64 * STEPS }; /* of a histogram: STEPS of each power of two */

static long counts[BUCKETS];
static double end_ns;
static char **bulk;

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int bucket(unsigned long ns) {
    int power = 63 - __builtin_clzl(ns | STEPS);
    return power * STEPS + (int)((ns | STEPS) >> (power - 4)) % STEPS;
}

static double upper(int bucket) {
    return (double)(1ul << (bucket / STEPS)) * (1 + (bucket % STEPS + 1.0) / STEPS);
}

static void *busy(void *unused) {
    (void)unused;
    for (double before = now_ns(), after; before < end_ns; before = after) {
        syscall(SYS_openat, AT_FDCWD, "/usr/no/such/file", O_RDONLY);
        after = now_ns();
        __atomic_fetch_add(&counts[bucket((unsigned long)(after - before))], 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* From the pod, each refusal takes a round trip. */
static void *parked(void *port) {
    struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (now_ns() < end_ns) {
        int tcp = socket(AF_INET, SOCK_STREAM, 0);
        if (tcp < 0 || connect(tcp, (struct sockaddr *)&nobody, sizeof nobody) == 0)
            exit(3);
        close(tcp);
    }
    return NULL;
}

static void *reads(void *unused) {
    static char buffer[1 << 20];
    (void)unused;
    for (char **path = bulk; *path && now_ns() < end_ns; path++) {
        int file = open(*path, O_RDONLY);
        while (now_ns() < end_ns && read(file, buffer, sizeof buffer) > 0)
            continue;
        close(file);
    }
    return NULL;
}

static double percentile(double part) {
    long total = 0, seen = 0;
    for (int at = 0; at < BUCKETS; at++)
        total += counts[at];
    for (int at = 0; at < BUCKETS; at++)
        if ((seen += counts[at]) > total * part)
            return upper(at);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    int number = atoi(argv[1]);
    pthread_t threads[number + 2];
    long total = 0;
    int started = 0;
    end_ns = now_ns() + atof(argv[2]) * 1e9;
    if (argc > 3 && strcmp(argv[3], "-"))
        pthread_create(&threads[started++], NULL, parked, argv[3]);
    bulk = argv + 4;
    if (argc > 4)
        pthread_create(&threads[started++], NULL, reads, NULL);
    for (int at = 0; at < number; at++)
        pthread_create(&threads[started++], NULL, busy, NULL);
    for (int at = 0; at < started; at++)
        pthread_join(threads[at], NULL);
    for (int at = 0; at < BUCKETS; at++)
        total += counts[at];
    printf("%ld %.0f %.0f\n", total, percentile(0.5), percentile(0.99));
    return 0;
}
