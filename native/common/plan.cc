// Reads a serialised plan and proves that it stays inside its buffers.
//
// Layout, in words (doubles):
//   plan        arenaBytes, list(buffer), list(number) inputs, list(number) outputs, list(step)
//   list(x)     count, x...
//   buffer      kind, dtype, size, offset
//   view        buffer, offset, list(number) strides
//   expression  list(instruction), list(value, view)
//   instruction op, dtype, then  load: view | constant: value | index: offset, list(number) |
//               accumulator: - | otherwise: list(number) arguments
//   map         kind, list(number) shape, expression
//   reduce      kind, list(number) shape, reducedRank, reducer, expression
//   matmul      kind, dtype, list(number) batch, m, n, k, view a, view b, expression
//   gather, scatter  kind, outer, size, inner, count, input, indices, output, site or -1
//   sort        kind, rows, size, input, output
//   attention   kind, part, dtype, list(number) batch, n, m, d, e, scale, causal, view q, view k, view v,
//               optional(view) mask, o, l, list(optional(view)) directions, list(optional(number)) outputs
//   optional(x) 0 | 1, x
//   cumsum      kind, outer, size, inner, reverse 0 or 1, input, output
//   strip       kind, rows, block, list(number) chunks, sums, localBytes, list(part)
//   part        0 by rows or 1 by sum, step
//   loop        kind, length, reverse, list(number) consts, inits, carries, xs, ys, plan
#include "plan.h"

#include <cmath>
#include <initializer_list>

namespace fluxion {

const char* const kDTypeNames[kDTypes] = {"float32", "float64", "int32", "uint32", "bool"};
const char* const kReducerNames[kReducers] = {"sum", "max", "min", "argmax", "argmin"};
const char* const kStepKindNames[kStepKinds] = {"map",    "reduce",    "matmul", "gather", "scatter", "sort",
                                                "cumsum", "attention", "strip",  "loop"};
const char* const kAttentionPartNames[kAttentionParts] = {"value", "tangent", "cotangent"};
const char* const kBufferKindNames[kBufferKinds] = {"input", "output", "temporary", "local"};
const OpInfo kOpInfo[kOps] = {
#define X(id, name, args, family) {name, args, Family::family},
    FLUXION_OPS(X)
#undef X
};

namespace {

constexpr int64_t kExact = int64_t{1} << 53;      // doubles count exactly up to here
constexpr int kMaxDepth = 64;
constexpr int64_t kMaxBytes = int64_t{1} << 47;   // more than any address space holds

[[noreturn]] void fail(const std::string& message) { throw PlanError("malformed plan: " + message); }

int64_t multiply(int64_t a, int64_t b, const char* what) {
  int64_t result;
  if (__builtin_mul_overflow(a, b, &result) || result > kExact || result < -kExact) {
    fail(std::string(what) + " is too large");
  }
  return result;
}

int64_t add(int64_t a, int64_t b, const char* what) {
  int64_t result;
  if (__builtin_add_overflow(a, b, &result) || result > kExact || result < -kExact) {
    fail(std::string(what) + " is too large");
  }
  return result;
}

class Parser {
 public:
  Parser(const double* words, size_t count, size_t at = 0, int depth = 0)
      : words_(words), count_(count), at_(at), depth_(depth) {}

  Plan parse() {
    Plan plan = body();
    if (at_ != count_) fail("words are left over");
    return plan;
  }

 private:
  Plan body() {
    plan_.arenaBytes = integer(0, kMaxBytes, "arenaBytes");
    const int64_t buffers = listLength("buffers");
    for (int64_t i = 0; i < buffers; i++) plan_.buffers.push_back(buffer());
    strips_.resize(plan_.buffers.size());
    plan_.inputs = arguments(BufferKind::Input, "inputs");
    plan_.outputs = arguments(BufferKind::Output, "outputs");
    const int64_t steps = listLength("steps");
    for (int64_t i = 0; i < steps; i++) plan_.steps.push_back(step());
    return std::move(plan_);
  }

  double number(const char* what) {
    if (at_ >= count_) fail(std::string("ends before ") + what);
    return words_[at_++];
  }

