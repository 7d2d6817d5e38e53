// Instance norm, leaky ReLU and the mean over 2x2 windows in one pass through memory, with first and second derivatives.
//
// A tensor holds G stacks of B images with C channels of H x W pixels. Either the pixels of a channel lie side by side, and
// a pass takes one channel at a time, or the channels of a pixel do (channels last), and it takes LANES channels at a time.
// From the first look at a channel of an image to the last, its values stay in the cache.
//
// With n pixels, m() their mean, r = 1 / sqrt(m((x - m(x))^2) + eps), h = r (x - m(x)) and P(v) = v - m(v) - h m(v h):
//   z = w h + b,  y = pool(phi(z)),  gz = phi'(z) spread(gy),  gx = w r P(gz),  gw = sum(gz h),  gb = sum(gz)
// and for cotangents u of gx, s of gw, t of gb, with D = sum(P(u) gz) and q = s gz - w r (m(gz h) u + m(u h) gz):
//   in gy: pool(phi'(z) (w r P(u) + s h + t)),  in w: r D,  in x: r P(q) - w r^2 D h / n

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

namespace {

constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(LANES * sizeof(float))));
typedef double Doubles __attribute__((vector_size(LANES * sizeof(double))));
typedef uint16_t Halves __attribute__((vector_size(LANES * sizeof(uint16_t))));
typedef uint32_t Words __attribute__((vector_size(LANES * sizeof(uint32_t))));

struct Half {  // bfloat16: the upper half of a float
  uint16_t bits;
};

template <class To, class From> inline To cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class V> constexpr int lanes_of = sizeof(V) == sizeof(Floats) || sizeof(V) == sizeof(Doubles) ? LANES : 1;

inline float widened(uint16_t bits) { return cast<float>(uint32_t(bits) << 16); }
inline Floats widened(const Halves& bits) { return cast<Floats>(__builtin_convertvector(bits, Words) << 16); }

// To the nearest, ties to even; NaN stays NaN.
inline uint16_t narrowed(float value) {
  const uint32_t word = cast<uint32_t>(value);
  return value != value ? 0x7fc0 : uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}
inline Halves narrowed(const Floats& value) {
  Words word = cast<Words>(value);
  word = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
  return __builtin_convertvector(value != value ? Words{} + 0x7fc0 : word, Halves);
}

template <class V, class T> inline V load(const T* from, int lanes) {
  constexpr bool half = std::is_same<T, Half>::value;
  if constexpr (lanes_of<V> == 1) {
    if constexpr (half) return widened(from->bits);
    else return *from;
  } else {
    typename std::conditional<half, Halves, V>::type value{};
    if (lanes == LANES) std::memcpy(&value, from, sizeof value);
    else std::memcpy(&value, from, lanes * sizeof(T));
    if constexpr (half) return widened(value);
    else return value;
  }
}

template <class V, class T> inline void store(T* to, const V& value, int lanes) {
  constexpr bool half = std::is_same<T, Half>::value;
  if constexpr (lanes_of<V> == 1) {
    if constexpr (half) to->bits = narrowed(value);
    else *to = value;
  } else {
    typename std::conditional<half, Halves, V>::type kept;
    if constexpr (half) kept = narrowed(value);
    else kept = value;
    if (lanes == LANES) std::memcpy(to, &kept, sizeof kept);
    else std::memcpy(to, &kept, lanes * sizeof(T));
  }
}

template <class V> inline V inverse_root(V value) {
  if constexpr (lanes_of<V> == 1) return 1 / std::sqrt(value);
  else {
    for (int i = 0; i < LANES; i++) value[i] = 1 / std::sqrt(value[i]);
    return value;
  }
}

struct Shape {
  int64_t stacks, images, channels, height, width, window;
};

struct Strides {
  int64_t stack, image, channel, pixel;
};

template <class T> struct Pixels {  // of one channel, or of LANES, of one image
  T* first;
  int64_t stride;
  int lanes;
  template <class V> V get(int64_t pixel) const { return load<V>(first + pixel * stride, lanes); }
  template <class V> void set(int64_t pixel, const V& value) const { store<V>(first + pixel * stride, value, lanes); }
};

