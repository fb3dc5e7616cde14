/**
 * A TensorFlow.js backend that computes nothing: each kernel appends ONNX nodes to the graph that is being traced and
 * returns a handle with a shape. Does not know kernels or sessions.
 */
import {
  type BackendValues,
  type DataId,
  type DataType,
  engine,
  KernelBackend,
  registerBackend,
  type Tensor,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core'
import { GraphBuilder } from './graph-builder.ts'
import type { Attribute, Graph, OnnxType } from './onnx-encode.ts'

export const TRACE_BACKEND = 'onnx-trace'

interface Slot {
  name: string | undefined
  readonly values: ArrayLike<number> | undefined
  readonly shape: readonly number[]
  readonly dtype: DataType
}

const ONNX_DTYPE: Readonly<Record<string, OnnxType>> = {
  float32: 'float32',
  int32: 'int32',
  bool: 'bool',
}

function onnxType(dtype: DataType): OnnxType {
  const type = ONNX_DTYPE[dtype]
  if (type === undefined) throw new TypeError(`dtype ${dtype} cannot be traced`)
  return type
}

/** The values, if they are numbers. @throws TypeError for strings, which cannot be traced. */
function numbers(values: BackendValues): ArrayLike<number> {
  if (Array.isArray(values)) throw new TypeError('only numbers can be traced')
  return values as ArrayLike<number>
}

export class TraceBackend extends KernelBackend {
  readonly #slots = new WeakMap<DataId, Slot>()
  #builder: GraphBuilder | undefined

  /** Traces `body` into a graph. @throws Error during another trace. */
  record(body: (builder: GraphBuilder) => void): Graph {
    if (this.#builder !== undefined) throw new Error('a trace is already running')
    const builder = new GraphBuilder()
    this.#builder = builder
    try {
      body(builder)
      return builder.graph()
    } finally {
      this.#builder = undefined
    }
  }

  /** The graph that is being traced. @throws Error outside of a trace. */
  get builder(): GraphBuilder {
    if (this.#builder === undefined) throw new Error('no trace is running')
    return this.#builder
  }

  /** Name of a tensor in the ONNX graph; a constant becomes an initializer at its first use. */
  nameOf(tensor: TensorInfo): string {
    const slot = this.#slot(tensor.dataId)
    if (slot.name === undefined) {
      slot.name = this.builder.constant(onnxType(tensor.dtype), tensor.shape, slot.values ?? [])
    }
    return slot.name
  }

  /** Values of a tensor that is a constant of the trace; undefined for others. */
  constantValues(tensor: TensorInfo): ArrayLike<number> | undefined {
    return this.#slot(tensor.dataId).values
  }

  /** A tensor handle for an existing value of the graph. */
  value(name: string, shape: readonly number[], dtype: DataType): TensorInfo {
    const dataId = {}
    this.#slots.set(dataId, { name, values: undefined, shape, dtype })
    return { dataId, shape: [...shape], dtype }
  }

  /** A tensor for an input or initializer of the graph. */
  placeholder(name: string, shape: readonly number[], dtype: DataType): Tensor {
    return engine().makeTensorFromTensorInfo(this.value(name, shape, dtype))
  }

  /** Appends a node with one result. `inputs` are tensors or names of values. */
  emit(
    op: string,
    inputs: readonly (TensorInfo | string)[],
    shape: readonly number[],
    dtype: DataType,
    attributes: readonly Attribute[] = [],
    domain?: string,
  ): TensorInfo {
    return this.emitMany(op, inputs, [{ shape, dtype }], attributes, domain)[0] as TensorInfo
  }

  /** Appends a node with several results. */
  emitMany(
    op: string,
    inputs: readonly (TensorInfo | string)[],
    results: readonly { shape: readonly number[]; dtype: DataType }[],
    attributes: readonly Attribute[] = [],
    domain?: string,
  ): TensorInfo[] {
    const names = inputs.map((input) => (typeof input === 'string' ? input : this.nameOf(input)))
    const outputs = this.builder.node(op, names, { results: results.length, attributes, domain })
    return results.map(({ shape, dtype }, index) => this.value(outputs[index] as string, shape, dtype))
  }

  /** Name of a one-dimensional int64 constant, as operators take axes, shapes and repeats. */
  int64(values: readonly number[]): string {
    return this.builder.constant('int64', [values.length], values)
  }

  /** Makes a tensor an output of the graph. `shape` may contain names of sizes that every run chooses. */
  output(name: string, tensor: TensorInfo, shape: readonly (number | string)[] = tensor.shape): void {
    this.builder.nodes.push({ op: 'Identity', inputs: [this.nameOf(tensor)], outputs: [name] })
    this.builder.outputs.push({ name, type: onnxType(tensor.dtype), shape })
  }

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {}
    this.#slots.set(dataId, { name: undefined, values: numbers(values), shape, dtype })
    return dataId
  }

  override move(dataId: DataId, values: BackendValues, shape: number[], dtype: DataType): void {
    this.#slots.set(dataId, { name: undefined, values: numbers(values), shape, dtype })
  }

  override readSync(dataId: object): Float32Array {
    const { values } = this.#slot(dataId)
    if (values === undefined) throw new Error('a traced value has no numbers until the graph runs')
    return Float32Array.from(values)
  }

  override async read(dataId: object): Promise<Float32Array> {
    return this.readSync(dataId)
  }

  override disposeData(): boolean {
    return true
  }

  override refCount(): number {
    return 1
  }

  override incRef(): void {}
  decRef(): void {}
  override numDataIds(): number {
    return 0
  }
  override floatPrecision(): 32 {
    return 32
  }
  override epsilon(): number {
    return 1e-7
  }
  override timerAvailable(): boolean {
    return false
  }
  override memory(): { unreliable: boolean } {
    return { unreliable: true }
  }
  override dispose(): void {}

  #slot(dataId: DataId): Slot {
    const slot = this.#slots.get(dataId)
    if (slot === undefined) throw new Error('tensor does not belong to this trace')
    return slot
  }
}

export const traceBackend = new TraceBackend()
registerBackend(TRACE_BACKEND, () => traceBackend)

/** Shape of the result of a reduction over `axes`. */
export function reducedShape(shape: readonly number[], axes: readonly number[], keepDims: boolean): number[] {
  return keepDims
    ? shape.map((size, axis) => (axes.includes(axis) ? 1 : size))
    : shape.filter((_, axis) => !axes.includes(axis))
}

/** Non-negative axes; null or undefined means all. */
export function parseAxes(axis: number | readonly number[] | null | undefined, shape: number[]): number[] {
  return util.parseAxisParam(
    axis === null || axis === undefined ? shape.map((_, i) => i) : (axis as number | number[]),
    shape,
  )
}
