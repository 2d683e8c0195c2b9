export { readFileBytes, writeFileAtomic } from "./atomic.js";
export {
  decodeSafetensors,
  encodeSafetensors,
  loadSafetensors,
  type SafetensorsContent,
  saveSafetensors,
} from "./safetensors.js";
