/**
 * Exact conversion between float32 and the two 16-bit formats: rounds to nearest, ties to even, and handles
 * subnormals, infinities and NaN. Works on raw bits in typed arrays, so it is as fast as a copy loop. Expects a
 * little-endian host, as safetensors files are little-endian. Knows no tensors.
 */

/** Formats that weights may have in a file: IEEE binary32, bfloat16, IEEE binary16. */
export type FloatDtype = 'F32' | 'BF16' | 'F16'

/** Bytes of one value. */
export const FLOAT_BYTES: Readonly<Record<FloatDtype, number>> = { F32: 4, BF16: 2, F16: 2 }

/** The bits of each value in bfloat16. */
export function bf16FromFloat32(values: Float32Array): Uint16Array {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < out.length; i++) {
    const b = bits[i] as number
    // NaN stays NaN: rounding could carry its payload into an infinity.
    out[i] = (b & 0x7fffffff) > 0x7f800000 ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16
  }
  return out
}

export function float32FromBf16(halves: Uint16Array): Float32Array {
  const values = new Float32Array(halves.length)
  expandBf16(halves, values)
  return values
}

/** Writes bfloat16 values as float32. @param into has at least as many elements */
export function expandBf16(halves: Uint16Array, into: Float32Array): void {
  const out = new Int32Array(into.buffer, into.byteOffset, halves.length)
  for (let i = 0; i < out.length; i++) out[i] = (halves[i] as number) << 16
}

/** The bits of each value in IEEE binary16. */
export function f16FromFloat32(values: Float32Array): Uint16Array {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < out.length; i++) {
    const b = bits[i] as number
    out[i] = ((b >>> 16) & 0x8000) | f16Magnitude(b & 0x7fffffff)
  }
  return out
}

function f16Magnitude(f: number): number {
  // 65536 and more: infinity, or a quiet NaN with the top bits of its payload.
  if (f >= 0x47800000) return f > 0x7f800000 ? 0x7e00 | ((f >>> 13) & 0x1ff) : 0x7c00
  // Normal results: rebias the exponent by -112 and round off 13 bits; 65520 and more carry into infinity.
  if (f >= 0x38800000) return (f - 0x38000000 + 0xfff + ((f >>> 13) & 1)) >>> 13
  // Below half of the smallest subnormal.
  if (f < 0x33000000) return 0
  // Subnormal results are multiples of 2^-24.
  const shift = 126 - (f >>> 23)
  const mantissa = (f & 0x7fffff) | 0x800000
  const kept = mantissa >>> shift
  return kept + ((mantissa & ((1 << shift) - 1)) + (kept & 1) > 1 << (shift - 1) ? 1 : 0)
}

export function float32FromF16(halves: Uint16Array): Float32Array {
  const values = new Float32Array(halves.length)
  expandF16(halves, values)
  return values
}

/** Writes IEEE binary16 values as float32. @param into has at least as many elements */
export function expandF16(halves: Uint16Array, into: Float32Array): void {
  const out = new Int32Array(into.buffer, into.byteOffset, halves.length)
  for (let i = 0; i < out.length; i++) {
    const h = halves[i] as number
    const sign = (h & 0x8000) << 16
    const exponent = (h >>> 10) & 0x1f
    const mantissa = h & 0x3ff
    if (exponent === 0x1f) out[i] = sign | 0x7f800000 | (mantissa << 13)
    else if (exponent !== 0) out[i] = sign | ((exponent + 112) << 23) | (mantissa << 13)
    else if (mantissa === 0) out[i] = sign
    else {
      // Subnormal: shift its leading one to the position of the implicit bit.
      const shift = Math.clz32(mantissa) - 21
      out[i] = sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13)
    }
  }
}

/** Index of the first infinity or NaN among little-endian values, or -1. `bytes` need not be aligned. */
export function firstNonFinite(bytes: Uint8Array, format: FloatDtype): number {
  const size = FLOAT_BYTES[format]
  const { buffer, byteOffset, length } = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  if (format === 'F32') {
    const words = new Uint32Array(buffer, byteOffset, length / size)
    for (let i = 0; i < words.length; i++) if (((words[i] as number) & 0x7f800000) === 0x7f800000) return i
    return -1
  }
  const exponent = format === 'BF16' ? 0x7f80 : 0x7c00
  const halves = new Uint16Array(buffer, byteOffset, length / size)
  for (let i = 0; i < halves.length; i++) if (((halves[i] as number) & exponent) === exponent) return i
  return -1
}
