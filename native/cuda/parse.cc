#include "parse.h"

#include <algorithm>
#include <optional>

#include "js.h"
#include "product.h"

namespace fluxion::cuda {
namespace {

constexpr double kMostBytes = 9007199254740991.0;  // exact in a double
constexpr double kMost32 = 2147483647.0;
constexpr int kMostDepth = 64;

[[noreturn]] void fail(const std::string& message) { throw Error(message); }

// The largest power of two up to `alignment` that divides `bytes`, too.
size_t alignedBy(size_t alignment, size_t bytes) {
  const size_t bits = alignment | bytes;
  return bits & (~bits + 1);
}

// The alignments of what a loop gives its body.
struct Outside {
  std::vector<size_t> inputs, outputs;
};

Napi::Object object(const Napi::Value& value, const std::string& what) {
  if (!value.IsObject()) fail(what + ": expected an object");
  return value.As<Napi::Object>();
}

int64_t field(const Napi::Object& from, const char* name, double low, double high) {
  return integer(from.Get(name), low, high, name);
}

bool flag(const Napi::Object& from, const char* name) {
  const Napi::Value value = from.Get(name);
  if (!value.IsBoolean()) fail(std::string(name) + ": expected true or false");
  return value.As<Napi::Boolean>().Value();
}

class Parser {
 public:
  Parser(Device& device, Module& module, Whole& whole) : device_(device), module_(module), whole_(whole) {}

  std::unique_ptr<Body> body(const Napi::Value& value, const Outside* outside, int depth) {
    if (depth > kMostDepth) fail("loops inside of each other, more than 64 deep");
    auto result = std::make_unique<Body>();
    const Napi::Object from = object(value, "program");
    result->arenaBytes = static_cast<size_t>(field(from, "arenaBytes", 0, kMostBytes));
    const Napi::Array buffers = arrayOf(from.Get("buffers"), "buffers");
    for (uint32_t i = 0; i < buffers.Length(); i++) {
      try {
        result->buffers.push_back(buffer(object(buffers.Get(i), "buffer"), result->arenaBytes));
      } catch (const Error& error) {
        fail("buffer " + std::to_string(i) + ": " + error.what());
      }
    }
    result->inputs = arguments(*result, from, "inputs", Kind::Input);
    result->outputs = arguments(*result, from, "outputs", Kind::Output);
    if (outside != nullptr) {
      for (size_t i = 0; i < result->inputs.size(); i++) at(*result, result->inputs[i]).alignment = outside->inputs.at(i);
      for (size_t i = 0; i < result->outputs.size(); i++) at(*result, result->outputs[i]).alignment = outside->outputs.at(i);
    }
    result->uncheckedOutputs.resize(result->outputs.size());
    const Napi::Array operations = arrayOf(from.Get("operations"), "operations");
    size_t behind = 0;
    for (uint32_t i = 0; i < operations.Length(); i++) {
      std::string kind = "?";
      try {
        const Napi::Object operation = object(operations.Get(i), "operation");
        kind = stringOf(operation.Get("kind"), "kind");
        behind = std::max(behind, add(*result, operation, kind, depth));
      } catch (const Error& error) {
        fail("operation " + std::to_string(i) + " (" + kind + "): " + error.what());
      }
    }
    result->totalBytes = checkedAdd(aligned(result->arenaBytes), behind);
    return result;
  }

 private:
  static BufferSpec& at(Body& body, int number) { return body.buffers[static_cast<size_t>(number)]; }

  BufferSpec buffer(const Napi::Object& from, size_t arenaBytes) {
    BufferSpec result{};
    const std::string kind = stringOf(from.Get("kind"), "kind");
    if (kind == "input") result.kind = Kind::Input;
    else if (kind == "output") result.kind = Kind::Output;
    else if (kind == "temporary") result.kind = Kind::Temporary;
    else fail("there is no kind \"" + kind + "\"");
    result.bytes = static_cast<size_t>(field(from, "bytes", 0, kMostBytes));
    result.offset = static_cast<size_t>(field(from, "offset", 0, kMostBytes));
    result.alignment = kAlignment;
    if (result.kind == Kind::Temporary) {
      if (result.offset % 64 != 0) fail("the offset of a temporary is not a multiple of 64");
      if (checkedAdd(result.offset, result.bytes) > arenaBytes) fail("a temporary reaches outside of the arena");
      result.alignment = alignedBy(kAlignment, result.offset);
    }
    return result;
  }

