/* What every checker prints: one line for each thing it saw, so that two runs can be compared line by line. */
#ifndef SEEN_H
#define SEEN_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

/* A fact that must be the same wherever the program runs. */
__attribute__((format(printf, 2, 3), unused)) static void see(const char *what, const char *format, ...)
{
    va_list arguments;
    printf("%s: ", what);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* The result of a call: its value if >= 0, else the name of errno. */
__attribute__((unused)) static void see_call(const char *what, long result)
{
    int number = errno;
    if (result < 0)
        see(what, "errno %d (%s)", number, strerror(number));
    else
        see(what, "ok %ld", result);
}

/* Something that the program can judge by itself. */
__attribute__((unused)) static void check(const char *what, int holds)
{
    printf("%s %s\n", holds ? "PASS" : "FAIL", what);
    fflush(stdout);
    failures += !holds;
}

__attribute__((unused)) static unsigned long checksum(const unsigned char *bytes, size_t size)
{
    unsigned long sum = 5381;
    for (size_t at = 0; at < size; at++)
        sum = sum * 33 + bytes[at];
    return sum;
}

__attribute__((unused)) static int finish(void)
{
    printf("%s\n", failures ? "FAILED" : "OK");
    return failures != 0;
}
#endif
