/* The compiled loop of this engine alone, for sanitizers: real programs that pass bad pointers and are killed at any moment.
 * Built and run by test_hot_notify.py. hot_notify_fuzz SEED SECONDS */
#include "../../../supervisor/notify/hot_notify.c"
#include "../../../supervisor/tracer/hot.c"
#include "../../../supervisor/tracer/hot_paths.c"

#include "../tracer/hot_calls.h"

#include <sys/eventfd.h>
#include <time.h>

/* The parent of all who are supervised: starts a new one for each that has been killed, until `end`. */
static void breed(time_t end) {
    int living = 0;
    pid_t children[CHILDREN];
    while (living || time(NULL) < end) {
        while (living < CHILDREN && time(NULL) < end)
            if ((children[living] = fork()) == 0)
                call_at_random(rand());
            else
                living++, rand();
        usleep(rand() % 3000);
        int at = rand() % living;
        kill(children[at], SIGKILL);
        assert(waitpid(children[at], NULL, 0) == children[at]);
        children[at] = children[--living];
    }
    _exit(0);
}

static int decide_on(struct hot *hot, int listener, const struct seccomp_notif *note) {
    struct seccomp_notif_resp response = {.id = note->id, .flags = rand() % 2 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0};
    if (!response.flags)
        response.error = -EINTR;
    learn_at_random(hot);
    if (rand() % 100 == 0)
        hot_take_all_back(hot);
    if (rand() % 50)
        hot_lend(hot, note->pid, rand() % 20 ? BY_NUMBER : -1, rand() % 20 == 0);
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 || errno == ENOENT;
}

int main(int argc, char **argv) {
    srand(argc > 1 ? atoi(argv[1]) : 1);
    time_t end = time(NULL) + (argc > 2 ? atoi(argv[2]) : 2);
    int pair[2], listener, others = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), result;
    uint64_t one = 1;
    assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t parent = fork();
    if (parent == 0) {
        char byte;
        listener = filter_calls(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
        assert(listener >= 0 && write(pair[1], &listener, sizeof listener) == sizeof listener);
        assert(read(pair[1], &byte, 1) == 1);
        close(listener);
        breed(end);
    }
    assert(read(pair[0], &listener, sizeof listener) == sizeof listener);
    /* It is the child's number. */
    listener = syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, parent, 0), listener, 0);
    assert(listener >= 0 && write(pair[0], ".", 1) == 1);
    struct hot *hot = knowing_loop();
    struct seccomp_notif note;
    struct told told = {0, 0};
    int bells = 0;
    while ((result = hot_notified(hot, 1, listener, others, 100, &note, &told)) != NOBODY) {
        assert(result == NOTE || result == OTHERS);
        if (result == NOTE)
            assert(decide_on(hot, listener, &note));
        else if (rand() % 2 && read(others, &one, sizeof one) == sizeof one)
            bells++;
        if (rand() % 100 == 0)
            assert(write(others, &one, sizeof one) == sizeof one);
    }
    assert(waitpid(parent, NULL, 0) == parent);
    assert(bells);
    printf("%llu stops\n", (unsigned long long)hot_stops(hot));
    hot_free(hot);
    return 0;
}
