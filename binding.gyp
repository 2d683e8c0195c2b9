# The CUDA toolkit bindings. Without a toolkit (scripts/cuda-toolkit.mjs finds headers and libraries) nothing is built.
{
  "variables": {
    "cuda_include%": "<!(node scripts/cuda-toolkit.mjs include)",
    "cuda_lib%": "<!(node scripts/cuda-toolkit.mjs lib)"
  },
  "targets": [
    {
      "target_name": "fluxion_cuda",
      "conditions": [
        ["cuda_include==''", { "type": "none" }, {
          "product_dir": "<(module_root_dir)/build/cuda/Release",
          "sources": ["native/cuda/binding.cc"],
          "include_dirs": [
            "<!(node -p \"require('node-addon-api').include_dir\")",
            "<(cuda_include)"
          ],
          "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS"],
          "cflags_cc!": ["-fno-exceptions", "-fno-rtti"],
          "cflags_cc": ["-fexceptions", "-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra", "-fvisibility=hidden"],
          "libraries": ["-L<(cuda_lib)", "-lcudart_static", "-ldl", "-lpthread", "-lrt"]
        }]
      ]
    }
  ]
}