// One channel, or LANES of them, of one image. V holds a pixel's values, A is what they are computed in.
template <class V, class A> struct Plane {
  const Shape& shape;
  const int64_t n;
  const A slope, eps;
  const std::unique_ptr<V[]> room;
  V *const c, *const gz, *const v;  // n each: centred values, gradient at z, cotangent of the gradient at x
  V weight{}, bias{}, r{}, scale{};

  Plane(const Shape& shape, double slope, double eps)
      : shape(shape), n(shape.height * shape.width), slope(A(slope)), eps(A(eps)), room(new V[3 * n]), c(room.get()),
        gz(c + n), v(gz + n) {}

  V where_active(const V& z, const V& value) const { return z <= 0 ? slope * value : value; }
  V z(int64_t pixel) const { return scale * c[pixel] + bias; }

  template <class T> void read(const Pixels<T>& x) {
    V sum{}, squares{};
    for (int64_t p = 0; p < n; p++) sum += c[p] = x.template get<V>(p);
    const V mean = sum / A(n);
    for (int64_t p = 0; p < n; p++) {
      c[p] -= mean;
      squares += c[p] * c[p];
    }
    r = inverse_root<V>(squares / A(n) + eps);
    scale = weight * r;
  }

  // The mean of f over each window.
  template <class T, class F> void pool(const Pixels<T>& out, F f) const {
    const int64_t width = shape.width, rows = shape.height / 2, columns = width / 2;
    if (shape.window == 1) {
      for (int64_t p = 0; p < n; p++) out.template set<V>(p, f(p));
      return;
    }
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++) {
        const int64_t p = 2 * (i * width + j);
        out.template set<V>(i * columns + j, A(0.25) * (f(p) + f(p + 1) + (f(p + width) + f(p + width + 1))));
      }
  }

  // The gradient at z. Pixels of no window have none.
  template <class T> void spread(const Pixels<T>& gy) {
    const int64_t width = shape.width, rows = shape.height / 2, columns = width / 2;
    if (shape.window == 1) {
      for (int64_t p = 0; p < n; p++) gz[p] = where_active(z(p), gy.template get<V>(p));
      return;
    }
    if (shape.height % 2 || width % 2)
      for (int64_t p = 0; p < n; p++) gz[p] = V{};
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++) {
        const int64_t p = 2 * (i * width + j), below = p + width;
        const V g = A(0.25) * gy.template get<V>(i * columns + j);
        gz[p] = where_active(z(p), g);
        gz[p + 1] = where_active(z(p + 1), g);
        gz[below] = where_active(z(below), g);
        gz[below + 1] = where_active(z(below + 1), g);
      }
  }

  template <class T> void forward(const Pixels<T>& x, const Pixels<T>& y) {
    read(x);
    pool(y, [&](int64_t p) { return where_active(z(p), z(p)); });
  }

  template <class T>
  void backward(const Pixels<T>& x, const Pixels<T>& gy, const Pixels<T>& gx, const Pixels<A>& gw, const Pixels<A>& gb) {
    read(x);
    spread(gy);
    V sum{}, along{};
    for (int64_t p = 0; p < n; p++) {
      sum += gz[p];
      along += gz[p] * c[p];
    }
    const V mean = sum / A(n), slant = along * r * r / A(n);
    for (int64_t p = 0; p < n; p++) gx.template set<V>(p, scale * (gz[p] - mean - c[p] * slant));
    gw.template set<V>(0, along * r);
    gb.template set<V>(0, sum);
  }

  // Cotangents u, s, t of gx, gw, gb, pulled back to gy, x and w.
  template <class T>
  void twice(const Pixels<T>& x, const Pixels<T>& gy, const Pixels<T>& u, const Pixels<T>& in_gy, const Pixels<T>& in_x,
             const V& s, const V& t, const Pixels<A>& in_w) {
    read(x);
    spread(gy);
    V g{}, gh{}, vs{}, vh{}, vg{};
    for (int64_t p = 0; p < n; p++) {
      v[p] = u.template get<V>(p);
      g += gz[p];
      gh += gz[p] * c[p];
      vs += v[p];
      vh += v[p] * c[p];
      vg += v[p] * gz[p];
    }
    const A count = A(n);
    const V mg = g / count, mgh = gh * r / count, mv = vs / count, mvh = vh * r / count;
    const V d = vg - count * (mv * mg + mvh * mgh);
    const V of_v = -scale * mgh, of_g = s - scale * mvh;  // q = of_v v + of_g gz
    const V mq = of_v * mv + of_g * mg, mqh = of_v * mvh + of_g * mgh;
    const V of_c = r * r * (mqh + scale * d / count);
    for (int64_t p = 0; p < n; p++) in_x.template set<V>(p, r * (of_v * v[p] + of_g * gz[p] - mq) - of_c * c[p]);
    in_w.template set<V>(0, r * d);
    const V on_c = r * of_g, rest = t - scale * mv;
    pool(in_gy, [&](int64_t p) { return where_active(z(p), scale * v[p] + on_c * c[p] + rest); });
  }
};

enum Pass { FORWARD, BACKWARD, TWICE };

