/* The innermost loop of the second engine (loop.py, seccomp_unotify(2)): receives notifications, and has the kernel run the
 * calls that are known to be local. See the head of tracer/hot.c, of which this is a part; compiled.py calls it.
 *
 * Memory is read by thread number, since a thread may have executed another program since its last call. Should it have
 * been killed and its number be another's by now, then what is decided here is about a call that nobody waits for. */
#include "../tracer/hot.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

enum { OTHERS, NOTE, NOBODY }; /* what hot_notified returns */

static int go_on(int listener, uint64_t id) {
    struct seccomp_notif_resp response = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    while (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response))
        if (errno != EINTR)
            return errno == ENOENT ? 0 : -errno; /* ENOENT: killed meanwhile */
    return 0;
}

static int may_go_on(struct hot *hot, const struct seccomp_notif *note, struct told *told) {
    struct task *task = hot_task_for(hot, note->pid);
    const struct called called = {note->data.arch, (uint32_t)note->data.nr, (const uint64_t *)note->data.args};
    if (!task)
        return 0;
    hot_has_moved(hot, task);
    hot_note_move(hot, task, &called);
    /* Of another ABI any call may be an execve(2), which even for those that are skipped is Python's to know of. */
    int is_native = called.arch == hot->arch && called.number < MOST_CALLS;
    if (is_native && hot_is_lent(hot, task) && hot_may_pass(hot, note->pid, task, &called, told))
        return 1;
    task->is_lent = 0;
    return 0;
}

/* NOTE: `note` is Python's to answer. OTHERS: the descriptor `others` is readable, or `patience_ms` has passed. NOBODY: no
 * thread with this filter is left. Or -errno. `told` as for hot_wait. */
int hot_notified(struct hot *hot, unsigned state, int listener, int others, int patience_ms, struct seccomp_notif *note,
                 struct told *told) {
    struct pollfd polled[] = {{.fd = listener, .events = POLLIN}, {.fd = others, .events = POLLIN}};
    int64_t until_ns = hot_now_ns() + patience_ms * INT64_C(1000000);
    hot->state = state;
    for (;;) {
        int64_t left_ns = until_ns - hot_now_ns();
        if (left_ns < 0)
            return OTHERS;
        int ready = poll(polled, 2, left_ns / 1000000 + 1);
        if (ready < 0)
            return errno == EINTR ? OTHERS : -errno;
        if (ready == 0)
            return OTHERS;
        if (polled[0].revents & POLLIN) {
            memset(note, 0, sizeof *note);
            if (!ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, note)) {
                if (!may_go_on(hot, note, told))
                    return NOTE;
                hot->stops++;
                int result = go_on(listener, note->id);
                if (result < 0)
                    return result;
            } else if (errno != ENOENT && errno != EINTR) { /* its thread has gone, or takes a signal */
                return -errno;
            }
        } else if (polled[0].revents) {
            return NOBODY;
        }
        if (polled[1].revents)
            return OTHERS;
    }
}

static int is_gone(pid_t tid) {
    return kill(tid, 0) && errno == ESRCH;
}

/* Nobody is lent any more: a process executes another program. Threads that it ends in the midst of a call that changes the
 * working directory are not heard of again. */
void hot_take_all_back(struct hot *hot) {
    hot->lending++;
    for (int page = 0; hot->moving && page < TASK_PAGES; page++)
        for (int at = 0; hot->tasks[page] && at < TASKS_IN_PAGE; at++)
            if (hot->tasks[page][at].moves && is_gone(page * TASKS_IN_PAGE + at))
                hot_has_moved(hot, &hot->tasks[page][at]);
}
