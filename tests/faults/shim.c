/* Makes chosen file calls of a process fail, or kills the process at one of them.
 *
 *     cc -shared -fPIC -O2 -o shim.so shim.c -ldl -lpthread
 *     LD_PRELOAD=./shim.so python ...
 *
 * The process itself says when: faults_arm(prefix, first, mode, kinds) counts the calls that write, sync, rename,
 * remove or open something below the folder `prefix`, and lets something happen at number `first`. faults_disarm()
 * ends it. Counts and log lie in memory that is shared with forked children, so a parent can read them after a child
 * was killed.
 *
 * A file descriptor is below the folder if /proc/self/fd says so, whoever opened or duplicated it, and when. glibc
 * writes the buffers of its streams with calls that nobody can replace; streams below the folder (of fopen and
 * fdopen) are therefore made with fopencookie: they are buffered as ever, and what they write passes through here.
 * Not seen: stores into mapped memory, freopen, io_uring, and streams opened before faults_arm.
 */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE = 1, SYNC = 2, RENAME = 4, UNLINK = 8, OPEN = 16 };

/* What happens at call number `first`, and afterwards. tests/faults/shim.py has the same numbers. */
enum mode {
    COUNT = 0,       /* nothing */
    ONCE = 1,        /* EIO; afterwards all is well */
    FULL = 2,        /* EIO; afterwards ENOSPC for all that takes space; deleting and opening what is there go on */
    SHORT = 3,       /* a write writes half of its bytes, other calls as FULL; afterwards as FULL */
    DEAD = 4,        /* EIO; afterwards too, for every call */
    KILL_BEFORE = 5, /* SIGKILL instead of the call */
    KILL_AFTER = 6,  /* SIGKILL after the call */
    KILL_WITHIN = 7, /* SIGKILL after half of the bytes of a write; other calls as KILL_BEFORE */
};

#define ENTRIES 4096

struct entry {
    int error;
    char call[24];
    char path[228];
};

struct shared {
    atomic_int count;
    atomic_long bytes;
    struct entry log[ENTRIES];
};

struct verdict {
    int error;      /* fail with it */
    int half;       /* do half of it */
    int kill_after; /* die after it */
};

static struct shared *shared;
static char prefix[PATH_MAX];
static size_t prefix_length;
static int armed, first_call, chosen_mode, chosen_kinds;

#define REAL(name)                                                                                                    \
    ({                                                                                                                \
        static void *found;                                                                                           \
        if (!found) found = dlsym(RTLD_NEXT, #name);                                                                  \
        (__typeof__(&name)) found;                                                                                    \
    })

/* --- control --- */

__attribute__((constructor)) static void start(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) abort();
}

/* Begin to count below an absolute path without links; 0, or -1 if it is too long. */
int faults_arm(const char *folder, int first, int mode, int kinds) {
    prefix_length = strlen(folder);
    if (prefix_length >= sizeof prefix) return -1;
    memcpy(prefix, folder, prefix_length + 1);
    first_call = first, chosen_mode = mode, chosen_kinds = kinds;
    shared->count = 0;
    shared->bytes = 0;
    armed = 1;
    return 0;
}

void faults_disarm(void) { armed = 0; }

/* Calls counted since faults_arm. */
int faults_count(void) { return shared->count; }

/* Bytes written by calls that were counted. */
long faults_bytes(void) { return shared->bytes; }

/* One counted call: its name and path; returns the error it was made to fail with, 0 for none, -1: not known. */
int faults_entry(int number, char *call, char *path) {
    if (number < 1 || number > shared->count || number > ENTRIES) return -1;
    struct entry *entry = &shared->log[number - 1];
    memcpy(call, entry->call, sizeof entry->call);
    memcpy(path, entry->path, sizeof entry->path);
    return entry->error;
}

/* --- which calls, and what becomes of them --- */

static int is_watched(const char *path) {
    return !strncmp(path, prefix, prefix_length) && (path[prefix_length] == '/' || !path[prefix_length]);
}

/* The path of a descriptor; empty if it is no file. */
static void path_of(int fd, char *out) {
    char link[64];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    out[length < 0 ? 0 : length] = 0;
    errno = before;
}