  int64_t integer(int64_t low, int64_t high, const char* what) {
    const double value = number(what);
    if (!(value >= static_cast<double>(low) && value <= static_cast<double>(high)) || value != std::floor(value)) {
      fail(std::string(what) + " is " + std::to_string(value) + ", not an integer from " + std::to_string(low) +
           " to " + std::to_string(high));
    }
    return static_cast<int64_t>(value);
  }

  template <class Code>
  Code code(int count, const char* what) {
    return static_cast<Code>(integer(0, count - 1, what));
  }

  // Every element of a list takes a word at least, so a count can be no larger than what is left.
  int64_t listLength(const char* what) { return integer(0, static_cast<int64_t>(count_ - at_), what); }

  std::vector<int64_t> integers(int64_t low, int64_t high, const char* what) {
    std::vector<int64_t> list(static_cast<size_t>(listLength(what)));
    for (int64_t& value : list) value = integer(low, high, what);
    return list;
  }

  Buffer buffer() {
    Buffer result{};
    result.kind = code<BufferKind>(kBufferKinds, "buffer kind");
    result.dtype = code<DType>(kDTypes, "buffer dtype");
    result.size = integer(0, kMaxBytes / 8, "buffer size");
    result.offset = integer(0, kMaxBytes, "buffer offset");
    if (result.kind == BufferKind::Temporary) {
      if (result.offset % 64 != 0) fail("the offset of a temporary is not a multiple of 64");
      if (result.offset + static_cast<int64_t>(result.bytes()) > plan_.arenaBytes) {
        fail("a temporary reaches outside of the arena");
      }
    }
    if (result.kind == BufferKind::Local && result.offset % 64 != 0) fail("the offset of a local is not a multiple of 64");
    return result;
  }

  std::vector<int> arguments(BufferKind kind, const char* what) {
    std::vector<int> list;
    std::vector<bool> seen(plan_.buffers.size());
    for (int64_t number : integers(0, static_cast<int64_t>(plan_.buffers.size()) - 1, what)) {
      const size_t index = static_cast<size_t>(number);
      if (plan_.buffers[index].kind != kind) fail(std::string(what) + ": a buffer of another kind");
      if (seen[index]) fail(std::string(what) + ": a buffer comes twice");
      seen[index] = true;
      list.push_back(static_cast<int>(number));
    }
    for (size_t i = 0; i < seen.size(); i++) {
      if (plan_.buffers[i].kind == kind && !seen[i]) fail(std::string(what) + ": a buffer is missing");
    }
    return list;
  }

  int bufferNumber(bool written, const char* what) {
    const int number = static_cast<int>(integer(0, static_cast<int64_t>(plan_.buffers.size()) - 1, what));
    if (written && at(number).kind == BufferKind::Input) fail(std::string(what) + " writes to an input");
    if (at(number).kind == BufferKind::Local) checkLocal(number);
    return number;
  }

  const Buffer& at(int number) const { return plan_.buffers[static_cast<size_t>(number)]; }

  std::vector<int64_t> shape(int extraAxes) {
    std::vector<int64_t> result = integers(0, kExact, "extent");
    if (result.size() + static_cast<size_t>(extraAxes) > kMaxRank) fail("more than 32 axes");
    countElements(result);
    return result;
  }

  static void countElements(const std::vector<int64_t>& shape) {
    // A zero extent must not hide an overflow among the others: products of a part of the axes are used too.
    int64_t product = 1;
    for (int64_t size : shape) product = multiply(product, size == 0 ? 1 : size, "a shape");
  }

  View view(const std::vector<int64_t>& shape, bool written, DType dtype) {
    View result;
    result.buffer = bufferNumber(written, "view");
    result.offset = integer(0, kExact, "view offset");
    result.strides = integers(-kExact, kExact, "stride");
    if (at(result.buffer).dtype != dtype) fail("a view has another dtype than its buffer");
    if (result.strides.size() != shape.size()) fail("a view has another number of strides than its step has axes");
    int64_t low = result.offset, high = result.offset;
    bool empty = false;
    for (size_t axis = 0; axis < shape.size(); axis++) {
      if (shape[axis] == 0) empty = true;
      else if (const int64_t reach = multiply(result.strides[axis], shape[axis] - 1, "a stride"); reach < 0) {
        low = add(low, reach, "a view");
      } else {
        high = add(high, reach, "a view");
      }
    }
    if (!empty && (low < 0 || high >= at(result.buffer).size)) fail("a view reaches outside of its buffer");
    if (at(result.buffer).kind == BufferKind::Local) checkRows(result, shape, low, high);
    return result;
  }

