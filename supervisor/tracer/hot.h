/* What hot.c, hot_paths.c and notify/hot_notify.c share; see the head of hot.c. */
#ifndef HOT_H
#define HOT_H
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    MOST_CALLS = 512,  /* above every number; x32 numbers are far above */
    MOST_PATHS = 2,    /* of a call */
    MOST_TREES = 32,
    MOST_QUEUED = 256,
    MOST_PLACES = 32,
    LONG_PATH = 4096,
    TASKS_IN_PAGE = 1024,
    TASK_PAGES = 4096, /* pid_max is at most 4 Mi */
    BY_NUMBER = -2,    /* `memory` of a task whose memory is read by its number (process_vm_readv) */
};

/* Numbers of the sets, as compiled.py has them. TREE: found here, good for reading and writing. */
enum { READS, WRITES, PLAIN, DIRECTORIES, ADDRESSES, TREE, SETS };

struct entry {
    uint64_t hash;
    uint32_t length;
    char *text;
};

struct set {
    struct entry *entries; /* open addressing; a free one has no text */
    uint32_t capacity, count;
};

struct path {
    int8_t at, dirfd, flags, at_flags;
    uint8_t write, magic, entry;
    uint32_t writing, unless, empty, relative, nofollow;
};

struct call {
    uint8_t is_known, is_kept, changes, moves, paths;
    int8_t word, name, length; /* -1: none */
    uint32_t needs, others;
    uint64_t bits;
    struct path path[MOST_PATHS];
};

struct task {
    uint8_t is_lent, is_skipped;
    uint8_t moves; /* it may be in a call that changes the working directory of all who share it */
    uint32_t lending; /* lent as long as this is that of `hot` */
    int memory; /* /proc/TID/mem, BY_NUMBER, or -1 */
};

/* A system call as its filter saw it. */
struct called {
    uint32_t arch, number;
    const uint64_t *args;
};

/* The working directory of a thread, as /proc has it. */
struct place {
    pid_t tid;
    uint64_t era; /* good as long as this is that of `hot` */
    int is_elsewhere; /* than in the mounted tree */
    int64_t until_ns;
    size_t length; /* without an end; 0: cannot be told */
    char text[LONG_PATH];
};

struct hot {
    uint32_t arch;
    uint64_t device;      /* st_dev of the mounted tree, to which links of this machine may lead; 0: there is none */
    unsigned state;       /* syscalls/quick.py, State */
    uint64_t stops;
    int64_t fresh_until_ns;
    struct call calls[MOST_CALLS];
    struct set sets[SETS];
    struct task *tasks[TASK_PAGES];
    struct place places[MOST_PLACES]; /* by tid, modulo their number */
    uint64_t era;
    unsigned moving; /* tasks with `moves` */
    char *trees[MOST_TREES];
    int tree_count;
    struct { pid_t tid; int status; } queue[MOST_QUEUED];
    int queued, next;
    unsigned since_drain;
    uint32_t lending;
};

/* What is told to Python along with a stop. */
struct told {
    int status;
    int has_changed; /* a call has passed that may have put a link where a directory was */
};

/* hot.c */
struct task *hot_task_for(struct hot *hot, pid_t tid);
int hot_is_lent(const struct hot *hot, const struct task *task);
int hot_may_pass(struct hot *hot, pid_t tid, const struct task *task, const struct called *called, struct told *told);
void hot_note_move(struct hot *hot, struct task *task, const struct called *called);
void hot_has_moved(struct hot *hot, struct task *task);

/* hot_paths.c */
int64_t hot_now_ns(void);
ssize_t hot_read(pid_t tid, int memory, void *to, size_t size, uint64_t address);
void hot_learn(struct set *set, const char *text, size_t length);
void hot_forget(struct set *set);
void hot_believe(struct hot *hot);
int hot_is_local(struct hot *hot, const struct path *rule, pid_t tid, int memory, const uint64_t args[6]);
int hot_is_local_address(struct hot *hot, const struct call *call, pid_t tid, int memory, const uint64_t args[6]);

#endif