static void absolute(int folder, const char *path, char *out) {
    out[0] = 0;
    if (!path) return;
    if (path[0] != '/') {
        if (folder != AT_FDCWD)
            path_of(folder, out);
        else if (!getcwd(out, PATH_MAX))
            out[0] = 0;
        strncat(out, "/", PATH_MAX - 1 - strlen(out));
    }
    strncat(out, path, PATH_MAX - 1 - strlen(out));
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static struct verdict judge(enum kind kind, const char *call, const char *path, int takes_space) {
    struct verdict verdict = {0, 0, 0};
    if (!armed || !(kind & chosen_kinds) || !is_watched(path)) return verdict;
    int number = ++shared->count, now = number == first_call, later = first_call && number > first_call;
    switch (chosen_mode) {
        case ONCE:
            verdict.error = now ? EIO : 0;
            break;
        case SHORT:
            if (now && kind == WRITE) {
                verdict.half = 1;
                break;
            }
        /* fall through */
        case FULL:
            verdict.error = now ? EIO : later && takes_space ? ENOSPC : 0;
            break;
        case DEAD:
            verdict.error = now || later ? EIO : 0;
            break;
        case KILL_AFTER:
            verdict.kill_after = now;
            break;
        case KILL_WITHIN:
            verdict.half = verdict.kill_after = now && kind == WRITE;
    }
    if (number <= ENTRIES) {
        struct entry *entry = &shared->log[number - 1];
        entry->error = verdict.error;
        snprintf(entry->call, sizeof entry->call, "%s", call);
        /* The end of a long path says more than its beginning. */
        size_t length = strlen(path), room = sizeof entry->path - 1;
        snprintf(entry->path, sizeof entry->path, "%s", path + (length > room ? length - room : 0));
    }
    if (now && (chosen_mode == KILL_BEFORE || (chosen_mode == KILL_WITHIN && kind != WRITE))) die();
    return verdict;
}

static struct verdict judge_fd(enum kind kind, const char *call, int fd, int takes_space) {
    char path[PATH_MAX] = "";
    if (armed) path_of(fd, path);
    return judge(kind, call, path, takes_space);
}

static struct verdict judge_path(enum kind kind, const char *call, int folder, const char *name, int takes_space) {
    char path[PATH_MAX] = "";
    if (armed) absolute(folder, name, path);
    return judge(kind, call, path, takes_space);
}

/* The rest of a replacement whose verdict is known: fail, or do it, and perhaps die. */
#define OBEY(verdict, expression)                                                                                     \
    do {                                                                                                              \
        if ((verdict).error) return errno = (verdict).error, -1;                                                      \
        __typeof__(expression) outcome = (expression);                                                                \
        if ((verdict).kill_after) die();                                                                              \
        return outcome;                                                                                               \
    } while (0)

/* --- open --- */

static int creates(int folder, const char *path, int flags) {
    if ((flags & O_TMPFILE) == O_TMPFILE) return 1;
    if (!armed || !(flags & O_CREAT)) return 0;
    int before = errno, missing = faccessat(folder, path, F_OK, AT_SYMLINK_NOFOLLOW);
    errno = before;
    return missing != 0;
}

#define MODE_ARGUMENT(flags)                                                                                          \
    mode_t mode = 0;                                                                                                  \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {                                                    \
        va_list more;                                                                                                 \
        va_start(more, flags);                                                                                        \
        mode = va_arg(more, mode_t);                                                                                  \
        va_end(more);                                                                                                 \
    }

#define OPENING(name)                                                                                                 \
    int name(const char *path, int flags, ...) {                                                                      \
        MODE_ARGUMENT(flags)                                                                                          \
        struct verdict verdict =                                                                                      \
            judge_path(OPEN, "open", AT_FDCWD, path, creates(AT_FDCWD, path, flags));                                 \
        OBEY(verdict, REAL(name)(path, flags, mode));                                                                 \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                                                                              \
    int name(int folder, const char *path, int flags, ...) {                                                          \
        MODE_ARGUMENT(flags)                                                                                          \
        struct verdict verdict = judge_path(OPEN, "openat", folder, path, creates(folder, path, flags));              \
        OBEY(verdict, REAL(name)(folder, path, flags, mode));                                                         \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

/* What programs call that were compiled with checks (_FORTIFY_SOURCE). */
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }
int __openat_2(int folder, const char *path, int flags) { return openat(folder, path, flags); }
int __openat64_2(int folder, const char *path, int flags) { return openat64(folder, path, flags); }

int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

DIR *opendir(const char *path) {
    struct verdict verdict = judge_path(OPEN, "opendir", AT_FDCWD, path, 0);
    if (verdict.error) return errno = verdict.error, NULL;
    DIR *opened = REAL(opendir)(path);
    if (verdict.kill_after) die();
    return opened;
}

int mkdirat(int folder, const char *path, mode_t mode) {
    struct verdict verdict = judge_path(OPEN, "mkdirat", folder, path, 1);
    OBEY(verdict, REAL(mkdirat)(folder, path, mode));
}

int mkdir(const char *path, mode_t mode) {
    struct verdict verdict = judge_path(OPEN, "mkdir", AT_FDCWD, path, 1);
    OBEY(verdict, REAL(mkdir)(path, mode));
}

int linkat(int from_folder, const char *from, int folder, const char *path, int flags) {
    struct verdict verdict = judge_path(OPEN, "linkat", folder, path, 1);
    OBEY(verdict, REAL(linkat)(from_folder, from, folder, path, flags));
}

int link(const char *from, const char *path) {
    struct verdict verdict = judge_path(OPEN, "link", AT_FDCWD, path, 1);
    OBEY(verdict, REAL(link)(from, path));
}

int symlinkat(const char *target, int folder, const char *path) {
    struct verdict verdict = judge_path(OPEN, "symlinkat", folder, path, 1);
    OBEY(verdict, REAL(symlinkat)(target, folder, path));
}

int symlink(const char *target, const char *path) {
    struct verdict verdict = judge_path(OPEN, "symlink", AT_FDCWD, path, 1);
    OBEY(verdict, REAL(symlink)(target, path));
}

/* --- write --- */

/* Fail, or write all or half of it, and perhaps die; `size` is what is to be written, and may be halved. */
#define WRITING(call, fd, size, expression)                                                                           \
    do {                                                                                                              \
        struct verdict verdict = judge_fd(WRITE, call, fd, 1);                                                        \
        if (verdict.error) return errno = verdict.error, -1;                                                          \
        if (verdict.half) size -= size / 2;                                                                                 \
        ssize_t written = (expression);                                                                               \
        if (verdict.kill_after) die();                                                                                \
        if (armed && written > 0) add_bytes(fd, written);                                                             \
        return written;                                                                                               \
    } while (0)

static void add_bytes(int fd, ssize_t written) {
    char path[PATH_MAX];
    path_of(fd, path);
    if (is_watched(path)) shared->bytes += written;
}

static ssize_t counted_write(const char *call, int fd, const void *data, size_t size) {
    WRITING(call, fd, size, REAL(write)(fd, data, size));
}

ssize_t write(int fd, const void *data, size_t size) { return counted_write("write", fd, data, size); }

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    WRITING("pwrite", fd, size, REAL(pwrite)(fd, data, size, offset));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    WRITING("pwrite", fd, size, REAL(pwrite64)(fd, data, size, offset));
}

/* Half of several pieces is the first half of them, or of the only one. */
#define WRITING_PIECES(call, fd, pieces, count, expression)                                                           \
    do {                                                                                                              \
        struct iovec only = count ? *pieces : (struct iovec){NULL, 0};                                                \
        size_t unused = 0;                                                                                            \
        WRITING(call, fd, unused, ({                                                                                  \
                    if (verdict.half && count == 1) only.iov_len /= 2, pieces = &only;                                \
                    if (verdict.half && count > 1) count /= 2;                                                        \
                    (expression);                                                                                     \
                }));                                                                                                  \
    } while (0)

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    WRITING_PIECES("writev", fd, pieces, count, REAL(writev)(fd, pieces, count));
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset) {
    WRITING_PIECES("pwritev", fd, pieces, count, REAL(pwritev)(fd, pieces, count, offset));
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset) {
    WRITING_PIECES("pwritev", fd, pieces, count, REAL(pwritev64)(fd, pieces, count, offset));
}

ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags) {
    WRITING_PIECES("pwritev2", fd, pieces, count, REAL(pwritev2)(fd, pieces, count, offset, flags));
}