  // A local buffer belongs to one strip, and a block of its rows fits the strip's memory.
  void checkLocal(int number) {
    if (strip_ == nullptr) fail("a local buffer outside of a strip");
    int& owner = strips_[static_cast<size_t>(number)];
    if (owner == stripNumber_) return;
    if (owner != 0) fail("a local buffer of two strips");
    owner = stripNumber_;
    const Buffer& buffer = at(number);
    if (buffer.size % strip_->rows != 0) fail("a local buffer without whole rows");
    const int64_t rowBytes = static_cast<int64_t>(buffer.bytes()) / strip_->rows;
    const int64_t bytes = add(buffer.offset, multiply(rowBytes, strip_->block, "a local buffer"), "a local buffer");
    if (bytes > strip_->localBytes) fail("a local buffer reaches outside of its strip's memory");
    strip_->locals.push_back(number);
  }

  // Row r of a view of a local buffer must lie in row r of the buffer: other rows are not there.
  void checkRows(const View& view, const std::vector<int64_t>& shape, int64_t low, int64_t high) const {
    const int64_t stride = at(view.buffer).size / strip_->rows;
    if (rowAxis_ < 0 || static_cast<size_t>(rowAxis_) >= shape.size()) fail("a local buffer is read whole");
    const size_t axis = static_cast<size_t>(rowAxis_);
    if (shape[axis] != strip_->rows || view.strides[axis] != stride) fail("a view does not follow the rows");
    if (low < 0 || high - stride * (strip_->rows - 1) >= stride) fail("a view reaches into another row");
  }

  // `outputShape`: the axes of the output views (for reduce: the kept ones).
  // `rowAxis`, `outputRowAxis`: where the rows of a strip are in these shapes, -1 for nowhere.
  Expression expression(const std::vector<int64_t>& shape, const std::vector<int64_t>& outputShape,
                        const DType* accumulator, int rowAxis, int outputRowAxis) {
    Expression result;
    rowAxis_ = rowAxis;
    const int64_t count = listLength("instructions");
    for (int64_t i = 0; i < count; i++) result.instructions.push_back(instruction(result, shape, accumulator));
    const int64_t outputs = listLength("expression outputs");
    if (outputs == 0) fail("an expression without an output");
    rowAxis_ = outputRowAxis;
    for (int64_t i = 0; i < outputs; i++) {
      ExpressionOutput output;
      output.value = static_cast<int>(integer(0, count - 1, "output value"));
      // The view's dtype is checked by the caller for argmax; elsewhere it is the value's.
      const DType dtype = result.instructions[static_cast<size_t>(output.value)].dtype;
      output.view = view(outputShape, true, argDType_ ? *argDType_ : dtype);
      result.outputs.push_back(std::move(output));
    }
    return result;
  }

  Instruction instruction(const Expression& before, const std::vector<int64_t>& shape, const DType* accumulator) {
    Instruction result{};
    result.op = code<Op>(kOps, "op");
    result.dtype = code<DType>(kDTypes, "instruction dtype");
    const OpInfo& info = kOpInfo[static_cast<int>(result.op)];
    switch (result.op) {
      case Op::Load:
        result.view = view(shape, false, result.dtype);
        return result;
      case Op::Constant:
        result.value = number("constant");
        return result;
      case Op::Index: {
        const bool whole = !isFloat(result.dtype);
        if (result.dtype == DType::Bool) fail("an index of dtype bool");
        result.value = coefficient(whole);
        const int64_t axes = listLength("index strides");
        if (static_cast<size_t>(axes) != shape.size()) fail("an index has another number of strides than axes");
        for (int64_t axis = 0; axis < axes; axis++) {
          result.strides.push_back(coefficient(whole));
          if (whole) {
            const int64_t extent = shape[static_cast<size_t>(axis)];
            multiply(static_cast<int64_t>(result.strides.back()), extent, "an index");
          }
        }
        return result;
      }
      case Op::Accumulator:
        if (accumulator == nullptr) fail("an accumulator outside of a matmul");
        if (result.dtype != *accumulator) fail("an accumulator of another dtype than its matmul");
        return result;
      default:
        break;
    }
    const std::vector<int64_t> args =
        integers(0, static_cast<int64_t>(before.instructions.size()) - 1, "instruction argument");
    if (static_cast<int>(args.size()) != info.arguments) fail(std::string(info.name) + ": wrong number of arguments");
    result.argCount = info.arguments;
    DType types[4] = {};
    for (int i = 0; i < info.arguments; i++) {
      result.args[i] = static_cast<int>(args[static_cast<size_t>(i)]);
      types[i] = before.instructions[static_cast<size_t>(args[static_cast<size_t>(i)])].dtype;
    }
    if (!dtypesFit(info, result.dtype, types)) fail(std::string(info.name) + ": dtypes do not fit");
    return result;
  }

