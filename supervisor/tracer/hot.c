/* The innermost loop of the tracer (loop.py), for speed: waits, and lets calls that are known to be local pass.
 *
 * Optional: without it loop.py does the same by itself. It is a plain shared library without any of Python's API, called
 * by compiled.py through ctypes, which gives up the GIL meanwhile. Everything here belongs to the thread of the tracer,
 * which alone calls these functions, so there are no locks.
 *
 * Nothing is decided here. What may pass are calls whose paths Python has found to be local (the sets below are copies of
 * syscalls/known.py), and paths of which the same can be told in the same way: below a tree of which policy says that all
 * of it is local, and no symbolic link (syscalls/files/mounted/crossing.py). Everything else is returned to Python as
 * waitpid(2) gave it, and so is every stop of a thread that Python has not lent: one whose call is in progress, that is
 * new, or that has just executed another program. Of processes that are skipped (skipping.py) nearly everything passes. */
#include "hot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECCOMP_STATUS (PTRACE_EVENT_SECCOMP << 16 | SIGTRAP << 8 | 0x7f)
#define SYSCALL_STOP (SIGTRAP | 0x80)

enum {
    DRAIN_EVERY = 512, /* stops: some milliseconds of them */
};

/* -- stops ---------------------------------------------------------------------------------------------------------- */

static struct task *task_of(struct hot *hot, pid_t tid) {
    struct task *page = tid > 0 && tid < TASK_PAGES * TASKS_IN_PAGE ? hot->tasks[tid / TASKS_IN_PAGE] : NULL;
    return page ? &page[tid % TASKS_IN_PAGE] : NULL;
}

/* The same for one that may never have been lent; NULL: there is no room. */
struct task *hot_task_for(struct hot *hot, pid_t tid) {
    if (tid <= 0 || tid >= TASK_PAGES * TASKS_IN_PAGE)
        return NULL;
    struct task **page = &hot->tasks[tid / TASKS_IN_PAGE];
    if (!*page && !(*page = calloc(TASKS_IN_PAGE, sizeof **page)))
        return NULL;
    return &(*page)[tid % TASKS_IN_PAGE];
}

int hot_is_lent(const struct hot *hot, const struct task *task) {
    return task->is_lent && task->lending == hot->lending;
}

static void has_changed(struct hot *hot, struct told *told) {
    hot_forget(&hot->sets[DIRECTORIES]);
    hot->era++;
    told->has_changed = 1;
}

int hot_may_pass(struct hot *hot, pid_t tid, const struct task *task, const struct called *called, struct told *told) {
    int memory = task->memory;
    const uint64_t *args = called->args;
    if (called->arch != hot->arch || called->number >= MOST_CALLS)
        return task->is_skipped;
    const struct call *call = &hot->calls[called->number];
    if (task->is_skipped && !call->is_kept) {
        if (call->changes)
            has_changed(hot, told);
        return 1;
    }
    if (!call->is_known || !(call->needs & hot->state))
        return 0;
    if (call->word >= 0) {
        uint64_t word;
        if (hot_read(tid, memory, &word, sizeof word, args[call->word]) != sizeof word || (word & call->bits))
            return 0;
    }
    if (call->name >= 0 && !hot_is_local_address(hot, call, tid, memory, args))
        return 0;
    for (int at = 0; at < call->paths; at++)
        if (!hot_is_local(hot, &call->path[at], tid, memory, args))
            return 0;
    if (call->changes)
        has_changed(hot, told);
    return 1;
}

/* A call that changes the working directory of all who share it does so at some moment before the next stop of its task. */
void hot_note_move(struct hot *hot, struct task *task, const struct called *called) {
    if (called->arch == hot->arch && called->number < MOST_CALLS && !hot->calls[called->number].moves)
        return;
    task->moves = 1;
    hot->moving++;
    hot->era++;
}

void hot_has_moved(struct hot *hot, struct task *task) {
    hot->moving -= task->moves;
    task->moves = 0;
}

static int look(pid_t tid, struct __ptrace_syscall_info *about) {
    long got = ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof *about, about);
    return got >= (long)(offsetof(struct __ptrace_syscall_info, seccomp) + sizeof about->seccomp.args + 8) &&
           about->op == PTRACE_SYSCALL_INFO_SECCOMP;
}

/* Whether the stop has been dealt with. */
static int deal_with(struct hot *hot, pid_t tid, struct told *told) {
    struct task *task = task_of(hot, tid);
    int status = told->status;
    if (!task)
        return 0;
    hot_has_moved(hot, task);
    if (!WIFSTOPPED(status) || status >> 16 == PTRACE_EVENT_EXEC)
        hot->era++; /* the number may become another's */
    struct __ptrace_syscall_info about;
    int is_call = status == SECCOMP_STATUS && look(tid, &about);
    struct called called = {0};
    if (is_call) {
        called = (struct called){about.arch, about.seccomp.nr, (const uint64_t *)about.seccomp.args};
        hot_note_move(hot, task, &called);
    }
    if (!hot_is_lent(hot, task))
        return 0;
    if (status == SECCOMP_STATUS) {
        if (is_call && hot_may_pass(hot, tid, task, &called, told)) {
            hot->stops++;
            ptrace(PTRACE_CONT, tid, 0, 0); /* ESRCH: killed meanwhile; its end comes next */
            return 1;
        }
    } else if (WIFSTOPPED(status) && status >> 16 == 0 && WSTOPSIG(status) != SYSCALL_STOP) {
        hot->stops++;
        ptrace(PTRACE_CONT, tid, 0, (void *)(long)WSTOPSIG(status));
        return 1;
    }
    task->is_lent = 0;
    return 0;
}

