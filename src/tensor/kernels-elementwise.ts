/**
 * TensorFlow.js kernels of the trace backend that work element by element, and the function that registers such
 * kernels. Importing this file registers its kernels. Does not know sessions.
 */
import {
  backend_util,
  type DataType,
  type KernelFunc,
  type NamedTensorInfoMap,
  registerKernel,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core'
import { ONNX_TYPE } from './onnx-encode.ts'
import { TRACE_BACKEND, traceBackend as trace } from './trace-backend.ts'

export type Inputs = Readonly<Record<string, TensorInfo>>
type Attributes = Readonly<Record<string, unknown>>

/** Registers a kernel of the trace backend, with typed access to its inputs and attributes. */
export function traced(
  kernelName: string,
  body: (inputs: Inputs, attributes: Attributes) => TensorInfo | TensorInfo[],
): void {
  const kernelFunc: KernelFunc = ({ inputs, attrs }) =>
    body(inputs as NamedTensorInfoMap as Inputs, (attrs ?? {}) as Attributes)
  registerKernel({ kernelName, backendName: TRACE_BACKEND, kernelFunc })
}

/** A kernel input by name. @throws Error if it is missing: a bug in the tracer. */
export function input(inputs: Inputs, name: string): TensorInfo {
  const tensor = inputs[name]
  if (tensor === undefined) throw new Error(`kernel input ${name} is missing`)
  return tensor
}

function binary(kernelName: string, op: string, dtype?: DataType): void {
  traced(kernelName, (inputs) => {
    const a = input(inputs, 'a')
    const b = input(inputs, 'b')
    const shape = backend_util.assertAndGetBroadcastShape(a.shape, b.shape)
    return trace.emit(op, [a, b], shape, dtype ?? a.dtype)
  })
}

function unary(kernelName: string, ...ops: readonly string[]): void {
  traced(kernelName, (inputs) => {
    let x = input(inputs, 'x')
    for (const op of ops) x = trace.emit(op, [x], x.shape, x.dtype)
    return x
  })
}

function filled(shape: readonly number[], dtype: DataType, value: number): TensorInfo {
  const scalar = trace.builder.constant(
    dtype === 'float32' ? 'float32' : dtype === 'bool' ? 'bool' : 'int32',
    [],
    [value],
  )
  return trace.emit('Expand', [scalar, trace.int64(shape)], shape, dtype)
}

binary('Add', 'Add')
binary('Sub', 'Sub')
binary('Multiply', 'Mul')
binary('RealDiv', 'Div')
binary('Maximum', 'Max')
binary('Minimum', 'Min')
binary('Pow', 'Pow')
binary('Greater', 'Greater', 'bool')
binary('GreaterEqual', 'GreaterOrEqual', 'bool')
binary('Less', 'Less', 'bool')
binary('LessEqual', 'LessOrEqual', 'bool')
binary('Equal', 'Equal', 'bool')
binary('LogicalAnd', 'And', 'bool')
unary('Exp', 'Exp')
unary('Log', 'Log')
unary('Sqrt', 'Sqrt')
unary('Rsqrt', 'Sqrt', 'Reciprocal')
unary('Reciprocal', 'Reciprocal')
unary('Neg', 'Neg')
unary('Abs', 'Abs')
unary('Sigmoid', 'Sigmoid')
unary('Tanh', 'Tanh')
unary('Relu', 'Relu')
unary('Identity', 'Identity')
unary('LogicalNot', 'Not')

traced('Square', (inputs) => {
  const x = input(inputs, 'x')
  return trace.emit('Mul', [x, x], x.shape, x.dtype)
})

traced('Silu', (inputs) => {
  const x = input(inputs, 'x')
  return trace.emit('QuickGelu', [x], x.shape, x.dtype, [{ name: 'alpha', float: 1 }], 'com.microsoft')
})

traced('AddN', (inputs) => {
  const terms = Object.values(inputs)
  const first = terms[0] as TensorInfo
  return terms.length === 1 ? first : trace.emit('Sum', terms, first.shape, first.dtype)
})

traced('Cast', (inputs, { dtype }) => {
  const x = input(inputs, 'x')
  const type = dtype as 'float32' | 'int32' | 'bool'
  return trace.emit('Cast', [x], x.shape, type, [{ name: 'to', int: ONNX_TYPE[type] }])
})

traced('Select', (inputs) => {
  const condition = input(inputs, 'condition')
  const t = input(inputs, 't')
  return trace.emit('Where', [condition, t, input(inputs, 'e')], t.shape, t.dtype)
})

traced('ZerosLike', (inputs) => {
  const x = input(inputs, 'x')
  return filled(x.shape, x.dtype, 0)
})

traced('OnesLike', (inputs) => {
  const x = input(inputs, 'x')
  return filled(x.shape, x.dtype, 1)
})

traced('Fill', (_, { shape, value, dtype }) =>
  filled(
    shape as number[],
    (dtype as DataType | undefined) ?? util.inferDtype(value as number),
    value as number,
  ),
)