  double coefficient(bool whole) {
    return whole ? static_cast<double>(integer(-kExact, kExact, "index coefficient")) : number("index coefficient");
  }

  static bool dtypesFit(const OpInfo& info, DType dtype, const DType* args) {
    if (info.family == Family::Cast) return true;
    if (info.family == Family::Compare) return dtype == DType::Bool && args[0] == args[1];
    if (info.family == Family::Where) return args[0] == DType::Bool && args[1] == dtype && args[2] == dtype;
    for (int i = 0; i < info.arguments; i++) {
      if (args[i] != dtype) return false;
    }
    switch (info.family) {
      case Family::Any: return true;
      case Family::Number: return dtype != DType::Bool;
      case Family::Float: return isFloat(dtype);
      case Family::Bool: return dtype == DType::Bool;
      case Family::Unsigned: return dtype == DType::UInt32;
      default: return false;
    }
  }

  Step step() {
    Step result{};
    result.kind = code<StepKind>(kStepKinds, "step kind");
    switch (result.kind) {
      case StepKind::Map:
        result.shape = shape(0);
        result.expression = expression(result.shape, result.shape, nullptr, 0, 0);
        break;
      case StepKind::Reduce: reduce(result); break;
      case StepKind::MatMul: matmul(result); break;
      case StepKind::Gather:
      case StepKind::Scatter: gather(result); break;
      case StepKind::Sort: sort(result); break;
      case StepKind::Attention: attention(result); break;
      case StepKind::Cumsum: cumsum(result); break;
      case StepKind::Strip: strip(result); break;
      case StepKind::Loop: loop(result); break;
    }
    return result;
  }

  void strip(Step& step) {
    if (strip_ != nullptr) fail("a strip inside of a strip");
    step.rows = integer(1, kExact, "rows of a strip");
    step.block = integer(1, step.rows, "block of a strip");
    step.chunks = integers(1, step.rows, "chunk of a strip");
    int64_t chunked = 0;
    for (int64_t chunk : step.chunks) {
      if (chunked % step.block != 0) fail("a chunk is not a whole number of blocks");
      chunked += chunk;
      if (chunked > step.rows) break;
    }
    if (chunked != step.rows) fail("the chunks of a strip are not its rows");
    step.sumCount = integer(1, static_cast<int64_t>(step.chunks.size()), "number of a strip's sums");
    step.localBytes = integer(0, kMaxBytes, "local memory of a strip");
    if (step.localBytes % 64 != 0) fail("the local memory of a strip is not a multiple of 64");
    strip_ = &step;
    stripNumber_++;
    const int64_t parts = listLength("parts of a strip");
    for (int64_t i = 0; i < parts; i++) {
      sums_ = integer(0, 1, "role of a part") == 1;
      step.parts.push_back(this->step());
      step.parts.back().sums = sums_;
      checkPart(step.parts.back(), step.rows);
    }
    strip_ = nullptr;
    sums_ = false;
  }

