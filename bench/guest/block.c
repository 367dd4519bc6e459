/*
 * Disk requests through Linux AIO, past the page cache: block DEVICE read|write seq|rand SIZE DEPTH SECONDS
 * prints requests and bytes a second. block spin SECONDS prints turns of an empty loop, for each second.
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
#include <time.h>
#include <unistd.h>

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int spin(double seconds)
{
  double begin = now(), second = begin, t;
  double turns = 0;
  do {
    for (volatile int i = 0; i < 100000; i++) {}
    turns += 100000;
    t = now();
    if (t - second < 1) continue;
    printf("spin %.0f\n", turns / (t - second));
    turns = 0;
    second = t;
  } while (t - begin < seconds);
  return 0;
}

int main(int argc, char **argv)
{
  if (argc == 3 && !strcmp(argv[1], "spin")) return spin(atof(argv[2]));
  if (argc != 7) return 2;
  int writes = !strcmp(argv[2], "write"), random = !strcmp(argv[3], "rand");
  unsigned size = atoi(argv[4]), depth = atoi(argv[5]);
  double seconds = atof(argv[6]);
  int fd = open(argv[1], O_RDWR | O_DIRECT);
  unsigned long long bytes = 0;
  if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes) != 0) return perror(argv[1]), 1;
  unsigned long long blocks = bytes / size, next = 0, state = 88172645463325252ull;
  char *buffers;
  if (posix_memalign((void **)&buffers, 4096, (size_t)size * depth)) return 1;
  memset(buffers, 0x5a, (size_t)size * depth);
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, depth, &context) != 0) return perror("io_setup"), 1;
  struct iocb *requests = calloc(depth, sizeof *requests);
  struct io_event *events = calloc(depth, sizeof *events);
  double begin = now(), end = begin + seconds, t = begin;
  unsigned running = 0;
  unsigned long long done = 0;
  for (unsigned i = 0; i < depth; i++) events[i].data = i;
  unsigned ready = depth;
  while (running || t < end) {
    for (unsigned i = 0; i < ready && t < end; i++) {
      unsigned slot = events[i].data;
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      unsigned long long block = random ? state % blocks : next++ % blocks;
      struct iocb *r = &requests[slot], *list[1] = {r};
      memset(r, 0, sizeof *r);
      r->aio_data = slot;
      r->aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
      r->aio_fildes = fd;
      r->aio_buf = (unsigned long)(buffers + (size_t)slot * size);
      r->aio_nbytes = size;
      r->aio_offset = block * size;
      if (syscall(SYS_io_submit, context, 1, list) != 1) return perror("io_submit"), 1;
      running++;
    }
    long got = syscall(SYS_io_getevents, context, 1, depth, events, 0);
    if (got < 0) return perror("io_getevents"), 1;
    for (long i = 0; i < got; i++) if ((long)events[i].res != size) return fprintf(stderr, "result %ld\n", (long)events[i].res), 1;
    running -= got;
    ready = got;
    done += got;
    t = now();
  }
  printf("requests %.1f bytes %.0f\n", done / (t - begin), done * (double)size / (t - begin));
  return 0;
}
