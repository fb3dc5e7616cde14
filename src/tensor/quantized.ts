/**
 * Matrices held as 8- or 4-bit codes, a scale for every 32 inputs: what they are, how they are made,
 * and the product with them. Activations stay float outside the operator. Knows no model.
 */
import {
  cast,
  engine,
  floorDiv,
  getBackend,
  matMul,
  mod,
  mul,
  reshape,
  scalar,
  slice,
  stack,
  sub,
  type Tensor,
} from '@tensorflow/tfjs'
import { input, traced } from './kernels-elementwise.ts'
import { TRACE_BACKEND, traceBackend as trace } from './trace-backend.ts'

export type Bits = 8 | 4

/** Inputs that share one scale; a 4-bit block is 20 bytes, an 8-bit block 36. */
export const QUANTIZED_BLOCK = 32
const BLOCK = QUANTIZED_BLOCK
const KERNEL = 'QuantizedMatMul'
/** The operator may round activations to 8 bits, block by block: what makes it fast. */
const ACCURACY_INT8 = 4

export interface QuantizedMatrix {
  readonly bits: Bits
  /** Outputs and inputs of the matrix [O, I]. */
  readonly O: number
  readonly I: number
  /** [O, blocks, BLOCK * bits / 8], low half of a byte first. */
  readonly codes: Uint8Array
  /** [O * blocks]. */
  readonly scales: Float32Array
}

/** Round W [O, I] to nearest, symmetric around zero; the largest value of a block is exact. */
export function quantize(weight: Float32Array, O: number, I: number, bits: Bits): QuantizedMatrix {
  const blocks = Math.ceil(I / BLOCK)
  const zero = 2 ** (bits - 1)
  const codes = new Uint8Array((O * blocks * BLOCK * bits) / 8)
  const scales = new Float32Array(O * blocks)
  for (let row = 0; row < O; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * I + block * BLOCK
      const count = Math.min(BLOCK, I - block * BLOCK)
      let peak = 0
      for (let i = from; i < from + count; i++) {
        if (Math.abs(weight[i] as number) > Math.abs(peak)) peak = weight[i] as number
      }
      // The largest value becomes the one code without a counterpart on the other side.
      const scale = Math.fround(-peak / zero)
      const inverse = scale === 0 ? 0 : 1 / scale
      const at = row * blocks + block
      scales[at] = scale
      for (let i = 0; i < BLOCK; i++) {
        const value = i < count ? Math.round((weight[from + i] as number) * inverse) : 0
        const code = Math.min(2 * zero - 1, Math.max(0, value + zero))
        if (bits === 8) codes[at * BLOCK + i] = code
        else {
          const byte = (at * BLOCK + i) >> 1
          codes[byte] = (codes[byte] as number) | (code << (4 * (i & 1)))
        }
      }
    }
  }
  return { bits, O, I, codes, scales }
}

traced(KERNEL, (inputs, { bits, O, I }) => {
  const x = input(inputs, 'x')
  return trace.emit(
    'MatMulNBits',
    [x, input(inputs, 'codes'), input(inputs, 'scales')],
    [...x.shape.slice(0, -1), O as number],
    'float32',
    [
      { name: 'K', int: I as number },
      { name: 'N', int: O as number },
      { name: 'bits', int: bits as number },
      { name: 'block_size', int: BLOCK },
      { name: 'accuracy_level', int: ACCURACY_INT8 },
    ],
    'com.microsoft',
  )
})

/** x (..., I) times W' -> (..., O), for codes (O, blocks, bytes) and scales (O * blocks). */
export function quantizedMatMul(
  x: Tensor,
  codes: Tensor,
  scales: Tensor,
  matrix: Pick<QuantizedMatrix, 'bits' | 'O' | 'I'>,
): Tensor {
  const { bits, O, I } = matrix
  if (getBackend() === TRACE_BACKEND) {
    return engine().runKernel(KERNEL, { x, codes, scales }, { bits, O, I }) as Tensor
  }
  const blocks = Math.ceil(I / BLOCK)
  const whole =
    bits === 8 ? codes : stack([mod(codes, scalar(16, 'int32')), floorDiv(codes, scalar(16, 'int32'))], -1)
  const values = mul(
    sub(reshape(cast(whole, 'float32'), [O, blocks, BLOCK]), scalar(2 ** (bits - 1))),
    reshape(scales, [O, blocks, 1]),
  )
  const weight = slice(reshape(values, [O, blocks * BLOCK]), [0, 0], [O, I])
  return matMul(x as never, weight as never, false, true)
}
