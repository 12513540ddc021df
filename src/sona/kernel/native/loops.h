/* The arithmetic of the hot paths, once: `loops.c` includes this file for every instruction set it serves.
 *
 * Sums run in 16 lanes, added up in one fixed order, and nothing is contracted to fused multiply-adds: every
 * instruction set gives the same bits. Inputs are float32, of any length and alignment; `out` may be an input.
 *
 * The including file defines NAME(f), the name of f for the instruction set, and TARGET, the attribute that selects it.
 */

#define INLINE TARGET static inline __attribute__((always_inline))
#define PARTS (16 / WIDTH)
#define part NAME(part)
#define quad NAME(quad)
#define half NAME(half)
#define wide NAME(wide)
#define lanes NAME(lanes)
#define load NAME(load)
#define store NAME(store)
#define plus NAME(plus)
#define minus NAME(minus)
#define times NAME(times)
#define scaled NAME(scaled)
#define total NAME(total)
#define rest NAME(rest)

typedef float part __attribute__((vector_size(4 * WIDTH)));
typedef float half __attribute__((vector_size(2 * WIDTH)));
typedef double wide __attribute__((vector_size(4 * WIDTH)));
typedef float quad __attribute__((vector_size(16)));
typedef struct { part of[PARTS]; } lanes;

INLINE lanes load(const float *from) {
    lanes value;
    for (int p = 0; p < PARTS; p++) memcpy(&value.of[p], from + p * WIDTH, sizeof value.of[p]);
    return value;
}

INLINE void store(float *to, lanes value) {
    for (int p = 0; p < PARTS; p++) memcpy(to + p * WIDTH, &value.of[p], sizeof value.of[p]);
}

INLINE lanes plus(lanes x, lanes y) {
    for (int p = 0; p < PARTS; p++) x.of[p] += y.of[p];
    return x;
}

INLINE lanes minus(lanes x, lanes y) {
    for (int p = 0; p < PARTS; p++) x.of[p] -= y.of[p];
    return x;
}

INLINE lanes times(lanes x, lanes y) {
    for (int p = 0; p < PARTS; p++) x.of[p] *= y.of[p];
    return x;
}

INLINE lanes scaled(float weight, lanes x) {
    for (int p = 0; p < PARTS; p++) x.of[p] *= weight;
    return x;
}

INLINE float total(lanes value) {
    /* Lane i + lane i + 8, then i + 4, i + 2, i + 1. */
    float numbers[16];
    store(numbers, value);
    quad sums[4];
    memcpy(sums, numbers, sizeof sums);
    quad four = (sums[0] + sums[2]) + (sums[1] + sums[3]);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* What is left of <x, y> after the first `from` numbers. */
INLINE float rest(const float *x, const float *y, ptrdiff_t from, ptrdiff_t n) {
    float sum = 0.0f;
    for (ptrdiff_t i = from; i < n; i++) sum += x[i] * y[i];
    return sum;
}

TARGET static float NAME(dot)(const float *x, const float *y, ptrdiff_t n) {
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    ptrdiff_t i = 0;
    for (; i + 64 <= n; i += 64) {
        a = plus(a, times(load(x + i), load(y + i)));
        b = plus(b, times(load(x + i + 16), load(y + i + 16)));
        c = plus(c, times(load(x + i + 32), load(y + i + 32)));
        d = plus(d, times(load(x + i + 48), load(y + i + 48)));
    }
    for (; i + 16 <= n; i += 16) a = plus(a, times(load(x + i), load(y + i)));
    return total(plus(plus(a, b), plus(c, d))) + rest(x, y, i, n);
}

/* <x, y> in float64, for numbers whose product is too great or too small for float32. */
TARGET static double NAME(dot_wide)(const float *x, const float *y, ptrdiff_t n) {
    wide sums[PARTS] = {0};
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int p = 0; p < PARTS; p++) {
            half first, second;
            memcpy(&first, x + i + p * WIDTH / 2, sizeof first);
            memcpy(&second, y + i + p * WIDTH / 2, sizeof second);
            sums[p] += __builtin_convertvector(first, wide) * __builtin_convertvector(second, wide);
        }
    double lanes_of[8], rest_of = 0.0;
    memcpy(lanes_of, sums, sizeof lanes_of);
    for (; i < n; i++) rest_of += (double)x[i] * (double)y[i];
    for (int width = 4; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) lanes_of[lane] += lanes_of[lane + width];
    return lanes_of[0] + rest_of;
}

