/* The scalogram and its picture on a GPU, all but the FFTs.
 *
 * Windows of sound -> order -> (FFT) -> rotate -> band -> (FFTs, one batch a group) -> mean -> extremes -> paint -> pictures.
 *
 * Each kernel is a loop over a function of one cell, written in the common part of C and CUDA C++: the tests compile those
 * functions with the C compiler and compare them with NumPy where there is no GPU. The plan and the order of its groups is
 * that of scalogram_plan.py; arrays are contiguous, the last index fastest.
 */

#ifdef __CUDACC__
#define FUNCTION static __device__ __forceinline__
#define BITS(value) __float_as_uint(value)
#else
#include <math.h>
#include <string.h>
#define FUNCTION static inline
#define BITS(value) ((union { float number; unsigned bits; }){value}.bits)
typedef struct {
    float x, y;
} float2;
#endif

#define LANES_PER_COLUMN 8
#define N_COLOURS 256
#define TINY 1e-12f

/* One scale of the plan. The group's waves of all windows lie together: window-major, then row. */
typedef struct {
    int start;          /* first bin of the filter */
    int count;          /* bins of the filter */
    int length;         /* FFT length of the group */
    int points;         /* grid points per column, even */
    int group_first;    /* first row of the group */
    int group_rows;     /* rows of the group */
    int filter_at;      /* where the filter begins in the bank */
    int padding;
    long long wave_at;  /* complex numbers before the group's waves, for one window */
} Scale;

/* What the picture stage needs to know of the front end. */
typedef struct {
    int n_scales, n_columns, n_rows, decibels, coloured;
    float range_db;
} Paint;

FUNCTION long long first_of(const Scale *scale, long long at, int row, int n_windows, int window, int stride) {
    return at * n_windows + ((long long)window * scale->group_rows + (row - scale->group_first)) * stride;
}

/* Makhoul's order, even samples up and odd ones down: the FFT of it is the DCT-II but for a rotation. */
FUNCTION float ordered(const float *samples, int n, int i) {
    return i < (n + 1) / 2 ? samples[2 * i] : samples[2 * (n - 1 - i) + 1];
}

/* Unnormalised DCT-II at bin k from the n / 2 + 1 bins of the FFT; turns[k] = (2 cos, 2 sin)(pi k / 2 n). */
FUNCTION float rotated(const float2 *wave, const float2 *turns, int n, int k) {
    if (2 * k <= n)
        return wave[k].x * turns[k].x + wave[k].y * turns[k].y;
    return wave[n - k].x * turns[k].x - wave[n - k].y * turns[k].y;
}

/* What the FFT takes at m: the band times the filter, folded onto the FFT's length. */
FUNCTION float2 band(const Scale *scale, const float *spectrum, const float2 *bank, int m) {
    float2 sum = {0.0f, 0.0f};
    for (; m < scale->count; m += scale->length) {
        float bin = spectrum[scale->start + m];
        sum.x += bin * bank[scale->filter_at + m].x;
        sum.y += bin * bank[scale->filter_at + m].y;
    }
    return sum;
}

FUNCTION float magnitude(float2 wave) { return sqrtf(wave.x * wave.x + wave.y * wave.y); }

/* The step of the magnitude across a column's first edge; at the window's own edges it is symmetric. */
FUNCTION float step_at(const float2 *wave, int points, int n_columns, int column) {
    if (column == 0 || column == n_columns)
        return 0.0f;
    int half = points / 2;
    return magnitude(wave[column * half]) - magnitude(wave[(2 * n_columns - column) * half]);
}

/* One lane's share of a column's mean by the midpoint rule with an end correction: half of the column's points lie in its
 * own block of the waves, the others in that of its mirror image. */
FUNCTION float partial_mean(const float2 *wave, int points, int n_columns, int column, int lane) {
    int half = points / 2, own = column * half, mirrored = (2 * n_columns - 1 - column) * half - half;
    float sum = 0.0f;
    if (lane == 0)
        sum = (step_at(wave, points, n_columns, column + 1) - step_at(wave, points, n_columns, column)) / 24.0f;
    for (int point = lane; point < points; point += LANES_PER_COLUMN)
        sum += magnitude(wave[(point < half ? own : mirrored) + point]);
    return sum / (float)points;
}

/* A picture's row between two scales, evenly in log frequency. */
FUNCTION float mapped(const float *magnitudes, const Paint *paint, int row, int column) {
    if (paint->n_rows == paint->n_scales)
        return magnitudes[(long long)row * paint->n_columns + column];
    float place = ((float)row + 0.5f) * ((float)paint->n_scales / (float)paint->n_rows) - 0.5f;
    place = fminf(fmaxf(place, 0.0f), (float)(paint->n_scales - 1));
    int lower = (int)place;
    if (lower > paint->n_scales - 2)
        lower = paint->n_scales > 1 ? paint->n_scales - 2 : 0;
    int next = lower + 1 < paint->n_scales ? lower + 1 : lower;
    float above = magnitudes[(long long)lower * paint->n_columns + column];
    float below = magnitudes[(long long)next * paint->n_columns + column];
    return above + (place - (float)lower) * (below - above);
}

/* A magnitude as the picture's level, 0 to 1. */
FUNCTION float level(const Paint *paint, float value, float lowest, float highest) {
    if (!paint->decibels)
        return highest - lowest > TINY ? (value - lowest) / (highest - lowest) : 0.0f;
    if (highest <= TINY)
        return 0.0f;
    float floor_ = fmaxf(highest * powf(10.0f, -paint->range_db / 20.0f), TINY);
    float db = 20.0f * log10f(fmaxf(value, floor_) / fmaxf(highest, floor_));
    return fmaxf(db * (1.0f / paint->range_db) + 1.0f, 0.0f);
}

