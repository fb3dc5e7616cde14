/**
 * TensorFlow.js kernels of the trace backend that reshape, slice, join, gather and scatter. Importing this file
 * registers them. Does not know sessions.
 */
import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core'
import { input, traced } from './kernels-elementwise.ts'
import { ONNX_TYPE } from './onnx-encode.ts'
import { traceBackend as trace } from './trace-backend.ts'

function reshape(x: TensorInfo, shape: readonly number[]): TensorInfo {
  return trace.emit('Reshape', [x, trace.int64(shape)], shape, x.dtype)
}

traced('Reshape', (inputs, { shape }) => {
  const x = input(inputs, 'x')
  return reshape(x, util.inferFromImplicitShape(shape as number[], util.sizeFromShape(x.shape)))
})

traced('ExpandDims', (inputs, { dim }) => {
  const x = input(inputs, 'input')
  const shape = [...x.shape]
  const at = dim as number
  shape.splice(at < 0 ? at + 1 + x.shape.length : at, 0, 1)
  return reshape(x, shape)
})

traced('Transpose', (inputs, { perm }) => {
  const x = input(inputs, 'x')
  const order = perm as number[]
  const shape = order.map((axis) => x.shape[axis] as number)
  return trace.emit('Transpose', [x], shape, x.dtype, [{ name: 'perm', ints: order }])
})

traced('Slice', (inputs, { begin, size }) => {
  const x = input(inputs, 'x')
  const start = begin as number[]
  const shape = (size as number[]).map((s, axis) =>
    s < 0 ? (x.shape[axis] as number) - (start[axis] as number) : s,
  )
  const end = shape.map((s, axis) => s + (start[axis] as number))
  const axes = shape.map((_, axis) => axis)
  return trace.emit('Slice', [x, trace.int64(start), trace.int64(end), trace.int64(axes)], shape, x.dtype)
})

traced('SplitV', (inputs, { numOrSizeSplits, axis }) => {
  const x = input(inputs, 'x')
  const at = util.parseAxisParam(axis as number, x.shape)[0] as number
  const sizes = backend_util.prepareSplitSize(x as never, numOrSizeSplits as number[] | number, at)
  const results = sizes.map((size) => ({
    shape: x.shape.map((s, i) => (i === at ? size : s)),
    dtype: x.dtype,
  }))
  return trace.emitMany('Split', [x, trace.int64(sizes)], results, [{ name: 'axis', int: at }])
})

traced('Concat', (inputs, { axis }) => {
  const parts = Object.values(inputs)
  const first = parts[0] as TensorInfo
  const at = util.parseAxisParam(axis as number, first.shape)[0] as number
  const shape = backend_util.computeOutShape(
    parts.map((part) => part.shape),
    at,
  )
  return trace.emit('Concat', parts, shape, first.dtype, [{ name: 'axis', int: at }])
})

traced('Pack', (inputs, { axis }) => {
  const parts = Object.values(inputs)
  const first = parts[0] as TensorInfo
  const at = axis as number
  const shape = [...first.shape]
  shape.splice(at, 0, 1)
  const expanded = parts.map((part) => reshape(part, shape))
  const joined = shape.map((s, i) => (i === at ? parts.length : s))
  return trace.emit('Concat', expanded, joined, first.dtype, [{ name: 'axis', int: at }])
})

traced('Tile', (inputs, { reps }) => {
  const x = input(inputs, 'x')
  const times = reps as number[]
  const shape = x.shape.map((s, axis) => s * (times[axis] as number))
  return trace.emit('Tile', [x, trace.int64(times)], shape, x.dtype)
})

traced('PadV2', (inputs, { paddings, constantValue }) => {
  const x = input(inputs, 'x')
  const pads = paddings as [number, number][]
  const shape = x.shape.map((s, axis) => s + (pads[axis]?.[0] ?? 0) + (pads[axis]?.[1] ?? 0))
  const amounts = trace.int64([...pads.map((p) => p[0]), ...pads.map((p) => p[1])])
  const value = trace.builder.constant(
    x.dtype === 'float32' ? 'float32' : 'int32',
    [],
    [constantValue as number],
  )
  return trace.emit('Pad', [x, amounts, value], shape, x.dtype)
})

traced('GatherV2', (inputs, { axis }) => {
  const x = input(inputs, 'x')
  const indices = input(inputs, 'indices')
  const at = util.parseAxisParam(axis as number, x.shape)[0] as number
  const shape = [...x.shape.slice(0, at), ...indices.shape, ...x.shape.slice(at + 1)]
  return trace.emit('Gather', [x, indices], shape, x.dtype, [{ name: 'axis', int: at }])
})

traced('UnsortedSegmentSum', (inputs, { numSegments }) => {
  const x = input(inputs, 'x')
  const segments = input(inputs, 'segmentIds')
  const shape = [numSegments as number, ...x.shape.slice(1)]
  const index = trace.emit('Cast', [segments], segments.shape, 'int32', [
    { name: 'to', int: ONNX_TYPE.int64 },
  ])
  const rows = reshape(index, [segments.shape[0] as number, 1])
  const zero = trace.builder.constant('float32', [], [0])
  const empty = trace.emit('Expand', [zero, trace.int64(shape)], shape, x.dtype)
  return trace.emit('ScatterND', [empty, rows, x], shape, x.dtype, [{ name: 'reduction', text: 'add' }])
})

traced('OneHot', (inputs, { depth, onValue, offValue }) => {
  const indices = input(inputs, 'indices')
  const shape = [...indices.shape, depth as number]
  const index = trace.emit('Cast', [indices], indices.shape, 'int32', [{ name: 'to', int: ONNX_TYPE.int64 }])
  const values = trace.builder.constant('float32', [2], [offValue as number, onValue as number])
  return trace.emit('OneHot', [index, trace.int64([depth as number]), values], shape, 'float32')
})