/* hidden[k] = <x, down[k]> for the r rows of down (r, n); returns |x|^2. */
TARGET static float NAME(project)(const float *x, const float *down, ptrdiff_t n, int r, float *hidden) {
    float square = 0.0f;
    for (int k = 0; k < r; k += 2) {
        const float *first = down + k * n, *second = k + 1 < r ? first + n : first;
        lanes a = {0}, b = {0}, c = {0};
        ptrdiff_t i = 0;
        for (; i + 16 <= n; i += 16) {
            lanes value = load(x + i);
            a = plus(a, times(value, load(first + i)));
            b = plus(b, times(value, load(second + i)));
            c = plus(c, times(value, value));
        }
        hidden[k] = total(a) + rest(x, first, i, n);
        if (k + 1 < r) hidden[k + 1] = total(b) + rest(x, second, i, n);
        square = total(c) + rest(x, x, i, n);
    }
    return square;
}

/* out = base + sum_k weights[k] rows[k] for the r rows (r, n); without base, the sum alone. */
TARGET static void NAME(combine)(const float *base, const float *rows, const float *weights, ptrdiff_t n, int r,
                                 float *out) {
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        lanes value = scaled(weights[0], load(rows + i));
        for (int k = 1; k < r; k++) value = plus(value, scaled(weights[k], load(rows + k * n + i)));
        store(out + i, base ? plus(load(base + i), value) : value);
    }
    for (; i < n; i++) {
        float value = weights[0] * rows[i];
        for (int k = 1; k < r; k++) value += weights[k] * rows[k * n + i];
        out[i] = base ? base[i] + value : value;
    }
}

/* out = x + weight y. */
TARGET static void NAME(add)(const float *x, float weight, const float *y, ptrdiff_t n, float *out) {
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) store(out + i, plus(load(x + i), scaled(weight, load(y + i))));
    for (; i < n; i++) out[i] = x[i] + weight * y[i];
}

/* out = weight x. */
TARGET static void NAME(scale)(float weight, const float *x, ptrdiff_t n, float *out) {
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) store(out + i, scaled(weight, load(x + i)));
    for (; i < n; i++) out[i] = weight * x[i];
}

/* out[i, k] = base[i, k] + x[i] weights[k] for the n rows and r columns of out; without base, the product alone. */
TARGET static void NAME(outer)(const float *base, const float *x, const float *weights, ptrdiff_t n, int r,
                               float *out) {
    if (r == 2) {
        float first = weights[0], second = weights[1];
        if (base)
            for (ptrdiff_t i = 0; i < n; i++) {
                out[2 * i] = base[2 * i] + x[i] * first;
                out[2 * i + 1] = base[2 * i + 1] + x[i] * second;
            }
        else
            for (ptrdiff_t i = 0; i < n; i++) {
                out[2 * i] = x[i] * first;
                out[2 * i + 1] = x[i] * second;
            }
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++)
        for (int k = 0; k < r; k++) out[i * r + k] = (base ? base[i * r + k] : 0.0f) + x[i] * weights[k];
}

/* down (r, n), the columns of a (n, r) as rows. */
TARGET static void NAME(turn)(const float *a, ptrdiff_t n, int r, float *down) {
    if (r == 2) {
        float *first = down, *second = down + n;
        for (ptrdiff_t i = 0; i < n; i++) {
            first[i] = a[2 * i];
            second[i] = a[2 * i + 1];
        }
        return;
    }
    for (int k = 0; k < r; k++)
        for (ptrdiff_t i = 0; i < n; i++) down[k * n + i] = a[i * r + k];
}