  void loop(Step& step) {
    if (strip_ != nullptr) fail("a loop inside of a strip");
    if (depth_ >= kMaxDepth) fail("loops inside of each other, more than 64 deep");
    step.length = integer(0, kExact, "length of a loop");
    step.reverse = integer(0, 1, "direction of a loop") == 1;
    for (std::vector<int>* list : {&step.consts, &step.inits, &step.carries, &step.xs, &step.ys}) {
      const bool written = list == &step.carries || list == &step.ys;
      const int64_t count = listLength("buffers of a loop");
      for (int64_t i = 0; i < count; i++) list->push_back(bufferNumber(written, "a loop"));
    }
    Parser inner(words_, count_, at_, depth_ + 1);
    step.body = std::make_shared<Plan>(inner.body());
    at_ = inner.at_;
    const Plan& body = *step.body;
    if (step.inits.size() != step.carries.size()) fail("a loop has other inits than carries");
    if (step.consts.size() + step.inits.size() + step.xs.size() != body.inputs.size()) fail("inputs of a loop's plan");
    if (step.carries.size() + step.ys.size() != body.outputs.size()) fail("outputs of a loop's plan");
    const int* input = body.inputs.data();
    for (int buffer : step.consts) checkSlice(buffer, body.buffers[static_cast<size_t>(*input++)], 1);
    for (size_t i = 0; i < step.inits.size(); i++) {
      checkSlice(step.inits[i], body.buffers[static_cast<size_t>(*input++)], 1);
      const Buffer& result = body.buffers[static_cast<size_t>(body.outputs[i])];
      checkSlice(step.inits[i], result, 1);
      checkSlice(step.carries[i], result, 1);
    }
    for (int buffer : step.xs) checkSlice(buffer, body.buffers[static_cast<size_t>(*input++)], step.length);
    for (size_t i = 0; i < step.ys.size(); i++) {
      const int result = body.outputs[step.carries.size() + i];
      checkSlice(step.ys[i], body.buffers[static_cast<size_t>(result)], step.length);
    }
  }

  // A buffer of a loop is so many times one of its plan.
  void checkSlice(int buffer, const Buffer& inner, int64_t times) const {
    const Buffer& outer = at(buffer);
    if (outer.dtype != inner.dtype) fail("a loop's plan has another dtype than its buffer");
    if (outer.size != multiply(inner.size, times, "a loop")) fail("wrong size of a loop's buffer");
  }

  static void checkPart(const Step& part, int64_t rows) {
    int64_t found = -1;
    bool empty = false;
    for (int64_t size : part.shape) empty = empty || size == 0;
    if (part.kind == StepKind::Map && !part.sums && !part.shape.empty()) found = part.shape[0];
    if (part.kind == StepKind::Reduce) {
      const size_t kept = part.shape.size() - static_cast<size_t>(part.reducedRank);
      const bool position = part.reducer == Reducer::Argmax || part.reducer == Reducer::Argmin;
      int long_ = 0;
      for (size_t axis = 0; axis < kept; axis++) long_ += part.shape[axis] != 1;
      if (!part.sums && kept > 0) found = part.shape[0];
      if (part.sums && part.reducedRank > 0 && !position && long_ <= 1) found = part.shape[kept];
    }
    if (part.kind == StepKind::MatMul && part.shape.empty()) {
      found = part.sums ? part.k : part.m;
      empty = part.m == 0 || part.n == 0 || part.k == 0;
    }
    if (found != rows || empty) fail("a part does not have the rows of its strip");
  }

  void reduce(Step& step) {
    step.shape = shape(0);
    step.reducedRank = static_cast<int>(integer(0, static_cast<int64_t>(step.shape.size()), "reducedRank"));
    step.reducer = code<Reducer>(kReducers, "reducer");
    const auto split = step.shape.end() - step.reducedRank;
    const std::vector<int64_t> kept(step.shape.begin(), split), reduced(split, step.shape.end());
    const bool position = step.reducer == Reducer::Argmax || step.reducer == Reducer::Argmin;
    if (position) {
      static const DType int32 = DType::Int32;
      argDType_ = &int32;
      if (elementCount(reduced) > INT32_MAX) fail("argmax or argmin over more than 2^31 - 1 elements");
    }
    step.expression = expression(step.shape, kept, nullptr, sums_ ? static_cast<int>(kept.size()) : 0, sums_ ? -1 : 0);
    argDType_ = nullptr;
    if (step.expression.outputs.size() != 1) fail("a reduction has one output");
    const int value = step.expression.outputs[0].value;
    const DType dtype = step.expression.instructions[static_cast<size_t>(value)].dtype;
    if (step.reducer == Reducer::Sum && dtype == DType::Bool) fail("a sum of dtype bool");
    if (step.reducer != Reducer::Sum && elementCount(kept) > 0 && elementCount(reduced) == 0) {
      fail("only sum reduces an empty extent");
    }
  }

