/* A server of one thread: server PORT [IP]. Says "ready PORT", answers each HTTP request, ends at SIGTERM with 0. */
#include "seen.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int number)
{
    (void)number;
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    signal(SIGTERM, end);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, argc > 2 ? argv[2] : "0.0.0.0", &name.sin_addr);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) < 0 || listen(listener, 16) < 0) {
        perror("server");
        return 1;
    }
    socklen_t size = sizeof name;
    getsockname(listener, (struct sockaddr *)&name, &size);
    see("ready", "%d", ntohs(name.sin_port));
    for (;;) {
        struct sockaddr_in peer;
        char request[4096], answer[512], body[256], ip[32];
        size = sizeof peer;
        int connection = accept(listener, (struct sockaddr *)&peer, &size);
        if (connection < 0)
            continue;
        ssize_t got = read(connection, request, sizeof request - 1);
        request[got > 0 ? got : 0] = 0;
        inet_ntop(AF_INET, &peer.sin_addr, ip, sizeof ip);
        snprintf(body, sizeof body, "I am the local C program, asked by %s\n", ip);
        int count = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                             strlen(body), body);
        if (write(connection, answer, count) != count)
            perror("write");
        close(connection);
    }
}