ssize_t pwritev64v2(int fd, const struct iovec *pieces, int count, off64_t offset, int flags) {
    WRITING_PIECES("pwritev2", fd, pieces, count, REAL(pwritev64v2)(fd, pieces, count, offset, flags));
}

/* Callers ask for more than the file has; half of what it has is what is meant. */
static size_t left_in(int fd, size_t size) {
    struct stat status;
    return !fstat(fd, &status) && (size_t)status.st_size < size ? (size_t)status.st_size : size;
}

ssize_t sendfile(int out, int in, off_t *offset, size_t size) {
    size = armed ? left_in(in, size) : size;
    WRITING("sendfile", out, size, REAL(sendfile)(out, in, offset, size));
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t size) {
    size = armed ? left_in(in, size) : size;
    WRITING("sendfile", out, size, REAL(sendfile64)(out, in, offset, size));
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    size = armed ? left_in(in, size) : size;
    WRITING("copy_file_range", out, size, REAL(copy_file_range)(in, from, out, to, size, flags));
}

static int grows(int fd, off64_t length) {
    struct stat status;
    return armed && !fstat(fd, &status) && length > status.st_size;
}

int ftruncate(int fd, off_t length) {
    struct verdict verdict = judge_fd(WRITE, "ftruncate", fd, grows(fd, length));
    OBEY(verdict, REAL(ftruncate)(fd, length));
}

