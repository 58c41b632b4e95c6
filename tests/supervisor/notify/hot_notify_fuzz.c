/* The compiled loop of this engine alone, for sanitizers: real programs that pass bad pointers and are killed at any moment.
 * Built and run by test_hot_notify.py. hot_notify_fuzz SEED SECONDS */
#include "../../../supervisor/notify/hot_notify.c"
#include "../../../supervisor/tracer/hot.c"
#include "../../../supervisor/tracer/hot_paths.c"

#include <assert.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#ifdef __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

enum { CHILDREN = 8 };

static void call_at_random(unsigned seed) {
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    srand(seed);
    for (;;) {
        const char *paths[] = {"/usr/known", "/usr/lib", "/usr/../usr", "relative", "", "/etc//x", "/proc/self/fd/0",
            NULL, (char *)-1, (char *)(1ul << 63), page + 4090, page + 4096};
        memset(page, '/', 4096);
        if (rand() % 2)
            page[4095] = 0;
        const char *path = paths[rand() % (sizeof paths / sizeof *paths)];
        if (rand() % 8 == 0)
            kill(getpid(), SIGUSR1);
        if (rand() % 16 == 0)
            syscall(SYS_chdir, path);
        if (rand() % 8 == 0)
            syscall(SYS_connect, rand() % 4, rand() % 2 ? path : (const char *)page + 4090, rand() % 4 ? rand() % 130 : rand());
        syscall(SYS_openat, rand() % 4 ? AT_FDCWD : rand(), path, rand() & (O_ACCMODE | O_NONBLOCK | O_PATH | O_NOFOLLOW), 0);
    }
}

static int trap(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_chdir, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

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
    if (rand() % 10 == 0)
        hot_add(hot, rand() % 2 ? READS : DIRECTORIES, "/usr/known", rand() % 2 ? 4 : 10);
    if (rand() % 10 == 0)
        hot_add(hot, ADDRESSES, "////////////////", rand() % 17);
    if (rand() % 100 == 0)
        hot_clear(hot, rand() % TREE);
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
        signal(SIGUSR1, SIG_IGN);
        listener = trap();
        assert(listener >= 0 && write(pair[1], &listener, sizeof listener) == sizeof listener);
        assert(read(pair[1], &byte, 1) == 1);
        close(listener);
        breed(end);
    }
    assert(read(pair[0], &listener, sizeof listener) == sizeof listener);
    /* It is the child's number. */
    listener = syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, parent, 0), listener, 0);
    assert(listener >= 0 && write(pair[0], ".", 1) == 1);
    struct hot *hot = hot_new(ARCH, 1);
    hot_call(hot, SYS_openat, 1, 0, 0, -1, 0);
    hot_path(hot, SYS_openat, 1, 0, 0, 2, 3, 0, 1, 1, 1, 0, 2, O_NOFOLLOW);
    hot_call(hot, SYS_chdir, 1, 0, 1, -1, 0);
    hot_path(hot, SYS_chdir, 0, -1, 0, -1, 0, 0, 1, 1, 1, 0, -1, 0);
    hot_call(hot, SYS_connect, 1, 0, 0, -1, 0);
    hot_address(hot, SYS_connect, 1, 2, 1);
    hot_tree(hot, "/usr/");
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
