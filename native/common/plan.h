// The plan as the addons hold it: lib/compile/plan.ts after parsing and validation.
// Codes are positions in the name tables below; the tables are exported to TypeScript, which
// serialises by name, so nothing is numbered twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace fluxion {

enum class DType : uint8_t { Float32, Float64, Int32, UInt32, Bool };
constexpr int kDTypes = 5;
extern const char* const kDTypeNames[kDTypes];
inline size_t byteSize(DType dtype) {
  return dtype == DType::Float64 ? 8 : dtype == DType::Bool ? 1 : 4;
}
inline bool isFloat(DType dtype) { return dtype == DType::Float32 || dtype == DType::Float64; }

// X(enumerator, name, arguments, family): what every instruction is called and takes.
// Families: Leaf reads no value; Number, Float, Bool, Unsigned restrict the dtype;
// Compare: two of one dtype -> bool; Where, Cast: see plan.ts.
#define FLUXION_OPS(X)                        \
  X(Load, "load", 0, Leaf)                    \
  X(Constant, "constant", 0, Leaf)            \
  X(Index, "index", 0, Leaf)                  \
  X(Accumulator, "accumulator", 0, Leaf)      \
  X(Neg, "neg", 1, Number)                    \
  X(Abs, "abs", 1, Number)                    \
  X(Sign, "sign", 1, Number)                  \
  X(Add, "add", 2, Number)                    \
  X(Sub, "sub", 2, Number)                    \
  X(Mul, "mul", 2, Number)                    \
  X(Maximum, "maximum", 2, Any)               \
  X(Minimum, "minimum", 2, Any)               \
  X(Remainder, "remainder", 2, Number)        \
  X(Sqrt, "sqrt", 1, Float)                   \
  X(Rsqrt, "rsqrt", 1, Float)                 \
  X(Exp, "exp", 1, Float)                     \
  X(Expm1, "expm1", 1, Float)                 \
  X(Log, "log", 1, Float)                     \
  X(Log1p, "log1p", 1, Float)                 \
  X(Sin, "sin", 1, Float)                     \
  X(Cos, "cos", 1, Float)                     \
  X(Tanh, "tanh", 1, Float)                   \
  X(Erf, "erf", 1, Float)                     \
  X(Sigmoid, "sigmoid", 1, Float)             \
  X(Softplus, "softplus", 1, Float)           \
  X(Gelu, "gelu", 1, Float)                   \
  X(GeluSlope, "geluSlope", 1, Float)         \
  X(Floor, "floor", 1, Float)                 \
  X(Round, "round", 1, Float)                 \
  X(Div, "div", 2, Float)                     \
  X(Pow, "pow", 2, Float)                     \
  X(Equal, "equal", 2, Compare)               \
  X(NotEqual, "notEqual", 2, Compare)         \
  X(Greater, "greater", 2, Compare)           \
  X(GreaterEqual, "greaterEqual", 2, Compare) \
  X(Less, "less", 2, Compare)                 \
  X(LessEqual, "lessEqual", 2, Compare)       \
  X(LogicalNot, "logicalNot", 1, Bool)        \
  X(LogicalAnd, "logicalAnd", 2, Bool)        \
  X(LogicalOr, "logicalOr", 2, Bool)          \
  X(Where, "where", 3, Where)                 \
  X(Cast, "cast", 1, Cast)                    \
  X(ShiftRight, "shiftRight", 2, Unsigned)    \
  X(Threefry0, "threefry0", 4, Unsigned)      \
  X(Threefry1, "threefry1", 4, Unsigned)      \
  X(ThreefryXor, "threefryXor", 4, Unsigned)

enum class Op : uint8_t {
#define X(id, name, args, family) id,
  FLUXION_OPS(X)
#undef X
      Count
};
constexpr int kOps = static_cast<int>(Op::Count);
enum class Family : uint8_t { Leaf, Any, Number, Float, Bool, Unsigned, Compare, Where, Cast };
struct OpInfo {
  const char* name;
  int arguments;
  Family family;
};
extern const OpInfo kOpInfo[kOps];

enum class Reducer : uint8_t { Sum, Max, Min, Argmax, Argmin };
constexpr int kReducers = 5;
extern const char* const kReducerNames[kReducers];

enum class StepKind : uint8_t { Map, Reduce, MatMul, Gather, Scatter, Sort, Cumsum, Attention, Strip, Loop };
constexpr int kStepKinds = 10;
extern const char* const kStepKindNames[kStepKinds];

enum class AttentionPart : uint8_t { Value, Tangent, Cotangent };
constexpr int kAttentionParts = 3;
extern const char* const kAttentionPartNames[kAttentionParts];

enum class BufferKind : uint8_t { Input, Output, Temporary, Local };
constexpr int kBufferKinds = 4;
extern const char* const kBufferKindNames[kBufferKinds];

constexpr int kMaxRank = 32;

struct Buffer {
  BufferKind kind;
  DType dtype;
  int64_t size;
  int64_t offset;
  size_t bytes() const { return static_cast<size_t>(size) * byteSize(dtype); }
};

struct View {
  int buffer = -1;
  int64_t offset = 0;
  std::vector<int64_t> strides;
};

struct Instruction {
  Op op;
  DType dtype;
  View view;                    // load
  double value = 0;             // constant; offset of index
  std::vector<double> strides;  // index
  int args[4] = {0, 0, 0, 0};
  int argCount = 0;
};

struct ExpressionOutput {
  int value;
  View view;
};

struct Expression {
  std::vector<Instruction> instructions;
  std::vector<ExpressionOutput> outputs;
};

struct Plan;

// A view without a buffer (-1), and an output -1, are absent.
struct Attention {
  AttentionPart part = AttentionPart::Value;
  int64_t n = 0, m = 0, d = 0, e = 0;
  double scale = 1;
  bool causal = false;
  View q, k, v, mask, o, l;
  std::vector<View> directions;  // none; of q, k, v; of O, L
  std::vector<int> outputs;      // O, L; dO, dL; cQ, cK, cV
};

struct Step {
  StepKind kind;
  std::vector<int64_t> shape;  // map, reduce; matmul, attention: batch
  Expression expression;
  int reducedRank = 0;
  Reducer reducer = Reducer::Sum;
  DType dtype = DType::Float32;  // matmul, attention
  int64_t m = 0, n = 0, k = 0;
  View a, b;
  int64_t outer = 0, size = 0, inner = 0, count = 0;  // gather, scatter, cumsum; sort: outer rows of size
  int input = -1, indices = -1, output = -1;
  Attention attention;
  int64_t site = -1;  // gather, scatter: how errors name the step, when not negative
  int64_t rows = 0, block = 0, sumCount = 0, localBytes = 0;  // strip
  std::vector<int64_t> chunks;
  std::vector<Step> parts;
  std::vector<int> locals;  // the strip's local buffers
  bool sums = false;        // a part: sums over the rows
  int64_t length = 0;       // loop
  bool reverse = false;     // loop, cumsum
  std::vector<int> consts, inits, carries, xs, ys;
  std::shared_ptr<Plan> body;
};

struct Plan {
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::vector<int> inputs, outputs;
  int64_t arenaBytes = 0;
};

// Every fault of a plan or of a run's arguments.
struct PlanError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Parses the words that lib/backend/cpu.ts writes (the layout is in plan.cc) and checks everything:
// a plan that passes cannot reach outside of its buffers.
Plan parsePlan(const double* words, size_t count);

// Product of extents that were checked when the plan was parsed.
inline int64_t elementCount(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

}  // namespace fluxion
