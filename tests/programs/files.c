/* Every way to look at a tree of files: files DIRECTORY (the /app of the demo pod, or a copy of it). */
#include "seen.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char path[PATH_MAX];
static const char *root;

static const char *at(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void see_stat(const char *what, int result, const struct stat *st)
{
    if (result < 0)
        see_call(what, result);
    else
        see(what, "mode %o size %lld", st->st_mode, S_ISDIR(st->st_mode) ? 0LL : (long long)st->st_size);
}

static void reading(void)
{
    unsigned char bytes[64] = {0}, other[16] = {0};
    int fd = open(at("config.json"), O_RDONLY);
    check("open gives a descriptor", fd >= 0);
    see("read", "%zd %.10s", read(fd, bytes, 10), bytes);
    see_call("lseek current", lseek(fd, 0, SEEK_CUR));
    see("pread", "%zd %.8s", pread(fd, other, 8, 2), other);
    see_call("lseek after pread", lseek(fd, 0, SEEK_CUR));
    see_call("lseek end", lseek(fd, 0, SEEK_END));
    see_call("read at the end", read(fd, bytes, 10));
    see_call("lseek before the start", lseek(fd, -1, SEEK_SET));
    see_call("lseek back", lseek(fd, 4, SEEK_SET));
    struct iovec parts[2] = {{bytes, 5}, {other, 4}};
    see_call("readv", readv(fd, parts, 2));
    see("readv bytes", "%.5s|%.4s", bytes, other);
    int copy = dup(fd);
    see_call("the duplicate shares the offset", lseek(copy, 0, SEEK_CUR));
    struct stat st;
    see_stat("fstat", fstat(copy, &st), &st);
    close(fd);
    see_call("read by the duplicate", read(copy, bytes, 3));
    see_call("write on a read-only descriptor", write(copy, "x", 1));
    close(copy);
    see_call("read after close", read(copy, bytes, 1));
    fd = open(at("empty"), O_RDONLY | O_CLOEXEC);
    see_call("read of an empty file", read(fd, bytes, 10));
    see("FD_CLOEXEC", "%d", fcntl(fd, F_GETFD));
    see("access mode", "%d", fcntl(fd, F_GETFL) & O_ACCMODE);
    close(fd);
}

static void big(void)
{
    int fd = open(at("big.bin"), O_RDONLY);
    struct stat st;
    see_stat("fstat of the big file", fstat(fd, &st), &st);
    unsigned char *all = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    check("mmap of the big file", all != MAP_FAILED);
    if (all != MAP_FAILED)
        see("checksum by mmap", "%lx", checksum(all, st.st_size));
    unsigned char *copy = malloc(st.st_size);
    ssize_t got, whole = 0;
    while ((got = read(fd, copy + whole, 65536)) > 0)
        whole += got;
    see("bytes by read", "%zd", whole);
    see("checksum by read", "%lx", checksum(copy, whole));
    see_call("pread in the middle", pread(fd, copy, 100, 4000000));
    see("checksum in the middle", "%lx", checksum(copy, 100));
    free(copy);
    int out = memfd_create("out", 0);
    off_t offset = 1000000;
    see_call("sendfile", sendfile(out, fd, &offset, 500000));
    see_call("sendfile's offset", offset);
    close(out);
    close(fd);
}

static void looking(void)
{
    struct stat st;
    see_stat("stat", stat(at("config.json"), &st), &st);
    see_stat("stat of a directory", stat(at("many"), &st), &st);
    see_stat("stat through a relative link", stat(at("relative"), &st), &st);
    see_stat("lstat of a link", lstat(at("relative"), &st), &st);
    see_stat("stat of a dangling link", stat(at("dangling"), &st), &st);
    see_stat("stat of a loop", stat(at("loop"), &st), &st);
    see_stat("stat below a file", stat(at("config.json/x"), &st), &st);
    see_stat("stat of what is missing", stat(at("missing"), &st), &st);
    see_stat("stat of a directory by a slash", stat(at("many/"), &st), &st);
    see_stat("stat of a file by a slash", stat(at("config.json/"), &st), &st);
    see_stat("stat of a FIFO", stat(at("fifo"), &st), &st);
    see_stat("stat of the program", stat(at("run"), &st), &st);
    stat(at("config.json"), &st);
    struct stat again;
    fstatat(AT_FDCWD, at("relative"), &again, 0);
    check("a link and its target are one inode", st.st_ino == again.st_ino && st.st_dev == again.st_dev);
    int fd = open(at("config.json"), O_RDONLY);
    fstat(fd, &again);
    check("stat and fstat are one inode", st.st_ino == again.st_ino && st.st_mtime == again.st_mtime);
    close(fd);
    /* struct statx of the kernel, which not every C library declares: stx_size is its sixth 8-byte word. */
    unsigned long long large[32] = {0};
    see_call("statx", syscall(SYS_statx, AT_FDCWD, at("config.json"), 0, 0x7ff, large));
    see("statx size", "%llu", large[5]);
    see_call("access R_OK", access(at("config.json"), R_OK));
    see_call("access of what is missing", access(at("missing"), F_OK));
    see_call("faccessat", faccessat(AT_FDCWD, at("many"), F_OK, 0));
    char target[256] = {0};
    see("readlink", "%zd %s", readlink(at("relative"), target, sizeof target - 1), target);
    memset(target, 0, sizeof target);
    see("readlink cut short", "%zd %s", readlink(at("relative"), target, 4), target);
    see_call("readlink of a file", readlink(at("config.json"), target, sizeof target));
    see_call("readlink of what is missing", readlink(at("missing"), target, sizeof target));
}

static void read_line(const char *what, int fd)
{
    char bytes[32] = {0};
    ssize_t got = read(fd, bytes, sizeof bytes - 1);
    bytes[strcspn(bytes, "\n")] = 0;
    see(what, "%zd %s", got, bytes);
}

static void opening(void)
{
    see_call("open of what is missing", open(at("missing"), O_RDONLY));
    see_call("open below a file", open(at("config.json/x"), O_RDONLY));
    see_call("open of a file as a directory", open(at("config.json"), O_RDONLY | O_DIRECTORY));
    see_call("open of a link with O_NOFOLLOW", open(at("relative"), O_RDONLY | O_NOFOLLOW));
    see_call("open of a loop", open(at("loop"), O_RDONLY));
    char bytes[32] = {0};
    int fd = open(at("directory/file-0042"), O_RDONLY);
    read_line("read through a linked directory", fd);
    close(fd);
    int directory = open(root, O_RDONLY | O_DIRECTORY);
    check("open of a directory", directory >= 0);
    see_call("read of a directory", read(directory, bytes, 1));
    fd = openat(directory, "many/file-0007", O_RDONLY);
    read_line("read by openat", fd);
    close(fd);
    fd = openat(directory, "many/../names/with space", O_RDONLY);
    read_line("read by openat and ..", fd);
    close(fd);
    see_call("openat of what is missing", openat(directory, "missing", O_RDONLY));
    struct stat st;
    see_stat("fstatat", fstatat(directory, "many/file-0007", &st, 0), &st);
    see_stat("fstatat of a link", fstatat(directory, "relative", &st, AT_SYMLINK_NOFOLLOW), &st);
    see_stat("fstatat with AT_EMPTY_PATH", fstatat(directory, "", &st, AT_EMPTY_PATH), &st);
    char target[64] = {0};
    see("readlinkat", "%zd %s", readlinkat(directory, "directory", target, 63), target);
    see_call("openat below a closed descriptor", openat(987, "x", O_RDONLY));
    fd = open(at("config.json"), O_RDONLY);
    see_call("openat below a file", openat(fd, "x", O_RDONLY));
    close(fd);
    close(directory);
}

static int by_name(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void list(const char *name)
{
    static char *names[4096];
    int count = 0;
    unsigned long types = 0;
    DIR *directory = opendir(at(name));
    if (directory == NULL) {
        see_call("opendir", -1);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL && count < 4096) {
        names[count++] = strdup(entry->d_name);
        types += entry->d_type;
    }
    rewinddir(directory);
    int again = 0;
    while (readdir(directory) != NULL)
        again++;
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    unsigned long sum = 0;
    for (int number = 0; number < count; number++) {
        sum = sum * 31 + checksum((unsigned char *)names[number], strlen(names[number]));
        if (count < 32)
            see("entry", "%.40s", (unsigned char)names[number][0] < 128 ? names[number] : "(not ASCII)");
        free(names[number]);
    }
    see(name, "%d entries, again %d, types %lu, names %lx", count, again, types, sum);
}

int main(int argc, char **argv)
{
    root = argc > 1 ? argv[1] : "/app";
    reading();
    big();
    looking();
    opening();
    list(".");
    list("names");
    list("many");
    list("empty-directory");
    list("missing");
    list("config.json");
    return finish();
}
