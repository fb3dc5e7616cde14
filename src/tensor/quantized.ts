/**
 * The product with a quantized matrix, as one ONNX operator of a traced graph or in plain operations. Activations are
 * floats outside the operator. Does not know models.
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
} from '@tensorflow/tfjs-core'
import { QUANTIZED_BLOCK, type QuantizedMatrix } from '../kernels/quantized.ts'
import { input, traced } from './kernels-elementwise.ts'
import { TRACE_BACKEND, traceBackend as trace } from './trace-backend.ts'

const KERNEL = 'QuantizedMatMul'
/** Allows the operator to round activations to 8 bits, block by block, which makes it fast. */
const ACCURACY_INT8 = 4

traced(KERNEL, (inputs, { bits, O, I }) => {
  const x = input(inputs, 'x')
  return trace.emit(
    'MatMulNBits',
    [x, input(inputs, 'packed'), input(inputs, 'scales')],
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

/** x (..., I) times W' -> (..., O), where W has packed integers (O, blocks, bytes) and scales (O * blocks). */
export function quantizedMatMul(
  x: Tensor,
  packed: Tensor,
  scales: Tensor,
  matrix: Pick<QuantizedMatrix, 'bits' | 'O' | 'I'>,
): Tensor {
  const { bits, O, I } = matrix
  if (getBackend() === TRACE_BACKEND) {
    return engine().runKernel(KERNEL, { x, packed, scales }, { bits, O, I }) as Tensor
  }
  const blocks = Math.ceil(I / QUANTIZED_BLOCK)
  const integers =
    bits === 8 ? packed : stack([mod(packed, scalar(16, 'int32')), floorDiv(packed, scalar(16, 'int32'))], -1)
  const values = mul(
    sub(reshape(cast(integers, 'float32'), [O, blocks, QUANTIZED_BLOCK]), scalar(2 ** (bits - 1))),
    reshape(scales, [O, blocks, 1]),
  )
  const weight = slice(reshape(values, [O, blocks * QUANTIZED_BLOCK]), [0, 0], [O, I])
  return matMul(x as never, weight as never, false, true)
}
