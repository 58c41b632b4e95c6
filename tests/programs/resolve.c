/* getaddrinfo(3) of each argument: "name" or "4:name", "6:name"; prints the addresses in order of their text. */
#include "seen.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int by_text(const void *left, const void *right)
{
    return strcmp(left, right);
}

int main(int argc, char **argv)
{
    for (int number = 1; number < argc; number++) {
        char *name = argv[number];
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *first, *one;
        if (name[0] && name[1] == ':') {
            hints.ai_family = name[0] == '4' ? AF_INET : AF_INET6;
            name += 2;
        }
        int result = getaddrinfo(name, "80", &hints, &first);
        if (result != 0) {
            see(argv[number], "%s", result == EAI_NONAME ? "no such name" : "another failure");
            continue;
        }
        static char texts[512][64];
        int count = 0;
        for (one = first; one != NULL && count < 512; one = one->ai_next) {
            void *ip = one->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
                                                 : (void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
            inet_ntop(one->ai_family, ip, texts[count++], sizeof *texts);
        }
        freeaddrinfo(first);
        qsort(texts, count, sizeof *texts, by_text);
        see(argv[number], "%d addresses", count);
        for (int at = 0; at < count && at < 4; at++)
            see(argv[number], "%s", texts[at]);
    }
    return finish();
}