/* One part of a level's colour: red, green or blue, or the level itself. */
FUNCTION float painted(const Paint *paint, const float *colours, float shade, int part) {
    if (!paint->coloured)
        return shade;
    int entry = (int)(shade * (float)N_COLOURS);
    return colours[3 * (entry > N_COLOURS - 1 ? N_COLOURS - 1 : entry) + part];
}

/* A number from 0 to 1 in float16, rounded to the nearest and to even; cuda_fp16.h would do it and is not always there. */
FUNCTION unsigned short half_bits(float value) {
    if (value < 6.103515625e-5f)
        return (unsigned short)rintf(value * 16777216.0f);
    unsigned bits = BITS(value);
    bits += 0xfff + (bits >> 13 & 1);
    return (unsigned short)((bits - (112u << 23)) >> 13);
}

#ifdef __CUDACC__

/* Magnitudes are never negative, so that their bits are in their order as integers. */
extern "C" __global__ void order(const float *windows, int n, float *out, int *extremes) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, window = blockIdx.y;
    if (i == 0) {
        extremes[2 * window] = 0x7f7fffff;
        extremes[2 * window + 1] = 0;
    }
    if (i < n)
        out[(long long)window * n + i] = ordered(windows + (long long)window * n, n, i);
}

extern "C" __global__ void rotate(const float2 *waves, const float2 *turns, int n, float *spectrum) {
    int k = blockIdx.x * blockDim.x + threadIdx.x, window = blockIdx.y;
    if (k < n)
        spectrum[(long long)window * n + k] = rotated(waves + (long long)window * (n / 2 + 1), turns, n, k);
}

extern "C" __global__ void bands(const Scale *scales, const float *spectrum, const float2 *bank, int n, float2 *out) {
    const Scale scale = scales[blockIdx.y];
    int m = blockIdx.x * blockDim.x + threadIdx.x, window = blockIdx.z;
    if (m < scale.length)
        out[first_of(&scale, scale.wave_at, blockIdx.y, gridDim.z, window, scale.length) + m] =
            band(&scale, spectrum + (long long)window * n, bank, m);
}

extern "C" __global__ void means(const Scale *scales, const float2 *waves, int n_scales, int n_columns, float *out) {
    const Scale scale = scales[blockIdx.y];
    int row = blockIdx.y, window = blockIdx.z, wide = blockDim.x / LANES_PER_COLUMN;
    const float2 *wave = waves + first_of(&scale, scale.wave_at, row, gridDim.z, window, scale.length);
    int lane = threadIdx.x % LANES_PER_COLUMN;
    for (int first = blockIdx.x * wide; first < n_columns; first += gridDim.x * wide) {
        int column = first + threadIdx.x / LANES_PER_COLUMN;
        float sum = column < n_columns ? partial_mean(wave, scale.points, n_columns, column, lane) : 0.0f;
        for (int step = LANES_PER_COLUMN / 2; step; step /= 2)
            sum += __shfl_down_sync(0xffffffffu, sum, step, LANES_PER_COLUMN);
        if (lane == 0 && column < n_columns)
            out[((long long)window * n_scales + row) * n_columns + column] = fmaxf(sum, 0.0f);
    }
}

extern "C" __global__ void extremes(const float *magnitudes, const Paint *paint, int *out) {
    int window = blockIdx.y, cells = paint->n_rows * paint->n_columns;
    const float *from = magnitudes + (long long)window * paint->n_scales * paint->n_columns;
    int lowest = 0x7f7fffff, highest = 0;
    for (int cell = blockIdx.x * blockDim.x + threadIdx.x; cell < cells; cell += gridDim.x * blockDim.x) {
        int bits = __float_as_int(mapped(from, paint, cell / paint->n_columns, cell % paint->n_columns));
        lowest = min(lowest, bits);
        highest = max(highest, bits);
    }
    for (int step = 16; step; step /= 2) {
        lowest = min(lowest, __shfl_down_sync(0xffffffffu, lowest, step));
        highest = max(highest, __shfl_down_sync(0xffffffffu, highest, step));
    }
    if (threadIdx.x % 32 == 0) {
        atomicMin(&out[2 * window], lowest);
        atomicMax(&out[2 * window + 1], highest);
    }
}

FUNCTION void put(float *cell, float value) { *cell = value; }
FUNCTION void put(unsigned short *cell, float value) { *cell = half_bits(value); }

template <typename Number>
FUNCTION void paint_window(const float *magnitudes, const int *extremes_, const Paint *as, const float *colours,
                           Number *images) {
    int window = blockIdx.y, cells = as->n_rows * as->n_columns, parts = as->coloured ? 3 : 1;
    const float *from = magnitudes + (long long)window * as->n_scales * as->n_columns;
    float lowest = __int_as_float(extremes_[2 * window]), highest = __int_as_float(extremes_[2 * window + 1]);
    Number *image = images + (long long)window * cells * parts;
    int cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell < cells) {
        float shade = level(as, mapped(from, as, cell / as->n_columns, cell % as->n_columns), lowest, highest);
        for (int part = 0; part < parts; part++)
            put(image + (long long)part * cells + cell, painted(as, colours, shade, part));
    }
}

extern "C" __global__ void paint(const float *magnitudes, const int *extremes_, const Paint *as, const float *colours,
                                 float *images) {
    paint_window(magnitudes, extremes_, as, colours, images);
}

extern "C" __global__ void paint_half(const float *magnitudes, const int *extremes_, const Paint *as,
                                      const float *colours, unsigned short *images) {
    paint_window(magnitudes, extremes_, as, colours, images);
}

#endif