/* waitpid(2) prefers the newest child. Now and then all that have stopped are taken at once, so that the older ones have
 * their turn while others stop again and again. */
static void drain(struct hot *hot) {
    hot->since_drain = hot->queued = hot->next = 0;
    while (hot->queued < MOST_QUEUED) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);
        if (tid <= 0)
            return;
        hot->queue[hot->queued].tid = tid;
        hot->queue[hot->queued++].status = status;
    }
}

/* The next stop or end that is Python's, with its status; or -errno of waitpid(2). `has_changed` is set, never unset. */
int hot_wait(struct hot *hot, unsigned state, struct told *told) {
    hot->state = state;
    for (;;) {
        pid_t tid;
        if (hot->next < hot->queued) {
            tid = hot->queue[hot->next].tid;
            told->status = hot->queue[hot->next++].status;
        } else if (++hot->since_drain >= DRAIN_EVERY) {
            drain(hot);
            continue;
        } else if ((tid = waitpid(-1, &told->status, __WALL)) < 0) {
            return -errno;
        }
        if (!deal_with(hot, tid, told))
            return tid;
    }
}

/* What has been taken from the kernel and not been returned yet; 0 if nothing has. */
int hot_rest(struct hot *hot, struct told *told) {
    if (hot->next >= hot->queued)
        return 0;
    told->status = hot->queue[hot->next].status;
    return hot->queue[hot->next++].tid;
}

/* -- what Python tells ---------------------------------------------------------------------------------------------- */

struct hot *hot_new(uint32_t arch, uint64_t device) {
    struct hot *hot = calloc(1, sizeof *hot);
    if (hot) {
        hot->arch = arch;
        hot->device = device;
    }
    return hot;
}

void hot_free(struct hot *hot) {
    for (int at = 0; at < SETS; at++)
        hot_forget(&hot->sets[at]);
    for (int at = 0; at < TASK_PAGES; at++)
        free(hot->tasks[at]);
    for (int at = 0; at < hot->tree_count; at++)
        free(hot->trees[at]);
    free(hot);
}

void hot_call(struct hot *hot, unsigned number, unsigned needs, int changes, int moves, int word, uint64_t bits) {
    if (number < MOST_CALLS)
        hot->calls[number] = (struct call){
            .is_known = 1, .changes = changes, .moves = moves, .word = word, .bits = bits, .needs = needs, .name = -1};
}

/* After hot_call: a sockaddr of it. */
void hot_address(struct hot *hot, unsigned number, int name, int length, unsigned others) {
    if (number < MOST_CALLS) {
        hot->calls[number].name = name;
        hot->calls[number].length = length;
        hot->calls[number].others = others;
    }
}

/* After hot_call, if at all: a call that is Python's in skipped processes as in all others. */
void hot_keep(struct hot *hot, unsigned number) {
    if (number < MOST_CALLS)
        hot->calls[number].is_kept = 1;
}

/* After hot_call: one more path of it. */
void hot_path(struct hot *hot, unsigned number, int at, int dirfd, int write, int flags, unsigned writing, unsigned unless,
              unsigned empty, unsigned relative, int magic, int entry, int at_flags, unsigned nofollow) {
    struct call *call = number < MOST_CALLS ? &hot->calls[number] : NULL;
    if (!call || call->paths == MOST_PATHS) {
        if (call)
            call->is_known = 0;
        return;
    }
    call->path[call->paths++] = (struct path){.at = at, .dirfd = dirfd, .flags = flags, .write = write, .magic = magic,
        .writing = writing, .unless = unless, .empty = empty, .relative = relative, .entry = entry,
        .at_flags = at_flags, .nofollow = nofollow};
}

/* All below this path, which ends with a slash, is local, for reading and for writing. */
void hot_tree(struct hot *hot, const char *path) {
    if (hot->tree_count < MOST_TREES && (hot->trees[hot->tree_count] = strdup(path)))
        hot->tree_count++;
}

void hot_add(struct hot *hot, int number, const char *path, size_t length) {
    if (number == DIRECTORIES && !hot->sets[DIRECTORIES].count)
        hot_believe(hot);
    hot_learn(&hot->sets[number], path, length);
}

void hot_clear(struct hot *hot, int number) {
    hot_forget(&hot->sets[number]);
    if (number == READS || number == WRITES)
        hot_forget(&hot->sets[TREE]);
}

/* The next stops of this thread may be dealt with here, until one is returned. `memory`: see struct task. */
void hot_lend(struct hot *hot, int tid, int memory, int is_skipped) {
    struct task *task = hot_task_for(hot, tid);
    if (task)
        *task = (struct task){.is_lent = 1, .is_skipped = is_skipped, .moves = task->moves, .lending = hot->lending,
            .memory = memory};
}

/* The thread is gone, or its memory. */
void hot_take_back(struct hot *hot, int tid) {
    struct task *task = task_of(hot, tid);
    if (task) {
        task->is_lent = 0;
        hot_has_moved(hot, task);
    }
}

uint64_t hot_stops(const struct hot *hot) {
    return hot->stops;
}
