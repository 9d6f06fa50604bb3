/* A driver of NVIDIA's with a GPU that the variables of the environment describe: for test_cuda_driver.py alone. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

int cuInit(unsigned flags) { return flags ? 1 : number("STUB_INIT", 0); }

int cuDriverGetVersion(int *version) {
    *version = number("STUB_VERSION", 13000);
    return 0;
}

int cuDeviceGetCount(int *count) {
    *count = number("STUB_COUNT", 1);
    return 0;
}

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return number("STUB_GET", 0);
}

int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device ? "another" : "Stub 9000", length);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = number("STUB_CAPABILITY", 89) + device;
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : -1;
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = (size_t)number("STUB_MB", 8000) * 1000000 + device;
    return 0;
}