int ftruncate64(int fd, off64_t length) {
    struct verdict verdict = judge_fd(WRITE, "ftruncate", fd, grows(fd, length));
    OBEY(verdict, REAL(ftruncate64)(fd, length));
}

int truncate(const char *path, off_t length) {
    struct verdict verdict = judge_path(WRITE, "truncate", AT_FDCWD, path, 1);
    OBEY(verdict, REAL(truncate)(path, length));
}

int truncate64(const char *path, off64_t length) {
    struct verdict verdict = judge_path(WRITE, "truncate", AT_FDCWD, path, 1);
    OBEY(verdict, REAL(truncate64)(path, length));
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
    struct verdict verdict = judge_fd(WRITE, "fallocate", fd, 1);
    OBEY(verdict, REAL(fallocate)(fd, mode, offset, length));
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    struct verdict verdict = judge_fd(WRITE, "fallocate", fd, 1);
    OBEY(verdict, REAL(fallocate64)(fd, mode, offset, length));
}

/* These two return the error. */
int posix_fallocate(int fd, off_t offset, off_t length) {
    struct verdict verdict = judge_fd(WRITE, "posix_fallocate", fd, 1);
    if (verdict.error) return verdict.error;
    OBEY(verdict, REAL(posix_fallocate)(fd, offset, length));
}

int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    struct verdict verdict = judge_fd(WRITE, "posix_fallocate", fd, 1);
    if (verdict.error) return verdict.error;
    OBEY(verdict, REAL(posix_fallocate64)(fd, offset, length));
}

/* --- streams --- */

struct stream {
    FILE *file;
    int fd;
    struct stream *next;
    char buffer[4096]; /* as large as glibc's own for a file */
};

static struct stream *streams;
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;

static ssize_t stream_read(void *stream, char *data, size_t size) {
    return read(((struct stream *)stream)->fd, data, size);
}

/* All of it, as glibc's own streams do; fewer bytes are an error, with errno as it is. */
static ssize_t stream_write(void *stream, const char *data, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t written = counted_write("fwrite", ((struct stream *)stream)->fd, data + done, size - done);
        if (written <= 0) break;
        done += (size_t)written;
    }
    return (ssize_t)done;
}

static int stream_seek(void *stream, off64_t *offset, int whence) {
    off64_t there = lseek64(((struct stream *)stream)->fd, *offset, whence);
    if (there < 0) return -1;
    *offset = there;
    return 0;
}

static int stream_close(void *stream) {
    int fd = ((struct stream *)stream)->fd;
    pthread_mutex_lock(&streams_lock);
    struct stream **place = &streams;
    while (*place != stream) place = &(*place)->next;
    *place = (*place)->next;
    pthread_mutex_unlock(&streams_lock);
    free(stream);
    return close(fd);
}

static FILE *stream_of(int fd, const char *mode) {
    cookie_io_functions_t calls = {stream_read, stream_write, stream_seek, stream_close};
    struct stream *stream = malloc(sizeof *stream);
    if (!stream) return NULL;
    stream->fd = fd;
    stream->file = fopencookie(stream, mode, calls);
    if (!stream->file) return free(stream), NULL;
    setvbuf(stream->file, stream->buffer, _IOFBF, sizeof stream->buffer);
    pthread_mutex_lock(&streams_lock);
    stream->next = streams;
    streams = stream;
    pthread_mutex_unlock(&streams_lock);
    return stream->file;
}

