/* The GPU's choice of the best classes as loops for the C compiler; see test_best.py. */

#include SOURCE

void host_best(const float *odds, int n, int n_classes, int capacity, int n_best, float *pairs) {
    for (int query = 0; query < n; query++) {
        const float *mine = odds + (long long)query * capacity;
        float *given = pairs + (long long)query * n_best * 2;
        for (int place = n_classes; place < n_best; place++)
            write_pair(given, place, -1.0f, 0.0f);
        for (int i = 0; i < n_classes; i++) {
            int place = 0;
            for (int lane = 0; lane < LANES; lane++)
                place += partial_place(mine, n_classes, i, lane);
            if (place < n_best)
                write_pair(given, place, (float)i, mine[i]);
        }
    }
}