/* scores[j] = <rows[j], x> for count rows (count, n). */
TARGET static void NAME(products)(const float *rows, const float *x, ptrdiff_t count, ptrdiff_t n, float *scores) {
    ptrdiff_t j = 0, whole = n - n % 16;
    for (; j + 4 <= count; j += 4) {
        const float *p = rows + j * n, *q = p + n, *s = q + n, *t = s + n;
        lanes a = {0}, b = {0}, c = {0}, d = {0};
        for (ptrdiff_t i = 0; i < whole; i += 16) {
            lanes value = load(x + i);
            a = plus(a, times(value, load(p + i)));
            b = plus(b, times(value, load(q + i)));
            c = plus(c, times(value, load(s + i)));
            d = plus(d, times(value, load(t + i)));
        }
        scores[j] = total(a) + rest(p, x, whole, n);
        scores[j + 1] = total(b) + rest(q, x, whole, n);
        scores[j + 2] = total(c) + rest(s, x, whole, n);
        scores[j + 3] = total(d) + rest(t, x, whole, n);
    }
    for (; j < count; j++) {
        const float *p = rows + j * n;
        lanes a = {0};
        for (ptrdiff_t i = 0; i < whole; i += 16) a = plus(a, times(load(x + i), load(p + i)));
        scores[j] = total(a) + rest(p, x, whole, n);
    }
}

/* As `products` for two vectors at once, bit for bit, so that the rows are read once. */
TARGET static void NAME(products_of_two)(const float *rows, const float *x, const float *y, ptrdiff_t count,
                                         ptrdiff_t n, float *of_x, float *of_y) {
    ptrdiff_t j = 0, whole = n - n % 16;
    for (; j + 4 <= count; j += 4) {
        const float *p = rows + j * n, *q = p + n, *s = q + n, *t = s + n;
        lanes a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0}, h = {0};
        for (ptrdiff_t i = 0; i < whole; i += 16) {
            lanes one = load(x + i), two = load(y + i), row = load(p + i);
            a = plus(a, times(one, row));
            e = plus(e, times(two, row));
            row = load(q + i);
            b = plus(b, times(one, row));
            f = plus(f, times(two, row));
            row = load(s + i);
            c = plus(c, times(one, row));
            g = plus(g, times(two, row));
            row = load(t + i);
            d = plus(d, times(one, row));
            h = plus(h, times(two, row));
        }
        of_x[j] = total(a) + rest(p, x, whole, n);
        of_x[j + 1] = total(b) + rest(q, x, whole, n);
        of_x[j + 2] = total(c) + rest(s, x, whole, n);
        of_x[j + 3] = total(d) + rest(t, x, whole, n);
        of_y[j] = total(e) + rest(p, y, whole, n);
        of_y[j + 1] = total(f) + rest(q, y, whole, n);
        of_y[j + 2] = total(g) + rest(s, y, whole, n);
        of_y[j + 3] = total(h) + rest(t, y, whole, n);
    }
    for (; j < count; j++) {
        const float *p = rows + j * n;
        lanes a = {0}, b = {0};
        for (ptrdiff_t i = 0; i < whole; i += 16) {
            lanes row = load(p + i);
            a = plus(a, times(load(x + i), row));
            b = plus(b, times(load(y + i), row));
        }
        of_x[j] = total(a) + rest(p, x, whole, n);
        of_y[j] = total(b) + rest(p, y, whole, n);
    }
}

/* out = g + pull ((w - anchor) - rate g); with w NULL, at the anchor. Returns |out|^2. */
TARGET static float NAME(constrain)(const float *g, const float *w, const float *anchor, const float *pull, float rate,
                                    ptrdiff_t n, float *out) {
    lanes squares = {0};
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        lanes push = load(g + i), step = scaled(-rate, push);
        if (w) step = plus(minus(load(w + i), load(anchor + i)), step);
        push = plus(push, times(load(pull + i), step));
        squares = plus(squares, times(push, push));
        store(out + i, push);
    }
    float sum = total(squares);
    for (; i < n; i++) {
        float step = -rate * g[i];
        if (w) step = (w[i] - anchor[i]) + step;
        out[i] = g[i] + pull[i] * step;
        sum += out[i] * out[i];
    }
    return sum;
}

/* moment = keep moment + share g^2, in float64. */
TARGET static void NAME(blend)(double *moment, const float *g, double keep, double share, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) moment[i] = keep * moment[i] + share * ((double)g[i] * (double)g[i]);
}

static const Loops NAME(loops) = {
    NAME(dot),   NAME(dot_wide), NAME(project),         NAME(combine),   NAME(add),   NAME(scale),
    NAME(outer), NAME(turn),     NAME(products),        NAME(products_of_two), NAME(constrain), NAME(blend),
};

#undef INLINE
#undef PARTS
#undef part
#undef quad
#undef half
#undef wide
#undef lanes
#undef load
#undef store
#undef plus
#undef minus
#undef times
#undef scaled
#undef total
#undef rest
