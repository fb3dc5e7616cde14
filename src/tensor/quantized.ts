/**
 * The product with a quantized matrix, as an operator of the traced graph and in plain operations.
 * Activations stay float outside the operator. Knows no model.
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
import { QUANTIZED_BLOCK, type QuantizedMatrix } from '../kernels/quantized.ts'
import { input, traced } from './kernels-elementwise.ts'
import { TRACE_BACKEND, traceBackend as trace } from './trace-backend.ts'

const KERNEL = 'QuantizedMatMul'
/** The operator may round activations to 8 bits, block by block: what makes it fast. */
const ACCURACY_INT8 = 4

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
      { name: 'block_size', int: QUANTIZED_BLOCK },
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
  const blocks = Math.ceil(I / QUANTIZED_BLOCK)
  const whole =
    bits === 8 ? codes : stack([mod(codes, scalar(16, 'int32')), floorDiv(codes, scalar(16, 'int32'))], -1)
  const values = mul(
    sub(reshape(cast(whole, 'float32'), [O, blocks, QUANTIZED_BLOCK]), scalar(2 ** (bits - 1))),
    reshape(scales, [O, blocks, 1]),
  )
  const weight = slice(reshape(values, [O, blocks * QUANTIZED_BLOCK]), [0, 0], [O, I])
  return matMul(x as never, weight as never, false, true)
}
