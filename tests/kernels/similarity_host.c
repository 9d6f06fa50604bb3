/* The GPU's comparison as loops for the C compiler; see test_similarity_cuda.py. */

#include SOURCE

static float distance_of(const float *query, const float *vector, const float *gamma, int power, int n_dims) {
    float lanes[LANES];
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = partial_distance(query, vector, gamma, power, n_dims, lane);
    for (int step = LANES / 2; step; step /= 2)
        for (int lane = 0; lane < step; lane++)
            lanes[lane] += lanes[lane + step];
    return lanes[0];
}

void host_compare(const float *queries, int n, const float *vectors, const float *averaging, int n_classes,
                  const float *background, int n_background, const float *gamma, float bias, float several,
                  int power, int n_dims, int capacity, float *odds) {
    for (int i = 0; i < n; i++) {
        const float *query = queries + (long long)i * n_dims;
        float nearest = -3.0e38f;
        for (int row = 0; row < n_background; row++)
            nearest = fmaxf(nearest, distance_of(query, background + (long long)row * n_dims, gamma, power, n_dims) + bias);
        for (int row = 0; row < n_classes; row++)
            odds[(long long)i * capacity + row] =
                against(distance_of(query, vectors + (long long)row * n_dims, gamma, power, n_dims) + bias, nearest,
                        several, averaging[row]);
    }
}
