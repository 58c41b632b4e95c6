/* What the fuzzers of both engines' compiled loops have in common: programs that make calls at random, with bad pointers among
 * them, and a loop that knows about these calls. Comes after hot.c. */
#include <assert.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

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
            syscall(SYS_unlinkat, -1, "", 0);
        if (rand() % 16 == 0)
            syscall(SYS_chdir, path);
        if (rand() % 8 == 0)
            syscall(SYS_connect, rand() % 4, rand() % 2 ? path : (const char *)page + 4090, rand() % 4 ? rand() % 130 : rand());
        syscall(SYS_openat, rand() % 4 ? AT_FDCWD : rand(), path, rand() & (O_ACCMODE | O_NONBLOCK | O_PATH | O_NOFOLLOW), 0);
    }
}

/* A filter that tells the supervisor of them by `action`. */
static int filter_calls(unsigned action, unsigned flags) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_chdir, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unlinkat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    signal(SIGUSR1, SIG_IGN);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static struct hot *knowing_loop(void) {
    struct hot *hot = hot_new(ARCH, 1);
    hot_call(hot, SYS_openat, 1, 0, 0, -1, 0);
    hot_call(hot, SYS_chdir, 1, 0, 1, -1, 0);
    hot_path(hot, SYS_chdir, 0, -1, 0, -1, 0, 0, 1, 1, 1, 0, -1, 0);
    hot_path(hot, SYS_openat, 1, 0, 0, 2, 3, 0, 1, 1, 1, 0, 2, O_NOFOLLOW);
    hot_call(hot, SYS_connect, 1, 0, 0, -1, 0);
    hot_address(hot, SYS_connect, 1, 2, 1);
    hot_keep(hot, SYS_unlinkat);
    hot_tree(hot, "/usr/");
    return hot;
}

/* Something becomes known, or is forgotten. */
static void learn_at_random(struct hot *hot) {
    if (rand() % 10 == 0)
        hot_add(hot, rand() % 2 ? READS : DIRECTORIES, "/usr/known", rand() % 2 ? 4 : 10);
    if (rand() % 10 == 0)
        hot_add(hot, ADDRESSES, "////////////////", rand() % 17);
    if (rand() % 100 == 0)
        hot_clear(hot, rand() % TREE);
}
