/**
 * The default engine: traces a function, backward pass included, into one ONNX graph and lets ONNX
 * Runtime compile and run it, on the CPU or, where its files are installed, on CUDA. Knows no model.
 */
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import type { DataType, Tensor } from '@tensorflow/tfjs'
import * as ort from 'onnxruntime-node'
import './kernels-elementwise.ts'
import './kernels-reduce.ts'
import './kernels-shape.ts'
import {
  type Compiled,
  checkLength,
  type Device,
  type Engine,
  type FrozenTensor,
  resolveShape,
  type Signature,
  type Size,
  type Sizes,
  type TensorFunction,
  type TensorSpec,
  type Values,
} from './engine.ts'
import { disableTf32 } from './nvidia.ts'
import { onBackend } from './on-backend.ts'
import { CUDA_SESSION, cudaFailure, requireCudaProvider } from './onnx-cuda.ts'
import { encodeModel, type Graph } from './onnx-encode.ts'
import { TRACE_BACKEND, traceBackend } from './trace-backend.ts'

/**
 * Threads spin from one operator to the next, which takes microseconds, and hardly from one run to the
 * next, which would take the processor from the session that runs then.
 */
const SHORT_SPIN = { extra: { session: { intra_op: { spin_duration_us: '40' } } } }

export interface OnnxEngineInit {
  /** Threads inside one operator; default: all. */
  readonly threads?: number
  /** Default: cpu. */
  readonly device?: Device
}

/** @throws InputError `engine-missing` for `cuda` where ONNX Runtime's files for it are absent. */
export function onnxEngine({
  threads = availableParallelism(),
  device = 'cpu',
}: OnnxEngineInit = {}): Engine {
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string }
  if (device === 'cuda') {
    requireCudaProvider()
    disableTf32()
  }
  return {
    name: 'onnx',
    device,
    library: `ONNX Runtime ${version}`,
    // On a GPU nothing else may compute beside it unseen.
    ...(device === 'cpu' ? { threads } : {}),
    compile: async (fn, signature, { lean = false, interleaved = false } = {}) => {
      // A GPU has memory of its own: what is fed would travel there for every run.
      const fed = lean && device === 'cpu'
      const graph = await traceGraph(fn, signature, fed)
      const options = {
        // A planned buffer would lie beside the blocks that the first run took.
        enableMemPattern: !fed,
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
      return new OnnxFunction(session, signature, graph, fed ? (signature.frozen ?? {}) : {})
    },
  }
}

/** @throws InputError `engine-missing` where the graph cannot run on the GPU as a whole. */
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
 * What a named size is while tracing: primes far above any real width, so that a result's shape tells
 * which of its sizes are named.
 */
const TRACE_SIZES = [1_000_003, 1_000_033, 1_000_037, 1_000_039] as const

/**
 * Run `fn` once under the trace backend; the result holds every operation that an output needs. Frozen
 * tensors become initializers, or inputs where they are fed.
 */
export async function traceGraph(
  fn: TensorFunction,
  signature: Signature,
  feedFrozen = false,
): Promise<Graph> {
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
        // TensorFlow.js has no bytes; only kernels that know codes read them.
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
  /** Frozen tensors that the session does not hold. */
  readonly #fed: Readonly<Record<string, ort.Tensor>>
  /** Wrapping an array costs a microsecond; weights and buffers come back on every run. */
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

  /** A tensor over the caller's memory: nothing is copied. */
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
