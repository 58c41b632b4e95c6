/* Where supervision shows (see docs/invisible.md). narrow strict | memory KIB FILE PORT | unreadable FILE. */
#include "seen.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void strict(void)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        /* SECCOMP_MODE_STRICT */
        if (prctl(PR_SET_SECCOMP, 1) < 0)
            syscall(SYS_exit, errno);
        syscall(SYS_exit, 0);
    }
    waitpid(pid, &status, 0);
    see("strict mode", "%d", status >> 8);
}

/* Room for `kib` more than there is by now; then an open and a connect. */
static void memory(const char *kib, const char *path, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    long pages = 0;
    FILE *sizes = fopen("/proc/self/statm", "r");
    if (fscanf(sizes, "%ld", &pages) != 1)
        exit(2);
    fclose(sizes);
    struct rlimit limit = {pages * sysconf(_SC_PAGESIZE) + atoi(kib) * 1024L, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
    see("open", "errno %d", open(path, O_RDONLY) < 0 ? errno : 0);
    see("connect", "errno %d", connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? errno : 0);
}

/* A path that goes on in a page that may not be read. */
static void unreadable(const char *path)
{
    long page = sysconf(_SC_PAGESIZE);
    char *both = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = both + page - strlen(path);
    mprotect(both + page, page, PROT_NONE);
    memcpy(at, path, strlen(path));
    see("open", "errno %d", open(at, O_RDONLY) < 0 ? errno : 0);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        strict();
    else if (argc == 5)
        memory(argv[2], argv[3], argv[4]);
    else
        unreadable(argv[2]);
    return finish();
}
