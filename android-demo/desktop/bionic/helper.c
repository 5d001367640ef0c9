/* Stand-ins for functions of Android's C library that glibc lacks or defines differently, so that an unchanged Android
   library runs in a desktop's JVM. For tests only, never part of an APK.

   shim.py writes one jump per function that the library imports; `bionic_shim_fill` sets the target of each jump: one
   of these stand-ins, else glibc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bionic's standard streams are three structures of 152 bytes in an array, glibc's are pointers. */
enum { BIONIC_FILE = 152 };
static char *bionic_streams;

static FILE *stream_of(void *file) {
    long at = (char *)file - bionic_streams;
    if (at < 0 || at >= 3 * BIONIC_FILE) return file;
    return at < BIONIC_FILE ? stdin : at < 2 * BIONIC_FILE ? stdout : stderr;
}

static int own_vfprintf(void *file, const char *format, va_list values) {
    return vfprintf(stream_of(file), format, values);
}

static int own_fprintf(void *file, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = own_vfprintf(file, format, values);
    va_end(values);
    return written;
}

static int own_fputc(int character, void *file) { return fputc(character, stream_of(file)); }
static size_t own_fwrite(const void *data, size_t size, size_t count, void *file) {
    return fwrite(data, size, count, stream_of(file));
}
static int own_fflush(void *file) { return fflush(file ? stream_of(file) : NULL); }
static int own_fileno(void *file) { return fileno(stream_of(file)); }
static int own_fclose(void *file) { return fclose(stream_of(file)); }

static int *own_errno(void) { return &errno; }
static size_t own_strlen_chk(const char *text, size_t size) { (void)size; return strlen(text); }

static int own_strerror_r(int number, char *buffer, size_t size) {
    char *text = strerror_r(number, buffer, size);
    if (text != buffer && size > 0) snprintf(buffer, size, "%s", text);
    return 0;
}

/* TFLite takes XNNPACK only on an Android that it knows: the one whose API jar the app is compiled against. */
static int own_property_get(const char *name, char *value) {
    strcpy(value, strcmp(name, "ro.build.version.sdk") ? "" : "35");
    return (int)strlen(value);
}

static void own_abort_message(const char *text) { dprintf(2, "abort: %s\n", text ? text : ""); }

static int own_log_vprint(int priority, const char *tag, const char *format, va_list values) {
    (void)priority;
    fprintf(stderr, "[%s] ", tag);
    int written = vfprintf(stderr, format, values);
    fputc('\n', stderr);
    return written;
}

static int own_log_print(int priority, const char *tag, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = own_log_vprint(priority, tag, format, values);
    va_end(values);
    return written;
}

static int own_log_write(int priority, const char *tag, const char *text) {
    (void)priority;
    return fprintf(stderr, "[%s] %s\n", tag, text);
}

/* The names of sysconf have other numbers there. */
static long own_sysconf(int name) {
    switch (name) {
    case 0x27: case 0x28: return sysconf(_SC_PAGESIZE);
    case 0x60: return sysconf(_SC_NPROCESSORS_CONF);
    case 0x61: return sysconf(_SC_NPROCESSORS_ONLN);
    case 0x62: return sysconf(_SC_PHYS_PAGES);
    }
    dprintf(2, "bionic shim: sysconf(%d) is not known\n", name);
    errno = EINVAL;
    return -1;
}

/* The library is never unloaded, so its destructors need not run. */
static int own_atexit(void (*function)(void *), void *argument, void *owner) {
    (void)function; (void)argument; (void)owner;
    return 0;
}
static void own_finalize(void *owner) { (void)owner; }

/* A mutex has 40 bytes there and 48 in glibc's aarch64: only the kind may be written. */
static int own_mutex_init(void *mutex, const long *attributes) {
    memset(mutex, 0, 40);
    if (attributes) ((int *)mutex)[4] = *attributes & 15;
    return 0;
}

/* XNNPACK takes a desktop CPU's AVX-512, for which Android's build of it does not align. */
static void *own_memalign(size_t alignment, size_t size) { return memalign(alignment < 64 ? 64 : alignment, size); }

static void missing(void) {
    static const char text[] = "bionic shim: a function was called that glibc has not\n";
    if (write(2, text, sizeof text - 1)) {}
    abort();
}

static const struct { const char *name; void *function; } own[] = {
    {"__android_log_print", own_log_print}, {"__android_log_vprint", own_log_vprint},
    {"__android_log_write", own_log_write}, {"__cxa_atexit", own_atexit}, {"__cxa_finalize", own_finalize},
    {"__errno", own_errno}, {"__strlen_chk", own_strlen_chk}, {"__system_property_get", own_property_get},
    {"android_set_abort_message", own_abort_message}, {"fclose", own_fclose}, {"fflush", own_fflush},
    {"fileno", own_fileno}, {"fprintf", own_fprintf}, {"fputc", own_fputc}, {"fwrite", own_fwrite},
    {"memalign", own_memalign}, {"pthread_mutex_init", own_mutex_init}, {"strerror_r", own_strerror_r}, {"sysconf", own_sysconf},
    {"vfprintf", own_vfprintf},
};

static void *found_in_glibc(const char *name) {
    static const char *const libraries[] = {"libc.so.6", "libm.so.6", "libdl.so.2"};
    for (int i = 0; i < 3; i++) {
        void *library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
        void *function = library ? dlsym(library, name) : NULL;
        if (function) return function;
    }
    dprintf(2, "bionic shim: glibc has no %s\n", name);
    return (void *)missing;
}

/* names: ends with NULL; jumps: one per name, to be filled; streams: where the library finds stdin, stdout, stderr. */
void bionic_shim_fill(const char **names, void **jumps, char *streams) {
    bionic_streams = streams;
    for (int i = 0; names[i]; i++) {
        for (unsigned k = 0; k < sizeof own / sizeof *own; k++)
            if (!strcmp(own[k].name, names[i])) jumps[i] = own[k].function;
        if (!jumps[i]) jumps[i] = found_in_glibc(names[i]);
    }
}
