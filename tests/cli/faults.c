// Makes system calls on the files below one directory fail. `tests/cli/faults.rs` compiles this file and loads it into the program
// with LD_PRELOAD, so that every call of every format is reached, also those inside libraries.
//
// FAULT_BELOW   the directory, as the program names it
// FAULT_KIND    full:   from the Nth call on, every call that needs space on the disk fails with ENOSPC
//               eio:    the Nth call fails with EIO
//               eacces: the Nth call that takes a path fails with EACCES
//               eintr:  the Nth call that may be interrupted fails with EINTR
//               short:  every read and write handles a few bytes only
//               shrink: at the Nth read, the file loses its second half
// FAULT_AT      N, counted from 1
// FAULT_REPORT  the file that gets one line at the end: the number of calls that could fail, and the calls that did
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PATH = 1, SPACE = 2, WAIT = 4, READ = 8, WRITE = 16 };

static const char *below, *kind, *report;
static long at;
static atomic_long calls, failed;
static char first[600];
static char *names[4096]; // the path of each open file below the directory

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
    below = getenv("FAULT_BELOW");
    kind = getenv("FAULT_KIND");
    report = getenv("FAULT_REPORT");
    at = atol(getenv("FAULT_AT") ? getenv("FAULT_AT") : "0");
}

__attribute__((destructor)) static void end(void) {
    FILE *out = report ? fopen(report, "w") : NULL;
    if (out) {
        fprintf(out, "%ld %ld %s\n", calls, failed, first);
        fclose(out);
    }
}

// The program ends with `_exit`, which runs no destructor.
void _exit(int code) {
    end();
    syscall(SYS_exit_group, code);
    __builtin_unreachable();
}

static int is(const char *word) { return kind && strcmp(kind, word) == 0; }
static int under(const char *path) {
    size_t length = below ? strlen(below) : 0;
    return below && path && strncmp(path, below, length) == 0 && (path[length] == '/' || path[length] == 0);
}
static const char *name_of(int fd) { return fd >= 0 && fd < 4096 ? names[fd] : NULL; }

static void remember(int fd, const char *path) {
    if (fd >= 0 && fd < 4096) names[fd] = under(path) ? strdup(path) : NULL;
}

// Counts a call on `path`. Returns true, and sets errno, if this call has to fail.
static int fails(const char *call, const char *path, int sort) {
    int number = is("full")   ? (sort & SPACE ? ENOSPC : 0)
                 : is("eio")  ? EIO
                 : is("eacces") ? (sort & PATH ? EACCES : 0)
                 : is("eintr") ? (sort & WAIT ? EINTR : 0)
                 : is("shrink") ? (sort & READ ? -1 : 0)
                                : 0;
    if (!under(path) || number == 0) return 0;
    long count = ++calls;
    if (!(count == at || (is("full") && at > 0 && count > at))) return 0;
    if (failed++ == 0) snprintf(first, sizeof first, "%s %s", call, path);
    if (number == -1) {
        struct stat facts;
        if (stat(path, &facts) == 0) (void)!truncate(path, facts.st_size / 2);
        return 0;
    }
    errno = number;
    return 1;
}

static size_t shortened(int fd, size_t count) {
    if (!is("short") || !name_of(fd)) return count;
    size_t few = 1 + ++calls % 7;
    return count < few ? count : few;
}

static int opened(const char *call, int fd, const char *path) {
    (void)call;
    remember(fd, path);
    return fd;
}

#define OPEN(name)                                                                                   \
    int name(const char *path, int flags, ...) {                                                     \
        va_list rest;                                                                                \
        va_start(rest, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                      \
        va_end(rest);                                                                                \
        if (fails(#name, path, PATH | WAIT | (flags & O_CREAT ? SPACE : 0))) return -1;              \
        return opened(#name, REAL(name)(path, flags, mode), path);                                   \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd >= 0 && fd < 4096) names[fd] = NULL;
    return REAL(close)(fd);
}

#define FCNTL(name)                                                                                  \
    int name(int fd, int command, ...) {                                                             \
        va_list rest;                                                                                \
        va_start(rest, command);                                                                     \
        void *argument = va_arg(rest, void *);                                                       \
        va_end(rest);                                                                                \
        int result = REAL(name)(fd, command, argument);                                              \
        if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && name_of(fd)) remember(result, name_of(fd)); \
        return result;                                                                               \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

#define TRANSFER(name, result, parameters, arguments, sort)                                          \
    result name parameters {                                                                         \
        if (fails(#name, name_of(fd), sort)) return -1;                                              \
        count = shortened(fd, count);                                                                \
        return REAL(name) arguments;                                                                 \
    }
TRANSFER(read, ssize_t, (int fd, void *bytes, size_t count), (fd, bytes, count), WAIT | READ)
TRANSFER(pread, ssize_t, (int fd, void *bytes, size_t count, off_t from), (fd, bytes, count, from), WAIT | READ)
TRANSFER(pread64, ssize_t, (int fd, void *bytes, size_t count, off64_t from), (fd, bytes, count, from), WAIT | READ)
TRANSFER(write, ssize_t, (int fd, const void *bytes, size_t count), (fd, bytes, count), WAIT | SPACE | WRITE)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (fails("writev", name_of(fd), WAIT | SPACE | WRITE)) return -1;
    if (is("short") && name_of(fd) && count > 0) return write(fd, parts[0].iov_base, parts[0].iov_len);
    return REAL(writev)(fd, parts, count);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags) {
    if (fails("copy_file_range", name_of(to), SPACE | WRITE)) return -1;
    return REAL(copy_file_range)(from, from_at, to, to_at, shortened(to, count), flags);
}

#define ON_FILE(name, parameters, arguments, sort)                                                   \
    int name parameters {                                                                            \
        if (fails(#name, name_of(fd), sort)) return -1;                                              \
        return REAL(name) arguments;                                                                 \
    }
ON_FILE(fsync, (int fd), (fd), WAIT | SPACE)
ON_FILE(fdatasync, (int fd), (fd), WAIT | SPACE)
ON_FILE(ftruncate, (int fd, off_t length), (fd, length), WAIT | SPACE)
ON_FILE(ftruncate64, (int fd, off64_t length), (fd, length), WAIT | SPACE)
ON_FILE(flock, (int fd, int operation), (fd, operation), 0)

off64_t lseek64(int fd, off64_t offset, int from) {
    if (fails("lseek64", name_of(fd), 0)) return -1;
    return REAL(lseek64)(fd, offset, from);
}

#define ON_PATH(name, parameters, arguments, sort)                                                   \
    int name parameters {                                                                            \
        if (fails(#name, path, PATH | sort)) return -1;                                              \
        return REAL(name) arguments;                                                                 \
    }
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), SPACE)
ON_PATH(unlink, (const char *path), (path), 0)
ON_PATH(rmdir, (const char *path), (path), 0)
ON_PATH(rename, (const char *path, const char *to), (path, to), 0)

// Rust's library calls statx with null pointers to learn whether it exists. The header says that this never happens, so the
// compiler needs an opaque pointer to keep the check.
int statx(int directory, const char *restrict path, int flags, unsigned mask, struct statx *restrict facts) {
    const char *volatile opaque = path;
    const char *given = opaque;
    int named = given && given[0];
    if (fails("statx", named ? given : name_of(directory), named ? PATH : 0)) return -1;
    return REAL(statx)(directory, path, flags, mask, facts);
}

DIR *opendir(const char *path) {
    if (fails("opendir", path, PATH)) return NULL;
    return REAL(opendir)(path);
}