  std::vector<int> numbers(Body& body, const Napi::Object& from, const char* name) {
    const Napi::Array list = arrayOf(from.Get(name), name);
    std::vector<int> result;
    for (uint32_t i = 0; i < list.Length(); i++) result.push_back(number(body, list.Get(i), name));
    return result;
  }

  int number(Body& body, const Napi::Value& value, const char* name) {
    const double count = static_cast<double>(body.buffers.size());
    if (count == 0) fail(std::string(name) + ": there are no buffers");
    return static_cast<int>(integer(value, 0, count - 1, std::string(name) + ": the number of a buffer"));
  }

  // Every buffer of the kind, once.
  std::vector<int> arguments(Body& body, const Napi::Object& from, const char* name, Kind kind) {
    const std::vector<int> result = numbers(body, from, name);
    std::vector<bool> seen(body.buffers.size());
    for (int buffer : result) {
      if (at(body, buffer).kind != kind) fail(std::string(name) + ": buffer " + std::to_string(buffer) + " is of another kind");
      if (seen[static_cast<size_t>(buffer)]) fail(std::string(name) + ": buffer " + std::to_string(buffer) + " comes twice");
      seen[static_cast<size_t>(buffer)] = true;
    }
    for (size_t i = 0; i < seen.size(); i++) {
      if (body.buffers[i].kind == kind && !seen[i]) fail(std::string(name) + ": buffer " + std::to_string(i) + " is missing");
    }
    return result;
  }

  // Adds an operation; gives the bytes behind the arena that it needs.
  size_t add(Body& body, const Napi::Object& from, const std::string& kind, int depth) {
    const int step = static_cast<int>(field(from, "step", 0, kMost32 - 1));
    body.steps = std::max(body.steps, step + 1);
    if (kind == "launch") {
      if (auto parsed = launch(body, from)) {
        body.operations.push_back({step, std::move(*parsed)});
        body.launches++;
      }
      return 0;
    }
    if (kind == "zero") {
      const int buffer = number(body, from.Get("buffer"), "buffer");
      written(body, buffer, true);
      body.operations.push_back({step, Zero{buffer}});
      body.launches++;
      return 0;
    }
    if (kind == "product") {
      body.operations.push_back({step, product(body, from)});
      body.launches++;
      return 0;
    }
    if (kind == "turns") {
      Turns parsed = turns(body, from, depth);
      const size_t behind = checkedAdd(parsed.spareBytes, parsed.body->totalBytes);
      body.launches += parsed.length == 0 ? static_cast<double>(parsed.carries.size())
                                          : static_cast<double>(parsed.length) * parsed.body->launches;
      body.operations.push_back({step, std::move(parsed)});
      return behind;
    }
    fail("there is no such operation");
  }

  void written(Body& body, int buffer, bool unchecked) {
    if (at(body, buffer).kind == Kind::Input) fail("writes to input buffer " + std::to_string(buffer));
    if (!unchecked) return;
    const auto output = std::find(body.outputs.begin(), body.outputs.end(), buffer);
    if (output != body.outputs.end()) body.uncheckedOutputs[static_cast<size_t>(output - body.outputs.begin())] = true;
  }

  std::optional<Launch> launch(Body& body, const Napi::Object& from) {
    Launch result{};
    const std::string kernel = stringOf(from.Get("kernel"), "kernel");
    const Napi::Array grid = arrayOf(from.Get("grid"), "grid");
    if (grid.Length() != 3) fail("grid: expected three numbers");
    for (uint32_t i = 0; i < 3; i++) {
      result.grid[i] = static_cast<unsigned>(integer(grid.Get(i), 0, i == 0 ? kMost32 : 65535, "grid"));
    }
    result.threads = static_cast<unsigned>(field(from, "threads", 32, 1024));
    if (result.threads % 32 != 0) fail("threads: " + std::to_string(result.threads) + " is not a multiple of 32");
    result.sharedBytes = static_cast<unsigned>(field(from, "sharedBytes", 0, kMost32));
    result.buffers = numbers(body, from, "buffers");
    result.function = module_.kernel(kernel, result.threads, result.sharedBytes, result.buffers.size() + 1);
    const Napi::Value check = from.Get("check");
    if (!check.IsUndefined()) addCheck(object(check, "check"));
    for (unsigned extent : result.grid) {
      if (extent == 0) return std::nullopt;
    }
    return result;
  }

