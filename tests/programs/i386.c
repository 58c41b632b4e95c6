/* A program of 32 bits and without a C library, so that no 32-bit one has to be installed: says hello, exits with 5. */

static long call(long number, long first, long second, long third)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
    return result;
}

void _start(void)
{
    static const char hello[] = "hello from i386\n";
    call(4, 1, (long)hello, sizeof hello - 1);
    call(1, 5, 0, 0);
}