  void matmul(Step& step) {
    step.dtype = code<DType>(kDTypes, "matmul dtype");
    if (step.dtype == DType::Bool) fail("a matmul of dtype bool");
    step.shape = shape(2);
    step.m = integer(0, kExact, "m");
    step.n = integer(0, kExact, "n");
    step.k = integer(0, kExact, "k");
    const auto axes = [&](int64_t rows, int64_t columns) {
      std::vector<int64_t> result = step.shape;
      result.push_back(rows);
      result.push_back(columns);
      countElements(result);
      return result;
    };
    rowAxis_ = sums_ ? 1 : 0;
    step.a = view(axes(step.m, step.k), false, step.dtype);
    rowAxis_ = sums_ ? 0 : -1;
    step.b = view(axes(step.k, step.n), false, step.dtype);
    const std::vector<int64_t> product = axes(step.m, step.n);
    step.expression = expression(product, product, &step.dtype, sums_ ? -1 : 0, sums_ ? -1 : 0);
  }

  void gather(Step& step) {
    step.outer = integer(0, kExact, "outer");
    step.size = integer(0, INT32_MAX, "size");
    step.inner = integer(0, kExact, "inner");
    step.count = integer(0, kExact, "count");
    step.input = bufferNumber(false, "input");
    step.indices = bufferNumber(false, "indices");
    step.output = bufferNumber(true, "output");
    step.site = integer(-1, kExact, "site");
    const int64_t slice = multiply(step.outer, step.inner, "a gather");
    const int64_t whole = multiply(slice, step.size, "a gather"), picked = multiply(slice, step.count, "a gather");
    const bool forward = step.kind == StepKind::Gather;
    if (at(step.input).dtype != at(step.output).dtype) fail("gather: input and output differ in dtype");
    if (!forward && at(step.input).dtype == DType::Bool) fail("scatter of dtype bool");
    if (at(step.indices).dtype != DType::Int32) fail("gather: indices are not int32");
    if (at(step.indices).size != step.count) fail("gather: wrong number of indices");
    if (at(step.input).size != (forward ? whole : picked)) fail("gather: wrong size of the input");
    if (at(step.output).size != (forward ? picked : whole)) fail("gather: wrong size of the output");
  }

  void sort(Step& step) {
    step.outer = integer(0, kExact, "rows");
    step.size = integer(0, INT32_MAX, "size");
    step.input = bufferNumber(false, "input");
    step.output = bufferNumber(true, "output");
    const int64_t elements = multiply(step.outer, step.size, "a sort");
    if (at(step.output).dtype != DType::Int32) fail("sort: the output is not int32");
    if (at(step.input).size != elements || at(step.output).size != elements) fail("sort: wrong size of a buffer");
  }

