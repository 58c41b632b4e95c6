/* Ways around a filter of x86-64 numbers: foreign int80 | x32 | io_uring. Prints the result of one harmless call. */
#include "seen.h"
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    char params[120] = {0};
    if (strcmp(way, "io_uring") == 0) {
        long fd = syscall(425, 4, params);
        if (fd >= 0)
            see("io_uring_setup", "a ring");
        else
            see_call("io_uring_setup", fd);
        return finish();
    }
#ifdef __x86_64__
    if (strcmp(way, "int80") == 0) {
        long result;
        /* getpid is 20 for i386. */
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
        see("getpid by int 0x80", "%s", result == getpid() ? "the pid" : "not the pid");
        return finish();
    }
    if (strcmp(way, "x32") == 0) {
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(0x40000000L | SYS_getpid) : "rcx", "r11", "memory");
        errno = -result;
        see_call("getpid by x32", result < 0 ? -1 : result);
        return finish();
    }
#endif
    return 2;
}
