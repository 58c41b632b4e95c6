/* The sets of known paths, and what can be told of paths that are in none of them; see the head of hot.c. */
#include "hot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    SHORT_PATH = 256, /* bytes read at once; longer paths are Python's */
    MOST_KNOWN = 1 << 16,
};
static const int64_t FRESH_NS = 1000000000;
/* Calls that change a working directory are seen, but setns(2) and what others do to directories are not. */
static const int64_t PLACE_FRESH_NS = 10000000;

/* -- sets of paths ------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const char *text, size_t length) {
    uint64_t hash = 0x9e3779b97f4a7c15u ^ length, word;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&word, text, 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, text, length);
    hash = (hash ^ word) * 0xc4ceb9fe1a85ec53u;
    return hash ^ hash >> 29;
}

static struct entry *find(struct set *set, const char *text, size_t length, uint64_t hash) {
    for (uint32_t at = hash & (set->capacity - 1);; at = (at + 1) & (set->capacity - 1)) {
        struct entry *entry = &set->entries[at];
        if (!entry->text || (entry->hash == hash && entry->length == length && !memcmp(entry->text, text, length)))
            return entry;
    }
}

static int has(struct set *set, const char *text, size_t length) {
    return set->count && find(set, text, length, hash_of(text, length))->text != NULL;
}

void hot_forget(struct set *set) {
    for (uint32_t at = 0; at < set->capacity; at++)
        free(set->entries[at].text);
    free(set->entries);
    memset(set, 0, sizeof *set);
}

static int grow(struct set *set) {
    struct set larger = {.capacity = set->capacity ? set->capacity * 2 : 64, .count = set->count};
    larger.entries = calloc(larger.capacity, sizeof *larger.entries);
    if (!larger.entries)
        return 0;
    for (uint32_t at = 0; at < set->capacity; at++)
        if (set->entries[at].text)
            *find(&larger, set->entries[at].text, set->entries[at].length, set->entries[at].hash) = set->entries[at];
    free(set->entries);
    *set = larger;
    return 1;
}

/* What finds no room is not known, which costs time and nothing else. */
void hot_learn(struct set *set, const char *text, size_t length) {
    if (set->count >= MOST_KNOWN)
        hot_forget(set);
    if (2 * (set->count + 1) > set->capacity && !grow(set))
        return;
    uint64_t hash = hash_of(text, length);
    struct entry *entry = find(set, text, length, hash);
    if (entry->text)
        return;
    char *copy = malloc(length + 1);
    if (!copy)
        return;
    memcpy(copy, text, length);
    copy[length] = 0;
    *entry = (struct entry){hash, length, copy};
    set->count++;
}

/* -- paths ---------------------------------------------------------------------------------------------------------- */

int64_t hot_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Before a first directory becomes known. */
void hot_believe(struct hot *hot) {
    hot->fresh_until_ns = hot_now_ns() + FRESH_NS;
}

/* Whether no part of the path is empty, `.` or `..`; a slash at its beginning and one at its end are fine. */
static int is_normal(const char *path, size_t length) {
    size_t begin = path[0] == '/';
    while (begin < length) {
        const char *slash = memchr(path + begin, '/', length - begin);
        size_t end = slash ? (size_t)(slash - path) : length;
        size_t size = end - begin;
        if (size == 0 || (path[begin] == '.' && (size == 1 || (size == 2 && path[begin + 1] == '.'))))
            return 0;
        begin = end + 1;
    }
    return 1;
}

static int begins_with(const char *path, const char *text) {
    return !strncmp(path, text, strlen(text));
}

static int is_magic(const char *path) {
    return begins_with(path, "/proc/") || begins_with(path, "/dev/fd/") || begins_with(path, "/dev/std");
}

/* Absolute: whether the last name is no link, or `is_entry` and means it if it is one; in a directory of which Python knows
 * that it is reached by none. A directory is believed for a second. */
static int is_plain(struct hot *hot, char *path, size_t length, int is_entry) {
    char target[1];
    if (length > 1 && path[length - 1] == '/')
        path[--length] = 0;
    char *slash = memrchr(path, '/', length);
    if (!slash || slash == path || !hot->sets[DIRECTORIES].count)
        return 0;
    if (hot_now_ns() >= hot->fresh_until_ns) {
        hot_forget(&hot->sets[DIRECTORIES]);
        return 0;
    }
    return has(&hot->sets[DIRECTORIES], path, slash - path) && (is_entry || readlink(path, target, sizeof target) < 0);
}

static int below_tree(const struct hot *hot, const char *path, size_t length) {
    for (int at = 0; at < hot->tree_count; at++) {
        size_t size = strlen(hot->trees[at]);
        if (length > size && !memcmp(path, hot->trees[at], size))
            return 1;
    }
    return 0;
}

static int learn_absolute(struct hot *hot, const char *path, size_t length, int is_entry) {
    char copy[SHORT_PATH];
    /* What a name means there depends on who asks. */
    if (begins_with(path, "/proc") || begins_with(path, "/dev") || begins_with(path, "/sys"))
        return 0;
    if (!below_tree(hot, path, length) || !is_normal(path, length))
        return 0;
    memcpy(copy, path, length + 1);
    if (hot->device && !is_plain(hot, copy, length, is_entry))
        return 0;
    if (!is_entry)
        hot_learn(&hot->sets[TREE], path, length);
    return 1;
}

