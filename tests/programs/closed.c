/* closed [undumpable]: what the host is called by /etc/hostname and uname(2), also to a child; after it has closed itself to
 * others, if so asked. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *who) {
    char line[100] = {0};
    struct utsname name;
    int fd = open("/etc/hostname", O_RDONLY);
    if (fd < 0 || read(fd, line, sizeof line - 1) < 0 || uname(&name))
        _exit(1);
    line[strcspn(line, "\n")] = 0;
    printf("%s: %s %s\n", who, line, name.nodename);
    fflush(stdout);
}

int main(int argc, char **argv) {
    say("at first");
    if (argc > 1 && !strcmp(argv[1], "undumpable") && prctl(PR_SET_DUMPABLE, 0))
        return 2;
    say("then");
    if (fork() == 0) {
        say("child");
        _exit(0);
    }
    wait(NULL);
    return 0;
}