static int only_reads(const char *mode) { return mode[0] == 'r' && !strchr(mode, '+'); }

static int flags_of(const char *mode) {
    int flags = strchr(mode, '+') ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
    flags |= mode[0] == 'w' ? O_CREAT | O_TRUNC : mode[0] == 'a' ? O_CREAT | O_APPEND : 0;
    return flags | (strchr(mode, 'x') ? O_EXCL : 0) | (strchr(mode, 'e') ? O_CLOEXEC : 0);
}

#define OPENING_STREAM(name)                                                                                          \
    FILE *name(const char *path, const char *mode) {                                                                  \
        char full[PATH_MAX] = "";                                                                                     \
        if (armed) absolute(AT_FDCWD, path, full);                                                                    \
        if (!armed || !is_watched(full)) return REAL(name)(path, mode);                                               \
        int flags = flags_of(mode);                                                                                   \
        struct verdict verdict = judge(OPEN, "fopen", full, creates(AT_FDCWD, path, flags));                          \
        if (verdict.error) return errno = verdict.error, NULL;                                                        \
        if (only_reads(mode)) return REAL(name)(path, mode);                                                          \
        int fd = REAL(open64)(path, flags, 0666);                                                                     \
        if (verdict.kill_after) die();                                                                                \
        return fd < 0 ? NULL : stream_of(fd, mode);                                                                   \
    }
OPENING_STREAM(fopen)
OPENING_STREAM(fopen64)

FILE *fdopen(int fd, const char *mode) {
    char path[PATH_MAX] = "";
    if (armed) path_of(fd, path);
    return !armed || !is_watched(path) || only_reads(mode) ? REAL(fdopen)(fd, mode) : stream_of(fd, mode);
}

static int descriptor_of(FILE *file) {
    int fd = -1;
    pthread_mutex_lock(&streams_lock);
    for (struct stream *stream = streams; stream; stream = stream->next)
        if (stream->file == file) fd = stream->fd;
    pthread_mutex_unlock(&streams_lock);
    return fd;
}

int fileno(FILE *file) {
    int fd = descriptor_of(file);
    return fd < 0 ? REAL(fileno)(file) : fd;
}

int fileno_unlocked(FILE *file) {
    int fd = descriptor_of(file);
    return fd < 0 ? REAL(fileno_unlocked)(file) : fd;
}

/* --- sync --- */

int fsync(int fd) {
    struct verdict verdict = judge_fd(SYNC, "fsync", fd, 1);
    OBEY(verdict, REAL(fsync)(fd));
}

int fdatasync(int fd) {
    struct verdict verdict = judge_fd(SYNC, "fdatasync", fd, 1);
    OBEY(verdict, REAL(fdatasync)(fd));
}

/* --- rename; the log has the new name --- */

static struct verdict judge_rename(const char *call, int from_folder, const char *from, int folder, const char *path) {
    char old[PATH_MAX] = "", new[PATH_MAX] = "";
    if (armed) absolute(from_folder, from, old), absolute(folder, path, new);
    return judge(RENAME, call, is_watched(new) ? new : old, 1);
}

int renameat2(int from_folder, const char *from, int folder, const char *path, unsigned flags) {
    struct verdict verdict = judge_rename("renameat2", from_folder, from, folder, path);
    OBEY(verdict, REAL(renameat2)(from_folder, from, folder, path, flags));
}

int renameat(int from_folder, const char *from, int folder, const char *path) {
    struct verdict verdict = judge_rename("renameat", from_folder, from, folder, path);
    OBEY(verdict, REAL(renameat)(from_folder, from, folder, path));
}

int rename(const char *from, const char *path) {
    struct verdict verdict = judge_rename("rename", AT_FDCWD, from, AT_FDCWD, path);
    OBEY(verdict, REAL(rename)(from, path));
}

/* --- remove --- */

int unlinkat(int folder, const char *path, int flags) {
    struct verdict verdict = judge_path(UNLINK, "unlinkat", folder, path, 0);
    OBEY(verdict, REAL(unlinkat)(folder, path, flags));
}

#define REMOVING(name)                                                                                                \
    int name(const char *path) {                                                                                      \
        struct verdict verdict = judge_path(UNLINK, #name, AT_FDCWD, path, 0);                                        \
        OBEY(verdict, REAL(name)(path));                                                                              \
    }
REMOVING(unlink)
REMOVING(rmdir)
REMOVING(remove)