/* Whether a directory is none of the mounted tree; nobody is asked but the kernel (look.py). */
static int is_elsewhere(const struct hot *hot, const char *link) {
    struct statx about;
    return !statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, 0, &about) &&
           makedev(about.stx_dev_major, about.stx_dev_minor) != hot->device;
}

static void look_at(const struct hot *hot, struct place *place, const char *link) {
    place->is_elsewhere = is_elsewhere(hot, link);
    ssize_t length = place->is_elsewhere ? readlink(link, place->text, sizeof place->text) : 0;
    place->length = length > 1 && place->text[0] == '/' && (size_t)length < sizeof place->text ? length : 0;
}

/* The working directory takes two looks into /proc, which cost as much as all the rest of a stop: remembered. */
static const struct place *working_directory(struct hot *hot, pid_t tid, struct place *own) {
    char link[64];
    struct place *place = hot->moving ? own : &hot->places[tid % MOST_PLACES];
    if (!hot->moving && place->tid == tid && place->era == hot->era && hot_now_ns() < place->until_ns)
        return place;
    snprintf(link, sizeof link, "/proc/%d/cwd", tid);
    look_at(hot, place, link);
    place->tid = tid;
    place->era = hot->era;
    place->until_ns = hot_now_ns() + PLACE_FRESH_NS;
    return place;
}

static const struct place *directory(struct hot *hot, pid_t tid, int dirfd, struct place *own) {
    char link[64];
    if (dirfd == AT_FDCWD)
        return working_directory(hot, tid, own);
    snprintf(link, sizeof link, "/proc/%d/fd/%d", tid, dirfd);
    look_at(hot, own, link);
    return own;
}

static int is_local_relative(struct hot *hot, int is_unused, pid_t tid, int dirfd, const char *path, size_t length,
                             int is_entry) {
    struct place own;
    char whole[LONG_PATH];
    if (!hot->device)
        return is_unused; /* copied files: behind a descriptor that is not the pod's, whatever it says */
    int is_known = has(&hot->sets[PLAIN], path, length);
    if (is_known && is_unused)
        return 1;
    if ((dirfd < 0 && dirfd != AT_FDCWD) || !is_normal(path, length))
        return 0;
    const struct place *folder = directory(hot, tid, dirfd, &own);
    if (!folder->is_elsewhere)
        return 0;
    if (is_known)
        return 1;
    if (!folder->length || folder->length + length + 2 > sizeof whole)
        return 0;
    memcpy(whole, folder->text, folder->length);
    whole[folder->length] = '/';
    memcpy(whole + folder->length + 1, path, length + 1);
    if (!is_plain(hot, whole, folder->length + 1 + length, is_entry))
        return 0;
    if (!is_entry)
        hot_learn(&hot->sets[PLAIN], path, length);
    return 1;
}

/* As much as there is, at most `size` bytes; -1: nothing. */
ssize_t hot_read(pid_t tid, int memory, void *to, size_t size, uint64_t address) {
    if (memory == BY_NUMBER) {
        struct iovec here = {to, size}, there = {(void *)address, size};
        return process_vm_readv(tid, &here, 1, &there, 1, 0);
    }
    return memory < 0 || address > INT64_MAX ? -1 : pread(memory, to, size, (off_t)address);
}

int hot_is_local(struct hot *hot, const struct path *rule, pid_t tid, int memory, const uint64_t args[6]) {
    char path[SHORT_PATH];
    ssize_t got = hot_read(tid, memory, path, sizeof path, args[rule->at]);
    char *end = got > 0 ? memchr(path, 0, got) : NULL;
    if (!end)
        return 0;
    size_t length = end - path;
    if (length == 0)
        return (rule->empty & hot->state) != 0;
    int write = rule->write;
    if (rule->flags >= 0)
        write = (args[rule->flags] & rule->writing) && !(args[rule->flags] & rule->unless);
    int is_entry = rule->entry || (rule->at_flags >= 0 && (args[rule->at_flags] & rule->nofollow));
    is_entry = is_entry && path[length - 1] != '/';
    if (path[0] != '/') {
        int dirfd = rule->dirfd >= 0 ? (int)args[rule->dirfd] : AT_FDCWD;
        return is_local_relative(hot, (rule->relative & hot->state) != 0, tid, dirfd, path, length, is_entry);
    }
    if (!rule->magic && is_magic(path))
        return 0;
    return has(&hot->sets[write ? WRITES : READS], path, length) || has(&hot->sets[TREE], path, length) ||
           learn_absolute(hot, path, length, is_entry);
}

int hot_is_local_address(struct hot *hot, const struct call *call, pid_t tid, int memory, const uint64_t args[6]) {
    struct sockaddr_storage name;
    int length = (int)args[call->length];
    if (length < (int)sizeof name.ss_family || length > (int)sizeof name ||
        hot_read(tid, memory, &name, length, args[call->name]) != length)
        return 0;
    return (name.ss_family == AF_UNIX || (call->others & hot->state)) &&
           has(&hot->sets[ADDRESSES], (const char *)&name, length);
}
