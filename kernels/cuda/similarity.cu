/* The comparison of embeddings with a whole support set on a GPU, in one kernel: kernels/similarity.py's class_logits.
 *
 * Built like scalogram.cu: the arithmetic of one pair is in the common part of C and CUDA C++, and the tests compile it with
 * the C compiler. Arrays are contiguous, the last index fastest.
 */

#ifdef __CUDACC__
#define FUNCTION static __device__ __forceinline__
#else
#include <math.h>
#define FUNCTION static inline
#endif

#define LANES 32
#define MAX_WARPS 32

/* One lane's share of sum_j gamma_j |q_j - s_j|^power, with power 1 or 2. */
FUNCTION float partial_distance(const float *query, const float *vector, const float *gamma, int power, int n_dims,
                                int lane) {
    float sum = 0.0f;
    for (int j = lane; j < n_dims; j += LANES) {
        float apart = query[j] - vector[j];
        sum += gamma[j] * (power == 2 ? apart * apart : fabsf(apart));
    }
    return sum;
}

/* A class that is less like the query than the likest sound that is no instrument loses as much again as it is behind; at
 * last what it has by being the mean of several recordings is taken off. */
FUNCTION float against(float odds, float nearest, float several, float averaging) {
    return (nearest > odds ? odds - (nearest - odds) : odds) - several * averaging;
}

#ifdef __CUDACC__

FUNCTION float distance(const float *query, const float *vector, const float *gamma, int power, int n_dims) {
    float sum = partial_distance(query, vector, gamma, power, n_dims, threadIdx.x % LANES);
    for (int step = LANES / 2; step; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return sum;
}

/* One block a query, one warp a class at a time. The number of classes is read from memory, so that a captured graph
 * stays right when a class is enrolled; odds has room for `capacity` classes a query. */
extern "C" __global__ void __launch_bounds__(LANES *MAX_WARPS)
    compare(const float *queries, const float *vectors, const float *averaging, const int *n_classes,
            const float *background, int n_background, const float *gamma, float bias, float several, int power,
            int n_dims, int capacity, float *odds) {
    __shared__ float best[MAX_WARPS];
    const float *query = queries + (long long)blockIdx.x * n_dims;
    int warp = threadIdx.x / LANES, n_warps = blockDim.x / LANES, first = threadIdx.x % LANES == 0;
    float nearest = -3.0e38f;
    for (int row = warp; row < n_background; row += n_warps)
        nearest = fmaxf(nearest, distance(query, background + (long long)row * n_dims, gamma, power, n_dims) + bias);
    if (first)
        best[warp] = nearest;
    __syncthreads();
    for (int other = 0; other < n_warps; other++)
        nearest = fmaxf(nearest, best[other]);
    for (int row = warp; row < min(*n_classes, capacity); row += n_warps) {
        float found = distance(query, vectors + (long long)row * n_dims, gamma, power, n_dims) + bias;
        if (first)
            odds[(long long)blockIdx.x * capacity + row] = against(found, nearest, several, averaging[row]);
    }
}

#endif
