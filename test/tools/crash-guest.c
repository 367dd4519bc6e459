/*
 * What crash-writer.ts does, in a guest: crash-guest DEVICE FIRST SEED writes numbered blocks past the page cache, eight at
 * a time, and after each flush prints the number of writes that it covers.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 8192, DEPTH = 8, PER_FLUSH = 64 };

static unsigned block_of(unsigned seed, unsigned i)
{
  unsigned x = (i ^ seed) * 0x9e3779b1u;
  x = (x ^ (x >> 15)) * 0x85ebca6bu;
  return (x ^ (x >> 13)) % BLOCKS;
}

static void fill(unsigned *block, unsigned number)
{
  for (int i = 0; i < BLOCK / 4; i++) block[i] = number;
}

int main(int argc, char **argv)
{
  if (argc != 4) return 2;
  unsigned number = atoi(argv[2]), seed = atoi(argv[3]), since = 0;
  int fd = open(argv[1], O_RDWR | O_DIRECT);
  char *buffers;
  aio_context_t context = 0;
  if (fd < 0 || posix_memalign((void **)&buffers, BLOCK, BLOCK * DEPTH)) return perror(argv[1]), 1;
  if (syscall(SYS_io_setup, DEPTH, &context) != 0) return perror("io_setup"), 1;
  struct iocb requests[DEPTH], *list[DEPTH];
  struct io_event events[DEPTH];
  for (;;) {
    unsigned first = number;
    int count = 0;
    for (; count < DEPTH; count++, number++) {
      unsigned block = block_of(seed, number);
      int again = 0;
      // the kernel does not order writes of one block that are under way at the same time
      for (int i = 0; i < count; i++) again |= block_of(seed, first + i) == block;
      if (again) break;
      fill((unsigned *)(buffers + count * BLOCK), number);
      memset(&requests[count], 0, sizeof requests[count]);
      requests[count].aio_lio_opcode = IOCB_CMD_PWRITE;
      requests[count].aio_fildes = fd;
      requests[count].aio_buf = (unsigned long)(buffers + count * BLOCK);
      requests[count].aio_nbytes = BLOCK;
      requests[count].aio_offset = (long long)block * BLOCK;
      list[count] = &requests[count];
    }
    if (syscall(SYS_io_submit, context, count, list) != count) return perror("io_submit"), 1;
    for (int got = 0; got < count;) {
      long n = syscall(SYS_io_getevents, context, 1, count, events, 0);
      if (n < 0) return perror("io_getevents"), 1;
      for (long i = 0; i < n; i++) {
        if ((long)events[i].res != BLOCK) return printf("result %ld\n", (long)events[i].res), 1;
      }
      got += n;
    }
    for (unsigned i = first; i < number; i++) {
      if (i % 5 != 0) continue;
      unsigned other = BLOCKS + block_of(~seed, i);
      if (i % 2 == 0) {
        unsigned long long range[2] = {(unsigned long long)other * BLOCK, BLOCK * (other + 4 > 2 * BLOCKS ? 1 : 4)};
        if (ioctl(fd, BLKDISCARD, range) != 0) return perror("BLKDISCARD"), 1;
      } else {
        fill((unsigned *)buffers, i);
        if (pwrite(fd, buffers, BLOCK, (off_t)other * BLOCK) != BLOCK) return perror("pwrite"), 1;
      }
    }
    since += count;
    if (since < PER_FLUSH) continue;
    since = 0;
    if (fdatasync(fd) != 0) return perror("fdatasync"), 1;
    printf("covered %u\n", number - 1);
    fflush(stdout);
  }
}
