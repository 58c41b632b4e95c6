/* The compiled loop alone, for sanitizers and valgrind: its sets against a plain list, and real tracees that pass bad
 * pointers and are killed at any moment. Built and run by test_compiled.py. hot_fuzz SEED SECONDS */
#include "../../../supervisor/tracer/hot.c"
#include "../../../supervisor/tracer/hot_paths.c"

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

enum { CHILDREN = 8, NAMES = 2000 };

static void sets(struct hot *hot) {
    static char known[NAMES];
    for (int round = 0; round < 20000; round++) {
        char name[300];
        int number = rand() % NAMES;
        int length = snprintf(name, sizeof name, "/usr/%0*d", 1 + number % 250, number);
        if (rand() % 5000 == 0) {
            hot_clear(hot, READS);
            memset(known, 0, sizeof known);
        } else if (rand() % 2) {
            hot_add(hot, READS, name, length);
            known[number] = 1;
        }
        assert(has(&hot->sets[READS], name, length) == known[number]);
    }
    hot_clear(hot, READS);
    assert(is_normal("/a/b", 4) && is_normal("a/.b", 4) && is_normal("a/b/", 4) && is_normal("..a", 3));
    assert(!is_normal("/a//b", 5) && !is_normal("a/./b", 5) && !is_normal("/..", 3) && !is_normal(".", 1));
    assert(!is_normal("//a", 3) && !is_normal("a/..", 4));
}

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

static pid_t start(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_chdir, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unlinkat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    int go[2];
    unsigned seed = rand();
    assert(!pipe(go));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        signal(SIGUSR1, SIG_IGN);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (read(go[0], &byte, 1) != 1 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
            _exit(1);
        call_at_random(seed);
    }
    assert(!ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL));
    assert(write(go[1], ".", 1) == 1);
    close(go[0]);
    close(go[1]);
    return child;
}

static int open_memory(pid_t child) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/mem", child);
    return open(name, O_RDONLY | O_CLOEXEC);
}

int main(int argc, char **argv) {
    srand(argc > 1 ? atoi(argv[1]) : 1);
    time_t end = time(NULL) + (argc > 2 ? atoi(argv[2]) : 2);
    struct hot *hot = hot_new(ARCH, 1);
    hot_call(hot, SYS_openat, 1, 0, 0, -1, 0);
    hot_call(hot, SYS_chdir, 1, 0, 1, -1, 0);
    hot_path(hot, SYS_chdir, 0, -1, 0, -1, 0, 0, 1, 1, 1, 0, -1, 0);
    hot_path(hot, SYS_openat, 1, 0, 0, 2, 3, 0, 1, 1, 1, 0, 2, O_NOFOLLOW);
    hot_call(hot, SYS_connect, 1, 0, 0, -1, 0);
    hot_address(hot, SYS_connect, 1, 2, 1);
    hot_keep(hot, SYS_unlinkat);
    hot_tree(hot, "/usr/");
    sets(hot);
    int living = CHILDREN, tid, ends = 0, memory[CHILDREN];
    struct told told = {0, 0};
    pid_t children[CHILDREN];
    for (int at = 0; at < CHILDREN; at++)
        memory[at] = open_memory(children[at] = start());
    while (living) {
        tid = hot_wait(hot, 1, &told);
        int status = told.status;
        assert(tid > 0);
        int at = 0;
        while (children[at] != tid)
            at++;
        if (WIFSTOPPED(status)) {
            int signal = status >> 16 ? 0 : WSTOPSIG(status);
            if (rand() % 200 == 0)
                kill(children[rand() % CHILDREN], SIGKILL);
            if (rand() % 10 == 0)
                hot_add(hot, rand() % 2 ? READS : DIRECTORIES, "/usr/known", rand() % 2 ? 4 : 10);
            if (rand() % 10 == 0)
                hot_add(hot, ADDRESSES, "////////////////", rand() % 17);
            if (rand() % 100 == 0)
                hot_clear(hot, rand() % TREE);
            ptrace(PTRACE_CONT, tid, 0, (void *)(long)signal);
            if (rand() % 50 == 0)
                hot_take_back(hot, tid);
            else
                hot_lend(hot, tid, rand() % 20 ? memory[at] : -1, rand() % 20 == 0);
            continue;
        }
        ends++;
        close(memory[at]);
        if (time(NULL) < end)
            memory[at] = open_memory(children[at] = start());
        else
            living--, children[at] = 0;
        if (time(NULL) >= end)
            for (int other = 0; other < CHILDREN; other++)
                if (children[other])
                    kill(children[other], SIGKILL);
    }
    while (hot_rest(hot, &told))
        continue;
    printf("%llu stops, %d ends\n", (unsigned long long)hot_stops(hot), ends);
    hot_free(hot);
    return 0;
}