  void addCheck(const Napi::Object& from) {
    const int64_t number = field(from, "number", 0, kMost32);
    const Napi::Value site = from.Get("site");
    const Check check{field(from, "size", 0, kMost32),
                      site.IsUndefined() ? -1 : integer(site, 0, kMostBytes, "site")};
    if (!whole_.checks.emplace(number, check).second) fail("check " + std::to_string(number) + " comes twice");
  }

  Product product(Body& body, const Napi::Object& from) {
    Product result;
    const std::string dtype = stringOf(from.Get("dtype"), "dtype");
    if (dtype != "float32" && dtype != "float64") fail("dtype: " + dtype + " is no float");
    result.float64 = dtype == "float64";
    const std::string precision = stringOf(from.Get("precision"), "precision");
    if (precision == "tf32") result.precision = Precision::Tf32;
    else if (precision == "bfloat16") result.precision = Precision::Bfloat16;
    else if (precision != "float32") fail("precision: there is no \"" + precision + "\"");
    result.batch = field(from, "batch", 0, kMost32);
    result.m = field(from, "m", 0, kMost32);
    result.n = field(from, "n", 0, kMost32);
    result.k = field(from, "k", 1, kMost32);
    result.a = matrix(body, result, object(from.Get("a"), "a"), "a", result.m, result.k);
    result.b = matrix(body, result, object(from.Get("b"), "b"), "b", result.k, result.n);
    result.c = matrix(body, result, object(from.Get("c"), "c"), "c", result.m, result.n);
    if (result.c.transposed) fail("c: a result is not transposed");
    if (result.batch > 1 && result.c.step == 0) fail("c: results overlap");
    written(body, result.c.buffer, true);
    const Napi::Value bias = from.Get("bias");
    if (!bias.IsUndefined()) {
      const Napi::Object given = object(bias, "bias");
      result.bias = number(body, given.Get("buffer"), "bias");
      result.biasOffset = field(given, "offset", 0, kMostBytes);
      within(body, result, result.bias, checkedAdd(static_cast<size_t>(result.biasOffset), static_cast<size_t>(result.n)), "bias");
    }
    if (result.batch == 0 || result.m == 0 || result.n == 0) return result;
    result.plan = std::make_shared<ProductPlan>(device_, result, body.buffers);
    whole_.workspaceBytes = std::max(whole_.workspaceBytes, result.plan->workspaceBytes());
    return result;
  }

  // As it is used, a matrix has `rows` rows; as it lies, fewer or more where it is transposed.
  Matrix matrix(Body& body, const Product& product, const Napi::Object& from, const char* name, int64_t rows,
                int64_t columns) {
    Matrix result;
    result.buffer = number(body, from.Get("buffer"), name);
    result.offset = field(from, "offset", 0, kMostBytes);
    result.row = field(from, "row", 0, kMostBytes);
    result.step = field(from, "step", 0, kMostBytes);
    result.transposed = flag(from, "transposed");
    if (result.transposed) std::swap(rows, columns);
    if (rows == 0 || columns == 0 || product.batch == 0) return result;
    if (rows == 1) result.row = std::max(result.row, columns);  // there is no next row
    if (result.row < columns) fail(std::string(name) + ": rows overlap");
    const auto times = [](int64_t a, int64_t b) { return checkedMultiply(static_cast<size_t>(a), static_cast<size_t>(b)); };
    size_t end = static_cast<size_t>(result.offset);
    for (size_t part : {times(product.batch - 1, result.step), times(rows - 1, result.row), static_cast<size_t>(columns)}) {
      end = checkedAdd(end, part);
    }
    within(body, product, result.buffer, end, name);
    return result;
  }

  void within(Body& body, const Product& product, int buffer, size_t elements, const char* name) {
    if (checkedMultiply(elements, product.elementBytes()) > at(body, buffer).bytes) {
      fail(std::string(name) + ": reaches outside of buffer " + std::to_string(buffer));
    }
  }

