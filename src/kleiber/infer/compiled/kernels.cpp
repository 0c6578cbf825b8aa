// Products of one row of numbers with a plain weight, and of rows with a weight in codes: y[n][r] = sum over c of x[n][c] * (code[r][c] - zero) * scale.
//
// One row is bound by the bytes of the weight, so codes are read once, in order, and unpacked on the way. The numbers of x are
// rounded to int8, a scale for each block of them, and multiplied with codes as integers, four to a lane and instruction where
// the processor has VNNI. What rounds is x alone: the integers of a block are summed exactly.
//
// Codes lie in units of 128 columns. A unit of 8 bits is its codes in order, less 128 each; a unit of 4 bits is 64 bytes, the
// first 64 codes in the low halves and the last 64 in the high ones. The last unit is filled up; x is 0 there.
//
// Legend: N rows of x, R rows of the weight, C columns, U units of a row, B blocks of a row (one or two a unit), G groups of a
// row that share a scale and a zero.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define KLEIBER_VNNI 1
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kUnit = 128, kHalf = 64;
constexpr int64_t kAhead = 8192;  // bytes between what is asked for and what is read: the memory's latency times its rate
constexpr int kRows = 4, kCount = 4;  // of the weight and of x, whose products are summed together
constexpr int64_t kRowsAtOnce = 128;  // of x: they stay in a core's cache while the weight goes by

struct Weight {
  const uint8_t* codes;  // [R, U * 128 * bits / 8]
  const float* scale;    // [R, G]
  const uint8_t* zero;   // [R, G], or one for all
  int64_t R, C, G;
  int64_t units() const { return (C + kUnit - 1) / kUnit; }
};

// x in int8: q[n][U * 128]; of each block its scale and minus the sum of its codes, times the zero if all share one; and which
// group of the weight a block belongs to.
struct Rounded {
  std::vector<int8_t> q;
  std::vector<float> scale;
  std::vector<int32_t> shift, group_of;
};

template <int BLOCK>
void round_block(const float* x, int64_t left, int32_t zero, int8_t* q, float* scale, int32_t* shift) {
  const int64_t num = std::clamp<int64_t>(left, 0, BLOCK);
  float top = 0, odd = 0;
#pragma omp simd reduction(max : top) reduction(+ : odd)
  for (int64_t i = 0; i < num; ++i) {
    top = std::max(top, std::fabs(x[i]));
    odd += x[i] - x[i];  // 0, or not a number where x is not finite
  }
  const float inverse = top > 0 ? 127.0f / top : 0.0f;
  int32_t total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < num; ++i) {
    const int32_t code = static_cast<int32_t>(std::nearbyint(x[i] * inverse));
    q[i] = static_cast<int8_t>(code);
    total += code;
  }
  std::fill(q + num, q + BLOCK, 0);
  *scale = top / 127.0f + odd;
  *shift = -zero * total;
}

#ifdef KLEIBER_VNNI

using Codes = __m512i;  // of 64 columns
using Sums = __m512i;   // sixteen, to be added up
using Total = __m512;   // the same

template <int BITS>
inline void unpack(const uint8_t* codes, Codes& low, Codes& high) {
  _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead), _MM_HINT_T0);
  if constexpr (BITS == 4) {
    const __m512i both = _mm512_loadu_si512(codes), mask = _mm512_set1_epi8(15);
    low = _mm512_and_si512(both, mask);
    high = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
  } else {
    _mm_prefetch(reinterpret_cast<const char*>(codes + kHalf + kAhead), _MM_HINT_T0);
    const __m512i top = _mm512_set1_epi8(-128);
    low = _mm512_xor_si512(_mm512_loadu_si512(codes), top);
    high = _mm512_xor_si512(_mm512_loadu_si512(codes + kHalf), top);
  }
}

inline Sums begun(int32_t shift) { return _mm512_zextsi128_si512(_mm_cvtsi32_si128(shift)); }
inline Sums dot(Sums sums, Codes codes, const int8_t* q) {
  return _mm512_dpbusd_epi32(sums, codes, _mm512_loadu_si512(q));
}
inline Total spread(float scale) { return _mm512_set1_ps(scale); }
inline Total add_scaled(Total total, Sums sums, float x_scale, Total w_scale) {
  return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(x_scale)), w_scale, total);
}
inline float sum_of(Total total) { return _mm512_reduce_add_ps(total); }

#else

struct Codes {
  uint8_t at[kHalf];
};
using Sums = int32_t;
using Total = float;

template <int BITS>
inline void unpack(const uint8_t* codes, Codes& low, Codes& high) {
  for (int64_t i = 0; i < kHalf; ++i) {
    low.at[i] = BITS == 4 ? codes[i] & 15 : codes[i] ^ 128;
    high.at[i] = BITS == 4 ? codes[i] >> 4 : codes[kHalf + i] ^ 128;
  }
}

