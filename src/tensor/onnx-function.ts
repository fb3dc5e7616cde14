/**
 * Functions of the engine `onnx`: traces a function into one ONNX graph and runs it in a session of ONNX Runtime. Does
 * not know models.
 */
import type { DataType, Tensor } from '@tensorflow/tfjs-core'
import '../lib/no-telemetry.ts'
import * as ort from 'onnxruntime-node'
import './kernels-elementwise.ts'
import './kernels-reduce.ts'
import './kernels-shape.ts'
import {
  type Compiled,
  type CompileOptions,
  checkLength,
  type FrozenTensor,
  resolveShape,
  type Signature,
  type Size,
  type Sizes,
  type TensorFunction,
  type TensorSpec,
  type Values,
} from './engine.ts'
import { onBackend } from './on-backend.ts'
import { CUDA_SESSION, cudaFailure } from './onnx-cuda.ts'
import { encodeModel, type Graph } from './onnx-encode.ts'
import type { OnnxEngineInit } from './onnx-engine.ts'
import { TRACE_BACKEND, traceBackend } from './trace-backend.ts'

/**
 * Spin time for sessions that alternate: long enough to bridge the microseconds between two operators, too short to
 * take the CPU from the other session between two runs.
 */
const SHORT_SPIN = { extra: { session: { intra_op: { spin_duration_us: '40' } } } }

/** Compile a function. @throws InputError `engine-missing` if a part of it cannot run on the GPU. */
export async function compileOnnx(
  fn: TensorFunction,
  signature: Signature,
  { threads, device }: Required<OnnxEngineInit>,
  { lean = false, interleaved = false }: CompileOptions = {},
): Promise<Compiled> {
  // On a GPU, frozen tensors passed as inputs would be copied to the device for every run.
  const feedFrozen = lean && device === 'cpu'
  const graph = await traceGraph(fn, signature, feedFrozen)
  const options = {
    // With memory patterns, the planned buffer would be allocated beside the blocks of the first run.
    enableMemPattern: !feedFrozen,
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    ...(interleaved ? SHORT_SPIN : {}),
  } as const
  const session =
    device === 'cpu'
      ? await ort.InferenceSession.create(encodeModel(graph), options)
      : await createCudaSession(encodeModel(graph), options)
  return new OnnxFunction(session, signature, graph, feedFrozen ? (signature.frozen ?? {}) : {})
}

/** @throws InputError `engine-missing` if a part of the graph cannot run on the GPU. */
async function createCudaSession(
  model: Uint8Array,
  options: ort.InferenceSession.SessionOptions,
): Promise<ort.InferenceSession> {
  try {
    return await ort.InferenceSession.create(model, { ...options, ...CUDA_SESSION })
  } catch (error) {
    throw cudaFailure(error)
  }
}

/**
 * Values of the named sizes while tracing. They are primes far above any real width, so a size of a result that equals
 * one of them is that named size.
 */
const TRACE_SIZES = [1_000_003, 1_000_033, 1_000_037, 1_000_039] as const

/**
 * Runs `fn` once on the trace backend and returns the graph of all operations that an output needs.
 * @param feedFrozen whether frozen tensors become inputs of the graph; otherwise they become initializers
 * @throws RangeError for more than four named sizes: a bug of the caller.
 */
