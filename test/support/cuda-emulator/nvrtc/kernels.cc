#include "kernels.h"

#include <cctype>

namespace emulator {

namespace {

std::string withoutComments(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "//") == 0) {
      i = text.find('\n', i);
      if (i == std::string::npos) break;
      result += '\n';
    } else if (text.compare(i, 2, "/*") == 0) {
      i = text.find("*/", i + 2);
      if (i == std::string::npos) break;
      ++i;
      result += ' ';
    } else {
      result += text[i];
    }
  }
  return result;
}

// Reads words and balanced parentheses from a place on.
class Reader {
 public:
  Reader(const std::string& text, size_t at) : text_(text), at_(at) {}

  bool take(const std::string& token) {
    skipSpace();
    if (text_.compare(at_, token.size(), token) != 0) return false;
    at_ += token.size();
    return true;
  }

  std::string word() {
    skipSpace();
    const size_t begin = at_;
    while (at_ < text_.size() && (isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  // What stands between "(" and its ")".
  std::string parenthesized() {
    if (!take("(")) return "";
    const size_t begin = at_;
    for (int depth = 1; at_ < text_.size(); ++at_) {
      if (text_[at_] == '(') ++depth;
      if (text_[at_] == ')' && --depth == 0) break;
    }
    return text_.substr(begin, at_++ - begin);
  }

 private:
  void skipSpace() {
    while (at_ < text_.size() && isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }

  const std::string& text_;
  size_t at_;
};

void collect(const std::string& commented, const std::map<std::string, std::string>& headers,
             std::set<std::string>& seen, std::vector<KernelName>& kernels) {
  const std::string text = withoutComments(commented);
  const std::string include = "#include \"", start = "extern \"C\"";
  for (size_t at = text.find(include); at != std::string::npos; at = text.find(include, at + 1)) {
    const size_t begin = at + include.size();
    const std::string name = text.substr(begin, text.find('"', begin) - begin);
    const auto header = headers.find(name);
    if (header != headers.end() && seen.insert(name).second) collect(header->second, headers, seen, kernels);
  }
  for (size_t at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) {
    Reader reader(text, at + start.size());
    if (!reader.take("__global__") || !reader.take("void")) continue;
    KernelName kernel{"", "1024"};
    if (reader.take("__launch_bounds__")) kernel.launchBounds = reader.parenthesized();
    kernel.name = reader.word();
    if (!kernel.name.empty() && reader.take("(")) kernels.push_back(kernel);
  }
}

}  // namespace

std::vector<KernelName> findKernels(const std::string& source, const std::map<std::string, std::string>& headers) {
  std::set<std::string> seen;
  std::vector<KernelName> kernels;
  collect(source, headers, seen, kernels);
  return kernels;
}

}  // namespace emulator