struct Layout {
  Shape shape;
  Strides whole, pooled;  // of tensors with H x W pixels, and with those of the windows
};

struct Arguments {
  Pass pass;
  const Layout* layout;
  void** tensors;  // whole ones: x, BACKWARD gx, TWICE u and in_x; then pooled ones: y, BACKWARD gy, TWICE gy and in_gy
  void** vectors;  // (G, C): weight, bias; BACKWARD gw, gb; TWICE s, t, in_w
  double slope, eps;
  int threads;
};

// Images that lie channels last come into the cache line by line before they are read in steps of a pixel.
template <class T> inline void fetch(const T* image, int64_t count) {
  const char* bytes = reinterpret_cast<const char*>(image);
  char all = 0;
  for (int64_t i = 0; i < count * int64_t(sizeof(T)); i += 64) all ^= bytes[i];
  asm volatile("" : : "r"(all));
}

// (G, B, C) to (G, C), images in their order however many threads there were.
template <class A> void sum_images(const Shape& shape, const A* each, A* sum) {
  const int64_t channels = shape.channels;
  for (int64_t g = 0; g < shape.stacks; g++, sum += channels) {
    for (int64_t c = 0; c < channels; c++) sum[c] = 0;
    for (int64_t b = 0; b < shape.images; b++, each += channels)
      for (int64_t c = 0; c < channels; c++) sum[c] += each[c];
  }
}

template <class V, class A, class T> void run(const Arguments& with) {
  const Shape& shape = with.layout->shape;
  const int64_t n = shape.height * shape.width, blocks = (shape.channels + lanes_of<V> - 1) / lanes_of<V>;
  const int64_t work = shape.stacks * shape.images * blocks, all = shape.stacks * shape.images * shape.channels;
  A** of = reinterpret_cast<A**>(with.vectors);
  const std::unique_ptr<A[]> each(with.pass == FORWARD ? nullptr : new A[2 * all]);
#pragma omp parallel num_threads(with.threads) if (with.threads > 1 && work > 1)
  {
    Plane<V, A> plane(shape, with.slope, with.eps);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < work; i++) {
      const int64_t block = i % blocks, b = i / blocks % shape.images, g = i / blocks / shape.images;
      const int64_t channel = block * lanes_of<V>, left = shape.channels - channel;
      const int lanes = int(left < lanes_of<V> ? left : lanes_of<V>);
      auto of_stack = [&](int k) { return load<V>(of[k] + g * shape.channels + channel, lanes); };
      auto of_image = [&](int k) {
        return Pixels<A>{each.get() + k * all + (g * shape.images + b) * shape.channels + channel, 0, lanes};
      };
      auto at = [&](int k, const Strides& by) {
        T* image = static_cast<T*>(with.tensors[k]) + g * by.stack + b * by.image;
        return Pixels<T>{image + channel * by.channel, by.pixel, lanes};
      };
      auto whole = [&](int k) { return at(k, with.layout->whole); };
      auto pooled = [&](int k) { return at(k, with.layout->pooled); };
      if (lanes_of<V> > 1 && block == 0) {
        fetch(whole(0).first, n * shape.channels);
        if (with.pass == TWICE) fetch(whole(1).first, n * shape.channels);
      }
      plane.weight = of_stack(0);
      plane.bias = of_stack(1);
      if (with.pass == FORWARD) plane.forward(whole(0), pooled(1));
      if (with.pass == BACKWARD) plane.backward(whole(0), pooled(2), whole(1), of_image(0), of_image(1));
      if (with.pass == TWICE)
        plane.twice(whole(0), pooled(3), whole(1), pooled(4), whole(2), of_stack(2), of_stack(3), of_image(0));
    }
  }
  if (with.pass == BACKWARD) {
    sum_images(shape, each.get(), of[2]);
    sum_images(shape, each.get() + all, of[3]);
  }
  if (with.pass == TWICE) sum_images(shape, each.get(), of[4]);
}

}  // namespace

// kind: 0 float, 1 double, 2 bfloat16. last: channels lie side by side in all tensors.
extern "C" void instance(int pass, int kind, int last, const void* layout, void** tensors, void** vectors, double slope,
                         double eps, int threads) {
  const Arguments with{Pass(pass), static_cast<const Layout*>(layout), tensors, vectors, slope, eps, threads};
  if (kind == 0) last ? run<Floats, float, float>(with) : run<float, float, float>(with);
  if (kind == 1) last ? run<Doubles, double, double>(with) : run<double, double, double>(with);
  if (kind == 2) last ? run<Floats, float, Half>(with) : run<float, float, Half>(with);
}
