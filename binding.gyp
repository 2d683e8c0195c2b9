# The CUDA addon. It opens the driver and the toolkit's libraries at run time: no toolkit is needed to build it.
{
  "targets": [
    {
      "target_name": "fluxion_cuda",
      "conditions": [
        ["OS!='linux'", { "type": "none" }, {
          "product_dir": "<(module_root_dir)/build/cuda/Release",
          "sources": [
            "native/cuda/binding.cc",
            "native/cuda/buffer_object.cc",
            "native/cuda/compiler.cc",
            "native/cuda/device.cc",
            "native/cuda/js.cc",
            "native/cuda/libraries.cc",
            "native/cuda/loop.cc",
            "native/cuda/memory.cc",
            "native/cuda/module.cc",
            "native/cuda/parse.cc",
            "native/cuda/product.cc",
            "native/cuda/program.cc",
            "native/cuda/program_object.cc"
          ],
          "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
          # The last: in a worker that is being ended an exception cannot be thrown.
          "defines": [
            "NAPI_VERSION=8",
            "NODE_ADDON_API_CPP_EXCEPTIONS",
            "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
          ],
          "cflags_cc!": ["-fno-exceptions", "-fno-rtti"],
          "cflags_cc": ["-fexceptions", "-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra", "-fvisibility=hidden"],
          "libraries": ["-ldl", "-lpthread"]
        }]
      ]
    }
  ]
}