  Turns turns(Body& body, const Napi::Object& from, int depth) {
    Turns result;
    result.length = field(from, "length", 0, kMostBytes);
    result.reverse = flag(from, "reverse");
    result.consts = numbers(body, from, "consts");
    result.inits = numbers(body, from, "inits");
    result.carries = numbers(body, from, "carries");
    result.xs = numbers(body, from, "xs");
    result.ys = numbers(body, from, "ys");
    if (result.inits.size() != result.carries.size()) fail("other inits than carries");
    std::vector<int> results = result.carries;
    results.insert(results.end(), result.ys.begin(), result.ys.end());
    std::sort(results.begin(), results.end());
    if (std::adjacent_find(results.begin(), results.end()) != results.end()) fail("a result comes twice");

    const auto slice = [&](int buffer) {
      const size_t bytes = at(body, buffer).bytes;
      const size_t length = static_cast<size_t>(result.length);
      if (length == 0) return size_t{0};
      if (bytes % length != 0) fail("buffer " + std::to_string(buffer) + " is not a slice for each turn");
      return bytes / length;
    };
    Outside outside;
    for (int buffer : result.consts) outside.inputs.push_back(at(body, buffer).alignment);
    for (size_t i = 0; i < result.inits.size(); i++) {
      const BufferSpec &init = at(body, result.inits[i]), &carry = at(body, result.carries[i]);
      if (init.bytes != carry.bytes) fail("carry " + std::to_string(i) + " and its init differ in size");
      written(body, result.carries[i], result.length == 0);
      outside.inputs.push_back(std::min(init.alignment, carry.alignment));
      outside.outputs.push_back(carry.alignment);
      result.carryBytes.push_back(carry.bytes);
      result.spareOffsets.push_back(result.spareBytes);
      result.spareBytes = checkedAdd(result.spareBytes, aligned(carry.bytes));
    }
    for (int buffer : result.xs) {
      result.xBytes.push_back(slice(buffer));
      outside.inputs.push_back(alignedBy(at(body, buffer).alignment, result.xBytes.back()));
    }
    for (int buffer : result.ys) {
      written(body, buffer, false);
      result.yBytes.push_back(slice(buffer));
      outside.outputs.push_back(alignedBy(at(body, buffer).alignment, result.yBytes.back()));
    }
    result.body = inner(body, from, result, outside, depth);
    for (size_t i = 0; i < result.body->uncheckedOutputs.size() && result.length > 0; i++) {
      if (!result.body->uncheckedOutputs[i]) continue;
      const size_t carries = result.carries.size();
      written(body, i < carries ? result.carries[i] : result.ys[i - carries], true);
    }
    return result;
  }

  // The body of a loop, whose arguments must be what the loop gives.
  std::unique_ptr<Body> inner(Body& outer, const Napi::Object& from, const Turns& turns, Outside& outside, int depth) {
    // The alignments are looked up by position: a body with more arguments must fail below, not there.
    const Napi::Object given = object(from.Get("body"), "body");
    if (arrayOf(given.Get("inputs"), "inputs").Length() != outside.inputs.size()) fail("the body has other inputs");
    if (arrayOf(given.Get("outputs"), "outputs").Length() != outside.outputs.size()) fail("the body has other outputs");
    std::unique_ptr<Body> result = body(given, &outside, depth + 1);
    const auto same = [&](const std::vector<int>& numbers, size_t& next, size_t argument, size_t bytes) {
      const BufferSpec& spec = at(*result, numbers.at(next++));
      if (spec.bytes != bytes && turns.length > 0) fail("argument " + std::to_string(argument) + " of the body has another size");
    };
    size_t input = 0, output = 0;
    for (int buffer : turns.consts) same(result->inputs, input, input, at(outer, buffer).bytes);
    for (size_t bytes : turns.carryBytes) same(result->inputs, input, input, bytes);
    for (size_t bytes : turns.xBytes) same(result->inputs, input, input, bytes);
    for (size_t bytes : turns.carryBytes) same(result->outputs, output, output, bytes);
    for (size_t bytes : turns.yBytes) same(result->outputs, output, output, bytes);
    return result;
  }

  Device& device_;
  Module& module_;
  Whole& whole_;
};

}  // namespace

std::unique_ptr<Body> parseProgram(Device& device, Module& module, const Napi::Value& value, Whole& whole) {
  try {
    return Parser(device, module, whole).body(value, nullptr, 0);
  } catch (const Error& error) {
    throw Error(std::string("malformed program: ") + error.what());
  }
}

}  // namespace fluxion::cuda
