// The asynchronous copies that a thread has started and not yet waited for.
#pragma once

#include <cstring>
#include <vector>

#include "garbage.h"

namespace emulator {

class PendingCopies {
 public:
  void clear() {
    copies_.clear();
    group_ = 0;
  }

  void start(void* to, const void* from, int bytes, int valid) {
    fillWithGarbage(to, size_t(bytes));
    copies_.push_back({to, from, bytes, valid, group_});
  }

  void commit() { ++group_; }

  // Does all but the copies of the `pending` newest groups that are closed, and of the open one.
  void wait(int pending) {
    size_t done = 0;
    while (done < copies_.size() && copies_[done].group < group_ - pending) {
      const Copy& copy = copies_[done++];
      memset(copy.to, 0, size_t(copy.bytes));
      if (copy.valid > 0) memcpy(copy.to, copy.from, size_t(copy.valid));
    }
    copies_.erase(copies_.begin(), copies_.begin() + long(done));
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    int bytes, valid, group;
  };

  std::vector<Copy> copies_;
  int group_ = 0;
};

}  // namespace emulator
