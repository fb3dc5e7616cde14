/**
 * TensorFlow.js kernels of the trace backend that combine elements: reductions, softmax, top-k, matrix products, RMS
 * norm. Importing this file registers them. Does not know sessions.
 */
import { backend_util, type TensorInfo } from '@tensorflow/tfjs-core'
import { input, traced } from './kernels-elementwise.ts'
import { ONNX_TYPE } from './onnx-encode.ts'
import { parseAxes, reducedShape, traceBackend as trace } from './trace-backend.ts'

function reduction(kernelName: string, op: string): void {
  traced(kernelName, (inputs, { axis, reductionIndices, keepDims }) => {
    const x = input(inputs, 'x')
    // TensorFlow.js uses another attribute name for the axes of Max than for the other reductions.
    const axes = parseAxes((axis ?? reductionIndices) as number | number[], x.shape)
    const keep = keepDims === true
    const shape = reducedShape(x.shape, axes, keep)
    return trace.emit(op, [x, trace.int64(axes)], shape, x.dtype, [{ name: 'keepdims', int: keep ? 1 : 0 }])
  })
}

reduction('Sum', 'ReduceSum')
reduction('Mean', 'ReduceMean')
reduction('Max', 'ReduceMax')
reduction('Min', 'ReduceMin')

traced('Softmax', (inputs, { dim }) => {
  const x = input(inputs, 'logits')
  return trace.emit('Softmax', [x], x.shape, x.dtype, [{ name: 'axis', int: dim as number }])
})

traced('LogSoftmax', (inputs, { axis }) => {
  const x = input(inputs, 'logits')
  return trace.emit('LogSoftmax', [x], x.shape, x.dtype, [{ name: 'axis', int: axis as number }])
})

traced('ArgMax', (inputs, { axis }) => {
  const x = input(inputs, 'x')
  const axes = parseAxes(axis as number, x.shape)
  const shape = reducedShape(x.shape, axes, false)
  const index = trace.emit('ArgMax', [x], shape, 'int32', [
    { name: 'axis', int: axes[0] as number },
    { name: 'keepdims', int: 0 },
  ])
  return trace.emit('Cast', [index], shape, 'int32', [{ name: 'to', int: ONNX_TYPE.int32 }])
})

traced('TopK', (inputs, { k }) => {
  const x = input(inputs, 'x')
  const shape = [...x.shape.slice(0, -1), k as number]
  const [values, indices] = trace.emitMany(
    'TopK',
    [x, trace.int64([k as number])],
    [
      { shape, dtype: x.dtype },
      { shape, dtype: 'int32' },
    ],
    [{ name: 'axis', int: -1 }],
  ) as [TensorInfo, TensorInfo]
  const narrow = trace.emit('Cast', [indices], shape, 'int32', [{ name: 'to', int: ONNX_TYPE.int32 }])
  return [values, narrow]
})

/** Swaps the last two axes. ONNX Runtime fuses this into the product, or folds it into a frozen operand. */
function transposed(x: TensorInfo): TensorInfo {
  const perm = x.shape.map((_, axis) => axis)
  const last = perm.length - 1
  perm[last] = last - 1
  perm[last - 1] = last
  const shape = perm.map((axis) => x.shape[axis] as number)
  return trace.emit('Transpose', [x], shape, x.dtype, [{ name: 'perm', ints: perm }])
}

traced('BatchMatMul', (inputs, { transposeA, transposeB }) => {
  const a = transposeA === true ? transposed(input(inputs, 'a')) : input(inputs, 'a')
  const b = transposeB === true ? transposed(input(inputs, 'b')) : input(inputs, 'b')
  const batch = backend_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2))
  const shape = [...batch, a.shape.at(-2) as number, b.shape.at(-1) as number]
  return trace.emit('MatMul', [a, b], shape, 'float32')
})

traced('RmsNormalize', (inputs, { epsilon }) => {
  const x = input(inputs, 'x')
  const gain = input(inputs, 'gain')
  const inverse = [...x.shape.slice(0, -1), 1]
  return trace.emitMany(
    'SimplifiedLayerNormalization',
    [x, gain],
    [
      { shape: x.shape, dtype: x.dtype },
      { shape: inverse, dtype: x.dtype },
    ],
    [
      { name: 'axis', int: -1 },
      { name: 'epsilon', float: epsilon as number },
    ],
  )
})