inline Sums begun(int32_t shift) { return shift; }
inline Sums dot(Sums sums, const Codes& codes, const int8_t* q) {
  for (int64_t i = 0; i < kHalf; ++i) sums += int32_t{codes.at[i]} * q[i];
  return sums;
}
inline Total spread(float scale) { return scale; }
inline Total add_scaled(Total total, Sums sums, float x_scale, Total w_scale) {
  return total + static_cast<float>(sums) * x_scale * w_scale;
}
inline float sum_of(Total total) { return total; }

#endif

// ROWS rows of the weight from `r` times COUNT rows of x from `n`: what is unpacked once is used COUNT times.
template <int BITS, int BLOCK, bool ONE_ZERO, int ROWS, int COUNT>
void tile(const Weight& w, const Rounded& x, int64_t r, int64_t n, float* __restrict y) {
  constexpr int64_t parts = kUnit / BLOCK, unit_bytes = kUnit * BITS / 8;
  const int64_t U = w.units(), B = U * parts, R = w.R, G = w.G;
  const uint8_t* __restrict codes = w.codes + r * U * unit_bytes;
  const float* __restrict w_scale = w.scale + r * G;
  const uint8_t* __restrict zero = w.zero + r * G;
  const int8_t* __restrict q = x.q.data() + n * U * kUnit;
  const float* __restrict x_scale = x.scale.data() + n * B;
  const int32_t* __restrict shift = x.shift.data() + n * B;
  const int32_t* __restrict group_of = x.group_of.data();
  Total total[ROWS][COUNT];
#pragma GCC unroll 4
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < COUNT; ++j) total[i][j] = spread(0);
  for (int64_t u = 0; u < U; ++u) {
#pragma GCC unroll 4
    for (int i = 0; i < ROWS; ++i) {
      Codes low, high;
      unpack<BITS>(codes + (i * U + u) * unit_bytes, low, high);
#pragma GCC unroll 2
      for (int k = 0; k < parts; ++k) {
        const int64_t b = u * parts + k, g = i * G + group_of[b];
        const int32_t times = ONE_ZERO ? 1 : zero[g];
        const Total scale = spread(w_scale[g]);
#pragma GCC unroll 4
        for (int j = 0; j < COUNT; ++j) {
          const int8_t* at = q + (j * U + u) * kUnit;
          Sums sums = begun(shift[j * B + b] * times);
          if (parts == 1 || k == 0) sums = dot(sums, low, at);
          if (parts == 1 || k == 1) sums = dot(sums, high, at + kHalf);
          total[i][j] = add_scaled(total[i][j], sums, x_scale[j * B + b], scale);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < COUNT; ++j) y[(n + j) * R + r + i] = sum_of(total[i][j]);
}

template <int BITS, int BLOCK, bool ONE_ZERO, int ROWS>
void stripe(const Weight& w, const Rounded& x, int64_t r, int64_t first, int64_t end, float* y) {
  int64_t n = first;
  for (; n + kCount <= end; n += kCount) tile<BITS, BLOCK, ONE_ZERO, ROWS, kCount>(w, x, r, n, y);
  for (; n + 2 <= end; n += 2) tile<BITS, BLOCK, ONE_ZERO, ROWS, 2>(w, x, r, n, y);
  if (n < end) tile<BITS, BLOCK, ONE_ZERO, ROWS, 1>(w, x, r, n, y);
}

template <int BITS, int BLOCK, bool ONE_ZERO>
void products(const Weight& w, const float* x, int64_t group_size, int64_t N, float* y) {
  static thread_local Rounded rounded;  // of the calling thread: the team below shares it
  Rounded& all = rounded;
  const int64_t U = w.units(), B = U * (kUnit / BLOCK), num_stripes = (w.R + kRows - 1) / kRows;
  all.q.resize(N * U * kUnit);
  all.scale.resize(N * B);
  all.shift.resize(N * B);
  all.group_of.resize(B);
  for (int64_t b = 0; b < B; ++b) all.group_of[b] = static_cast<int32_t>(std::min(b * BLOCK / group_size, w.G - 1));
  const int32_t zero = ONE_ZERO ? w.zero[0] : 1;
#pragma omp parallel
  {
#pragma omp for schedule(static) collapse(2)
    for (int64_t n = 0; n < N; ++n)
      for (int64_t b = 0; b < B; ++b)
        round_block<BLOCK>(x + n * w.C + b * BLOCK, w.C - b * BLOCK, zero, all.q.data() + n * U * kUnit + b * BLOCK,
                           &all.scale[n * B + b], &all.shift[n * B + b]);
    for (int64_t first = 0; first < N; first += kRowsAtOnce) {
      const int64_t end = std::min(N, first + kRowsAtOnce);
#pragma omp for schedule(static) nowait
      for (int64_t s = 0; s < num_stripes; ++s) {
        const int64_t r = s * kRows, last = std::min(w.R, r + kRows);
        if (N > 1 && last - r == kRows)
          stripe<BITS, BLOCK, ONE_ZERO, kRows>(w, all, r, first, end, y);
        else  // one row of x reads the weight's rows one after the other, as they lie in memory
          for (int64_t one = r; one < last; ++one) stripe<BITS, BLOCK, ONE_ZERO, 1>(w, all, one, first, end, y);
      }
    }
  }
}

template <int BITS, int BLOCK>
void products(const Weight& w, bool has_one_zero, const float* x, int64_t group_size, int64_t N, float* y) {
  has_one_zero ? products<BITS, BLOCK, true>(w, x, group_size, N, y)
               : products<BITS, BLOCK, false>(w, x, group_size, N, y);
}

// One row of plain numbers with a plain weight: four sums side by side hide the latency of each.
float plain_dot(const float* __restrict w, const float* __restrict x, int64_t C) {
  constexpr int64_t width = 64;
  float sums[width] = {};
  int64_t c = 0;
  for (; c + width <= C; c += width) {
    for (int64_t line = 0; line < width; line += 16) __builtin_prefetch(w + c + line + kAhead / 4);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) sums[i] += w[c + i] * x[c + i];
  }
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < width; ++i) total += sums[i];
  for (; c < C; ++c) total += w[c] * x[c];
  return total;
}

}  // namespace

