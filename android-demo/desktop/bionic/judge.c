/* judge LIBRARY MODEL: run a phone's TFLite library on images through its C API, with XNNPACK and one thread like the
   app. For tests only.

   Standard input: the first input tensor of every image, concatenated; standard output: for every image the bytes of
   all output tensors, in order. On an error: exit code 1, and the reason on standard error. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* Bionic's stack guard is the word at thread pointer + 40. In glibc this is thread-local data of the program: this
   array reserves it, so that nothing changes the word between a function's entry and its return. */
static __thread volatile char guard[256];

typedef struct Object Object; /* models, options, interpreters and tensors are opaque */
static void *library;

static void *fail(const char *what) {
    fprintf(stderr, "judge: %s\n", what);
    exit(1);
}

static void *function(const char *name) {
    void *found = dlsym(library, name);
    return found ? found : fail(name);
}

static void *present(void *object, const char *what) { return object ? object : fail(what); }
static void done(int status, const char *what) { if (status) fail(what); }

#define C_API(result, name, ...) result (*name)(__VA_ARGS__) = (result (*)(__VA_ARGS__))function(#name)

int main(int count, char **words) {
    guard[0] = 0;
    if (count != 3) fail("two arguments are wanted: LIBRARY MODEL");
    library = dlopen(words[1], RTLD_NOW);
    if (!library) fail(dlerror());
    C_API(const char *, TfLiteVersion, void);
    C_API(Object *, TfLiteModelCreateFromFile, const char *);
    C_API(Object *, TfLiteInterpreterOptionsCreate, void);
    C_API(void, TfLiteInterpreterOptionsSetNumThreads, Object *, int);
    C_API(Object *, TfLiteXNNPackDelegateCreate, const void *);
    C_API(void, TfLiteInterpreterOptionsAddDelegate, Object *, Object *);
    C_API(Object *, TfLiteInterpreterCreate, Object *, Object *);
    C_API(int, TfLiteInterpreterAllocateTensors, Object *);
    C_API(Object *, TfLiteInterpreterGetInputTensor, Object *, int);
    C_API(int, TfLiteInterpreterGetOutputTensorCount, Object *);
    C_API(Object *, TfLiteInterpreterGetOutputTensor, Object *, int);
    C_API(int, TfLiteInterpreterInvoke, Object *);
    C_API(size_t, TfLiteTensorByteSize, Object *);
    C_API(void *, TfLiteTensorData, Object *);

    Object *options = TfLiteInterpreterOptionsCreate();
    TfLiteInterpreterOptionsSetNumThreads(options, 1);
    Object *xnnpack = present(TfLiteXNNPackDelegateCreate(NULL), "no XNNPACK"); /* NULL: its defaults, one thread */
    TfLiteInterpreterOptionsAddDelegate(options, xnnpack);
    Object *model = present(TfLiteModelCreateFromFile(words[2]), "this is no model");
    Object *interpreter = present(TfLiteInterpreterCreate(model, options), "no interpreter for the model");
    done(TfLiteInterpreterAllocateTensors(interpreter), "tensors cannot be allocated");
    fprintf(stderr, "TFLite %s\n", TfLiteVersion());

    Object *input = TfLiteInterpreterGetInputTensor(interpreter, 0);
    size_t size = TfLiteTensorByteSize(input), got;
    while ((got = fread(TfLiteTensorData(input), 1, size, stdin)) == size) {
        done(TfLiteInterpreterInvoke(interpreter), "an image cannot be judged");
        for (int i = 0; i < TfLiteInterpreterGetOutputTensorCount(interpreter); i++) {
            Object *output = TfLiteInterpreterGetOutputTensor(interpreter, i);
            size_t bytes = TfLiteTensorByteSize(output);
            if (fwrite(TfLiteTensorData(output), 1, bytes, stdout) != bytes) fail("the answer cannot be written");
        }
    }
    if (got) fail("the last image is cut off");
    return fflush(stdout) != 0;
}
