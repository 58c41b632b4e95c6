/* The compiled loop alone, for sanitizers and valgrind: its sets against a plain list, and real tracees that pass bad
 * pointers and are killed at any moment. Built and run by test_compiled.py. hot_fuzz SEED SECONDS */
#include "../../../supervisor/tracer/hot.c"
#include "../../../supervisor/tracer/hot_paths.c"

#include "hot_calls.h"

enum { NAMES = 2000 };

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

static pid_t start(void) {
    int go[2];
    unsigned seed = rand();
    assert(!pipe(go));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        if (read(go[0], &byte, 1) != 1 || filter_calls(SECCOMP_RET_TRACE, 0))
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
    struct hot *hot = knowing_loop();
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
            learn_at_random(hot);
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
