// Simplifies iteration spaces: the fewer and the longer the axes, the fewer and longer the inner loops.
#include <algorithm>
#include <cmath>

#include "tile.h"

namespace fluxion {

Space Space::of(const std::vector<int64_t>& shape, const Expression& expression, bool withOutputs) {
  Space space;
  space.sizes = shape;
  const auto widen = [](const std::vector<int64_t>& strides) {
    return std::vector<double>(strides.begin(), strides.end());
  };
  for (const Instruction& in : expression.instructions) {
    if (in.op == Op::Load) space.strides.push_back(widen(in.view.strides));
    if (in.op == Op::Index) space.strides.push_back(in.strides);
  }
  if (withOutputs) {
    for (const ExpressionOutput& out : expression.outputs) space.strides.push_back(widen(out.view.strides));
  }
  return space;
}

Space Space::unit(size_t references) {
  Space space;
  space.sizes = {1};
  space.strides.assign(references, {0.0});
  return space;
}

Space Space::axes(size_t begin, size_t end) const {
  const auto part = [&](const auto& list) {
    return typename std::decay<decltype(list)>::type(list.begin() + static_cast<std::ptrdiff_t>(begin),
                                                     list.begin() + static_cast<std::ptrdiff_t>(end));
  };
  Space result;
  result.sizes = part(sizes);
  for (const auto& reference : strides) result.strides.push_back(part(reference));
  return result;
}

void Space::append(const Space& inner) {
  sizes.insert(sizes.end(), inner.sizes.begin(), inner.sizes.end());
  for (size_t r = 0; r < strides.size(); r++) {
    strides[r].insert(strides[r].end(), inner.strides[r].begin(), inner.strides[r].end());
  }
}

void Space::moveAxis(size_t from, size_t to) {
  const auto move = [&](auto& list) {
    const auto value = list[from];
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(from));
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(to), value);
  };
  move(sizes);
  for (auto& reference : strides) move(reference);
}

void Space::dropUnits() {
  for (size_t axis = sizes.size(); axis-- > 0;) {
    if (sizes[axis] != 1) continue;
    sizes.erase(sizes.begin() + static_cast<std::ptrdiff_t>(axis));
    for (auto& reference : strides) reference.erase(reference.begin() + static_cast<std::ptrdiff_t>(axis));
  }
}

void Space::merge() {
  for (size_t axis = sizes.size(); axis-- > 1;) {
    const double inner = static_cast<double>(sizes[axis]);
    const bool even = std::all_of(strides.begin(), strides.end(), [&](const std::vector<double>& s) {
      // Fractional steps (of a float index) would round differently once merged.
      return s[axis - 1] == s[axis] * inner && (s[axis] == std::floor(s[axis]));
    });
    if (!even) continue;
    sizes[axis - 1] *= sizes[axis];
    sizes.erase(sizes.begin() + static_cast<std::ptrdiff_t>(axis));
    for (auto& s : strides) {
      s[axis - 1] = s[axis];
      s.erase(s.begin() + static_cast<std::ptrdiff_t>(axis));
    }
  }
}

void Space::sortBy(size_t reference) {
  std::vector<size_t> order(sizes.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const double sa = std::fabs(strides[reference][a]), sb = std::fabs(strides[reference][b]);
    return sa > sb;
  });
  const Space old = *this;
  for (size_t i = 0; i < order.size(); i++) {
    sizes[i] = old.sizes[order[i]];
    for (size_t r = 0; r < strides.size(); r++) strides[r][i] = old.strides[r][order[i]];
  }
}

int64_t Space::count() const { return elementCount(sizes); }

}  // namespace fluxion
