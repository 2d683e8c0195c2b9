// Four neighbouring elements at once: one access of 16 bytes (two for double, one of 4 for bytes). Addresses are aligned to
// that.
#pragma once

namespace fluxion {

__device__ __forceinline__ void load4(float (&to)[4], const float* from) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x; to[1] = v.y; to[2] = v.z; to[3] = v.w;
}
__device__ __forceinline__ void load4(double (&to)[4], const double* from) {
  const double2 a = reinterpret_cast<const double2*>(from)[0], b = reinterpret_cast<const double2*>(from)[1];
  to[0] = a.x; to[1] = a.y; to[2] = b.x; to[3] = b.y;
}
__device__ __forceinline__ void load4(int (&to)[4], const int* from) {
  const int4 v = *reinterpret_cast<const int4*>(from);
  to[0] = v.x; to[1] = v.y; to[2] = v.z; to[3] = v.w;
}
__device__ __forceinline__ void load4(unsigned (&to)[4], const unsigned* from) {
  const uint4 v = *reinterpret_cast<const uint4*>(from);
  to[0] = v.x; to[1] = v.y; to[2] = v.z; to[3] = v.w;
}
__device__ __forceinline__ void load4(unsigned char (&to)[4], const unsigned char* from) {
  const uchar4 v = *reinterpret_cast<const uchar4*>(from);
  to[0] = v.x; to[1] = v.y; to[2] = v.z; to[3] = v.w;
}

__device__ __forceinline__ void store4(float* to, const float (&from)[4]) {
  float4 v;
  v.x = from[0]; v.y = from[1]; v.z = from[2]; v.w = from[3];
  *reinterpret_cast<float4*>(to) = v;
}
__device__ __forceinline__ void store4(double* to, const double (&from)[4]) {
  double2 a, b;
  a.x = from[0]; a.y = from[1]; b.x = from[2]; b.y = from[3];
  reinterpret_cast<double2*>(to)[0] = a;
  reinterpret_cast<double2*>(to)[1] = b;
}
__device__ __forceinline__ void store4(int* to, const int (&from)[4]) {
  int4 v;
  v.x = from[0]; v.y = from[1]; v.z = from[2]; v.w = from[3];
  *reinterpret_cast<int4*>(to) = v;
}
__device__ __forceinline__ void store4(unsigned* to, const unsigned (&from)[4]) {
  uint4 v;
  v.x = from[0]; v.y = from[1]; v.z = from[2]; v.w = from[3];
  *reinterpret_cast<uint4*>(to) = v;
}
__device__ __forceinline__ void store4(unsigned char* to, const unsigned char (&from)[4]) {
  uchar4 v;
  v.x = from[0]; v.y = from[1]; v.z = from[2]; v.w = from[3];
  *reinterpret_cast<uchar4*>(to) = v;
}

}  // namespace fluxion
