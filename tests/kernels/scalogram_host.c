/* The GPU's cell functions as loops for the C compiler; see test_scalogram_cuda.py. */

#include SOURCE

void host_order(const float *windows, int n_windows, int n, float *out) {
    for (int window = 0; window < n_windows; window++)
        for (int i = 0; i < n; i++)
            out[(long long)window * n + i] = ordered(windows + (long long)window * n, n, i);
}

void host_rotate(const float2 *waves, const float2 *turns, int n_windows, int n, float *spectrum) {
    for (int window = 0; window < n_windows; window++)
        for (int k = 0; k < n; k++)
            spectrum[(long long)window * n + k] = rotated(waves + (long long)window * (n / 2 + 1), turns, n, k);
}

void host_bands(const Scale *scales, int n_scales, const float *spectrum, const float2 *bank, int n_windows, int n,
                float2 *out) {
    for (int window = 0; window < n_windows; window++)
        for (int row = 0; row < n_scales; row++) {
            const Scale *scale = scales + row;
            float2 *to = out + first_of(scale, scale->wave_at, row, n_windows, window, scale->length);
            for (int m = 0; m < scale->length; m++)
                to[m] = band(scale, spectrum + (long long)window * n, bank, m);
        }
}

void host_means(const Scale *scales, int n_scales, const float2 *waves, int n_windows, int n_columns, float *out) {
    for (int window = 0; window < n_windows; window++)
        for (int row = 0; row < n_scales; row++) {
            const Scale *scale = scales + row;
            const float2 *wave = waves + first_of(scale, scale->wave_at, row, n_windows, window, scale->length);
            for (int column = 0; column < n_columns; column++) {
                float sum = 0.0f;
                for (int lane = 0; lane < LANES_PER_COLUMN; lane++)
                    sum += partial_mean(wave, scale->points, n_columns, column, lane);
                out[((long long)window * n_scales + row) * n_columns + column] = fmaxf(sum, 0.0f);
            }
        }
}

void host_half(const float *values, int n, unsigned short *out) {
    for (int i = 0; i < n; i++)
        out[i] = half_bits(values[i]);
}

void host_paint(const float *magnitudes, int n_windows, const Paint *paint, const float *colours, float *images) {
    int cells = paint->n_rows * paint->n_columns;
    for (int window = 0; window < n_windows; window++) {
        const float *from = magnitudes + (long long)window * paint->n_scales * paint->n_columns;
        int parts = paint->coloured ? 3 : 1;
        float *image = images + (long long)window * cells * parts;
        float lowest = INFINITY, highest = 0.0f;
        for (int cell = 0; cell < cells; cell++) {
            float value = mapped(from, paint, cell / paint->n_columns, cell % paint->n_columns);
            lowest = fminf(lowest, value);
            highest = fmaxf(highest, value);
        }
        for (int cell = 0; cell < cells; cell++) {
            float value = mapped(from, paint, cell / paint->n_columns, cell % paint->n_columns);
            float shade = level(paint, value, lowest, highest);
            for (int part = 0; part < parts; part++)
                image[part * cells + cell] = painted(paint, colours, shade, part);
        }
    }
}
