/* The best classes of each query on a GPU, the best first: kernels/best.py's pairs.
 *
 * Built like similarity.cu: the arithmetic is in the common part of C and CUDA C++, and the tests compile it with the C
 * compiler. A class's place is the number of classes that stand before it: no sorting, no atomics, one place each.
 */

#ifdef __CUDACC__
#define FUNCTION static __device__ __forceinline__
#else
#define FUNCTION static inline
#endif

#define LANES 32
#define MAX_WARPS 32

/* Whether the class i with the logit a stands before the class j with b: what is no number first, so that it is seen on
 * the host; then the higher; of equals the earlier class. */
FUNCTION int stands_before(float a, int i, float b, int j) {
    int none_a = a != a, none_b = b != b;
    if (none_a != none_b)
        return none_a;
    return none_a || a == b ? i < j : a > b;
}

/* One lane's share of the number of classes that stand before class i. */
FUNCTION int partial_place(const float *odds, int n_classes, int i, int lane) {
    int place = 0;
    for (int j = lane; j < n_classes; j += LANES)
        place += stands_before(odds[j], j, odds[i], i);
    return place;
}

/* A pair is the class's number, which float32 holds up to 2^24, and its logit. */
FUNCTION void write_pair(float *pairs, int place, float number, float logit) {
    pairs[2 * place] = number;
    pairs[2 * place + 1] = logit;
}

#ifdef __CUDACC__

/* One block a query, one warp a class at a time. Places that no class has get the number -1. */
extern "C" __global__ void __launch_bounds__(LANES *MAX_WARPS)
    best(const float *odds, const int *n_classes, int capacity, int n_best, float *pairs) {
    const float *mine = odds + (long long)blockIdx.x * capacity;
    float *given = pairs + (long long)blockIdx.x * n_best * 2;
    int n = min(*n_classes, capacity), lane = threadIdx.x % LANES;
    for (int place = n + threadIdx.x; place < n_best; place += blockDim.x)
        write_pair(given, place, -1.0f, 0.0f);
    for (int i = threadIdx.x / LANES; i < n; i += blockDim.x / LANES) {
        int place = partial_place(mine, n, i, lane);
        for (int step = LANES / 2; step; step /= 2)
            place += __shfl_xor_sync(0xffffffffu, place, step);
        if (lane == 0 && place < n_best)
            write_pair(given, place, (float)i, mine[i]);
    }
}

#endif