// x [C], w [R, C] and y [R] are contiguous.
extern "C" void kleiber_plain_product(const float* x, const float* w, int64_t R, int64_t C, float* y) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; ++r) y[r] = plain_dot(w + r * C, x, C);
}

// bits is 4 or 8, group_size a multiple of 64; x [N, C], codes, scale [R, G] and zero ([R, G], or one for all) are contiguous.
extern "C" void kleiber_products(const float* x, const uint8_t* codes, const float* scale, const uint8_t* zero,
                                 int64_t num_zeros, int64_t N, int64_t R, int64_t C, int64_t G, int64_t bits,
                                 int64_t group_size, float* y) {
  const Weight w{codes, scale, zero, R, C, G};
  const bool is_one = num_zeros == 1;
  if (group_size % kUnit == 0)
    bits == 4 ? products<4, 128>(w, is_one, x, group_size, N, y) : products<8, 128>(w, is_one, x, group_size, N, y);
  else
    bits == 4 ? products<4, 64>(w, is_one, x, group_size, N, y) : products<8, 64>(w, is_one, x, group_size, N, y);
}

// The same, as programs that torch compiles ahead of time call them.

namespace {

// A new tensor [N, R], or [R] where N is 0.
AOTITorchError make(int64_t N, int64_t R, AtenTensorHandle* y, void** at) {
  const int64_t shape[2] = {N, R}, strides[2] = {R, 1};
  const int64_t first = N ? 0 : 1;
  const AOTITorchError failed =
      aoti_torch_empty_strided(2 - first, shape + first, strides + first, aoti_torch_dtype_float32(),
                               aoti_torch_device_type_cpu(), 0, y);
  return failed ? failed : aoti_torch_get_data_ptr(*y, at);
}

}  // namespace

extern "C" AOTITorchError aoti_torch_cpu_plain_product(AtenTensorHandle x, AtenTensorHandle w, AtenTensorHandle* y) {
  void *x_at, *w_at, *y_at;
  int64_t R, C;
  AOTITorchError failed = aoti_torch_get_data_ptr(x, &x_at) | aoti_torch_get_data_ptr(w, &w_at) |
                          aoti_torch_get_size(w, 0, &R) | aoti_torch_get_size(w, 1, &C);
  if (failed || (failed = make(0, R, y, &y_at))) return failed;
  kleiber_plain_product(static_cast<float*>(x_at), static_cast<float*>(w_at), R, C, static_cast<float*>(y_at));
  return 0;
}

extern "C" AOTITorchError aoti_torch_cpu_products(AtenTensorHandle x, AtenTensorHandle codes, AtenTensorHandle scale,
                                                  AtenTensorHandle zero, int64_t bits, int64_t group_size,
                                                  AtenTensorHandle* y) {
  void *x_at, *codes_at, *scale_at, *zero_at, *y_at;
  int64_t N, C, R, G, num_zeros;
  AOTITorchError failed = aoti_torch_get_data_ptr(x, &x_at) | aoti_torch_get_data_ptr(codes, &codes_at) |
                          aoti_torch_get_data_ptr(scale, &scale_at) | aoti_torch_get_data_ptr(zero, &zero_at) |
                          aoti_torch_get_size(x, 0, &N) | aoti_torch_get_size(x, 1, &C) |
                          aoti_torch_get_size(scale, 0, &R) | aoti_torch_get_size(scale, 1, &G) |
                          aoti_torch_get_numel(zero, &num_zeros);
  if (failed || (failed = make(N, R, y, &y_at))) return failed;
  kleiber_products(static_cast<float*>(x_at), static_cast<uint8_t*>(codes_at), static_cast<float*>(scale_at),
                   static_cast<uint8_t*>(zero_at), num_zeros, N, R, C, G, bits, group_size, static_cast<float*>(y_at));
  return 0;
}