  void attention(Step& step) {
    if (strip_ != nullptr) fail("attention inside of a strip");
    Attention& a = step.attention;
    a.part = code<AttentionPart>(kAttentionParts, "part of attention");
    step.dtype = code<DType>(kDTypes, "attention dtype");
    if (!isFloat(step.dtype)) fail("attention of a dtype that is no float");
    step.shape = shape(2);
    a.n = integer(0, kExact, "queries of attention");
    a.m = integer(0, kExact, "keys of attention");
    a.d = integer(0, kExact, "features of attention");
    a.e = integer(0, kExact, "features of attention's values");
    a.scale = number("scale of attention");
    if (!std::isfinite(a.scale)) fail("the scale of attention is not finite");
    a.causal = integer(0, 1, "causal") == 1;
    using Shape = std::vector<int64_t>;
    const auto axes = [&](std::initializer_list<int64_t> last) {
      Shape result = step.shape;
      result.insert(result.end(), last);
      countElements(result);
      return result;
    };
    const Shape q = axes({a.n, a.d}), k = axes({a.m, a.d}), v = axes({a.m, a.e}), o = axes({a.n, a.e}), l = axes({a.n});
    const Shape scores = axes({a.n, a.m});
    a.q = view(q, false, step.dtype);
    a.k = view(k, false, step.dtype);
    a.v = view(v, false, step.dtype);
    a.mask = optionalView(scores, DType::Bool);
    a.o = optionalView(o, step.dtype);
    a.l = optionalView(l, step.dtype);
    const bool value = a.part == AttentionPart::Value, tangent = a.part == AttentionPart::Tangent;
    if ((a.o.buffer < 0) != value || (a.l.buffer < 0) != value) fail("attention's results are for its derivatives");
    const std::vector<Shape> inputs{q, k, v}, results{o, l};
    const std::vector<Shape> given = value ? std::vector<Shape>{} : tangent ? inputs : results;
    const std::vector<Shape>& made = a.part == AttentionPart::Cotangent ? inputs : results;
    if (listLength("directions of attention") != static_cast<int64_t>(given.size())) fail("wrong number of directions");
    for (const Shape& of : given) a.directions.push_back(optionalView(of, step.dtype));
    if (listLength("outputs of attention") != static_cast<int64_t>(made.size())) fail("wrong number of outputs");
    for (const Shape& of : made) a.outputs.push_back(optionalOutput(of, step.dtype));
    checkAttentionBuffers(a);
  }

  View optionalView(const std::vector<int64_t>& shape, DType dtype) {
    return integer(0, 1, "whether there is a view") == 1 ? view(shape, false, dtype) : View{};
  }

  int optionalOutput(const std::vector<int64_t>& shape, DType dtype) {
    if (integer(0, 1, "whether there is an output") == 0) return -1;
    const int number = bufferNumber(true, "output of attention");
    if (at(number).dtype != dtype) fail("an output of attention has another dtype");
    if (at(number).size != elementCount(shape)) fail("wrong size of an output of attention");
    return number;
  }

  static void checkAttentionBuffers(const Attention& a) {
    std::vector<int> read{a.q.buffer, a.k.buffer, a.v.buffer, a.mask.buffer, a.o.buffer, a.l.buffer};
    for (const View& direction : a.directions) read.push_back(direction.buffer);
    for (size_t i = 0; i < a.outputs.size(); i++) {
      for (int buffer : read) {
        if (a.outputs[i] >= 0 && buffer == a.outputs[i]) fail("attention writes a buffer that it reads");
      }
      for (size_t other = 0; other < i; other++) {
        if (a.outputs[i] >= 0 && a.outputs[other] == a.outputs[i]) fail("attention writes a buffer twice");
      }
    }
  }

  void cumsum(Step& step) {
    step.outer = integer(0, kExact, "outer");
    step.size = integer(0, kExact, "size");
    step.inner = integer(0, kExact, "inner");
    step.reverse = integer(0, 1, "reverse") == 1;
    step.input = bufferNumber(false, "input");
    step.output = bufferNumber(true, "output");
    countElements({step.outer, step.size, step.inner});
    const int64_t elements = step.outer * step.size * step.inner;
    if (at(step.input).dtype == DType::Bool) fail("cumsum of dtype bool");
    if (at(step.input).dtype != at(step.output).dtype) fail("cumsum: input and output differ in dtype");
    if (at(step.input).size != elements || at(step.output).size != elements) fail("cumsum: wrong size of a buffer");
  }

  const double* words_;
  size_t count_;
  size_t at_;
  int depth_;  // of loops around this plan
  const DType* argDType_ = nullptr;  // dtype of the output view where it is not the value's (argmax, argmin)
  Step* strip_ = nullptr;      // the strip at hand,
  bool sums_ = false;          // whether its part at hand sums over the rows,
  int rowAxis_ = -1;           // and where the rows are in the view at hand
  int stripNumber_ = 0;
  std::vector<int> strips_;    // of local buffers: the number of their strip, from 1
  Plan plan_;
};

}  // namespace

Plan parsePlan(const double* words, size_t count) { return Parser(words, count).parse(); }

}  // namespace fluxion