async function traceGraph(fn: TensorFunction, signature: Signature, feedFrozen = false): Promise<Graph> {
  const names = [
    ...new Set(
      Object.values(signature.inputs).flatMap(({ shape }) => shape.filter((s) => typeof s === 'string')),
    ),
  ] as string[]
  if (names.length > TRACE_SIZES.length) throw new RangeError(`at most ${TRACE_SIZES.length} named sizes`)
  const sizes = Object.fromEntries(names.map((name, i) => [name, TRACE_SIZES[i] as number]))
  return onBackend(TRACE_BACKEND, () =>
    traceBackend.record((builder) => {
      const tensors: Record<string, Tensor> = {}
      for (const [name, spec] of Object.entries(signature.inputs)) {
        const dtype: DataType = spec.dtype ?? 'float32'
        builder.inputs.push({ name, type: spec.dtype ?? 'float32', shape: spec.shape })
        tensors[name] = traceBackend.placeholder(name, resolveShape(spec.shape, sizes), dtype)
      }
      for (const [name, { data, shape }] of Object.entries(signature.frozen ?? {})) {
        const type = data instanceof Float32Array ? 'float32' : 'uint8'
        if (feedFrozen) builder.inputs.push({ name, type, shape })
        else {
          const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
          builder.initializers.push({ name, type, shape, bytes })
        }
        // TensorFlow.js has no byte type. Only the kernels of quantized matrices read these tensors.
        tensors[name] = traceBackend.placeholder(name, shape, type === 'uint8' ? 'int32' : type)
      }
      for (const [name, tensor] of Object.entries(fn(tensors))) {
        const shape = tensor.shape.map((size) => names.find((symbol) => sizes[symbol] === size) ?? size)
        traceBackend.output(name, tensor, shape)
      }
    }),
  )
}

class OnnxFunction implements Compiled {
  readonly #session: ort.InferenceSession
  readonly #inputs: readonly [string, TensorSpec][]
  readonly #outputs: readonly [string, TensorSpec][]
  /** Frozen tensors that are inputs of the graph. */
  readonly #fed: Readonly<Record<string, ort.Tensor>>
  /** Tensors by the array that they wrap: wrapping costs a microsecond, and most arrays are passed to every run. */
  readonly #wrapped = new WeakMap<Values, ort.Tensor>()

  constructor(
    session: ort.InferenceSession,
    signature: Signature,
    graph: Graph,
    fed: Readonly<Record<string, FrozenTensor>>,
  ) {
    this.#session = session
    this.#inputs = Object.entries(signature.inputs)
    this.#outputs = graph.outputs.map(({ name, shape, type }) => [
      name,
      { shape: shape as readonly Size[], dtype: type === 'int32' ? 'int32' : 'float32' },
    ])
    this.#fed = Object.fromEntries(
      Object.entries(fed).map(([name, { data, shape }]) => {
        const type = data instanceof Float32Array ? 'float32' : 'uint8'
        return [name, new ort.Tensor(type, data as never, shape)]
      }),
    )
  }

  async run(
    inputs: Readonly<Record<string, Values>>,
    into: Readonly<Record<string, Values>> = {},
    sizes: Sizes = {},
  ): Promise<Record<string, Values>> {
    const feeds: Record<string, ort.Tensor> = { ...this.#fed }
    for (const [name, spec] of this.#inputs) feeds[name] = this.#wrap(name, inputs[name], spec, sizes)
    const fetches: Record<string, ort.Tensor | null> = {}
    for (const [name, spec] of this.#outputs) {
      const target = into[name]
      fetches[name] = target === undefined ? null : this.#wrap(name, target, spec, sizes)
    }
    const results = await this.#session.run(feeds, fetches)
    const values: Record<string, Values> = {}
    for (const [name] of this.#outputs)
      values[name] = into[name] ?? ((results[name] as ort.Tensor).data as Values)
    return values
  }

  async dispose(): Promise<void> {
    await this.#session.release()
  }

  /** A tensor on the memory of the caller's array, without a copy. */
  #wrap(name: string, values: Values | undefined, spec: TensorSpec, sizes: Sizes): ort.Tensor {
    const known = values === undefined ? undefined : this.#wrapped.get(values)
    if (known !== undefined && sameShape(known.dims, spec.shape, sizes)) return known
    const shape = resolveShape(spec.shape, sizes)
    const checked = checkLength(name, values, shape)
    const tensor = new ort.Tensor(spec.dtype ?? 'float32', checked as never, shape)
    this.#wrapped.set(checked, tensor)
    return tensor
  }
}

function sameShape(dims: readonly number[], shape: readonly Size[], sizes: Sizes): boolean {
  return (
    dims.length === shape.length &&
    shape.every((size, i) => dims[i] === (typeof size === 'number' ? size : sizes[size]))
  )
}
