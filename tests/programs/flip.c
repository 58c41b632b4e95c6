/* Another thread changes connect(2)'s address all the time. flip IP_A PORT_A IP_B PORT_B COUNT: one line for each connection, the
   first one that the server sends. */
#include "seen.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in one, other;
static volatile struct sockaddr_in peer;
static volatile int over;

static void *flip(void *nothing)
{
    while (!over) {
        /* Port and address as one word: each is one of the two peers, whole. */
        memcpy((void *)&peer, &one, 8);
        memcpy((void *)&peer, &other, 8);
    }
    return nothing;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc != 6)
        return 2;
    one.sin_family = other.sin_family = AF_INET;
    one.sin_port = htons(atoi(argv[2]));
    other.sin_port = htons(atoi(argv[4]));
    inet_pton(AF_INET, argv[1], &one.sin_addr);
    inet_pton(AF_INET, argv[3], &other.sin_addr);
    peer = one;
    pthread_create(&thread, NULL, flip, NULL);
    for (int left = atoi(argv[5]); left > 0; left--) {
        char line[64] = {0};
        int fd = socket(AF_INET, SOCK_STREAM | (left % 2 ? SOCK_NONBLOCK : 0), 0);
        int result = connect(fd, (struct sockaddr *)&peer, sizeof peer);
        if (result < 0 && errno != EINPROGRESS) {
            see_call("connect", result);
        } else {
            fd_set set;
            FD_ZERO(&set);
            FD_SET(fd, &set);
            select(fd + 1, &set, NULL, NULL, NULL);
            if (read(fd, line, sizeof line - 1) <= 0)
                strcpy(line, "nothing\n");
            printf("%s", line);
        }
        close(fd);
    }
    over = 1;
    pthread_join(thread, NULL);
    return 0;
}
