/*
 * A disk that fails, for programs that are started with LD_PRELOAD: calls that change something below the folder FAULT_DIR
 * return an error, write only half of what they are given, or kill the process before they do anything. The file FAULT_FILE
 * holds five numbers of 64 bits, which all processes and the one that chooses the faults share: calls so far; number of the
 * first call that fails (0: none); number of calls that fail from there on; errno, or 0 for half a write, -1 for a kill; calls
 * that have failed. Linux only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CALLS, FIRST, COUNT, ERRNO, FAILED, NUMBERS };

static volatile long long *shared;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FAULT_FILE");
  folder = getenv("FAULT_DIR");
  if (path == NULL || folder == NULL) return;
  int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
  int fd = real_open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *map = mmap(NULL, NUMBERS * sizeof(long long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map != MAP_FAILED) shared = map;
  close(fd);
}

static int is_below(const char *path) {
  size_t length = strlen(folder);
  return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int is_file_below(int fd) {
  if (shared == NULL) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return is_below(path);
}

/* Counts a call. Returns -1 for no fault, 0 for half a write, else the error. */
static int fault(int can_be_short) {
  long long call = __sync_add_and_fetch(&shared[CALLS], 1);
  long long first = shared[FIRST];
  if (first == 0 || call < first || call >= first + shared[COUNT]) return -1;
  int code = (int)shared[ERRNO];
  if (code == 0 && !can_be_short) return -1;
  __sync_add_and_fetch(&shared[FAILED], 1);
  if (code == -1) {
    kill(getpid(), SIGKILL);
    for (;;) pause(); /* The signal ends all threads, this one perhaps a moment later. */
  }
  return code;
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define FAIL_IF(below) \
  if (shared != NULL && (below)) { \
    int code = fault(0); \
    if (code > 0) { errno = code; return -1; } \
  }

/* Without a fault or with an error, as FAIL_IF; else `count` becomes half, but at least 1. */
#define FAIL_OR_HALVE(fd, count) \
  if (is_file_below(fd)) { \
    int code = fault(1); \
    if (code > 0) { errno = code; return -1; } \
    if (code == 0 && (count) > 1) (count) /= 2; \
  }

static int is_opened_to_write(const char *path, int flags) {
  return shared != NULL && (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0 && is_below(path);
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    FAIL_IF(is_opened_to_write(path, flags)) \
    return real(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int at, const char *path, int flags, ...) { \
    REAL(name); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    FAIL_IF(is_opened_to_write(path, flags)) \
    return real(at, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *bytes, size_t count) {
  REAL(write);
  FAIL_OR_HALVE(fd, count)
  return real(fd, bytes, count);
}

#define PWRITE(name, offset_type) \
  ssize_t name(int fd, const void *bytes, size_t count, offset_type offset) { \
    REAL(name); \
    FAIL_OR_HALVE(fd, count) \
    return real(fd, bytes, count, offset); \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* Half of several buffers is the first half of them, or of one. */
static ssize_t write_vectors(int fd, const struct iovec *vectors, int *count, struct iovec *first) {
  if (!is_file_below(fd)) return -1;
  int code = fault(1);
  if (code != 0) return code;
  if (*count > 1) *count /= 2;
  else {
    *first = *vectors;
    if (first->iov_len > 1) first->iov_len /= 2;
  }
  return 0;
}

ssize_t writev(int fd, const struct iovec *vectors, int count) {
  REAL(writev);
  struct iovec first;
  int before = count;
  ssize_t code = write_vectors(fd, vectors, &count, &first);
  if (code > 0) { errno = (int)code; return -1; }
  return real(fd, code == 0 && before == 1 ? &first : vectors, count);
}

#define PWRITEV(name, offset_type) \
  ssize_t name(int fd, const struct iovec *vectors, int count, offset_type offset) { \
    REAL(name); \
    struct iovec first; \
    int before = count; \
    ssize_t code = write_vectors(fd, vectors, &count, &first); \
    if (code > 0) { errno = (int)code; return -1; } \
    return real(fd, code == 0 && before == 1 ? &first : vectors, count, offset); \
  }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define ON_FD(name, parameters, ...) \
  int name parameters { \
    REAL(name); \
    FAIL_IF(is_file_below(fd)) \
    return real(__VA_ARGS__); \
  }
ON_FD(fsync, (int fd), fd)
ON_FD(fdatasync, (int fd), fd)
ON_FD(ftruncate, (int fd, off_t length), fd, length)
ON_FD(ftruncate64, (int fd, off64_t length), fd, length)

ssize_t copy_file_range(int from, off64_t *in, int fd, off64_t *out, size_t count, unsigned flags) {
  REAL(copy_file_range);
  FAIL_OR_HALVE(fd, count)
  return real(from, in, fd, out, count, flags);
}

#define ON_PATH(name, parameters, path, ...) \
  int name parameters { \
    REAL(name); \
    FAIL_IF(is_below(path)) \
    return real(__VA_ARGS__); \
  }
ON_PATH(rename, (const char *from, const char *to), to, from, to)
ON_PATH(mkdir, (const char *path, mode_t mode), path, path, mode)
ON_PATH(link, (const char *from, const char *to), to, from, to)

/* A full disk lets files be removed; one that became read-only or is broken does not. */
int unlink(const char *path) {
  REAL(unlink);
  FAIL_IF(is_below(path) && shared[ERRNO] != ENOSPC)
  return real(path);
}
