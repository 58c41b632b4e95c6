/* Executes in turn the program that cannot see FILE and the one that can, while threads open FILE without a pause.
   turns FILE ROUNDS NEXT SEEN NEXT_SEEN: SEEN is 1 if this program can, NEXT_SEEN if NEXT can. Says who has seen otherwise. */
#include "seen.h"
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

extern char **environ;
static char **words;

static void look(const char *who)
{
    int fd = open(words[1], O_RDONLY);
    if ((fd >= 0) != (words[4][0] == '1'))
        see("wrong", "%s of %s, %s rounds to go", who, words[0], words[2]), _exit(1);
    close(fd);
}

static void *look_on(void *who)
{
    for (;;)
        look(who);
}

static void *execute(void *unused)
{
    char rounds[16];
    snprintf(rounds, sizeof rounds, "%d", atoi(words[2]) - 1);
    char *next[] = {words[3], words[1], rounds, words[0], words[5], words[4], NULL};
    if (atoi(words[2]) % 3 == 0)
        execve("/nowhere/at/all", next, environ);
    execve(words[3], next, environ);
    see("wrong", "execve of %s", words[3]), _exit(1);
    return unused;
}

int main(int argc, char **argv)
{
    words = argv;
    if (argc != 6)
        return 2;
    look("main");
    if (atoi(words[2]) == 0)
        return puts("done"), 0;
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, look_on, "thread");
    usleep(3000);
    if (atoi(words[2]) % 2) {
        pthread_create(&thread, NULL, execute, NULL);
        look_on("leader");
    }
    execute(NULL);
}
